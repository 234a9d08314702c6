//! The root file system that a snapshotter describes: mounted below the bundle,
//! where containerd's own tools look for it.
//!
//! Owns these mounts, and no others, until they are unmounted.

use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::Error;

/// mount(2) takes one page of options, with a NUL at the end.
const MAX_OPTIONS: usize = 4095;

/// The root file system of one container.
#[derive(Debug)]
pub(crate) struct Rootfs {
    path: PathBuf,
    mounted: bool,
}

impl Rootfs {
    /// Mounts `mounts`, one over the other, at `rootfs` in the bundle. With none,
    /// config.json names a root file system that is there already.
    pub(crate) fn mount(mounts: &[Mount], bundle: &Path) -> Result<Self, Error> {
        let mut rootfs = Self {
            path: bundle.join("rootfs"),
            mounted: false,
        };
        if mounts.is_empty() {
            return Ok(rootfs);
        }
        std::fs::create_dir_all(&rootfs.path)
            .map_err(|err| Error::step("make the directory rootfs", &err))?;
        for one in mounts {
            let call = MountCall::of(one)?;
            let action = format!("mount the root file system ({} {})", one.type_, one.source);
            call.mount_at(&rootfs.path)
                .map_err(|err| Error::step(&action, &err))?;
            rootfs.mounted = true;
        }
        Ok(rootfs)
    }

    /// Records that another process has unmounted them; other mounts may be there by now.
    pub(crate) fn was_unmounted(&mut self) {
        self.mounted = false;
    }

    /// Unmounts them.
    pub(crate) fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            unmount_all(&self.path);
        }
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Unmounts everything at `path`, layer by layer, also while a process has a file there
/// open.
pub(crate) fn unmount_all(path: &Path) {
    let flags = MntFlags::MNT_DETACH.union(MntFlags::UMOUNT_NOFOLLOW);
    while umount2(path, flags).is_ok() {}
}

/// One mount in the terms of mount(2).
#[derive(Debug, PartialEq, Eq)]
struct MountCall {
    kind: String,
    source: String,
    flags: MsFlags,
    options: Vec<String>,
}

impl MountCall {
    fn of(requested: &Mount) -> Result<Self, Error> {
        let mut planned = Self {
            kind: requested.type_.clone(),
            source: requested.source.clone(),
            flags: MsFlags::empty(),
            options: Vec::new(),
        };
        if requested.type_ == "bind" {
            planned.flags |= MsFlags::MS_BIND;
        }
        for option in &requested.options {
            match flag(option) {
                Some((flag, true)) => planned.flags |= flag,
                Some((flag, false)) => planned.flags &= !flag,
                None => planned.options.push(option.clone()),
            }
        }
        let needs_loop = planned.options.iter().any(|option| option == "loop");
        if needs_loop || requested.type_.contains(['.', '/']) {
            let text = format!(
                "the snapshotter's mount of type {:?} is not supported: use one that gives directories or block devices, such as overlayfs, native or devmapper",
                requested.type_
            );
            return Err(Error::Invalid(text));
        }
        Ok(planned)
    }

    fn mount_at(&self, place: &Path) -> io::Result<()> {
        let data = self.options.join(",");
        if data.len() > MAX_OPTIONS {
            return self.mount_from_common(place);
        }
        self.call(place, &data)
    }

    fn call(&self, place: &Path, data: &str) -> io::Result<()> {
        let data = (!data.is_empty()).then_some(data);
        mount(
            Some(self.source.as_str()),
            place,
            Some(self.kind.as_str()),
            self.flags,
            data,
        )?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        if self.flags.contains(read_only) {
            let flags = self.flags | MsFlags::MS_REMOUNT;
            mount(None::<&str>, place, None::<&str>, flags, None::<&str>)?;
        }
        Ok(())
    }

    /// The directories of an image of many layers may not fit into the options: their paths
    /// are made relative to the directory that all have in common, which becomes the working
    /// directory of a thread of its own.
    fn mount_from_common(&self, place: &Path) -> io::Result<()> {
        let (common, options) = relative(&self.options);
        let data = options.join(",");
        if data.len() > MAX_OPTIONS {
            let text = "the image has more layers than one mount can name";
            return Err(io::Error::other(text));
        }
        let work = || {
            unshare(CloneFlags::CLONE_FS)?;
            std::env::set_current_dir(&common)?;
            self.call(place, &data)
        };
        std::thread::scope(|scope| {
            let ended = scope.spawn(work).join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread has failed")))
        })
    }
}

/// The flag of mount(2) that an option sets (`true`) or clears.
fn flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "bind" => (MsFlags::MS_BIND, true),
        "rbind" => (MsFlags::MS_BIND | MsFlags::MS_REC, true),
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "defaults" => (MsFlags::empty(), true),
        _ => return None,
    })
}

/// Options of overlayfs with all directories relative to the one they have in common.
fn relative(options: &[String]) -> (PathBuf, Vec<String>) {
    const OPTIONS: [&str; 3] = ["lowerdir", "upperdir", "workdir"];
    let split = |option: &'_ String| match option.split_once('=') {
        Some((name, value)) if OPTIONS.contains(&name) => Some((name.to_owned(), value.to_owned())),
        _ => None,
    };
    let all = options.iter().filter_map(split);
    let directories: Vec<PathBuf> = all
        .flat_map(|(_, value)| value.split(':').map(PathBuf::from).collect::<Vec<_>>())
        .collect();
    let mut common = directories.first().cloned().unwrap_or_default();
    while !directories
        .iter()
        .all(|directory| directory.starts_with(&common))
    {
        common.pop();
    }
    let shorten = |directory: &str| {
        let path = Path::new(directory);
        path.strip_prefix(&common)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let options = options.iter().map(|option| match split(option) {
        Some((name, value)) => {
            let names: Vec<_> = value.split(':').map(shorten).collect();
            format!("{name}={}", names.join(":"))
        }
        None => option.clone(),
    });
    let options = options.collect();
    (common, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(kind: &str, options: &[&str]) -> Mount {
        Mount {
            type_: kind.to_owned(),
            source: "/s".to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn flags_and_options_are_distinguished() {
        let planned = MountCall::of(&requested("bind", &["ro", "rbind"])).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY;
        assert_eq!(planned.flags, flags);
        assert!(planned.options.is_empty());
        let planned = MountCall::of(&requested("overlay", &["lowerdir=/a", "index=off"])).unwrap();
        assert_eq!(planned.options, ["lowerdir=/a", "index=off"]);
    }

    #[test]
    fn what_only_a_mount_program_can_do_is_refused_by_name() {
        let err = MountCall::of(&requested("fuse3.fuse-overlayfs", &[])).unwrap_err();
        assert!(err.to_string().contains("fuse-overlayfs"));
        MountCall::of(&requested("erofs", &["loop"])).unwrap_err();
    }

    #[test]
    fn many_layers_are_named_from_the_directory_they_share() {
        let options = [
            "upperdir=/v/s/3/fs".to_owned(),
            "lowerdir=/v/s/2/fs:/v/s/1/fs".to_owned(),
            "index=off".to_owned(),
        ];
        let (common, options) = relative(&options);
        assert_eq!(common, Path::new("/v/s"));
        assert_eq!(
            options,
            ["upperdir=3/fs", "lowerdir=2/fs:1/fs", "index=off"]
        );
    }
}
