//! What a scan makes of what the kernel tells, as plain data.

use super::*;

fn answer(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Answer {
    Answer {
        kind,
        body: [header, &Message::nested(attributes)].concat(),
    }
}

fn link_of(index: u32, name: &str, flags: i32, more: &[(u16, &[u8])]) -> Link {
    let kind = libc::ARPHRD_ETHER.to_ne_bytes();
    let header = [
        &[0, 0][..],
        &kind,
        &index.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &[0; 4],
    ]
    .concat();
    let name = [name.as_bytes(), &[0]].concat();
    let mtu = 1500_u32.to_ne_bytes();
    let mut attributes: Vec<(u16, &[u8])> = vec![
        (libc::IFLA_IFNAME, &name),
        (libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
        (libc::IFLA_MTU, &mtu),
    ];
    attributes.extend(more);
    link(&answer(libc::RTM_NEWLINK, &header, &attributes)).unwrap()
}

#[test]
fn only_interfaces_that_are_up_and_stand_alone_go_into_the_machine() {
    let up = libc::IFF_UP;
    let tun = Message::nested(&[(INFO_KIND, b"tun\0")]);
    let master = 7_u32.to_ne_bytes();
    let one = link_of(2, "eth0", up, &[]);
    assert!(one.is_usable());
    assert_eq!((one.index, one.name.as_str(), one.mtu), (2, "eth0", 1500));
    assert!(!link_of(2, "eth0", 0, &[]).is_usable());
    assert!(!link_of(2, "p", up, &[(libc::IFLA_MASTER, &master)]).is_usable());
    let ours = link_of(2, "cais4711.0", up, &[(libc::IFLA_LINKINFO, &tun)]);
    assert!(!ours.is_usable());
    let anothers = link_of(2, "tap0", up, &[(libc::IFLA_LINKINFO, &tun)]);
    assert!(anothers.is_usable());
}

#[test]
fn addresses_keep_peer_prefix_and_scope_and_dynamic_ones_are_left_out() {
    let header = [&[INET, 24, 0x80, 0][..], &3_u32.to_ne_bytes()].concat();
    let plain: &[(u16, &[u8])] = &[
        (libc::IFA_ADDRESS, &[10, 0, 0, 2]),
        (libc::IFA_LOCAL, &[10, 0, 0, 2]),
        (libc::IFA_BROADCAST, &[10, 0, 0, 255]),
    ];
    let (index, found) = address(&answer(libc::RTM_NEWADDR, &header, plain)).unwrap();
    assert_eq!((index, found.prefix_length), (3, 24));
    assert_eq!(found.local, [10, 0, 0, 2]);
    assert!(found.peer.is_empty());
    let far: &[(u16, &[u8])] = &[
        (libc::IFA_ADDRESS, &[10, 0, 0, 1]),
        (libc::IFA_LOCAL, &[10, 0, 0, 2]),
    ];
    let (_, found) = address(&answer(libc::RTM_NEWADDR, &header, far)).unwrap();
    assert_eq!(found.peer, [10, 0, 0, 1]);
    let dynamic = [&[INET6, 64, 0, 0][..], &3_u32.to_ne_bytes()].concat();
    let found = address(&answer(
        libc::RTM_NEWADDR,
        &dynamic,
        &[(libc::IFA_ADDRESS, &[1; 16])],
    ));
    assert_eq!(found, None);
}

#[test]
fn what_the_host_has_not_found_out_is_told() {
    let tentative = |flags: u32| {
        let [few, ..] = flags.to_ne_bytes();
        let header = [&[INET6, 64, few, 0][..], &3_u32.to_ne_bytes()].concat();
        let attributes: &[(u16, &[u8])] = &[
            (libc::IFA_ADDRESS, &[1; 16]),
            (libc::IFA_FLAGS, &flags.to_ne_bytes()),
        ];
        let (_, found) = address(&answer(libc::RTM_NEWADDR, &header, attributes)).unwrap();
        found.tentative
    };
    assert!(tentative(libc::IFA_F_PERMANENT | libc::IFA_F_TENTATIVE));
    assert!(!tentative(libc::IFA_F_PERMANENT));
}

#[test]
fn gateways_come_after_what_they_need() {
    let picture = Picture {
        links: vec![link_of(2, "eth0", libc::IFF_UP, &[])],
        routes: vec![
            route("eth0", &[10, 0, 0, 1]),
            route("eth0", &[]),
            route("elsewhere", &[]),
        ],
        ..Default::default()
    };
    let plugged = picture.links.iter().map(|link| (link, [9; 6]));
    let told = picture.configuration(plugged);
    assert_eq!(told.interfaces[0].device_mac, [9; 6]);
    assert_eq!(
        told.routes,
        [route("eth0", &[]), route("eth0", &[10, 0, 0, 1])]
    );
    assert_eq!(
        picture.configuration(std::iter::empty()),
        NetworkConfiguration::default()
    );
}

fn route(interface: &str, gateway: &[u8]) -> Route {
    let hop = caisson_protocol::client::agent::NextHop {
        interface: interface.to_owned(),
        gateway: gateway.to_vec(),
        ..Default::default()
    };
    Route {
        next_hops: vec![hop],
        ..Default::default()
    }
}

#[test]
fn the_usual_rules_are_not_told() {
    let header = |flags: u32| [&[INET, 0, 0, 0, 0, 0, 0, 1][..], &flags.to_ne_bytes()].concat();
    let attributes = |priority: u32, table: u32| {
        Message::nested(&[
            (RULE_PRIORITY, &priority.to_ne_bytes()),
            (RULE_TABLE, &table.to_ne_bytes()),
        ])
    };
    let of = |flags, priority, table| {
        rule(&Answer {
            kind: libc::RTM_NEWRULE,
            body: [header(flags), attributes(priority, table)].concat(),
        })
    };
    assert_eq!(of(0, 32766, 254), None);
    let found = of(0x1_0002, 100, 254).unwrap();
    assert_eq!(found, [header(2), attributes(100, 254)].concat());
}

#[test]
fn kinds_whose_frames_are_routed_are_refused_by_name() {
    let described = |kind: &[u8], mode: &[u8]| {
        let parameters = Message::nested(&[(IPVLAN_MODE, mode)]);
        let details = Message::nested(&[(INFO_KIND, kind), (INFO_DATA, &parameters)]);
        link_of(2, "net1", libc::IFF_UP, &[(libc::IFLA_LINKINFO, &details)])
    };
    for (kind, mode) in [(b"ipvlan\0", [0, 0]), (b"macvtap", [1, 0])] {
        described(kind, &mode).check().unwrap();
    }
    link_of(2, "eth0", libc::IFF_UP, &[]).check().unwrap();
    let refused = described(b"ipvlan\0", &[1, 0]).check().unwrap_err();
    let line = refused.to_string();
    assert!(
        line.contains("net1 (ipvlan)") && line.contains("mode l2"),
        "{line}"
    );
    described(b"vrf\0", &[]).check().unwrap_err();
}

/// What becomes of a route to 10.1.0.0/16 over the interface of number 2.
fn found(more: &[(u16, &[u8])]) -> Option<Found> {
    let (main, boot, unicast) = (254, 3, 1);
    let header = [&[INET, 16, 0, 0, main, boot, 0, unicast][..], &[0; 4]].concat();
    let index = 2_u32.to_ne_bytes();
    let mut attributes: Vec<(u16, &[u8])> = vec![(libc::RTA_DST, &[10, 1, 0, 0])];
    attributes.push((libc::RTA_OIF, &index));
    attributes.extend(more);
    let names = [(2, "eth0".to_owned())].into();
    routes::parse(&answer(libc::RTM_NEWROUTE, &header, &attributes), &names)
}

#[test]
fn routes_keep_everything_or_are_named() {
    const PREF: u16 = 20;
    let plain = found(&[(libc::RTA_CACHEINFO, &[1; 32]), (PREF, &[0])]);
    let Some(Found::Route(route)) = plain else {
        panic!("{plain:?}");
    };
    assert_eq!(route.next_hops[0].interface, "eth0");
    for (kind, value, words) in [
        (22, &[1, 2, 3, 4][..], "an encapsulation (encap)"),
        (11, &[5, 0, 0, 0], "a realm"),
        (PREF, &[1], "preference"),
        (77, &[0], "attribute 77"),
    ] {
        let beyond = found(&[(kind, value)]);
        let Some(Found::Beyond(line)) = beyond else {
            panic!("{beyond:?}");
        };
        assert!(
            line.starts_with("route 10.1.0.0/16 ") && line.contains(words),
            "{line}"
        );
    }
}

#[test]
fn next_hops_with_an_encapsulation_take_their_route_with_them() {
    let hop = |attributes: &[(u16, &[u8])]| {
        let attributes = Message::nested(attributes);
        let length = u16::try_from(8 + attributes.len()).unwrap();
        let head = [&length.to_ne_bytes()[..], &[0, 0], &2_u32.to_ne_bytes()].concat();
        [head, attributes].concat()
    };
    let plain = hop(&[(libc::RTA_GATEWAY, &[10, 9, 0, 1])]);
    let both = [plain.clone(), plain.clone()].concat();
    let route = found(&[(libc::RTA_MULTIPATH, &both)]);
    assert!(matches!(route, Some(Found::Route(route)) if route.next_hops.len() == 2));
    let both = [plain, hop(&[(22, &[1, 2, 3, 4])])].concat();
    let route = found(&[(libc::RTA_MULTIPATH, &both)]);
    assert!(matches!(route, Some(Found::Beyond(_))));
}

#[test]
fn what_the_container_lacks_is_complained_of() {
    let picture = Picture {
        links: vec![link_of(2, "eth0", libc::IFF_UP, &[])],
        routes: vec![route("eth0", &[]), route("elsewhere", &[])],
        beyond: vec!["a line".to_owned()],
        ..Default::default()
    };
    let complaints = picture.complaints(&["eth0"]);
    assert_eq!(complaints.len(), 2);
    assert_eq!(complaints[0], "a line");
    assert!(
        complaints[1].contains("interface elsewhere"),
        "{complaints:?}"
    );
}

#[test]
fn addresses_of_loopback_are_complained_of_unless_all_have_them() {
    let mut lo = link_of(1, "lo", libc::IFF_UP, &[]);
    (lo.ethernet, lo.loopback) = (false, true);
    let on = |index: u32, local: &[u8]| {
        let local = local.to_vec();
        (
            index,
            Address {
                local,
                ..Default::default()
            },
        )
    };
    let mut last = [0; 16];
    last[15] = 1;
    let picture = Picture {
        links: vec![lo, link_of(2, "eth0", libc::IFF_UP, &[])],
        addresses: vec![
            on(1, &[127, 0, 0, 1]),
            on(1, &[127, 1, 2, 3]),
            on(1, &last),
            on(1, &[192, 0, 2, 7]),
            on(2, &[10, 9, 0, 2]),
        ],
        ..Default::default()
    };
    let complaints = picture.complaints(&["eth0"]);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].starts_with("address 192.0.2.7 on lo "),
        "{complaints:?}"
    );
}
