//! Plans as plain data: no file, no process.

use serde_json::json;

use super::*;
use crate::config::annotations::Bounds;
use crate::host::identity::User;

const BOUNDS: Bounds = Bounds {
    machine: MachineChoice::Auto,
    emulation: false,
    max_mem_mib: 16 * 1024,
    max_vcpus: 8,
    kernels: Vec::new(),
    groups: true,
};

const FACTS: HostFacts = HostFacts {
    cpus: 4,
    default_mem_mib: None,
    default_vcpus: None,
    bounds: BOUNDS,
    cgroup_driver: cgroup::Driver::Cgroupfs,
    user: None,
    group: Vec::new(),
};

fn bundle(change: impl FnOnce(&mut serde_json::Value)) -> Bundle {
    let mut raw = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}]},
    });
    change(&mut raw);
    Bundle {
        path: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        spec: crate::oci::bundle::without_vm(raw.clone()).unwrap(),
        raw,
        remarks: Vec::new(),
    }
}

fn planned(change: impl FnOnce(&mut serde_json::Value)) -> Plan {
    plan("web1", &bundle(change), &FACTS).unwrap()
}

#[test]
fn without_limits_the_defaults_hold() {
    let plan = planned(|_| {});
    assert_eq!((plan.vcpus, plan.mem_mib), (DEFAULT_VCPUS, DEFAULT_MEM_MIB));
    assert_eq!(plan.network, Network::Own);
    assert_eq!(
        plan.guest_spec["root"]["path"],
        "/run/caisson/share/web1/rootfs"
    );
}

#[test]
fn a_quota_rounds_up_to_vcpus_and_stops_at_the_hosts() {
    let with_quota = |quota: i64| {
        planned(|raw| {
            raw["linux"]["resources"] = json!({"cpu": {"quota": quota, "period": 100_000}});
        })
        .vcpus
    };
    assert_eq!(with_quota(50_000), 1);
    assert_eq!(with_quota(150_000), 2);
    assert_eq!(with_quota(1_000_000), 4);
    assert_eq!(with_quota(-1), DEFAULT_VCPUS);
}

#[test]
fn a_set_of_cpus_has_no_more_vcpus_than_members() {
    let with_set = |set: &str| {
        let resources = json!({"cpu": {"cpus": set, "quota": 1_000_000, "period": 100_000}});
        planned(|raw| raw["linux"]["resources"] = resources).vcpus
    };
    assert_eq!(with_set("0"), 1);
    assert_eq!(with_set("0-1,7"), 3);
    assert_eq!(with_set("0-900"), 4);
    assert_eq!(with_set("none"), 4);
}

#[test]
fn an_ordinary_users_container_has_its_user_namespace_on_the_host() {
    let user = User {
        uid: 1000,
        gid: 1000,
        sub_uids: vec![(100_000, 65_536)],
        sub_gids: Vec::new(),
    };
    let facts = HostFacts {
        user: Some(user),
        ..FACTS
    };
    let bundle = bundle(|raw| {
        raw["linux"]["namespaces"] = json!([{"type": "user"}, {"type": "network"}]);
    });
    let plan = plan("web1", &bundle, &facts).unwrap();
    assert_eq!(plan.identities.unwrap().uids.len(), 2);
    assert_eq!(plan.guest_spec["linux"]["namespaces"], json!([]));
    assert!(planned(|_| {}).identities.is_none());
}

#[test]
fn a_memory_limit_sizes_the_machine_with_the_guests_own_need() {
    let plan = planned(|raw| {
        raw["linux"]["resources"] = json!({"memory": {"limit": 256 << 20}});
    });
    assert_eq!(plan.mem_mib, 256 + GUEST_OVERHEAD_MIB);
}

#[test]
fn the_hardware_of_the_configuration_comes_first() {
    let limits = json!({"memory": {"limit": 256 << 20}, "cpu": {"quota": 10_000}});
    let plan = planned(|raw| {
        raw["linux"]["resources"] = limits;
        raw["vm"] = json!({"hwConfig": {"vcpus": 7, "memory": 300 << 20}});
    });
    assert_eq!((plan.vcpus, plan.mem_mib, plan.kernel), (7, 300, None));
    for (hardware, text) in [
        (
            json!({"vcpus": 65}),
            "vm.hwConfig.vcpus: a machine has 1 to 8 vCPUs, not 65",
        ),
        (
            json!({"memory": 1}),
            "vm.hwConfig.memory: a machine has 64 to ",
        ),
        (
            json!({"irqs": [3]}),
            "config.json: vm.hwConfig.irqs is not supported: ",
        ),
    ] {
        let wrong = bundle(|raw| raw["vm"] = json!({"hwConfig": hardware}));
        let err = crate::oci::plan::plan("web1", &wrong, &FACTS)
            .unwrap_err()
            .to_string();
        assert!(err.starts_with(text), "{err}");
    }
}

