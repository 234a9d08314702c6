//! The host's side of the agent's protocol: requests out, events in.
//!
//! Owns time limits and the turning of the agent's refusals into text. Knows
//! no state of containers.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caisson_protocol::client::agent::{
    ConnectLocalRequest, ContainerRequest, CreateContainerRequest, Empty, Event, ExecRequest,
    HelloRequest, NetworkConfiguration, NextEventRequest, ResizeRequest, Seccomp, SignalRequest,
    Stdio, UpdateContainerRequest,
};
use caisson_protocol::client::agent_ttrpc::AgentClient;
use caisson_protocol::{PROTOCOL_MAJOR, PROTOCOL_MINOR, check_version};
use ttrpc::{Code, context};

use super::streams::Token;
use crate::owner::{GuestContainer, ProcessEntry};
use crate::seccomp::Filter;
use crate::statistics::Statistics;

/// A call that changes something may wait for a slow guest, but not for ever: fifty
/// machines may be coming up beside it.
const CALL_LIMIT: Duration = Duration::from_secs(300);
/// One that only looks or signals is answered at once, unless the guest hangs.
const PROMPT_LIMIT: Duration = Duration::from_secs(20);

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The agent said no; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// The connection is lost, or the container in the guest: it is ending, or has ended.
    #[error("the guest's agent is gone: {0}")]
    Gone(String),
    /// It was asked, and says nothing.
    #[error(
        "the guest has not answered in time: it hangs, or its host is overloaded; SIGKILL ends the container with its machine"
    )]
    Silent,
}

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
    client: AgentClient,
    token: Token,
}

impl Agent {
    /// Takes over the connection that the agent has opened, and tells it what to begin
    /// the further ones with.
    pub(crate) fn connect(control: UnixStream, token: Token) -> Result<Self, Error> {
        let client = ttrpc::Client::new(control.into_raw_fd()).map_err(text)?;
        let agent = Self {
            client: AgentClient::new(client),
            token,
        };
        agent.hello()?;
        Ok(agent)
    }

    /// Tells it the host's time.
    pub(crate) fn tell_time(&self) -> Result<(), Error> {
        self.hello()
    }

