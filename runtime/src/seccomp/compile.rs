//! From a profile to a program, by libseccomp.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::str::FromStr;

use libseccomp::error::SeccompError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::seccomp::program::{ALLOW, Filter, Instruction};
use crate::seccomp::{unknown_calls, vsock};

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A notification of the guest's kernel would have to reach a process of the host.
    #[error(
        "linux.seccomp.{field} is not supported: a listener on the host can't be notified by the guest's kernel"
    )]
    Listener {
        /// Which field asks for one.
        field: &'static str,
    },
    /// The action has no number to return.
    #[error("linux.seccomp: {action} doesn't return an errno, so it can't have errnoRet")]
    ErrnoWithoutUse {
        /// Name of the action.
        action: LinuxSeccompAction,
    },
    /// Linux returns 1 to 4095 as errors.
    #[error("linux.seccomp: errnoRet {0} is not an errno")]
    Errno(u32),
    /// Linux knows six arguments.
    #[error("linux.seccomp: {call} has no argument number {index}")]
    Argument {
        /// Name of the call.
        call: String,
        /// Counted from 0.
        index: usize,
    },
    /// An architecture that can't stand in one program with x86-64.
    #[error("linux.seccomp.architectures: {name}")]
    Architecture {
        /// Its name.
        name: String,
        /// libseccomp's words.
        #[source]
        source: SeccompError,
    },
    /// libseccomp refuses a rule.
    #[error("linux.seccomp.syscalls: rule for {call}")]
    Rule {
        /// Name of the call.
        call: String,
        /// libseccomp's words.
        #[source]
        source: SeccompError,
    },
    /// libseccomp can't go on.
    #[error("compile linux.seccomp")]
    Compile(#[from] SeccompError),
    /// The program could not be fetched from libseccomp.
    #[error("read the program compiled from linux.seccomp")]
    Export(#[from] io::Error),
    /// The kernel would refuse it.
    #[error("linux.seccomp: its program has {0} instructions; Linux takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;
/// From here on a tree of comparisons is better than a list; runc's number.
const CALLS_FOR_A_TREE: usize = 32;
/// libseccomp's level of optimization that makes the tree.
const TREE: u32 = 2;
/// With this level libseccomp takes every action of ours without asking the
/// host's kernel, which never runs the program.
const API_LEVEL: u32 = 4;
const MAX_ERRNO: u16 = 4095;

/// Whether processes of a container may make sockets of `AF_VSOCK`, by which the
/// guest's agent reaches the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VsockAccess {
    /// As config.json asks for.
    Allowed,
    /// socket(2) answers `EAFNOSUPPORT`, as a kernel without the family does.
    Refused,
}

/// Returns what decides about the system calls of a container with this profile; none
/// where nothing is forbidden.
///
/// # Errors
/// See [`Error`].
pub fn compile(
    profile: Option<&LinuxSeccomp>,
    access: VsockAccess,
) -> Result<Option<Filter>, Error> {
    let own = profile.map(compile_profile).transpose()?;
    if access == VsockAccess::Allowed {
        return Ok(own);
    }
    let own = own.unwrap_or_else(|| Filter {
        program: vec![Instruction::answer(ALLOW)],
        flags: SPEC_ALLOW,
    });
    let mut program = vsock::prologue().to_vec();
    program.extend(own.program);
    checked(Filter {
        program,
        flags: own.flags,
    })
    .map(Some)
}

fn compile_profile(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    refuse_listener(profile)?;
    libseccomp::set_api(API_LEVEL)?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default)?;
    let architectures = add_architectures(&mut context, profile)?;
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let names: usize = calls.iter().map(|call| call.names().len()).sum();
    if names > CALLS_FOR_A_TREE {
        context.set_ctl_optimize(TREE)?;
    }
    for call in calls {
        add_rules(&mut context, call, default)?;
    }
    let mut program = Vec::new();
    if answers_unknown_calls(default) {
        program = unknown_calls::prologue(profile, &architectures);
    }
    program.extend(Instruction::parse_all(&export(&context)?));
    checked(Filter {
        program,
        flags: flags(profile),
    })
}

fn checked(filter: Filter) -> Result<Filter, Error> {
    match filter.program.len() {
        0..=MAX_INSTRUCTIONS => Ok(filter),
        length => Err(Error::TooLong(length)),
    }
}

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: a filter costs a program no speculation.
const SPEC_ALLOW: u32 = 1 << 2;

