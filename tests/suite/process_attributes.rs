//! What config.json says of a process is what the process sees of itself.

use std::fs;

use caisson_tests::{Bundle, Scene, stories};
use serde_json::{Value, json};

stories![
    a_scheduler_an_io_priority_and_a_personality_are_set,
    a_deadline_is_given_with_its_times,
    an_execd_process_runs_on_its_cpus,
    exec_with_other_capabilities_and_another_user,
    ambient_capabilities_outlive_a_change_of_user,
    capabilities_that_cannot_be_had_are_told,
    clocks_have_the_offsets_of_the_configuration,
    a_process_file_inherits_what_it_leaves_out,
    an_apparmor_profile_changes_nothing_and_the_log_says_so,
    what_a_process_cannot_have_is_one_clear_line,
];

const SETS: [&str; 5] = [
    "bounding",
    "effective",
    "permitted",
    "inheritable",
    "ambient",
];

fn with_process(bundle: &Bundle, member: &str, value: Value) {
    bundle.edit(|config| config["process"][member] = value);
}

fn a_scheduler_an_io_priority_and_a_personality_are_set(scene: &Scene) {
    let script = "ionice -p $$; cut -d' ' -f40,41 /proc/self/stat; uname -m; umask; \
                  cat /proc/self/oom_score_adj; pwd; hostname; cat /proc/sys/kernel/domainname";
    let bundle = scene.shell(script);
    with_process(
        &bundle,
        "scheduler",
        json!({"policy": "SCHED_RR", "priority": 5}),
    );
    let priority = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    with_process(&bundle, "ioPriority", priority);
    with_process(&bundle, "oomScoreAdj", json!(123));
    with_process(&bundle, "cwd", json!("/made/for/it"));
    bundle.edit(|config| {
        config["process"]["user"]["umask"] = json!(0o27);
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["hostname"] = json!("host");
        config["domainname"] = json!("domain");
    });
    // Priority and policy, as numbers of sched.h.
    let expected = "idle\n5 2\ni686\n0027\n123\n/made/for/it\nhost\ndomain\n";
    assert_eq!(scene.run(&bundle).ok(), expected);
}

fn a_deadline_is_given_with_its_times(scene: &Scene) {
    let bundle = scene.bundle(&["cut", "-d", " ", "-f41", "/proc/self/stat"]);
    let mut scheduler = json!({
        "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
        "runtime": 5_000_000, "deadline": 10_000_000, "period": 10_000_000,
    });
    with_process(&bundle, "scheduler", scheduler.clone());
    assert_eq!(scene.run(&bundle).ok(), "6\n");
    // Less time in all than is to be given in it.
    scheduler["period"] = json!(1);
    with_process(&bundle, "scheduler", scheduler);
    let output = scene.run(&bundle);
    assert_eq!(
        output.error_line(1),
        "error setting scheduler: invalid argument"
    );
}

fn an_execd_process_runs_on_its_cpus(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    with_process(
        &bundle,
        "execCPUAffinity",
        json!({"initial": "0", "final": ""}),
    );
    let container = scene.started(&bundle);
    let show = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    let output = container.exec(&show).ok();
    assert_eq!(output, "Cpus_allowed_list:\t0\n");
    let init = container.exec(&["grep", "Cpus_allowed_list", "/proc/1/status"]);
    assert!(init.ok() != output || scene.settings.machine == caisson_tests::Machine::Kvm);
    container.remove();
}

fn exec_with_other_capabilities_and_another_user(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| {
        for set in SETS {
            config["process"]["capabilities"][set] = json!(["CAP_KILL"]);
        }
        config["process"]["noNewPrivileges"] = json!(false);
    });
    let container = scene.started(&bundle);
    let show = [
        "sh",
        "-c",
        "id -u; id -G; grep -E '^Cap(Bnd|Eff|Amb)' /proc/self/status",
    ];
    let caps = |bits: &str| format!("CapEff:\t{bits}\nCapBnd:\t{bits}\nCapAmb:\t");
    let kill = "0000000000000020";
    let output = container.exec(&show).ok();
    assert_eq!(output, format!("0\n0\n{}{kill}\n", caps(kill)));
    let more = ["--cap", "CAP_NET_RAW", "--user", "0:7"];
    let output = exec_with(scene, &container.id, &more, &show);
    assert_eq!(
        output,
        format!("0\n7\n{}{kill}\n", caps("0000000000002020"))
    );
    let process = json!({
        "args": show, "env": ["PATH=/bin"], "cwd": "/",
        "user": {"uid": 33, "gid": 44, "additionalGids": [55]},
        "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
            "inheritable": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
    });
    let output = exec_file(scene, &container.id, &process);
    let chown = "0000000000000001";
    assert_eq!(output, format!("33\n44 55\n{}{chown}\n", caps(chown)));
    container.remove();
}

fn exec_with(scene: &Scene, id: &str, flags: &[&str], arguments: &[&str]) -> String {
    let words = [&["exec"], flags, &[id], arguments].concat();
    scene.caisson(words).ok()
}

fn exec_file(scene: &Scene, id: &str, process: &Value) -> String {
    let file = scene.path("process.json");
    fs::write(&file, process.to_string()).unwrap();
    exec_with(scene, id, &["--process", file.to_str().unwrap()], &[])
}

