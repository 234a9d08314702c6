//! The control connection of the guest's agent: calls out, answers in, and what
//! becomes of them when it breaks.
//!
//! ```text
//!  attached -> lost -> attached ...     within RECONNECT_LIMIT, by the agent
//!                   \-> over            told once
//! ```
//! Owns ttrpc's frames (a head of 10 bytes, then a message). The head of an answer is
//! looked at before there is room for the rest: how long it may be is part of each call,
//! and what nobody waits for is thrown away as it comes. Knows no message.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protobuf::Message;

use crate::process::thread;
use crate::vm::error::Error as VmError;

const SERVICE: &str = "caisson.agent.v1.Agent";
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const HEAD_LEN: usize = 10;
/// What servers of ttrpc take, in bytes.
const MAX_REQUEST_LEN: usize = 4 << 20;
/// An agent that lives connects again at once.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The connection is lost.
    Lost,
    /// Nothing has come in time.
    Silent,
    /// An answer is longer than it may be.
    TooLong,
    /// The request is longer than any server takes.
    RequestTooLong,
}

/// A call as it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Without one, it waits as long as the agent does.
    pub(crate) limit: Option<Duration>,
    /// Bytes of the answer's frame.
    pub(crate) max_answer_len: usize,
}

/// The connection, or the wait for it. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Called once, when there is no connection and none will be.
    on_over: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// None while it is lost.
    connection: Option<Arc<UnixStream>>,
    /// How many there have been.
    connections: u64,
    over: bool,
    last_id: u32,
    waiting: HashMap<u32, Waiting>,
    /// Each belongs to a call that waits, and goes with it.
    unsent: VecDeque<(u32, Vec<u8>)>,
}

struct Waiting {
    max_answer_len: usize,
    answer: SyncSender<Result<Vec<u8>, Unanswered>>,
}

impl State {
    fn enqueue(&mut self, call: Call, request: Vec<u8>) -> Option<u32> {
        let frame = |id| frame(call, request, id).filter(|frame| frame.len() <= MAX_REQUEST_LEN);
        // Clients have the odd numbers.
        self.last_id = self.last_id.wrapping_add(2) | 1;
        let frame = frame(self.last_id)?;
        self.unsent.push_back((self.last_id, frame));
        Some(self.last_id)
    }

    /// Forgets the connection; who waits for answers by it is told.
    fn lose(&mut self) {
        self.connection = None;
        self.unsent.clear();
        for (_, waiting) in self.waiting.drain() {
            waiting.answer.try_send(Err(Unanswered::Lost)).ok();
        }
    }
}

