//! What runs in the processes between the agent and a container's program.
//!
//! Two of them: the first enters (or makes) the namespaces, the second, cloned into
//! the pid namespace as a child of the agent, does everything that must happen
//! inside and becomes the program. Owns the order of the steps, which is runc's.
//! Everything here runs in a copy of the agent that never returns to its loop.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode as CreationMask, umask},
};
use oci_spec::runtime::{LinuxPersonalityDomain, Process, Spec};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    process::{fchdir, pivot_root, setsid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::{setdomainname, sethostname},
    thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    container_namespaces::ContainerNamespaces,
    descriptors, devices,
    handshake::{ChildEnd, Report},
    hooks::StartHooks,
    identity,
    mount_options::Bind,
    mounts::{self, MountEnvironment, PreparedMount},
    namespaces, paths,
    program::{self, Program},
    root_overlay,
    rootfs::{PointKind, Rootfs},
    scheduling,
    seccomp::Filter,
    settings, terminal,
};
use crate::{
    boot::ROOTFS_POINT,
    failure::{Attempt, Failure},
    stdio::ChildEnds,
    sys::{clone_process, exit_now, restore_default_signals},
};

/// Where a new process runs.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// In a new container.
    New {
        /// Its configuration.
        spec: &'a Spec,
        /// Its OCI state as JSON, the input of its hooks.
        state: &'a [u8],
        /// Mounts of the host within shares.
        submounts: &'a [String],
        /// The most that is written to the root, in guest memory; none: to its share.
        root_overlay_mib: Option<NonZeroU32>,
        /// Inits of other containers, with the namespaces that it has from them.
        joined: &'a [(OwnedFd, CloneFlags)],
    },
    /// In an existing container.
    Existing {
        /// Its init.
        init: &'a OwnedFd,
    },
}

/// What a new process is started with.
#[derive(Debug)]
pub(crate) struct LaunchSpec<'a> {
    /// Where it runs.
    pub(crate) place: Place<'a>,
    /// The namespaces of that container.
    pub(crate) namespaces: &'a ContainerNamespaces,
    /// Its configuration.
    pub(crate) process: &'a Process,
    /// Its standard streams, unless it makes a terminal.
    pub(crate) stdio: &'a ChildEnds,
    /// Whether it makes a terminal.
    pub(crate) terminal: bool,
    /// The filter of its system calls.
    pub(crate) seccomp: Option<&'a Filter>,
}

/// Body of the first process. Never returns.
pub(crate) fn run(launch_spec: &LaunchSpec<'_>, gate: &ChildEnd) -> ! {
    let outcome = first_process(launch_spec, gate);
    fail(gate, &outcome)
}

fn fail(gate: &ChildEnd, outcome: &Result<Infallible, Failure>) -> ! {
    if let Err(failure) = outcome {
        // An agent that has gone needs no report.
        gate.report(&Report::Failed(failure.line()))
            .unwrap_or_default();
    }
    exit_now(1)
}

