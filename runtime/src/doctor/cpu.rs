//! The CPU: whether it virtualizes, and on how many levels.

use crate::doctor::{Finding, HostView, kvm, platform};

pub(super) fn virtualization(host: &HostView) -> Finding {
    let model = host.value_of("/proc/cpuinfo", "model name");
    let model = model.unwrap_or_else(|| "CPU of an unknown model".into());
    let found = ["vmx", "svm"]
        .into_iter()
        .find(|flag| platform::has_flag(host, flag));
    match found {
        Some(flag) => Finding::ok(format!("{model}: /proc/cpuinfo shows {flag}")),
        None => kvm::unless_emulated(
            host,
            format!("{model}: /proc/cpuinfo shows neither vmx nor svm"),
            platform::virtualization_fix(host),
        ),
    }
}

pub(super) fn nesting(host: &HostView) -> Finding {
    let firmware = platform::firmware(host).map_or_else(
        || "the firmware has no name".to_owned(),
        |text| format!("firmware: {text}"),
    );
    match platform::detect(host) {
        None => Finding::ok(format!("bare metal; {firmware}")),
        Some(found) => Finding::warn(
            format!(
                "this host is a VM itself: {}; {firmware}; containers' VMs are nested in it",
                found.name
            ),
            "nothing has to be done; for full speed run caisson on bare metal",
        ),
    }
}
