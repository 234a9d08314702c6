//! The emulated machine: QEMU's command line and the layout of a saved state's
//! directory. A state can be restored only into the machine that it was saved from,
//! so both have one place. Starts nothing.
//!
//! A state's directory holds `qemu` (link to the directory with QEMU), `image` (link
//! to the image's directory), `initrd`, `disk.qcow2` (over the image), `ram`, and
//! `bin/outer-vm`.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::protocol::SERVER_PORT;

const MEMORY_MIB: u32 = 6144;

/// Kernel messages from warnings on reach the serial log, where they are looked for.
/// The statistics of memory accesses, on by default in Debian's kernel, take a third of
/// the processor once there are tens of nested machines.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 panic=-1 mitigations=off loglevel=5 damon_stat.enabled=N";

/// How the machine comes to life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Boot<'a> {
    /// From the kernel, writing to the state's disk: for making a state.
    Prepare,
    /// From the saved state, everything written being thrown away.
    Restore,
    /// From the kernel, everything written being thrown away, for one batch.
    Batch(&'a Batch),
}

/// What a batch's machine has besides.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Tar archive, second disk.
    pub(crate) input: PathBuf,
    /// Where the third disk's bytes go.
    pub(crate) output: PathBuf,
    /// Where the second serial port's output goes.
    pub(crate) log: PathBuf,
    /// The virtual clock counts instructions, two nanoseconds each.
    pub(crate) count_instructions: bool,
}

/// Sockets on which QEMU accepts. Made before it starts, so that connecting
/// never has to wait for it; must be inheritable.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Control.
    pub(crate) qmp: UnixListener,
    /// The kernel's log, as it comes.
    pub(crate) serial: UnixListener,
}

/// QEMU for this state, to be spawned by the thread whose end must end it too.
/// `work` is a private directory for logs and temporary files.
pub(crate) fn qemu(state: &Path, work: &Path, boot: Boot<'_>, sockets: &Sockets) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(state.join("qemu/qemu-system-x86_64"));
    // Temporary overlays of `snapshot=on` go here.
    command.env("TMPDIR", work);
    command.args([
        "-accel",
        "tcg,tb-size=512",
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "1",
    ]);
    command.args([
        "-m",
        &MEMORY_MIB.to_string(),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command
        .arg("-kernel")
        .arg(state.join("image/vmlinuz"))
        .arg("-initrd")
        .arg(state.join("initrd"));
    command.args(["-device", "virtio-rng-pci"]);
    add_socket(&mut command, "qmp", &sockets.qmp, None);
    command.args(["-mon", "chardev=qmp,mode=control"]);
    add_socket(
        &mut command,
        "serial",
        &sockets.serial,
        Some(&work.join(SERIAL_LOG)),
    );
    command.args(["-serial", "chardev:serial"]);
    let snapshot = if matches!(boot, Boot::Prepare) {
        "off"
    } else {
        "on"
    };
    add_disk(
        &mut command,
        &state.join("disk.qcow2"),
        &format!("format=qcow2,cache=unsafe,snapshot={snapshot}"),
    );
    // Without a way out: a test that needs the internet is a mistake.
    let forward = format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:{SERVER_PORT}");
    command.args([
        "-netdev",
        &forward,
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
    ]);
    match boot {
        Boot::Prepare => command.args(["-append", KERNEL_ARGUMENTS]),
        Boot::Restore => command.args(["-append", KERNEL_ARGUMENTS, "-incoming", "defer"]),
        Boot::Batch(batch) => add_batch(&mut command, batch),
    };
    command
}

/// Name of the kernel's log in the work directory.
pub(crate) const SERIAL_LOG: &str = "serial.log";

fn add_batch<'a>(command: &'a mut Command, batch: &Batch) -> &'a mut Command {
    command.arg("-serial").arg(joined("file:", &batch.log));
    add_disk(command, &batch.input, "format=raw,readonly=on");
    add_disk(command, &batch.output, "format=raw,cache=unsafe");
    if batch.count_instructions {
        command.args(["-icount", "shift=1,sleep=off"]);
    }
    command.args(["-append", &format!("{KERNEL_ARGUMENTS} outer-vm.batch")])
}

fn add_socket(command: &mut Command, id: &str, socket: &UnixListener, log: Option<&Path>) {
    let descriptor = socket.as_raw_fd();
    let mut chardev = OsString::from(format!("socket,id={id},server=on,wait=off,fd={descriptor}"));
    if let Some(log) = log {
        chardev.push(",logfile=");
        chardev.push(escaped(log));
    }
    command.arg("-chardev").arg(chardev);
}

fn add_disk(command: &mut Command, file: &Path, options: &str) {
    let mut drive = joined("if=virtio,file=", &escaped(file));
    drive.push(",");
    drive.push(options);
    command.arg("-drive").arg(drive);
}

/// QEMU splits at commas and takes a doubled one as part of the value.
fn escaped(file: &Path) -> PathBuf {
    file.to_string_lossy().replace(',', ",,").into()
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(prefix);
    argument.push(path);
    argument
}
