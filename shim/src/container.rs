//! One container in the terms of containerd's Task service: its processes, the
//! order of its events, and the clean-up after it.
//!
//! Owns that order. The exit of a process is waited for after its start event was
//! published; the init's exit event follows those of all execs. Starts run in parallel:
//! no start delays another one, or the exit of another exec; the init's exit event waits
//! for the starts under way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use caisson::container::detached_exec::DetachedExec;
use caisson::container::handle::{Container as Library, Error as LibraryError};
use caisson::container::session::ExecSpec;
use caisson::container::store;
use caisson::log as library_log;
use caisson::oci::fields;
use caisson::oci::plan::conditions;
use caisson::owner::{OwnerChild, Reply, SpawnOptions, Status};
use caisson_protocol::rate::RateLimit;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::topics;
use serde_json::{Value, json};

use crate::console::ConsoleSocket;
use crate::error::Error;
use crate::events::{Publisher, QueueSlot};
use crate::in_flight::InFlightStarts;
use crate::log::Log;
use crate::process::{Exit, Phase, Process, ProxyProcess};
use crate::rootfs::Rootfs;
use crate::settings::Settings;
use crate::stdio::{self, StreamNames};

/// A start that waits for its log driver delays the exit event of the init; it delays the
/// end of the server no longer than this.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of an owner's log that are copied, from its end.
const MAX_LOG_LEN: u64 = 64 * 1024;

/// Reported for a process whose status the kernel doesn't give, as one that is no child any
/// more: containerd's `UnknownExitStatus`.
const UNKNOWN_STATUS: u8 = 255;

/// State that the containers of one server share.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(crate) settings: Settings,
    pub(crate) publisher: Publisher,
    pub(crate) log: Arc<Log>,
    /// The program `caisson`.
    pub(crate) program: PathBuf,
}

/// A container that exists.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) library: Library,
    pub(crate) init: Process,
    pub(crate) shared: Arc<SharedState>,
    execs: Mutex<HashMap<String, Arc<Process>>>,
    rootfs: Mutex<Rootfs>,
    starts: InFlightStarts,
    /// Held while processes are frozen or thawed.
    freezing: Mutex<()>,
    paused: AtomicBool,
}

impl Container {
    /// A container that was created, whose exit is waited for from now on.
    pub(crate) fn created(
        library: Library,
        owner: OwnerChild,
        init: Process,
        rootfs: Rootfs,
        shared: Arc<SharedState>,
    ) -> Result<Arc<Self>, Error> {
        let container = Arc::new(Self {
            id: library.record().id.clone(),
            bundle: library.record().bundle.clone(),
            library,
            init,
            shared,
            execs: Mutex::default(),
            rootfs: Mutex::new(rootfs),
            starts: InFlightStarts::default(),
            freezing: Mutex::default(),
            paused: AtomicBool::new(false),
        });
        container.watch_memory()?;
        let watched = Arc::clone(&container);
        spawn("init", move || watched.watch_init(owner))?;
        Ok(container)
    }

    /// Starts the init's program, or an exec. Returns the pid of its proxy process.
    pub(crate) fn start(self: &Arc<Self>, exec_id: &str) -> Result<u32, Error> {
        if !exec_id.is_empty() {
            return self.start_exec(exec_id);
        }
        // Also in a container that has ended: the library returns the error then.
        let in_flight = self.starts.begin();
        self.library.start(&library_log::Log::default())?;
        self.init.mark_running(None);
        let pid = self.init.pid();
        let started = event::TaskStart {
            container_id: self.id.clone(),
            pid,
            ..Default::default()
        };
        self.publish(topics::TASK_START_EVENT_TOPIC, &started);
        drop(in_flight);
        Ok(pid)
    }

