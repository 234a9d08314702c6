//! Compiled programs, run by a small evaluator of classic BPF.

use serde_json::{Value, json};

use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const TRACE: u32 = 0x7ff0_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

const READ: i64 = 0;
const MKDIR: i64 = 83;
const PERSONALITY: i64 = 135;
const FCHMODAT2: i64 = 452;

fn compiled(profile: Value) -> Result<Filter, Error> {
    compile_profile(&serde_json::from_value(profile).unwrap())
}

/// The filter's answer to a call: what the kernel would do.
fn answer(filter: &Filter, arch: u32, number: i64, arguments: &[u64]) -> u32 {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    for (place, argument) in data[16..].chunks_exact_mut(8).zip(arguments) {
        place.copy_from_slice(&argument.to_le_bytes());
    }
    let (mut next, mut word) = (0, 0);
    loop {
        let Instruction {
            code,
            if_true,
            if_false,
            operand,
        } = filter.program[next];
        next += 1;
        let offset = operand as usize;
        let jump = |is_true| usize::from(if is_true { if_true } else { if_false });
        match code {
            0x20 => word = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap()),
            0x54 => word &= operand,
            0x05 => next += offset,
            0x15 => next += jump(word == operand),
            0x25 => next += jump(word > operand),
            0x35 => next += jump(word >= operand),
            0x45 => next += jump(word & operand != 0),
            0x06 => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn native(filter: &Filter, number: i64, arguments: &[u64]) -> u32 {
    answer(filter, X86_64, number, arguments)
}

fn allow_except(rule: &Value) -> Filter {
    compiled(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})).unwrap()
}

#[test]
fn every_action_is_what_the_kernel_knows_it_as() {
    for (action, errno, wanted) in [
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(13), ERRNO | 13),
        ("SCMP_ACT_TRACE", Some(7), TRACE | 7),
        ("SCMP_ACT_KILL", None, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", None, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", None, KILL_PROCESS),
        ("SCMP_ACT_TRAP", None, TRAP),
        ("SCMP_ACT_LOG", None, LOG),
    ] {
        let mut rule = json!({"names": ["mkdir"], "action": action});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        let filter = allow_except(&rule);
        assert_eq!(native(&filter, MKDIR, &[]), wanted, "{action}");
        assert_eq!(native(&filter, READ, &[]), ALLOW);
    }
}

#[test]
fn every_operator_compares_all_64_bits() {
    const BIG: u64 = 5 << 32;
    for (operator, value, second, hits, misses) in [
        ("SCMP_CMP_EQ", BIG, 0, [BIG, BIG], [5, BIG + 1]),
        ("SCMP_CMP_NE", BIG, 0, [5, BIG + 1], [BIG, BIG]),
        ("SCMP_CMP_LT", BIG, 0, [5, BIG - 1], [BIG, BIG + 1]),
        ("SCMP_CMP_LE", BIG, 0, [5, BIG], [BIG + 1, u64::MAX]),
        ("SCMP_CMP_GT", BIG, 0, [BIG + 1, u64::MAX], [5, BIG]),
        ("SCMP_CMP_GE", BIG, 0, [BIG, u64::MAX], [5, BIG - 1]),
        ("SCMP_CMP_MASKED_EQ", BIG | 1, 1, [1, 3], [0, BIG | 1]),
    ] {
        let filter = allow_except(&json!({
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": value, "valueTwo": second, "op": operator}],
        }));
        for hit in hits {
            assert_eq!(
                native(&filter, PERSONALITY, &[0, hit]),
                EPERM,
                "{operator} {hit:#x}"
            );
        }
        for miss in misses {
            assert_eq!(
                native(&filter, PERSONALITY, &[0, miss]),
                ALLOW,
                "{operator} {miss:#x}"
            );
        }
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let filter = allow_except(&json!({
        "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
            {"index": 5, "value": 2, "op": "SCMP_CMP_EQ"},
        ],
    }));
    assert_eq!(native(&filter, MKDIR, &[1, 0, 0, 0, 0, 2]), EPERM);
    assert_eq!(native(&filter, MKDIR, &[1, 0, 0, 0, 0, 3]), ALLOW);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let filter = allow_except(&json!({
        "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
        ],
    }));
    assert_eq!(native(&filter, PERSONALITY, &[1]), EPERM);
    assert_eq!(native(&filter, PERSONALITY, &[2]), EPERM);
    assert_eq!(native(&filter, PERSONALITY, &[3]), ALLOW);
}

