//! What is in a container's network namespace at start works inside of the machine.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use caisson_tests::{Container, Machine, Namespace, Scene, stories};

use crate::traffic;

stories![
    both_sides_reach_each_other_over_ipv4_and_ipv6.smoke(),
    addresses_routes_rules_and_neighbours_are_those_of_the_namespace,
    interfaces_may_share_a_network,
    large_transfers_go_in_long_packets,
    two_containers_talk_over_a_bridge,
    a_namespace_that_is_filled_after_create_is_seen_at_start,
    without_interfaces_there_is_only_loopback,
    an_interface_of_another_container_is_refused,
    more_interfaces_than_a_machine_has_are_refused,
    the_namespace_of_the_caller_is_refused,
    a_name_server_on_loopback_is_asked,
    ports_of_the_container_are_those_of_localhost_on_the_host,
];

const PORT: u16 = 7000;

/// A namespace with `eth0`, and the far end of it.
pub(crate) fn pair() -> (Namespace, Namespace) {
    let (namespace, far) = (Namespace::make(), Namespace::make());
    namespace.connect("eth0", &far, "far0");
    address(&namespace, "eth0", 2);
    address(&far, "far0", 1);
    namespace.ip("route add default via 10.9.0.1");
    namespace.ip("-6 route add default via fd00:9::1");
    (namespace, far)
}

fn address(namespace: &Namespace, interface: &str, host: u8) {
    namespace.ip(&format!("address add 10.9.0.{host}/24 dev {interface}"));
    namespace.ip(&format!(
        "-6 address add fd00:9::{host}/64 dev {interface} nodad"
    ));
}

/// A container in the namespace whose program gives back what it is sent.
pub(crate) fn echoing<'a>(scene: &'a Scene, namespace: &Namespace) -> Container<'a> {
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:7000"]);
    bundle.in_network(&namespace.path());
    scene.started(&bundle)
}

/// Serves in the namespace until the test ends.
pub(crate) fn serve_in(namespace: &Namespace) {
    let listener = namespace.inside(|| TcpListener::bind(("::", PORT)).unwrap());
    std::thread::spawn(move || traffic::serve(&listener));
}

/// Waits in the container until its server is there.
pub(crate) fn await_server(container: &Container<'_>) {
    until(container, "nc 127.0.0.1 7000 </dev/null");
}

/// An interface `eth1` on a link to `later` appears in `namespace`, is used to reach
/// the server in the container, and goes.
pub(crate) fn come_and_go(container: &Container<'_>, namespace: &Namespace, later: &Namespace) {
    namespace.connect("eth1", later, "far1");
    namespace.ip("address add 10.8.0.2/24 dev eth1");
    later.ip("address add 10.8.0.1/24 dev far1");
    until(container, "ip address show eth1 | grep 10.8.0.2");
    let said = later.inside(|| traffic::talk("10.8.0.2:7000", 100_000));
    assert_eq!(said, "100000 bytes");
    namespace.ip("link delete eth1");
    until(container, "[ ! -e /sys/class/net/eth1 ]");
}

/// Waits in the container until a command succeeds.
pub(crate) fn until(container: &Container<'_>, condition: &str) {
    let script = format!("until {condition}; do sleep 0.1; done >/dev/null 2>&1");
    container.exec(&["sh", "-c", &script]).ok();
}

fn both_sides_reach_each_other_over_ipv4_and_ipv6(scene: &Scene) {
    let (namespace, far) = pair();
    let container = echoing(scene, &namespace);
    serve_in(&far);
    for address in ["10.9.0.1:7000", "[fd00:9::1]:7000"] {
        let said = container.exec(&["probe", "talk", address, "1000"]).ok();
        assert_eq!(said, "1000 bytes\n");
    }
    await_server(&container);
    for address in ["10.9.0.2:7000", "[fd00:9::2]:7000"] {
        let said = far.inside(|| traffic::talk(address, 1000));
        assert_eq!(said, "1000 bytes");
    }
    container.remove();
    namespace.assert_restored();
}

