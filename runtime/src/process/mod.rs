//! Processes of this host: starting a confined helper with its descriptors and its spec,
//! waiting for its end, keeping the end of its log. Knows no VM and no container.

pub(crate) mod error;
pub(crate) mod log_tail;
pub(crate) mod memfd;
pub mod pidfd;
pub(crate) mod program;
pub(crate) mod thread;
pub(crate) mod vhost_user_socket;

pub use error::Error;
pub(crate) use error::step;
