//! What happens to the requests in the rings: taken up, checked, given to the file
//! system, answered. No request ends this process, whatever it says: one that is
//! wrong gets an error, and one that can't be answered is given back empty.
//!
//! Owns the turns over the rings and the requests that are held back. Does not own
//! the rings' set-up, which is `backend`'s, nor the rules, which are `check`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use log::warn;
use std::sync::atomic::Ordering;
use std::time::Instant;
use vhost_user_backend::{VringMutex, VringState, VringT as _};
use virtio_queue::{QueueOwnedT as _, QueueT as _};
use virtiofsd::Error;
use virtiofsd::fuse::{GetxattrIn, Opcode};
use virtiofsd::server::Server;
use vm_memory::GuestMemoryAtomic;

use super::check::{Question, check};
use super::counted::Counted;
use super::forgetting::{Excess, Forgetting, Level, Reply};
use super::names::{Names, ROOT};
use super::request::{ANSWER_HEADER, Chain, Memory, Request, RequestReader};

/// A ring of the guest.
pub(super) type Ring = VringMutex<GuestMemoryAtomic<Memory>>;
type Locked = VringState<GuestMemoryAtomic<Memory>>;

/// How many requests are served before the ring is let go for a moment, so that the
/// machine can stop it however fast the guest fills it.
const REQUESTS_PER_TURN: usize = 64;

/// The most requests that are held back at once: they take room in the ring, in which
/// the agent's question needs some.
const MAX_HELD: usize = 16;

/// The name of the attribute that the guest's agent asks for.
const FORGET: &[u8] = b"user.caisson.forget\0";

/// Serves the rings.
pub(super) struct Worker {
    server: Server<Counted>,
    names: Arc<Names>,
    reader: Option<RequestReader>,
    forgetting: Forgetting,
    /// The agent's question that waits.
    question: Option<Held>,
    /// What it is to be answered with.
    reply: Option<Level>,
    /// Requests that would make the guest hold too much.
    held: VecDeque<Held>,
    /// When those are tried again.
    retry: Retry,
}

/// How a request comes to be served.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// The guest was not asked to forget for its sake yet.
    First,
    /// The guest has forgotten all it could meanwhile.
    Again,
}

/// When requests that are held back are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Not before something changes.
    No,
    /// Now, because the guest has forgotten something.
    Soon,
    /// Now, because it has forgotten all it could.
    Finally,
}

/// A request that waits for its answer.
struct Held {
    chain: Chain,
    ring: usize,
}

/// What becomes of one chain.
enum Outcome {
    /// Answered with so many bytes.
    Answered(usize),
    /// It waits as the agent's question.
    Question,
    /// It is held back.
    Held,
}

impl Worker {
    /// A worker that has `server` answer.
    pub(super) fn new(server: Server<Counted>, names: Arc<Names>) -> Self {
        Self {
            server,
            names,
            reader: None,
            forgetting: Forgetting::default(),
            question: None,
            reply: None,
            held: VecDeque::new(),
            retry: Retry::No,
        }
    }

    /// Works on the guest's memory `guest` from now on.
    pub(super) fn use_memory(&mut self, guest: Arc<Memory>) {
        if self
            .reader
            .as_ref()
            .is_some_and(|reader| Arc::ptr_eq(reader.guest(), &guest))
        {
            return;
        }
        // What waits lies in memory that is no longer the guest's.
        self.drop_waiting();
        self.reader = RequestReader::beside(guest)
            .map_err(|err| warn!("{err}; the guest's requests get no answer"))
            .ok();
    }

    /// Serves some requests of each of `rings`. Returns whether there may be more.
    pub(super) fn turn(&mut self, rings: &[Ring]) -> bool {
        let mut more = false;
        for (index, ring) in rings.iter().enumerate() {
            more |= self.turn_of(index, &mut ring.get_mut());
            self.settle(rings);
        }
        more
    }

    fn turn_of(&mut self, index: usize, ring: &mut Locked) -> bool {
        if !is_running(ring) || ring.disable_notification().is_err() {
            return false;
        }
        for _ in 0..REQUESTS_PER_TURN {
            let Some(guest) = self
                .reader
                .as_ref()
                .map(|reader| Arc::clone(reader.guest()))
            else {
                return false;
            };
            match next(ring, guest) {
                Ok(Some(chain)) => self.serve(Held { chain, ring: index }, Wait::First, ring),
                Ok(None) => return ring.enable_notification().unwrap_or(false),
                // The ring makes no sense until the driver sets it up again.
                Err(Broken) => return false,
            }
        }
        true
    }

