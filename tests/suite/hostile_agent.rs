//! A guest that somebody has taken over: the first process of a machine, in the place
//! of the agent.
//!
//! Owns its end of the protocol, by hand, and what it does against its owner. Which of
//! that is said by the container's first argument; anything else it does as an agent
//! would, so that the container gets that far.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use caisson_protocol::client::agent::event::Kind;
use caisson_protocol::client::agent::{
    CreateContainerRequest, Event, Exited, HelloRequest, HelloResponse, ListProcessesResponse, Oom,
    Process, SignalRequest, Stdio,
};
use caisson_protocol::{CONTROL_PORT, PROTOCOL_MAJOR, PROTOCOL_MINOR};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::vsock::connect_to_host;

/// What it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Attack {
    /// Answers of 4 MiB that are millions of empty structures.
    Bombs,
    /// As many processes as are taken, each with all the text there may be.
    Most,
    /// One process with a command line of 70,000 letters.
    Wide,
    /// A kill for lack of memory, as often as it is asked for events.
    Ooms,
    /// Events of 4 MiB.
    LongEvents,
    /// Events of nothing but fields that nobody knows.
    UnknownEvents,
    /// Says of a member that it has ended, again and again, and never deletes it.
    Ends,
    /// When it is killed it says so, announces output that never comes, sends a byte of
    /// it now and then, and goes on.
    Undead,
    /// When it is killed it does nothing.
    Deaf,
    /// Closes its connection once the container runs.
    HangUp,
    /// Closes it and makes another.
    Reconnect,
    /// None.
    #[default]
    None,
}

impl Attack {
    fn of(request: &CreateContainerRequest) -> Self {
        let spec: serde_json::Value = serde_json::from_slice(&request.oci_spec).unwrap();
        match spec["process"]["args"][0].as_str().unwrap_or_default() {
            "bombs" => Self::Bombs,
            "most" => Self::Most,
            "wide" => Self::Wide,
            "ooms" => Self::Ooms,
            "long-events" => Self::LongEvents,
            "unknown-events" => Self::UnknownEvents,
            "ends" => Self::Ends,
            "undead" => Self::Undead,
            "deaf" => Self::Deaf,
            "hang-up" => Self::HangUp,
            "reconnect" => Self::Reconnect,
            _ => Self::None,
        }
    }
}

/// As long as servers of ttrpc may answer.
const LONGEST: usize = (4 << 20) - 64;
/// Between two bytes of output that was announced.
const TRICKLE: Duration = Duration::from_millis(2500);

/// Lives until the machine is ended, or the owner asks for the end.
pub(crate) fn main() -> ExitCode {
    load_modules(Path::new("/modules"));
    let mut guest = Guest {
        control: dial(CONTROL_PORT, &[]),
        ..Guest::unconnected()
    };
    while let Some((id, request)) = guest.receive() {
        guest.carry_out(id, &request);
        guest.tell();
    }
    loop {
        std::thread::park();
    }
}

fn load_modules(folder: &Path) {
    let order = fs::read_to_string(folder.join("order")).unwrap_or_default();
    for name in order.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let module = File::open(folder.join(name)).unwrap();
        finit_module(&module, c"", ModuleInitFlags::empty()).ok();
    }
}

/// Connects as the agent does; a machine's first connection has no token.
fn dial(port: u32, token: &[u8]) -> File {
    let mut stream = connect_to_host(port).unwrap();
    stream.write_all(token).unwrap();
    stream
}

struct Guest {
    control: File,
    token: Vec<u8>,
    attack: Attack,
    /// The first is the owner's.
    containers: Vec<String>,
    streams: Vec<File>,
    /// The call for the next event.
    asked: Option<u32>,
    events: VecDeque<Kind>,
    number: u64,
}

impl Guest {
    fn unconnected() -> Self {
        Self {
            control: File::open("/dev/null").unwrap(),
            token: Vec::new(),
            attack: Attack::None,
            containers: Vec::new(),
            streams: Vec::new(),
            asked: None,
            events: VecDeque::new(),
            number: 0,
        }
    }

