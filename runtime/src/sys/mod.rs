//! Every `unsafe` of this crate, behind safe signatures.

#![expect(
    unsafe_code,
    reason = "raw descriptors, ioctls, a step before exec, a memory policy and a CPU counter"
)]

mod lookup;
mod tap;
mod user_namespace;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::pty::Winsize;

pub(crate) use lookup::{attach_lookup, make_socket_map};
pub(crate) use tap::{TAP_HEADER_LEN, make_tap};
pub(crate) use user_namespace::user_namespace;

/// Owns a descriptor that the kernel has just handed to this process.
///
/// Callers pass numbers from SCM_RIGHTS or from their own command line only,
/// each once.
pub(crate) fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the number names an open descriptor that nothing else owns: it
    // was just received, or was inherited for this process alone.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Takes a descriptor that the caller of this program has left open for it. What this
/// program has opened itself closes on exec, which nothing inherited does.
///
/// # Errors
/// `bad file descriptor` when there is none.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the command takes any number and changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(adopt(number))
}

mod requests {
    nix::ioctl_read_bad!(window_size, super::libc::TIOCGWINSZ, super::Winsize);
    nix::ioctl_write_int_bad!(set_controlling, super::libc::TIOCSCTTY);
}

/// Has the kernel kill the child when the thread that starts it ends, however
/// that comes about.
pub(crate) fn die_with_parent(command: &mut Command) {
    let prepare = || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call and
    // allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Has a signal do what it does by default again, if it is ignored; one that a handler
/// is there for keeps it. Those that the C library has for itself are refused, and stay.
pub(crate) fn stop_ignoring(number: i32) {
    // SAFETY: the structure is plain numbers, for which zero is the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    let mut now = default;
    // SAFETY: nothing is set, and the structure that is written is this function's.
    let read = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut now) };
    if read == 0 && now.sa_sigaction == libc::SIG_IGN {
        // SAFETY: no handler is installed, and none that the program has is replaced.
        unsafe { libc::sigaction(number, &raw const default, std::ptr::null_mut()) };
    }
}

/// Sends a signal by its number, which may be a real-time one (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` once the process has ended, `EINVAL` for a number that isn't a signal.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no siginfo is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps descriptors that a caller left open by accident from every program
/// started from now on (close_range(2), CLOSE_RANGE_CLOEXEC).
pub(crate) fn close_the_rest_on_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: no descriptor is closed here, so none can be used afterwards.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The size of a terminal (tty_ioctl(4), TIOCGWINSZ).
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> io::Result<Winsize> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open and the kernel writes one Winsize.
    unsafe { requests::window_size(terminal.as_raw_fd(), &mut size) }?;
    Ok(size)
}

/// Makes a terminal the controlling one of this session (TIOCSCTTY).
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; the argument is a number.
    unsafe { requests::set_controlling(terminal.as_raw_fd(), 0) }?;
    Ok(())
}

/// Sets where memory of this thread, and of all it starts, comes from; one bit
/// per node, the lowest first (set_mempolicy(2)).
pub(crate) fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    let count = nodes.len() * 64;
    // SAFETY: the kernel reads `count` bits at the pointer, which has as many.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), count) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Frequency of the CPU's time stamp counter in kHz, measured over 10 ms.
pub(crate) fn tsc_khz() -> u64 {
    let interval = std::time::Duration::from_millis(10);
    let (begin, first) = moment();
    while begin.elapsed() < interval {
        std::hint::spin_loop();
    }
    let (end, last) = moment();
    let ticks = last.saturating_sub(first);
    let elapsed_ns = u64::try_from((end - begin).as_nanos()).unwrap_or(u64::MAX);
    ticks.saturating_mul(1_000_000) / elapsed_ns.max(1)
}

/// One moment on both clocks. On a busy host this thread may have to wait between the
/// two, so the readings that lie closest together count.
fn moment() -> (std::time::Instant, u64) {
    let pairs = (0..16).map(|_| {
        let before = tsc();
        let now = std::time::Instant::now();
        let after = tsc();
        (now, before, after.saturating_sub(before))
    });
    let closest = pairs.min_by_key(|(_, _, apart)| *apart);
    let (now, before, apart) = closest.unwrap_or_else(|| (std::time::Instant::now(), tsc(), 0));
    (now, before.saturating_add(apart / 2))
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and Linux lets programs read it.
    unsafe { std::arch::x86_64::_rdtsc() }
}
