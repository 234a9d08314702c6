//! The time of the day in a container is the host's.

use std::time::{SystemTime, UNIX_EPOCH};

use caisson_tests::{Container, Machine, Scene, stories};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

stories![
    the_guests_clock_is_right,
    the_guest_counts_time_by_the_processors_counter
        .only(Machine::Tcg)
        .smoke(),
    a_clock_that_the_guest_has_wrong_is_put_right,
    // No other machine's clock is ours to set.
    a_clock_that_is_set_is_set_in_the_guest.only(Machine::Kvm),
];

fn host_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Waits for the guest to show a time between now and an hour from now.
fn await_hosts_time(container: &Container<'_>) {
    let (least, most) = (host_s(), host_s() + 3600);
    let script = format!(
        "until [ $(date +%s) -ge {least} ] && [ $(date +%s) -lt {most} ]; do sleep 0.1; done"
    );
    container.exec(&["sh", "-c", &script]).ok();
}

fn the_guests_clock_is_right(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let before = host_s();
    let text = container.exec(&["date", "+%s"]).ok();
    let shown: u64 = text.trim().parse().unwrap();
    // A tenth of a second is allowed.
    assert!((before - 1..=host_s() + 1).contains(&shown), "{shown}");
    container.remove();
}

/// With one processor and with two: on a busy host the kernel would give the counter up
/// for interrupts, of which an emulated machine loses some.
fn the_guest_counts_time_by_the_processors_counter(scene: &Scene) {
    for vcpus in [1, 2] {
        scene.configure(&format!("default_vcpus = {vcpus}\n"));
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let container = scene.started(&scene.bundle(&["sleep", "1000"]));
        assert_eq!(container.exec(&["cat", path]).ok(), "tsc\n");
        container.remove();
    }
}

/// What a container sets is one way to be wrong.
fn a_clock_that_the_guest_has_wrong_is_put_right(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.privileged().edit(|config| {
        for set in ["bounding", "effective", "permitted"] {
            let all = config["process"]["capabilities"][set].as_array_mut();
            all.unwrap().push("CAP_SYS_TIME".into());
        }
    });
    let container = scene.started(&bundle);
    container.exec(&["date", "-s", "@1000000000"]).ok();
    await_hosts_time(&container);
    container.remove();
}

/// Also when a test fails half-way.
struct ClockBack;

impl Drop for ClockBack {
    fn drop(&mut self) {
        step_by(-DAY_S);
    }
}

const DAY_S: i64 = 86_400;

fn step_by(seconds: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
}

fn a_clock_that_is_set_is_set_in_the_guest(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    step_by(DAY_S);
    let back = ClockBack;
    await_hosts_time(&container);
    drop(back);
    await_hosts_time(&container);
    container.remove();
}
