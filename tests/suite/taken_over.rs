//! Helpers that an attacker has taken over: a debugger makes the system calls of an
//! attacker in the real processes, behind their own filters and in their own jails.
//!
//! Owns the calls and what has to come of each. A call that a filter forbids ends its
//! process, so each call has a machine of its own.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use caisson_tests::leftovers::other_pids;
use caisson_tests::{Machine, Scene, stories};
use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

stories![
    a_helper_that_is_taken_over_can_do_nothing.limit(900),
    a_file_server_that_is_taken_over_sees_its_share_alone,
    a_vsock_device_that_is_taken_over_opens_nothing.only(Machine::Tcg),
    an_emulator_that_is_taken_over_reaches_nothing_of_the_host.only(Machine::Tcg),
];

/// `syscall` of x86-64.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Below what the stopped thread uses of its stack.
const BELOW_STACK: u64 = 2048;

/// One thread of a helper, held by the debugger.
struct TakenOver {
    thread: Pid,
    registers: user_regs_struct,
}

/// What comes of a call.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The filter has ended the process.
    Killed,
    /// The kernel has refused it.
    Refused(Errno),
    /// It has succeeded.
    Done(i64),
}

/// One argument.
enum Word<'a> {
    Number(u64),
    /// Its address, with a zero behind it.
    Text(&'a [u8]),
}

use Word::{Number, Text};

fn number_of(value: i32) -> Word<'static> {
    Number(i64::from(value).cast_unsigned())
}