    /// Compares versions, and sets the clock and the token.
    fn hello(&self) -> Result<(), Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let request = HelloRequest {
            protocol_major: PROTOCOL_MAJOR,
            protocol_minor: PROTOCOL_MINOR,
            unix_time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            token: self.token.as_bytes().to_vec(),
            ..Default::default()
        };
        let answer = self.client.hello(limited(), &request).map_err(text)?;
        check_version(answer.protocol_major).map_err(|err| Error::Refused(err.to_string()))
    }

    pub(crate) fn create(&self, container: &GuestContainer, stdio: Stdio) -> Result<(), Error> {
        let request = CreateContainerRequest {
            container_id: container.id.clone(),
            oci_spec: container.spec.to_string().into(),
            stdio: Some(stdio).into(),
            seccomp: container.seccomp.as_ref().map(for_agent).into(),
            oci_state: container.state.to_string().into(),
            submounts: container.submounts.clone(),
            notify: container.notifies,
            ..Default::default()
        };
        self.client
            .create_container(limited(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn start(&self, id: &str, start: AgentStart) -> Result<(), Error> {
        let limit = match start {
            AgentStart::Plain => limited(),
            AgentStart::WithHooks => context::with_timeout(0),
        };
        self.client
            .start_container(limit, &container(id))
            .map(drop)
            .map_err(text)
    }

    /// A process in a paused container begins when that is resumed, however late.
    pub(crate) fn exec(
        &self,
        mut request: ExecRequest,
        seccomp: Option<&Filter>,
    ) -> Result<(), Error> {
        request.seccomp = seccomp.map(for_agent).into();
        let limit = if request.ignore_paused {
            context::with_timeout(0)
        } else {
            limited()
        };
        self.client.exec(limit, &request).map(drop).map_err(text)
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
        self.client
            .signal(prompt(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn resize(&self, name: &ProcessName, rows: u16, columns: u16) -> Result<(), Error> {
        let request = ResizeRequest {
            container_id: name.container_id.clone(),
            exec_id: name.exec_id.clone(),
            rows: rows.into(),
            columns: columns.into(),
            ..Default::default()
        };
        self.client
            .resize(prompt(), &request)
            .map(drop)
            .map_err(text)
    }

    pub(crate) fn processes(&self, id: &str) -> Result<Vec<ProcessEntry>, Error> {
        let answer = self
            .client
            .list_processes(prompt(), &container(id))
            .map_err(text)?;
        let entry = |process: caisson_protocol::client::agent::Process| ProcessEntry {
            pid: process.pid,
            parent_pid: process.parent_pid,
            uid: process.uid,
            cpu_ms: process.cpu_ms,
            started_unix_ns: process.started_unix_ns,
            tty: process.tty,
            command: process.command,
            name: process.name,
            state: process.state,
            virtual_kib: process.virtual_kib,
            resident_kib: process.resident_kib,
        };
        Ok(answer.processes.into_iter().map(entry).collect())
    }

    pub(crate) fn pause(&self, id: &str) -> Result<(), Error> {
        let paused = self.client.pause(prompt(), &container(id));
        paused.map(drop).map_err(text)
    }

    pub(crate) fn resume(&self, id: &str) -> Result<(), Error> {
        let resumed = self.client.resume(prompt(), &container(id));
        resumed.map(drop).map_err(text)
    }

    pub(crate) fn update(&self, id: &str, resources: Vec<u8>) -> Result<(), Error> {
        let request = UpdateContainerRequest {
            container_id: id.to_owned(),
            oci_resources: resources,
            ..Default::default()
        };
        let updated = self.client.update_container(limited(), &request);
        updated.map(drop).map_err(text)
    }

    pub(crate) fn statistics(&self, id: &str) -> Result<Statistics, Error> {
        let answer = self.client.get_statistics(prompt(), &container(id));
        answer.map(Into::into).map_err(text)
    }

    pub(crate) fn configure_network(&self, wanted: &NetworkConfiguration) -> Result<(), Error> {
        let configured = self.client.configure_network(limited(), wanted);
        configured.map(drop).map_err(text)
    }

    /// Kills what is left of a container and forgets it.
    pub(crate) fn delete(&self, id: &str) -> Result<(), Error> {
        let deleted = self.client.delete_container(limited(), &container(id));
        deleted.map(drop).map_err(text)
    }

    /// Connects the stream that is expected on `stream_port` with a port of the
    /// guest's loopback.
    pub(crate) fn connect_local(
        &self,
        port: u16,
        ipv6: bool,
        stream_port: u32,
    ) -> Result<(), Error> {
        let request = ConnectLocalRequest {
            port: port.into(),
            ipv6,
            stream_port,
            ..Default::default()
        };
        let connected = self.client.connect_local(limited(), &request);
        connected.map(drop).map_err(text)
    }

    /// Waits for the event after `after`, however long that takes.
    pub(crate) fn next_event(&self, after: u64) -> Result<Event, Error> {
        let request = NextEventRequest {
            after,
            ..Default::default()
        };
        self.client
            .next_event(context::with_timeout(0), &request)
            .map_err(text)
    }

    /// Ends the guest in order: files are flushed, then the power goes.
    pub(crate) fn shut_down(&self, limit: Duration) -> Result<(), Error> {
        let limit = context::with_duration(limit);
        self.client
            .shutdown(limit, &Empty::new())
            .map(drop)
            .map_err(text)
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

fn limited() -> context::Context {
    context::with_duration(CALL_LIMIT)
}

fn prompt() -> context::Context {
    context::with_duration(PROMPT_LIMIT)
}

/// How the client's library begins to say that a limit is over; it has no code for it.
const NO_ANSWER: &str = "Receive packet from Receiver timeout";

/// What the agent said, without the transport's wrapping: callers match it.
fn text(err: ttrpc::Error) -> Error {
    match err {
        ttrpc::Error::RpcStatus(status) if status.code() == Code::NOT_FOUND => {
            Error::Gone(status.message().to_owned())
        }
        ttrpc::Error::RpcStatus(status) => Error::Refused(status.message().to_owned()),
        ttrpc::Error::Others(text) if text.starts_with(NO_ANSWER) => Error::Silent,
        other => Error::Gone(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_says_nothing_is_not_taken_for_one_that_is_gone() {
        let (near, far) = UnixStream::pair().unwrap();
        let client = AgentClient::new(ttrpc::Client::new(near.into_raw_fd()).unwrap());
        let ask = || {
            let limit = context::with_duration(Duration::from_millis(1));
            client.shutdown(limit, &Empty::new()).map_err(text)
        };
        assert_eq!(ask(), Err(Error::Silent));
        drop(far);
        let limit = context::with_duration(PROMPT_LIMIT);
        let lost = client.shutdown(limit, &Empty::new()).map_err(text);
        assert!(matches!(lost, Err(Error::Gone(_))), "{lost:?}");
    }
}
