//! Each test is a process of its own, PID 1 of its own pid, mount and network
//! namespace.
//!
//! Hence what it lists it has made, what it loses is its own to reap (as a
//! caller that is a subreaper sees it), and when it ends, or its time is over,
//! the kernel takes everything it started away. Mounts propagate inside as on
//! a host with systemd, and never outwards.

use std::fmt::Write;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Scene, Settings, Story, leftovers, wait};

/// A test that can't even end itself is ended after this.
const GRACE: Duration = Duration::from_secs(15);

/// Plays `story` in a process of its own, started as `command`.
///
/// # Errors
/// With all it printed.
pub fn play_apart(mut command: Command, limit: Duration) -> Result<(), String> {
    // A thread for it: the namespaces of later children are a thread's own.
    let apart = std::thread::spawn(move || {
        let (mut output, end) = std::io::pipe().unwrap();
        command.stdin(std::process::Stdio::null());
        command.stdout(end.try_clone().unwrap()).stderr(end);
        // Before the namespaces: a thread can't have another pid namespace than its process.
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            output.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        enter_namespaces();
        let mut child = command.spawn().unwrap();
        drop(command);
        let status = end_within(&mut child, limit + GRACE);
        (status, reader.join().unwrap())
    });
    let (status, text) = apart
        .join()
        .map_err(|_| "could not be started".to_owned())?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{text}{status}")),
        None => Err(format!(
            "{text}killed: it did not notice its own time limit"
        )),
    }
}

fn enter_namespaces() {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    unshare(flags).expect("tests of whole containers need root's rights");
    for propagation in [MsFlags::MS_SLAVE, MsFlags::MS_SHARED] {
        let flags = MsFlags::MS_REC | propagation;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
    }
}

fn end_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let pid = i32::try_from(child.id()).unwrap();
    let pidfd = wait::pidfd(pid).unwrap();
    let in_time = wait::readable_within(pidfd.as_fd(), limit);
    if !in_time {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    in_time.then_some(status)
}

/// Plays `story` in this process, PID 1 of the namespaces made for it.
pub fn play_here(story: &Story, settings: &Settings) {
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let over = watch_the_clock(story.limit_of(settings.soak));
    let scene = Scene::new(story.name(), settings.clone());
    (story.play)(&scene);
    scene.assert_nothing_is_left();
    drop(scene);
    drop(over);
}

/// Ends this process when its time is over, with all that might explain it.
#[expect(clippy::exit, reason = "other threads wait for what never comes")]
fn watch_the_clock(limit: Duration) -> Sender<()> {
    let (over, clock) = mpsc::channel();
    std::thread::spawn(move || {
        if clock.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let mut report = format!("time limit of {} s reached; processes:\n", limit.as_secs());
            for process in leftovers::processes() {
                writeln!(report, "  {process}").unwrap();
            }
            std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).ok();
            std::process::exit(1);
        }
    });
    over
}
