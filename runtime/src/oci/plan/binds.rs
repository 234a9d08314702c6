//! Where the files of bind mounts come from: of the host, of the guest itself,
//! or of the container's own root.
//!
//! Owns that choice, and what is asked of the host for each share. Opens nothing.

use std::path::{Path, PathBuf};

use caisson_protocol::SHARE_PATH;
use caisson_protocol::path::clean;
use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};

use crate::oci::bundle::Bundle;
use crate::oci::plan::access_times::AccessTimes;
use crate::oci::plan::share::{Access, IdMaps, Share};

/// A bind mount that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It says nothing of what to bind.
    #[error("mounts: {} has no source", .0.display())]
    NoSource(PathBuf),
    /// Ids are mapped, but not from and to what.
    #[error("mounts: {}: id-mapped mounts must have both UID and GID mappings specified", .0.display())]
    NoMappings(PathBuf),
    /// Only what exists can be seen under other ids.
    #[error("mounts: {}: id-mapped mounts are only supported for bind-mounts", .0.display())]
    MappedFileSystem(PathBuf),
    /// The guest can't map ids.
    #[error("mounts: {}: the ids of what another mount has made can't be mapped", .0.display())]
    MappedMount(PathBuf),
    /// The user has no right to map ids.
    #[error("mounts: {}: id-mapped mounts are not supported for rootless containers", .0.display())]
    MappedWithoutRoot(PathBuf),
}

/// Makes shares of the bind mounts that need one, and gives each mount in `spec`
/// the guest's paths.
pub(crate) fn share_binds(
    id: &str,
    bundle: &Bundle,
    spec: &mut Spec,
    is_root: bool,
) -> Result<Vec<Share>, Malformed> {
    let Some(mut mounts) = spec.mounts().clone() else {
        return Ok(Vec::new());
    };
    let linux = spec.linux().as_ref();
    let own = Mappings {
        uids: linux.and_then(|linux| linux.uid_mappings().as_deref()),
        gids: linux.and_then(|linux| linux.gid_mappings().as_deref()),
    };
    let mut shares = Vec::new();
    let mut earlier: Vec<PathBuf> = Vec::new();
    for mount in &mut mounts {
        mount.set_destination(destination(&bundle.rootfs, mount.destination()));
        let id_maps = own.of_mount(mount, is_root)?;
        if is_bind(mount) {
            let guest_path = match origin(bundle, mount, &earlier, id_maps.is_some())? {
                Origin::Container(inside) => share_path(&Path::new(id).join("rootfs")).join(inside),
                Origin::Guest(path) => path,
                Origin::Host(source) => {
                    let target = Path::new(id).join("mounts").join(shares.len().to_string());
                    let guest_path = share_path(&target);
                    shares.push(Share {
                        source,
                        overlay: None,
                        target,
                        access: access(mount),
                        recursive: option(mount, &["rbind"], &["bind"]),
                        id_maps,
                        access_times: AccessTimes::of(options(mount)),
                    });
                    guest_path
                }
            };
            mount.set_source(Some(guest_path));
        }
        earlier.push(mount.destination().clone());
    }
    spec.set_mounts(Some(mounts));
    Ok(shares)
}

/// Whose files a bind mount shows.
enum Origin {
    /// The container's own, by their path relative to its root.
    Container(PathBuf),
    /// The guest's.
    Guest(PathBuf),
    /// The host's.
    Host(PathBuf),
}

/// Below the root, an `earlier` mount may have brought the files. A root that is
/// read-only is shared as one, and only a share of its own can be seen under
/// other ids.
fn origin(
    bundle: &Bundle,
    mount: &Mount,
    earlier: &[PathBuf],
    mapped: bool,
) -> Result<Origin, Malformed> {
    let here = || mount.destination().clone();
    let source = mount.source().as_ref();
    let source = source.ok_or_else(|| Malformed::NoSource(here()))?;
    let source = clean(&bundle.path.join(source));
    if is_of_guest(&source) {
        return Ok(Origin::Guest(source));
    }
    let Ok(inside) = source.strip_prefix(&bundle.rootfs) else {
        return Ok(Origin::Host(source));
    };
    let in_container = Path::new("/").join(inside);
    let is_mounted = earlier.iter().any(|point| in_container.starts_with(point));
    if is_mounted && mapped {
        return Err(Malformed::MappedMount(here()));
    }
    if is_mounted || !(mapped || crate::oci::plan::root_is_read_only(bundle)) {
        return Ok(Origin::Container(inside.to_owned()));
    }
    Ok(Origin::Host(source))
}

