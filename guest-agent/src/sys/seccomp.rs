//! Installing a system-call filter by `seccomp(2)`.
//!
//! Owns no rule: the program comes compiled.

use std::{io, os::unix::process::CommandExt, process::Command};

/// Lets `program` decide about every call that this thread makes from now on.
///
/// # Errors
/// The kernel's refusal: `EINVAL` for a program that isn't one, `EACCES` without
/// `no_new_privs` or rights.
pub(crate) fn install_filter(program: &mut [libc::sock_filter], flags: u32) -> io::Result<()> {
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: header and program outlive the call, which copies them, and `len`
    // is no more than the length of the program.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const header,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Lets `program` decide about every call of what `command` starts, from its first on.
pub(crate) fn filter_command(
    command: &mut Command,
    mut program: Vec<libc::sock_filter>,
    flags: u32,
) {
    // SAFETY: in the new process it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(move || install_filter(&mut program, flags)) };
}