fn first_process(launch_spec: &LaunchSpec<'_>, gate: &ChildEnd) -> Result<Infallible, Failure> {
    let [stdin, stdout, stderr] = &launch_spec.stdio.standard;
    dup2_stdin(stdin).step("set standard input")?;
    dup2_stdout(stdout).step("set standard output")?;
    dup2_stderr(stderr).step("set standard error")?;
    // Lowering it needs a capability that a user namespace doesn't give.
    set_oom_score(launch_spec.process)?;
    let uid = launch_spec.process.user().uid();
    // An unmapped id is refused when the user is set.
    identity::give_stdio_to(launch_spec.namespaces.uids.outside(uid).unwrap_or(uid))?;
    match launch_spec.place {
        Place::New {
            spec,
            submounts,
            root_overlay_mib,
            joined,
            ..
        } => {
            let shared = join_namespaces(joined)?;
            mounts::trigger_automounts(submounts);
            descriptors::place(&launch_spec.stdio.further, &[gate.as_raw_fd()])?;
            let prepared = Prepared::open(spec, launch_spec.namespaces, root_overlay_mib)?;
            if let Some(wanted) = sysctl(spec) {
                settings::set_of_network(wanted)?;
            }
            let own = launch_spec.namespaces.flags - shared;
            make_namespaces(spec, launch_spec.namespaces, own, gate)?;
            continue_as_sibling(own, gate, || become_init(launch_spec, spec, prepared, gate))
        }
        Place::Existing { init } => {
            let further = &launch_spec.stdio.further;
            let init = descriptors::raised(init, descriptors::first_after(further.len()))?;
            descriptors::place(further, &[gate.as_raw_fd(), init.as_raw_fd()])?;
            run_on_first_cpus(launch_spec.process)?;
            match setns(init, launch_spec.namespaces.flags) {
                // The init has just ended; the text is runc's.
                Err(Errno::ESRCH) => {
                    let text = "cannot exec in a stopped container";
                    return Err(Failure::Refused(text.to_owned()));
                }
                entered => entered.step("enter the namespaces of the container")?,
            }
            if launch_spec.namespaces.has_own_users() {
                become_root()?;
            }
            let none = CloneFlags::empty();
            continue_as_sibling(none, gate, || become_program(launch_spec, None, gate))
        }
    }
}

/// Container processes are cloned into the cgroup, so `initial` is where the
/// process runs until `final` counts.
fn run_on_first_cpus(process: &Process) -> Result<(), Failure> {
    let affinity = process.exec_cpu_affinity().as_ref();
    scheduling::run_on(affinity.and_then(|affinity| affinity.initial().as_deref()))
}

fn set_oom_score(process: &Process) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj() else {
        return Ok(());
    };
    let path = "/proc/self/oom_score_adj";
    fs::write(path, score.to_string()).at("write", path)
}

/// Descriptors opened with the guest's own privileges.
#[derive(Debug)]
struct Prepared {
    root: OwnedFd,
    mounts: Vec<PreparedMount>,
}

impl Prepared {
    fn open(
        spec: &Spec,
        namespaces: &ContainerNamespaces,
        root_overlay_mib: Option<NonZeroU32>,
    ) -> Result<Self, Failure> {
        let Some(root) = spec.root() else {
            return Err(Failure::Refused("root is missing".to_owned()));
        };
        let environment = MountEnvironment {
            root: root.path(),
            own_users: namespaces.has_own_users(),
        };
        Ok(Self {
            root: match root_overlay_mib {
                Some(size_mib) => root_overlay::make(root.path(), size_mib)?,
                None => mounts::clone_tree(root.path(), Bind::Tree)?,
            },
            mounts: mounts::prepare(spec.mounts().as_deref().unwrap_or_default(), environment)?,
        })
    }
}

/// Joins the namespaces of other containers. Returns the `CLONE_NEW*` flags of them all.
fn join_namespaces(joined: &[(OwnedFd, CloneFlags)]) -> Result<CloneFlags, Failure> {
    let mut all = CloneFlags::empty();
    for (init, flags) in joined {
        setns(init, *flags).step("join the namespaces of another container")?;
        all |= *flags;
    }
    Ok(all)
}

/// The user namespace comes first, so that it owns the others; the pid namespace
/// is made with the process that begins it.
fn make_namespaces(
    spec: &Spec,
    namespaces: &ContainerNamespaces,
    wanted: CloneFlags,
    gate: &ChildEnd,
) -> Result<(), Failure> {
    if wanted.contains(namespaces::TIME) {
        unshare(namespaces::TIME).step("make a time namespace")?;
        set_clock_offsets(spec)?;
    }
    if namespaces.has_own_users() {
        unshare(CloneFlags::CLONE_NEWUSER).step("make a user namespace")?;
        gate.report(&Report::NeedsIdMaps).step("ask for id maps")?;
        if !gate.wait() {
            return Err(Failure::Refused("the agent gave up".to_owned()));
        }
        become_root()?;
    }
    let rest = wanted - namespaces::TIME - CloneFlags::CLONE_NEWUSER - CloneFlags::CLONE_NEWPID;
    unshare(rest).step("make namespaces")
}

