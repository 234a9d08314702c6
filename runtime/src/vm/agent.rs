//! The host's side of the agent's protocol: requests out, events in.
//!
//! Owns time limits and the turning of the agent's refusals into text. Knows
//! no state of containers.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caisson_protocol::client::agent::{
    AdjustClockRequest, ConnectLocalRequest, ContainerRequest, CreateContainerRequest,
    DeleteContainerRequest, Empty, ExecRequest, HelloRequest, NetworkConfiguration,
    NextEventRequest, ResizeRequest, Seccomp, SignalRequest, Stdio, UpdateContainerRequest,
};
use caisson_protocol::{PROTOCOL_MAJOR, PROTOCOL_MINOR, check_version};
use protobuf::Message;
use ttrpc::Code;

use crate::container::statistics::Statistics;
use crate::owner::{GuestContainer, ProcessEntry};
use crate::seccomp::Filter;
use crate::vm::agent_answers;
use crate::vm::agent_answers::News;
use crate::vm::agent_connection::{Call, Link, Unanswered};
pub(crate) use crate::vm::agent_error::Error;
use crate::vm::event::Event;
use crate::vm::vsock_ports::Token;

/// A call that changes something may wait for a slow guest, but not for ever: fifty
/// machines may be coming up beside it.
const CALL_LIMIT: Duration = Duration::from_secs(300);
/// One that only looks or signals is answered at once, unless the guest hangs.
const PROMPT_LIMIT: Duration = Duration::from_secs(20);

/// Which process of a container; an empty `exec_id` is its init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProcessName {
    pub(crate) container_id: String,
    pub(crate) exec_id: String,
}

impl ProcessName {
    /// The first process of the container `id`.
    pub(crate) fn init_of(id: &str) -> Self {
        Self {
            container_id: id.to_owned(),
            exec_id: String::new(),
        }
    }
}

/// What happens between the word to start and the container's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentStart {
    /// Nothing.
    Plain,
    /// Hooks, which take as long as their own limits let them.
    WithHooks,
}

impl AgentStart {
    /// As config.json asks for it.
    pub(crate) fn of(guest_spec: &serde_json::Value) -> Self {
        match guest_spec.pointer("/hooks/startContainer") {
            Some(_) => Self::WithHooks,
            None => Self::Plain,
        }
    }
}

/// The agent of one machine. Clones share its connection.
#[derive(Clone)]
pub(crate) struct Agent {
    link: Link,
    token: Token,
    /// A list of processes and statistics are asked for by one at a time: each takes
    /// memory here as long as it is looked at.
    turns: Arc<[Turn; 2]>,
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

impl Turn {
    /// Does `work` while nobody else does; waits as long for that as for an answer.
    fn with<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .free
            .wait_timeout_while(taken, PROMPT_LIMIT, |taken| *taken);
        let (mut taken, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(Error::Silent);
        }
        *taken = true;
        drop(taken);
        let done = work();
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.free.notify_one();
        done
    }
}

/// A call that may take long.
const fn limited(method: &'static str) -> Call {
    Call {
        method,
        limit: Some(CALL_LIMIT),
        max_answer_len: agent_answers::MAX_FRAME_LEN,
    }
}

/// A call that is answered at once.
const fn prompt(method: &'static str) -> Call {
    Call {
        limit: Some(PROMPT_LIMIT),
        ..limited(method)
    }
}

/// A call that takes as long as it takes.
const fn patient(method: &'static str) -> Call {
    Call {
        limit: None,
        ..limited(method)
    }
}

const HELLO: Call = limited("Hello");

impl Agent {
    /// Takes over the connection that the agent has opened, and tells it what to begin
    /// the further ones with. `tell` hears when it was lost, and no other has come.
    pub(crate) fn connect(
        control: UnixStream,
        token: Token,
        tell: SyncSender<Event>,
    ) -> Result<Self, Error> {
        let on_over = move || {
            // The loop that is told has nothing else to do than to end.
            tell.send(Event::AgentGone(Error::Lost)).ok();
        };
        let link = Link::new(on_over);
        let attached = link.attach(control, None);
        attached.map_err(|err| Error::Refused(crate::log::error_line::chain(&err)))?;
        let agent = Self {
            link,
            token,
            turns: Arc::default(),
        };
        agent.hello()?;
        Ok(agent)
    }

