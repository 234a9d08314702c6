//! Confines a process to the descriptors it was given: its own namespaces, a
//! root directory that holds nothing (or exactly what it serves), no capabilities
//! outside its own user namespace, no way to gain any. Knows nothing of virtual
//! machines. The pid namespace is made by whoever spawns the process, and the
//! filter of system calls ([`syscalls`]) is installed by the process itself, as its
//! last step.
//!
//! Called by every helper of the runtime as its first act, while it has one
//! thread: [`Jail::enter`]. The owner uses [`detached`] to prepare what a
//! helper may serve, [`cover`] to leave mounts out of it, [`overlay`] to lay directories
//! over each other first, and [`running`] to attach more to a
//! helper that runs. [`program`] is for programs that
//! know nothing of all this: it enters the jail first, and becomes them there.

pub mod cover;
mod descriptors;
pub mod detached;
mod error;
mod identities;
mod inherited;
mod jail;
pub mod overlay;
mod privileges;
pub mod program;
mod root;
pub mod running;
mod sys;
pub mod syscalls;

pub use error::{Error, Step};
pub use identities::{Identities, UNIQUE_IDS};
pub use inherited::inherited;
pub use jail::Jail;
pub use root::{Kind, NewRoot, require_read_only};
pub use rustix::thread::CapabilitySet;