    /// Adds an exec.
    pub(crate) fn add_exec(
        &self,
        exec_id: &str,
        names: StreamNames,
        process: &[u8],
    ) -> Result<(), Error> {
        let mut process: Value = serde_json::from_slice(process)
            .map_err(|err| Error::Invalid(format!("the process to run: {err}")))?;
        process["terminal"] = json!(names.terminal);
        fields::check_process(&process).map_err(|err| Error::Invalid(err.to_string()))?;
        conditions::check_process(&process).map_err(|err| Error::Invalid(err.to_string()))?;
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(Error::AlreadyExists(format!(
                "exec {exec_id} already exists"
            )));
        }
        let added = Process::added(exec_id, names, process);
        execs.insert(exec_id.to_owned(), Arc::new(added));
        drop(execs);
        let added = event::TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &added);
        Ok(())
    }

    fn start_exec(self: &Arc<Self>, exec_id: &str) -> Result<u32, Error> {
        let process = self.exec(exec_id)?;
        let Some(_in_flight) = self.starts.begin() else {
            let text = format!("container {} has stopped", self.id);
            return Err(Error::Precondition(text));
        };
        process.begin_start()?;
        // The thread that waits for the proxy exists before the proxy does.
        let (started_proxy, owner) = mpsc::channel();
        let (watched, watcher) = (Arc::clone(&process), Arc::clone(self));
        let watch = move || {
            if let Ok(owner) = owner.recv() {
                watcher.watch_exec(&watched, owner);
            }
        };
        let spawned = spawn("exec", watch).and_then(|()| self.spawn_proxy(&process));
        let (owner, proxy) = spawned.inspect_err(|_| process.abort_start())?;
        let pid = proxy.pid.unsigned_abs();
        process.mark_running(Some(proxy));
        let started = event::TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            pid,
            ..Default::default()
        };
        self.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &started);
        started_proxy.send(owner).ok();
        Ok(pid)
    }

    fn spawn_proxy(&self, process: &Process) -> Result<(OwnerChild, ProxyProcess), Error> {
        let step = |action| move |err: io::Error| Error::step(action, &err);
        let Settings {
            namespace, root, ..
        } = &self.shared.settings;
        let streams = stdio::open(&process.names, namespace, &process.exec_id)
            .map_err(step("open the streams"))?;
        let console = process.names.terminal.then(|| ConsoleSocket::listen(root));
        let console = console.transpose().map_err(step("make a console socket"))?;
        let order = DetachedExec {
            socket: self.library.socket(),
            request: ExecSpec {
                process: process.spec.clone(),
                cgroup: String::new(),
                ignore_paused: false,
                descriptors: Vec::new(),
            },
            console_socket: console.as_ref().map(|console| console.path().to_owned()),
            cgroup: self.library.record().cgroup.clone(),
            // A client waits for the end of the streams, and gets the exec's status.
            copies_late_output: false,
            log: Some(owner_log(&self.bundle)),
            log_json: false,
        };
        let (streams, ends) = streams
            .for_proxy(console.is_some())
            .map_err(step("open /dev/null"))?;
        let around = SpawnOptions {
            program: Some(self.shared.program.clone()),
            streams: Some(ends),
        };
        let owner = order
            .leave_behind(&around)
            .map_err(|err| Error::Failed(caisson::log::error_line::chain(&err)))?;
        let (held, terminal) = match streams.connect(console.as_ref()) {
            Ok(connected) => connected,
            Err(err) => {
                owner.kill();
                return Err(step("take the terminal")(err));
            }
        };
        let proxy = ProxyProcess {
            pid: owner.pid(),
            held,
            terminal,
        };
        Ok((owner, proxy))
    }

    fn watch_exec(&self, process: &Process, owner: OwnerChild) {
        let pid = process.pid();
        let exit = self.exit_after(owner, &process.exec_id);
        process.record_exit(exit, || self.publish_exit(&process.exec_id, pid, exit));
    }

    fn watch_init(&self, owner: OwnerChild) {
        let exit = self.exit_after(owner, "");
        // All processes end with the init.
        self.starts.close();
        let execs: Vec<_> = self.execs().values().cloned().collect();
        for exec in execs.iter().filter(|exec| exec.phase() == Phase::Running) {
            exec.wait();
        }
        self.log_owner_output();
        let pid = self.init.pid();
        self.init
            .record_exit(exit, || self.publish_exit("", pid, exit));
    }

    /// Waits for the end of the proxy process of an exec, or of the init (no `exec_id`).
    fn exit_after(&self, proxy: OwnerChild, exec_id: &str) -> Exit {
        let process = match exec_id {
            "" => format!("container {}", self.id),
            exec_id => format!("exec {exec_id} of container {}", self.id),
        };
        exit_from(proxy.wait(), &process, &self.shared.log)
    }

    fn publish_exit(&self, exec_id: &str, pid: u32, exit: Exit) {
        let id = if exec_id.is_empty() {
            &self.id
        } else {
            exec_id
        };
        let exited = event::TaskExit {
            container_id: self.id.clone(),
            id: id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        };
        self.publish(topics::TASK_EXIT_EVENT_TOPIC, &exited);
    }

    /// Logs the last lines of the owner's log: they have the cause of its machine's end.
    fn log_owner_output(&self) {
        let mut text = Vec::new();
        let file = File::open(owner_log(&self.bundle));
        let read = file.and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG_LEN)))?;
            file.take(MAX_LOG_LEN).read_to_end(&mut text)
        });
        // An owner without a log has logged nothing.
        drop(read);
        let text = String::from_utf8_lossy(&text);
        text.lines().for_each(|line| self.shared.log.warn(line));
    }

    /// Publishes an event when the kernel has killed for lack of memory, once a second at
    /// most.
    fn watch_memory(&self) -> Result<(), Error> {
        let connection = match self.library.follow() {
            Ok(connection) => connection,
            // It has ended already; the thread of its init publishes that.
            Err(LibraryError::NotRunning) => return Ok(()),
            Err(err) => return Err(err.into()),
        };
        let publisher = self.shared.publisher.clone();
        let killed = event::TaskOOM {
            container_id: self.id.clone(),
            ..Default::default()
        };
        let (mut limit, slot) = (RateLimit::default(), QueueSlot::default());
        spawn("memory", move || {
            let received = || matches!(connection.receive(), Ok((Reply::OutOfMemory, _)));
            let passed = std::iter::from_fn(|| received().then(|| limit.pass(Instant::now())));
            for _more in passed.flatten() {
                publisher.publish_in_slot(topics::TASK_OOM_EVENT_TOPIC, &killed, &slot);
            }
        })
    }

    /// Sends a signal to the init, to all, or to one exec.
    pub(crate) fn kill(&self, exec_id: &str, signal: i32, all: bool) -> Result<(), Error> {
        if exec_id.is_empty() {
            if matches!(self.init.phase(), Phase::Stopped(_)) {
                return Err(Error::NotFound(
                    "process already finished: not found".to_owned(),
                ));
            }
            return Ok(self.library.kill(signal, all)?);
        }
        self.exec(exec_id)?.signal(signal)
    }

    /// Freezes all processes.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.freeze(Library::pause)?;
        let paused = event::TaskPaused {
            container_id: self.id.clone(),
            ..Default::default()
        };
        self.publish(topics::TASK_PAUSED_EVENT_TOPIC, &paused);
        Ok(())
    }

    /// Thaws all processes.
    pub(crate) fn resume(&self) -> Result<(), Error> {
        self.freeze(Library::resume)?;
        let resumed = event::TaskResumed {
            container_id: self.id.clone(),
            ..Default::default()
        };
        self.publish(topics::TASK_RESUMED_EVENT_TOPIC, &resumed);
        Ok(())
    }

    /// Makes one such call at a time, and then asks the owner for the state: the command
    /// line may have frozen or thawed the container too.
    fn freeze(&self, call: impl FnOnce(&Library) -> Result<(), LibraryError>) -> Result<(), Error> {
        let _alone = self.freezing.lock().unwrap_or_else(PoisonError::into_inner);
        let done = call(&self.library);
        if let Ok(status) = self.library.status() {
            let paused = matches!(status, Status::Paused);
            self.paused.store(paused, Ordering::Relaxed);
        }
        Ok(done?)
    }

    /// Whether its processes were frozen after the last call that freezes or thaws. The
    /// owner is not asked: containerd waits for a state two seconds at most.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Deletes an exec that does not run.
    pub(crate) fn delete_exec(&self, exec_id: &str) -> Result<(u32, Exit), Error> {
        let process = self.exec(exec_id)?;
        let exit = process.retire().ok_or_else(|| still_runs(exec_id))?;
        process.release();
        self.execs().remove(exec_id);
        Ok((process.pid(), exit))
    }

    /// Deletes the container; one that was never started is killed first.
    pub(crate) fn delete(&self) -> Result<(u32, Exit), Error> {
        let force = match self.init.phase() {
            Phase::Running => return Err(still_runs(&self.id)),
            Phase::Created => true,
            Phase::Added | Phase::Starting | Phase::Stopped(_) => false,
        };
        match self.library.delete(force, &library_log::Log::default()) {
            // As after a poststart hook that has failed.
            Ok(()) | Err(LibraryError::Store(store::Error::NotExist(_))) => {}
            Err(err) => return Err(err.into()),
        }
        let exit = self.init.wait();
        let pid = self.init.pid();
        self.release_processes();
        self.rootfs().unmount();
        let deleted = event::TaskDelete {
            container_id: self.id.clone(),
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        };
        self.publish(topics::TASK_DELETE_EVENT_TOPIC, &deleted);
        Ok((pid, exit))
    }

    /// Releases what this process holds of a container that another process has deleted.
    pub(crate) fn was_deleted(&self) {
        self.release_processes();
        self.rootfs().was_unmounted();
    }

    fn release_processes(&self) {
        self.init.release();
        let execs = std::mem::take(&mut *self.execs());
        for exec in execs.values() {
            exec.abandon();
            exec.release();
        }
    }

    /// Kills the container in whatever state it is, and deletes it.
    pub(crate) fn end(&self) {
        self.library.delete(true, &library_log::Log::default()).ok();
        self.init.wait_for(END_LIMIT);
        self.rootfs().unmount();
    }

    /// The pids of its proxy processes, with the execs' names.
    pub(crate) fn pids(&self) -> Vec<(u32, String)> {
        let lives = |process: &Process| matches!(process.phase(), Phase::Created | Phase::Running);
        let init = lives(&self.init).then(|| (self.init.pid(), String::new()));
        let execs: Vec<_> = self.execs().values().cloned().collect();
        let execs = execs.into_iter().filter(|exec| lives(exec));
        init.into_iter()
            .chain(execs.map(|exec| (exec.pid(), exec.exec_id.clone())))
            .collect()
    }

    /// One of its execs.
    pub(crate) fn exec(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        let found = self.execs().get(exec_id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("exec {exec_id} not found")))
    }

    pub(crate) fn publish<E: protobuf::MessageFull>(&self, topic: &str, event: &E) {
        self.shared.publisher.publish(topic, event);
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Arc<Process>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rootfs(&self) -> MutexGuard<'_, Rootfs> {
        self.rootfs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file in which a container's owner writes log lines.
pub(crate) fn owner_log(bundle: &std::path::Path) -> PathBuf {
    bundle.join("caisson.log")
}

/// The exit that `waited` has brought. A status that the kernel doesn't give is logged,
/// for `process`, before [`UNKNOWN_STATUS`] is reported in its place.
fn exit_from(waited: io::Result<u8>, process: &str, log: &Log) -> Exit {
    let status = waited.unwrap_or_else(|err| {
        log.warn(&format!(
            "{process}: wait for the exit status: {err}; {UNKNOWN_STATUS} is reported"
        ));
        UNKNOWN_STATUS
    });
    Exit {
        status: status.into(),
        at: SystemTime::now(),
    }
}

fn still_runs(name: &str) -> Error {
    Error::Precondition(format!("{name} still runs: kill it first"))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.stack_size(128 * 1024).spawn(work);
    spawned
        .map(drop)
        .map_err(|err| Error::step("start a thread", &err))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_status_is_reported_as_it_is_and_the_cause_logged_where_there_is_none() {
        let bundle = tempfile::tempdir().unwrap();
        let fifo = bundle.path().join("log");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let log = Log::open(bundle.path());
        let statuses = [
            exit_from(Ok(7), "container c", &log).status,
            exit_from(Ok(0), "container c", &log).status,
            exit_from(
                Err(io::Error::from_raw_os_error(nix::libc::ECHILD)),
                "exec e of container c",
                &log,
            )
            .status,
        ];
        assert_eq!(statuses, [7, 0, 255]);
        let mut lines = [0; 4096];
        let length = File::open(&fifo).unwrap().read(&mut lines).unwrap();
        let lines = String::from_utf8_lossy(&lines[..length]);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("exec e of container c"), "{lines}");
        assert!(lines.contains("No child processes"), "{lines}");
    }
}
