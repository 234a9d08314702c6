//! The whole agent, as PID 1 of namespaces on this machine, driven by the host's
//! client. Needs root, busybox and cgroup version 2; is skipped without root.
//!
//! Not a libtest: this program is also the agent it tests, and an agent must have
//! one thread.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, of which clippy knows nothing without libtest"
)]

mod attributes;
mod hooks;
mod host;
mod mounts;

use std::{fs, path::Path, time::Instant};

use caisson_agent::{
    boot::ROOTFS_POINT,
    failure::{Attempt, Failure},
    transport::Transport,
};
use host::{Host, process};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("agent") => agent(Path::new(&arguments[2])),
        filter => tests(filter.unwrap_or_default()),
    }
}

fn agent(directory: &Path) {
    prepare(directory).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let transport = Transport::unix(directory.to_owned());
    runtime
        .block_on(caisson_agent::run(transport, || Ok(())))
        .unwrap();
}

/// What a machine's boot does, as far as namespaces need it.
fn prepare(directory: &Path) -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).at("make private", "/")?;
    let mount_at = |kind: &str, point: &str| {
        mount(kind, point, kind, MountFlags::empty(), c"").at("mount", point)
    };
    mount_at("proc", "/proc")?;
    mount_at("tmpfs", "/run")?;
    mount_at("cgroup2", CGROUPS)?;
    // A cgroup of its own keeps containers of tests apart, also those of an agent
    // that was killed.
    let own = Path::new(CGROUPS).join(directory.file_name().unwrap());
    fs::create_dir(&own).at("create", &own)?;
    fs::write(own.join("cgroup.procs"), "0").at("join", &own)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
    unmount(CGROUPS, UnmountFlags::DETACH).at("unmount", CGROUPS)?;
    mount_at("cgroup2", CGROUPS)?;
    fs::create_dir_all(ROOTFS_POINT).at("create", ROOTFS_POINT)
}

const CGROUPS: &str = "/sys/fs/cgroup";

type Case = (&'static str, fn(&Host));

const CASES: &[Case] = &[
    (
        "a_container_sees_its_own_machine",
        a_container_sees_its_own_machine,
    ),
    ("exit_codes_arrive_unchanged", exit_codes_arrive_unchanged),
    (
        "what_can_not_be_executed_is_refused_in_runcs_words",
        what_can_not_be_executed,
    ),
    (
        "streams_carry_everything_both_ways",
        streams_carry_everything_both_ways,
    ),
    ("fifty_execs_at_once", fifty_execs_at_once),
    ("the_last_line_is_never_lost", the_last_line_is_never_lost),
    (
        "a_terminal_has_a_size_and_controls",
        a_terminal_has_a_size_and_controls,
    ),
    (
        "mounts_take_their_options",
        mounts::mounts_take_their_options,
    ),
    (
        "mounts_are_made_in_their_order",
        mounts::mounts_are_made_in_their_order,
    ),
    (
        "a_mount_is_changed_by_another",
        mounts::a_mount_is_changed_by_another,
    ),
    (
        "what_can_not_be_mounted_is_named",
        mounts::what_can_not_be_mounted_is_named,
    ),
    (
        "start_hooks_run_in_the_container",
        hooks::start_hooks_run_in_the_container,
    ),
    (
        "a_failing_start_hook_ends_the_container",
        hooks::a_failing_start_hook_ends_the_container,
    ),
    (
        "rights_are_those_of_the_configuration",
        rights_are_those_of_the_configuration,
    ),
    (
        "a_process_is_scheduled_as_configured",
        attributes::a_process_is_scheduled_as_configured,
    ),
    (
        "a_time_namespace_has_its_own_clocks",
        attributes::a_time_namespace_has_its_own_clocks,
    ),
    (
        "a_user_namespace_maps_ids",
        attributes::a_user_namespace_maps_ids,
    ),
    ("limits_are_given_once", attributes::limits_are_given_once),
    (
        "ambient_capabilities_outlive_a_change_of_user",
        attributes::ambient_capabilities_outlive_a_change_of_user,
    ),
    (
        "a_capability_lets_a_user_execute",
        attributes::a_capability_lets_a_user_execute,
    ),
    (
        "a_paused_container_does_not_run",
        a_paused_container_does_not_run,
    ),
    (
        "no_event_is_lost_with_a_connection",
        no_event_is_lost_with_a_connection,
    ),
    ("cycles_leave_nothing", cycles_leave_nothing),
];

fn tests(filter: &str) {
    if !rustix::process::getuid().is_root() {
        println!("skipped: not root");
        return;
    }
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(filter)) {
        let begun = Instant::now();
        case(&Host::new(name));
        println!("{name}: ok ({} ms)", begun.elapsed().as_millis());
    }
}

