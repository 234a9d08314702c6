//! A program of the kernel's that hands connections to a listener which they were not
//! meant for (BPF_PROG_TYPE_SK_LOOKUP), by `bpf(2)`.
//!
//! It stays in place for as long as its link is held open, so nothing is left of it
//! after its owner. Owns no rule: the program comes assembled.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// A map from a small number to a listening socket.
pub(crate) fn make_socket_map(sockets: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let request = MapCreate {
        map_type: SOCKMAP,
        key_len: 4,
        value_len: 8,
        entries: u32::try_from(sockets.len()).unwrap_or(u32::MAX),
    };
    let map = descriptor(call(MAP_CREATE, &request)?);
    for (key, socket) in (0_u32..).zip(sockets) {
        let value = u64::from(socket.as_raw_fd().unsigned_abs());
        let request = MapUpdate {
            map_fd: u64::from(map.as_raw_fd().unsigned_abs()),
            key_at: (&raw const key).addr() as u64,
            value_at: (&raw const value).addr() as u64,
            flags: 0,
        };
        call(MAP_UPDATE, &request)?;
    }
    Ok(map)
}

/// Has `program` (eBPF instructions) decide in `namespace` who gets connections, for
/// as long as it is held.
pub(crate) fn attach_lookup(namespace: BorrowedFd<'_>, program: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let request = Load {
        program_type: TYPE_SK_LOOKUP,
        instructions: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions_at: program.as_ptr().addr() as u64,
        license_at: license.as_ptr().addr() as u64,
        expected_attach_type: SK_LOOKUP,
        ..Default::default()
    };
    let program = descriptor(call(PROG_LOAD, &request)?);
    let request = LinkCreate {
        program_fd: program.as_raw_fd().unsigned_abs(),
        target_fd: namespace.as_raw_fd().unsigned_abs(),
        attach_type: SK_LOOKUP,
        flags: 0,
    };
    Ok(descriptor(call(LINK_CREATE, &request)?))
}

fn descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The kernel gives a long check of a program up when a signal arrives (EAGAIN), so
/// that it can be handled: then the call is made again.
fn call<T>(command: i32, request: &T) -> io::Result<RawFd> {
    const TRIES: usize = 100;
    for _ in 1..TRIES {
        match call_once(command, request) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            answer => return answer,
        }
    }
    call_once(command, request)
}

fn call_once<T>(command: i32, request: &T) -> io::Result<RawFd> {
    // SAFETY: the request has the layout that the command asks for, its size is
    // passed, and it and what it points to outlive the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *request, size_of::<T>()) };
    match RawFd::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_len: u32,
    value_len: u32,
    entries: u32,
}

/// Beginning of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map_fd: u64,
    key_at: u64,
    value_at: u64,
    flags: u64,
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
    log_len: u32,
    log_at: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// Beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

// From linux/bpf.h.
const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const SOCKMAP: u32 = 15;
const TYPE_SK_LOOKUP: u32 = 30;
const SK_LOOKUP: u32 = 36;
