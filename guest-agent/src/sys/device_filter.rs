//! Loading a device filter and attaching it to a cgroup by `bpf(2)`.
//!
//! Owns no rule: the program comes assembled.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// Lets `program` (eBPF instructions) decide about devices in `cgroup`. It stays
/// attached for as long as the cgroup exists.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn attach_device_filter(cgroup: BorrowedFd<'_>, program: &[u64]) -> io::Result<()> {
    let filter = load(program)?;
    let request = Attach {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        program_fd: filter.as_raw_fd().unsigned_abs(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &request).map(drop)
}

fn load(program: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let request = Load {
        program_type: TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions_at: program.as_ptr().addr() as u64,
        license_at: license.as_ptr().addr() as u64,
        ..Default::default()
    };
    let descriptor = call(PROG_LOAD, &request)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The kernel gives a long check of a program up when a signal arrives (EAGAIN), so
/// that it can be handled: then the call is made again.
fn call<T>(command: i32, request: &T) -> io::Result<RawFd> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match call_once(command, request) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    call_once(command, request)
}

fn call_once<T>(command: i32, request: &T) -> io::Result<RawFd> {
    // SAFETY: the request has the layout that the command asks for, its size is
    // passed, and it and what it points to outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *request, size_of::<T>()) };
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instructions: u32,
    instructions_at: u64,
    license_at: u64,
    log_level: u32,
    log_size: u32,
    log_at: u64,
    kernel_version: u32,
    flags: u32,
}

/// Beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

// From linux/bpf.h.
const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