    /// Takes another connection in place of one that is lost; while there is one, it is
    /// closed. Does not wait.
    pub(crate) fn reconnect(&self, control: UnixStream) {
        let hello = hello_request(self.token)
            .write_to_bytes()
            .unwrap_or_default();
        // Without a thread for it, it is as good as lost.
        self.link.attach(control, Some((HELLO, hello))).ok();
    }

    /// Whether it is connected, once it is clear that it is, or never will be again.
    pub(crate) fn is_back(&self) -> bool {
        self.link.is_attached_again()
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&self) {
        self.link.hang_up();
    }

    fn ask<T>(
        &self,
        call: Call,
        request: &impl Message,
        read: impl FnOnce(&[u8]) -> Result<T, agent_answers::Error>,
    ) -> Result<T, Error> {
        let request = request
            .write_to_bytes()
            .map_err(|err| Error::Refused(err.to_string()))?;
        let frame = self.link.call(call, request)?;
        Ok(agent_answers::payload(&frame).and_then(read)?)
    }

    /// Changes the guest's clock; returns what it shows then, in nanoseconds since the
    /// epoch. A difference of 0 only reads it.
    pub(crate) fn adjust_clock(&self, by_ns: i64, slew: bool) -> Result<u64, Error> {
        let request = AdjustClockRequest {
            by_ns,
            slew,
            ..Default::default()
        };
        self.ask(prompt("AdjustClock"), &request, agent_answers::unix_time_ns)
    }

    /// Compares versions, and sets the clock and the token.
    fn hello(&self) -> Result<(), Error> {
        let major = self.ask(
            HELLO,
            &hello_request(self.token),
            agent_answers::major_version,
        )?;
        check_version(major).map_err(|err| Error::Refused(err.to_string()))
    }

    pub(crate) fn create(&self, container: &GuestContainer, stdio: Stdio) -> Result<(), Error> {
        let request = CreateContainerRequest {
            container_id: container.id.clone(),
            oci_spec: container.spec.to_string().into(),
            stdio: Some(stdio).into(),
            seccomp: container.seccomp.as_ref().map(for_agent).into(),
            oci_state: container.state.to_string().into(),
            submounts: container.submounts.clone(),
            root_overlay_mib: container.root_overlay_mib.map_or(0, NonZeroU32::get),
            notify: container.notifies,
            ..Default::default()
        };
        self.ask(limited("CreateContainer"), &request, agent_answers::nothing)
    }

    pub(crate) fn start(&self, id: &str, start: AgentStart) -> Result<(), Error> {
        let call = match start {
            AgentStart::Plain => limited("StartContainer"),
            AgentStart::WithHooks => patient("StartContainer"),
        };
        self.ask(call, &container(id), agent_answers::nothing)
    }

    /// A process in a paused container begins when that is resumed, however late.
    pub(crate) fn exec(
        &self,
        mut request: ExecRequest,
        seccomp: Option<&Filter>,
    ) -> Result<(), Error> {
        request.seccomp = seccomp.map(for_agent).into();
        let call = if request.ignore_paused {
            patient("Exec")
        } else {
            limited("Exec")
        };
        self.ask(call, &request, agent_answers::nothing)
    }

