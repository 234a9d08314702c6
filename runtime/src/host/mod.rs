//! The caller on this host: its identity and user namespaces, and the modes and owners
//! of directories that only it may change; the mounts that it sees.

pub(crate) mod guest_names;
pub mod identity;
pub(crate) mod mountinfo;
pub mod private;
pub(crate) mod random;
