//! Overlays of directories of the host, made there to be shared.
//!
//! Owns the opening of their directories. The mount is in no namespace of the host.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use caisson_jail::cover::with_covered;
use caisson_jail::overlay::{Upper, mount_overlay};

use crate::host::mountinfo;
use crate::host::mountinfo::Mount;
use crate::oci::plan::{Overlay, is_of_guest};
use crate::vm::error::Error;
use crate::vm::host_path::{is_same_file, of_the_hosts_kernel, open_place};

/// One directory, as it was when it was looked at.
struct Layer {
    path: PathBuf,
    opened: File,
}

/// Lays the directories over each other. Returns the detached mount.
pub(crate) fn make(overlay: &Overlay) -> Result<OwnedFd, Error> {
    let mounts = mountinfo::read().map_err(|source| failed("the host's mounts", source))?;
    let look = |option: &str, path: &Path| Layer::look_at(option, path, &mounts);
    let lower = overlay.lower.iter().map(|path| look("lowerdir", path));
    let lower = lower.collect::<Result<Vec<_>, _>>()?;
    let upper = match &overlay.upper {
        Some(upper) => Some((
            look("upperdir", &upper.changes)?,
            look("workdir", &upper.work)?,
        )),
        None => None,
    };
    let Some(first) = lower.first() else {
        return Err(failed("lowerdir", "it names no directory"));
    };
    let made = with_covered(&[], || {
        let opened: io::Result<Vec<_>> = lower.iter().map(Layer::open_again).collect();
        let upper = upper.as_ref().map(|(changes, work)| -> io::Result<_> {
            Ok(Upper {
                changes: changes.open_again()?,
                work: work.open_again()?,
            })
        });
        let (opened, upper) = opened
            .and_then(|opened| Ok((opened, upper.transpose()?)))
            .map_err(caisson_jail::overlay::not_opened)?;
        mount_overlay(&opened, upper.as_ref(), &overlay.parameters, &first.path)
    });
    made.map_err(|err| failed(&format!("overlay of {}", first.path.display()), err))
}

impl Layer {
    fn look_at(option: &str, path: &Path, mounts: &[Mount]) -> Result<Self, Error> {
        let name = format!("{option} {}", path.display());
        let of_io = |source: io::Error| failed(&name, source);
        let path = path.canonicalize().map_err(of_io)?;
        let opened = open_place(&path).map_err(of_io)?;
        if !path.is_dir() {
            return Err(of_io(io::ErrorKind::NotADirectory.into()));
        }
        let mount = mountinfo::mount_of(&opened, mounts).map_err(of_io)?;
        if is_of_guest(&path) || mount.is_some_and(Mount::is_of_kernel) {
            let kind = mount.map_or("a file system", |mount| mount.kind.as_str());
            return Err(failed(&name, of_the_hosts_kernel(&path, kind)));
        }
        Ok(Self { path, opened })
    }

    /// As the calling thread's mount namespace has it.
    fn open_again(&self) -> io::Result<OwnedFd> {
        let opened = open_place(&self.path)?;
        if is_same_file(&opened, &self.opened)? {
            return Ok(opened.into());
        }
        let text = format!("{} was replaced while it was shared", self.path.display());
        Err(io::Error::other(text))
    }
}

fn failed(name: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Share {
        path: name.into(),
        source: source.into(),
    }
}
