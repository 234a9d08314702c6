//! Guests that hold too much: whoever does is refused, the others go on, and a guest
//! with an agent is asked to forget first.

use caisson_jail::detached::Access;

use super::guest::{Guest, REQUESTS, ROOT, name_bytes, op};
use super::harness::{Export, Server, host_directory};

const LIMIT: u64 = 256;
const ENFILE: i32 = 23;

/// A server whose guest may hold `LIMIT`, and containers with many files.
struct Scene {
    guest: Guest,
    /// The directories of two containers.
    directories: [u64; 2],
    server: Server,
    _host: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let host = host_directory();
        let mut exports = Vec::new();
        for (directory, path) in [("rootfs", "web1/rootfs"), ("other", "web2/rootfs")] {
            let directory = host.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            for number in 0..LIMIT {
                std::fs::write(directory.join(format!("f{number}")), "x").unwrap();
            }
            exports.push(Export::directory(&directory, path, Access::AsMounted));
        }
        let mut server = Server::with_names(exports, LIMIT);
        let mut guest = Guest::attach(server.machine.take().unwrap());
        guest.init();
        let directories = ["web1", "web2"].map(|container| {
            let container = guest.lookup(ROOT, container).unwrap();
            guest.lookup(container, "rootfs").unwrap()
        });
        Self {
            guest,
            directories,
            server,
            _host: host,
        }
    }

    fn lookup_request(&mut self, pid: u32, container: usize, number: u64) -> Vec<u8> {
        let name = name_bytes(&format!("f{number}"));
        let parent = self.directories[container];
        self.guest.request_of(pid, op::LOOKUP, (parent, &name))
    }

    /// Process `pid` looks a file up: its node, or an errno.
    fn lookup(&mut self, pid: u32, container: usize, number: u64) -> Result<u64, i32> {
        let request = self.lookup_request(pid, container, number);
        let answer = self.guest.ask_bytes(&request, 4096);
        match answer.error {
            0 => Ok(u64::from_le_bytes(answer.data[..8].try_into().unwrap())),
            error => Err(error),
        }
    }

    /// Looks files up from `first` on until one is refused.
    fn hold(&mut self, pid: u32, container: usize, first: u64) -> Vec<u64> {
        (first..LIMIT)
            .map_while(|number| self.lookup(pid, container, number).ok())
            .collect()
    }

    /// The agent asks what to forget; the answer comes later.
    fn ask_to_forget(&mut self) -> u16 {
        let body = [&8_u64.to_le_bytes()[..], b"user.caisson.forget\0"].concat();
        let request = self.guest.request(op::GETXATTR, ROOT, &body);
        self.guest.send(REQUESTS, &request, 64)
    }

    /// What comes back next: which request, and what it says.
    fn next_answer(&mut self) -> (u16, i32, Vec<u8>) {
        let (head, len) = self.guest.take_used(REQUESTS);
        let answer = self.guest.answer(head, len);
        (head, answer.error, answer.data)
    }
}

#[test]
fn one_process_is_refused_and_the_others_go_on() {
    let mut scene = Scene::new();
    let held = scene.hold(7, 0, 0);
    assert!(held.len() as u64 >= LIMIT / 2 - 8, "{}", held.len());
    assert_eq!(scene.lookup(7, 0, LIMIT - 1), Err(ENFILE));
    // What the guest has already costs nothing more.
    assert_eq!(scene.lookup(7, 0, 0), Ok(held[0]));
    scene.lookup(8, 0, LIMIT - 1).unwrap();
    scene.lookup(9, 1, 0).unwrap();
    for node in held {
        scene.guest.forget(node);
    }
    scene.lookup(7, 0, LIMIT - 1).unwrap();
    drop(scene.guest);
    let said = scene.server.diagnostics();
    assert!(
        said.contains("holds too many files and gets ENFILE"),
        "{said}"
    );
    assert!(said.lines().count() <= 8, "{said}");
}

#[test]
fn one_container_is_refused_and_the_others_go_on() {
    let mut scene = Scene::new();
    let mut first = 0;
    for pid in 10..20 {
        first += scene.hold(pid, 0, first).len() as u64;
    }
    assert!(first <= LIMIT / 4 * 3, "{first}");
    assert_eq!(scene.lookup(99, 0, LIMIT - 1), Err(ENFILE));
    for number in 0..20 {
        scene.lookup(100, 1, number).unwrap();
    }
}

