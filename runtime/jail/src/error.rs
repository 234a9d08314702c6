//! The error of this crate: which step of the confinement was refused, and by
//! which errno.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Why a process could not be confined, or a mount not be prepared for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a step.
    #[error("{step}")]
    Refused {
        /// What was being done.
        step: Step,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// An inherited descriptor was asked for twice, or is a standard stream.
    #[error("descriptor {0} is already taken")]
    Taken(RawFd),
    /// A path inside the new root is absolute, empty, or has `.` or `..` in it.
    #[error("{} is no plain relative path", .0.display())]
    NotPlainRelative(PathBuf),
    /// A mount that must be read-only can be written to.
    #[error("{} can be written to", .0.display())]
    Writable(PathBuf),
}

/// The steps of confinement, as an error names them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant says itself what its Display says"
)]
pub enum Step {
    TakeDescriptor(RawFd),
    RequireOneThread,
    CloseDescriptors,
    ClearEnvironment,
    SetLimit(&'static str),
    ForkMapWriter,
    EnterUserNamespace,
    WriteIdentityMaps,
    BecomeUnique,
    EnterNamespaces,
    EnterJail,
    MakeRoot,
    AttachRoot,
    PivotRoot,
    DetachOldRoot,
    MakePlaceholder(PathBuf),
    Attach(PathBuf),
    CheckReadOnly(PathBuf),
    OpenTree(PathBuf),
    Cover(PathBuf),
    SetMountAttributes(PathBuf),
    MapIds(PathBuf),
    SetAccessTimes(PathBuf),
    MountOverlay,
    MakeWritable,
    LockSecurebits,
    DropBoundingSet,
    DropAmbientSet,
    DropCapabilities,
    ForbidNewPrivileges,
    ForbidTracing,
    ReadSpec,
    Execute(PathBuf),
}

impl Step {
    /// Turns an errno into the error of this step; for `map_err`.
    pub(crate) fn refused<E: Into<std::io::Error>>(self) -> impl FnOnce(E) -> Error {
        move |source| Error::Refused {
            step: self,
            source: source.into(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeDescriptor(number) => write!(f, "take the inherited descriptor {number}"),
            Self::RequireOneThread => f.write_str("be a process of one thread"),
            Self::CloseDescriptors => f.write_str("close inherited descriptors"),
            Self::ClearEnvironment => f.write_str("clear the environment"),
            Self::SetLimit(which) => write!(f, "set the limit {which}"),
            Self::ForkMapWriter => f.write_str("fork the writer of the identity maps"),
            Self::EnterUserNamespace => f.write_str("make a user namespace"),
            Self::WriteIdentityMaps => f.write_str("write the identity maps"),
            Self::BecomeUnique => f.write_str("become a user that no other process is"),
            Self::EnterNamespaces => f.write_str("make mount, net, ipc, uts, cgroup namespaces"),
            Self::EnterJail => f.write_str("enter the jail of a helper"),
            Self::MakeRoot => f.write_str("make a tmpfs for the new root"),
            Self::AttachRoot => f.write_str("attach the new root"),
            Self::PivotRoot => f.write_str("pivot to the new root"),
            Self::DetachOldRoot => f.write_str("detach the old root"),
            Self::MakePlaceholder(path) => write!(f, "make the placeholder {}", path.display()),
            Self::Attach(path) => write!(f, "attach {}", path.display()),
            Self::CheckReadOnly(path) => write!(f, "check that {} is read-only", path.display()),
            Self::OpenTree(path) => write!(f, "detach {}", path.display()),
            Self::Cover(path) => write!(f, "cover {}", path.display()),
            Self::SetMountAttributes(path) => {
                write!(f, "set the mount attributes of {}", path.display())
            }
            Self::MapIds(path) => write!(f, "map the ids of {}", path.display()),
            Self::MakeWritable => f.write_str("let a served mount be written to"),
            Self::SetAccessTimes(path) => {
                write!(f, "choose when access times of {} change", path.display())
            }
            Self::MountOverlay => f.write_str("mount the overlay"),
            Self::LockSecurebits => f.write_str("lock the securebits"),
            Self::DropBoundingSet => f.write_str("drop the bounding set"),
            Self::DropAmbientSet => f.write_str("drop the ambient set"),
            Self::DropCapabilities => f.write_str("drop capabilities"),
            Self::ForbidNewPrivileges => f.write_str("forbid new privileges"),
            Self::ReadSpec => f.write_str("read the spec of the program"),
            Self::Execute(path) => write!(f, "execute {} in its jail", path.display()),
            Self::ForbidTracing => f.write_str("forbid tracing and core dumps"),
        }
    }
}
