//! What runs in the processes between the agent and a container's program.
//!
//! Two of them: the first enters (or makes) the namespaces, the second, born in
//! the pid namespace as a child of the agent, does everything that must happen
//! inside and becomes the program. Owns the order of the steps, which is runc's.
//! Everything here runs in a copy of the agent that never returns to its loop.

use std::{
    convert::Infallible,
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode as CreationMask, umask},
};
use oci_spec::runtime::{LinuxPersonalityDomain, Process, Spec};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    process::{fchdir, ioctl_tiocsctty, pivot_root, setsid},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    system::{setdomainname, sethostname},
    termios::{Winsize, tcsetwinsize},
    thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    devices,
    handshake::{ChildEnd, Report},
    identity,
    mount_options::Bind,
    mounts::{self, PreparedMount, Surroundings},
    namespaces, paths,
    program::{self, Program},
    rootfs::{PointKind, Rootfs},
};
use crate::{
    boot::ROOTFS_POINT,
    failure::{Attempt, Failure},
    stdio::ChildEnds,
    sys::{clone_process, close_all_except, exit_now, restore_default_signals},
};

/// Where a new process runs.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// In a container to be made.
    New {
        /// Its configuration.
        spec: &'a Spec,
        /// The namespaces to make.
        namespaces: CloneFlags,
        /// Its cgroup's folder.
        cgroup: &'a Path,
    },
    /// In one that exists.
    Existing {
        /// Its init.
        init: &'a OwnedFd,
        /// The namespaces it has of its own.
        namespaces: CloneFlags,
    },
}

/// What a new process is given.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// Where it runs.
    pub(crate) place: Place<'a>,
    /// What it is.
    pub(crate) process: &'a Process,
    /// Its standard streams, unless it makes a terminal.
    pub(crate) stdio: &'a ChildEnds,
    /// Whether it makes a terminal.
    pub(crate) terminal: bool,
}

/// Body of the first process. Never returns.
pub(crate) fn run(birth: &Birth<'_>, gate: &ChildEnd) -> ! {
    let outcome = first_process(birth, gate);
    fail(gate, &outcome)
}

fn fail(gate: &ChildEnd, outcome: &Result<Infallible, Failure>) -> ! {
    if let Err(failure) = outcome {
        // The agent may have gone; then nobody is left to tell.
        gate.report(&Report::Failed(failure.line()))
            .unwrap_or_default();
    }
    exit_now(1)
}

fn first_process(birth: &Birth<'_>, gate: &ChildEnd) -> Result<Infallible, Failure> {
    let [stdin, stdout, stderr] = &birth.stdio.0;
    dup2_stdin(stdin).doing("set standard input")?;
    dup2_stdout(stdout).doing("set standard output")?;
    dup2_stderr(stderr).doing("set standard error")?;
    match &birth.place {
        Place::New {
            spec,
            namespaces,
            cgroup,
        } => {
            close_all_except(&[gate.as_raw_fd()]);
            set_oom_score(birth.process)?;
            let prepared = Prepared::open(spec, *namespaces, cgroup)?;
            make_namespaces(spec, *namespaces, gate)?;
            continue_as_sibling(*namespaces, gate, || {
                become_init(birth, spec, prepared, gate)
            })
        }
        Place::Existing { init, namespaces } => {
            close_all_except(&[gate.as_raw_fd(), init.as_raw_fd()]);
            set_oom_score(birth.process)?;
            setns(init, *namespaces).doing("enter the namespaces of the container")?;
            let none = CloneFlags::empty();
            continue_as_sibling(none, gate, || become_program(birth, None, gate))
        }
    }
}

/// Lowering it takes rights that a user namespace doesn't have.
fn set_oom_score(process: &Process) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj() else {
        return Ok(());
    };
    let path = "/proc/self/oom_score_adj";
    fs::write(path, score.to_string()).at("write", path)
}

