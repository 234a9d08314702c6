//! `MachineSpec`: the whole wish for one virtual machine, as plain data.
//!
//! Owns the knobs and their limits; a spec with an invalid value can't be
//! deserialized. Opens nothing: every file is named by a descriptor that the
//! owner passes down. Read by `caisson-vmm` and by the owner's QEMU launcher.

use serde::{Deserialize, Serialize};

/// Number of an inherited descriptor in the process that reads the spec.
pub type DescriptorNumber = i32;

/// Most virtual CPUs a machine can have (the guest kernel's `NR_CPUS`).
pub const MAX_VCPUS: u8 = 64;
/// Least guest memory with which the kernel and agent start, in MiB.
pub const MIN_MEM_MIB: u32 = 48;
/// Most guest memory, in MiB (1 TiB).
pub const MAX_MEM_MIB: u32 = 1024 * 1024;
/// virtio-mmio slots a machine has at most (one interrupt line each, GSI 5 to 23).
pub const MAX_SLOTS: usize = 19;

/// Most pairs of queues of a network interface: each costs every machine kick
/// descriptors for interfaces that may never come.
const MAX_QUEUE_PAIRS: u8 = 4;

/// Pairs of queues that a network interface can have in a machine with so many vCPUs.
#[must_use]
pub const fn queue_pairs(vcpus: u8) -> u8 {
    match vcpus {
        0 => 1,
        MAX_QUEUE_PAIRS.. => MAX_QUEUE_PAIRS,
        vcpus => vcpus,
    }
}

/// A value in a machine spec that no machine can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Zero or too many CPUs.
    #[error("a machine has 1 to {MAX_VCPUS} vCPUs, not {0}")]
    Vcpus(u8),
    /// Too little or too much memory.
    #[error("a machine has {MIN_MEM_MIB} to {MAX_MEM_MIB} MiB of memory, not {0}")]
    Memory(u32),
    /// More devices and placeholders than slots.
    #[error("a machine has at most {MAX_SLOTS} virtio slots, not {0}")]
    Slots(usize),
}

/// One virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Unchecked")]
pub struct MachineSpec {
    /// Virtual CPUs that are present at boot.
    pub vcpus: u8,
    /// Guest memory in MiB; the length of `memory_fd`.
    pub mem_mib: u32,
    /// The memfd that is the guest's memory, shared with vhost-user back ends.
    pub memory_fd: DescriptorNumber,
    /// `/dev/kvm`, opened by the owner.
    pub kvm_fd: DescriptorNumber,
    /// Uncompressed ELF vmlinux with a PVH entry note.
    pub kernel_fd: DescriptorNumber,
    /// Plain newc cpio archive.
    pub initramfs_fd: DescriptorNumber,
    /// Kernel command line, without the words that announce devices.
    pub cmdline: String,
    /// How the guest learns of its CPUs, interrupt lines and slots.
    pub description: Description,
    /// Control socket towards the owner (`control`).
    pub control_fd: DescriptorNumber,
    /// The machine's devices.
    pub devices: Devices,
}

/// How a guest learns of what it can't probe for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Description {
    /// An MP table, and command line words for the slots: caisson's kernel.
    #[default]
    MpTable,
    /// ACPI tables: kernels of distributions.
    Acpi,
}

/// Devices, in slot order: fs, vsock, console, rng, balloon, blocks, placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// Shared directories.
    pub fs: Option<FsSpec>,
    /// Streams to the owner.
    pub vsock: Option<VsockSpec>,
    /// The guest's console, output only.
    pub console: Option<ConsoleSpec>,
    /// Entropy source.
    pub rng: bool,
    /// Balloon with free-page reporting: unused guest memory goes back to the host.
    pub balloon: bool,
    /// Disks.
    pub blocks: Vec<BlockSpec>,
    /// Empty slots that devices can be plugged into while the machine runs.
    pub placeholders: u8,
    /// Network interfaces that are plugged may be served by the host's kernel.
    pub vhost_net: bool,
}

impl Devices {
    /// Slots used, placeholders included.
    #[must_use]
    pub fn slots(&self) -> usize {
        let single = [
            self.fs.is_some(),
            self.vsock.is_some(),
            self.console.is_some(),
            self.rng,
            self.balloon,
        ];
        let present = single.into_iter().filter(|present| *present).count();
        present + self.blocks.len() + usize::from(self.placeholders)
    }
}

/// A virtio-fs device whose back end is another process (virtio 1.3, 5.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsSpec {
    /// Mount tag, at most 36 bytes.
    pub tag: String,
    /// Connected vhost-user socket.
    pub socket_fd: DescriptorNumber,
}

/// A vsock device (virtio 1.3, 5.10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockSpec {
    /// The guest's address.
    pub guest_cid: u32,
    /// SOCK_SEQPACKET socket over which new connections reach the owner: each
    /// packet is a port (u32, little endian) with one stream descriptor.
    pub channel_fd: DescriptorNumber,
}

/// A single-port console (virtio 1.3, 5.3), output only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSpec {
    /// Where the guest's bytes go; never blocked on, bytes are dropped when full.
    pub output_fd: DescriptorNumber,
}

/// A disk (virtio 1.3, 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSpec {
    /// Raw image: a file or a block device.
    pub fd: DescriptorNumber,
    /// Writes are refused.
    pub read_only: bool,
    /// Serial number shown to the guest, at most 20 bytes.
    pub serial: String,
}

/// `MachineSpec` as it was written, before its limits are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    vcpus: u8,
    mem_mib: u32,
    memory_fd: DescriptorNumber,
    kvm_fd: DescriptorNumber,
    kernel_fd: DescriptorNumber,
    initramfs_fd: DescriptorNumber,
    cmdline: String,
    #[serde(default)]
    description: Description,
    control_fd: DescriptorNumber,
    devices: Devices,
}

impl MachineSpec {
    /// Every descriptor the spec names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<DescriptorNumber> {
        let devices = &self.devices;
        let mut numbers = vec![
            self.memory_fd,
            self.kvm_fd,
            self.kernel_fd,
            self.initramfs_fd,
            self.control_fd,
        ];
        numbers.extend(devices.fs.as_ref().map(|fs| fs.socket_fd));
        numbers.extend(devices.vsock.as_ref().map(|vsock| vsock.channel_fd));
        numbers.extend(devices.console.as_ref().map(|console| console.output_fd));
        numbers.extend(devices.blocks.iter().map(|block| block.fd));
        numbers
    }
}

impl TryFrom<Unchecked> for MachineSpec {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self, Error> {
        if raw.vcpus == 0 || raw.vcpus > MAX_VCPUS {
            return Err(Error::Vcpus(raw.vcpus));
        }
        if !(MIN_MEM_MIB..=MAX_MEM_MIB).contains(&raw.mem_mib) {
            return Err(Error::Memory(raw.mem_mib));
        }
        let slots = raw.devices.slots();
        if slots > MAX_SLOTS {
            return Err(Error::Slots(slots));
        }
        Ok(Self {
            vcpus: raw.vcpus,
            mem_mib: raw.mem_mib,
            memory_fd: raw.memory_fd,
            kvm_fd: raw.kvm_fd,
            kernel_fd: raw.kernel_fd,
            initramfs_fd: raw.initramfs_fd,
            cmdline: raw.cmdline,
            description: raw.description,
            control_fd: raw.control_fd,
            devices: raw.devices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_pair_of_queues_for_each_vcpu_within_reason() {
        let pairs = [0, 1, 2, 4, 5, MAX_VCPUS].map(queue_pairs);
        assert_eq!(pairs, [1, 1, 2, 4, 4, 4]);
    }
}
