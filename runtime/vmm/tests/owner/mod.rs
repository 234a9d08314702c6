//! A small owner of one machine, for the tests here and the example: opens what the
//! machine needs, spawns `caisson-vmm` and talks to it.

use std::error::Error;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use caisson_vmm::control::{MAX_PACKET_LEN, Report, Request};
use caisson_vmm::spec::{
    BlockSpec, ConsoleSpec, Description, Devices, FsSpec, MachineSpec, VsockSpec,
};
use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::{ftruncate, pipe2};

/// Anything that can go wrong here.
pub(crate) type Failure = Box<dyn Error>;

/// What machine is wanted.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The `caisson-vmm` binary.
    pub(crate) vmm: PathBuf,
    /// The kernel image.
    pub(crate) kernel: PathBuf,
    /// The initramfs archive.
    pub(crate) initramfs: PathBuf,
    /// Guest memory in MiB.
    pub(crate) mem_mib: u32,
    /// Virtual CPUs.
    pub(crate) vcpus: u8,
    /// Kernel command line.
    pub(crate) cmdline: String,
    /// vhost-user socket of a file server to connect to.
    pub(crate) fs: Option<PathBuf>,
    /// Image of a disk that is there from the start.
    pub(crate) disk: Option<PathBuf>,
}

/// A machine that was started.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The `caisson-vmm` process.
    pub(crate) child: Child,
    /// The owner's end of the control socket.
    pub(crate) control: OwnedFd,
    /// What the guest writes to its console.
    pub(crate) console: File,
    /// The owner's end of the vsock channel; the machine ends without it.
    _channel: OwnedFd,
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

/// Starts a machine with all devices and two placeholders.
pub(crate) fn start(wish: &Wish) -> Result<Machine, Failure> {
    let (control, for_vmm) = seqpacket()?;
    let (channel, channel_of_vmm) = seqpacket()?;
    let (console, output) = pipe2(OFlag::O_CLOEXEC)?;
    let memory = memfd_create("guest-memory", MFdFlags::MFD_CLOEXEC)?;
    ftruncate(&memory, i64::from(wish.mem_mib) << 20)?;

    let mut passed = Passed::default();
    let devices = Devices {
        fs: wish
            .fs
            .as_deref()
            .map(|path| fs(path, &mut passed))
            .transpose()?,
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
            .iter()
            .map(|path| disk(path, &mut passed))
            .collect::<Result<_, _>>()?,
        placeholders: 2,
        vhost_net: false,
    };
    let spec = MachineSpec {
        vcpus: wish.vcpus,
        mem_mib: wish.mem_mib,
        memory_fd: passed.add(memory),
        kvm_fd: passed.add(open("/dev/kvm".as_ref())?),
        kernel_fd: passed.add(File::open(&wish.kernel)?),
        initramfs_fd: passed.add(File::open(&wish.initramfs)?),
        cmdline: wish.cmdline.clone(),
        description: Description::MpTable,
        control_fd: passed.add(for_vmm),
        devices,
    };
    Ok(Machine {
        child: spawn(&wish.vmm, &spec, passed)?,
        control,
        console: console.into(),
        _channel: channel,
    })
}

fn spawn(vmm: &Path, spec: &MachineSpec, passed: Passed) -> Result<Child, Failure> {
    let (spec_end, source) = pipe2(OFlag::O_CLOEXEC)?;
    File::from(source).write_all(&serde_json::to_vec(spec)?)?;
    let mut mappings = passed.0;
    mappings.push(FdMapping {
        parent_fd: spec_end,
        child_fd: 3,
    });
    let mut command = Command::new(vmm);
    command.fd_mappings(mappings)?;
    Ok(command.spawn()?)
}

impl Machine {
    /// The next report; `None` when the machine has closed its end.
    pub(crate) fn report(&self) -> Result<Option<Report>, Failure> {
        let mut packet = [0; MAX_PACKET_LEN];
        let len = recv(self.control.as_raw_fd(), &mut packet, MsgFlags::empty())?;
        let bytes = packet.get(..len).filter(|bytes| !bytes.is_empty());
        Ok(bytes.map(serde_json::from_slice).transpose()?)
    }
}

/// Sends `request`, with a descriptor if it needs one.
pub(crate) fn ask(
    control: &OwnedFd,
    request: &Request,
    file: Option<&File>,
) -> Result<(), Failure> {
    let packet = serde_json::to_vec(request)?;
    let descriptors: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if file.is_some() { &rights[..] } else { &[] };
    let parts = [IoSlice::new(&packet)];
    sendmsg::<()>(control.as_raw_fd(), &parts, rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Opens an image for reading and writing.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let file = File::options().read(true).write(true).open(path);
    file.map_err(|error| format!("{}: {error}", path.display()).into())
}

fn fs(path: &Path, passed: &mut Passed) -> Result<FsSpec, Failure> {
    Ok(FsSpec {
        tag: "caisson".to_owned(),
        socket_fd: passed.add(UnixStream::connect(path)?),
    })
}

fn disk(path: &Path, passed: &mut Passed) -> Result<BlockSpec, Failure> {
    Ok(BlockSpec {
        fd: passed.add(open(path)?),
        read_only: false,
        serial: "disk".to_owned(),
    })
}

fn seqpacket() -> nix::Result<(OwnedFd, OwnedFd)> {
    let kind = SockType::SeqPacket;
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
}
