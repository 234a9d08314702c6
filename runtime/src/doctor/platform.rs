//! On what this host runs: its own hardware, or a VM of somebody else, by whose name.
//!
//! Owns the table of hypervisors and clouds, and how each is told to nest. Reads the
//! firmware's strings (DMI), /sys/hypervisor, the CPU's flag `hypervisor` and the kernel's
//! clocks; executes nothing.

use crate::doctor::HostView;

/// What runs this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) name: &'static str,
    /// How to have it pass hardware virtualization on.
    pub(super) nesting_fix: &'static str,
}

const FIRMWARE: &str = "enable virtualization (Intel VT-x or AMD SVM) in the firmware settings, then `modprobe kvm_intel` or `modprobe kvm_amd`";
const OTHER_MACHINE: &str =
    "use a machine or instance type with nested virtualization, or a bare-metal one";

const UNKNOWN: Platform = platform("an unknown hypervisor", OTHER_MACHINE);
const WSL: Platform = platform(
    "WSL 2",
    "write `nestedVirtualization=true` below `[wsl2]` in .wslconfig of Windows, then `wsl --shutdown`",
);
const XEN: Platform = platform(
    "Xen",
    "set `nestedhvm=1` in the configuration of this VM, or use a machine without Xen",
);
const XEN_DOM0: Platform = platform(
    "Xen (dom0)",
    "boot Linux without Xen: KVM and Xen can't share the CPU",
);
const HYPER_V: Platform = platform(
    "Hyper-V",
    "with the VM stopped, on its host: `Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true`",
);
const AZURE: Platform = platform(
    "Azure",
    "use a size with nested virtualization, such as Dv5 or Ev5, with security type Standard",
);
const KVM: Platform = platform(
    "KVM",
    "on the host: `modprobe -r kvm_intel; modprobe kvm_intel nested=1` (kvm_amd likewise), and start this VM with `-cpu host`",
);
const EC2: Platform = platform(
    "Amazon EC2",
    "use a metal instance (such as c5.metal), or a type and option with nested virtualization",
);

const fn platform(name: &'static str, nesting_fix: &'static str) -> Platform {
    Platform { name, nesting_fix }
}

/// Files below /sys/class/dmi/id that name who made this machine.
const FIELDS: [&str; 5] = [
    "sys_vendor",
    "product_name",
    "board_vendor",
    "bios_vendor",
    "chassis_asset_tag",
];

/// A field, how its text begins, and what that means. The first that fits counts: clouds
/// come before the hypervisor that they use.
const TABLE: &[(&str, &str, Platform)] = &[
    (
        "chassis_asset_tag",
        "7783-7084-3265-9085-8269-3286-77",
        AZURE,
    ),
    (
        "chassis_asset_tag",
        "OracleCloud.com",
        platform("Oracle Cloud", OTHER_MACHINE),
    ),
    ("sys_vendor", "Amazon EC2", EC2),
    ("bios_vendor", "Amazon EC2", EC2),
    (
        "product_name",
        "Google Compute Engine",
        platform(
            "Google Compute Engine",
            "create the instance with `--enable-nested-virtualization`",
        ),
    ),
    (
        "sys_vendor",
        "Google",
        platform(
            "Google Compute Engine",
            "create the instance with `--enable-nested-virtualization`",
        ),
    ),
    (
        "sys_vendor",
        "DigitalOcean",
        platform("DigitalOcean", OTHER_MACHINE),
    ),
    (
        "sys_vendor",
        "Hetzner",
        platform("Hetzner Cloud", OTHER_MACHINE),
    ),
    ("sys_vendor", "Vultr", platform("Vultr", OTHER_MACHINE)),
    ("sys_vendor", "Linode", platform("Linode", OTHER_MACHINE)),
    ("sys_vendor", "Akamai", platform("Linode", OTHER_MACHINE)),
    (
        "sys_vendor",
        "Scaleway",
        platform("Scaleway", OTHER_MACHINE),
    ),
    (
        "sys_vendor",
        "Alibaba Cloud",
        platform("Alibaba Cloud", OTHER_MACHINE),
    ),
    (
        "sys_vendor",
        "Tencent Cloud",
        platform("Tencent Cloud", OTHER_MACHINE),
    ),
    ("sys_vendor", "UpCloud", platform("UpCloud", OTHER_MACHINE)),
    (
        "sys_vendor",
        "Exoscale",
        platform("Exoscale", OTHER_MACHINE),
    ),
    (
        "sys_vendor",
        "OpenStack",
        platform("OpenStack", KVM.nesting_fix),
    ),
    (
        "product_name",
        "OpenStack",
        platform("OpenStack", KVM.nesting_fix),
    ),
    (
        "sys_vendor",
        "VMware",
        platform(
            "VMware",
            "with the VM stopped, tick \"Expose hardware assisted virtualization to the guest OS\" (`vhv.enable = \"TRUE\"` in its .vmx)",
        ),
    ),
    (
        "product_name",
        "VirtualBox",
        platform(
            "VirtualBox",
            "with the VM stopped, on its host: `VBoxManage modifyvm NAME --nested-hw-virt on`",
        ),
    ),
    ("product_name", "Virtual Machine", HYPER_V),
    (
        "sys_vendor",
        "Parallels",
        platform(
            "Parallels",
            "with the VM stopped, enable nested virtualization in its CPU settings",
        ),
    ),
    ("product_name", "BHYVE", platform("bhyve", OTHER_MACHINE)),
    (
        "sys_vendor",
        "Nutanix",
        platform("Nutanix AHV", OTHER_MACHINE),
    ),
    ("sys_vendor", "Xen", XEN),
    ("bios_vendor", "Xen", XEN),
    ("sys_vendor", "QEMU", KVM),
    ("product_name", "KVM", KVM),
    ("product_name", "RHEV", KVM),
    ("product_name", "oVirt", KVM),
];

