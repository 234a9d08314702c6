//! The host's side of the agent's protocol: requests out, events in.
//!
//! Owns time limits and the turning of the agent's refusals into text. Knows
//! no state of containers.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caisson_protocol::client::agent::{
    ContainerRequest, CreateContainerRequest, Empty, Event, ExecRequest, HelloRequest,
    NextEventRequest, ResizeRequest, Seccomp, SignalRequest, Stdio,
};
use caisson_protocol::client::agent_ttrpc::AgentClient;
use caisson_protocol::{PROTOCOL_MAJOR, PROTOCOL_MINOR, SECCOMP_MINOR, check_version};
use ttrpc::context;

use crate::owner::ProcessEntry;
use crate::seccomp::Filter;

/// A call that changes something may wait for a slow guest, but not for ever.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// Which process of a container; an empty `exec_id` is its init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProcessName {
    pub(crate) container_id: String,
    pub(crate) exec_id: String,
}

/// The agent of one machine. Clones share its connection.
#[derive(Clone)]
pub(crate) struct Agent {
    client: AgentClient,
    minor: u32,
}

impl Agent {
    /// Takes over the connection that the agent has opened.
    pub(crate) fn connect(control: UnixStream) -> Result<Self, String> {
        let client = ttrpc::Client::new(control.into_raw_fd()).map_err(text)?;
        let mut agent = Self {
            client: AgentClient::new(client),
            minor: 0,
        };
        agent.minor = agent.hello()?;
        Ok(agent)
    }

    /// Compares versions; the answer is the agent's minor one.
    fn hello(&self) -> Result<u32, String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let request = HelloRequest {
            protocol_major: PROTOCOL_MAJOR,
            protocol_minor: PROTOCOL_MINOR,
            unix_time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            ..Default::default()
        };
        let answer = self.client.hello(limited(), &request).map_err(text)?;
        check_version(answer.protocol_major).map_err(|err| err.to_string())?;
        Ok(answer.protocol_minor)
    }

    /// An older agent would leave the container without its filter and say nothing.
    fn filter(&self, filter: Option<&Filter>) -> Result<Option<Seccomp>, String> {
        let Some(filter) = filter else {
            return Ok(None);
        };
        if self.minor < SECCOMP_MINOR {
            return Err("the guest's agent is too old for linux.seccomp: install the initramfs that belongs to this caisson".into());
        }
        Ok(Some(Seccomp {
            program: filter.program_bytes(),
            flags: filter.flags,
            ..Default::default()
        }))
    }

    pub(crate) fn create(
        &self,
        id: &str,
        spec: Vec<u8>,
        stdio: Stdio,
        seccomp: Option<&Filter>,
    ) -> Result<(), String> {
        let request = CreateContainerRequest {
            container_id: id.to_owned(),
            oci_spec: spec,
            stdio: Some(stdio).into(),
            seccomp: self.filter(seccomp)?.into(),
            ..Default::default()
        };
        self.client
            .create_container(limited(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), String> {
        self.client
            .start_container(limited(), &container(id))
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn exec(
        &self,
        name: &ProcessName,
        process: Vec<u8>,
        stdio: Stdio,
        seccomp: Option<&Filter>,
    ) -> Result<(), String> {
        let request = ExecRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            oci_process: process,
            stdio: Some(stdio).into(),
            seccomp: self.filter(seccomp)?.into(),
            ..Default::default()
        };
        self.client
            .exec(limited(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn signal(&self, name: &ProcessName, signal: i32, all: bool) -> Result<(), String> {
        let request = SignalRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            signal: u32::try_from(signal).map_err(|_| format!("invalid signal {signal}"))?,
            all,
            ..Default::default()
        };
        self.client
            .signal(limited(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn resize(&self, name: &ProcessName, rows: u16, columns: u16) -> Result<(), String> {
        let request = ResizeRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            rows: rows.into(),
            columns: columns.into(),
            ..Default::default()
        };
        self.client
            .resize(limited(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn processes(&self, id: &str) -> Result<Vec<ProcessEntry>, String> {
        let answer = self
            .client
            .list_processes(limited(), &container(id))
            .map_err(text)?;
        let entry = |process: caisson_protocol::client::agent::Process| ProcessEntry {
            pid: process.pid,
            parent_pid: process.parent_pid,
            uid: process.uid,
            cpu_ms: process.cpu_ms,
            started_unix_ns: process.started_unix_ns,
            tty: process.tty,
            command: process.command,
        };
        Ok(answer.processes.into_iter().map(entry).collect())
    }

    /// Waits for the event after `after`, however long that takes.
    pub(crate) fn next_event(&self, after: u64) -> Result<Event, String> {
        let request = NextEventRequest {
            after,
            ..Default::default()
        };
        self.client
            .next_event(context::with_timeout(0), &request)
            .map_err(text)
    }

    /// Ends the guest in order: files are flushed, then the power goes.
    pub(crate) fn shut_down(&self, limit: Duration) -> Result<(), String> {
        let limit = context::with_duration(limit);
        self.client
            .shutdown(limit, &Empty::new())
            .map(drop)
            .map_err(text)
    }
}

fn container(id: &str) -> ContainerRequest {
    ContainerRequest {
        container_id: id.to_owned(),
        ..Default::default()
    }
}

fn limited() -> context::Context {
    context::with_duration(CALL_LIMIT)
}

/// What the agent said, without the transport's wrapping: callers match it.
fn text(err: ttrpc::Error) -> String {
    match err {
        ttrpc::Error::RpcStatus(status) => status.message().to_owned(),
        other => format!("the guest's agent does not answer: {other}"),
    }
}