fn a_container_sees_its_own_machine(host: &Host) {
    let script = "hostname; echo $$; cat /proc/1/comm; pwd; echo $HOME; ls /dev; id -u; \
                  cat /proc/self/cgroup; ls /proc/kcore -l | cut -c1; echo x > /proc/sys/kernel/hostname";
    let output = host
        .run("one", &host.spec(&["sh", "-c", script]), b"")
        .stdout();
    let output = String::from_utf8(output).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..5], ["inside", "1", "sh", "/", "/root"], "{output}");
    for device in [
        "null", "ptmx", "pts", "shm", "stdout", "tty", "urandom", "zero",
    ] {
        assert!(lines.contains(&device), "{device}: {output}");
    }
    assert!(lines.contains(&"0::/"), "{output}");
    let exit = host.exit("one", "");
    assert_eq!(exit.status, 1, "/proc/sys is read-only");
    assert_eq!(exit.stdout_bytes, output.len() as u64);
    host.delete("one").unwrap();
}

fn exit_codes_arrive_unchanged(host: &Host) {
    for code in [0, 1, 7, 126, 255] {
        let id = format!("c{code}");
        let spec = host.spec(&["sh", "-c", &format!("exit {code}")]);
        host.run(&id, &spec, b"").stdout();
        assert_eq!(host.exit(&id, "").status, code);
        host.delete(&id).unwrap();
    }
    let spec = host.spec(&["sleep", "100"]);
    host.run("sleeps", &spec, b"");
    let real_time = 36;
    host.exec("sleeps", "e", &process(&["sleep", "100"]))
        .unwrap();
    host.signal("sleeps", "e", real_time, false).unwrap();
    assert_eq!(host.exit("sleeps", "e").status, 128 + real_time);
    host.signal("sleeps", "", 9, true).unwrap();
    assert_eq!(host.exit("sleeps", "").status, 137);
    let late = host.signal("sleeps", "", 15, false).unwrap_err();
    assert_eq!(late, "os: process already finished");
    host.delete("sleeps").unwrap();
    assert_eq!(
        host.delete("sleeps").unwrap_err(),
        "container does not exist"
    );
}

fn what_can_not_be_executed(host: &Host) {
    for (program, complaint) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH"),
        (
            "/foo",
            "exec: \"/foo\": stat /foo: no such file or directory",
        ),
        ("/data", "exec: \"/data\": is a directory"),
        ("/data/plain", "exec: \"/data/plain\": permission denied"),
    ] {
        let refused = host.create("bad", &host.spec(&[program]), b"").err();
        assert_eq!(refused.unwrap(), complaint);
    }
    let mut spec = host.spec(&["true"]);
    spec["mounts"][0] = json!({"destination": "/data/plain/x", "type": "tmpfs"});
    let refused = host.create("bad", &spec, b"").err().unwrap();
    assert!(refused.ends_with("not a directory"), "{refused}");
    host.run("good", &host.spec(&["sleep", "100"]), b"");
    let refused = host
        .exec("good", "e", &process(&["nothing"]))
        .err()
        .unwrap();
    assert!(
        refused.contains("executable file not found in $PATH"),
        "{refused}"
    );
}

fn streams_carry_everything_both_ways(host: &Host) {
    let input: Vec<u8> = (0..100_000_000_u32)
        .map(|n| (n ^ (n >> 8)).to_le_bytes()[0])
        .collect();
    let collected = host.run("cat", &host.spec(&["cat"]), &input);
    assert!(collected.stdout() == input, "bytes were lost or changed");
    let exit = host.exit("cat", "");
    assert_eq!((exit.status, exit.stdout_bytes), (0, input.len() as u64));
    // A process that doesn't read holds up neither its output nor its end.
    let deaf = host.run("deaf", &host.spec(&["echo", "heard"]), &input);
    assert_eq!(host.exit("deaf", "").status, 0);
    assert_eq!(deaf.stdout(), b"heard\n");
}

fn fifty_execs_at_once(host: &Host) {
    host.run("main", &host.spec(&["sleep", "1000"]), b"");
    std::thread::scope(|scope| {
        for number in 0..50 {
            scope.spawn(move || {
                let id = format!("e{number}");
                let script = format!("cat /proc/1/comm; echo {number}; exit {number}");
                let collected = host
                    .exec("main", &id, &process(&["sh", "-c", &script]))
                    .unwrap();
                let output = String::from_utf8(collected.stdout()).unwrap();
                assert_eq!(output, format!("sleep\n{number}\n"));
            });
        }
    });
    for number in 0..50 {
        assert_eq!(host.exit("main", &format!("e{number}")).status, number);
    }
    assert_eq!(host.commands("main"), ["sleep 1000"]);
}

