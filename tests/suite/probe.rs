//! What runs in a container where a shell is not enough: exact system calls,
//! measured work, many files.
//!
//! Speaks on standard output in one line and by its exit code; a panic is a
//! failure of the container's program.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::time::{ClockId, clock_gettime};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use crate::{traffic, vsock};

/// Does what `arguments` name.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match words[..] {
        ["memory", mib] => memory(mib.parse().unwrap()),
        ["burn", ms] => burn(Duration::from_millis(ms.parse().unwrap())),
        ["processes", wanted] => processes(wanted.parse().unwrap()),
        ["xattrs", path] => xattrs(Path::new(path)),
        ["mapping", path, text] => mapping(Path::new(path), text),
        ["hold-locks", path, sign] => hold_locks(Path::new(path), Path::new(sign)),
        ["try-locks", path] => try_locks(Path::new(path)),
        ["small-files", folder, count] => small_files(Path::new(folder), count.parse().unwrap()),
        ["serve-echo", address] => traffic::serve(&TcpListener::bind(address).unwrap()),
        ["notify", message] => notify(message),
        ["vsock"] => vsock::make_socket(),
        ["take-streams", count, taken] => vsock::take_streams(count.parse().unwrap(), taken),
        ["serve-datagrams", address] => traffic::serve_datagrams(address),
        ["serve-load", address] => traffic::serve_load(&TcpListener::bind(address).unwrap()),
        ["load", address, kind, count, connections] => {
            let kind = match kind {
                "send" => traffic::Load::Send,
                "receive" => traffic::Load::Receive,
                _ => traffic::Load::Turns,
            };
            traffic::load(
                address,
                kind,
                count.parse().unwrap(),
                connections.parse().unwrap(),
            )
        }
        ["talk", address, bytes] => traffic::talk(address, bytes.parse().unwrap()),
        _ => panic!("probe: unknown order {words:?}"),
    };
    std::io::stdout()
        .write_all(format!("{answer}\n").as_bytes())
        .unwrap();
    ExitCode::SUCCESS
}

/// Says something to the service manager (sd_notify(3)).
fn notify(message: &str) -> String {
    let path = std::env::var("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(message.as_bytes(), &path).unwrap();
    path
}

/// Touches so much memory, page by page.
fn memory(mib: usize) -> String {
    let mut held = Vec::new();
    for _ in 0..mib {
        held.push(vec![1_u8; 1 << 20]);
    }
    let sum: usize = held
        .iter()
        .map(|part| part.iter().map(|byte| usize::from(*byte)).sum::<usize>())
        .sum();
    format!("held {} MiB", sum >> 20)
}

/// Computes for so long, and tells the CPU time it got in ms.
fn burn(span: Duration) -> String {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap();
    let (start, cpu_start) = (Instant::now(), cpu());
    let mut work = 1_u64;
    while start.elapsed() < span {
        for _ in 0..10_000 {
            work = std::hint::black_box(work.wrapping_mul(3));
        }
    }
    format!(
        "{} {}",
        (cpu() - cpu_start).as_millis(),
        start.elapsed().as_millis()
    )
}

/// Starts children until it may not, and tells how many there were.
fn processes(wanted: usize) -> String {
    let mut children = Vec::new();
    while children.len() < wanted {
        match Command::new("/bin/sleep").arg("1000").spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    let count = children.len();
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    format!("{count}")
}

fn xattrs(path: &Path) -> String {
    let mut value = [0; 64];
    setxattr(path, "user.colour", b"red", XattrFlags::CREATE).unwrap();
    let again = setxattr(path, "user.colour", b"red", XattrFlags::CREATE);
    assert_eq!(again, Err(rustix::io::Errno::EXIST));
    setxattr(path, "user.colour", b"blue", XattrFlags::REPLACE).unwrap();
    setxattr(path, "user.shape", b"round", XattrFlags::empty()).unwrap();
    let length = getxattr(path, "user.colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"blue");
    removexattr(path, "user.shape").unwrap();
    let missing = getxattr(path, "user.shape", &mut value);
    assert_eq!(missing, Err(rustix::io::Errno::NODATA));
    let mut names = [0; 256];
    let length = listxattr(path, &mut names).unwrap();
    String::from_utf8_lossy(&names[..length])
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// Writes through a shared mapping, and reads by read(2) what was mapped.
fn mapping(path: &Path, text: &str) -> String {
    let open = || File::options().read(true).write(true).open(path).unwrap();
    let length = usize::try_from(open().metadata().unwrap().len()).unwrap();
    let region = MmapRegion::<()>::from_file(FileOffset::new(open(), 0), length).unwrap();
    let slice = region.as_volatile_slice();
    slice.write_slice(text.as_bytes(), 0).unwrap();
    slice
        .write_slice(text.as_bytes(), length - text.len())
        .unwrap();
    drop(region);
    open().sync_all().unwrap();
    let mut content = Vec::new();
    open().read_to_end(&mut content).unwrap();
    let ends = content.starts_with(text.as_bytes()) && content.ends_with(text.as_bytes());
    assert!(ends, "read(2) does not see what was mapped");
    format!("mapped {length}")
}

fn open_to_lock(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

/// The whole file, for one process.
fn exclusive() -> nix::libc::flock {
    let [kind, whence] =
        [nix::libc::F_WRLCK, nix::libc::SEEK_SET].map(|word| word.try_into().unwrap());
    nix::libc::flock {
        l_type: kind,
        l_whence: whence,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes both kinds of lock, shows by the file `sign` that it has them, and
/// keeps them until it is killed.
fn hold_locks(path: &Path, sign: &Path) -> String {
    let record = open_to_lock(path);
    fcntl(&record, FcntlArg::F_SETLK(&exclusive())).unwrap();
    let _whole = Flock::lock(open_to_lock(path), FlockArg::LockExclusive).unwrap();
    fs::write(sign, "").unwrap();
    loop {
        std::thread::park();
    }
}

/// Tries to take what `hold_locks` holds.
fn try_locks(path: &Path) -> String {
    let record = fcntl(open_to_lock(path), FcntlArg::F_SETLK(&exclusive())).is_ok();
    let whole = Flock::lock(open_to_lock(path), FlockArg::LockExclusiveNonblock).is_ok();
    format!("record {record}, whole {whole}")
}

/// Makes so many files in directories of a hundred, reads each, removes a half.
fn small_files(folder: &Path, count: usize) -> String {
    let path = |number: usize| {
        folder
            .join((number / 100).to_string())
            .join(number.to_string())
    };
    for number in 0..count {
        if number.is_multiple_of(100) {
            fs::create_dir(path(number).parent().unwrap()).unwrap();
        }
        fs::write(path(number), format!("file {number}")).unwrap();
    }
    for number in 0..count {
        assert_eq!(
            fs::read_to_string(path(number)).unwrap(),
            format!("file {number}")
        );
    }
    for number in (0..count).step_by(2) {
        fs::remove_file(path(number)).unwrap();
    }
    format!("made {count}")
}
