//! What changes in a namespace while its container runs, and what is left after it.

use caisson_tests::leftovers::{other_pids, processes};
use caisson_tests::{Machine, Namespace, Scene, stories, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::{await_server, come_and_go, echoing, pair, serve_in, until};
use crate::traffic;

stories![
    interfaces_come_and_go_while_the_container_runs,
    interfaces_with_one_hardware_address_are_told_apart,
    addresses_and_routes_are_followed,
    addresses_that_are_not_settled_are_settled_in_the_guest,
    what_the_guest_refuses_keeps_nothing_else_away,
    the_namespace_may_vanish_under_a_container,
    a_killed_owner_leaves_a_namespace_that_can_be_used_again,
    a_killed_machine_leaves_nothing_in_the_namespace,
];

fn interfaces_come_and_go_while_the_container_runs(scene: &Scene) {
    let (namespace, _far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    let later = Namespace::make();
    for round in 0..3 {
        scene.note(&format!("round {round}"));
        come_and_go(&container, &namespace, &later);
    }
    // The other was left alone.
    assert_eq!(container.exec(&["ls", "/sys/class/net"]).ok(), "eth0\nlo\n");
    container.remove();
    namespace.assert_restored();
}

/// As those of an ipvlan have it, and one that is made anew before the first is missed.
fn interfaces_with_one_hardware_address_are_told_apart(scene: &Scene) {
    const MAC: &str = "02:00:00:00:09:02";
    let (namespace, far) = pair();
    namespace.ip(&format!("link set eth0 address {MAC}"));
    let container = echoing(scene, &namespace);
    await_server(&container);
    let other = Namespace::make();
    let make = format!("link add eth1 address {MAC} type veth peer name far1");
    for round in 0..3 {
        scene.note(&format!("round {round}"));
        if round > 0 {
            namespace.ip("link delete eth1");
        }
        namespace.ip(&format!("{make} netns {}", other.path().display()));
        namespace.ip(&format!("address add 10.8.{round}.2/24 dev eth1"));
        other.ip(&format!("address add 10.8.{round}.1/24 dev far1"));
        other.ip("link set far1 up");
        namespace.ip("link set eth1 up");
        until(
            &container,
            &format!("ip address show eth1 | grep 10.8.{round}.2"),
        );
        let said = other.inside(|| traffic::talk(&format!("10.8.{round}.2:7000"), 100_000));
        assert_eq!(said, "100000 bytes");
        let said = far.inside(|| traffic::talk("10.9.0.2:7000", 100_000));
        assert_eq!(said, "100000 bytes");
    }
    for interface in ["eth0", "eth1"] {
        let path = format!("/sys/class/net/{interface}/address");
        assert_eq!(container.exec(&["cat", &path]).ok().trim(), MAC);
    }
    container.remove();
    namespace.assert_restored();
}

fn addresses_and_routes_are_followed(scene: &Scene) {
    let (namespace, far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    namespace.ip("address delete 10.9.0.2/24 dev eth0");
    namespace.ip("address add 10.9.0.9/24 dev eth0");
    namespace.ip("route add 10.66.0.0/16 via 10.9.0.1");
    namespace.ip("link set eth0 mtu 1400");
    until(
        &container,
        "ip route | grep 10.66.0.0/16 && [ $(cat /sys/class/net/eth0/mtu) = 1400 ] && ! ip address | grep 10.9.0.2",
    );
    // A rule alone is heard of, too.
    for (family, from) in [("-4", "192.0.2.7"), ("-6", "fd00:7::7")] {
        let rule = format!("from {from} lookup 100 priority 500");
        namespace.ip(&format!("{family} rule add {rule}"));
        until(&container, &format!("ip {family} rule | grep {from}"));
        namespace.ip(&format!("{family} rule delete {rule}"));
        until(&container, &format!("! ip {family} rule | grep {from}"));
    }
    serve_in(&far);
    let said = container.exec(&["probe", "talk", "10.9.0.1:7000", "100000"]);
    assert_eq!(said.ok(), "100000 bytes\n");
    let said = far.inside(|| traffic::talk("10.9.0.9:7000", 100_000));
    assert_eq!(said, "100000 bytes");
    container.remove();
}

/// The answers of neighbours don't reach the host any more.
fn addresses_that_are_not_settled_are_settled_in_the_guest(scene: &Scene) {
    let (namespace, _far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    // The host asks for longer than the test takes.
    namespace.inside(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/dad_transmits", "10000").unwrap();
    });
    // The first is the far end's, and stays unsettled.
    namespace.ip("-6 address add fd00:9::1/64 dev eth0");
    namespace.ip("-6 address add fd00:9::8/64 dev eth0");
    until(
        &container,
        "ip -6 address | grep fd00:9::1 | grep tentative",
    );
    until(
        &container,
        "ip -6 address | grep fd00:9::8 | grep -v tentative",
    );
    container.remove();
    namespace.assert_restored();
}

fn what_the_guest_refuses_keeps_nothing_else_away(scene: &Scene) {
    let (namespace, _far) = pair();
    namespace.ip("address add 10.9.0.7/24 dev eth0");
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:7000"]);
    bundle.in_network(&namespace.path());
    bundle.privileged();
    let container = scene.started(&bundle);
    await_server(&container);
    // A route from it can't be had in the guest any more.
    let lost = container.exec(&["ip", "address", "delete", "10.9.0.7/24", "dev", "eth0"]);
    lost.ok();
    namespace.ip("route add 10.65.0.0/16 via 10.9.0.1 src 10.9.0.7");
    namespace.ip("route add 10.66.0.0/16 via 10.9.0.1");
    namespace.ip("rule add from 192.0.2.7 lookup 100 priority 500");
    until(
        &container,
        "ip route | grep 10.66.0.0/16 && ip rule | grep 192.0.2.7",
    );
    let routes = container.exec(&["ip", "route"]).ok();
    assert!(!routes.contains("10.65.0.0"), "{routes}");
    // What came beside it is known, and goes when it goes.
    namespace.ip("route delete 10.66.0.0/16");
    namespace.ip("rule delete from 192.0.2.7 lookup 100 priority 500");
    until(
        &container,
        "! ip route | grep 10.66.0.0/16 && ! ip rule | grep 192.0.2.7",
    );
    container.remove();
    namespace.assert_restored();
}

fn the_namespace_may_vanish_under_a_container(scene: &Scene) {
    let (namespace, far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    drop(namespace);
    drop(far);
    until(&container, "[ ! -e /sys/class/net/eth0 ]");
    container.remove();
}

/// The only process of this program in the test's namespace.
pub(crate) fn pid_of(name: &str) -> i32 {
    let is_it = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(program).ends_with(name)
    };
    let found = other_pids().into_iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", processes()))
}

pub(crate) fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn a_killed_owner_leaves_a_namespace_that_can_be_used_again(scene: &Scene) {
    let (namespace, far) = pair();
    let container = echoing(scene, &namespace);
    kill_hard(container.pid);
    assert_eq!(container.wait_briefly(), 137);
    container.delete();
    let second = echoing(scene, &namespace);
    await_server(&second);
    let said = far.inside(|| traffic::talk("10.9.0.2:7000", 1000));
    assert_eq!(said, "1000 bytes");
    second.remove();
    namespace.assert_restored();
}

fn a_killed_machine_leaves_nothing_in_the_namespace(scene: &Scene) {
    let (namespace, _far) = pair();
    let container = echoing(scene, &namespace);
    let program = match scene.settings.machine {
        Machine::Kvm => "caisson-vmm",
        Machine::Tcg => "qemu-system-x86_64",
    };
    let machine = pid_of(program);
    kill_hard(machine);
    assert_eq!(container.wait_briefly(), 137);
    assert!(wait::ends_within(
        machine,
        std::time::Duration::from_secs(2)
    ));
    container.delete();
    namespace.assert_restored();
}