/// In a user namespace that was just entered, the guest's root has the overflow id.
fn become_root() -> Result<(), Failure> {
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).step("become the group root")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).step("become root")
}

fn set_clock_offsets(spec: &Spec) -> Result<(), Failure> {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.time_offsets().as_ref());
    for (clock, offset) in offsets.into_iter().flatten() {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let text = format!("{clock} {seconds} {nanoseconds}");
        fs::write("/proc/self/timens_offsets", &text).map_err(|error| {
            let reason = crate::failure::Errno::from(error);
            Failure::Refused(format!("linux.timeOffsets: {text:?}: {reason}"))
        })?;
    }
    Ok(())
}

/// Continues in a new child of the agent, since a process can't change its own pid
/// namespace, and the agent has to be the one that waits for it.
fn continue_as_sibling(
    wanted: CloneFlags,
    gate: &ChildEnd,
    body: impl FnOnce() -> Result<Infallible, Failure>,
) -> Result<Infallible, Failure> {
    let own_pids = (wanted & CloneFlags::CLONE_NEWPID).bits();
    match clone_process(libc::CLONE_PARENT | own_pids, None).step("clone")? {
        None => fail(gate, &body()),
        Some(pid) => {
            gate.report(&Report::Continues(pid.as_raw()))
                .step("report the process")?;
            exit_now(0)
        }
    }
}

fn become_init(
    launch_spec: &LaunchSpec<'_>,
    spec: &Spec,
    prepared: Prepared,
    gate: &ChildEnd,
) -> Result<Infallible, Failure> {
    set_host_names(spec)?;
    // Modes are applied as they are configured.
    umask(CreationMask::empty());
    isolate_mounts()?;
    let rootfs = attach_root(prepared.root)?;
    let sealed_later = mounts::attach(&rootfs, prepared.mounts)?;
    let linux = spec.linux().as_ref();
    if devices::has_own_dev(spec.mounts().as_deref().unwrap_or_default()) {
        let configured = linux.and_then(|linux| linux.devices().as_deref());
        devices::make(&rootfs, &devices::nodes(configured.unwrap_or_default())?)?;
        if launch_spec.terminal {
            // /dev may be read-only when the terminal is there.
            devices::console_point(&rootfs)?;
        }
    }
    mounts::seal(&sealed_later)?;
    if let Some(wanted) = sysctl(spec) {
        settings::set(&rootfs, wanted)?;
    }
    if let Some(linux) = linux {
        paths::make_read_only(
            &rootfs,
            linux.readonly_paths().as_deref().unwrap_or_default(),
        )?;
        paths::mask(&rootfs, linux.masked_paths().as_deref().unwrap_or_default())?;
    }
    rootfs.mount_point(launch_spec.process.cwd(), PointKind::Directory)?;
    become_program(launch_spec, Some((spec, rootfs)), gate)
}

fn sysctl(spec: &Spec) -> Option<&HashMap<String, String>> {
    spec.linux().as_ref()?.sysctl().as_ref()
}

fn set_host_names(spec: &Spec) -> Result<(), Failure> {
    if let Some(name) = spec.hostname() {
        sethostname(name.as_bytes()).step("set hostname")?;
    }
    if let Some(name) = spec.domainname() {
        setdomainname(name.as_bytes()).step("set domainname")?;
    }
    Ok(())
}

fn isolate_mounts() -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).at("make private", "/")
}

fn attach_root(root: OwnedFd) -> Result<Rootfs, Failure> {
    let flags = mounts::POINT | OFlags::CLOEXEC;
    let point = open(ROOTFS_POINT, flags, Mode::empty()).at("open", ROOTFS_POINT)?;
    mounts::attach_tree(&root, &point).at("mount root at", ROOTFS_POINT)?;
    Ok(Rootfs::new(root))
}

