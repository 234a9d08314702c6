//! KVM's own parts of the machine, and its vCPUs before their first instruction.

use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::layout::KVM_TSS;
use super::{cpuid, registers};

/// KVM does not give what this machine needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// It refused a step.
    #[error("{step}")]
    Kvm {
        /// What was asked of KVM.
        step: &'static str,
        /// Its error.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// More CPU features than it takes.
    #[error("too many CPU features")]
    Leaves,
}

/// Puts TSS pages and interrupt controllers into a new VM, before it has vCPUs.
pub(crate) fn prepare_vm(vm: &VmFd) -> Result<(), SetUpError> {
    vm.set_tss_address(KVM_TSS)
        .map_err(refused("place KVM's own pages"))?;
    vm.create_irq_chip()
        .map_err(refused("create the interrupt controllers"))
}

/// Makes `count` vCPUs, of which the first begins at `entry`.
pub(crate) fn create_cpus(
    kvm: &Kvm,
    vm: &VmFd,
    count: u8,
    entry: u64,
) -> Result<Vec<VcpuFd>, SetUpError> {
    let template = cpuid::Template::new(kvm, count).map_err(refused("ask for CPU features"))?;
    let create = |id: u8| {
        let cpu = vm
            .create_vcpu(id.into())
            .map_err(refused("create a vCPU"))?;
        let leaves = template.for_cpu(id).map_err(|_| SetUpError::Leaves)?;
        cpu.set_cpuid2(&leaves)
            .map_err(refused("set CPU features"))?;
        registers::set_msrs(&cpu).map_err(refused("set model-specific registers"))?;
        if id == 0 {
            registers::set_entry(&cpu, entry).map_err(refused("set registers"))?;
        }
        Ok(cpu)
    };
    (0..count).map(create).collect()
}

fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> SetUpError {
    move |source| SetUpError::Kvm { step, source }
}
