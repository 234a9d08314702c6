//! The server: the steps from a spec to serving, in order.
//!
//! - `tree`: the served tree, assembled from detached mounts
//! - `options`: how files are served, each choice with its reason
//! - `syscalls`: what the process may still ask of the kernel
//! - `backend`: the vhost-user device, which gives the worker its turns
//! - `worker`: what happens to each request
//! - `request`, `check`: a request copied out of the guest, and what it may say
//! - `names`, `counted`, `forgetting`: what is held for the guest, and how it is made
//!   to let go of it
//! - `diagnostics`: log lines to standard error

mod backend;
mod check;
mod counted;
mod diagnostics;
mod forgetting;
mod names;
mod options;
mod request;
mod run;
mod syscalls;
mod tree;
mod worker;

pub use run::{Error, run};
pub use syscalls::tables;