#[test]
fn only_a_permitted_kernel_boots() {
    let named = bundle(|raw| raw["vm"] = json!({"kernel": {"path": "/boot/mine"}}));
    let err = plan("web1", &named, &FACTS).unwrap_err().to_string();
    assert!(
        err.starts_with("vm.kernel.path: /boot/mine is not a kernel"),
        "{err}"
    );
    let bounds = Bounds {
        kernels: vec!["/boot/mine".into()],
        ..BOUNDS
    };
    let facts = HostFacts { bounds, ..FACTS };
    let planned = plan("web1", &named, &facts).unwrap();
    assert_eq!(planned.kernel, Some("/boot/mine".into()));
}

#[test]
fn a_bind_becomes_a_share_and_keeps_its_rights() {
    let plan = planned(|raw| {
        raw["mounts"] = json!([
            {"destination": "/data", "source": "vol", "options": ["rbind", "rro"]},
            {"destination": "/etc/hosts", "type": "bind", "source": "/tmp/hosts"},
        ]);
    });
    let share = &plan.shares[1];
    assert_eq!(share.source, Path::new("/bundle/vol"));
    assert!(share.access == Access::ReadOnly && share.recursive);
    assert_eq!(plan.shares[2].access, Access::AsMounted);
    assert_eq!(
        plan.guest_spec["mounts"][1]["source"],
        "/run/caisson/share/web1/mounts/1"
    );
}

#[test]
fn a_given_network_namespace_is_joined_on_the_host_and_not_in_the_guest() {
    let plan = planned(|raw| {
        raw["linux"]["namespaces"] = json!([{"type": "network", "path": "/run/netns/a"}]);
    });
    assert_eq!(plan.network, Network::Join("/run/netns/a".into()));
    assert_eq!(plan.guest_spec["linux"]["namespaces"], json!([]));
}

#[test]
fn an_annotation_chooses_only_what_the_configuration_allows() {
    let with =
        |request: &str| bundle(|raw| raw["annotations"] = json!({"dev.caisson.machine": request}));
    let plan_of = |request, machine, emulation| {
        let bounds = Bounds {
            machine,
            emulation,
            ..BOUNDS
        };
        plan("web1", &with(request), &HostFacts { bounds, ..FACTS }).map(|plan| plan.machine)
    };
    let err = plan_of("tcg", MachineChoice::Kvm, false).unwrap_err();
    let line = err.to_string();
    assert!(
        line.starts_with("annotation dev.caisson.machine: tcg is not allowed"),
        "{line}"
    );
    let chosen = plan_of("tcg", MachineChoice::Auto, true).unwrap();
    assert_eq!(chosen, MachineChoice::Tcg);
    let chosen = plan_of("kvm", MachineChoice::Tcg, true).unwrap();
    assert_eq!(chosen, MachineChoice::Kvm);
    plan_of("xen", MachineChoice::Auto, true).unwrap_err();
}

#[test]
fn a_limit_makes_no_larger_machine_than_is_allowed() {
    let with_limit =
        |bytes: u64| planned(|raw| raw["linux"]["resources"] = json!({"memory": {"limit": bytes}}));
    assert_eq!(with_limit(1 << 30).warnings, Vec::<String>::new());
    let plan = with_limit(1 << 40);
    assert_eq!(plan.mem_mib, BOUNDS.max_mem_mib);
    assert!(
        plan.warnings[0].contains("`max_mem_mib`"),
        "{:?}",
        plan.warnings
    );
    let pod = planned(|raw| {
        raw["annotations"] = json!({
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-memory": "1099511627776",
            "io.kubernetes.cri.sandbox-cpu-quota": "6400000",
            "io.kubernetes.cri.sandbox-cpu-period": "100000",
        });
    });
    assert_eq!((pod.mem_mib, pod.vcpus), (BOUNDS.max_mem_mib, FACTS.cpus));
}

#[test]
fn a_read_only_root_is_given_its_outermost_mount_points() {
    let mounts = json!([
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        {"destination": "/etc/hosts", "type": "bind", "source": "hosts"},
    ]);
    let writable = planned(|raw| raw["mounts"] = mounts.clone());
    assert_eq!(writable.mount_points, []);
    let read_only = planned(|raw| {
        raw["mounts"] = mounts.clone();
        raw["root"]["readonly"] = json!(true);
    });
    let place = |destination: &str, source: Option<&str>| MountPoint {
        destination: destination.into(),
        source: source.map(Into::into),
    };
    let outermost = [
        place("/dev", None),
        place("/etc/hosts", Some("/bundle/hosts")),
    ];
    let with_cwd = |cwd: &str| [&outermost[..], &[place(cwd, None)]].concat();
    assert_eq!(read_only.mount_points, with_cwd("/"));
    for (cwd, wanted) in [
        ("/job/here", with_cwd("/job/here")),
        ("/dev/deep", outermost.to_vec()),
    ] {
        let plan = planned(|raw| {
            raw["mounts"] = mounts.clone();
            raw["root"]["readonly"] = json!(true);
            raw["process"]["cwd"] = json!(cwd);
        });
        assert_eq!(plan.mount_points, wanted);
    }
}
