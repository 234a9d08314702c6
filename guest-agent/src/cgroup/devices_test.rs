//! Runs assembled programs in a small interpreter of the instructions they use.

use super::*;

/// Runs the program. Returns whether it allows an access.
fn allows(program: &[u64], kind: i32, (major, minor): (u64, u64), access: i32) -> bool {
    let context = [
        (u64::from(access.cast_unsigned()) << 16) | u64::from(kind.cast_unsigned()),
        major,
        minor,
    ];
    let mut registers = [0_u64; 16];
    let mut at = 0;
    loop {
        let instruction = program[at];
        let [operation, fields, ..] = instruction.to_le_bytes();
        let (target, source) = (usize::from(fields & 0xf), usize::from(fields >> 4));
        let offset = usize::from(u16::try_from((instruction >> 16) & 0xffff).unwrap());
        let value = instruction >> 32;
        at += 1;
        match operation {
            0x61 => registers[target] = context[offset / 4],
            0xbc => registers[target] = registers[source],
            0x54 => registers[target] &= value,
            0x74 => registers[target] >>= value,
            0xb7 => registers[target] = value,
            ALWAYS => at += offset,
            IF_ANY_BIT if registers[target] & value != 0 => at += offset,
            IF_DIFFERENT if registers[target] != value => at += offset,
            IF_ANY_BIT | IF_DIFFERENT => {}
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn assembled(json: &str) -> Vec<u64> {
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    let program = program(&rules).unwrap();
    assert_all_is_reached(&program);
    program
}

/// The kernel refuses a program that has instructions it can't come to.
fn assert_all_is_reached(program: &[u64]) {
    let mut reached = vec![false; program.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        let operation = program[at].to_le_bytes()[0];
        let offset = usize::from(u16::try_from((program[at] >> 16) & 0xffff).unwrap());
        match operation {
            0x95 => {}
            ALWAYS => open.push(at + 1 + offset),
            IF_ANY_BIT | IF_DIFFERENT => open.extend([at + 1, at + 1 + offset]),
            _ => open.push(at + 1),
        }
    }
    assert!(reached.iter().all(|&reached| reached), "{reached:?}");
}

const DENY_ALL: &str = r#"[{"allow":false,"access":"rwm"}]"#;

#[test]
fn what_every_container_has_is_usable_and_nothing_else() {
    for program in [assembled("[]"), assembled(DENY_ALL)] {
        assert!(allows(&program, CHARACTER, (1, 3), READ | WRITE));
        assert!(allows(&program, CHARACTER, (136, 9), READ));
        assert!(allows(&program, BLOCK, (8, 0), MAKE_NODE));
        assert!(!allows(&program, BLOCK, (8, 0), READ));
        assert!(!allows(&program, BLOCK, (8, 0), MAKE_NODE | READ));
        assert!(!allows(&program, CHARACTER, (1, 1), READ));
        assert!(!allows(&program, BLOCK, (1, 3), READ));
    }
}

#[test]
fn the_last_rule_for_an_access_decides() {
    let program = assembled(
        r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"},
            {"allow":false,"type":"c","major":10,"access":"w"}]"#,
    );
    assert!(allows(&program, CHARACTER, (10, 229), READ));
    assert!(!allows(&program, CHARACTER, (10, 229), WRITE));
    assert!(!allows(&program, CHARACTER, (10, 229), READ | WRITE));
    assert!(!allows(&program, CHARACTER, (10, 200), READ));
}

#[test]
fn everything_may_be_allowed() {
    let program = assembled(r#"[{"allow":true,"type":"a","major":-1,"access":"rwm"}]"#);
    assert!(allows(&program, BLOCK, (8, 0), READ | WRITE | MAKE_NODE));
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    for json in [
        r#"[{"allow":true,"access":"x"}]"#,
        r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#,
    ] {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let line = program(&rules).unwrap_err().line();
        assert!(line.starts_with("linux.resources.devices"), "{line}");
    }
}

#[test]
fn a_rule_that_concerns_no_access_is_refused() {
    for empty in [r#"{"allow":false}"#, r#"{"allow":false,"access":""}"#] {
        let json = format!(r#"[{{"allow":true,"access":"r"}},{empty}]"#);
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(&json).unwrap();
        let line = program(&rules).unwrap_err().line();
        let words = "linux.resources.devices: device access at 1 field cannot be empty";
        assert_eq!(line, words);
    }
}