fn the_last_line_is_never_lost(host: &Host) {
    host.run("main", &host.spec(&["sleep", "1000"]), b"");
    for number in 0..200 {
        let id = number.to_string();
        let collected = host.exec("main", &id, &process(&["echo", &id])).unwrap();
        let exit = host.exit("main", &id);
        let output = collected.stdout();
        assert_eq!(output, format!("{id}\n").as_bytes());
        assert_eq!(exit.stdout_bytes, output.len() as u64);
    }
}

fn a_terminal_has_a_size_and_controls(host: &Host) {
    let mut spec = host.spec(&[
        "sh",
        "-c",
        "tty; stty size; read line; stty size; echo $line",
    ]);
    spec["process"]["terminal"] = json!(true);
    spec["process"]["consoleSize"] = json!({"height": 11, "width": 22});
    let collected = host.create("tty", &spec, b"typed\n").unwrap();
    host.start("tty").unwrap();
    let exit = host.exit("tty", "");
    let output = String::from_utf8(collected.stdout()).unwrap();
    // What is typed is echoed as soon as it comes, between any two lines.
    let printed = output.replacen("typed\r\n", "", 1);
    assert!(printed.starts_with("/dev/pts/0\r\n11 22\r\n"), "{output:?}");
    assert!(output.ends_with("typed\r\n"), "{output:?}");
    assert_eq!(exit.stdout_bytes, output.len() as u64);

    spec["process"]["args"] = json!([
        "sh",
        "-c",
        "until stty size | grep '33 44'; do sleep 0.05; done; exit 5"
    ]);
    let collected = host.run("sized", &spec, b"");
    host.resize("sized", 33, 44);
    let status = host.exit("sized", "").status;
    let output = String::from_utf8(collected.stdout()).unwrap();
    assert_eq!((output.as_str(), status), ("33 44\r\n", 5));
}

fn rights_are_those_of_the_configuration(host: &Host) {
    let mut spec = host.spec(&[
        "sh",
        "-c",
        "id -u; id -G; umask; pwd; grep -E '^(CapEff|CapBnd|NoNewPrivs|SigIgn):' /proc/self/status; \
         cat /proc/self/oom_score_adj; echo again > /dev/stdout",
    ]);
    spec["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [55], "umask": 63});
    spec["process"]["cwd"] = json!("/made/here");
    spec["process"]["oomScoreAdj"] = json!(77);
    // Some development machines withhold CAP_SYS_RESOURCE from root.
    spec["process"]["rlimits"] = json!([]);
    let output = host.run("rights", &spec, b"").stdout();
    let output = String::from_utf8(output).unwrap().replace('\t', " ");
    // Two signals are the C library's own; what ignored them before stays.
    let output = output.replace("SigIgn: 0000000180000000", "SigIgn: 0000000000000000");
    let expected = "33\n44 55\n0077\n/made/here\nSigIgn: 0000000000000000\n\
                    CapEff: 0000000000000000\nCapBnd: 00000000000004e1\nNoNewPrivs: 1\n77\nagain\n";
    assert_eq!(output, expected);
}

fn a_paused_container_does_not_run(host: &Host) {
    host.run("still", &host.spec(&["sleep", "1000"]), b"");
    host.pause("still");
    let refused = host.exec("still", "e", &process(&["true"])).err().unwrap();
    let expected = "cannot exec in a paused container (use --ignore-paused to override)";
    assert_eq!(refused, expected);
    host.signal("still", "", 15, false).unwrap();
    assert_eq!(host.commands("still").len(), 1);
    host.resume("still");
    host.signal("still", "", 9, false).unwrap();
    assert_eq!(host.exit("still", "").status, 137);
}

fn no_event_is_lost_with_a_connection(host: &Host) {
    let collected = host.run(
        "cut",
        &host.spec(&["sh", "-c", "read line; exit 3"]),
        b"go\n",
    );
    host.reconnect();
    assert_eq!(host.exit("cut", "").status, 3);
    assert_eq!(collected.stdout(), b"");
    host.delete("cut").unwrap();
}

fn cycles_leave_nothing(host: &Host) {
    for number in 0..100 {
        let id = number.to_string();
        host.run(&id, &host.spec(&["sleep", "1000"]), b"");
        host.signal(&id, "", 9, false).unwrap();
        assert_eq!(host.exit(&id, "").status, 137);
        host.delete(&id).unwrap();
    }
}
