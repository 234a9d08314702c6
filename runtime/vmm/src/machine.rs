//! One machine, from its spec to its end, in order.
//!
//! Everything here happens before the first guest instruction but the last step of
//! [`Machine::run`].

use std::fs::File;
use std::io;
use std::sync::{Arc, Barrier};

use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::arch::{self, Images};
use crate::assembly::{self, Assembly};
use crate::control::Exit;
use crate::event_loop::{AnnounceError, EventLoop};
use crate::gate::Gate;
use crate::mailbox::{Inbox, mailbox};
use crate::memory;
use crate::owner::Owner;
use crate::seccomp;
use crate::slots::Slots;
use crate::spec::{DescriptorNumber, MachineSpec};
use crate::sys::{self, Inherited, TakeError};
use crate::vcpu::Vcpu;
use crate::vcpus::{self, Vcpus};
use crate::virtio::mmio::RegisterWindow;

/// `KVM_MEM_READONLY`
const READ_ONLY: u32 = 1 << 1;

/// Why a machine did not come to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A descriptor of the spec is wrong.
    #[error("take a descriptor of the spec")]
    Descriptor(#[from] TakeError),
    /// No guest memory.
    #[error("set up guest memory")]
    Memory(#[from] memory::Error),
    /// KVM refused a step.
    #[error("{step}")]
    Kvm {
        /// What was asked of KVM.
        step: &'static str,
        /// Its answer.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// KVM refused a step that is the architecture's.
    #[error(transparent)]
    Architecture(#[from] arch::SetUpError),
    /// The guest can't be loaded.
    #[error(transparent)]
    Load(#[from] arch::LoadError),
    /// A device can't be made.
    #[error("set up the devices")]
    Devices(#[from] assembly::Error),
    /// The process can't be prepared.
    #[error("prepare the process")]
    Process(#[from] io::Error),
    /// The process can't be confined.
    #[error("confine the process")]
    Jail(#[from] caisson_jail::Error),
    /// The filters can't be installed.
    #[error("filter system calls")]
    Seccomp(#[from] seccomp::Error),
    /// The vCPU threads can't be started.
    #[error(transparent)]
    Vcpus(#[from] vcpus::StartError),
    /// The owner is gone.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
}

/// A machine that is ready to run.
pub(crate) struct Machine {
    /// Closing it would take the interrupt lines away, even from running vCPUs.
    vm: VmFd,
    vcpus: Vec<Vcpu>,
    /// Where they wait while the machine is paused.
    gate: Arc<Gate>,
    inbox: Inbox,
    slots: Slots,
    vhost_net: bool,
}

impl Machine {
    /// Builds the machine that `spec` describes, from the descriptors it names.
    pub(crate) fn build(spec: &MachineSpec, inherited: &mut Inherited) -> Result<Self, Error> {
        let memory_file = take_file(inherited, spec.memory_fd)?;
        let mem = memory::map(memory_file, spec.mem_mib)?;
        let kvm = sys::adopt_kvm(inherited.take(spec.kvm_fd)?);
        let vm = create_vm(&kvm, &mem)?;

        let window = RegisterWindow::new(spec.devices.slots()).map_err(memory::Error::Map)?;
        let memory_slot = u32::try_from(mem.num_regions()).unwrap_or(u32::MAX);
        sys::map_memory(&vm, memory_slot, window.region(), READ_ONLY)
            .map_err(refused("map the device registers"))?;
        let (bus, slots) =
            Assembly::new(&vm, &window, inherited)?.attach_all(&spec.devices, spec.vcpus)?;
        let bus = Arc::new(bus);

        let kernel = take_file(inherited, spec.kernel_fd)?;
        let initramfs = take_file(inherited, spec.initramfs_fd)?;
        let entry = arch::load_guest(spec, Images { kernel, initramfs }, &mem)?;
        let (mailbox, inbox) = mailbox()?;
        let cpus = arch::create_cpus(&kvm, &vm, spec.vcpus, entry)?;
        let gate = Arc::new(Gate::default());
        let vcpus = cpus.into_iter().map(sys::share_immediate_exit);
        let vcpus = vcpus.map(|(fd, immediate_exit)| Vcpu {
            fd,
            immediate_exit,
            gate: Arc::clone(&gate),
            bus: Arc::clone(&bus),
            mailbox: mailbox.clone(),
            mem: mem.clone(),
        });
        Ok(Self {
            vm,
            vcpus: vcpus.collect(),
            gate,
            inbox,
            slots: Slots::new(slots, bus, mem),
            vhost_net: spec.devices.vhost_net,
        })
    }

    /// Drops the last rights, runs the guest and serves it to its end, which is
    /// reported to `owner` and returned.
    pub(crate) fn run(self, owner: &mut Owner) -> Result<Exit, Error> {
        let start = Arc::new(Barrier::new(self.vcpus.len() + 1));
        let vcpus = Vcpus::start(self.vcpus, self.gate, &start)?;
        let mut event_loop = EventLoop::new(self.inbox, owner, self.slots, vcpus)?;
        seccomp::device_filter(self.vhost_net)?.install()?;
        // Once for "all are filtered", once for "run the guest".
        start.wait();
        event_loop.announce()?;
        start.wait();
        let exit = event_loop.run();
        drop(self.vm);
        Ok(exit)
    }
}

fn create_vm(kvm: &Kvm, mem: &GuestMemoryMmap) -> Result<VmFd, Error> {
    let vm = kvm.create_vm().map_err(refused("create a VM"))?;
    arch::prepare_vm(&vm)?;
    for (memory_slot, region) in (0..).zip(mem.iter()) {
        sys::map_memory(&vm, memory_slot, region, 0).map_err(refused("map guest memory"))?;
    }
    Ok(vm)
}

fn take_file(inherited: &mut Inherited, number: DescriptorNumber) -> Result<File, TakeError> {
    inherited.take(number).map(File::from)
}

fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Kvm { step, source }
}
