//! What firmware, kernel and CPU say of a host, and what it runs on then.

use std::fs;
use std::path::Path;

use super::HostView;
use super::platform::detect;

fn name(files: &[(&str, &str)]) -> Option<&'static str> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut host = HostView::here(Path::new("/run/caisson")).unwrap();
    host.root = root.path().to_owned();
    detect(&host).map(|platform| platform.name)
}

const GUEST: (&str, &str) = ("proc/cpuinfo", "flags : fpu hypervisor\n");
const HARDWARE: (&str, &str) = ("proc/cpuinfo", "flags : fpu vmx\n");
const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0/available_clocksource";

#[test]
fn the_firmwares_strings_name_the_platform() {
    for (field, text, expected) in [
        ("sys_vendor", "VMware, Inc.", "VMware"),
        ("product_name", "VirtualBox", "VirtualBox"),
        ("product_name", "Virtual Machine", "Hyper-V"),
        (
            "chassis_asset_tag",
            "7783-7084-3265-9085-8269-3286-77",
            "Azure",
        ),
        ("sys_vendor", "Xen", "Xen"),
        ("sys_vendor", "QEMU", "KVM"),
        ("product_name", "KVM", "KVM"),
        ("sys_vendor", "Amazon EC2", "Amazon EC2"),
        ("bios_vendor", "Amazon EC2", "Amazon EC2"),
        ("sys_vendor", "Google", "Google Compute Engine"),
        (
            "product_name",
            "Google Compute Engine",
            "Google Compute Engine",
        ),
        ("sys_vendor", "DigitalOcean", "DigitalOcean"),
        ("sys_vendor", "Hetzner", "Hetzner Cloud"),
        ("sys_vendor", "Vultr", "Vultr"),
        ("sys_vendor", "Akamai Connected Cloud", "Linode"),
        ("sys_vendor", "Scaleway", "Scaleway"),
        ("sys_vendor", "Alibaba Cloud", "Alibaba Cloud"),
        ("sys_vendor", "Tencent Cloud", "Tencent Cloud"),
        ("sys_vendor", "OpenStack Foundation", "OpenStack"),
        ("chassis_asset_tag", "OracleCloud.com", "Oracle Cloud"),
        (
            "sys_vendor",
            "Parallels Software International Inc.",
            "Parallels",
        ),
        ("product_name", "BHYVE", "bhyve"),
        ("sys_vendor", "Nutanix", "Nutanix AHV"),
        ("sys_vendor", "Nobody", "an unknown hypervisor"),
    ] {
        let field = format!("sys/class/dmi/id/{field}");
        let found = name(&[(field.as_str(), text), GUEST]);
        assert_eq!(found, Some(expected), "{field}: {text}");
    }
}

#[test]
fn azure_is_told_from_hyper_v_by_its_tag() {
    let tag = "7783-7084-3265-9085-8269-3286-77\n";
    let found = name(&[
        ("sys/class/dmi/id/product_name", "Virtual Machine\n"),
        ("sys/class/dmi/id/chassis_asset_tag", tag),
        GUEST,
    ]);
    assert_eq!(found, Some("Azure"));
}

#[test]
fn xen_names_itself_in_sys() {
    let xen = ("sys/hypervisor/type", "xen\n");
    assert_eq!(name(&[xen]), Some("Xen"));
    let dom0 = ("proc/xen/capabilities", "control_d\n");
    assert_eq!(name(&[xen, dom0]), Some("Xen (dom0)"));
    let old_ec2 = ("sys/class/dmi/id/bios_vendor", "Amazon EC2");
    assert_eq!(name(&[xen, old_ec2]), Some("Amazon EC2"));
}

#[test]
fn without_firmware_the_kernels_clocks_name_it() {
    for (clocks, expected) in [
        ("kvm-clock tsc acpi_pm", "KVM"),
        ("hyperv_clocksource_tsc_page acpi_pm", "Hyper-V"),
        ("xen tsc", "Xen"),
        ("tsc", "an unknown hypervisor"),
    ] {
        assert_eq!(name(&[GUEST, (CLOCKS, clocks)]), Some(expected), "{clocks}");
    }
    let wsl = (
        "proc/sys/kernel/osrelease",
        "5.15.1-microsoft-standard-WSL2",
    );
    assert_eq!(name(&[GUEST, wsl]), Some("WSL 2"));
}

#[test]
fn hardware_is_bare_metal_even_in_a_cloud() {
    assert_eq!(name(&[HARDWARE]), None);
    let vendor = "sys/class/dmi/id/sys_vendor";
    assert_eq!(name(&[HARDWARE, (vendor, "Amazon EC2")]), None);
    assert_eq!(name(&[HARDWARE, (vendor, "Dell Inc.")]), None);
    // A VM whose hypervisor hides itself from the CPU's flags.
    assert_eq!(name(&[HARDWARE, (vendor, "QEMU")]), Some("KVM"));
}
