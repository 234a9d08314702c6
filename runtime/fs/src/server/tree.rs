//! The served tree: the detached mounts of the spec, put together under the root
//! of the jail, and the one other thing the file system needs, /proc/self/fd.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use caisson_jail::{Kind, require_read_only};
use caisson_jail::{NewRoot, inherited};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::spec::{FsSpec, Share};

/// Why the tree could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A share could not be taken, checked or attached.
    #[error(transparent)]
    Share(#[from] caisson_jail::Error),
    /// /proc/self/fd could not be detached.
    #[error("detach /proc/self/fd")]
    ProcSelfFd(#[source] io::Error),
}

/// The shares of a spec, as descriptors of this process.
pub(super) struct ServedTree<'a> {
    shares: Vec<(&'a Share, OwnedFd)>,
}

impl<'a> ServedTree<'a> {
    /// Takes the descriptors that the spec names.
    pub(super) fn take(spec: &'a FsSpec) -> Result<Self, TreeError> {
        let shares = spec
            .shares
            .iter()
            .map(|share| Ok((share, inherited(share.fd)?)));
        Ok(Self {
            shares: shares.collect::<Result<_, TreeError>>()?,
        })
    }

    /// Attaches every share, and returns the directory /proc/self/fd, through which
    /// the file system opens what it holds by reference. That directory is a mount
    /// of its own, so no `..` leads from it to the rest of /proc.
    pub(super) fn furnish(self, root: &NewRoot) -> Result<File, TreeError> {
        for (share, mount) in self.shares {
            if share.read_only {
                require_read_only(&mount, &share.path)?;
            }
            let kind = if share.is_dir {
                Kind::Directory
            } else {
                Kind::File
            };
            root.attach(&share.path, kind, mount)?;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount =
            open_tree(CWD, "/proc/self/fd", flags).map_err(|e| TreeError::ProcSelfFd(e.into()))?;
        Ok(mount.into())
    }
}
