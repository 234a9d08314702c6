//! The containers of one server, by name.
//!
//! Owns the table, and the steps from a request to a created container: root file
//! system, streams, then the library. When a step fails, those before it are undone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caisson::cgroup::Driver;
use caisson::config::installation::Installation;
use caisson::container::create;
use caisson::container::create::Creation;
use caisson::container::handle::Container as Library;
use caisson::container::preserved_fds::Preserved;
use caisson::container::store;
use caisson::container::store::Store;
use caisson::log as library_log;
use caisson::owner::SpawnOptions;
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::topics;
use nix::unistd::Pid;
use serde_json::Value;

use crate::console::ConsoleSocket;
use crate::container::{Container, SharedState, owner_log};
use crate::error::Error;
use crate::events::Publisher;
use crate::in_flight::InFlightStarts;
use crate::log::Log;
use crate::options::Options;
use crate::process::{Process, ProxyProcess};
use crate::rootfs::Rootfs;
use crate::settings::Settings;
use crate::stdio::{self, StreamNames};

/// The containers of one server.
#[derive(Debug)]
pub(crate) struct Containers {
    store: Store,
    publisher: Publisher,
    log: Arc<Log>,
    settings: Settings,
    table: Mutex<Table>,
    /// Requests that may add one to the table; closed once the server ends.
    creations: InFlightStarts,
    /// Held while the first is created.
    first_creation: Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    containers: HashMap<String, Arc<Container>>,
    /// The container whose machine the others are in.
    first: Option<String>,
}

impl Containers {
    /// An empty table.
    pub(crate) fn new(
        settings: Settings,
        publisher: Publisher,
        log: Arc<Log>,
    ) -> Result<Self, store::Error> {
        Ok(Self {
            store: Store::new(&settings.root)?,
            publisher,
            log,
            settings,
            table: Mutex::default(),
            creations: InFlightStarts::default(),
            first_creation: Mutex::default(),
        })
    }

