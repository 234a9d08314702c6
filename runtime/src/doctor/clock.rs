//! The host's clock: guests take their time from it.

use std::time::{Duration, SystemTime};

use crate::doctor::{Finding, HostView};

/// 2025: no clock that is set is earlier than this program.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

pub(super) fn time(host: &HostView) -> Finding {
    let shown = humantime::format_rfc3339_seconds(host.now);
    if host.now >= SystemTime::UNIX_EPOCH + EARLIEST {
        return Finding::ok(format!("{shown}"));
    }
    Finding::warn(
        format!("{shown} is before 2025: guests get that time too, and refuse certificates"),
        "timedatectl set-ntp true, or date -s",
    )
}

pub(super) fn source(host: &HostView) -> Finding {
    let Some(current) = host.text(format!("{CLOCK}/current_clocksource")) else {
        return Finding::ok("not known: no clocksource in /sys");
    };
    // Reading one of these leaves the processor, or the VM that the host is.
    if ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"].contains(&current.as_str()) {
        return Finding::warn(
            format!(
                "the clock source is {current}: slow to read, and guests get no time by kvmclock"
            ),
            "look why `dmesg | grep -i tsc` calls the TSC unstable; boot with `tsc=reliable` only if it isn't",
        );
    }
    Finding::ok(format!("the clock source is {current}"))
}