fn is_called(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// The threads of the only process of this name.
fn threads_of(name: &str) -> Vec<Pid> {
    let found: Vec<i32> = other_pids()
        .into_iter()
        .filter(|pid| is_called(*pid, name))
        .collect();
    assert_eq!(found.len(), 1, "processes called {name}: {found:?}");
    let entries = fs::read_dir(format!("/proc/{}/task", found[0])).unwrap();
    let mut threads: Vec<i32> = entries
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        // Work of the kernel's, in a thread that never leaves it.
        .filter(|thread| !is_called(*thread, "kvm-nx-lpage-re"))
        .collect();
    threads.sort_unstable();
    threads.into_iter().map(Pid::from_raw).collect()
}

fn wait(thread: Pid) -> WaitStatus {
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap()
}

impl TakenOver {
    /// Stops a thread that waits in the kernel.
    fn attach(thread: Pid) -> Self {
        ptrace::attach(thread).unwrap();
        let stopped = wait(thread);
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let registers = ptrace::getregs(thread).unwrap();
        let taken_over = Self { thread, registers };
        let before = registers.rip - 2;
        let word = taken_over.read(before).to_le_bytes();
        assert_eq!(word[..2], SYSCALL, "{thread} does not wait in the kernel");
        taken_over
    }

    fn read(&self, address: u64) -> c_long {
        ptrace::read(self.thread, address as ptrace::AddressType).unwrap()
    }

    fn write(&self, address: u64, text: &[u8]) {
        let mut bytes = text.to_vec();
        bytes.resize(text.len() / 8 * 8 + 8, 0);
        for (number, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let address = address + 8 * number as u64;
            let word = c_long::from_le_bytes(*word);
            ptrace::write(self.thread, address as ptrace::AddressType, word).unwrap();
        }
    }

    /// Makes one call.
    fn call(&self, number: c_long, words: &[Word<'_>]) -> Answer {
        let mut place = (self.registers.rsp - BELOW_STACK) & !0xf;
        let mut values = [0; 6];
        for (value, word) in values.iter_mut().zip(words) {
            *value = match word {
                Number(number) => *number,
                Text(text) => {
                    place -= 256;
                    self.write(place, text);
                    place
                }
            };
        }
        let [rdi, rsi, rdx, r10, r8, r9] = values;
        let registers = user_regs_struct {
            rip: self.registers.rip - 2,
            rax: number.cast_unsigned(),
            // Not the call that the debugger has interrupted.
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        ptrace::setregs(self.thread, registers).unwrap();
        ptrace::step(self.thread, None).unwrap();
        match wait(self.thread) {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                let answer = ptrace::getregs(self.thread).unwrap().rax.cast_signed();
                match answer {
                    -4095..0 => Answer::Refused(Errno::from_raw(i32::try_from(-answer).unwrap())),
                    _ => Answer::Done(answer),
                }
            }
            WaitStatus::Signaled(_, Signal::SIGSYS, _) => Answer::Killed,
            other => panic!("call {number}: {other:?}"),
        }
    }
}

/// No helper of caisson's own may make these, whatever the arguments.
fn forbidden() -> Vec<(&'static str, c_long, Vec<Word<'static>>)> {
    vec![
        (
            "socket",
            libc::SYS_socket,
            vec![number_of(libc::AF_UNIX), number_of(libc::SOCK_STREAM)],
        ),
        (
            "execve",
            libc::SYS_execve,
            vec![Text(b"/bin/sh"), Number(0), Number(0)],
        ),
        ("fork", libc::SYS_fork, vec![]),
        (
            "ptrace",
            libc::SYS_ptrace,
            vec![number_of(libc::PTRACE_ATTACH.cast_signed()), Number(1)],
        ),
        (
            "kill",
            libc::SYS_kill,
            vec![number_of(-1), number_of(libc::SIGKILL)],
        ),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            vec![Number(1)],
        ),
        (
            "mount",
            libc::SYS_mount,
            vec![Text(b"none"), Text(b"/"), Text(b"tmpfs")],
        ),
        (
            "unshare",
            libc::SYS_unshare,
            vec![number_of(libc::CLONE_NEWUSER)],
        ),
        ("setns", libc::SYS_setns, vec![Number(0), Number(0)]),
        ("keyctl", libc::SYS_keyctl, vec![Number(0), number_of(-3)]),
        ("io_uring_setup", libc::SYS_io_uring_setup, vec![Number(8)]),
        ("bpf", libc::SYS_bpf, vec![Number(0)]),
        ("userfaultfd", libc::SYS_userfaultfd, vec![Number(0)]),
        ("memfd_create", libc::SYS_memfd_create, vec![Text(b"x")]),
        (
            "perf_event_open",
            libc::SYS_perf_event_open,
            vec![Number(0)],
        ),
        (
            "open_by_handle_at",
            libc::SYS_open_by_handle_at,
            vec![Number(0)],
        ),
        ("init_module", libc::SYS_init_module, vec![Number(0)]),
        (
            "mprotect",
            libc::SYS_mprotect,
            vec![Number(0), Number(4096), number_of(libc::PROT_EXEC)],
        ),
    ]
}

/// The helpers that run caisson's own code, with every thread's filter.
const fn helpers(machine: Machine) -> &'static [&'static str] {
    match machine {
        Machine::Kvm => &["caisson-vmm", "caisson-fs"],
        Machine::Tcg => &["caisson-vsock", "caisson-fs"],
    }
}

/// The first thread of a process, or the last: a vCPU's, or a worker's.
fn one_of(threads: &[Pid], attempt: usize) -> Pid {
    if attempt.is_multiple_of(2) {
        threads[0]
    } else {
        threads[threads.len() - 1]
    }
}

fn a_helper_that_is_taken_over_can_do_nothing(scene: &Scene) {
    for (turn, helper) in helpers(scene.settings.machine).iter().enumerate() {
        for (attempt, (name, number, words)) in forbidden().iter().enumerate() {
            // Without a soak, each call is made in one of the helpers.
            if !scene.settings.soak && attempt % 2 != turn {
                continue;
            }
            let container = scene.create(&scene.bundle(&["true"]));
            let held = TakenOver::attach(one_of(&threads_of(helper), attempt / 2));
            let answer = held.call(*number, words);
            assert_eq!(answer, Answer::Killed, "{name} in {helper}");
            assert_eq!(container.wait(), 137);
            container.delete();
        }
    }
}

