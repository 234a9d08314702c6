//! A guest that was taken over answers, tells and leaves out what it likes: its owner
//! stays small, what is killed ends, and others hear of it in few words.
//!
//! The guest is this program itself, in the place of the agent (`hostile_agent`).

use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use caisson_tests::{Container, Scene, stories, wait};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::json;

stories![
    answers_of_millions_cost_the_owner_little,
    the_longest_answers_are_shown,
    a_flood_of_kills_for_lack_of_memory_is_told_in_few_lines,
    events_that_are_none_end_the_container,
    events_of_unknown_fields_cost_the_owner_little,
    ends_of_a_member_take_one_thread,
    what_was_killed_ends_though_it_lives_on,
    what_was_killed_and_says_nothing_ends,
    a_guest_that_hangs_up_is_lost_at_once,
    a_guest_that_connects_again_goes_on,
    megabytes_of_command_lines_are_listed,
];

/// What an owner may have needed at most: 6 MiB of its own, the longest answer, what
/// becomes of it and its form for whoever asked, twice.
const MAX_OWNER_MIB: u64 = 32;
/// Threads of an owner without execs: two dozen, and one for each command.
const MAX_THREADS: usize = 40;
const MAX_DESCRIPTORS: usize = 80;
/// From SIGKILL to the end of owner and machine; 35 s, and what a busy host adds.
const END_LIMIT: Duration = Duration::from_secs(80);

/// An installation whose guest image has this program in the agent's place.
fn take_over(scene: &Scene) {
    let prefix = scene.path("prefix");
    let share = prefix.join("share/caisson");
    fs::create_dir_all(&share).unwrap();
    let dist = &scene.settings.dist;
    for name in ["bin", "libexec"] {
        std::os::unix::fs::symlink(dist.join(name), prefix.join(name)).unwrap();
    }
    for suffix in ["", "-stock"] {
        let image = dist.join(format!("share/caisson/initramfs{suffix}.cpio"));
        let kernel = format!("vmlinux{suffix}");
        if !image.exists() || !dist.join("share/caisson").join(&kernel).exists() {
            continue;
        }
        std::os::unix::fs::symlink(dist.join("share/caisson").join(&kernel), share.join(kernel))
            .unwrap();
        let mut all = fs::read(image).unwrap();
        // Of two files of one name the later one stays.
        all.extend(archive("init", &fs::read("/proc/self/exe").unwrap()));
        fs::write(share.join(format!("initramfs{suffix}.cpio")), all).unwrap();
    }
    scene.configure(&format!("prefix = \"{}\"\n", prefix.display()));
}

/// An archive in cpio's newc form with one program.
fn archive(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, contents) in [(name, contents), ("TRAILER!!!", &[][..])] {
        let fields = [
            1,
            0o100_755,
            0,
            0,
            1,
            0,
            contents.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        archive.extend(b"070701");
        archive.extend(
            fields
                .iter()
                .flat_map(|field| format!("{field:08x}").into_bytes()),
        );
        archive.extend(name.as_bytes());
        archive.push(0);
        pad(&mut archive);
        archive.extend(contents);
        pad(&mut archive);
    }
    archive
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn log_of(scene: &Scene) -> PathBuf {
    scene.path("owner.log")
}

/// A container that runs in a guest which does this to its owner.
#[track_caller]
fn attacked<'a>(scene: &'a Scene, attack: &str) -> Container<'a> {
    let container = created(scene, attack);
    container.start();
    container
}

#[track_caller]
fn created<'a>(scene: &'a Scene, attack: &str) -> Container<'a> {
    take_over(scene);
    let bundle = scene.bundle(&[attack]);
    let (log, pid_file) = (log_of(scene), bundle.path.join("pid"));
    let create = ["--log", log.to_str().unwrap(), "create", "--bundle"];
    let rest = [
        bundle.path.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ];
    scene.caisson([&create[..], &rest[..]].concat()).ok();
    let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    Container::known(scene, &bundle.id, pid)
}

fn logged(scene: &Scene) -> String {
    fs::read_to_string(log_of(scene)).unwrap_or_default()
}