fn addresses_routes_rules_and_neighbours_are_those_of_the_namespace(scene: &Scene) {
    let (namespace, _far) = pair();
    let other = Namespace::make();
    namespace.connect("net1", &other, "far1");
    namespace.ip("link set net1 mtu 9000");
    // A gateway outside of every address's network, as some plugins have it.
    namespace.ip("address add 192.0.2.7/32 dev net1");
    namespace.ip("route add 198.51.100.0/24 via 169.254.1.1 dev net1 onlink metric 7");
    namespace.ip("route add blackhole 203.0.113.0/24");
    namespace.ip("route add default via 169.254.1.1 dev net1 onlink table 100");
    namespace.ip("rule add from 192.0.2.7 lookup 100 priority 500");
    namespace.ip("neighbour add 169.254.1.1 lladdr 02:00:00:00:00:aa dev net1 nud permanent");
    let container = echoing(scene, &namespace);
    let shows = |command: &str| container.exec(&["sh", "-c", command]).ok();
    for file in ["address", "mtu"] {
        for interface in ["eth0", "net1"] {
            let path = format!("/sys/class/net/{interface}/{file}");
            let outside = namespace.inside(|| read_in_sysfs(&path));
            assert_eq!(shows(&format!("cat {path}")), outside, "{path}");
        }
    }
    let addresses = shows("ip address");
    for wanted in ["10.9.0.2/24", "fd00:9::2/64", "192.0.2.7/32"] {
        assert!(addresses.contains(wanted), "{addresses}");
    }
    let routes = shows("ip route; ip -6 route; ip route show table 100");
    for wanted in [
        "default via 10.9.0.1 dev eth0",
        "10.9.0.0/24 dev eth0",
        "198.51.100.0/24 via 169.254.1.1 dev net1",
        "blackhole 203.0.113.0/24",
        "default via fd00:9::1 dev eth0",
        "default via 169.254.1.1 dev net1",
    ] {
        assert!(routes.contains(wanted), "{wanted} is missing: {routes}");
    }
    let rules = shows("ip rule");
    assert!(rules.contains("500:\tfrom 192.0.2.7 lookup 100"), "{rules}");
    let neighbours = shows("cat /proc/net/arp");
    assert!(neighbours.contains("02:00:00:00:00:aa"), "{neighbours}");
    container.remove();
    namespace.assert_restored();
}

fn interfaces_may_share_a_network(scene: &Scene) {
    let (namespace, _far) = pair();
    let other = Namespace::make();
    namespace.connect("eth1", &other, "far1");
    namespace.ip("address add 10.9.0.5/24 dev eth1");
    namespace.ip("route append default via 10.9.0.3 dev eth1");
    let container = echoing(scene, &namespace);
    let shows = |command: &str| container.exec(&["sh", "-c", command]).ok();
    let expected = |family: &str| {
        let listed = namespace.ip(&format!("{family} route"));
        let names = ["10.9.0.0/24 ", "default ", "fe80::/64 "];
        let lines = listed
            .lines()
            .filter(|line| names.iter().any(|name| line.starts_with(name)));
        // Up to where ip of busybox has other words.
        let parts = lines.filter_map(|line| line.split(" proto").next()?.split(" metric").next());
        parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>()
    };
    for family in ["-4", "-6"] {
        let routes = shows(&format!("ip {family} route"));
        let expected = expected(family);
        assert!(expected.len() > 2, "{expected:?}");
        for wanted in expected {
            assert!(routes.contains(&wanted), "{wanted} is missing: {routes}");
        }
    }
    // What one has and another follows is taken away alone.
    namespace.ip("route delete default via 10.9.0.3 dev eth1");
    until(&container, "! ip route | grep 10.9.0.3");
    let routes = shows("ip route");
    assert!(routes.contains("default via 10.9.0.1"), "{routes}");
    container.remove();
    namespace.assert_restored();
}

