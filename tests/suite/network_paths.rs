//! By which way packets reach the guest, what of the namespace can't come along, and
//! settings of interfaces.

use std::path::Path;

use caisson_tests::{Bundle, Container, Machine, Namespace, Scene, stories};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::network::{await_server, come_and_go, echoing, pair, serve_in, until};
use crate::network_live::{kill_hard, pid_of};
use crate::traffic;

stories![
    several_vcpus_have_as_many_pairs_of_queues.limit(300),
    the_kernel_of_the_host_moves_packets_where_it_is_asked_to
        .only(Machine::Kvm)
        .limit(300),
    interfaces_of_the_kernel_come_and_go
        .only(Machine::Kvm)
        .limit(300),
    the_kernel_lets_go_of_what_is_gone
        .only(Machine::Kvm)
        .limit(300),
    without_its_device_the_kernel_is_not_asked.only(Machine::Kvm),
    routes_that_can_not_come_along_are_named,
    settings_of_interfaces_are_made_when_they_are_there,
    settings_of_the_network_are_made_beside_a_user_namespace,
    ipv6_that_the_container_has_switched_off_stays_off,
];

/// A bundle in the namespace whose program gives back what it is sent.
fn bundle_with(scene: &Scene, namespace: &Namespace, vcpus: u8) -> Bundle {
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:7000"]);
    bundle.in_network(&namespace.path());
    bundle.edit(|config| config["vm"] = json!({"hwConfig": {"vcpus": vcpus}}));
    bundle
}

fn queues_of(container: &Container<'_>) -> String {
    let listed = container.exec(&["ls", "/sys/class/net/eth0/queues"]).ok();
    listed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// From several connections at once, either way.
fn talk_both_ways(container: &Container<'_>, far: &Namespace) {
    await_server(container);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let said = far.inside(|| traffic::talk("10.9.0.2:7000", 100_000));
                assert_eq!(said, "100000 bytes");
            });
        }
    });
    let said = container.exec(&["probe", "talk", "[fd00:9::1]:7000", "100000"]);
    assert_eq!(said.ok(), "100000 bytes\n");
}

/// Those of a test host have to share its only one, and take their time for it.
fn several_vcpus_have_as_many_pairs_of_queues(scene: &Scene) {
    let (namespace, far) = pair();
    serve_in(&far);
    scene.configure("max_vcpus = 3\n");
    let container = scene.started(&bundle_with(scene, &namespace, 3));
    assert_eq!(queues_of(&container), "rx-0 rx-1 rx-2 tx-0 tx-1 tx-2");
    assert_eq!(kernel_files(), 0);
    talk_both_ways(&container, &far);
    container.remove();
    namespace.assert_restored();
}

/// Open files by which the kernel serves machines, of all processes of the test: one
/// for each pair of queues.
fn kernel_files() -> usize {
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let processes = entries(Path::new("/proc")).into_iter();
    let files = processes.flat_map(|process| entries(&process.join("fd")));
    let is_it = |file: &Path| {
        std::fs::read_link(file).is_ok_and(|target| target == Path::new("/dev/vhost-net"))
    };
    files.filter(|file| is_it(file)).count()
}

fn the_kernel_of_the_host_moves_packets_where_it_is_asked_to(scene: &Scene) {
    let (namespace, far) = pair();
    serve_in(&far);
    scene.configure("vhost_net = true\nmax_vcpus = 2\n");
    let container = scene.started(&bundle_with(scene, &namespace, 2));
    assert_eq!(queues_of(&container), "rx-0 rx-1 tx-0 tx-1");
    assert_eq!(kernel_files(), 2);
    talk_both_ways(&container, &far);
    container.remove();
    namespace.assert_restored();
}

fn interfaces_of_the_kernel_come_and_go(scene: &Scene) {
    scene.configure("vhost_net = true\n");
    let (namespace, _far) = pair();
    let container = scene.started(&bundle_with(scene, &namespace, 1));
    await_server(&container);
    assert_eq!(queues_of(&container), "rx-0 tx-0");
    let later = Namespace::make();
    for _ in 0..2 {
        come_and_go(&container, &namespace, &later);
    }
    // The last thing of an interface that goes: until then there is no place for another.
    namespace.connect("eth1", &later, "far1");
    until(&container, "[ -e /sys/class/net/eth1 ]");
    assert_eq!(kernel_files(), 2);
    container.remove();
    namespace.assert_restored();
}

