//! A machine in QEMU's emulation, for hosts without hardware virtualization.
//!
//! Owns QEMU's command line and the reading of how it ended; `qemu` starts it in its
//! jail, where it opens nothing by path but its own descriptors. The guest is the
//! same as on KVM; vsock comes from `caisson-vsock`, our device code as a
//! vhost-user back end, because such hosts rarely have /dev/vhost-vsock.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use caisson_protocol::{GUEST_CID, POWER_OFF_PORT, SHARE_TAG};
use caisson_vmm::control::Exit;
use caisson_vmm::spec::queue_pairs;
use caisson_vmm::vsock_backend::BackendSpec;

use crate::config::installation::{GuestImage, Installation, KernelKind};
use crate::network::Mac;
use crate::process::program::{ProcessKiller, Program, Running};
use crate::process::step;
use crate::process::vhost_user_socket;
use crate::vm::error::Error;
use crate::vm::hypervisor_parts::Parts;
use crate::vm::kernel;
use crate::vm::nics::Waiting;
use crate::vm::qemu::Jailed;

/// Without a keyboard controller the guest resets by a triple fault.
const CMDLINE: &str = "quiet panic=-1 reboot=t,panic_warm random.trust_cpu=on no_timer_check \
                       noreplace-smp tsc=reliable cryptomgr.notests";
/// Network interfaces that a container can have: QEMU has eight slots, and five devices
/// of other kinds.
const NICS: u8 = 3;
/// Where Linux notes before a reset whether it panicked (`reboot=panic_warm`).
const WARM_RESET_FLAG: u64 = 0x472;
const WARM_RESET: u16 = 0x1234;

/// A machine that QEMU emulates.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Running,
    vsock: Running,
    memory: File,
}

impl Machine {
    pub(crate) fn start(
        installation: &Installation,
        qemu: &Path,
        parts: Parts,
    ) -> Result<(Self, Waiting), Error> {
        let kernel = kernel::open(&parts.image)?;
        let memory = parts
            .memory
            .try_clone()
            .map_err(step("share the guest's memory"))?;
        let (vsock, vsock_front) =
            start_vsock(installation, &parts.directory, parts.vsock_channel)?;

        let (nics, taps) = Waiting::make(NICS, queue_pairs(parts.vcpus));
        let initramfs = File::open(&parts.image.initramfs).map_err(step("open the guest image"))?;
        let mut program = Jailed::new(installation, qemu)?;
        let numbers = Numbers {
            memory: program.pass(parts.memory),
            kernel: program.pass(kernel),
            initramfs: program.pass(initramfs),
            fs: program.pass(parts.fs),
            vsock: program.pass(vsock_front),
            console: program.pass(parts.console),
            taps: taps
                .into_iter()
                .map(|(mac, tap)| {
                    let queues = tap.queues.into_iter();
                    TapDevice {
                        mac,
                        queues: queues.map(|queue| program.pass(queue)).collect(),
                    }
                })
                .collect(),
        };
        let arguments = arguments(&numbers, &parts.image, parts.vcpus, parts.mem_mib);
        let qemu = program.spawn(arguments)?;
        let machine = Self {
            qemu,
            vsock,
            memory: memory.into(),
        };
        Ok((machine, nics))
    }

    pub(crate) fn killers(&self) -> Result<Vec<ProcessKiller>, Error> {
        Ok(vec![self.qemu.killer()?, self.vsock.killer()?])
    }

    /// QEMU ends when the guest powers off (through the debug-exit port) or
    /// resets (`-no-reboot`); the guest's memory outlives it and tells which.
    pub(crate) fn wait(self) -> Exit {
        // A guest without its streams is of no use: the back end takes QEMU along.
        let vsock = self.vsock;
        let qemu_killer = self.qemu.killer();
        let vsock = std::thread::spawn(move || {
            let ending = vsock.wait();
            qemu_killer.iter().for_each(ProcessKiller::kill);
            ending
        });
        let ending = self.qemu.wait();
        let mut flag = [0; 2];
        let read = self.memory.read_exact_at(&mut flag, WARM_RESET_FLAG);
        let panicked = read.is_ok() && u16::from_le_bytes(flag) == WARM_RESET;
        if panicked {
            return Exit::Panic;
        }
        // The port's exit code is the value written, doubled, plus one.
        let power_off = i32::from(caisson_protocol::POWER_OFF_VALUE) * 2 + 1;
        match ending.code() {
            Some(code) if code == power_off => Exit::PowerOff,
            Some(0) => Exit::Reboot,
            _ => {
                let vsock = vsock.join().map(|ending| format!("; {ending}"));
                Exit::Error {
                    message: format!("{ending}{}", vsock.unwrap_or_default()),
                }
            }
        }
    }
}

fn start_vsock(
    installation: &Installation,
    directory: &Path,
    channel: OwnedFd,
) -> Result<(Running, UnixStream), Error> {
    let (back, front) = vhost_user_socket::pair(directory)?;
    let mut program = Program::new(installation.helper("caisson-vsock")?);
    let spec = BackendSpec {
        socket_fd: program.pass(back),
        channel_fd: program.pass(channel),
        guest_cid: GUEST_CID,
    };
    Ok((program.spawn(&spec)?, front))
}

