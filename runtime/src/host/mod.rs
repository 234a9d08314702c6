//! The caller on this host: its identity and user namespaces, and the modes and owners
//! of directories that only it may change.

pub(crate) mod guest_names;
pub mod identity;
pub mod private;