/// The test's own /sys shows another namespace.
fn read_in_sysfs(path: &str) -> String {
    let [.., interface, file] = path.split('/').collect::<Vec<_>>()[..] else {
        panic!("{path}");
    };
    let shown = std::process::Command::new("ip")
        .args(["-o", "link", "show", interface])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let word = if file == "mtu" { "mtu" } else { "link/ether" };
    let mut words = shown.split_whitespace().skip_while(|one| *one != word);
    format!("{}\n", words.nth(1).unwrap())
}

fn large_transfers_go_in_long_packets(scene: &Scene) {
    const BYTES: usize = 4 << 20;
    let (namespace, far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    let said = far.inside(|| traffic::talk("10.9.0.2:7000", BYTES));
    assert_eq!(said, format!("{BYTES} bytes"));
    for direction in ["rx", "tx"] {
        let count = |what: &str| -> u64 {
            let path = format!("/sys/class/net/eth0/statistics/{direction}_{what}");
            container.exec(&["cat", &path]).ok().trim().parse().unwrap()
        };
        let (bytes, packets) = (count("bytes"), count("packets"));
        scene.note(&format!("{direction}: {bytes} bytes in {packets} packets"));
        assert!(bytes / packets > 1514, "{direction}: {bytes}/{packets}");
    }
    container.remove();
}

fn two_containers_talk_over_a_bridge(scene: &Scene) {
    let host = Namespace::make();
    host.ip("link add bridge0 type bridge");
    host.ip("link set bridge0 up");
    let namespaces: Vec<Namespace> = (2..4_u8)
        .map(|number| {
            let namespace = Namespace::make();
            let port = format!("port{number}");
            namespace.connect("eth0", &host, &port);
            host.ip(&format!("link set {port} master bridge0"));
            address(&namespace, "eth0", number);
            namespace
        })
        .collect();
    let server = echoing(scene, &namespaces[0]);
    let client = echoing(scene, &namespaces[1]);
    await_server(&server);
    let said = client.exec(&["probe", "talk", "10.9.0.2:7000", "300000"]);
    assert_eq!(said.ok(), "300000 bytes\n");
    client.remove();
    server.remove();
}

/// As Docker does since version 28, and Podman with a user namespace.
fn a_namespace_that_is_filled_after_create_is_seen_at_start(scene: &Scene) {
    let far = Namespace::make();
    let container = scene.create(&scene.bundle(&["probe", "serve-echo", "[::]:7000"]));
    let namespace = Namespace::of(container.pid);
    far.connect("far0", &namespace, "eth0");
    address(&far, "far0", 1);
    address(&namespace, "eth0", 2);
    container.start();
    await_server(&container);
    let said = far.inside(|| traffic::talk("10.9.0.2:7000", 1000));
    assert_eq!(said, "1000 bytes");
    container.remove();
}

fn without_interfaces_there_is_only_loopback(scene: &Scene) {
    let script =
        "ls /sys/class/net; ip route; nc 127.0.0.1 1 </dev/null 2>/dev/null || echo refused";
    assert_eq!(scene.run(&scene.shell(script)).ok(), "lo\nrefused\n");
    let empty = Namespace::make();
    let bundle = scene.shell("ls /sys/class/net");
    bundle.in_network(&empty.path());
    assert_eq!(scene.run(&bundle).ok(), "lo\n");
}

fn an_interface_of_another_container_is_refused(scene: &Scene) {
    let (namespace, _far) = pair();
    let first = echoing(scene, &namespace);
    let bundle = scene.bundle(&["true"]);
    bundle.in_network(&namespace.path());
    let second = scene.create(&bundle);
    let refused = second.verb("start", &[]);
    refused.exits(1);
    assert!(refused.stderr.contains("eth0"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("another container"),
        "{}",
        refused.stderr
    );
    second.remove();
    // The first still has it.
    await_server(&first);
    first.remove();
    namespace.assert_restored();
}

fn more_interfaces_than_a_machine_has_are_refused(scene: &Scene) {
    let most = match scene.settings.machine {
        Machine::Kvm => 6,
        Machine::Tcg => 3,
    };
    let (namespace, far) = (Namespace::make(), Namespace::make());
    for number in 0..=most {
        namespace.connect(&format!("net{number}"), &far, &format!("far{number}"));
    }
    let bundle = scene.shell("ls /sys/class/net");
    bundle.in_network(&namespace.path());
    let container = scene.create(&bundle);
    let refused = container.verb("start", &[]);
    refused.exits(1);
    let limit = format!("at most {most} network interfaces");
    assert!(refused.stderr.contains(&limit), "{}", refused.stderr);
    namespace.ip(&format!("link delete net{most}"));
    container.start();
    assert_eq!(container.wait(), 0);
    assert_eq!(container.stdout().lines().count(), most + 1);
    container.delete();
    namespace.assert_restored();
}

/// Its interfaces would be lost to the host.
fn the_namespace_of_the_caller_is_refused(scene: &Scene) {
    let bundle = scene.shell("true");
    bundle.in_network(Path::new("/proc/self/ns/net"));
    let refused = scene.run(&bundle);
    refused.exits(1);
    assert!(refused.stderr.contains("is the host's"), "{refused:?}");
}

/// Docker's embedded one is at 127.0.0.11 of the namespace on the host.
fn a_name_server_on_loopback_is_asked(scene: &Scene) {
    const SERVER: (&str, u16) = ("127.0.0.11", 53);
    let (namespace, _far) = pair();
    let socket = namespace.inside(|| UdpSocket::bind(SERVER).unwrap());
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            let answer = answer_to(&question[..length]);
            socket.send_to(&answer, asker).unwrap();
        }
    });
    let listener = namespace.inside(|| TcpListener::bind(SERVER).unwrap());
    std::thread::spawn(move || traffic::serve(&listener));
    let resolv_conf = scene.path("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.11\n").unwrap();
    let bundle = scene.bundle(&["probe", "serve-echo", "[::]:7000"]);
    bundle.in_network(&namespace.path());
    bundle.with_mount(serde_json::json!({
        "destination": "/etc/resolv.conf", "type": "bind",
        "source": resolv_conf, "options": ["rbind", "ro"],
    }));
    let container = scene.started(&bundle);
    let said = container.exec(&["nslookup", "-type=a", "web.test"]);
    assert!(said.stdout.contains("192.0.2.33"), "{said:?}");
    // Over TCP, whatever is said there.
    let said = container.exec(&["probe", "talk", "127.0.0.11:53", "100000"]);
    assert_eq!(said.ok(), "100000 bytes\n");
    container.remove();
}

