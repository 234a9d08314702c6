//! A guest of two instructions: whether KVM runs guests on this host.
//!
//! Owns that guest alone. It is set up by the steps of a real machine (memory, interrupt
//! controllers, CPU features, registers) and runs in the process that asks, which examines
//! the host and holds nothing of a container. Sets no time limit: that is the caller's.

use std::os::fd::OwnedFd;

use kvm_ioctls::{VcpuExit, VmFd};
use nix::errno::Errno;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::{arch, sys};

/// Bytes of its memory, which begins at 0.
const MEMORY_LEN: usize = 0x2000;
/// Where it begins.
const ENTRY: u64 = 0x1000;
const PORT: u16 = 0xe9;
const VALUE: u8 = 0x2a;
/// `mov al, VALUE; out PORT, al`
const CODE: [u8; 4] = [0xb0, VALUE, 0xe6, 0xe9];

/// Why the guest did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM refused a step.
    #[error("{step}")]
    Kvm {
        /// What was asked of it.
        step: &'static str,
        /// Its error.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// KVM refused a vCPU or its registers.
    #[error("{0}")]
    SetUp(String),
    /// The guest's memory can't be had.
    #[error("make the guest's memory: {0}")]
    Memory(String),
    /// It left the guest for another reason than the guest's second instruction.
    #[error("KVM left the guest with {0}")]
    Exit(String),
}

/// Runs the guest on an open `/dev/kvm`, to its end.
///
/// # Errors
/// When KVM refuses a step, or the guest does not do what it should.
pub fn run_tiny_guest(kvm: OwnedFd) -> Result<(), Error> {
    let kvm = sys::adopt_kvm(kvm);
    let vm = kvm.create_vm().map_err(refused("create a VM"))?;
    map_code(&vm)?;
    arch::prepare_vm(&vm).map_err(|err| set_up(&err))?;
    let cpus = arch::create_cpus(&kvm, &vm, 1, ENTRY).map_err(|err| set_up(&err))?;
    for mut cpu in cpus {
        loop {
            match cpu.run() {
                Ok(VcpuExit::IoOut(PORT, [VALUE])) => break,
                Ok(exit) => return Err(Error::Exit(format!("{exit:?}"))),
                Err(err) if Errno::from_raw(err.errno()) == Errno::EINTR => {}
                Err(source) => return Err(refused("run a vCPU")(source)),
            }
        }
    }
    Ok(())
}

fn map_code(vm: &VmFd) -> Result<(), Error> {
    let mem = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_LEN)])
        .map_err(|err| Error::Memory(err.to_string()))?;
    mem.write_slice(&CODE, GuestAddress(ENTRY))
        .map_err(|err| Error::Memory(err.to_string()))?;
    for region in mem.iter() {
        sys::map_memory(vm, 0, region, 0).map_err(refused("give memory to the VM"))?;
    }
    Ok(())
}

fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Kvm { step, source }
}

fn set_up(error: &arch::SetUpError) -> Error {
    Error::SetUp(crate::error_chain::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What emulated virtualization makes of it depends on the host.
    #[test]
    fn the_tiny_guest_runs_where_the_cpu_virtualizes() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let virtualizes = cpuinfo.split_whitespace().any(|w| w == "svm" || w == "vmx");
        let mut options = std::fs::File::options();
        let Ok(kvm) = options.read(true).write(true).open("/dev/kvm") else {
            return;
        };
        let ran = run_tiny_guest(kvm.into());
        assert!(!virtualizes || ran.is_ok(), "{ran:?}");
    }

    #[test]
    fn another_file_is_not_kvm() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let err = run_tiny_guest(null.into()).unwrap_err();
        assert_eq!(err.to_string(), "create a VM");
    }
}