/// Descriptor numbers in QEMU.
struct Numbers {
    memory: i32,
    kernel: i32,
    initramfs: i32,
    fs: i32,
    vsock: i32,
    console: i32,
    taps: Vec<TapDevice>,
}

/// A network device over a tap whose queues are open already.
struct TapDevice {
    mac: Mac,
    /// Descriptor numbers in QEMU, one per queue.
    queues: Vec<i32>,
}

fn arguments(numbers: &Numbers, image: &GuestImage, vcpus: u8, mem_mib: u32) -> Vec<String> {
    let Numbers {
        memory,
        kernel,
        initramfs,
        fs,
        vsock,
        console,
        taps,
    } = numbers;
    let Kernel {
        firmware,
        console_device,
        ..
    } = Kernel::of(image.kind);
    let words = [
        "-nodefaults -no-user-config -display none -no-reboot".into(),
        format!("-machine microvm,{firmware},rtc=on,auto-kernel-cmdline=off,memory-backend=ram"),
        // One thread for all vCPUs: with several, code that the guest patches is
        // now and then run as it was before, and its kernel panics while booting.
        format!("-accel tcg,thread=single -cpu max -smp {vcpus} -m {mem_mib}M"),
        format!(
            "-object memory-backend-file,id=ram,size={mem_mib}M,mem-path=/proc/self/fd/{memory},share=on"
        ),
        "-global virtio-mmio.force-legacy=false".into(),
        format!("-kernel /proc/self/fd/{kernel} -initrd /proc/self/fd/{initramfs}"),
        format!(
            "-chardev socket,id=fs,fd={fs} -device vhost-user-fs-device,chardev=fs,tag={SHARE_TAG}"
        ),
        format!(
            "-chardev socket,id=vsock,fd={vsock} -device vhost-user-vsock-device,chardev=vsock"
        ),
        format!("-add-fd fd={console},set=1 -chardev file,id=console,path=/dev/fdset/1,append=on"),
        console_device.into(),
        "-device virtio-rng-device -device virtio-balloon-device,free-page-reporting=on".into(),
        format!("-device isa-debug-exit,iobase={POWER_OFF_PORT:#x},iosize=1"),
    ];
    let nics = taps.iter().map(nic);
    let mut arguments: Vec<String> = words
        .into_iter()
        .chain(nics)
        .collect::<Vec<_>>()
        .iter()
        .flat_map(|line| line.split(' '))
        .map(str::to_owned)
        .collect();
    // Without an early frequency a busy host's guest hangs in timer calibration.
    let tsc_khz = crate::sys::tsc_khz();
    let words = Kernel::of(image.kind).words;
    let transports = if image.kind == KernelKind::Built {
        transports()
    } else {
        String::new()
    };
    // Holds blanks.
    arguments.extend([
        "-append".into(),
        format!("{CMDLINE} {words} tsc_early_khz={tsc_khz}{transports}"),
    ]);
    arguments
}

fn nic(device: &TapDevice) -> String {
    let TapDevice { mac, queues } = device;
    let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let mac = octets.join(":");
    let numbers: Vec<String> = queues.iter().map(i32::to_string).collect();
    let id = numbers.first().cloned().unwrap_or_default();
    let (word, mq) = if queues.len() > 1 {
        ("fds", "on")
    } else {
        ("fd", "off")
    };
    let numbers = numbers.join(":");
    format!(
        "-netdev tap,id=tap{id},{word}={numbers} -device virtio-net-device,netdev=tap{id},mac={mac},mq={mq}"
    )
}

/// What a kernel needs of QEMU.
struct Kernel {
    firmware: &'static str,
    console_device: &'static str,
    words: &'static str,
}

impl Kernel {
    const fn of(kind: KernelKind) -> Self {
        match kind {
            // Emulated CPUs have no deadline timer; without ACPI the kernel
            // then insists on the old interrupt controller and timer.
            KernelKind::Built => Self {
                firmware: "acpi=off,pit=on,pic=on,isa-serial=off",
                console_device: "-device virtio-serial-device,max_ports=1 -device virtconsole,chardev=console",
                words: "console=hvc0 8250.nr_uarts=0",
            },
            // Its virtio console is a module, and the agent, which loads it,
            // can't start without a console.
            KernelKind::Stock => Self {
                firmware: "acpi=on,pit=off,pic=off,isa-serial=on",
                console_device: "-serial chardev:console",
                words: "console=ttyS0",
            },
        }
    }
}

/// microvm's virtio-mmio transports, which a kernel without ACPI must be told of.
fn transports() -> String {
    (0..8)
        .map(|n| {
            format!(
                " virtio_mmio.device=512@{:#x}:{}",
                0xfeb0_0000u32 + n * 512,
                5 + n
            )
        })
        .collect()
}
