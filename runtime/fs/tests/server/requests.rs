//! Requests that are wrong, one by one: each gets an error, or comes back empty, and
//! the server goes on.

use std::os::unix::fs::FileExt;

use caisson_jail::detached::Access;

use super::guest::{
    Descriptor, Guest, INDIRECT, MEMORY, NEXT, REQUESTS, RING, ROOT, WRITABLE, bytes_of,
    name_bytes, op, transfer,
};
use super::harness::{Export, Server, host_directory};

/// A guest that has said INIT and has opened a file of 8 KiB and its directory.
pub(crate) struct Scene {
    pub(crate) guest: Guest,
    pub(crate) directory: u64,
    pub(crate) node: u64,
    pub(crate) file: u64,
    pub(crate) listing: u64,
    /// Lives as long as the scene.
    _server: Server,
    pub(crate) host: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let host = host_directory();
        std::fs::write(host.path().join("rootfs/file"), vec![b'x'; 8192]).unwrap();
        let rootfs = Export::directory(
            &host.path().join("rootfs"),
            "web1/rootfs",
            Access::AsMounted,
        );
        let mut server = Server::start(vec![rootfs]);
        let mut guest = Guest::attach(server.machine.take().unwrap());
        assert_eq!(guest.init().error, 0);
        let container = guest.lookup(ROOT, "web1").unwrap();
        let directory = guest.lookup(container, "rootfs").unwrap();
        let node = guest.lookup(directory, "file").unwrap();
        let file = guest.open(op::OPEN, node);
        let listing = guest.open(op::OPENDIR, directory);
        Self {
            guest,
            directory,
            node,
            file,
            listing,
            _server: server,
            host,
        }
    }

    /// Whether a good request gets a good answer.
    pub(crate) fn assert_alive(&mut self, after: &str) {
        let body = transfer(self.file, 0, 16);
        let bytes = self.guest.request(op::READ, self.node, &body);
        let answer = self.guest.ask_bytes(&bytes, 32);
        assert_eq!(
            (answer.error, answer.data.as_slice()),
            (0, [b'x'; 16].as_slice()),
            "{after}"
        );
    }
}

const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const EPROTO: i32 = 71;

/// A request by its parts, and what comes of it: EINVAL, unless said otherwise.
struct Case {
    what: &'static str,
    opcode: u32,
    node: u64,
    body: Vec<u8>,
    room: u32,
    /// The errno of its answer; none: it comes back empty.
    error: Option<i32>,
}

impl Case {
    fn new(what: &'static str, opcode: u32, node: u64, body: impl Into<Vec<u8>>) -> Self {
        Self {
            what,
            opcode,
            node,
            body: body.into(),
            room: 4096,
            error: Some(EINVAL),
        }
    }

    /// So little room that no answer is possible.
    fn comes_back_empty(self, room: u32) -> Self {
        let error = None;
        Self {
            room,
            error,
            ..self
        }
    }

    fn error(self, errno: i32) -> Self {
        let error = Some(errno);
        Self { error, ..self }
    }
}

fn transfers(scene: &Scene) -> Vec<Case> {
    let read = |what, offset, size| {
        let body = transfer(scene.file, offset, size);
        Case::new(what, op::READ, scene.node, body)
    };
    let write = |what, offset, size| {
        let body = [&transfer(scene.file, offset, size), &b"abc"[..]].concat();
        Case::new(what, op::WRITE, scene.node, body)
    };
    let list = |what, opcode, size| {
        let body = transfer(scene.listing, 0, size);
        Case::new(what, opcode, scene.directory, body)
    };
    let half = 1_u64 << 63;
    let little = Case {
        room: 20,
        ..write("WRITE whose answer has no room", 0, 3)
    };
    vec![
        read("READ beyond all files", half, 16),
        read("READ up to the end of all files", half - 8, 16),
        read("READ at the last offset", u64::MAX, 16),
        read("READ with half a header of room", 0, 16).comes_back_empty(8),
        read("READ without room", 0, 16).comes_back_empty(0),
        read("READ of more than there is room for", 0, 8192),
        read("READ of 4 GiB", 0, u32::MAX),
        Case::new("READ without a body", op::READ, scene.node, []),
        write("WRITE beyond all files", half, 3),
        write("WRITE of more than it has", 0, 4),
        write("WRITE of less than it has", 0, 2),
        little,
        list("READDIR of nothing without room", op::READDIR, 0).comes_back_empty(8),
        list("READDIR of more than there is room for", op::READDIR, 8192),
        list("READDIRPLUS without room", op::READDIRPLUS, 0).comes_back_empty(15),
        Case::new(
            "half a COPY_FILE_RANGE",
            op::COPY_FILE_RANGE,
            scene.node,
            [0; 20],
        ),
    ]
}