/// It may open files: those of the share.
fn a_file_server_that_is_taken_over_sees_its_share_alone(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["true"]));
    let held = TakenOver::attach(threads_of("caisson-fs")[0]);
    for path in [
        "/etc/passwd",
        "/proc/1/status",
        "/proc/self/mem",
        "/sys/kernel",
        "/dev/kvm",
        "../../../../../../etc/passwd",
        "/dev/null",
    ] {
        let words = [number_of(libc::AT_FDCWD), Text(path.as_bytes()), Number(0)];
        let answer = held.call(libc::SYS_openat, &words);
        assert_eq!(answer, Answer::Refused(Errno::ENOENT), "{path}");
    }
    // What is there is the share.
    let root = [
        number_of(libc::AT_FDCWD),
        Text(container.id.as_bytes()),
        Number(0),
    ];
    let answer = held.call(libc::SYS_openat, &root);
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    let words = [Number(0), number_of(libc::F_SETOWN), Number(1)];
    assert_eq!(held.call(libc::SYS_fcntl, &words), Answer::Killed);
    assert_eq!(container.wait(), 137);
    container.delete();
}

fn a_vsock_device_that_is_taken_over_opens_nothing(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["true"]));
    let held = TakenOver::attach(threads_of("caisson-vsock")[0]);
    let words = [number_of(libc::AT_FDCWD), Text(b"/"), Number(0)];
    let answer = held.call(libc::SYS_openat, &words);
    let is_refused = matches!(answer, Answer::Refused(_) | Answer::Killed);
    assert!(is_refused, "{answer:?}");
    if answer != Answer::Killed {
        let words = [Number(0), number_of(libc::SIGKILL)];
        assert_eq!(held.call(libc::SYS_kill, &words), Answer::Killed);
    }
    assert_eq!(container.wait(), 137);
    container.delete();
}

/// It is a program of others with a filter of its own, which forbids less; the rest is
/// the jail's.
fn an_emulator_that_is_taken_over_reaches_nothing_of_the_host(scene: &Scene) {
    let name = format!("{}-abstract", scene.tag());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let container = scene.create(&scene.bundle(&["true"]));
    let emulator = other_pids()
        .into_iter()
        .find(|pid| is_called(*pid, "qemu-system-x86"))
        .expect("the emulator");
    let held = TakenOver::attach(Pid::from_raw(emulator));
    let refused = |what: &str, answer: Answer| {
        let is_refused = matches!(answer, Answer::Refused(_));
        assert!(is_refused, "{what}: {answer:?}");
    };
    let here = libc::AT_FDCWD;
    for path in ["/etc/passwd", "/proc/1/mem", "/dev/kvm", "/root", "/run"] {
        let words = [number_of(here), Text(path.as_bytes()), Number(0)];
        refused(path, held.call(libc::SYS_openat, &words));
    }
    let create = [
        number_of(here),
        Text(b"/new"),
        number_of(libc::O_CREAT | libc::O_WRONLY),
        Number(0o600),
    ];
    refused("a new file", held.call(libc::SYS_openat, &create));
    // Every process but itself.
    refused(
        "kill",
        held.call(libc::SYS_kill, &[number_of(-1), Number(0)]),
    );
    let kinds = [number_of(libc::AF_UNIX), number_of(libc::SOCK_STREAM)];
    if let Answer::Done(socket) = held.call(libc::SYS_socket, &kinds) {
        let mut to = vec![1, 0, 0];
        to.extend(name.as_bytes());
        let length = Number(to.len() as u64);
        let words = [Number(socket.cast_unsigned()), Text(&to), length];
        refused("connect", held.call(libc::SYS_connect, &words));
    }
    let root = [Text(b"none"), Text(b"/"), Text(b"tmpfs")];
    let answer = held.call(libc::SYS_mount, &root);
    let is_over = matches!(answer, Answer::Killed | Answer::Refused(_));
    assert!(is_over, "mount: {answer:?}");
    if answer != Answer::Killed {
        let shell = [Text(b"/bin/sh"), Number(0), Number(0)];
        assert_eq!(held.call(libc::SYS_execve, &shell), Answer::Killed);
    }
    assert_eq!(container.wait(), 137);
    container.delete();
}