/// What Docker's profile does, with few names.
fn deny_by_default(more: &Value) -> Filter {
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["read", "openat2", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
    });
    for (name, value) in more.as_object().unwrap() {
        profile[name] = value.clone();
    }
    compiled(profile).unwrap()
}

#[test]
fn calls_above_all_that_are_named_do_not_exist() {
    const OPENAT2: i64 = 437;
    let x32 = |number| (1 << 30) + number;
    let filter = deny_by_default(&json!({"defaultErrnoRet": 13}));
    for arch in [X86_64, I386] {
        assert_eq!(answer(&filter, arch, OPENAT2, &[]), ALLOW);
        assert_eq!(answer(&filter, arch, OPENAT2 - 1, &[]), ERRNO | 13);
        assert_eq!(answer(&filter, arch, OPENAT2 + 1, &[]), ENOSYS);
        assert_eq!(answer(&filter, arch, FCHMODAT2, &[]), ENOSYS);
    }
    assert_eq!(native(&filter, x32(OPENAT2), &[]), ALLOW);
    assert_eq!(native(&filter, x32(MKDIR), &[]), ERRNO | 13);
    assert_eq!(native(&filter, x32(FCHMODAT2), &[]), ENOSYS);
    // The native number of `read` is `restart_syscall` there.
    assert_eq!(answer(&filter, I386, 3, &[]), ALLOW);
    assert_eq!(answer(&filter, I386, READ, &[]), ERRNO | 13);
}

#[test]
fn an_architecture_that_is_not_named_is_a_crime_for_libseccomp() {
    let filter = deny_by_default(&json!({"architectures": null}));
    assert_eq!(native(&filter, READ, &[]), ALLOW);
    assert_eq!(native(&filter, FCHMODAT2, &[]), ENOSYS);
    assert_eq!(answer(&filter, I386, 3, &[]), KILL_THREAD);
    assert_eq!(native(&filter, (1 << 30) + FCHMODAT2, &[]), KILL_THREAD);
}

#[test]
fn a_profile_that_lets_through_or_says_enosys_gets_no_prologue() {
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let filter = deny_by_default(&json!({"defaultAction": default}));
        assert_ne!(native(&filter, FCHMODAT2, &[]), ENOSYS, "{default}");
    }
    let plain = deny_by_default(&json!({"defaultErrnoRet": 38}))
        .program
        .len();
    assert!(plain < deny_by_default(&json!({})).program.len());
}

#[test]
fn many_calls_are_found_in_the_tree() {
    let is_known = |number: &i64| {
        let call = ScmpSyscall::from(i32::try_from(*number).unwrap());
        call.get_name().is_ok()
    };
    let (allowed, denied): (Vec<i64>, Vec<i64>) = (0..335)
        .filter(is_known)
        .partition(|number| number % 3 != 0);
    let name = |number: &i64| {
        let call = ScmpSyscall::from(i32::try_from(*number).unwrap());
        call.get_name().unwrap()
    };
    let names: Vec<String> = allowed.iter().map(name).collect();
    let filter = deny_by_default(&json!({
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }));
    assert!(names.len() > 200);
    for number in &allowed {
        assert_eq!(native(&filter, *number, &[]), ALLOW, "{number}");
    }
    for number in denied
        .iter()
        .filter(|number| **number < *allowed.last().unwrap())
    {
        assert_eq!(native(&filter, *number, &[]), EPERM, "{number}");
    }
}