/// First of a namespace, then of a machine that is killed.
fn the_kernel_lets_go_of_what_is_gone(scene: &Scene) {
    scene.configure("vhost_net = true\n");
    let (namespace, far) = pair();
    let container = scene.started(&bundle_with(scene, &namespace, 1));
    await_server(&container);
    assert_eq!(kernel_files(), 1);
    drop((namespace, far));
    until(&container, "[ ! -e /sys/class/net/eth0 ]");
    container.remove();
    assert_eq!(kernel_files(), 0);

    let (namespace, far) = pair();
    let container = scene.started(&bundle_with(scene, &namespace, 1));
    await_server(&container);
    kill_hard(pid_of("caisson-vmm"));
    assert_eq!(container.wait_briefly(), 137);
    container.delete();
    assert_eq!(kernel_files(), 0);
    namespace.assert_restored();
    drop(far);
}

/// As on a host without the module vhost_net.
fn without_its_device_the_kernel_is_not_asked(scene: &Scene) {
    scene.configure("vhost_net = true\n");
    hide_vhost_net(scene);
    // Without interfaces nobody needs it.
    assert_eq!(scene.run(&scene.shell("echo alone")).ok(), "alone\n");
    let (namespace, _far) = pair();
    let bundle = scene.shell("true");
    bundle.in_network(&namespace.path());
    let refused = scene.run(&bundle);
    refused.exits(1);
    for words in ["/dev/vhost-net", "modprobe vhost_net", "no such device"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    umount("/dev/vhost-net").unwrap();
    namespace.assert_restored();
}

/// In its place comes a device that nothing drives.
fn hide_vhost_net(scene: &Scene) {
    const UNUSED: u64 = makedev(251, 77);
    let node = scene.path("vhost-net");
    mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, UNUSED).unwrap();
    let no_text = None::<&str>;
    mount(
        Some(&node),
        "/dev/vhost-net",
        no_text,
        MsFlags::MS_BIND,
        no_text,
    )
    .unwrap();
}

fn routes_that_can_not_come_along_are_named(scene: &Scene) {
    let (namespace, _far) = pair();
    namespace.ip("route add 10.77.0.0/16 encap ip id 7 dst 10.9.0.1 dev eth0");
    namespace.ip("route add 10.78.0.0/16 dev eth0 realm 5");
    namespace.ip("-6 route add fd00:77::/64 dev eth0 pref high");
    namespace.ip("route add local 198.18.0.0/15 dev lo table 100");
    namespace.ip("route add 10.79.0.0/16 dev lo");
    namespace.ip("route add 10.80.0.0/16 via 10.9.0.1");
    namespace.ip("address add 192.0.2.9/32 dev lo");
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:7000"]);
    bundle.in_network(&namespace.path());
    let log = scene.path("log");
    let flags = ["--log", log.to_str().unwrap()];
    let create = ["create", "--bundle", bundle.path.to_str().unwrap()];
    let pid_file = bundle.path.join("pid");
    let rest = ["--pid-file", pid_file.to_str().unwrap(), &bundle.id];
    scene.caisson([&flags[..], &create, &rest].concat()).ok();
    let pid = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let container = Container::known(scene, &bundle.id, pid);
    container.start();
    let routes = container.exec(&["sh", "-c", "ip route; ip -6 route"]).ok();
    assert!(routes.contains("10.80.0.0/16 via 10.9.0.1"), "{routes}");
    for gone in ["10.77", "10.78", "10.79", "fd00:77"] {
        assert!(!routes.contains(gone), "{routes}");
    }
    container.remove();
    namespace.assert_restored();
    let logged = std::fs::read_to_string(&log).unwrap();
    for line in [
        "route 10.77.0.0/16 of the network namespace has an encapsulation (encap)",
        "route 10.78.0.0/16 of the network namespace has a realm",
        "route fd00:77::/64 of the network namespace has a router's preference (pref)",
        "route 198.18.0.0/15 of the network namespace has type 2",
        "route 10.79.0.0/16 of the network namespace leads to interface lo",
        "address 192.0.2.9 on lo of the network namespace",
    ] {
        assert!(logged.contains(line), "{line}: {logged}");
    }
}

