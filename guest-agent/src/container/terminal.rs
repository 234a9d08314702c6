//! The terminal of a process, made in the container's own devpts.
//!
//! Owns the order: the master goes to the agent, the slave becomes the
//! controlling terminal and the standard streams.

use std::{os::fd::OwnedFd, path::Path};

use oci_spec::runtime::Process;
use rustix::{
    fs::{Mode, OFlags, open},
    process::ioctl_tiocsctty,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    termios::{Winsize, tcsetwinsize},
};

use super::{
    devices,
    handshake::{ChildEnd, Report},
    identity, mounts,
    rootfs::Rootfs,
};
use crate::failure::{Attempt, Failure};

/// Makes the terminal of a new container's init, which is the container's console too.
///
/// # Errors
/// The step that was refused.
pub(crate) fn make_console(
    rootfs: &Rootfs,
    process: &Process,
    gate: &ChildEnd,
) -> Result<(), Failure> {
    let slave = make_in(rootfs, process, gate)?;
    devices::bind_console(rootfs, &slave)
}

/// Makes the terminal of a further process of a container.
///
/// # Errors
/// The step that was refused.
pub(crate) fn make(process: &Process, gate: &ChildEnd) -> Result<(), Failure> {
    let flags = mounts::POINT | OFlags::CLOEXEC;
    let root = open("/", flags, Mode::empty()).at("open", "/")?;
    make_in(&Rootfs::new(root), process, gate).map(drop)
}

fn make_in(rootfs: &Rootfs, process: &Process, gate: &ChildEnd) -> Result<OwnedFd, Failure> {
    let ptmx = Path::new("/dev/ptmx");
    let master = rootfs
        .open(ptmx, OFlags::RDWR | OFlags::NOCTTY)
        .at("open", ptmx)?;
    unlockpt(&master).step("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).step("open the terminal")?;
    if let Some(size) = process.console_size() {
        let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: cells(size.height()),
            ws_col: cells(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).step("set the size of the terminal")?;
    }
    ioctl_tiocsctty(&slave).step("take the terminal")?;
    dup2_stdin(&slave).step("set standard input")?;
    dup2_stdout(&slave).step("set standard output")?;
    dup2_stderr(&slave).step("set standard error")?;
    identity::give_stdio_to(process.user().uid())?;
    gate.report(&Report::Terminal(master))
        .step("hand the terminal over")?;
    Ok(slave)
}
