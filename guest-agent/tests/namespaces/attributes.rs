//! Members of config.json for a process and its namespaces: scheduling, clocks, execution
//! domain, the owner of its streams.

use super::host::{Host, process};
use serde_json::{Value, json};

pub(crate) fn output_of(host: &Host, id: &str, spec: &Value) -> String {
    let output = host.run(id, spec, b"").stdout();
    String::from_utf8(output).unwrap()
}

pub(crate) fn a_process_is_scheduled_as_configured(host: &Host) {
    let script = "ionice -p $$; cut -d' ' -f19,41 /proc/self/stat; uname -m";
    let mut spec = host.spec(&["sh", "-c", script]);
    spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    let output = output_of(host, "scheduled", &spec);
    // Nice value and policy, as numbers of sched.h.
    assert_eq!(output, "best-effort: prio 6\n5 3\ni686\n");

    let mut spec = host.spec(&["sleep", "100"]);
    spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    host.run("sleeps", &spec, b"");
    let script =
        "cut -d' ' -f41 /proc/self/stat; grep Cpus_allowed_list /proc/self/status; uname -m";
    let mut further = process(&["sh", "-c", script]);
    further["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
    further["scheduler"] = json!({"policy": "SCHED_IDLE"});
    let output = host.exec("sleeps", "e", &further).unwrap().stdout();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output, "5\nCpus_allowed_list:\t1\ni686\n");
    further["execCPUAffinity"] = json!({"final": "1000"});
    let refused = host.exec("sleeps", "f", &further).err().unwrap();
    let text = "process.execCPUAffinity: CPUs \"1000\": invalid argument";
    assert_eq!(refused, text);
}

pub(crate) fn a_time_namespace_has_its_own_clocks(host: &Host) {
    let mut spec = host.spec(&["cut", "-d.", "-f1", "/proc/uptime"]);
    let offsets = json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 7, "nanosecs": 5}});
    spec["linux"]["timeOffsets"] = offsets;
    let refused = host.create("clock", &spec, b"").err().unwrap();
    assert!(
        refused.contains("time namespace isn't enabled"),
        "{refused}"
    );
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "time"}));
    let uptime = output_of(host, "clock", &spec);
    assert!(
        uptime.trim().parse::<u64>().unwrap() > 1_000_000,
        "{uptime}"
    );
    spec["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
    let refused = host.create("bad", &spec, b"").err().unwrap();
    let text = "linux.timeOffsets: \"realtime 1 0\": invalid argument";
    assert_eq!(refused, text);
}

/// A configuration with a user namespace of its own.
pub(crate) fn with_users(host: &Host, script: &str) -> Value {
    let mut spec = host.spec(&["sh", "-c", script]);
    let linux = &mut spec["linux"];
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    for map in ["uidMappings", "gidMappings"] {
        linux[map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    spec
}

pub(crate) fn a_user_namespace_maps_ids(host: &Host) {
    let script = "id -u; cat /proc/self/uid_map; echo > /dev/null; stat -c %u /dev/shm; \
                  stat -L -c %u /dev/stdout; echo again > /dev/stdout; read line";
    let spec = with_users(host, script);
    let collected = host.create("user", &spec, b"").unwrap();
    host.start("user").unwrap();
    let output = String::from_utf8(collected.stdout()).unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(
        words,
        ["0", "0", "100000", "65536", "0", "0", "again"],
        "{output}"
    );

    host.run("users", &with_users(host, "sleep 1000"), b"");
    let mut further = process(&["sh", "-c", "id -u; id -G; echo > /dev/stdout"]);
    further["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [55]});
    let output = host.exec("users", "e", &further).unwrap().stdout();
    assert_eq!(String::from_utf8(output).unwrap(), "33\n44 55\n\n");

    let mut spec = with_users(host, "true");
    spec["process"]["user"] = json!({"uid": 70_000, "gid": 0});
    let refused = host.create("unmapped", &spec, b"").err().unwrap();
    let text = "cannot setuid to unmapped uid 70000 in user namespace";
    assert_eq!(refused, text);
    spec["linux"]["uidMappings"] = json!([
        {"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 5, "hostID": 0, "size": 10}]);
    let refused = host.create("overlap", &spec, b"").err().unwrap();
    assert_eq!(
        refused,
        "linux.uidMappings: write uid_map: invalid argument"
    );
}

pub(crate) fn limits_are_given_once(host: &Host) {
    let mut spec = host.spec(&["true"]);
    let limit = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
    spec["process"]["rlimits"] = json!([limit, limit]);
    let refused = host.create("twice", &spec, b"").err().unwrap();
    assert_eq!(refused, "process.rlimits: RLIMIT_CORE is given twice");
    spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]);
    let refused = host.create("upside", &spec, b"").err().unwrap();
    let text = "error setting rlimit type RLIMIT_CORE: invalid argument";
    assert_eq!(refused, text);
}

pub(crate) fn ambient_capabilities_outlive_a_change_of_user(host: &Host) {
    let mut spec = host.spec(&["grep", "-E", "^Cap(Prm|Eff|Amb)", "/proc/self/status"]);
    let own = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    spec["process"]["user"] = json!({"uid": 33, "gid": 44});
    // Some development machines withhold CAP_SYS_RESOURCE from root.
    spec["process"]["rlimits"] = json!([]);
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        spec["process"]["capabilities"][set] = own.clone();
    }
    let output = output_of(host, "ambient", &spec);
    assert_eq!(output.matches("0000000000000420").count(), 3, "{output}");
}

/// A capability to override modes is effective for an ordinary real user too.
pub(crate) fn a_capability_lets_a_user_execute(host: &Host) {
    let mut spec = host.spec(&["/data/program"]);
    let root = spec["root"]["path"].as_str().unwrap();
    let program = std::path::Path::new(root).join("data/program");
    std::fs::write(&program, "#!/bin/sh\necho ran\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o744);
    std::fs::set_permissions(&program, mode).unwrap();
    spec["process"]["user"] = json!({"uid": 33, "gid": 44});
    spec["process"]["rlimits"] = json!([]);
    let refused = host.create("without", &spec, b"").err().unwrap();
    assert_eq!(refused, "exec: \"/data/program\": permission denied");
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        spec["process"]["capabilities"][set] = json!(["CAP_DAC_OVERRIDE"]);
    }
    assert_eq!(output_of(host, "with", &spec), "ran\n");
}