    fn serve(&mut self, request: Held, wait: Wait, ring: &mut Locked) {
        let head = request.chain.head_index();
        match self.answer(request.chain.clone(), wait) {
            Outcome::Answered(len) => give_back(ring, head, len),
            Outcome::Question => self.question = Some(request),
            Outcome::Held => self.held.push_back(request),
        }
    }

    /// Answers one request.
    fn answer(&mut self, chain: Chain, wait: Wait) -> Outcome {
        let Some(mut reader) = self.reader.take() else {
            return Outcome::Answered(0);
        };
        let outcome = match reader.take(chain) {
            Ok(mut request) => self.answer_request(&mut request, wait),
            Err(_) => Outcome::Answered(0),
        };
        self.reader = Some(reader);
        outcome
    }

    fn answer_request(&mut self, request: &mut Request<'_>, wait: Wait) -> Outcome {
        let room = match allowed_room(request) {
            Ok(room) => room,
            Err(errno) => return Outcome::Answered(request.answer(Err(errno))),
        };
        if let Some(outcome) = self.before_files(request, wait) {
            return outcome;
        }
        request.limit_room(room);
        let server = &self.server;
        let served =
            request.pass(|reader, writer| server.handle_message(reader, writer, None::<&mut ()>));
        let refused = self.names.take_refusal();
        match served {
            Some(Ok(len)) if refused && len <= ANSWER_HEADER => self.refuse(request, wait),
            Some(Ok(len)) => Outcome::Answered(len),
            Some(Err(error)) => Outcome::Answered(request.answer(Err(errno_of(&error)))),
            None => Outcome::Answered(0),
        }
    }

    /// What is decided before the file system is asked.
    fn before_files(&mut self, request: &mut Request<'_>, wait: Wait) -> Option<Outcome> {
        let header = request.header;
        match Opcode::try_from(header.opcode).ok()? {
            // A new driver: what waits is of an old one.
            Opcode::Init | Opcode::Destroy => self.drop_waiting(),
            Opcode::Forget | Opcode::BatchForget => {
                self.forgetting.note_progress(self.names.used());
                self.retry = Retry::Soon;
            }
            Opcode::Release | Opcode::Releasedir => {
                self.forgetting.note_close();
                self.retry = Retry::Soon;
            }
            Opcode::Getxattr if header.nodeid == ROOT && asks_to_forget(request.body()) => {
                return Some(self.ask(request));
            }
            opcode if takes_descriptors(opcode) => {
                let admitted = self.names.admits(header.pid, header.nodeid);
                return (!admitted).then(|| self.refuse(request, wait));
            }
            _ => {}
        }
        None
    }

    fn ask(&mut self, request: &mut Request<'_>) -> Outcome {
        if self.question.is_some() {
            return Outcome::Answered(request.answer(Err(libc::EBUSY)));
        }
        let (used, limit) = (self.names.used(), self.names.limit());
        let pressed = !self.held.is_empty();
        match self
            .forgetting
            .question(used, limit, pressed, Instant::now())
        {
            Reply::Now(level) => Outcome::Answered(request.answer(Ok(level))),
            Reply::Later => {
                self.retry = Retry::Finally;
                Outcome::Question
            }
        }
    }

    /// A request would make the guest hold more than it may.
    fn refuse(&mut self, request: &mut Request<'_>, wait: Wait) -> Outcome {
        let limit = self.names.limit();
        if self.held.len() < MAX_HELD {
            let share = self.names.share_of(request.header.pid);
            let (used, now) = (self.names.used(), Instant::now());
            let excess = match wait {
                Wait::First => self.forgetting.excess(used, limit, share, now),
                Wait::Again => self.forgetting.excess_again(used, limit, share, now),
            };
            match excess {
                Excess::Hold => return Outcome::Held,
                Excess::Ask(level) => {
                    self.reply = Some(level);
                    return Outcome::Held;
                }
                Excess::Refuse => {}
            }
        }
        warn!(
            "a process in the guest holds too many files and gets ENFILE: there may be {limit} \
             names and open files, of which one process has half and one container three \
             quarters; give the machine more memory, or its owner a higher limit of open files"
        );
        Outcome::Answered(request.answer(Err(libc::ENFILE)))
    }