fn ambient_capabilities_outlive_a_change_of_user(scene: &Scene) {
    let bundle = scene.bundle(&["grep", "-E", "^Cap(Prm|Eff|Amb)", "/proc/self/status"]);
    bundle.edit(|config| {
        config["process"]["user"] = json!({"uid": 33, "gid": 44});
        for set in SETS {
            let own = json!(["CAP_NET_BIND_SERVICE", "CAP_OF_TOMORROW"]);
            config["process"]["capabilities"][set] = own;
        }
    });
    let output = scene.run(&bundle);
    output.exits(0);
    let found = output.stdout.matches("0000000000000400").count();
    assert_eq!(found, 3, "{output:?}");
}

fn a_process_file_inherits_what_it_leaves_out(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.edit(|config| config["process"]["user"]["umask"] = json!(0o77));
    with_process(&bundle, "scheduler", json!({"policy": "SCHED_BATCH"}));
    let container = scene.started(&bundle);
    let script = "umask; cut -d' ' -f41 /proc/self/stat; ulimit -n; \
                  grep -E '^CapEff' /proc/self/status";
    let process = json!({
        "args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/",
    });
    let own = container.exec(&["sh", "-c", script]).ok();
    assert!(own.starts_with("0077\n3\n1024\n"), "{own}");
    assert_eq!(exec_file(scene, &container.id, &process), own);
    container.remove();
}

fn an_apparmor_profile_changes_nothing_and_the_log_says_so(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    with_process(&bundle, "apparmorProfile", json!("docker-default"));
    let (log, folder) = (scene.path("log.json"), bundle.path.to_str().unwrap());
    let flags = ["--log-format", "json", "--log", log.to_str().unwrap()];
    let run = ["run", "--bundle", folder, &bundle.id];
    scene.caisson([&flags[..], &run].concat()).ok();
    let text = fs::read_to_string(log).unwrap();
    // Behind the warning of an emulated machine.
    let last = text.lines().last().unwrap();
    let line: Value = serde_json::from_str(last).unwrap();
    assert_eq!(line["level"], "warning");
    let message = line["msg"].as_str().unwrap();
    assert!(
        message.starts_with("config.json: process.apparmorProfile is ignored: "),
        "{message}"
    );
}

fn what_a_process_cannot_have_is_one_clear_line(scene: &Scene) {
    for (member, value, text) in [
        (
            "scheduler",
            json!({"policy": "SCHED_NEVER"}),
            "unknown variant `SCHED_NEVER`",
        ),
        (
            "scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER",
        ),
        (
            "ioPriority",
            json!({"class": "IOPRIO_CLASS_RT", "priority": 8}),
            "invalid ioPriority.Priority: 8",
        ),
        (
            "rlimits",
            json!([{"type": "RLIMIT_ALL", "soft": 1, "hard": 1}]),
            "unknown variant `RLIMIT_ALL`",
        ),
        (
            "rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
            "error setting rlimit type RLIMIT_CORE: invalid argument",
        ),
        (
            "execCPUAffinity",
            json!({"initial": "a-b"}),
            "Invalid execCPUAffinity format: a-b",
        ),
    ] {
        let bundle = scene.bundle(&["true"]);
        with_process(&bundle, member, value);
        let output = scene.run(&bundle);
        let line = output.error_line(1);
        assert!(line.contains(text), "{line}");
    }
    let bundle = scene.bundle(&["true"]);
    bundle.edit(|config| {
        config["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
    });
    let output = scene.run(&bundle);
    let line = output.error_line(1);
    assert!(line.contains("linux.personality.flags"), "{line}");
}

fn capabilities_that_cannot_be_had_are_told(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    let sets = json!({
        "bounding": ["CAP_KILL", "CAP_OF_TOMORROW"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    with_process(&bundle, "capabilities", sets);
    let log = scene.path("log");
    let folder = bundle.path.to_str().unwrap();
    let run = ["run", "--bundle", folder, &bundle.id];
    let output = scene.caisson(run);
    output.exits(0);
    let unknown = "ignoring unknown or unavailable capabilities: [CAP_OF_TOMORROW]";
    assert!(output.stderr.contains(unknown), "{output:?}");
    // What engines ask for in vain by the dozen is for a log, as if they were runc 1.1's.
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    scene
        .caisson([&["--log", log.to_str().unwrap()][..], &run].concat())
        .ok();
    let logged = fs::read_to_string(&log).unwrap();
    let not_raised = "can't raise ambient capability CAP_KILL: operation not permitted";
    assert!(logged.contains(not_raised), "{logged}");
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let flags = ["exec", "--cap", "CAP_OF_TOMORROW", &container.id, "true"];
    let output = scene.caisson(flags);
    output.exits(0);
    assert!(output.stderr.contains("[CAP_OF_TOMORROW]"), "{output:?}");
    container.remove();
}

fn clocks_have_the_offsets_of_the_configuration(scene: &Scene) {
    let bundle = scene.shell("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    bundle.edit(|config| {
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
    });
    let output = scene.run(&bundle).ok();
    let uptime: u64 = output.lines().next().unwrap().parse().unwrap();
    assert!(uptime >= 1_000_000, "{output}");
    assert!(output.contains("1000000"), "{output}");
}
