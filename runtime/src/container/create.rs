//! The creation of a container: checks, plan, cgroup, owner, hooks.
//!
//! Owns the order of these steps and the way back: when one fails, nothing is
//! left. What a created container can do is `container`'s.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::cgroup;
use crate::cgroup::{Established, Group};
use crate::config::annotations::{Annotations, Bounds};
use crate::config::installation::Installation;
use crate::container::creator;
use crate::container::handle::{Container, Error};
use crate::container::preserved_fds::Preserved;
use crate::container::sd_notify;
use crate::container::sd_notify::NotifySocket;
use crate::container::store::{Entry, Record, Store};
use crate::hooks;
use crate::host::identity::User;
use crate::log::{Level, Log};
use crate::monitor::{CreateRequest, Outcome, VmPlacement};
use crate::oci::bundle::Bundle;
use crate::oci::plan;
use crate::oci::plan::{HostFacts, Plan};
use crate::owner;
use crate::owner::{Connection, OwnerChild, SpawnOptions};
use crate::vm;

/// What a caller wants to be created.
#[derive(Debug)]
pub struct Creation {
    /// Name.
    pub id: String,
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// The caller stays, and its terminal is the container's.
    pub foreground: bool,
    /// Who makes cgroups.
    pub cgroup_driver: cgroup::Driver,
    /// A host that gives this user no cgroup is no failure; none: unless it is root.
    pub rootless: Option<bool>,
    /// Descriptors for the container's process beside its standard streams.
    pub preserved: Preserved,
    /// Who wants to hear when the container is ready.
    pub notify: Option<NotifySocket>,
    /// Where the owner writes log lines.
    pub log: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_json: bool,
    /// Tell decisions.
    pub debug: bool,
    /// Who calls reads standard error too: a weaker barrier is told there as well.
    pub warn_on_stderr: bool,
    /// The configuration of caisson, where it is not the usual one.
    pub config: Option<PathBuf>,
    /// What the owner begins with.
    pub around: SpawnOptions,
    /// The container ends when this process does.
    pub bound: bool,
    /// The containers of one machine, the one that began it first, which this one
    /// joins; its own machine without any.
    pub group: Vec<Container>,
}

/// Creates a container: checks, plans, and starts its owner.
///
/// # Errors
/// On any, nothing is left behind.
pub fn create(store: &Store, creation: &Creation) -> Result<(Container, OwnerChild), Error> {
    let (entry, held) = store.reserve(&creation.id)?;
    let created = create_in(&entry, creation, &held);
    if created.is_err() {
        entry.remove()?;
    }
    let (record, owner) = created?;
    Ok((Container::new(entry, record), owner))
}

fn create_in(
    entry: &Entry,
    creation: &Creation,
    held: &File,
) -> Result<(Record, OwnerChild), Error> {
    let bundle = Bundle::load(&creation.bundle)?;
    let mut order = order(entry, &bundle, creation)?;
    let log = Log::of_request(creation.log.as_deref(), creation.log_json, creation.debug);
    for remark in &bundle.remarks {
        log.write(Level::Warning, remark);
    }
    if let VmPlacement::Own(choice) = &order.home {
        warn_of_emulation(choice, creation.warn_on_stderr, &log);
    }
    let created = bring_up(&mut order, creation, held, &log);
    match created {
        Ok(owner) => Ok((entry.read()?, owner)),
        Err(err) => {
            hooks::run_poststop(&order.record, &log);
            Err(err)
        }
    }
}

/// Said before the slow start, so that whoever waits for it knows why.
fn warn_of_emulation(choice: &vm::Choice, on_stderr: bool, log: &Log) {
    let Some(warning) = choice.warning() else {
        return;
    };
    log.write(Level::Warning, warning);
    if on_stderr && log.has_file() {
        Log::default().write(Level::Warning, warning);
    }
}

/// Starts the owner, in its cgroup before it does anything, and runs its
/// errands until the container is created.
fn bring_up(
    order: &mut CreateRequest,
    creation: &Creation,
    held: &File,
    log: &Log,
) -> Result<OwnerChild, Error> {
    let (mut owner, connection) =
        OwnerChild::spawn("monitor", title(order), &creation.around).map_err(Error::Spawn)?;
    let rootless = creation
        .rootless
        .unwrap_or_else(crate::host::identity::is_rootless);
    let mut announced = false;
    // The owner has to know of it in case that this process is killed meanwhile.
    let announce = |group: &Group| announced = connection.send(&Some(group), &[]).is_ok();
    let created = Group::establish(&order.plan.cgroup, owner.pid(), rootless, announce)
        .map_err(Error::Cgroup)
        .and_then(|established| {
            if !announced {
                connection.send(&None::<Group>, &[])?;
            }
            order.record.cgroup = group_of(established, log);
            converse(&connection, order, owner.pid(), creation, held)?;
            // Here and not in the owner, whose namespaces may lack the way to systemd.
            let mut group = order.record.cgroup.iter();
            Ok(group.try_for_each(Group::set_scope_properties)?)
        });
    let Err(err) = created else {
        if creation.bound {
            owner.bind(connection);
        }
        return Ok(owner);
    };
    drop(connection);
    owner.end();
    if let Some(group) = &order.record.cgroup {
        group.remove()?;
    }
    Err(err)
}

/// The container's name and its command line.
fn title(order: &CreateRequest) -> impl Iterator<Item = &str> {
    let words = owner::command_line(&order.record.process);
    [order.id.as_str()].into_iter().chain(words)
}