/// As CRI's port-forward and Podman's rootlessport dial them.
fn ports_of_the_container_are_those_of_localhost_on_the_host(scene: &Scene) {
    let (namespace, _far) = pair();
    let container = echoing(scene, &namespace);
    await_server(&container);
    let loopback = ["127.0.0.1:7000", "[::1]:7000"];
    let own = ["10.9.0.2:7000", "[fd00:9::2]:7000"];
    for address in loopback.into_iter().chain(own) {
        let said = namespace.inside(|| traffic::talk(address, 200_000));
        assert_eq!(said, "200000 bytes");
    }
    // Where nobody listens in the container the connection ends at once.
    let nobody = namespace.inside(|| {
        let mut stream = TcpStream::connect("127.0.0.1:7001")?;
        stream.read(&mut [0])
    });
    assert!(matches!(nobody, Ok(0) | Err(_)), "{nobody:?}");
    container.remove();
    namespace.assert_restored();
}

/// An answer of one address to the only question of a DNS message.
fn answer_to(question: &[u8]) -> Vec<u8> {
    const QUESTION_AT: usize = 12;
    let name = question[QUESTION_AT..].iter().position(|byte| *byte == 0);
    let end = QUESTION_AT + name.unwrap() + 5;
    let flags_and_counts = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    // The name by its place, type A, class IN, a minute, four bytes.
    let record = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 33];
    [
        &question[..2],
        &flags_and_counts,
        &question[QUESTION_AT..end],
        &record,
    ]
    .concat()
}
