//! The systemd driver, with a real systemd: scopes, their limits as properties of
//! units, and that they go with the container.

use std::fs;
use std::path::Path;

use caisson_tests::leftovers::other_pids;
use caisson_tests::systemd::{Reach, Systemd};
use caisson_tests::{Bundle, Machine, Scene, stories};
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

stories![
    a_scope_is_made_and_gone_with_the_container.only(Machine::Kvm),
    limits_are_properties_of_the_unit_and_survive_a_reload.only(Machine::Kvm),
    annotations_are_properties_of_the_unit.only(Machine::Kvm),
    a_failed_creation_leaves_no_unit.only(Machine::Kvm),
    without_systemd_one_line_says_so,
];

/// A bundle whose scope is in a slice of its own, and the name of its unit.
fn placed(scene: &Scene, script: &str) -> (Bundle, String) {
    let bundle = scene.shell(script);
    let name = scene.tag();
    let path = format!("caissontest.slice:t:{name}");
    bundle.edit(|config| config["linux"]["cgroupsPath"] = path.into());
    (bundle, format!("t-{name}.scope"))
}

#[track_caller]
fn run(systemd: &Systemd<'_>, bundle: &Bundle) {
    let folder = bundle.path.to_str().unwrap();
    let output = systemd.caisson(&["run", "--detach", "--bundle", folder, &bundle.id]);
    assert_eq!(output.ok(), "");
}

fn a_scope_is_made_and_gone_with_the_container(scene: &Scene) {
    for reach in [Reach::PrivateSocket, Reach::Bus] {
        let systemd = Systemd::boot(scene, reach);
        let (bundle, unit) = placed(scene, "sleep 1000");
        run(&systemd, &bundle);
        assert_eq!(
            systemd.property(&unit, "ActiveState"),
            "active",
            "{reach:?}"
        );
        assert_eq!(systemd.property(&unit, "Slice"), "caissontest.slice");
        assert_eq!(systemd.property(&unit, "Delegate"), "yes");
        let folder = systemd.folder(&systemd.property(&unit, "ControlGroup"));
        let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        let ours = other_pids().into_iter().filter(|pid| is_caissons(*pid));
        let ours: Vec<String> = ours.map(|pid| pid.to_string()).collect();
        assert!(ours.len() >= 3, "{ours:?}");
        for pid in ours {
            assert!(inside.lines().any(|line| line == pid), "{pid}: {inside}");
        }
        // A scope of that name is there: another container can't have it.
        let other = scene.bundle(&["true"]);
        let path = format!("caissontest.slice:t:{}", scene.tag());
        other.edit(|config| config["linux"]["cgroupsPath"] = path.into());
        let arguments = [
            "create",
            "--bundle",
            other.path.to_str().unwrap(),
            &other.id,
        ];
        let refused = systemd.caisson(&arguments);
        let line = refused.error_line(1);
        assert!(
            line.contains(&format!("have systemd start {unit}: ")),
            "{line}"
        );
        systemd.caisson(&["delete", "--force", &bundle.id]).ok();
        assert_eq!(systemd.property(&unit, "LoadState"), "not-found");
        assert!(!folder.exists());
        drop(systemd);
        scene.assert_nothing_is_left();
    }
}

fn is_caissons(pid: i32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("caisson")
}

