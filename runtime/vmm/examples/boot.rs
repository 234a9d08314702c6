//! Runs one machine as its owner would: spawns `caisson-vmm`, prints the guest's
//! console and the reports, each with the milliseconds since the spawn.
//!
//! For development and for the tests in the test host; the product's owner is the
//! `caisson` crate. Usage: `boot VMM KERNEL INITRAMFS [key=value]...` with the keys
//! `mem`, `vcpus`, `cmdline`, `fs` (a vhost-user socket to connect to), `disk` (a disk
//! from the start) and `plug` (one to plug in when the console says `plug!`).

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Instant;

use caisson_vmm::control::{Report, Request};
use caisson_vmm::spec::{BlockSpec, ConsoleSpec, Devices, FsSpec, MachineSpec, VsockSpec};
use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::pipe2;

type Failure = Box<dyn Error>;

/// What the command line asks for.
struct Wish {
    vmm: String,
    kernel: String,
    initramfs: String,
    mem_mib: u32,
    vcpus: u8,
    cmdline: String,
    fs: Option<String>,
    disk: Option<String>,
    plug: Option<String>,
}

/// Descriptors for the child, numbered as they are added.
#[derive(Default)]
struct Passed(Vec<FdMapping>);

impl Passed {
    fn add(&mut self, descriptor: impl Into<OwnedFd>) -> i32 {
        let number = 4 + i32::try_from(self.0.len()).unwrap_or(0);
        self.0.push(FdMapping {
            parent_fd: descriptor.into(),
            child_fd: number,
        });
        number
    }
}

fn main() -> Result<(), Failure> {
    let wish = parse(std::env::args().skip(1))?;
    let (control, for_vmm) = seqpacket()?;
    let (_channel, channel_of_vmm) = seqpacket()?;
    let (console, output) = pipe2(OFlag::O_CLOEXEC)?;

    let mut passed = Passed::default();
    let memory = memfd_create("guest-memory", MFdFlags::MFD_CLOEXEC)?;
    nix::unistd::ftruncate(&memory, i64::from(wish.mem_mib) << 20)?;
    let fs = wish.fs.as_ref().map(UnixStream::connect).transpose()?;
    let spec = MachineSpec {
        vcpus: wish.vcpus,
        mem_mib: wish.mem_mib,
        memory_fd: passed.add(memory),
        kvm_fd: passed.add(File::options().read(true).write(true).open("/dev/kvm")?),
        kernel_fd: passed.add(File::open(&wish.kernel)?),
        initramfs_fd: passed.add(File::open(&wish.initramfs)?),
        cmdline: wish.cmdline,
        control_fd: passed.add(for_vmm),
        devices: Devices {
            fs: fs.map(|socket| FsSpec {
                tag: "caisson".to_owned(),
                socket_fd: passed.add(socket),
            }),
            vsock: Some(VsockSpec {
                guest_cid: 3,
                channel_fd: passed.add(channel_of_vmm),
            }),
            console: Some(ConsoleSpec {
                output_fd: passed.add(output),
            }),
            rng: true,
            balloon: true,
            blocks: wish
                .disk
                .map(|path| open_disk(&path, &mut passed))
                .transpose()?
                .into_iter()
                .collect(),
            placeholders: 2,
        },
    };

    let (spec_end, mut spec_source) = pipe2(OFlag::O_CLOEXEC).map(|(r, w)| (r, File::from(w)))?;
    spec_source.write_all(&serde_json::to_vec(&spec)?)?;
    drop(spec_source);
    let mut mappings = passed.0;
    mappings.push(FdMapping {
        parent_fd: spec_end,
        child_fd: 3,
    });
    let started = Instant::now();
    let mut vmm = Command::new(&wish.vmm);
    vmm.fd_mappings(mappings)?;
    let mut child = vmm.spawn()?;
    drop(vmm);
    let (plug, requests) = (wish.plug, control.try_clone()?);
    let printer = thread::spawn(move || print_console(console.into(), &requests, plug.as_deref()));
    let followed = follow(&control, started);
    let status = child.wait()?;
    printer.join().ok();
    eprintln!("[{:8.2} ms] {status}", elapsed_ms(started));
    followed
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Wish, Failure> {
    let mut next = |name: &str| args.next().ok_or_else(|| format!("{name} is missing"));
    let mut wish = Wish {
        vmm: next("VMM")?,
        kernel: next("KERNEL")?,
        initramfs: next("INITRAMFS")?,
        mem_mib: 128,
        vcpus: 1,
        cmdline: "console=hvc0 reboot=k,panic_warm panic=-1".to_owned(),
        fs: None,
        disk: None,
        plug: None,
    };
    for arg in args {
        match arg.split_once('=') {
            Some(("mem", value)) => wish.mem_mib = value.parse()?,
            Some(("vcpus", value)) => wish.vcpus = value.parse()?,
            Some(("cmdline", value)) => value.clone_into(&mut wish.cmdline),
            Some(("fs", value)) => wish.fs = Some(value.to_owned()),
            Some(("disk", value)) => wish.disk = Some(value.to_owned()),
            Some(("plug", value)) => wish.plug = Some(value.to_owned()),
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(wish)
}

fn open_disk(path: &str, passed: &mut Passed) -> io::Result<BlockSpec> {
    let image = File::options().read(true).write(true).open(path)?;
    Ok(BlockSpec {
        fd: passed.add(image),
        read_only: false,
        serial: "disk".to_owned(),
    })
}

fn seqpacket() -> nix::Result<(OwnedFd, OwnedFd)> {
    let kind = SockType::SeqPacket;
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
}

/// Prints what the guest writes; plugs the disk in when the guest asks for it.
fn print_console(console: File, control: &OwnedFd, plug: Option<&str>) {
    for line in BufReader::new(console).lines().map_while(Result::ok) {
        writeln!(io::stdout(), "{line}").ok();
        if let Some(path) = plug.filter(|_| line.trim() == "plug!")
            && let Err(error) = send_disk(control, path)
        {
            eprintln!("{path}: {error}");
        }
    }
}

/// Prints reports until the last one.
fn follow(control: &OwnedFd, started: Instant) -> Result<(), Failure> {
    let mut packet = [0; caisson_vmm::control::MAX_PACKET_LEN];
    loop {
        let len = recv(control.as_raw_fd(), &mut packet, MsgFlags::empty())?;
        if len == 0 {
            return Err("no exit was reported".into());
        }
        let report: Report = serde_json::from_slice(&packet[..len])?;
        eprintln!("[{:8.2} ms] {report:?}", elapsed_ms(started));
        if matches!(report, Report::Exit { .. }) {
            return Ok(());
        }
    }
}

fn send_disk(control: &OwnedFd, path: &str) -> Result<(), Failure> {
    let image = File::options().read(true).write(true).open(path)?;
    let request = serde_json::to_vec(&Request::PlugBlock {
        read_only: false,
        serial: "plugged".to_owned(),
    })?;
    let descriptors = [image.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let parts = [IoSlice::new(&request)];
    sendmsg::<()>(
        control.as_raw_fd(),
        &parts,
        &rights,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
