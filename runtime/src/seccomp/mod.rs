//! `linux.seccomp` as a program for the guest's kernel.
//!
//! Owns the meaning of a profile, which is libseccomp's as runc uses it. The
//! program is compiled here and installed by the agent, in every process of the
//! container. Nothing of it touches the host's kernel.

mod compile;
mod names;
mod program;
mod unknown_calls;
mod vsock;

pub use compile::{Error, VsockAccess, compile};
pub use names::{ACTIONS, ARCHITECTURES, KNOWN_FLAGS, OPERATORS, SUPPORTED_FLAGS};
pub use program::{Filter, Instruction};