    pub(crate) fn signal(&self, name: &ProcessName, signal: i32, all: bool) -> Result<(), Error> {
        let request = SignalRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            signal: u32::try_from(signal)
                .map_err(|_| Error::Refused(format!("invalid signal {signal}")))?,
            all,
            ..Default::default()
        };
        self.ask(prompt("Signal"), &request, agent_answers::nothing)
    }

    pub(crate) fn resize(&self, name: &ProcessName, rows: u16, columns: u16) -> Result<(), Error> {
        let request = ResizeRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            rows: rows.into(),
            columns: columns.into(),
            ..Default::default()
        };
        self.ask(prompt("Resize"), &request, agent_answers::nothing)
    }

    pub(crate) fn processes(&self, id: &str) -> Result<Vec<ProcessEntry>, Error> {
        let call = Call {
            max_answer_len: agent_answers::MAX_PROCESSES_FRAME_LEN,
            ..prompt("ListProcesses")
        };
        let [turn, _] = &*self.turns;
        turn.with(|| self.ask(call, &container(id), agent_answers::processes))
    }

    pub(crate) fn pause(&self, id: &str) -> Result<(), Error> {
        self.ask(prompt("Pause"), &container(id), agent_answers::nothing)
    }

    pub(crate) fn resume(&self, id: &str) -> Result<(), Error> {
        self.ask(prompt("Resume"), &container(id), agent_answers::nothing)
    }

    pub(crate) fn update(&self, id: &str, resources: Vec<u8>) -> Result<(), Error> {
        let request = UpdateContainerRequest {
            container_id: id.to_owned(),
            oci_resources: resources,
            ..Default::default()
        };
        self.ask(limited("UpdateContainer"), &request, agent_answers::nothing)
    }

    pub(crate) fn statistics(&self, id: &str) -> Result<Statistics, Error> {
        let call = Call {
            max_answer_len: agent_answers::MAX_STATISTICS_FRAME_LEN,
            ..prompt("GetStatistics")
        };
        let [_, turn] = &*self.turns;
        let statistics = || self.ask(call, &container(id), agent_answers::statistics);
        turn.with(statistics).map(Into::into)
    }

    pub(crate) fn configure_network(&self, wanted: &NetworkConfiguration) -> Result<(), Error> {
        self.ask(limited("ConfigureNetwork"), wanted, agent_answers::nothing)
    }

    /// Kills what is left of a container and forgets it.
    pub(crate) fn delete(&self, id: &str, shares: &[PathBuf]) -> Result<(), Error> {
        let shares = shares.iter().map(|path| path.display().to_string());
        let request = DeleteContainerRequest {
            container_id: id.to_owned(),
            shares: shares.collect(),
            ..Default::default()
        };
        self.ask(limited("DeleteContainer"), &request, agent_answers::nothing)
    }

    /// Connects the stream that is expected on `stream_port` with an address of the
    /// guest's own.
    pub(crate) fn connect_local(&self, local: SocketAddr, stream_port: u32) -> Result<(), Error> {
        let address = match local.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let request = ConnectLocalRequest {
            port: local.port().into(),
            address,
            stream_port,
            ..Default::default()
        };
        self.ask(limited("ConnectLocal"), &request, agent_answers::nothing)
    }

    /// Waits for the event after `after`, however long that takes.
    pub(crate) fn next_event(&self, after: u64) -> Result<News, Error> {
        let request = NextEventRequest {
            after,
            ..Default::default()
        };
        self.ask(patient("NextEvent"), &request, agent_answers::news)
    }

    /// Ends the guest in order: files are flushed, then the power goes.
    pub(crate) fn shut_down(&self, limit: Duration) -> Result<(), Error> {
        let call = Call {
            limit: Some(limit),
            ..prompt("Shutdown")
        };
        self.ask(call, &Empty::new(), agent_answers::nothing)
    }
}

fn for_agent(filter: &Filter) -> Seccomp {
    Seccomp {
        program: filter.program_bytes(),
        flags: filter.flags,
        ..Default::default()
    }
}

fn container(id: &str) -> ContainerRequest {
    ContainerRequest {
        container_id: id.to_owned(),
        ..Default::default()
    }
}

fn hello_request(token: Token) -> HelloRequest {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    HelloRequest {
        protocol_major: PROTOCOL_MAJOR,
        protocol_minor: PROTOCOL_MINOR,
        unix_time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        token: token.as_bytes().to_vec(),
        ..Default::default()
    }
}

impl From<Unanswered> for Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Lost => Self::Lost,
            Unanswered::Silent => Self::Silent,
            Unanswered::TooLong => Self::Nonsense("it is too long".to_owned()),
            Unanswered::RequestTooLong => {
                Self::Refused("this is too long for the guest's agent".to_owned())
            }
        }
    }
}

impl From<agent_answers::Error> for Error {
    /// Callers match what the agent says.
    fn from(err: agent_answers::Error) -> Self {
        match err {
            agent_answers::Error::Refused { code, message } if code == Code::NOT_FOUND as i32 => {
                Self::Gone(message)
            }
            agent_answers::Error::Refused { message, .. } => Self::Refused(message),
            other => Self::Nonsense(other.to_string()),
        }
    }
}

#[cfg(test)]
#[path = "agent_test.rs"]
mod tests;
