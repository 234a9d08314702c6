//! Mounts of the host that lie in shares, for the guest to mount as its own.
//!
//! The list is a help: a mount that is missing in it is mounted when somebody goes
//! there. Owns no mount; those of the host's kernel are not shared.

use std::path::{Path, PathBuf};

use caisson_protocol::SHARE_PATH;

use crate::host::mountinfo;
use crate::host::mountinfo::{Mount, of_kernel_below};
use crate::oci::plan::Share;

/// The guest's paths of all mounts below the sources of `shares`, from above to
/// below.
pub(crate) fn in_guest(shares: &[Share]) -> Vec<String> {
    let recursive = shares.iter().filter(|share| share.recursive);
    let sources: Vec<(PathBuf, &Path)> = recursive
        .filter_map(|share| Some((share.source.canonicalize().ok()?, share.target.as_path())))
        .collect();
    let mounts = mountinfo::read().unwrap_or_default();
    below(&mounts, &sources)
}

fn below(mounts: &[Mount], sources: &[(PathBuf, &Path)]) -> Vec<String> {
    let points: Vec<&Path> = mounts.iter().map(|mount| mount.point.as_path()).collect();
    let mut paths: Vec<PathBuf> = sources
        .iter()
        .flat_map(|(source, target)| {
            let covered = of_kernel_below(source, mounts);
            let is_covered = move |point: &&&Path| covered.iter().any(|top| point.starts_with(top));
            let inside = points
                .iter()
                .filter(move |point| !is_covered(point))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_source_are_told_by_their_place_in_the_guest() {
        let list = mountinfo::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:3 / /data rw - tmpfs b rw\n\
            3 2 0:4 / /data/deep/er rw - tmpfs c rw\n\
            4 2 0:5 / /data/deep rw shared:3 - tmpfs c rw\n\
            5 1 0:6 / /data/with\\040blank rw - tmpfs d rw\n\
            6 1 0:7 / /database rw - tmpfs e rw\n\
            7 1 0:8 / /data/proc rw - proc f rw\n\
            8 7 0:9 / /data/proc/fs rw - tmpfs g rw\n",
        );
        let sources = [(PathBuf::from("/data"), Path::new("c/mounts/0"))];
        let place = |path: &str| format!("/run/caisson/share/c/mounts/0/{path}");
        let wanted = ["deep", "deep/er", "with blank"].map(place);
        assert_eq!(below(&list, &sources), wanted);
        assert_eq!(below(&list, &[]), [""; 0]);
    }
}
