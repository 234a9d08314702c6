//! The CPUID leaves of the guest's CPUs.
//!
//! Everything KVM can give is passed on, so that leaves which belong together (the
//! state components of leaf 0xd and their features) stay so. Changed are only the
//! topology, which KVM doesn't know, and features it can't finish alone.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::{Cap, Kvm};

const BASICS: u32 = 0x1;
const CACHES: u32 = 0x4;
const PERFORMANCE_COUNTERS: u32 = 0xa;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_2: u32 = 0x1f;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_TOPOLOGY: u32 = 0x8000_001e;

const ECX_PDCM: u32 = 1 << 15;
const ECX_X2APIC: u32 = 1 << 21;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HTT: u32 = 1 << 28;
const CLFLUSH_QUADWORDS: u32 = 8;

/// Topology level types of leaf 0xb.
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// The leaves for all CPUs of a machine, but for what differs between them.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    entries: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

impl Template {
    /// Asks KVM once for a machine of `vcpus` CPUs.
    pub(crate) fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, kvm_ioctls::Error> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
        let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self::from_supported(
            supported.as_slice(),
            vcpus,
            tsc_deadline,
        ))
    }

    fn from_supported(supported: &[kvm_cpuid_entry2], vcpus: u8, tsc_deadline: bool) -> Self {
        let own = |entry: &kvm_cpuid_entry2| [TOPOLOGY, TOPOLOGY_2].contains(&entry.function);
        let mut entries: Vec<_> = supported
            .iter()
            .filter(|entry| !own(entry))
            .copied()
            .collect();
        let deadline = if tsc_deadline { ECX_TSC_DEADLINE } else { 0 };
        let several = if vcpus > 1 { EDX_HTT } else { 0 };
        for entry in &mut entries {
            match entry.function {
                BASICS => {
                    entry.ecx &= !ECX_PDCM;
                    entry.ecx |= ECX_HYPERVISOR | ECX_X2APIC | deadline;
                    entry.edx |= several;
                }
                PERFORMANCE_COUNTERS => {
                    (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
                }
                // Cores of the package in bits 31:26; no cache is shared by threads.
                CACHES if entry.eax & 0x1f != 0 => {
                    entry.eax = entry.eax & 0x3fff | (u32::from(vcpus) - 1) << 26;
                }
                AMD_SIZES => {
                    entry.ecx = id_bits(vcpus) << 12 | (u32::from(vcpus) - 1);
                }
                _ => {}
            }
        }
        entries.extend(topology(vcpus));
        Self { entries, vcpus }
    }

    /// The leaves of CPU `id`.
    pub(crate) fn for_cpu(&self, id: u8) -> Result<CpuId, vmm_sys_util::fam::Error> {
        let id = u32::from(id);
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            match entry.function {
                BASICS => {
                    entry.ebx = entry.ebx & 0xff | id << 24;
                    entry.ebx |= u32::from(self.vcpus) << 16 | CLFLUSH_QUADWORDS << 8;
                }
                TOPOLOGY => entry.edx = id,
                // One thread per core, one node.
                AMD_TOPOLOGY => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
                _ => {}
            }
        }
        CpuId::from_entries(&entries)
    }
}

/// Leaf 0xb: single-threaded cores of one package.
fn topology(vcpus: u8) -> [kvm_cpuid_entry2; 2] {
    let level = |index, level_type, shift, processors| kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: level_type << 8 | index,
        ..Default::default()
    };
    [
        level(0, LEVEL_SMT, 0, 1),
        level(1, LEVEL_CORE, id_bits(vcpus), u32::from(vcpus)),
    ]
}

/// Bits that number `vcpus` CPUs.
fn id_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax,
            ecx,
            ..Default::default()
        }
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let mut entries = cpuid.as_slice().iter();
        *entries
            .find(|entry| entry.function == function && entry.index == index)
            .unwrap()
    }

    #[test]
    fn cpus_differ_in_their_number_only() {
        let supported = [leaf(BASICS, 0, ECX_PDCM), leaf(0xd, 7, 0x240)];
        let template = Template::from_supported(&supported, 6, true);
        let cpuid = template.for_cpu(5).unwrap();
        let basics = find(&cpuid, BASICS, 0);
        assert_eq!(basics.ebx, 5 << 24 | 6 << 16 | 8 << 8);
        assert_eq!(basics.ecx, ECX_HYPERVISOR | ECX_X2APIC | ECX_TSC_DEADLINE);
        assert_eq!(find(&cpuid, 0xd, 0), leaf(0xd, 7, 0x240));
        let cores = find(&cpuid, TOPOLOGY, 1);
        assert_eq!((cores.eax, cores.ebx, cores.edx), (3, 6, 5));
    }

    #[test]
    fn performance_counters_are_hidden() {
        let template = Template::from_supported(&[leaf(0xa, 0x0830_0805, 1)], 1, false);
        let cpuid = template.for_cpu(0).unwrap();
        assert_eq!(find(&cpuid, 0xa, 0), leaf(0xa, 0, 0));
    }

    #[test]
    fn numbers_need_as_many_bits_as_there_are_cpus() {
        assert_eq!([1, 2, 3, 4, 5, 64].map(id_bits), [0, 1, 2, 2, 3, 6]);
    }
}