/// The old root lies below the new one for a moment, and is then unmounted.
fn enter_root(spec: &Spec, rootfs: &Rootfs) -> Result<(), Failure> {
    let read_only = spec.root().as_ref().and_then(|root| root.readonly());
    if read_only.unwrap_or(false) {
        mounts::make_read_only(rootfs.mount().as_fd()).step("make the root read-only")?;
    }
    fchdir(rootfs.mount()).step("enter the root")?;
    pivot_root(".", ".").step("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).step("unmount the old root")?;
    nix::unistd::chdir("/").step("enter the root")?;
    set_root_propagation(spec)
}

fn set_root_propagation(spec: &Spec) -> Result<(), Failure> {
    let wanted = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation().as_deref());
    let kind = match wanted.unwrap_or_default() {
        "" | "private" | "rprivate" => return Ok(()),
        "shared" | "rshared" => MountPropagationFlags::SHARED,
        "slave" | "rslave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" | "runbindable" => MountPropagationFlags::UNBINDABLE,
        other => {
            return Err(Failure::Refused(format!(
                "linux.rootfsPropagation: {other:?} is not a propagation"
            )));
        }
    };
    let below = if wanted.is_some_and(|kind| kind.starts_with('r')) {
        MountPropagationFlags::REC
    } else {
        MountPropagationFlags::empty()
    };
    mount_change("/", kind | below).step("set the propagation of the root")
}

/// The steps that init and every other process have in common.
fn become_program(
    launch_spec: &LaunchSpec<'_>,
    new: Option<(&Spec, Rootfs)>,
    gate: &ChildEnd,
) -> Result<Infallible, Failure> {
    setsid().step("begin a session")?;
    if launch_spec.terminal {
        match &new {
            Some((_, rootfs)) => terminal::make_console(rootfs, launch_spec.process, gate)?,
            None => terminal::make(launch_spec.process, gate)?,
        }
    }
    if let Some((spec, rootfs)) = &new {
        enter_root(spec, rootfs)?;
    }
    drop(new);
    let process = launch_spec.process;
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let configured = process.env().as_deref().unwrap_or_default();
    let environment = program::environment(configured, process.user().uid(), &passwd);
    scheduling::apply(process)?;
    set_personality(launch_spec.namespaces.personality)?;
    if let Place::Existing { .. } = launch_spec.place {
        let affinity = process.exec_cpu_affinity().as_ref();
        let last = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref());
        scheduling::run_on(last)?;
    }
    let (early, late) = if process.no_new_privileges().unwrap_or(false) {
        (None, launch_spec.seccomp)
    } else {
        // The installation needs a capability that is dropped next.
        (launch_spec.seccomp, None)
    };
    early.map_or(Ok(()), Filter::install)?;
    identity::assume(process)?;
    let program = Program::find(process, &environment)?;
    gate.report(&Report::Ready).step("report readiness")?;
    if !gate.wait() {
        exit_now(1);
    }
    restore_default_signals();
    if let Place::New { spec, state, .. } = launch_spec.place {
        StartHooks::of(spec, state).run(&environment, late)?;
    }
    gate.report(&Report::Executes).step("report readiness")?;
    // The profile need not allow what happens before.
    late.map_or(Ok(()), Filter::install)?;
    program.execute()
}

fn set_personality(wanted: Option<LinuxPersonalityDomain>) -> Result<(), Failure> {
    use nix::sys::personality::{Persona, set};
    let persona = match wanted {
        None => return Ok(()),
        Some(LinuxPersonalityDomain::PerLinux) => Persona::empty(),
        Some(LinuxPersonalityDomain::PerLinux32) => Persona::from_bits_retain(PER_LINUX32),
    };
    set(persona).step("set personality")?;
    Ok(())
}

/// linux/personality.h
const PER_LINUX32: i32 = 0x0008;