fn limits_are_properties_of_the_unit_and_survive_a_reload(scene: &Scene) {
    let systemd = Systemd::boot(scene, Reach::PrivateSocket);
    let (bundle, unit) = placed(scene, "sleep 1000");
    bundle.with_resource("memory", json!({"limit": 64 << 20}));
    bundle.with_resource("pids", json!({"limit": 16}));
    bundle.with_resource(
        "cpu",
        json!({"quota": 50_000, "period": 100_000, "shares": 2048, "cpus": "0", "mems": "0"}),
    );
    run(&systemd, &bundle);
    let folder = systemd.folder(&systemd.property(&unit, "ControlGroup"));
    let value = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let memory = value("memory.max");
    assert_ne!(memory, "max\n");
    let check = |expected: &[(&str, &str)]| {
        for (name, expected) in expected {
            assert_eq!(systemd.property(&unit, name), *expected, "{name}");
        }
    };
    check(&[
        ("MemoryMax", memory.trim()),
        ("TasksMax", "1040"),
        ("CPUWeight", "174"),
        ("CPUQuotaPerSecUSec", "630ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
    ]);
    let files = [
        "memory.max",
        "pids.max",
        "cpu.weight",
        "cpu.max",
        "cpuset.cpus",
    ];
    let before = files.map(value);
    systemd.systemctl(&["daemon-reload"]);
    assert_eq!(files.map(value), before);
    let update = [
        "update",
        "--pids-limit",
        "50",
        "--cpu-quota",
        "-1",
        "--memory",
        "32m",
        &bundle.id,
    ];
    assert_eq!(systemd.caisson(&update).ok(), "");
    check(&[("TasksMax", "1074"), ("CPUQuotaPerSecUSec", "infinity")]);
    systemd.systemctl(&["daemon-reload"]);
    assert_eq!(value("pids.max"), "1074\n");
    assert!(value("cpu.max").starts_with("max "));
    systemd.caisson(&["delete", "--force", &bundle.id]).ok();
}

fn annotations_are_properties_of_the_unit(scene: &Scene) {
    let systemd = Systemd::boot(scene, Reach::Bus);
    let (bundle, unit) = placed(scene, "sleep 1000");
    bundle.edit(|config| {
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.KillSignal": "10",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.Before": "['caissontest-a.target', 'caissontest-b.target']",
        });
    });
    run(&systemd, &bundle);
    for (name, expected) in [
        ("TimeoutStopUSec", "7s"),
        ("KillSignal", "10"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert_eq!(systemd.property(&unit, name), expected, "{name}");
    }
    let before = systemd.property(&unit, "Before");
    assert!(before.contains("caissontest-b.target"), "{before}");
    systemd.caisson(&["delete", "--force", &bundle.id]).ok();
    let create = |bundle: &Bundle| {
        let folder = bundle.path.to_str().unwrap();
        systemd.caisson(&["create", "--bundle", folder, &bundle.id])
    };
    bundle.edit(|config| {
        config["annotations"] = json!({"org.systemd.property.KillSignal": "many"});
    });
    let text = "annotation org.systemd.property.KillSignal: \"many\" is not a value such as true, 'text', uint64 5 or ['a', 'b']";
    create(&bundle).fails(1, text);
    bundle.edit(|config| {
        config["annotations"] = json!({"org.systemd.property.NoSuchThing": "1"});
    });
    let refused = create(&bundle);
    assert!(refused.error_line(1).contains("NoSuchThing"), "{refused:?}");
}

fn a_failed_creation_leaves_no_unit(scene: &Scene) {
    let systemd = Systemd::boot(scene, Reach::PrivateSocket);
    let (bundle, unit) = placed(scene, "true");
    bundle.edit(|config| {
        config["hooks"]["createContainer"] = json!([{"path": "/bin/false"}]);
    });
    let folder = bundle.path.to_str().unwrap();
    systemd
        .caisson(&["create", "--bundle", folder, &bundle.id])
        .exits(1);
    assert_eq!(systemd.property(&unit, "LoadState"), "not-found");
}

fn without_systemd_one_line_says_so(scene: &Scene) {
    let own = Path::new("/run/systemd");
    let hidden = own.exists();
    if hidden {
        // That of the machine, out of this test's sight.
        let (none, flags) = (None::<&str>, MsFlags::empty());
        mount(none, own, Some("tmpfs"), flags, none).unwrap();
    }
    let (bundle, _) = placed(scene, "true");
    let folder = bundle.path.to_str().unwrap();
    let mut command = scene.command(["--systemd-cgroup", "create", "--bundle", folder, &bundle.id]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    let refused = scene.output_of(command);
    let line = refused.error_line(1);
    for part in [
        "connect to systemd: neither by its bus (",
        "nor by /run/systemd/private",
        "without --systemd-cgroup",
    ] {
        assert!(line.contains(part), "{line}");
    }
    if hidden {
        umount(own).unwrap();
    }
    scene.assert_nothing_is_left();
}