/// Everything opened with the guest's own rights.
#[derive(Debug)]
struct Prepared {
    root: OwnedFd,
    mounts: Vec<PreparedMount>,
}

impl Prepared {
    fn open(spec: &Spec, namespaces: CloneFlags, cgroup: &Path) -> Result<Self, Failure> {
        let Some(root) = spec.root() else {
            return Err(Failure::Refused("root is missing".to_owned()));
        };
        let around = Surroundings {
            cgroup,
            own_cgroup_namespace: namespaces.contains(CloneFlags::CLONE_NEWCGROUP),
        };
        Ok(Self {
            root: mounts::clone_tree(root.path(), Bind::Tree)?,
            mounts: mounts::prepare(spec.mounts().as_deref().unwrap_or_default(), around)?,
        })
    }
}

/// The user namespace comes first, so that it owns the others; the pid namespace
/// is made with the process that begins it.
fn make_namespaces(spec: &Spec, wanted: CloneFlags, gate: &ChildEnd) -> Result<(), Failure> {
    if wanted.contains(namespaces::TIME) {
        unshare(namespaces::TIME).doing("make a time namespace")?;
        set_clock_offsets(spec)?;
    }
    if wanted.contains(CloneFlags::CLONE_NEWUSER) {
        unshare(CloneFlags::CLONE_NEWUSER).doing("make a user namespace")?;
        gate.report(&Report::NeedsIdMaps).doing("ask for id maps")?;
        if !gate.wait() {
            return Err(Failure::Refused("the agent gave up".to_owned()));
        }
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).doing("become the group root")?;
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).doing("become root")?;
    }
    let rest = wanted - namespaces::TIME - CloneFlags::CLONE_NEWUSER - CloneFlags::CLONE_NEWPID;
    unshare(rest).doing("make namespaces")
}

fn set_clock_offsets(spec: &Spec) -> Result<(), Failure> {
    let offsets = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.time_offsets().as_ref());
    for (clock, offset) in offsets.into_iter().flatten() {
        let path = "/proc/self/timens_offsets";
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        fs::write(path, format!("{clock} {seconds} {nanoseconds}")).at("write", path)?;
    }
    Ok(())
}

/// Goes on in a new child of the agent, since a process can't change its own pid
/// namespace, and the agent has to be the one that waits for it.
fn continue_as_sibling(
    wanted: CloneFlags,
    gate: &ChildEnd,
    body: impl FnOnce() -> Result<Infallible, Failure>,
) -> Result<Infallible, Failure> {
    let own_pids = (wanted & CloneFlags::CLONE_NEWPID).bits();
    match clone_process(libc::CLONE_PARENT | own_pids, None).doing("clone")? {
        None => fail(gate, &body()),
        Some(pid) => {
            gate.report(&Report::Continues(pid.as_raw()))
                .doing("report the process")?;
            exit_now(0)
        }
    }
}

fn become_init(
    birth: &Birth<'_>,
    spec: &Spec,
    prepared: Prepared,
    gate: &ChildEnd,
) -> Result<Infallible, Failure> {
    name_the_machine(spec)?;
    // Modes of what is made are meant as they are written.
    umask(CreationMask::empty());
    isolate_mounts()?;
    let rootfs = attach_root(prepared.root)?;
    let sealed_later = mounts::attach(&rootfs, prepared.mounts)?;
    let linux = spec.linux().as_ref();
    if devices::has_own_dev(spec.mounts().as_deref().unwrap_or_default()) {
        let configured = linux.and_then(|linux| linux.devices().as_deref());
        devices::make(&rootfs, &devices::nodes(configured.unwrap_or_default())?)?;
    }
    mounts::seal(&sealed_later)?;
    if let Some(linux) = linux {
        if let Some(settings) = linux.sysctl() {
            paths::set_kernel_settings(&rootfs, settings)?;
        }
        paths::make_read_only(
            &rootfs,
            linux.readonly_paths().as_deref().unwrap_or_default(),
        )?;
        paths::mask(&rootfs, linux.masked_paths().as_deref().unwrap_or_default())?;
    }
    rootfs.mount_point(birth.process.cwd(), PointKind::Directory)?;
    become_program(birth, Some((spec, rootfs)), gate)
}