fn frame(call: Call, payload: Vec<u8>, id: u32) -> Option<Vec<u8>> {
    let limit_ns = call.limit.map_or(0, |limit| limit.as_nanos());
    let request = ttrpc::Request {
        service: SERVICE.to_owned(),
        method: call.method.to_owned(),
        payload,
        timeout_nano: i64::try_from(limit_ns).unwrap_or(i64::MAX),
        ..Default::default()
    };
    let body = request.write_to_bytes().ok()?;
    let mut frame = Vec::with_capacity(HEAD_LEN + body.len());
    frame.extend(u32::try_from(body.len()).ok()?.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([REQUEST, 0]);
    frame.extend(body);
    Some(frame)
}

impl Link {
    /// Without a connection yet; `on_over` is called when one was lost for good.
    pub(crate) fn new(on_over: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            on_over: Box::new(on_over),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes a connection that the agent has opened, unless there is one already: then
    /// whoever has opened this one is not the agent, and it is closed. The call in
    /// `first` goes out before all others, and nobody waits for its answer.
    pub(crate) fn attach(
        &self,
        stream: UnixStream,
        first: Option<(Call, Vec<u8>)>,
    ) -> Result<(), VmError> {
        let mut state = self.shared.lock();
        if state.connection.is_some() || state.over {
            return Ok(());
        }
        let stream = Arc::new(stream);
        state.connections += 1;
        let number = state.connections;
        let (link, far) = (Arc::clone(&self.shared), Arc::clone(&stream));
        thread::spawn("agent in", 64, move || link.read(&far, number))?;
        let (link, far) = (Arc::clone(&self.shared), Arc::clone(&stream));
        thread::spawn("agent out", 64, move || link.write(&far, number))?;
        state.connection = Some(stream);
        if let Some((call, request)) = first {
            state.enqueue(call, request);
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Makes a call and waits for its answer.
    pub(crate) fn call(&self, call: Call, request: Vec<u8>) -> Result<Vec<u8>, Unanswered> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut state = self.shared.lock();
        if state.connection.is_none() {
            return Err(Unanswered::Lost);
        }
        let id = state
            .enqueue(call, request)
            .ok_or(Unanswered::RequestTooLong)?;
        let waiting = Waiting {
            max_answer_len: call.max_answer_len,
            answer: sender,
        };
        state.waiting.insert(id, waiting);
        drop(state);
        self.shared.changed.notify_all();
        let answer = match call.limit {
            Some(limit) => receiver.recv_timeout(limit).map_err(drop),
            None => receiver.recv().map_err(drop),
        };
        answer.unwrap_or_else(|()| {
            self.shared.forget(id);
            Err(Unanswered::Silent)
        })
    }

    /// Whether there is a connection, after waiting for the one that may follow.
    pub(crate) fn is_attached_again(&self) -> bool {
        let waits = |state: &mut State| state.connection.is_none() && !state.over;
        let waited = self.shared.changed.wait_while(self.shared.lock(), waits);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.connection.is_some()
    }

    /// Ends it; another one is not waited for, and `on_over` not called.
    pub(crate) fn hang_up(&self) {
        let mut state = self.shared.lock();
        state.over = true;
        if let Some(stream) = &state.connection {
            stream.shutdown(Shutdown::Both).ok();
        }
        state.lose();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: u32) {
        let mut state = self.lock();
        state.waiting.remove(&id);
        state.unsent.retain(|(unsent, _)| *unsent != id);
    }

    /// Sends what is to be sent by the connection of this number.
    fn write(&self, mut stream: &UnixStream, number: u64) {
        while let Some(frame) = self.next_frame(number) {
            if stream.write_all(&frame).is_err() {
                // Which ends its reading, too.
                stream.shutdown(Shutdown::Both).ok();
                return;
            }
        }
    }

    fn next_frame(&self, number: u64) -> Option<Vec<u8>> {
        let is_current = |state: &State| state.connection.is_some() && state.connections == number;
        let idle = |state: &mut State| is_current(state) && state.unsent.is_empty();
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !is_current(&state) {
            return None;
        }
        state.unsent.pop_front().map(|(_, frame)| frame)
    }

    /// Takes answers until the connection of this number ends, and then sees to its
    /// successor.
    fn read(&self, stream: &UnixStream, number: u64) {
        while self.take_answer(stream).is_ok() {}
        stream.shutdown(Shutdown::Both).ok();
        let mut state = self.lock();
        if state.over || state.connections != number {
            return;
        }
        state.lose();
        self.changed.notify_all();
        let waits = |state: &mut State| state.connection.is_none() && !state.over;
        let waited = self
            .changed
            .wait_timeout_while(state, RECONNECT_LIMIT, waits);
        let (mut state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            state.over = true;
            drop(state);
            self.changed.notify_all();
            (self.on_over)();
        }
    }

    fn take_answer(&self, mut stream: &UnixStream) -> io::Result<()> {
        let mut head = [0; HEAD_LEN];
        stream.read_exact(&mut head)?;
        let [a, b, c, d, e, f, g, h, kind, _] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        let id = u32::from_be_bytes([e, f, g, h]);
        let fits = |waiting: &Waiting| length as usize <= waiting.max_answer_len;
        let fits = self.lock().waiting.get(&id).map(fits);
        if kind == RESPONSE && fits == Some(true) {
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body)?;
            self.send_fd(id, Ok(body));
            return Ok(());
        }
        // It may be of a call that was given up.
        self.send_fd(id, Err(Unanswered::TooLong));
        io::copy(&mut stream.take(length.into()), &mut io::sink()).map(drop)
    }

    fn send_fd(&self, id: u32, answer: Result<Vec<u8>, Unanswered>) {
        if let Some(waiting) = self.lock().waiting.remove(&id) {
            // There is room for one.
            waiting.answer.try_send(answer).ok();
        }
    }
}

/// Reads `bytes` as what an agent sends while three calls wait for it.
#[cfg(feature = "fuzz")]
pub(crate) fn try_frames(bytes: &[u8]) {
    let Ok((near, mut far)) = UnixStream::pair() else {
        return;
    };
    let link = Link::new(|| {});
    for id in [1, 3, 5] {
        let (answer, _answers) = mpsc::sync_channel(1);
        let max_answer_len = 1 << (4 * id);
        let waiting = Waiting {
            max_answer_len,
            answer,
        };
        link.shared.lock().waiting.insert(id, waiting);
    }
    let most = bytes.get(..64 * 1024).unwrap_or(bytes);
    if far.write_all(most).is_ok() && far.shutdown(Shutdown::Write).is_ok() {
        while link.shared.take_answer(&near).is_ok() {}
    }
}

#[cfg(test)]
#[path = "agent_connection_test.rs"]
mod tests;