/// Figures of the owner, which have to be within their bounds.
#[track_caller]
fn assert_small(scene: &Scene, container: &Container<'_>) {
    let process = PathBuf::from(format!("/proc/{}", container.pid));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak_kib: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    let threads = entries(&process.join("task"));
    let descriptors = entries(&process.join("fd"));
    let line = format!(
        "owner: peak {} MiB, {threads} threads, {descriptors} descriptors, log {} bytes",
        peak_kib >> 10,
        logged(scene).len()
    );
    scene.note(&line);
    assert!(peak_kib >> 10 <= MAX_OWNER_MIB, "{line}");
    assert!(threads <= MAX_THREADS, "{line}");
    assert!(descriptors <= MAX_DESCRIPTORS, "{line}");
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Kills it, and returns what its owner has logged.
#[track_caller]
fn assert_ends(scene: &Scene, container: &Container<'_>) -> String {
    container.verb("kill", &["KILL"]).ok();
    assert_has_ended(scene, container)
}

#[track_caller]
fn assert_has_ended(scene: &Scene, container: &Container<'_>) -> String {
    assert!(wait::ends_within(container.pid, END_LIMIT), "it lives on");
    assert_eq!(container.wait(), 137);
    container.assert_status("stopped");
    container.delete();
    scene.assert_nothing_is_left();
    logged(scene)
}

fn answers_of_millions_cost_the_owner_little(scene: &Scene) {
    let container = attacked(scene, "bombs");
    let text = "what the guest's agent has answered is refused: it is too long";
    let answers = [
        container.verb("ps", &[]),
        container.verb("events", &["--stats"]),
    ];
    assert_small(scene, &container);
    for answer in answers {
        answer.fails(1, text);
    }
    let several: Vec<_> = (0..4)
        .map(|_| {
            let mut ps = scene.command(["ps", &container.id]);
            ps.stdout(Stdio::null()).stderr(Stdio::null());
            ps.spawn().unwrap()
        })
        .collect();
    for mut ps in several {
        assert_eq!(ps.wait().unwrap().code(), Some(1));
    }
    assert_small(scene, &container);
    let _log = assert_ends(scene, &container);
}

fn the_longest_answers_are_shown(scene: &Scene) {
    let container = attacked(scene, "most");
    let table = container.verb("ps", &[]).ok();
    assert_eq!(table.lines().count(), 1 + 16 * 1024);
    assert!(table.contains(&"?".repeat(64)));
    assert_small(scene, &container);
    let _log = assert_ends(scene, &container);
    let wide = attacked_again(scene, "wide");
    let table = wide.verb("ps", &[]).ok();
    assert!(table.contains(&"?".repeat(4096)) && !table.contains(&"?".repeat(4097)));
    let _log = assert_ends(scene, &wide);
}

/// In an installation that was taken over before.
#[track_caller]
fn attacked_again<'a>(scene: &'a Scene, attack: &str) -> Container<'a> {
    let container = scene.create(&scene.bundle(&[attack]));
    container.start();
    container
}

