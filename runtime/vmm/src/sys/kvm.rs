//! The calls into KVM that trust addresses of this process.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::AtomicU8;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};

/// Uses an open `/dev/kvm`.
pub(crate) fn adopt_kvm(descriptor: OwnedFd) -> Kvm {
    // SAFETY: ownership of an open descriptor moves from `OwnedFd` to `Kvm`. If it is
    // not /dev/kvm, its requests fail.
    unsafe { Kvm::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Makes `region` the guest's memory in KVM's memory slot `memory_slot`, with `flags` as in
/// KVM_SET_USER_MEMORY_REGION.
///
/// The mapping is leaked: KVM uses it until the process ends.
pub(crate) fn map_memory(
    vm: &VmFd,
    memory_slot: u32,
    region: &GuestRegionMmap,
    flags: u32,
) -> Result<(), kvm_ioctls::Error> {
    let mapping = region.get_mmap();
    let description = kvm_userspace_memory_region {
        slot: memory_slot,
        flags,
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: mapping.as_ptr() as u64,
    };
    std::mem::forget(mapping);
    // SAFETY: address and length are those of a mapping that stays for the rest of the
    // process, since one count of its `Arc` was just forgotten. Only volatile and atomic
    // accesses are made to it from this process.
    unsafe { vm.set_user_memory_region(description) }
}

/// The vCPU for its thread, and `kvm_run.immediate_exit` for those who interrupt it.
///
/// The vCPU is leaked: it is used until the process ends.
pub(crate) fn share_immediate_exit(vcpu: VcpuFd) -> (&'static mut VcpuFd, &'static AtomicU8) {
    let vcpu = Box::leak(Box::new(vcpu));
    let immediate_exit = &raw mut vcpu.get_kvm_run().immediate_exit;
    // SAFETY: (1) a byte is aligned for an atomic; (2) it lies in the mapping of `kvm_run`,
    // which stays, as the vCPU is never dropped; (3) KVM only reads it, and the crate
    // kvm-ioctls touches it in `set_kvm_immediate_exit` only, which nothing here calls.
    let immediate_exit = unsafe { AtomicU8::from_ptr(immediate_exit) };
    (vcpu, immediate_exit)
}

/// After KVM_EXIT_INTERNAL_ERROR: its kind and data (KVM API, `kvm_run.internal`).
pub(crate) fn internal_error(vcpu: &mut VcpuFd) -> (u32, Vec<u64>) {
    // SAFETY: KVM has filled this member for this exit; for any other it holds plain
    // integers just as well.
    let internal = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal };
    let len = usize::try_from(internal.ndata).unwrap_or(0);
    let data = internal.data.iter().take(len).copied().collect();
    (internal.suberror, data)
}
