//! `Pause` and `Resume` of a whole machine on the control socket of its monitor: the
//! guest stands still, and nothing that was on its way is lost.
//!
//! Plays below the command line: no verb pauses machines yet. A bare machine is asked by
//! its owner; for one with a container, the owner's end of the socket is duplicated.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use caisson_tests::{Container, Machine, Scene, stories, wait};
use caisson_vmm::control::{Exit, Report, Request};
use rustix::net::{SocketType, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use sha2::{Digest, Sha256};

use crate::hotplug::owner::{self, Wish};
use crate::hotplug::{initramfs, installed};
use crate::network::{pair, serve_in, until};
use crate::network_live::pid_of;

stories![
    a_paused_machine_stands_still_and_goes_on.only(Machine::Kvm),
    a_hundred_pauses_lose_no_byte.only(Machine::Kvm).limit(400),
    a_hundred_pauses_lose_no_byte_of_the_kernels_interfaces
        .only(Machine::Kvm)
        .limit(400),
];

/// Counts, until it is told to end by its owner.
const COUNTER: &str = r"#!/busybox sh
i=0
while :; do
	echo count $i
	i=$((i + 1))
done
";
/// Ample for what is still on its way after a pause.
const QUIET: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_secs(60);

fn a_paused_machine_stands_still_and_goes_on(scene: &Scene) {
    let machine = owner::start(&Wish {
        vmm: installed(scene, "libexec/caisson/caisson-vmm"),
        kernel: installed(scene, "share/caisson/vmlinux"),
        initramfs: initramfs(scene, COUNTER),
        mem_mib: 128,
        vcpus: 2,
        cmdline: "quiet console=hvc0 reboot=k,panic_warm panic=-1".to_owned(),
        fs: None,
        disk: None,
    });
    let mut machine = machine.unwrap();
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    let ask = |request| {
        owner::ask(&machine.control, &request, None).unwrap();
        machine.report().unwrap().unwrap()
    };
    let refused = ask(Request::Resume);
    assert!(matches!(refused, Report::Failed { .. }), "{refused:?}");

    let mut console = BufReader::new(machine.console.try_clone().unwrap());
    let mut line = String::new();
    while !line.starts_with("count ") {
        line.clear();
        assert!(console.read_line(&mut line).unwrap() > 0, "no counter");
    }
    let mut last = number_of(&line).unwrap();
    for _ in 0..10 {
        assert_eq!(ask(Request::Pause), Report::Done { slot: None });
        // What it wrote before.
        let pipe = machine.console.as_fd();
        let mut text = console.buffer().to_vec();
        console.consume(text.len());
        while wait::readable_within(pipe, Duration::ZERO) {
            let mut room = [0; 4096];
            let length = (&machine.console).read(&mut room).unwrap();
            text.extend_from_slice(&room[..length]);
        }
        assert!(!wait::readable_within(pipe, QUIET), "it counts on");
        assert_eq!(ask(Request::Resume), Report::Done { slot: None });
        assert!(wait::readable_within(pipe, FAR), "it does not count on");
        // Whole lines only. A pipe that is full makes the console lose some.
        let text = String::from_utf8_lossy(&text);
        let whole = text
            .split_once('\n')
            .and_then(|(_, rest)| rest.rsplit_once('\n'));
        for number in whole
            .map_or("", |(lines, _)| lines)
            .lines()
            .filter_map(number_of)
        {
            assert!(number > last, "{number} after {last}");
            last = number;
        }
    }
    let reason = Exit::Stopped;
    assert_eq!(ask(Request::Stop), Report::Exit { reason });
    assert!(machine.child.wait().unwrap().success());
}

fn number_of(line: &str) -> Option<u64> {
    line.trim_end().strip_prefix("count ")?.parse().ok()
}

fn a_hundred_pauses_lose_no_byte(scene: &Scene) {
    pause_under_load(scene);
}

fn a_hundred_pauses_lose_no_byte_of_the_kernels_interfaces(scene: &Scene) {
    scene.configure("vhost_net = true\n");
    pause_under_load(scene);
}

/// Files, streams and packets go back and forth while the machine is paused and resumed.
fn pause_under_load(scene: &Scene) {
    let (namespace, far) = pair();
    serve_in(&far);
    let pattern: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(scene.rootfs().join("pattern"), pattern).unwrap();
    let bundle = scene.shell(
        "n=0; until [ -e /stop ]; do
           cp /pattern /copy.$n && cmp /pattern /copy.$n && rm /copy.$n || exit 9
           n=$((n + 1)); probe talk 10.9.0.1:7000 300000 || exit 8
           touch /round.$n
         done; echo all is whole",
    );
    bundle.in_network(&namespace.path());
    let container = scene.started(&bundle);
    // All three kinds of traffic have begun.
    until(&container, "[ -e /round.1 ]");
    let (pauses, returned) = (scene.settings.count(100).max(20), AtomicU64::new(0));
    let ended = AtomicBool::new(false);
    let vmm = MonitorOfMachines::of(&container);
    let mut command = scene.command(["exec", &container.id, "cat"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let exec = command.spawn().unwrap();
    thread::scope(|scope| {
        let stream = scope.spawn(|| stream(exec, &ended, &returned));
        for _ in 0..pauses {
            let before = returned.load(Ordering::SeqCst);
            while returned.load(Ordering::SeqCst) < before + 100_000 {
                assert!(!stream.is_finished(), "the stream has ended");
                a_moment();
            }
            vmm.pause();
            vmm.ask(&Request::Resume);
        }
        ended.store(true, Ordering::SeqCst);
        stream.join().unwrap();
    });
    fs::write(scene.rootfs().join("stop"), "").unwrap();
    assert_eq!(container.wait(), 0, "{}", container.stdout());
    assert!(container.stdout().ends_with("all is whole\n"));
    container.delete();
    namespace.assert_restored();
}

/// Leaves the host's one processor to others.
fn a_moment() {
    let (never, _writer) = std::io::pipe().unwrap();
    let readable = wait::readable_within(never.as_fd(), Duration::from_millis(5));
    assert!(!readable);
}

/// Sends through `exec`, a `cat` in the container, until that has `ended`, and compares
/// what comes back, which is counted in `returned`.
fn stream(mut exec: Child, ended: &AtomicBool, returned: &AtomicU64) {
    let (mut sink, mut source) = (exec.stdin.take().unwrap(), exec.stdout.take().unwrap());
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut hash = Sha256::new();
            let mut block = vec![0; 1 << 15];
            for number in (0_u64..).take_while(|_| !ended.load(Ordering::SeqCst)) {
                block[..8].copy_from_slice(&number.to_le_bytes());
                hash.update(&block);
                sink.write_all(&block).unwrap();
            }
            hash.finalize()
        });
        let mut hash = Sha256::new();
        let mut room = vec![0; 1 << 16];
        loop {
            let length = source.read(&mut room).unwrap();
            if length == 0 {
                break;
            }
            hash.update(&room[..length]);
            returned.fetch_add(length as u64, Ordering::SeqCst);
        }
        (sender.join().unwrap(), hash.finalize())
    });
    assert!(exec.wait().unwrap().success());
    assert_eq!(sent.0, sent.1, "what came back is not what was sent");
}

