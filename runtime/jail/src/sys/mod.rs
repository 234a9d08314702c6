//! Every `unsafe` of this crate, behind safe signatures: system calls that
//! neither rustix nor nix offers, and fork.
#![expect(unsafe_code, reason = "raw system calls and fork")]

mod fork;
mod mounts;
mod process;

pub(crate) use fork::{Child, fork};
pub(crate) use mounts::{Depth, MOUNT_ATTR_NOSYMFOLLOW, MountAttributes, mount_setattr};
pub(crate) use process::{adopt, clear_environment, close_range};