fn refuse_listener(profile: &LinuxSeccomp) -> Result<(), Error> {
    let notify = LinuxSeccompAction::ScmpActNotify;
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let flags = profile.flags().as_deref().unwrap_or_default();
    let wait_killable = LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv;
    let asked = [
        (
            "defaultAction SCMP_ACT_NOTIFY",
            profile.default_action() == notify,
        ),
        (
            "syscalls with SCMP_ACT_NOTIFY",
            calls.iter().any(|call| call.action() == notify),
        ),
        (
            "flags SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            flags.contains(&wait_killable),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(Error::Listener { field }),
        None => Ok(()),
    }
}

/// Where the kernel would let an unknown call through, it answers ENOSYS itself;
/// a tracer answers as it likes.
fn answers_unknown_calls(default: ScmpAction) -> bool {
    let enosys = ScmpAction::Errno(nix::libc::ENOSYS);
    !matches!(
        default,
        ScmpAction::Allow | ScmpAction::Log | ScmpAction::Trace(_)
    ) && default != enosys
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, Error> {
    use LinuxSeccompAction as Action;
    let without_errno = match action {
        Action::ScmpActErrno => {
            let errno = number(errno, MAX_ERRNO)?;
            return Ok(ScmpAction::Errno(errno.into()));
        }
        Action::ScmpActTrace => return Ok(ScmpAction::Trace(number(errno, u16::MAX)?)),
        // The word is older than the choice between thread and process.
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
        Action::ScmpActNotify => ScmpAction::Notify,
    };
    match errno {
        None => Ok(without_errno),
        Some(_) => Err(Error::ErrnoWithoutUse { action }),
    }
}

/// EPERM where the profile doesn't say (config-linux.md, errnoRet).
fn number(errno: Option<u32>, max: u16) -> Result<u16, Error> {
    let errno = errno.unwrap_or(nix::libc::EPERM.unsigned_abs());
    let fitting = u16::try_from(errno).ok().filter(|&errno| errno <= max);
    fitting.ok_or(Error::Errno(errno))
}

fn add_architectures(
    context: &mut ScmpFilterContext,
    profile: &LinuxSeccomp,
) -> Result<Vec<ScmpArch>, Error> {
    let mut added = Vec::new();
    for wanted in profile.architectures().iter().flatten() {
        let name = wanted.to_string();
        let arch = ScmpArch::from_str(&name)
            .and_then(|arch| context.add_arch(arch).map(|_| arch))
            .map_err(|source| Error::Architecture { name, source })?;
        added.push(arch);
    }
    Ok(added)
}

/// Rules that change nothing are left out, since libseccomp refuses them; so are
/// calls that it doesn't know, which `unknown_calls` answers.
fn add_rules(
    context: &mut ScmpFilterContext,
    call: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), Error> {
    let action = action(call.action(), call.errno_ret())?;
    if action == default {
        return Ok(());
    }
    for name in call.names() {
        let Ok(number) = ScmpSyscall::from_name(name) else {
            continue;
        };
        for conditions in alternatives(name, call.args().as_deref().unwrap_or_default())? {
            context
                .add_rule_conditional(action, number, &conditions)
                .map_err(|source| Error::Rule {
                    call: name.clone(),
                    source,
                })?;
        }
    }
    Ok(())
}

/// All conditions must hold, unless an argument has two: libseccomp can't join
/// those, so each then is a rule of its own, as with runc.
fn alternatives(call: &str, wanted: &[LinuxSeccompArg]) -> Result<Vec<Vec<ScmpArgCompare>>, Error> {
    let mut seen = [false; 6];
    let mut is_repeated = false;
    let mut conditions = Vec::with_capacity(wanted.len());
    for argument in wanted {
        let index = argument.index();
        let Some(seen) = seen.get_mut(index) else {
            let call = call.to_owned();
            return Err(Error::Argument { call, index });
        };
        is_repeated |= std::mem::replace(seen, true);
        conditions.push(condition(argument));
    }
    if is_repeated {
        return Ok(conditions.into_iter().map(|one| vec![one]).collect());
    }
    Ok(vec![conditions])
}

fn condition(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    use LinuxSeccompOperator as Operator;
    let second = argument.value_two().unwrap_or(0);
    let (operator, value) = match argument.op() {
        Operator::ScmpCmpNe => (ScmpCompareOp::NotEqual, argument.value()),
        Operator::ScmpCmpLt => (ScmpCompareOp::Less, argument.value()),
        Operator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, argument.value()),
        Operator::ScmpCmpEq => (ScmpCompareOp::Equal, argument.value()),
        Operator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, argument.value()),
        Operator::ScmpCmpGt => (ScmpCompareOp::Greater, argument.value()),
        Operator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(argument.value()), second),
    };
    let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
    ScmpArgCompare::new(index, operator, value)
}

/// libseccomp hands its program over through a descriptor.
fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, Error> {
    let memory = memfd_create("seccomp", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    context.export_bpf(&file)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Without a list the flag that runc takes by default; an empty list is none.
/// TSYNC asks for all threads, of which a process before its program has one.
fn flags(profile: &LinuxSeccomp) -> u32 {
    use LinuxSeccompFilterFlag as Flag;
    let default = [Flag::SeccompFilterFlagSpecAllow];
    let wanted = profile.flags().as_deref().unwrap_or(&default);
    wanted.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                Flag::SeccompFilterFlagLog => 1 << 1,
                Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                Flag::SeccompFilterFlagTsync | Flag::SeccompFilterFlagWaitKillableRecv => 0,
            }
    })
}

#[cfg(test)]
#[path = "compile_test.rs"]
mod tests;