    fn receive(&mut self) -> Option<(u32, ttrpc::Request)> {
        let mut head = [0; 10];
        self.control.read_exact(&mut head).ok()?;
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; number(0) as usize];
        self.control.read_exact(&mut body).ok()?;
        Some((number(4), ttrpc::Request::parse_from_bytes(&body).unwrap()))
    }

    /// A lost connection is noticed when the next request is to be read.
    fn answer(&mut self, id: u32, payload: Vec<u8>) {
        let response = ttrpc::Response {
            payload,
            ..Default::default()
        };
        let body = response.write_to_bytes().unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(id.to_be_bytes());
        frame.extend([2, 0]);
        frame.extend(body);
        self.control.write_all(&frame).ok();
    }

    fn carry_out(&mut self, id: u32, request: &ttrpc::Request) {
        let payload = match request.method.as_str() {
            "Hello" => {
                let request = HelloRequest::parse_from_bytes(&request.payload).unwrap();
                self.token = request.token;
                hello()
            }
            "CreateContainer" => self.create(&request.payload),
            "StartContainer" => return self.start(id),
            "NextEvent" => {
                self.asked = Some(id);
                return;
            }
            "Signal" => return self.signal(id, &request.payload),
            "ListProcesses" => self.processes(),
            "GetStatistics" => match self.attack {
                Attack::Bombs => [0x3a, 0].repeat(LONGEST / 2),
                _ => Vec::new(),
            },
            "DeleteContainer" if self.attack == Attack::Ends => return,
            "Shutdown" if self.attack == Attack::Undead => return,
            "Shutdown" => {
                self.answer(id, Vec::new());
                // The end of a first process is the machine's.
                panic!("it is over");
            }
            _ => Vec::new(),
        };
        self.answer(id, payload);
    }

    fn create(&mut self, payload: &[u8]) -> Vec<u8> {
        let request = CreateContainerRequest::parse_from_bytes(payload).unwrap();
        if self.containers.is_empty() {
            self.attack = Attack::of(&request);
        }
        self.streams
            .extend(connect_streams(&request.stdio, &self.token));
        self.containers.push(request.container_id);
        Vec::new()
    }

    fn start(&mut self, id: u32) {
        self.answer(id, Vec::new());
        match self.attack {
            Attack::HangUp => self.control = File::open("/dev/null").unwrap(),
            Attack::Reconnect => {
                self.asked = None;
                self.control = File::open("/dev/null").unwrap();
                // Until the owner has seen that the first one is gone, it closes others.
                while self.answers_nobody() {
                    self.control = dial(CONTROL_PORT, &self.token);
                }
            }
            _ => {}
        }
    }

    /// Whether this connection is not the owner's: it begins with a call.
    fn answers_nobody(&mut self) -> bool {
        match self.receive() {
            Some((id, request)) => {
                self.carry_out(id, &request);
                false
            }
            None => true,
        }
    }

    fn signal(&mut self, id: u32, payload: &[u8]) {
        self.answer(id, Vec::new());
        let request = SignalRequest::parse_from_bytes(payload).unwrap();
        if request.signal != 9 || self.attack == Attack::Deaf {
            return;
        }
        let mut exited = Exited {
            container_id: request.container_id,
            status: 137,
            ..Default::default()
        };
        if self.attack == Attack::Undead {
            exited.stdout_bytes = 1 << 62;
            trickle(std::mem::take(&mut self.streams));
        }
        self.events.push_back(Kind::Exited(exited));
    }

    fn processes(&self) -> Vec<u8> {
        let list = |length: usize, count: usize| {
            let process = Process {
                pid: 1,
                command: "\u{1}".repeat(length),
                ..Default::default()
            };
            let list = ListProcessesResponse {
                processes: vec![process; count],
                ..Default::default()
            };
            list.write_to_bytes().unwrap()
        };
        match self.attack {
            Attack::Bombs => [0x0a, 0].repeat(LONGEST / 2),
            Attack::Most => list(64, 16 * 1024),
            Attack::Wide => list(70_000, 1),
            _ => list(10, 1),
        }
    }

    /// Answers the question for an event, if there is one, and one was asked.
    fn tell(&mut self) {
        let Some(id) = self.asked else {
            return;
        };
        let first = self.containers.first().cloned().unwrap_or_default();
        let kind = match (self.events.pop_front(), self.attack, self.containers.get(1)) {
            (Some(kind), _, _) => kind,
            (None, Attack::Ooms, _) if !first.is_empty() => Kind::Oom(Oom {
                container_id: first,
                ..Default::default()
            }),
            (None, Attack::LongEvents, _) => {
                return self.answer_event(id, [0x1a, 0].repeat(LONGEST / 2));
            }
            (None, Attack::UnknownEvents, _) => return self.answer_event(id, unknown_fields()),
            (None, Attack::Ends, Some(member)) => Kind::Exited(Exited {
                container_id: member.clone(),
                ..Default::default()
            }),
            _ => return,
        };
        self.number += 1;
        let event = Event {
            number: self.number,
            kind: Some(kind),
            ..Default::default()
        };
        self.answer_event(id, event.write_to_bytes().unwrap());
    }

    fn answer_event(&mut self, id: u32, payload: Vec<u8>) {
        self.asked = None;
        self.answer(id, payload);
    }
}

/// 20,000 fields, each of another number.
fn unknown_fields() -> Vec<u8> {
    let field = |number: u32| {
        let key = (number << 3) | 0x8000;
        [(key & 0x7f | 0x80), (key >> 7 & 0x7f | 0x80), key >> 14, 1]
    };
    let bytes = (0..15_000).flat_map(field);
    bytes
        .map(|byte| u8::try_from(byte & 0xff).unwrap())
        .collect()
}

fn hello() -> Vec<u8> {
    let hello = HelloResponse {
        protocol_major: PROTOCOL_MAJOR,
        protocol_minor: PROTOCOL_MINOR,
        ..Default::default()
    };
    hello.write_to_bytes().unwrap()
}

/// A byte each now and then, as long as anybody takes it.
fn trickle(mut streams: Vec<File>) {
    std::thread::spawn(move || {
        while streams.iter_mut().any(|one| one.write_all(b".").is_ok()) {
            std::thread::park_timeout(TRICKLE);
        }
    });
}

fn connect_streams(stdio: &Stdio, token: &[u8]) -> Vec<File> {
    let standard = [stdio.stdin_port, stdio.stdout_port, stdio.stderr_port];
    let ports = standard.into_iter().chain(stdio.further_ports.clone());
    ports
        .filter(|port| *port != 0)
        .map(|port| dial(port, token))
        .collect()
}