/// Returns what this host runs on; nothing on bare metal.
pub(super) fn detect(host: &HostView) -> Option<Platform> {
    let flagged = has_flag(host, "hypervisor");
    let named = TABLE.iter().find(|(field, start, _)| {
        let text = host.text(format!("/sys/class/dmi/id/{field}"));
        text.is_some_and(|text| text.starts_with(start))
    });
    let release = host.text("/proc/sys/kernel/osrelease");
    if release.is_some_and(|text| text.to_lowercase().contains("microsoft")) {
        return Some(WSL);
    }
    if host.text("/sys/hypervisor/type").as_deref() == Some("xen") {
        let rights = host.text("/proc/xen/capabilities").unwrap_or_default();
        if rights.contains("control_d") {
            return Some(XEN_DOM0);
        }
        return Some(named.map_or(XEN, |(_, _, platform)| *platform));
    }
    match named {
        // Clouds and vendors also rent and sell hardware, with the same names.
        Some((_, _, platform)) if flagged || !may_be_hardware(platform) => Some(*platform),
        _ if flagged => Some(by_clock(host)),
        _ => None,
    }
}

/// The strings of the firmware, for evidence.
pub(super) fn firmware(host: &HostView) -> Option<String> {
    let read = |field: &&str| host.text(format!("/sys/class/dmi/id/{field}"));
    let texts: Vec<String> = FIELDS[..2]
        .iter()
        .filter_map(read)
        .filter(|text| !text.is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// What to do where the CPU shows no virtualization.
pub(super) fn virtualization_fix(host: &HostView) -> &'static str {
    detect(host).map_or(FIRMWARE, |platform| platform.nesting_fix)
}

/// Whether the first CPU shows this flag.
pub(super) fn has_flag(host: &HostView, flag: &str) -> bool {
    let flags = host.value_of("/proc/cpuinfo", "flags").unwrap_or_default();
    flags.split_whitespace().any(|word| word == flag)
}

fn may_be_hardware(platform: &Platform) -> bool {
    const SOFTWARE_ONLY: [&str; 7] = [
        "VMware",
        "VirtualBox",
        "KVM",
        "Hyper-V",
        "Parallels",
        "bhyve",
        "Xen",
    ];
    !SOFTWARE_ONLY.contains(&platform.name)
}

/// Some have no firmware, as Firecracker; the kernel uses their clock all the same.
fn by_clock(host: &HostView) -> Platform {
    let clocks = host
        .text("/sys/devices/system/clocksource/clocksource0/available_clocksource")
        .unwrap_or_default();
    let known = [("kvm-clock", KVM), ("hyperv", HYPER_V), ("xen", XEN)];
    let found = known.iter().find(|(clock, _)| clocks.contains(clock));
    found.map_or(UNKNOWN, |(_, platform)| *platform)
}