fn group_of(established: Established, log: &Log) -> Option<Group> {
    match established {
        Established::Made(group) => Some(group),
        Established::Without(reason) => {
            log.debug(&format!("no cgroup on the host: {reason}"));
            None
        }
    }
}

/// The manager's socket comes after what the container's process gets, then the lock of
/// the container's directory: where this process is killed, the owner holds it alone.
fn converse(
    owner: &Connection,
    order: &CreateRequest,
    pid: i32,
    creation: &Creation,
    held: &File,
) -> Result<(), Error> {
    let mut numbers = creation.preserved.numbers();
    numbers.extend(
        creation
            .notify
            .as_ref()
            .map(|socket| socket.as_fd().as_raw_fd()),
    );
    numbers.push(held.as_raw_fd());
    owner.send(order, &numbers)?;
    let outcome = creator::run_until_outcome(owner, order, pid)?;
    match outcome {
        Outcome::Created => Ok(()),
        Outcome::Failed { message } => Err(Error::Refused(message)),
    }
}

fn order(entry: &Entry, bundle: &Bundle, creation: &Creation) -> Result<CreateRequest, Error> {
    let installation = Installation::find(creation.config.as_deref())?;
    let cpus = std::thread::available_parallelism()
        .map_or(1, |cpus| u8::try_from(cpus.get()).unwrap_or(u8::MAX));
    let bounds = installation.bounds(cpus, host_mem_mib());
    let facts = HostFacts {
        cpus,
        default_mem_mib: installation.config.default_mem_mib,
        default_vcpus: installation.config.default_vcpus,
        bounds,
        cgroup_driver: creation.cgroup_driver,
        user: User::unprivileged(),
        group: creation.group.iter().map(member).collect(),
    };
    let mut plan = plan::plan(&creation.id, bundle, &facts)?;
    creation
        .preserved
        .add_to_environment(&mut plan.guest_spec["process"]["env"]);
    if creation.notify.is_some() {
        sd_notify::plan_for(&creation.id, &mut plan);
    }
    check_terminal(plan.terminal, creation)?;
    if let Some(first) = creation.group.first() {
        check_joined(&mut plan, bundle)?;
        check_group(&facts.bounds, bundle, first)?;
    }
    let home = match creation.group.first() {
        Some(first) => VmPlacement::Joined(first.socket()),
        None => VmPlacement::Own(vm::choose(plan.machine, &installation)?),
    };
    let record = Record {
        oci_version: bundle.spec.version().clone(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        mem_mib: plan.mem_mib,
        process: bundle.raw.get("process").cloned().unwrap_or_default(),
        hooks: plan.hooks.clone(),
        // In a group the first one's owner uses it, and puts it back.
        network: plan
            .network
            .path()
            .filter(|_| creation.group.is_empty())
            .map(Path::to_owned),
        ..Record::new(&creation.id)
    };
    let root = entry
        .dir()
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .to_owned();
    Ok(CreateRequest {
        id: creation.id.clone(),
        root,
        plan,
        record,
        console_socket: creation.console_socket.clone(),
        log: creation.log.clone(),
        log_json: creation.log_json,
        debug: creation.debug,
        config: creation.config.clone(),
        home,
        bound: creation.bound,
        notifies: creation.notify.is_some(),
    })
}

/// What a container can't have of its own in a machine that is there: refused, or,
/// where it is a limit that the guest can't keep, told.
fn check_joined(plan: &mut Plan, bundle: &Bundle) -> Result<(), Error> {
    let asks = |pointer: &str| bundle.raw.pointer(pointer).is_some_and(|it| !it.is_null());
    for (pointer, field) in [("/vm", "vm"), ("/linux/memoryPolicy", "linux.memoryPolicy")] {
        if asks(pointer) {
            return Err(Error::Joined(field));
        }
    }
    for field in ["cpu/cpus", "cpu/mems", "blockIO"] {
        if asks(&format!("/linux/resources/{field}")) {
            let field = field.replace('/', ".");
            let line = format!(
                "config.json: linux.resources.{field} is ignored: only the first container of a group can be limited so"
            );
            plan.warnings.push(line);
        }
    }
    Ok(())
}

/// A machine is shared by the word of an engine, or by that of both containers.
fn check_group(bounds: &Bounds, bundle: &Bundle, first: &Container) -> Result<(), plan::Error> {
    let none = Annotations::new();
    let joining = bundle.spec.annotations().as_ref().unwrap_or(&none);
    let first = first.record();
    Ok(bounds.join(joining, &first.id, &first.annotations)?)
}

/// Memory of the host in MiB; nothing is a bound where it can't be known.
fn host_mem_mib() -> u32 {
    let total = nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |host| host.ram_total());
    u32::try_from(total >> 20).unwrap_or(u32::MAX)
}

fn check_terminal(terminal: bool, creation: &Creation) -> Result<(), Error> {
    match (
        terminal,
        creation.console_socket.is_some(),
        creation.foreground,
    ) {
        (true, false, false) => Err(Error::Terminal(
            "cannot allocate tty if caisson will detach without setting console socket",
        )),
        (false, true, _) => Err(Error::Terminal(
            "cannot use console socket if the process has no terminal",
        )),
        _ => creation.console_socket.iter().try_for_each(|socket| {
            // Connecting would be the one connection that some callers take.
            let there = std::fs::metadata(socket).map(drop);
            there.map_err(|source| Error::ConsoleSocket {
                path: socket.clone(),
                source,
            })
        }),
    }
}

/// How others name a container of the group.
fn member(container: &Container) -> (i32, String) {
    let record = container.record();
    (record.pid, record.id.clone())
}