    /// Answers the agent's question if it is time, and tries what was held back.
    fn settle(&mut self, rings: &[Ring]) {
        if self.question.is_some() && self.reply.is_none() {
            let (used, limit) = (self.names.used(), self.names.limit());
            self.reply = self.forgetting.due(used, limit);
        }
        if let Some((question, level)) = self
            .question
            .take_if(|_| self.reply.is_some())
            .zip(self.reply.take())
        {
            self.answer_question(question, level, rings);
        }
        let wait = match std::mem::replace(&mut self.retry, Retry::No) {
            Retry::No => return,
            Retry::Soon => Wait::First,
            Retry::Finally => Wait::Again,
        };
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else {
                return;
            };
            let mut ring = match rings.get(held.ring) {
                Some(ring) => ring.get_mut(),
                None => continue,
            };
            if is_running(&ring) {
                self.serve(held, wait, &mut ring);
            } else {
                // The machine is paused. A driver that begins anew has all dropped.
                self.held.push_back(held);
                self.retry = Retry::Soon;
            }
        }
    }

    fn answer_question(&mut self, question: Held, level: Level, rings: &[Ring]) {
        let Some(ring) = rings.get(question.ring) else {
            return;
        };
        let mut ring = ring.get_mut();
        if !is_running(&ring) {
            // The machine is paused. A driver that begins anew has it dropped.
            (self.question, self.reply) = (Some(question), Some(level));
            return;
        }
        let head = question.chain.head_index();
        let taken = self
            .reader
            .as_mut()
            .map(|reader| reader.take(question.chain));
        if let Some(Ok(mut request)) = taken {
            let len = request.answer(Ok(level));
            give_back(&mut ring, head, len);
        }
    }

    fn drop_waiting(&mut self) {
        self.forgetting = Forgetting::default();
        self.question = None;
        self.reply = None;
        self.held.clear();
    }
}

/// The most that the answer may have, in bytes.
fn allowed_room(request: &Request<'_>) -> Result<usize, i32> {
    if !request.whole {
        return Err(libc::EINVAL);
    }
    check(&Question {
        opcode: request.header.opcode,
        body: request.body(),
        data_len: request.data_len(),
        room: request.room,
    })
}

/// A ring that makes no sense.
struct Broken;

/// The next chain of `ring`, if there is one.
fn next(ring: &mut Locked, guest: Arc<Memory>) -> Result<Option<Chain>, Broken> {
    let queue = ring.get_queue_mut();
    let available = queue.avail_idx(guest.as_ref(), Ordering::Acquire);
    if available.map_err(|_| Broken)?.0 == queue.next_avail() {
        return Ok(None);
    }
    let chain = queue.iter(guest).map_err(|_| Broken)?.next();
    chain.map(Some).ok_or(Broken)
}

fn is_running(ring: &Locked) -> bool {
    ring.is_enabled() && ring.get_queue().ready()
}

/// Puts a chain on the used ring. A ring that can't be written to, or a driver that
/// can't be notified, is the guest's own fault, and its loss.
fn give_back(ring: &mut Locked, head: u16, len: usize) {
    let len = u32::try_from(len).unwrap_or_default();
    if ring.add_used(head, len).is_ok() && ring.needs_notification().unwrap_or(true) {
        drop(ring.signal_used_queue());
    }
}

/// Requests that always need a descriptor for the guest. A lookup may find what the
/// guest has already.
const fn takes_descriptors(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Open
            | Opcode::Opendir
            | Opcode::Create
            | Opcode::Mkdir
            | Opcode::Mknod
            | Opcode::Symlink
    )
}

/// Whether the body of a GETXATTR is the question of the guest's agent.
fn asks_to_forget(body: &[u8]) -> bool {
    body.get(size_of::<GetxattrIn>()..) == Some(FORGET)
}

/// The errno for a request that the library didn't understand, or whose
/// answer had no room.
const fn errno_of(error: &Error) -> i32 {
    match error {
        Error::EncodeMessage(_) | Error::FlushMessage(_) => libc::EIO,
        _ => libc::EINVAL,
    }
}
