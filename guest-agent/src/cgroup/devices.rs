//! From device rules to the eBPF program that decides by them.
//!
//! Owns the meaning of the rules, which is runc's: nothing is allowed at first,
//! the last rule that concerns an access decides, and the devices that every
//! container has come last. Loads nothing.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::failure::Failure;

/// One rule; `None` matches every number.
#[derive(Debug, Clone, Copy)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// Assembles the program for the configured rules and the default ones.
///
/// # Errors
/// [`Failure::Refused`] for a rule that can't be understood.
pub(crate) fn program(configured: &[LinuxDeviceCgroup]) -> Result<Vec<u64>, Failure> {
    let mut rules = configured
        .iter()
        .enumerate()
        .map(|(number, rule)| parse(number, rule))
        .collect::<Result<Vec<_>, _>>()?;
    rules.extend(DEFAULTS);
    let mut program = LOAD_ARGUMENTS.to_vec();
    for bit in [MAKE_NODE, READ, WRITE] {
        assemble(&mut program, &rules, bit);
    }
    program.extend([set(RESULT, 1), EXIT]);
    Ok(program)
}

fn parse(number: usize, rule: &LinuxDeviceCgroup) -> Result<Rule, Failure> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
        Some(LinuxDeviceType::P) => return Err(refused("a pipe is no device")),
    };
    let letters = rule.access().as_deref().unwrap_or_default();
    if letters.is_empty() {
        // The rule would concern nothing; the words are runc's.
        let line = format!("device access at {number} field cannot be empty");
        return Err(refused(&line));
    }
    let mut access = 0;
    for letter in letters.chars() {
        access |= match letter {
            'm' => MAKE_NODE,
            'r' => READ,
            'w' => WRITE,
            _ => return Err(refused("access is made of r, w and m")),
        };
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: device_number(rule.major())?,
        minor: device_number(rule.minor())?,
        access,
    })
}

fn device_number(number: Option<i64>) -> Result<Option<i32>, Failure> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match i32::try_from(number) {
            Ok(number) if number >= 0 => Ok(Some(number)),
            _ => Err(refused("a device number is out of range")),
        },
    }
}

fn refused(why: &str) -> Failure {
    Failure::Refused(format!("linux.resources.devices: {why}"))
}

/// Appends code that denies an access with `bit` if the last rule for it denies.
fn assemble(program: &mut Vec<u64>, rules: &[Rule], bit: i32) {
    let concerned = rules.iter().rev().filter(|rule| rule.access & bit != 0);
    let mut body = Vec::new();
    let mut allowed_at = Vec::new();
    let mut at_last = DENY.as_slice();
    for rule in concerned {
        let wanted = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let checks: Vec<_> = wanted
            .iter()
            .filter_map(|&(register, wanted)| Some((register, wanted?)))
            .collect();
        if checks.is_empty() {
            // No earlier rule is ever asked, and the kernel refuses dead code.
            at_last = if rule.allow { &[] } else { &DENY };
            break;
        }
        let verdict_len = if rule.allow { 1 } else { DENY.len() };
        for (done, (register, wanted)) in checks.iter().enumerate() {
            let to_next_rule = checks.len() - done - 1 + verdict_len;
            body.push(jump(IF_DIFFERENT, *register, to_next_rule, *wanted));
        }
        if rule.allow {
            allowed_at.push(body.len());
            body.push(jump(ALWAYS, RESULT, 0, 0));
        } else {
            body.extend(DENY);
        }
    }
    body.extend(at_last);
    let len = body.len();
    for at in allowed_at {
        if let Some(instruction) = body.get_mut(at) {
            *instruction = jump(ALWAYS, RESULT, len - at - 1, 0);
        }
    }
    program.push(jump(IF_ANY_BIT, ACCESS, 1, bit));
    program.push(jump(ALWAYS, RESULT, len, 0));
    program.append(&mut body);
}

const fn encode(operation: u8, register: u8, offset: u16, value: i32) -> u64 {
    operation as u64
        | (register as u64) << 8
        | (offset as u64) << 16
        | (value.cast_unsigned() as u64) << 32
}

const fn set(register: u8, value: i32) -> u64 {
    encode(0xb7, register, 0, value)
}

/// A program longer than a jump can be is refused by the kernel.
fn jump(condition: u8, register: u8, over: usize, value: i32) -> u64 {
    let over = u16::try_from(over).unwrap_or(u16::MAX);
    encode(condition, register, over, value)
}

// Registers and their use here.
const RESULT: u8 = 0;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Jumps and the end.
const ALWAYS: u8 = 0x05;
const IF_ANY_BIT: u8 = 0x45;
const IF_DIFFERENT: u8 = 0x55;
const EXIT: u64 = encode(0x95, 0, 0, 0);
const DENY: [u64; 2] = [set(RESULT, 0), EXIT];

/// From `struct bpf_cgroup_dev_ctx`, to which register 1 points: the kind in the
/// lower half of the first 32 bits and the access in the upper, then both numbers.
const LOAD_ARGUMENTS: [u64; 6] = [
    encode(0x61, ACCESS | 1 << 4, 0, 0),
    encode(0xbc, KIND | ACCESS << 4, 0, 0),
    encode(0x54, KIND, 0, 0xffff),
    encode(0x74, ACCESS, 0, 16),
    encode(0x61, MAJOR | 1 << 4, 4, 0),
    encode(0x61, MINOR | 1 << 4, 8, 0),
];

// From linux/bpf.h.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE_NODE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

const fn always(major: i32, minor: Option<i32>) -> Rule {
    Rule {
        allow: true,
        kind: Some(CHARACTER),
        major: Some(major),
        minor,
        access: MAKE_NODE | READ | WRITE,
    }
}

const fn any_node(kind: i32) -> Rule {
    Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: MAKE_NODE,
    }
}

/// Nodes may be made of anything; used may be what every container has, and
/// terminals.
const DEFAULTS: [Rule; 10] = [
    any_node(BLOCK),
    any_node(CHARACTER),
    always(1, Some(3)),
    always(1, Some(5)),
    always(1, Some(7)),
    always(1, Some(8)),
    always(1, Some(9)),
    always(5, Some(0)),
    always(5, Some(2)),
    always(136, None),
];

#[cfg(test)]
#[path = "devices_test.rs"]
mod tests;
