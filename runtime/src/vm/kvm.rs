//! A machine on KVM: the process `caisson-vmm`.
//!
//! Owns its start and the reading of its reports. What a machine is made of
//! stands in `caisson_vmm::spec`.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{self, Sender};

use caisson_protocol::{GUEST_CID, SHARE_TAG};
use caisson_vmm::control::{Exit, MAX_PACKET_LEN, Report};
use caisson_vmm::spec::{
    ConsoleSpec, Description, Devices, FsSpec, MachineSpec, VsockSpec, queue_pairs,
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use crate::config::installation::{Installation, KernelKind};
use crate::process::program::{ProcessKiller, Program, Running};
use crate::process::step;
use crate::vm::error::Error;
use crate::vm::hypervisor_parts::Parts;
use crate::vm::kernel;
use crate::vm::nics::{Offer, Plugged};

/// The guest ends by writing the keyboard controller's reset line; whether it
/// panicked stands in its memory (`reboot=` words of the kernel's parameters).
const CMDLINE: &str = "quiet panic=-1 reboot=k,panic_warm console=hvc0 8250.nr_uarts=0 \
                       random.trust_cpu=on tsc=reliable cryptomgr.notests";
/// Slots left free for devices that come later: so many network interfaces can be had.
const PLACEHOLDERS: u8 = 6;

/// A machine that `caisson-vmm` runs.
#[derive(Debug)]
pub(crate) struct Machine {
    vmm: Running,
    control: OwnedFd,
    /// Where answers to requests go.
    answers: Sender<Report>,
}

impl Machine {
    pub(crate) fn start(
        installation: &Installation,
        parts: Parts,
    ) -> Result<(Self, Plugged), Error> {
        let kernel = kernel::open(&parts.image)?;
        let initramfs =
            File::open(&parts.image.initramfs).map_err(step("open the guest's initramfs"))?;
        let kvm = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .map_err(step("open /dev/kvm"))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (control, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| step("make a socket pair")(errno.into()))?;

        let description = match parts.image.kind {
            KernelKind::Stock => Description::Acpi,
            KernelKind::Built => Description::MpTable,
        };
        let mut program = Program::new(installation.helper("caisson-vmm")?);
        let spec = MachineSpec {
            vcpus: parts.vcpus,
            mem_mib: parts.mem_mib,
            memory_fd: program.pass(parts.memory),
            kvm_fd: program.pass(kvm),
            kernel_fd: program.pass(kernel),
            initramfs_fd: program.pass(initramfs),
            cmdline: CMDLINE.to_owned(),
            description,
            control_fd: program.pass(far),
            devices: Devices {
                fs: Some(FsSpec {
                    tag: SHARE_TAG.to_owned(),
                    socket_fd: program.pass(parts.fs),
                }),
                vsock: Some(VsockSpec {
                    guest_cid: GUEST_CID,
                    channel_fd: program.pass(parts.vsock_channel),
                }),
                console: Some(ConsoleSpec {
                    output_fd: program.pass(parts.console),
                }),
                rng: true,
                balloon: true,
                blocks: Vec::new(),
                placeholders: PLACEHOLDERS,
                vhost_net: parts.vhost_net,
            },
        };
        let (answers, answered) = mpsc::channel();
        let requests = control.try_clone().map_err(step("share a socket"))?;
        let machine = Self {
            vmm: program.spawn(&spec)?,
            control,
            answers,
        };
        let offer = Offer {
            most: PLACEHOLDERS,
            queue_pairs: queue_pairs(parts.vcpus),
            vhost: parts.vhost_net,
        };
        Ok((machine, Plugged::new(requests, answered, offer)))
    }

    pub(crate) fn killers(&self) -> Result<Vec<ProcessKiller>, Error> {
        Ok(vec![self.vmm.killer()?])
    }

    /// Reads reports until the last; a process that dies without one has failed.
    pub(crate) fn wait(self) -> Exit {
        let mut packet = vec![0; MAX_PACKET_LEN];
        let reported = loop {
            let length = match recv(self.control.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                Ok(0) | Err(_) => break None,
                Ok(length) => length,
            };
            match packet.get(..length).map(serde_json::from_slice::<Report>) {
                Some(Ok(Report::Exit { reason })) => break Some(reason),
                Some(Ok(answer @ (Report::Done { .. } | Report::Failed { .. }))) => {
                    // Who asked may have given up.
                    self.answers.send(answer).ok();
                }
                _ => {}
            }
        };
        let ending = self.vmm.wait();
        reported.unwrap_or_else(|| Exit::Error {
            message: ending.to_string(),
        })
    }
}
