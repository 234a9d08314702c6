//! Every `unsafe` of the agent, with safe signatures outwards: the calls that
//! neither nix nor rustix offers.
//!
//! Owns no policy: callers decide what an error means.
#![expect(
    unsafe_code,
    reason = "the one directory of this crate that calls the kernel directly"
)]

mod clock;
mod descriptors;
mod device_filter;
mod loopback;
mod mount_attributes;
mod process;
mod scheduling;
mod seccomp;

pub(crate) use clock::{slew_clock, step_clock};
pub(crate) use descriptors::{close_all_except, set_vsock_connect_timeout, watch};
pub(crate) use device_filter::attach_device_filter;
pub(crate) use loopback::bring_loopback_up;
pub(crate) use mount_attributes::{MountAttributes, set_mount_attributes};
pub(crate) use process::{
    clone_process, exit_now, may_execute, restore_default_signals, send_signal,
};
pub(crate) use scheduling::{SchedulerAttributes, set_io_priority, set_scheduler};
pub(crate) use seccomp::{filter_command, install_filter};
