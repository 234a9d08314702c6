//! Vsock ports for the standard streams of one process, until the guest's agent has
//! connected them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use caisson_protocol::client::agent::Stdio;

use crate::container::stdio::GuestStreams;
use crate::owner::GuestTerminal;
use crate::vm;
use crate::vm::vsock_ports::{ReservedPort, VsockPorts};

/// The agent connects streams before it answers, so they are there or lost.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// The streams that a process is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StdioRequest {
    pub(crate) terminal: GuestTerminal,
    /// Whether it has a standard input.
    pub(crate) stdin: bool,
    /// How many descriptors beside the standard ones.
    pub(crate) further: usize,
}

/// The ports that a process's streams will come from.
pub(crate) struct StdioPorts {
    stdin: Option<ReservedPort>,
    stdout: ReservedPort,
    stderr: Option<ReservedPort>,
    further: Vec<ReservedPort>,
    terminal: GuestTerminal,
}

impl StdioPorts {
    /// Ports for a process that may have a terminal, an input, and further
    /// descriptors.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub(crate) fn reserve(streams: &VsockPorts, wanted: StdioRequest) -> Result<Self, vm::Error> {
        let StdioRequest {
            terminal,
            stdin,
            further,
        } = wanted;
        let expect = || streams.expect();
        Ok(Self {
            further: (0..further).map(|_| expect()).collect::<Result<_, _>>()?,
            stdin: stdin.then(expect).transpose()?,
            stdout: expect()?,
            stderr: (!terminal.exists()).then(expect).transpose()?,
            terminal,
        })
    }

    pub(crate) fn stdio(&self) -> Stdio {
        let port = |expected: &Option<ReservedPort>| expected.as_ref().map_or(0, |port| port.port);
        Stdio {
            terminal: self.terminal.exists(),
            plain_newlines: self.terminal == GuestTerminal::PlainNewlines,
            stdin_port: port(&self.stdin),
            stdout_port: self.stdout.port,
            stderr_port: port(&self.stderr),
            further_ports: self.further.iter().map(|expected| expected.port).collect(),
            ..Default::default()
        }
    }

    /// The streams, which the agent has connected by now.
    pub(crate) fn take(self) -> Result<(GuestStreams, Vec<UnixStream>), String> {
        let take = |expected: &ReservedPort| {
            expected
                .take(STREAM_LIMIT)
                .ok_or("the guest's agent did not connect a stream")
        };
        let further = self.further.iter().map(take).collect::<Result<_, _>>()?;
        let streams = GuestStreams {
            stdin: self.stdin.as_ref().map(take).transpose()?,
            stdout: Some(take(&self.stdout)?),
            stderr: self.stderr.as_ref().map(take).transpose()?,
        };
        Ok((streams, further))
    }
}