#[test]
fn the_agent_is_asked_before_anybody_is_refused() {
    let mut scene = Scene::new();
    let mut question = scene.ask_to_forget();
    let mut held = Vec::new();
    let mut told = 0;
    for number in 0..LIMIT {
        let request = scene.lookup_request(7 + u32::from(number % 3 == 0), 0, number);
        let lookup = scene.guest.send(REQUESTS, &request, 4096);
        let mut waits = true;
        while waits || scene.guest.has_used(REQUESTS) {
            let (head, error, data) = scene.next_answer();
            assert_eq!(error, 0);
            if head == lookup {
                held.push(u64::from_le_bytes(data[..8].try_into().unwrap()));
                waits = false;
                continue;
            }
            assert_eq!((head, data.as_slice()), (question, b"2".as_slice()));
            // Half of what there may be, less the directories.
            assert!(held.len() as u64 >= LIMIT / 2 - 4, "{}", held.len());
            told += 1;
            for node in held.drain(..) {
                scene.guest.forget(node);
            }
            question = scene.ask_to_forget();
        }
    }
    assert!(told > 0);
}

#[test]
fn who_would_hold_too_much_waits_for_the_agent() {
    let mut scene = Scene::new();
    let question = scene.ask_to_forget();
    let held: Vec<u64> = (0..120)
        .map(|number| scene.lookup(7, 0, number).unwrap())
        .collect();
    let mut waiting = Vec::new();
    for number in 120..130 {
        let request = scene.lookup_request(7, 0, number);
        waiting.push(scene.guest.send(REQUESTS, &request, 4096));
    }
    let mut told = false;
    for node in held {
        while !told {
            let (head, error, data) = scene.next_answer();
            told = head == question;
            assert_eq!(error, 0);
            if told {
                assert_eq!(data, b"2");
            }
            waiting.retain(|lookup| *lookup != head);
        }
        scene.guest.forget(node);
    }
    assert!(!waiting.is_empty());
    while !waiting.is_empty() {
        let (head, error, _) = scene.next_answer();
        assert_eq!(error, 0);
        waiting.retain(|lookup| *lookup != head);
    }
}

#[test]
fn what_is_held_back_outlasts_a_pause() {
    let mut scene = Scene::new();
    let question = scene.ask_to_forget();
    let held: Vec<u64> = (0..120)
        .map(|number| scene.lookup(7, 0, number).unwrap())
        .collect();
    let mut waiting = Vec::new();
    for number in 120..130 {
        let request = scene.lookup_request(7, 0, number);
        waiting.push(scene.guest.send(REQUESTS, &request, 4096));
    }
    let mut told = false;
    while !told {
        let (head, _, _) = scene.next_answer();
        told = head == question;
        waiting.retain(|lookup| *lookup != head);
    }
    let next = scene.guest.pause_ring(REQUESTS);
    // The other ring goes on a little longer, and has what is held back tried again.
    for node in held {
        scene.guest.forget(node);
    }
    assert!(!scene.guest.has_used(REQUESTS), "a stopped ring is served");
    scene.guest.resume_ring(REQUESTS, next);
    assert!(!waiting.is_empty());
    while !waiting.is_empty() {
        let (head, error, _) = scene.next_answer();
        assert_eq!(error, 0);
        waiting.retain(|lookup| *lookup != head);
    }
}

#[test]
fn who_holds_what_can_not_be_forgotten_is_refused() {
    let mut scene = Scene::new();
    let question = scene.ask_to_forget();
    for number in 0..120 {
        scene.lookup(7, 0, number).unwrap();
    }
    let mut waiting = Vec::new();
    for number in 120..130 {
        let request = scene.lookup_request(7, 0, number);
        waiting.push(scene.guest.send(REQUESTS, &request, 4096));
    }
    let mut answers = Vec::new();
    while !answers.iter().any(|(head, _)| *head == question) {
        let (head, _, data) = scene.next_answer();
        answers.push((head, data));
    }
    assert_eq!(answers.last().unwrap().1, b"2");
    // Names alone didn't do, and then nothing will; what is on its way is waited for.
    for level in [b"0", b"3", b"0"] {
        let again = scene.ask_to_forget();
        let (head, _, data) = scene.next_answer();
        assert_eq!((head, data.as_slice()), (again, level.as_slice()));
    }
    scene.ask_to_forget();
    let refused = (0..waiting.len() - (answers.len() - 1)).map(|_| scene.next_answer().1);
    assert!(refused.into_iter().all(|error| error == ENFILE));
}
