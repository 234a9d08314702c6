//! KVM: its device, who may open it, and whether guests really run.
//!
//! The verdict on KVM is that of a start (`vm::judge_kvm`); the tiny guest goes beyond it.

use std::io::ErrorKind;

use crate::config::machine_choice::MachineChoice;
use crate::doctor::host::words_of;
use crate::doctor::{Finding, HostView, platform};
use crate::vm::hypervisor_error::KvmFault;
use crate::vm::judge_kvm;

const DEVICE: &str = "/dev/kvm";

/// What a container's VM needs of KVM, by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KvmNeed {
    /// There is no other machine.
    Required,
    /// Without it guests are emulated.
    Preferred,
    /// All guests are emulated.
    Unused,
}

impl KvmNeed {
    pub(super) fn of(host: &HostView) -> Self {
        let config = &host.installation.config;
        match (config.machine, config.allows_emulation()) {
            (MachineChoice::Tcg, _) => Self::Unused,
            (_, true) => Self::Preferred,
            (_, false) => Self::Required,
        }
    }
}

/// Something that KVM needs is missing.
pub(super) fn unless_emulated(host: &HostView, evidence: String, fix: &str) -> Finding {
    match KvmNeed::of(host) {
        KvmNeed::Required => Finding::fail(evidence, fix),
        KvmNeed::Preferred => Finding::warn(
            format!("{evidence}; QEMU emulates guests, as `allow_emulation` permits"),
            fix,
        ),
        KvmNeed::Unused => Finding::warn(
            format!("{evidence}; not used with `machine = \"tcg\"`, which is slow"),
            fix,
        ),
    }
}

pub(super) fn device(host: &HostView) -> Finding {
    if host.exists(DEVICE) {
        return Finding::ok(format!("{DEVICE} exists"));
    }
    let evidence = format!("{DEVICE} does not exist");
    unless_emulated(host, evidence, missing_fix(host))
}

fn missing_fix(host: &HostView) -> &'static str {
    if host.is_container() {
        return "start this container with `--device /dev/kvm`";
    }
    for (flag, fix) in [("vmx", "modprobe kvm_intel"), ("svm", "modprobe kvm_amd")] {
        if platform::has_flag(host, flag) {
            return fix;
        }
    }
    platform::virtualization_fix(host)
}

pub(super) fn access(host: &HostView) -> Finding {
    match host.open(DEVICE) {
        Ok(_) => Finding::ok(format!(
            "{} may open {DEVICE} to read and write",
            host.account.name
        )),
        Err(err) if err.kind() == ErrorKind::NotFound => unless_emulated(
            host,
            format!("there is no {DEVICE} to open"),
            missing_fix(host),
        ),
        Err(err) => unless_emulated(
            host,
            format!(
                "{} can't open {DEVICE}: {reason}{}",
                host.account.name,
                owner(host),
                reason = words_of(&err)
            ),
            &access_fix(host),
        ),
    }
}

/// Who may open it, by its mode.
fn owner(host: &HostView) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = std::fs::metadata(host.path(DEVICE)) else {
        return String::new();
    };
    let mode = found.mode() & 0o7777;
    format!(
        " (mode {mode:04o}, user {}, group {})",
        found.uid(),
        found.gid()
    )
}

fn access_fix(host: &HostView) -> String {
    if host.account.uid == 0 {
        return "allow the device to this cgroup and mount: root is refused by a device rule, a mount option `nodev`, or a security module".into();
    }
    format!(
        "`usermod -aG kvm {}`, then log in again (where {DEVICE} has no group kvm: `chgrp kvm {DEVICE} && chmod 660 {DEVICE}`)",
        host.account.name
    )
}

pub(super) fn usable(host: &HostView) -> Finding {
    let cpuinfo = || host.text("/proc/cpuinfo").unwrap_or_default();
    let opened = match judge_kvm(|| host.open(DEVICE), cpuinfo) {
        Ok(opened) => opened,
        Err(fault) => {
            let fix = match fault {
                KvmFault::Denied | KvmFault::Unopened(_) => access_fix(host),
                KvmFault::Missing => missing_fix(host).to_owned(),
                KvmFault::Emulated => platform::virtualization_fix(host).to_owned(),
            };
            return unless_emulated(host, format!("no start uses KVM here: {fault}"), &fix);
        }
    };
    match (host.calls.run_guest)(opened) {
        Ok(()) => Finding::ok("a guest of two instructions ran on KVM"),
        Err(reason) => {
            let fix = if reason.contains("Device or resource busy") {
                "stop the other hypervisor that uses the CPU (VirtualBox, VMware)"
            } else {
                "look for kvm in `dmesg`; in a VM, look how its host is told to nest: `caisson doctor cpu`"
            };
            unless_emulated(host, format!("a tiny guest does not run: {reason}"), fix)
        }
    }
}