#[test]
fn flags_are_runcs() {
    let flags = |flags: Value| {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags});
        compiled(profile).unwrap().flags
    };
    assert_eq!(flags(Value::Null), 1 << 2);
    assert_eq!(flags(json!([])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG"])), 1 << 1);
    assert_eq!(
        flags(json!(crate::seccomp::SUPPORTED_FLAGS)),
        (1 << 1) | (1 << 2)
    );
}

#[test]
fn what_can_not_be_done_is_named() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    for (profile, words) in [
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.syscalls with SCMP_ACT_NOTIFY is not supported",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            "linux.seccomp.flags SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}),
            "linux.seccomp.architectures: SCMP_ARCH_S390X",
        ),
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_KILL", "errnoRet": 3})),
            "SCMP_ACT_KILL doesn't return an errno",
        ),
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "errnoRet 4096 is not an errno",
        ),
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "mkdir has no argument number 6",
        ),
    ] {
        let text = compiled(profile).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn every_word_that_features_tells_can_be_compiled() {
    for name in crate::seccomp::ACTIONS {
        allow_except(&json!({"names": ["mkdir"], "action": name}));
    }
    for name in crate::seccomp::OPERATORS {
        let argument = json!({"index": 0, "value": 1, "op": name});
        allow_except(&json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [argument]}));
    }
    for name in crate::seccomp::ARCHITECTURES {
        deny_by_default(&json!({"architectures": ["SCMP_ARCH_X86_64", name]}));
    }
    for name in crate::seccomp::SUPPORTED_FLAGS {
        deny_by_default(&json!({"flags": [name]}));
    }
}

#[test]
fn a_filter_is_the_same_after_a_journey() {
    let filter = deny_by_default(&json!({}));
    let text = serde_json::to_string(&filter).unwrap();
    assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    assert_eq!(
        Instruction::parse_all(&filter.program_bytes()),
        filter.program
    );
}

#[test]
fn vsock_is_refused_in_every_form_of_the_call_and_nothing_else_is() {
    const REFUSED: u32 = ERRNO | 97;
    const VSOCK: u64 = 40;
    let (socket, x32) = (41, 0x4000_0000);
    let filter = compile(None, VsockAccess::Refused).unwrap().unwrap();
    let calls = [(X86_64, socket), (X86_64, socket | x32), (I386, 359)];
    for (arch, number) in calls {
        assert_eq!(answer(&filter, arch, number, &[VSOCK]), REFUSED);
        assert_eq!(answer(&filter, arch, number, &[VSOCK | 1 << 32]), REFUSED);
        for family in [0, 1, 2, 10, 16, 39, 41] {
            assert_eq!(answer(&filter, arch, number, &[family]), ALLOW);
        }
    }
    let others = [(X86_64, 359), (I386, socket), (X86_64, READ), (0, socket)];
    for (arch, number) in others {
        assert_eq!(answer(&filter, arch, number, &[VSOCK]), ALLOW);
    }
}

#[test]
fn vsock_is_refused_before_the_profile_decides() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    let profile = serde_json::from_value(profile).unwrap();
    let filter = compile(Some(&profile), VsockAccess::Refused)
        .unwrap()
        .unwrap();
    assert_eq!(answer(&filter, X86_64, 41, &[40]), ERRNO | 97);
    assert_eq!(answer(&filter, X86_64, 41, &[2]), ALLOW);
    assert_eq!(answer(&filter, X86_64, MKDIR, &[]), EPERM);
    let filter = compile(Some(&profile), VsockAccess::Allowed)
        .unwrap()
        .unwrap();
    assert_eq!(answer(&filter, X86_64, 41, &[40]), ALLOW);
    assert_eq!(compile(None, VsockAccess::Allowed).unwrap(), None);
}