fn name_the_machine(spec: &Spec) -> Result<(), Failure> {
    if let Some(name) = spec.hostname() {
        sethostname(name.as_bytes()).doing("set hostname")?;
    }
    if let Some(name) = spec.domainname() {
        setdomainname(name.as_bytes()).doing("set domainname")?;
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

/// The old root lies below the new one for a moment, and is then let go.
fn enter_root(spec: &Spec, rootfs: &Rootfs) -> Result<(), Failure> {
    let read_only = spec.root().as_ref().and_then(|root| root.readonly());
    if read_only.unwrap_or(false) {
        mounts::make_read_only(rootfs.mount().as_fd()).doing("make the root read-only")?;
    }
    fchdir(rootfs.mount()).doing("enter the root")?;
    pivot_root(".", ".").doing("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).doing("let the old root go")?;
    nix::unistd::chdir("/").doing("enter the root")?;
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
    mount_change("/", kind | below).doing("set the propagation of the root")
}

/// The steps that init and every other process have in common.
fn become_program(
    birth: &Birth<'_>,
    new: Option<(&Spec, Rootfs)>,
    gate: &ChildEnd,
) -> Result<Infallible, Failure> {
    setsid().doing("begin a session")?;
    if birth.terminal {
        match &new {
            Some((_, rootfs)) => {
                let slave = make_terminal(rootfs, birth.process, gate)?;
                devices::bind_console(rootfs, &slave)?;
            }
            None => {
                let flags = mounts::POINT | OFlags::CLOEXEC;
                let root = open("/", flags, Mode::empty()).at("open", "/")?;
                drop(make_terminal(&Rootfs::new(root), birth.process, gate)?);
            }
        }
    }
    if let Some((spec, rootfs)) = &new {
        enter_root(spec, rootfs)?;
        set_personality(spec)?;
    }
    drop(new);
    let process = birth.process;
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let configured = process.env().as_deref().unwrap_or_default();
    let environment = program::environment(configured, process.user().uid(), &passwd);
    identity::assume(process)?;
    let program = Program::find(process, &environment)?;
    gate.report(&Report::Ready).doing("report readiness")?;
    if !gate.wait() {
        exit_now(1);
    }
    restore_default_signals();
    program.execute()
}

/// Makes a terminal in the container's own devpts, makes it the controlling one
/// and the standard streams, and hands its master to the agent.
fn make_terminal(rootfs: &Rootfs, process: &Process, gate: &ChildEnd) -> Result<OwnedFd, Failure> {
    let ptmx = Path::new("/dev/ptmx");
    let master = rootfs
        .open(ptmx, OFlags::RDWR | OFlags::NOCTTY)
        .at("open", ptmx)?;
    unlockpt(&master).doing("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).doing("open the terminal")?;
    if let Some(size) = process.console_size() {
        let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let size = Winsize {
            ws_row: cells(size.height()),
            ws_col: cells(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).doing("set the size of the terminal")?;
    }
    ioctl_tiocsctty(&slave).doing("take the terminal")?;
    dup2_stdin(&slave).doing("set standard input")?;
    dup2_stdout(&slave).doing("set standard output")?;
    dup2_stderr(&slave).doing("set standard error")?;
    gate.report(&Report::Terminal(master))
        .doing("hand the terminal over")?;
    Ok(slave)
}

fn set_personality(spec: &Spec) -> Result<(), Failure> {
    use nix::sys::personality::{Persona, set};
    let Some(wanted) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.personality().as_ref())
    else {
        return Ok(());
    };
    let persona = match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => Persona::empty(),
        LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(PER_LINUX32),
    };
    set(persona).doing("set personality")?;
    Ok(())
}

/// linux/personality.h
const PER_LINUX32: i32 = 0x0008;