    /// Namespace of containerd.
    pub(crate) fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    /// The container of this name.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Container>, Error> {
        let found = self.table().containers.get(id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("container {id} not found")))
    }

    /// Removes a container that was deleted.
    pub(crate) fn remove(&self, id: &str) {
        let mut table = self.table();
        table.containers.remove(id);
        if table.containers.is_empty() {
            // The next one gets a machine of its own.
            table.first = None;
        }
    }

    /// Whether there is no container, and no creation under way.
    pub(crate) fn is_empty(&self) -> bool {
        // In this order: a creation ends after its container is in the table.
        !self.creations.any() && self.table().containers.is_empty()
    }

    /// Refuses further creations, waits for those under way, and ends all containers in
    /// parallel.
    pub(crate) fn end_all(&self) {
        self.creations.close();
        let containers = std::mem::take(&mut self.table().containers);
        std::thread::scope(|scope| {
            for container in containers.values() {
                scope.spawn(|| container.end());
            }
        });
    }

    /// Creates a container. Returns the pid of its proxy process.
    pub(crate) fn create(&self, request: &CreateTaskRequest) -> Result<u32, Error> {
        self.create_for(request, &self.publisher)
    }

    /// Creates a container without events: a sandbox's own.
    pub(crate) fn create_silently(&self, request: &CreateTaskRequest) -> Result<u32, Error> {
        self.create_for(request, &Publisher::silent())
    }

    fn create_for(&self, request: &CreateTaskRequest, publisher: &Publisher) -> Result<u32, Error> {
        if !request.checkpoint.is_empty() {
            let text = "a machine can't be restored from a checkpoint of CRIU";
            return Err(Error::Unimplemented(text.to_owned()));
        }
        self.remove_deleted();
        // Of two concurrent creations one starts the machine, and the other joins it.
        let mut alone = Some(self.lock_first_creation());
        if self.table().first.is_some() {
            alone = None;
        }
        let Some(_creation) = self.creations.begin() else {
            return Err(Error::Precondition("the shim is ending".to_owned()));
        };
        let container = self.create_one(request, publisher)?;
        let pid = container.init.pid();
        let mut table = self.table();
        table.first.get_or_insert_with(|| container.id.clone());
        table.containers.insert(container.id.clone(), container);
        drop(table);
        drop(alone);
        Ok(pid)
    }

    /// Removes containers that another process has deleted: a containerd that was restarted
    /// runs the `delete` action for those it doesn't know, and may create one of the same
    /// name at once.
    fn remove_deleted(&self) {
        let is_kept = |container: &Container| {
            let record = self.store.entry(&container.id);
            let record = record.and_then(|entry| entry.read());
            record.is_ok_and(|record| record.created == container.library.record().created)
        };
        let mut table = self.table();
        table.containers.retain(|_, container| {
            let kept = is_kept(container);
            if !kept {
                container.was_deleted();
            }
            kept
        });
        let Table {
            containers, first, ..
        } = &mut *table;
        // Without the first there is no machine to join.
        if first
            .as_ref()
            .is_some_and(|id| !containers.contains_key(id))
        {
            *first = None;
        }
    }

    fn create_one(
        &self,
        request: &CreateTaskRequest,
        publisher: &Publisher,
    ) -> Result<Arc<Container>, Error> {
        let step = |action| move |err: std::io::Error| Error::step(action, &err);
        let bundle = PathBuf::from(&request.bundle);
        let options = Options::of(request.options.as_ref(), &bundle)?;
        let rootfs = Rootfs::mount(&request.rootfs, &bundle)?;
        let names = names_of(request);
        let Settings {
            namespace, root, ..
        } = &self.settings;
        let streams =
            stdio::open(&names, namespace, &request.id).map_err(step("open the streams"))?;
        let console = names.terminal.then(|| ConsoleSocket::listen(root));
        let console = console.transpose().map_err(step("make a console socket"))?;
        let (streams, ends) = streams
            .for_proxy(console.is_some())
            .map_err(step("open /dev/null"))?;
        let shared = self.shared_state(&options, publisher)?;
        let creation = Creation {
            id: request.id.clone(),
            console_socket: console.as_ref().map(|console| console.path().to_owned()),
            foreground: false,
            cgroup_driver: options.driver.unwrap_or_else(|| driver_of(&bundle)),
            rootless: None,
            preserved: Preserved::default(),
            notify: None,
            log: Some(owner_log(&bundle)),
            log_json: false,
            debug: self.settings.debug,
            warn_on_stderr: false,
            config: options.config,
            around: SpawnOptions {
                program: Some(shared.program.clone()),
                streams: Some(ends),
            },
            bound: true,
            group: self.group(),
            bundle,
        };
        let (library, owner) = create::create(&self.store, &creation)?;
        drop(creation);
        let (made, pid) = (library.clone(), owner.pid());
        let take_over = || {
            let (held, terminal) = streams
                .connect(console.as_ref())
                .map_err(step("take the terminal"))?;
            let proxy = ProxyProcess {
                pid,
                held,
                terminal,
            };
            publish_created(publisher, request, pid.unsigned_abs());
            let init = Process::init(names, proxy);
            Container::created(library, owner, init, rootfs, Arc::new(shared))
        };
        take_over().inspect_err(|_| discard(&made, pid))
    }

    /// The containers whose machine a further one joins, the first one first.
    fn group(&self) -> Vec<Library> {
        let table = self.table();
        let first = table.first.iter();
        let all = first.chain(
            table
                .containers
                .keys()
                .filter(|id| Some(*id) != table.first.as_ref()),
        );
        let members = all.filter_map(|id| table.containers.get(id));
        members.map(|container| container.library.clone()).collect()
    }

    fn shared_state(&self, options: &Options, publisher: &Publisher) -> Result<SharedState, Error> {
        let installation = Installation::find(options.config.as_deref());
        let program = installation.and_then(|installation| installation.program());
        Ok(SharedState {
            settings: self.settings.clone(),
            publisher: publisher.clone(),
            log: Arc::clone(&self.log),
            program: program.map_err(|err| Error::Failed(caisson::log::error_line::chain(&err)))?,
        })
    }

    fn lock_first_creation(&self) -> MutexGuard<'_, ()> {
        self.first_creation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes a container that this process could not take over.
fn discard(library: &Library, owner: i32) {
    library.delete(true, &library_log::Log::default()).ok();
    // Its owner is a child of this process that no thread waits for.
    nix::sys::wait::waitpid(Pid::from_raw(owner), None).ok();
}

fn publish_created(publisher: &Publisher, request: &CreateTaskRequest, pid: u32) {
    let io = event::TaskIO {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
        ..Default::default()
    };
    let created = event::TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: Some(io).into(),
        pid,
        ..Default::default()
    };
    publisher.publish(topics::TASK_CREATE_EVENT_TOPIC, &created);
}

fn names_of(request: &CreateTaskRequest) -> StreamNames {
    StreamNames {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

/// The cgroup driver where options don't name it: by the form of `linux.cgroupsPath`.
fn driver_of(bundle: &Path) -> Driver {
    // A bundle that can't be read is refused by the library.
    let config = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or(Value::Null);
    let path = config.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    match path.map(|path| path.split(':').count()) {
        Some(3) => Driver::Systemd,
        _ => Driver::Cgroupfs,
    }
}
