//! The hooks that the host runs (runtime-spec, config.md#posix-platform-hooks).
//!
//! `list` takes them out of config.json and checks them, `run` carries them
//! out. When each kind is due is for the container's life (`container`,
//! `sandbox::monitor`) to know; hooks of kind startContainer are the agent's.

mod list;
mod run;

pub use list::{Hook, HookKind, Hooks, Malformed};
pub use run::{Error, run, run_poststop, state};