fn names(scene: &Scene) -> Vec<Case> {
    let directory = scene.directory;
    let lookup = |what, name: &[u8]| Case::new(what, op::LOOKUP, directory, name);
    let path = [bytes_of(&[0o755, 0]), name_bytes("/x")].concat();
    let one = [&directory.to_le_bytes()[..], b"file\0"].concat();
    let little = Case {
        room: 100,
        ..lookup("LOOKUP whose answer has no room", b"file\0")
    };
    vec![
        lookup("LOOKUP without the zero", b"file"),
        lookup("LOOKUP with a zero inside", b"fi\0le\0"),
        lookup("LOOKUP of nothing", b""),
        lookup("LOOKUP of a path", b"a/b\0"),
        lookup("LOOKUP of the parent", b"..\0"),
        little,
        Case::new("MKDIR at an absolute path", op::MKDIR, directory, path),
        Case::new("UNLINK of a path", op::UNLINK, directory, *b"../file\0"),
        Case::new(
            "SYMLINK without a target",
            op::SYMLINK,
            directory,
            *b"link\0",
        ),
        Case::new("RENAME with one name", op::RENAME, directory, one),
        Case::new("half a LINK", op::LINK, directory, [0; 4]),
        Case::new("CREATE without a name", op::CREATE, directory, [0; 16]),
    ]
}

fn others(scene: &Scene) -> Vec<Case> {
    let node = scene.node;
    let set = |what, size: u32, rest: &[u8]| {
        let body = [&bytes_of(&[size, 0]), rest].concat();
        Case::new(what, op::SETXATTR, node, body)
    };
    let get = |what, size: u32| {
        let body = [&bytes_of(&[size, 0])[..], b"user.a\0"].concat();
        Case::new(what, op::GETXATTR, node, body)
    };
    let forget = bytes_of(&[u32::MAX, 0]);
    let list = bytes_of(&[u32::MAX, 0]);
    let init = bytes_of(&[7, 38, 0, 0]);
    vec![
        set("SETXATTR of another size", 100, b"user.a\0b"),
        set("SETXATTR without the zero", 1, b"user.a"),
        get("GETXATTR of 4 GiB", u32::MAX),
        get("GETXATTR of more than there is room for", 8192),
        Case::new("LISTXATTR of 4 GiB", op::LISTXATTR, node, list),
        Case::new("BATCH_FORGET of too many", op::BATCH_FORGET, 0, forget).comes_back_empty(4096),
        Case::new("INIT without submounts", op::INIT, 0, init).error(EPROTO),
        Case::new("a request that doesn't exist", 4711, node, []).error(ENOSYS),
    ]
}

#[test]
fn wrong_requests_get_an_error() {
    let mut scene = Scene::new();
    let cases = [transfers(&scene), names(&scene), others(&scene)];
    for case in cases.into_iter().flatten() {
        let what = case.what;
        let bytes = scene.guest.request(case.opcode, case.node, &case.body);
        let answer = scene.guest.ask_bytes(&bytes, case.room);
        let expected = match case.error {
            Some(error) => (16, error),
            None => (0, 0),
        };
        assert_eq!((answer.len, answer.error), expected, "{what}");
        scene.assert_alive(what);
    }
}

#[test]
fn headers_that_lie_get_an_error_or_nothing() {
    let mut scene = Scene::new();
    let whole = scene.guest.request(op::GETATTR, ROOT, &[0; 16]);
    for len in [1, 39] {
        assert_eq!(
            scene.guest.ask_bytes(&whole[..len], 4096).len,
            0,
            "{len} bytes"
        );
        scene.assert_alive("part of a header");
    }
    for len in [0_u32, 39, 57, 1 << 20, u32::MAX] {
        let bytes = [&len.to_le_bytes(), &whole[4..]].concat();
        assert_eq!(
            scene.guest.ask_bytes(&bytes, 4096).error,
            EINVAL,
            "len {len}"
        );
        scene.assert_alive("len");
    }
}

/// A request and room for its answer, as two descriptors.
fn good_chain(guest: &mut Guest) -> [Descriptor; 2] {
    let (address, room) = (0x8_0000, 0x9_0000);
    let bytes = guest.request(op::GETATTR, ROOT, &[0; 16]);
    guest.write(address, &bytes);
    let request = Descriptor {
        address,
        len: 56,
        flags: NEXT,
        next: HEAD + 1,
    };
    let answer = Descriptor {
        address: room,
        len: 4096,
        flags: WRITABLE,
        next: 0,
    };
    [request, answer]
}

/// A chain's first descriptor, beyond those of [`Guest::ask`].
const HEAD: u16 = 100;

/// Changes one descriptor of a good chain.
type Change = fn(&mut [Descriptor; 2]);