fn a_flood_of_kills_for_lack_of_memory_is_told_in_few_lines(scene: &Scene) {
    let begun = Instant::now();
    let container = attacked(scene, "ooms");
    let mut events = scene
        .command(["events", "--interval", "1h", &container.id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let ooms = lines.map(Result::unwrap);
    let mut ooms = ooms.filter(|line| line.contains(r#""type":"oom""#));
    // It has had three seconds to tell as many as it can.
    assert_eq!(ooms.by_ref().take(3).count(), 3);
    assert_small(scene, &container);
    container.verb("kill", &["KILL"]).ok();
    let rest = ooms.count();
    events.wait().unwrap();
    let log = assert_has_ended(scene, &container);
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let told = log.matches("the container ran out of memory").count();
    assert!(
        (2..=seconds + 2).contains(&told),
        "{told} in {seconds} s: {log}"
    );
    assert!(log.contains("more times)"), "{log}");
    assert!(rest <= seconds, "{rest} more in {seconds} s");
}

fn events_that_are_none_end_the_container(scene: &Scene) {
    let container = created(scene, "long-events");
    let log = assert_has_ended(scene, &container);
    let text = "what the guest's agent has answered is refused: it is too long";
    assert!(log.contains(text), "{log}");
}

fn events_of_unknown_fields_cost_the_owner_little(scene: &Scene) {
    let container = attacked(scene, "unknown-events");
    // Each command is one more round for the guest.
    for _ in 0..20 {
        container.verb("ps", &[]).ok();
    }
    assert_small(scene, &container);
    let _log = assert_ends(scene, &container);
}

/// Asks the owner for one more container, as a process that stands for it does.
fn join(scene: &Scene, container: &Container<'_>, name: &str) -> UnixStream {
    let socket = scene.state_folder().join(&container.id).join("owner.sock");
    let owner = UnixStream::connect(socket).unwrap();
    // From now on the owner's alone.
    let listener = UnixListener::bind(scene.path(name)).unwrap();
    let member = json!({
        "id": name, "spec": {"process": {"args": ["none"]}}, "seccomp": null, "state": {},
        "submounts": [], "root_overlay_mib": null, "notifies": false,
    });
    let wish = json!({"join": {
        "container": member, "shares": [], "terminal": "none", "stdin": false,
    }});
    let wish = wish.to_string();
    let length = u32::try_from(wish.len()).unwrap().to_le_bytes();
    let rights = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let head = [IoSlice::new(&length)];
    sendmsg::<()>(owner.as_raw_fd(), &head, &rights, MsgFlags::empty(), None).unwrap();
    (&owner).write_all(wish.as_bytes()).unwrap();
    owner
}

fn ends_of_a_member_take_one_thread(scene: &Scene) {
    let container = attacked(scene, "ends");
    let owner = join(scene, &container, "member");
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", container.pid)).unwrap();
        let names = tasks.flatten().filter_map(|task| {
            // One that has just ended has no name.
            fs::read_to_string(task.path().join("comm")).ok()
        });
        names.filter(|name| name.trim() == "member end").count()
    };
    // Each command is one more round for the guest, and many more events.
    for _ in 0..20 {
        container.verb("ps", &[]).ok();
        assert!(threads() <= 1);
    }
    assert_eq!(threads(), 1);
    assert_small(scene, &container);
    drop(owner);
    let _log = assert_ends(scene, &container);
}

fn what_was_killed_ends_though_it_lives_on(scene: &Scene) {
    let container = attacked(scene, "undead");
    let _log = assert_ends(scene, &container);
}

fn what_was_killed_and_says_nothing_ends(scene: &Scene) {
    let container = attacked(scene, "deaf");
    let log = assert_ends(scene, &container);
    assert!(log.contains("s after SIGKILL"), "{log}");
}

fn a_guest_that_hangs_up_is_lost_at_once(scene: &Scene) {
    let container = attacked(scene, "hang-up");
    let log = assert_has_ended(scene, &container);
    assert!(
        log.contains("the connection to the guest's agent is lost"),
        "{log}"
    );
    // And one that is killed meanwhile.
    let killed = attacked_again(scene, "hang-up");
    let output = killed.verb("kill", &["KILL"]);
    if output.code != 0 {
        output.fails(1, "container not running");
        assert!(wait::ends_within(killed.pid, END_LIMIT));
    }
    let _log = assert_has_ended(scene, &killed);
}

fn a_guest_that_connects_again_goes_on(scene: &Scene) {
    let container = attacked(scene, "reconnect");
    // Whoever asks before it is back is told so, and asks again.
    let mut ps = container.verb("ps", &[]);
    if ps.code != 0 {
        assert!(ps.stderr.ends_with("try again\n"), "{ps:?}");
        ps = container.verb("ps", &[]);
    }
    ps.ok();
    container.assert_status("running");
    let _log = assert_ends(scene, &container);
}

/// An honest guest: the agent cuts what is too long.
fn megabytes_of_command_lines_are_listed(scene: &Scene) {
    let script = "x=$(head -c 90000 /dev/zero | tr '\\0' x); i=0; \
         while [ $i -lt 60 ]; do sh -c 'sleep 1000; :' $x & i=$((i+1)); done; \
         : >/tmp/ready; wait";
    let container = scene.started(&scene.shell(script));
    wait::for_file(&scene.rootfs().join("tmp/ready"));
    let table = container.verb("ps", &[]).ok();
    let long = table.matches(&"x".repeat(1000)).count();
    scene.note(&format!(
        "{} lines, of {} bytes",
        table.lines().count(),
        table.len()
    ));
    assert!(long >= 60, "{long} long ones");
    container.remove();
}
