//! The server: the steps from a spec to serving, in order.
//!
//! - `tree`: the served tree, assembled from detached mounts
//! - `options`: how files are served, each choice with its reason
//! - `syscalls`: what the process may still ask of the kernel
//! - `diagnostics`: log lines to standard error

mod diagnostics;
mod options;
mod run;
mod syscalls;
mod tree;

pub use run::{Error, run};