#[test]
fn chains_that_make_no_sense_come_back_empty() {
    let changes: [(&str, Change); 11] = [
        ("a request outside of memory", |c| c[0].address = MEMORY),
        ("a request that leaves it", |c| c[0].address = MEMORY - 8),
        ("a request at the last address", |c| {
            c[0].address = u64::MAX - 8
        }),
        ("a request in the server's copies", |c| {
            c[0].address = 1 << 52
        }),
        ("room outside of memory", |c| c[1].address = 1 << 40),
        ("room in the server's copies", |c| c[1].address = 1 << 52),
        ("room that leaves memory", |c| c[1].len = u32::MAX),
        ("room before the request", |c| {
            c[0].flags |= WRITABLE;
            c[1].flags = 0;
        }),
        ("a loop", |c| {
            c[1].flags = NEXT;
            c[1].next = HEAD;
        }),
        ("an odd indirect table", |c| {
            c[0].flags = INDIRECT;
            c[0].len = 17;
        }),
        ("a huge indirect table", |c| {
            c[0].flags = INDIRECT;
            c[0].len = 16 << 17;
        }),
    ];
    let mut scene = Scene::new();
    for (what, change) in changes {
        let mut chain = good_chain(&mut scene.guest);
        change(&mut chain);
        scene.guest.describe(REQUESTS, HEAD, &chain);
        scene.guest.offer(REQUESTS, HEAD);
        assert_eq!(scene.guest.take_used(REQUESTS), (HEAD, 0), "{what}");
        scene.assert_alive(what);
    }
}

#[test]
fn a_chain_of_two_thousand_pieces_comes_back_empty() {
    let mut scene = Scene::new();
    let (table, pieces) = (0x20_0000_u64, 2048_u16);
    for number in 0..pieces {
        let flags = if number + 1 < pieces { NEXT } else { 0 };
        let rest = (1_u64 << 20) | (u64::from(flags) << 32) | (u64::from(number + 1) << 48);
        let entry = [0_u64.to_le_bytes(), rest.to_le_bytes()].concat();
        scene.guest.write(table + u64::from(number) * 16, &entry);
    }
    let indirect = Descriptor {
        address: table,
        len: u32::from(pieces) * 16,
        flags: INDIRECT,
        next: 0,
    };
    scene.guest.describe(REQUESTS, HEAD, &[indirect]);
    scene.guest.offer(REQUESTS, HEAD);
    assert_eq!(scene.guest.take_used(REQUESTS), (HEAD, 0));
    scene.assert_alive("a long chain");
}

#[test]
fn a_ring_whose_index_makes_no_sense_can_be_set_up_again() {
    let mut scene = Scene::new();
    scene.guest.set_available(REQUESTS, 0x8000);
    scene.guest.restart(REQUESTS);
    scene.assert_alive("a new ring");
}

#[test]
fn a_head_outside_of_the_ring_is_passed_over() {
    let mut scene = Scene::new();
    scene.guest.offer(REQUESTS, RING + 7);
    scene.assert_alive("a head outside");
}

#[test]
fn a_second_init_and_a_destroy_are_survived() {
    let mut scene = Scene::new();
    assert_eq!(scene.guest.init().error, 0);
    assert_eq!(
        scene
            .guest
            .ask(op::READ, scene.node, &transfer(scene.file, 0, 16))
            .error,
        9
    );
    assert_eq!(scene.guest.ask(op::DESTROY, 0, &[]).len, 0);
    assert_eq!(scene.guest.init().error, 0);
    scene.guest.lookup(ROOT, "web1").unwrap();
}

#[test]
fn a_ring_that_is_never_empty_can_be_stopped() {
    let mut scene = Scene::new();
    // Requests that take a while, so that the guest is always ahead.
    let size = 1_u32 << 20;
    let file = std::fs::File::create(scene.host.path().join("rootfs/large")).unwrap();
    file.set_len(size.into()).unwrap();
    let node = scene.guest.lookup(scene.directory, "large").unwrap();
    let large = scene.guest.open(op::OPEN, node);
    let body = transfer(large, 0, size);
    let bytes = scene.guest.request(op::READ, node, &body);
    let mut chain = good_chain(&mut scene.guest);
    scene.guest.write(chain[0].address, &bytes);
    chain[0].len = 80;
    chain[1].address = 0xa0_0000;
    chain[1].len = size + 16;
    scene.guest.describe(REQUESTS, HEAD, &chain);
    let flood = scene.guest.flood(REQUESTS, HEAD);
    flood.await_some();
    // Comes back while the guest goes on.
    scene.guest.restart(REQUESTS);
    flood.end();
    scene.guest.restart(REQUESTS);
    scene.assert_alive("a flood");
}

#[test]
fn what_is_written_is_what_was_sent() {
    let mut scene = Scene::new();
    let data = b"written through the ring".repeat(300);
    let len = u32::try_from(data.len()).unwrap();
    let body = [transfer(scene.file, 100, len), data.clone()].concat();
    let answer = scene.guest.ask(op::WRITE, scene.node, &body);
    assert_eq!(
        (answer.error, &answer.data[..4]),
        (0, &len.to_le_bytes()[..])
    );
    let mut seen = vec![0; data.len()];
    let file = std::fs::File::open(scene.host.path().join("rootfs/file")).unwrap();
    file.read_exact_at(&mut seen, 100).unwrap();
    assert_eq!(seen, data);
}
