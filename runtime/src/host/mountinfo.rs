//! The mounts of this process's namespace, as /proc/self/mountinfo lists them
//! (proc_pid_mountinfo(5)), and which of them are windows into the host's kernel.
//!
//! Owns the parsing and that list of file systems. Opens nothing but the list.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// Kinds of file systems whose files are the host's kernel itself: its settings, its
/// processes, its devices. A guest has its own.
const OF_KERNEL: &[&str] = &[
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// As `STATX_MNT_ID` has it.
    id: u64,
    /// Its file system, by the numbers of its device.
    pub(crate) device: String,
    /// What of its file system it shows.
    pub(crate) root: PathBuf,
    /// Where it is.
    pub(crate) point: PathBuf,
    /// Its flags, such as `ro,noexec`.
    pub(crate) options: String,
    /// Its files are seen under other ids than on the disk.
    pub(crate) maps_ids: bool,
    /// Kind of its file system.
    pub(crate) kind: String,
}

impl Mount {
    /// Returns whether its files are those of the host's kernel.
    pub(crate) fn is_of_kernel(&self) -> bool {
        OF_KERNEL.contains(&self.kind.as_str())
    }

    /// Blanks, tabs, newlines and backslashes are written as three octal digits.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let options = String::from_utf8_lossy(fields.next()?).into_owned();
        let maps_ids = options.split(',').any(|option| option == "idmapped");
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let kind = String::from_utf8_lossy(kind).into_owned();
        Some(Self {
            id,
            device,
            root,
            point,
            options,
            maps_ids,
            kind,
        })
    }
}

/// Returns all mounts, in the order in which they were made.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

pub(crate) fn parse(list: &[u8]) -> Vec<Mount> {
    let lines = list.split(|&byte| byte == b'\n');
    lines.filter_map(Mount::parse).collect()
}

/// Returns the mount that an open file is on.
///
/// # Errors
/// The kernel's, before 5.8 in particular.
pub(crate) fn mount_of<'a>(file: &File, mounts: &'a [Mount]) -> io::Result<Option<&'a Mount>> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(file, "", flags, StatxFlags::MNT_ID)?;
    Ok(mounts.iter().find(|mount| mount.id == found.stx_mnt_id))
}

/// Returns the highest mounts of the host's kernel below `source`.
pub(crate) fn of_kernel_below<'a>(source: &Path, mounts: &'a [Mount]) -> Vec<&'a Path> {
    let below = |mount: &&Mount| mount.point.starts_with(source) && mount.point != source;
    let mut points: Vec<&Path> = mounts
        .iter()
        .filter(below)
        .filter(|mount| mount.is_of_kernel())
        .map(|mount| mount.point.as_path())
        .collect();
    points.sort_unstable();
    points.dedup_by(|deeper, higher| deeper.starts_with(higher));
    points
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_name_that_only_looks_escaped_stays() {
        assert_eq!(unescape(b"/a\\134b"), Path::new("/a\\b"));
        assert_eq!(unescape(b"/a\\9").as_os_str().as_bytes(), b"/a\\9");
    }

    #[test]
    fn the_kernels_mounts_below_a_source_are_found_whatever_they_are_called() {
        let list = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:3 / /srv/p rw shared:7 master:3 - proc proc rw\n\
            3 2 0:4 / /srv/p/sys/x rw - binfmt_misc b rw\n\
            4 1 0:5 / /srv rw - tmpfs c rw\n\
            5 1 0:6 / /srv/dev rw - devtmpfs d rw\n\
            6 1 0:7 / /srv/dev/shm rw - tmpfs e rw\n\
            7 1 0:8 / /srv2 rw - sysfs f rw\n";
        let mounts = parse(list);
        assert_eq!(mounts.len(), 7);
        let below = of_kernel_below(Path::new("/srv"), &mounts);
        assert_eq!(below, [Path::new("/srv/dev"), Path::new("/srv/p")]);
        assert_eq!(
            of_kernel_below(Path::new("/srv2"), &mounts),
            [""; 0].map(Path::new)
        );
    }

    #[test]
    fn an_open_file_tells_its_mount() {
        let mounts = read().unwrap();
        let proc = File::open("/proc/self/stat").unwrap();
        let mount = mount_of(&proc, &mounts).unwrap().unwrap();
        assert_eq!(mount.kind, "proc");
        assert!(mount.is_of_kernel());
        let disk = File::open(std::env::temp_dir()).unwrap();
        assert!(!mount_of(&disk, &mounts).unwrap().unwrap().is_of_kernel());
    }
}
