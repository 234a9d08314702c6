//! QEMU's control connection: commands, and waiting for a state to be saved or
//! loaded. Knows the few commands that the test host needs.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Loading takes a second; a loaded machine has shown ten.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why QEMU did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke, or QEMU was silent for too long.
    #[error("connection to qemu")]
    Connection(#[from] io::Error),
    /// An answer that is not the protocol.
    #[error("answer of qemu")]
    Answer(#[from] serde_json::Error),
    /// QEMU refused a command.
    #[error("qemu command {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's description.
        reason: String,
    },
    /// Saving or loading a state ended badly.
    #[error("saving or loading the state: {0}")]
    Migration(Value),
    /// The network has no port forwarded to the command server.
    #[error("no forwarded port in: {0}")]
    NoPort(String),
}

/// A connection to one QEMU.
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            events: VecDeque::new(),
        };
        qmp.receive()?; // the greeting
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Loads the saved machine and lets it run.
    pub(crate) fn load(&mut self, ram: &Path) -> Result<(), Error> {
        self.prepare_migration()?;
        self.execute(
            "migrate-incoming",
            &json!({ "uri": format!("file:{}", ram.display()) }),
        )?;
        self.wait_for_migration()?;
        self.execute("cont", &json!({})).map(drop)
    }

    /// Stops the machine for good, saves it, and ends QEMU.
    pub(crate) fn save(&mut self, ram: &Path) -> Result<(), Error> {
        self.execute("stop", &json!({}))?;
        self.prepare_migration()?;
        // Nothing runs meanwhile, so the speed limit for live migration is not wanted.
        self.execute("migrate-set-parameters", &json!({ "max-bandwidth": 0 }))?;
        self.execute(
            "migrate",
            &json!({ "uri": format!("file:{}", ram.display()) }),
        )?;
        self.wait_for_migration()?;
        self.execute("quit", &json!({})).map(drop)
    }

    /// The port of the loopback address that leads to the command server.
    pub(crate) fn forwarded_port(&mut self) -> Result<u16, Error> {
        let table = self.execute(
            "human-monitor-command",
            &json!({ "command-line": "info usernet" }),
        )?;
        let table = table.as_str().unwrap_or_default();
        parse_forwarded_port(table).ok_or_else(|| Error::NoPort(table.to_owned()))
    }

    /// With mapped-ram each page has a fixed place in the file, which stays
    /// sparse; events tell the end without asking.
    fn prepare_migration(&mut self) -> Result<(), Error> {
        let capabilities =
            ["mapped-ram", "events"].map(|name| json!({ "capability": name, "state": true }));
        self.execute(
            "migrate-set-capabilities",
            &json!({ "capabilities": capabilities }),
        )
        .map(drop)
    }

    fn wait_for_migration(&mut self) -> Result<(), Error> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.receive()?,
            };
            match (event["event"].as_str(), event["data"]["status"].as_str()) {
                (Some("MIGRATION"), Some("completed")) => return Ok(()),
                (Some("MIGRATION"), Some("failed" | "cancelled")) => {
                    return Err(Error::Migration(event));
                }
                _ => {}
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut answer = self.receive()?;
            if let Some(error) = answer.get("error") {
                let reason = error["desc"].as_str().unwrap_or_default().to_owned();
                return Err(Error::Refused {
                    command: command.to_owned(),
                    reason,
                });
            }
            match answer.get_mut("return") {
                Some(value) => return Ok(value.take()),
                None => self.events.push_back(answer),
            }
        }
    }

    fn receive(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// Finds the host port in lines like
/// `TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15  7000  0  0`.
fn parse_forwarded_port(table: &str) -> Option<u16> {
    let line = table
        .lines()
        .find(|line| line.trim_start().starts_with("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_forwarded_port;

    #[test]
    fn the_forwarded_port_is_found_in_the_table() {
        let table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                     TCP[HOST_FORWARD]  12       127.0.0.1 40123       10.0.2.15  7000     0     0\n";
        assert_eq!(parse_forwarded_port(table), Some(40123));
        assert_eq!(parse_forwarded_port("Hub -1 (net):\n"), None);
    }
}