pub(crate) fn share_path(target: &Path) -> PathBuf {
    Path::new(SHARE_PATH).join(target)
}

/// As runc reads it: relative to the root, which may be spelled out.
pub(crate) fn destination(rootfs: &Path, named: &Path) -> PathBuf {
    let inside = named.strip_prefix(rootfs).unwrap_or(named);
    Path::new("/").join(inside)
}

/// Whether `mount` shows files that exist, and is no change of a mount.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    let is_bind = mount.typ().as_deref() == Some("bind") || option(mount, &["bind", "rbind"], &[]);
    is_bind && !is_remount(mount)
}

pub(crate) fn is_remount(mount: &Mount) -> bool {
    option(mount, &["remount"], &[])
}

/// Returns whether a source of this spelling is the guest's: what the kernel itself shows
/// there is of the container's own kernel.
pub fn is_of_guest(source: &Path) -> bool {
    let of_kernel = ["/proc", "/sys", "/dev"]
        .iter()
        .any(|top| source.starts_with(top));
    // Files that programs have put there.
    let memory = Path::new("/dev/shm");
    of_kernel && (source == memory || !source.starts_with(memory))
}

pub(crate) fn access(mount: &Mount) -> Access {
    let own = option(mount, &["ro"], &["rw"]);
    let all = option(mount, &["rro"], &["rrw"]);
    match (own, all) {
        (_, true) => Access::ReadOnly,
        (true, false) => Access::ReadOnlyItself,
        (false, false) => Access::AsMounted,
    }
}

pub(crate) fn options(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

/// Whether the last of the options that is in one of the lists is in `set`.
fn option(mount: &Mount, set: &[&str], clear: &[&str]) -> bool {
    let mut of_either = options(mount)
        .iter()
        .rev()
        .map(String::as_str)
        .filter(|option| set.contains(option) || clear.contains(option));
    of_either.next().is_some_and(|option| set.contains(&option))
}

/// Mappings of ids, which may be left out.
struct Mappings<'a> {
    uids: Option<&'a [LinuxIdMapping]>,
    gids: Option<&'a [LinuxIdMapping]>,
}

impl Mappings<'_> {
    /// What `mount` asks for. Without mappings of its own, those of the container
    /// (these ones) are meant.
    fn of_mount(&self, mount: &Mount, is_root: bool) -> Result<Option<IdMaps>, Malformed> {
        let named = Mappings {
            uids: mount.uid_mappings().as_deref(),
            gids: mount.gid_mappings().as_deref(),
        };
        let has_own = [named.uids, named.gids]
            .into_iter()
            .flatten()
            .any(|maps| !maps.is_empty());
        if !has_own && !option(mount, &["idmap", "ridmap"], &[]) {
            return Ok(None);
        }
        let refused = |reason: fn(PathBuf) -> Malformed| Err(reason(mount.destination().clone()));
        if !is_bind(mount) {
            return refused(Malformed::MappedFileSystem);
        }
        if !is_root {
            return refused(Malformed::MappedWithoutRoot);
        }
        let meant = if has_own { &named } else { self };
        let (Some(uids), Some(gids)) = (lines(meant.uids), lines(meant.gids)) else {
            return refused(Malformed::NoMappings);
        };
        let recursive = option(mount, &["ridmap"], &["idmap"]);
        Ok(Some(IdMaps {
            uids,
            gids,
            recursive,
        }))
    }
}

fn lines(mappings: Option<&[LinuxIdMapping]>) -> Option<String> {
    let mappings = mappings.filter(|mappings| !mappings.is_empty())?;
    let line =
        |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    Some(mappings.iter().map(line).collect())
}

#[cfg(test)]
#[path = "binds_test.rs"]
mod tests;