fn settings_of_interfaces_are_made_when_they_are_there(scene: &Scene) {
    let (namespace, _far) = pair();
    let set = |settings: serde_json::Value| {
        let bundle = scene.shell(
            "cat /proc/sys/net/ipv4/conf/eth0/log_martians /proc/sys/net/ipv4/conf/eth0/proxy_arp /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/neigh/eth0/proxy_qlen",
        );
        bundle.in_network(&namespace.path());
        bundle.edit(|config| config["linux"]["sysctl"] = settings);
        scene.run(&bundle)
    };
    let several = json!({
        "net.ipv4.conf.eth0.log_martians": "1",
        "net/ipv4/conf/eth0/proxy_arp": "1",
        "net.ipv4.conf.all.rp_filter": "2",
        "net.ipv4.neigh.eth0.proxy_qlen": "9",
    });
    assert_eq!(set(several).ok(), "1\n1\n2\n9\n");
    let line = "linux.sysctl: there is no setting \"net.ipv4.conf.eth7.proxy_arp\", or the container has no interface eth7: no such file or directory";
    set(json!({"net.ipv4.conf.eth7.proxy_arp": "1"})).fails(1, line);
    let line = "linux.sysctl: set \"net.ipv4.conf.eth0.proxy_arp\" to \"maybe\": invalid argument";
    set(json!({"net.ipv4.conf.eth0.proxy_arp": "maybe"})).fails(1, line);
    namespace.assert_restored();
}

/// As Docker asks for whatever it runs, also with userns-remap.
fn settings_of_the_network_are_made_beside_a_user_namespace(scene: &Scene) {
    let (namespace, far) = pair();
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:80"]);
    bundle.in_network(&namespace.path());
    bundle.edit(|config| {
        let linux = &mut config["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            linux[map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
        linux["sysctl"] = json!({
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.conf.all.rp_filter": "2",
            "kernel.msgmax": "9000",
        });
    });
    let container = scene.started(&bundle);
    until(&container, "nc 127.0.0.1 80 </dev/null");
    let said = far.inside(|| traffic::talk("10.9.0.2:80", 1000));
    assert_eq!(said, "1000 bytes");
    let files = "cat /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/kernel/msgmax";
    assert_eq!(container.exec(&["sh", "-c", files]).ok(), "2\n9000\n");
    let ids = container.exec(&["cat", "/proc/self/uid_map"]).ok();
    assert!(ids.contains("100000"), "{ids}");
    container.remove();
    namespace.assert_restored();
}

fn ipv6_that_the_container_has_switched_off_stays_off(scene: &Scene) {
    let (namespace, far) = pair();
    let bundle = bundle_with(scene, &namespace, 1);
    bundle.edit(|config| {
        config["linux"]["sysctl"] = json!({"net.ipv6.conf.all.disable_ipv6": "1"});
    });
    let container = scene.started(&bundle);
    await_server(&container);
    assert_eq!(container.exec(&["ip", "-6", "address"]).ok(), "");
    // What changes later is followed all the same.
    namespace.ip("-6 address add fd00:9::7/64 dev eth0 nodad");
    namespace.ip("address add 10.9.0.7/24 dev eth0");
    until(&container, "ip address | grep 10.9.0.7");
    assert_eq!(container.exec(&["ip", "-6", "address"]).ok(), "");
    let said = far.inside(|| traffic::talk("10.9.0.7:7000", 1000));
    assert_eq!(said, "1000 bytes");
    container.remove();
    // Without it, IPv6 is there.
    let other = echoing(scene, &namespace);
    let shown = other.exec(&["ip", "-6", "address"]).ok();
    assert!(shown.contains("fd00:9::2"), "{shown}");
    other.remove();
    namespace.assert_restored();
}
