//! Mounts of the host that lie in shares, for the guest to mount as its own.
//!
//! Owns the reading of /proc/self/mountinfo. The list is a help: a mount that is
//! missing in it is mounted when somebody goes there.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use caisson_protocol::SHARE_PATH;

use crate::plan::Share;

/// The guest's paths of all mounts below the sources of `shares`, from above to
/// below.
pub(super) fn in_guest(shares: &[Share]) -> Vec<String> {
    let recursive = shares.iter().filter(|share| share.recursive);
    let sources: Vec<(PathBuf, &Path)> = recursive
        .filter_map(|share| Some((share.source.canonicalize().ok()?, share.target.as_path())))
        .collect();
    let list = fs::read("/proc/self/mountinfo").unwrap_or_default();
    below(&list, &sources)
}

fn below(mountinfo: &[u8], sources: &[(PathBuf, &Path)]) -> Vec<String> {
    let points: Vec<PathBuf> = mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(unescape)
        .collect();
    let mut paths: Vec<PathBuf> = sources
        .iter()
        .flat_map(|(source, target)| {
            let inside = points
                .iter()
                .filter_map(move |point| point.strip_prefix(source).ok());
            let inside = inside.filter(|path| !path.as_os_str().is_empty());
            inside.map(move |path| Path::new(SHARE_PATH).join(target).join(path))
        })
        .collect();
    paths.sort();
    paths.dedup();
    // The protocol has text: other names are mounted when somebody goes there.
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    paths.into_iter().filter_map(text).collect()
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
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
    fn mounts_below_a_source_are_told_by_their_place_in_the_guest() {
        let list = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:3 / /data rw - tmpfs b rw\n\
            3 2 0:4 / /data/deep/er rw - tmpfs c rw\n\
            4 2 0:5 / /data/deep rw shared:3 - tmpfs c rw\n\
            5 1 0:6 / /data/with\\040blank rw - tmpfs d rw\n\
            6 1 0:7 / /database rw - tmpfs e rw\n";
        let sources = [(PathBuf::from("/data"), Path::new("c/mounts/0"))];
        let place = |path: &str| format!("/run/caisson/share/c/mounts/0/{path}");
        let wanted = ["deep", "deep/er", "with blank"].map(place);
        assert_eq!(below(list, &sources), wanted);
        assert_eq!(below(list, &[]), [""; 0]);
    }

    #[test]
    fn a_name_that_only_looks_escaped_stays() {
        assert_eq!(unescape(b"/a\\134b"), Path::new("/a\\b"));
        assert_eq!(unescape(b"/a\\9").as_os_str().as_bytes(), b"/a\\9");
    }
}