/// The process `caisson-vmm`, and the control socket of its owner.
struct MonitorOfMachines {
    pid: i32,
    control: OwnedFd,
}

impl MonitorOfMachines {
    fn of(container: &Container<'_>) -> Self {
        let pidfd = wait::pidfd(container.pid).unwrap();
        let mut sockets: Vec<(PathBuf, OwnedFd)> = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", container.pid)).unwrap() {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let flags = PidfdGetfdFlags::empty();
            let Ok(descriptor) = pidfd_getfd(&pidfd, number, flags) else {
                continue;
            };
            if sockopt::socket_type(&descriptor) == Ok(SocketType::SEQPACKET) {
                sockets.push((target, descriptor));
            }
        }
        // One thread of the owner reads it, another sends: it is there twice.
        let is_twice = |target: &PathBuf| sockets.iter().filter(|(of, _)| of == target).count() > 1;
        let control = sockets.iter().position(|(target, _)| is_twice(target));
        Self {
            pid: pid_of("caisson-vmm"),
            control: sockets.swap_remove(control.expect("a control socket")).1,
        }
    }

    /// The owner reads the answer, and drops it as of nobody that waits.
    fn ask(&self, request: &Request) {
        owner::ask(&self.control, request, None).unwrap();
    }

    /// Asks for a pause, and waits until the guest stands still: its vCPUs wait at a lock.
    fn pause(&self) {
        self.ask(&Request::Pause);
        while !self.is_parked() {
            a_moment();
        }
    }

    fn is_parked(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let mut vcpus = tasks.flatten().map(|task| task.path()).filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("vcpu"))
        });
        const FUTEX: &str = "202 ";
        vcpus.all(|vcpu| {
            fs::read_to_string(vcpu.join("syscall")).is_ok_and(|call| call.starts_with(FUTEX))
        })
    }
}
