//! The mount namespace in which the host is seen as a sandbox is to see it.
//!
//! Owns the mounts: an overlay with holes for each file system that is shown, and covers
//! over secrets. What is hidden is hidden on the host's side already, so that a guest
//! whose kernel is taken over doesn't see it either. Nothing has to be taken back: the
//! namespace ends with its last process.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::error::Error;
use super::host_view::{HostView, Layer, Root};

/// Where the root is, below the bundle.
pub(super) const ROOTFS: &str = "rootfs";
/// Room for the list of what is hidden, and config.json.
const SIZE: &str = "size=64m,mode=700";

/// Where the layer `number` of [`HostView::further`] is, below the bundle.
pub(super) fn layer_path(number: usize) -> PathBuf {
    PathBuf::from(format!("layer{number}"))
}

/// Moves this process, which must have one thread, into a mount namespace in which
/// `bundle` has the root file system and the layers.
pub(super) fn enter(view: &HostView, bundle: &Path) -> Result<(), Error> {
    let none = None::<&str>;
    let doing = || Error::step("make a mount namespace for", bundle);
    unshare(CloneFlags::CLONE_NEWNS).map_err(doing())?;
    // Mounts of the host that end, end here as well.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(doing())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sandbox"), bundle, Some("tmpfs"), flags, Some(SIZE)).map_err(doing())?;
    match &view.root {
        Root::Host(layer) => make_layer(layer, bundle, Path::new(ROOTFS))?,
        Root::Empty(links) => make_links(links, &bundle.join(ROOTFS))?,
    }
    for (number, layer) in view.further.iter().enumerate() {
        make_layer(layer, bundle, &layer_path(number))?;
    }
    cover(&view.covered, bundle)
}

/// An overlay of `layer` and of whiteouts for what is hidden (overlayfs documentation,
/// "Whiteouts and opaque directories").
fn make_layer(layer: &Layer, bundle: &Path, name: &Path) -> Result<(), Error> {
    let point = bundle.join(name);
    let holes = bundle.join("holes").join(name);
    make_directory(&point)?;
    make_directory(&holes)?;
    for path in &layer.hidden {
        make_parents(&layer.source, &holes, path)?;
        let hole = holes.join(path);
        let whiteout = mknod(&hole, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0));
        whiteout.map_err(Error::step("hide", layer.source.join(path)))?;
    }
    copy_attributes(&layer.source, &holes)?;
    let mut options = OsString::from("lowerdir=");
    options.push(escaped(&holes));
    options.push(":");
    options.push(escaped(&layer.source));
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    mount(
        Some("sandbox"),
        &point,
        Some("overlay"),
        flags,
        Some(options.as_os_str()),
    )
    .map_err(Error::step("mount an overlay of", &layer.source))
}

/// A path as an option of an overlay, in which some characters separate.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if b"\\:,".contains(byte) {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes)
}

fn make_links(links: &[(PathBuf, PathBuf)], root: &Path) -> Result<(), Error> {
    make_directory(root)?;
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root, readable).map_err(Error::step("set the attributes of", root))?;
    for (name, target) in links {
        let link = root.join(name);
        symlink(target, &link).map_err(Error::step("create", &link))?;
    }
    Ok(())
}

/// The directories above a hole look like those that they are laid over.
fn make_parents(source: &Path, holes: &Path, path: &Path) -> Result<(), Error> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for directory in above
        .into_iter()
        .rev()
        .filter(|path| !path.as_os_str().is_empty())
    {
        let made = holes.join(directory);
        if !made.exists() {
            make_directory(&made)?;
            copy_attributes(&source.join(directory), &made)?;
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(Error::step("create", path))
}

fn copy_attributes(from: &Path, to: &Path) -> Result<(), Error> {
    let status = fs::metadata(from).map_err(Error::step("read", from))?;
    let copied = std::os::unix::fs::chown(to, Some(status.uid()), Some(status.gid()))
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(status.mode() & 0o7777)));
    copied.map_err(Error::step("set the attributes of", to))
}

/// Covers each secret with an empty directory or file that can't be written to.
fn cover(secrets: &[PathBuf], bundle: &Path) -> Result<(), Error> {
    let (empty_file, empty_directory) = (bundle.join("empty-file"), bundle.join("empty"));
    make_directory(&empty_directory)?;
    fs::write(&empty_file, b"").map_err(Error::step("create", &empty_file))?;
    for secret in secrets {
        // What a link leads to is not in what is shown, or has its own name there.
        let Ok(status) = fs::metadata(secret) else {
            continue;
        };
        let empty = if status.is_dir() {
            &empty_directory
        } else {
            &empty_file
        };
        let none = None::<&str>;
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(Some(empty), secret, none, MsFlags::MS_BIND, none)
            .and_then(|()| mount(none, secret, none, read_only, none))
            .map_err(Error::step("hide", secret))?;
    }
    Ok(())
}
