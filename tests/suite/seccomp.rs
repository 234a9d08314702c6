//! `linux.seccomp`: what a profile denies, logs or kills, in every process of
//! the container.

use caisson_tests::{Bundle, Scene, stories};
use serde_json::{Value, json};

stories![
    a_denied_call_gets_the_profiles_errno.smoke(),
    a_call_that_kills_ends_with_128_plus_sigsys,
    an_argument_decides,
    execd_processes_are_filtered,
    hooks_in_the_container_are_filtered,
    rights_that_the_filter_needs_are_still_there,
    an_engines_profile_lets_ordinary_programs_run,
    a_profile_older_than_a_call_lets_programs_run,
    a_listener_is_refused,
    a_profile_that_makes_no_sense_is_refused,
];

/// The signal of a forbidden call, SIGSYS.
const BAD_CALL: i32 = 128 + 31;

trait Profiled {
    fn with_profile(&self, profile: Value) -> &Self;
}

impl Profiled for Bundle {
    fn with_profile(&self, profile: Value) -> &Self {
        self.edit(|config| config["linux"]["seccomp"] = profile)
    }
}

fn allow_except(rule: &Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

fn no_folders(action: &str) -> Value {
    allow_except(&json!({"names": ["mkdir", "mkdirat"], "action": action}))
}

fn a_denied_call_gets_the_profiles_errno(scene: &Scene) {
    const EROFS: i32 = 30;
    let bundle = scene.shell("grep Seccomp: /proc/self/status; mkdir /tmp/a; echo $?");
    let mut profile = no_folders("SCMP_ACT_ERRNO");
    profile["syscalls"][0]["errnoRet"] = json!(EROFS);
    bundle.with_profile(profile);
    let output = scene.run(&bundle);
    assert!(
        output.stderr.ends_with("Read-only file system\n"),
        "{output:?}"
    );
    assert_eq!(output.stdout, "Seccomp:\t2\n1\n");
}

fn a_profile_older_than_a_call_lets_programs_run(scene: &Scene) {
    let newer = json!({"names": ["faccessat2", "openat2", "clone3"], "action": "SCMP_ACT_ERRNO"});
    let bundle = scene.bundle(&["echo", "ran"]);
    bundle.with_profile(allow_except(&newer));
    bundle.edit(|config| config["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(scene.run(&bundle).ok(), "ran\n");
}

fn a_call_that_kills_ends_with_128_plus_sigsys(scene: &Scene) {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let bundle = scene.bundle(&["mkdir", "/tmp/a"]);
        bundle.with_profile(no_folders(action));
        scene.run(&bundle).exits(BAD_CALL);
    }
    let bundle = scene.bundle(&["mkdir", "/tmp/b"]);
    bundle.with_profile(no_folders("SCMP_ACT_LOG"));
    scene.run(&bundle).ok();
}

fn an_argument_decides(scene: &Scene) {
    const SET_USER: u32 = 0o4000;
    let bundle = scene.shell("cd /tmp && touch f && chmod 755 f && chmod 4755 f; stat -c %a f");
    bundle.with_profile(allow_except(&json!({
        "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": 0, "value": 0, "op": "SCMP_CMP_NE"},
            {"index": 1, "value": SET_USER, "valueTwo": SET_USER, "op": "SCMP_CMP_MASKED_EQ"},
        ],
    })));
    let output = scene.run(&bundle);
    assert_eq!(output.stdout, "755\n", "{output:?}");
    let wanted = "Operation not permitted\n";
    assert!(output.stderr.ends_with(wanted), "{output:?}");
}

fn execd_processes_are_filtered(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    bundle.with_profile(no_folders("SCMP_ACT_KILL_PROCESS"));
    let container = scene.started(&bundle);
    container.exec(&["mkdir", "/tmp/a"]).exits(BAD_CALL);
    container.exec(&["ls", "/tmp"]).ok();
    container.assert_status("running");
    container.remove();
}

/// With `noNewPrivileges` the filter comes last; without, before rights are
/// given up. The profile below denies what giving them up doesn't need.
fn rights_that_the_filter_needs_are_still_there(scene: &Scene) {
    for no_new_privileges in [false, true] {
        let bundle = scene.shell("id -u; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
        bundle.with_profile(no_folders("SCMP_ACT_ERRNO"));
        bundle.edit(|config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            config["process"]["capabilities"] = json!({});
        });
        let wanted = format!(
            "1000\nNoNewPrivs:\t{}\nSeccomp:\t2\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(scene.run(&bundle).ok(), wanted);
    }
}

/// The form of Docker's and Podman's profiles: EPERM by default, three
/// architectures, long lists, conditions on flags.
fn engines_profile() -> Value {
    let calls: Vec<&str> = include_str!("../data/container-calls.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    let mut rules = vec![
        json!({"names": calls, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
        ]}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 40, "op": "SCMP_CMP_NE"},
        ]}),
    ];
    for persona in [0x0_u64, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(
            json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": persona, "op": "SCMP_CMP_EQ"},
            ]}),
        );
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}

fn an_engines_profile_lets_ordinary_programs_run(scene: &Scene) {
    for no_new_privileges in [false, true] {
        let bundle = scene.shell(
            "cd /tmp && mkdir d && echo text | sed s/t/T/ > d/f && cat d/f && rm -r d && \
             (sleep 0.1 & wait) && unshare -m true 2>&1 || echo $?",
        );
        bundle.with_profile(engines_profile());
        bundle.edit(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let output = scene.run(&bundle).ok();
        assert!(output.starts_with("Text\n"), "{output}");
        assert!(output.contains("Operation not permitted\n1\n"), "{output}");
    }
}

fn hooks_in_the_container_are_filtered(scene: &Scene) {
    for no_new_privileges in [false, true] {
        let bundle = scene.bundle(&["true"]);
        bundle.with_profile(no_folders("SCMP_ACT_KILL_PROCESS"));
        let hook = json!([{"path": "/bin/mkdir", "args": ["mkdir", "/tmp/a"]}]);
        bundle.edit(|config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["hooks"]["startContainer"] = hook;
        });
        let output = scene.run(&bundle);
        let line = output.error_line(1);
        assert!(
            line.contains("error running startContainer hook #0: signal: bad system call"),
            "{line}"
        );
    }
}

fn a_listener_is_refused(scene: &Scene) {
    for (profile, field) in [
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/seccomp.sock"}),
            "linux.seccomp.listenerPath",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "about"}),
            "linux.seccomp.listenerMetadata",
        ),
        (no_folders("SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY"),
    ] {
        let bundle = scene.bundle(&["true"]);
        bundle.with_profile(profile);
        let output = scene.run(&bundle);
        let line = output.error_line(1);
        assert!(
            line.contains(field) && line.contains("is not supported"),
            "{line}"
        );
    }
}

fn a_profile_that_makes_no_sense_is_refused(scene: &Scene) {
    let bundle = scene.bundle(&["true"]);
    for (profile, words) in [
        (
            no_folders("SCMP_ACT_FORBID"),
            "unknown variant `SCMP_ACT_FORBID`",
        ),
        (
            allow_except(&json!({"names": ["mkdir"], "action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "SCMP_ACT_KILL doesn't return an errno, so it can't have errnoRet",
        ),
        (
            allow_except(&json!({
                "names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}],
            })),
            "mkdir has no argument number 6",
        ),
    ] {
        bundle.with_profile(profile);
        let output = scene.run(&bundle);
        let line = output.error_line(1);
        assert!(line.contains(words), "{line}");
    }
}
