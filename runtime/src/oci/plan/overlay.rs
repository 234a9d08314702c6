//! Mounts of type `overlay`: directories of the host, laid over each other there.
//!
//! Owns which of the options name directories, and the guest's view of such a mount: it
//! is a bind mount of what the host shares. Opens nothing.

use std::path::{Path, PathBuf};

use caisson_protocol::MOUNT_OPTIONS;
use caisson_protocol::path::clean;
use oci_spec::runtime::{Mount, Spec};

use crate::oci::bundle::Bundle;
use crate::oci::plan::access_times::AccessTimes;
use crate::oci::plan::binds::{access, destination, is_bind, is_remount, options, share_path};
use crate::oci::plan::share::{Overlay, Share, Upper};

/// An overlay that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has nothing to show.
    #[error("mounts: {}: an overlay needs the option lowerdir", .0.display())]
    NoLower(PathBuf),
    /// Changes need two directories of one file system.
    #[error("mounts: {}: an overlay needs both of the options upperdir and workdir, or neither", .0.display())]
    HalfUpper(PathBuf),
    /// An option whose directories are not looked for.
    #[error("mounts: {}: option {option:?} of an overlay is not supported; list all directories in lowerdir", destination.display())]
    Unsupported {
        /// The mount.
        destination: PathBuf,
        /// The option.
        option: String,
    },
}

/// Makes shares of the overlays, and bind mounts of those in `spec`.
pub(crate) fn share_overlays(
    id: &str,
    bundle: &Bundle,
    spec: &mut Spec,
) -> Result<Vec<Share>, Malformed> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mut shares = Vec::new();
    for mount in mounts.iter_mut().filter(|mount| is_overlay(mount)) {
        let place = destination(&bundle.rootfs, mount.destination());
        let overlay = Overlay::of(&place, options(mount), &bundle.path)?;
        let target = Path::new(id)
            .join("overlays")
            .join(shares.len().to_string());
        let source = overlay.lower.first().cloned();
        let kept = options(mount)
            .iter()
            .filter(|option| !is_of_overlay(option));
        let bind = std::iter::once("bind".to_owned());
        let kept = bind.chain(kept.cloned()).collect();
        shares.push(Share {
            source: source.ok_or(Malformed::NoLower(place))?,
            overlay: Some(overlay),
            target: target.clone(),
            access: access(mount),
            recursive: false,
            id_maps: None,
            access_times: AccessTimes::of(options(mount)),
        });
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some(share_path(&target)));
        mount.set_options(Some(kept));
    }
    if !shares.is_empty() {
        spec.set_mounts(Some(mounts));
    }
    Ok(shares)
}

fn is_overlay(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("overlay") && !is_bind(mount) && !is_remount(mount)
}

fn is_of_overlay(option: &str) -> bool {
    !MOUNT_OPTIONS.contains(&option)
}

impl Overlay {
    fn of(place: &Path, options: &[String], bundle: &Path) -> Result<Self, Malformed> {
        let absolute = |path: &str| clean(&bundle.join(path));
        let mut lower = Vec::new();
        let (mut upper, mut work) = (None, None);
        let mut parameters = Vec::new();
        for option in options.iter().filter(|option| is_of_overlay(option)) {
            let unsupported = || Malformed::Unsupported {
                destination: place.to_owned(),
                option: option.clone(),
            };
            match option.split_once('=') {
                Some(("lowerdir", list)) => {
                    let paths = split(list).ok_or_else(unsupported)?;
                    lower = paths.iter().map(|path| absolute(path)).collect();
                }
                // The bundle is not meant by an empty path.
                Some(("upperdir" | "workdir", "")) => return Err(unsupported()),
                Some(("upperdir", path)) => upper = Some(absolute(path)),
                Some(("workdir", path)) => work = Some(absolute(path)),
                Some(("lowerdir+" | "datadir+", _)) => return Err(unsupported()),
                // The kernel would take what follows for an option of its own.
                _ if option.contains(',') => return Err(unsupported()),
                _ => parameters.push(option.clone()),
            }
        }
        if lower.is_empty() {
            return Err(Malformed::NoLower(place.to_owned()));
        }
        let upper = match (upper, work) {
            (Some(changes), Some(work)) => Some(Upper { changes, work }),
            (None, None) => None,
            _ => return Err(Malformed::HalfUpper(place.to_owned())),
        };
        Ok(Self {
            lower,
            upper,
            parameters,
        })
    }
}

/// The paths of a list with colons in between; one after a backslash is of the path.
/// Two colons would begin those of data alone.
fn split(list: &str) -> Option<Vec<String>> {
    let mut paths = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match (character, paths.last_mut()) {
            (':', _) => paths.push(String::new()),
            ('\\', Some(path)) => path.extend(characters.next()),
            (_, Some(path)) => path.push(character),
            (_, None) => {}
        }
    }
    paths.iter().all(|path| !path.is_empty()).then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(options: &[&str]) -> Result<Overlay, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let overlay = Overlay::of(Path::new("/low"), &options, Path::new("/b"));
        overlay.map_err(|malformed| malformed.to_string())
    }

    #[test]
    fn an_empty_path_is_refused() {
        for empty in ["upperdir=", "workdir=", "lowerdir="] {
            assert!(overlay(&["lowerdir=/l", "upperdir=/u", "workdir=/w", empty]).is_err());
        }
    }

    #[test]
    fn directories_are_told_from_other_options() {
        let options = ["ro", "lowerdir=/a\\:b:c/../d", "rprivate", "index=off"];
        let planned = overlay(&options).unwrap();
        assert_eq!(planned.lower, ["/a:b", "/b/d"].map(PathBuf::from));
        assert_eq!(
            (planned.upper, planned.parameters),
            (None, vec!["index=off".to_owned()])
        );
        let planned = overlay(&["lowerdir=/l", "upperdir=/u", "workdir=/w", "nosuid"]).unwrap();
        let upper = planned.upper.unwrap();
        assert_eq!((upper.changes, upper.work), ("/u".into(), "/w".into()));
    }

    #[test]
    fn what_is_missing_or_not_supported_is_named() {
        let refused = |options: &[&str]| overlay(options).unwrap_err();
        let text = "mounts: /low: an overlay needs the option lowerdir";
        assert_eq!(refused(&["ro"]), text);
        let text =
            "mounts: /low: an overlay needs both of the options upperdir and workdir, or neither";
        assert_eq!(refused(&["lowerdir=/a", "upperdir=/u"]), text);
        for option in [
            "lowerdir=/a::/data",
            "lowerdir+=/a",
            "datadir+=/d",
            "index=off,lowerdir=/x",
        ] {
            let text = format!(
                "mounts: /low: option {option:?} of an overlay is not supported; list all directories in lowerdir"
            );
            assert_eq!(refused(&["lowerdir=/a", option]), text);
        }
    }
}
