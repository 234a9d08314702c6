//! What /proc shows of a jailed process.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use caisson_jail::UNIQUE_IDS;
use caisson_jail::detached::{Access, Tree, detach};
use command_fds::{CommandFdExt, FdMapping};
use libtest_mimic::Trial;

use crate::inmate::TREE;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "no_capability_is_left_and_none_can_be_gained",
            no_capability,
        ),
        trial("kept_capabilities_are_the_only_ones", kept_capabilities),
        trial("every_namespace_is_its_own", own_namespaces),
        trial("the_root_is_empty_and_read_only", empty_root),
        trial("one_identity_or_all_of_them", identity_maps),
        trial("each_has_a_user_of_its_own", unique_identities),
        trial("inherited_descriptors_are_closed", descriptors),
        trial("limits_hold", limits),
        trial("a_mount_is_found_where_it_was_attached", furnished),
        trial("a_second_thread_is_refused", second_thread),
        trial("a_path_upwards_is_refused", path_upwards),
        trial("a_program_is_executed_in_its_jail", executed),
    ]
}

fn no_capability() {
    let inmate = Inmate::enter("empty");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(inmate.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(inmate.status("NoNewPrivs"), "1");
}

fn kept_capabilities() {
    let inmate = Inmate::enter("all");
    assert_eq!(inmate.status("CapEff"), "0000000000000081");
    assert_eq!(inmate.status("CapPrm"), "0000000000000081");
    assert_eq!(inmate.status("CapBnd"), "0000000000000000");
}

fn own_namespaces() {
    let inmate = Inmate::enter("empty");
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
        let name = format!("ns/{kind}");
        let ours = fs::read_link(Path::new("/proc/self").join(&name)).unwrap();
        assert_ne!(fs::read_link(inmate.proc(&name)).unwrap(), ours, "{kind}");
    }
}

fn empty_root() {
    let inmate = Inmate::enter("empty");
    assert_eq!(fs::read_dir(inmate.proc("root")).unwrap().count(), 0);
    let mounts = inmate.read("mountinfo");
    let fields: Vec<&str> = mounts.split_whitespace().collect();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert_eq!(fields[4], "/");
    assert!(fields[5].starts_with("ro,nosuid,nodev,noexec"), "{mounts}");
    let refused = fs::create_dir(inmate.proc("root/new")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// Root's inmates, if this test may give the users away: none of them is root outside,
/// or another inmate.
fn unique_identities() {
    let inmates = [Inmate::enter("unique"), Inmate::enter("unique")];
    let users = inmates.each_ref().map(|inmate| {
        assert_eq!(inmate.status("Groups"), "");
        assert_eq!(inmate.status("Uid"), inmate.status("Gid"));
        let id = inmate.status("Uid");
        let id = id.split_once(' ').unwrap().0;
        assert_eq!(inmate.status("Uid"), [id; 4].join(" "));
        let map = inmate.read("uid_map");
        let map: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(map, ["0", id, "1"]);
        id.parse::<u32>().unwrap()
    });
    assert!(
        users.iter().all(|user| UNIQUE_IDS.contains(user)),
        "{users:?}"
    );
    assert_ne!(users[0], users[1]);
    assert_eq!(inmates[0].status("CapEff"), "0000000000000000");
}

fn identity_maps() {
    let words = |text: String| {
        text.split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let one = Inmate::enter("empty");
    assert_eq!(words(one.read("uid_map")), ["0", "0", "1"]);
    assert_eq!(words(one.read("gid_map")), ["0", "0", "1"]);
    assert_eq!(one.read("setgroups").trim(), "deny");
    let all = Inmate::enter("all");
    let outer = fs::read_to_string("/proc/self/uid_map").unwrap();
    let expected = caisson_identity(&outer);
    assert_eq!(words(all.read("uid_map")), words(expected));
}

/// Every identity of a map, to itself.
fn caisson_identity(map: &str) -> String {
    map.lines()
        .map(|line| {
            let [inside, _, count] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("no map line: {line}");
            };
            format!("{inside} {inside} {count}\n")
        })
        .collect()
}

fn descriptors() {
    let stray = fs::File::open("/etc/passwd").unwrap();
    let inmate = Inmate::enter_with("empty", Some(stray.into()));
    assert_eq!(inmate.descriptors(), ["0", "1", "2"]);
}

fn limits() {
    let inmate = Inmate::enter("empty");
    let limits = inmate.read("limits");
    let values = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
    };
    assert_eq!(values("Max core file size"), ["0", "0"]);
    assert_eq!(values("Max open files"), ["64", "64"]);
}

fn furnished() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let tree = detach(host.path(), Tree::Recursive, Access::ReadOnly).unwrap();
    let inmate = Inmate::enter_with("furnished", Some(tree));
    assert_eq!(inmate.word, "in");
    let file = inmate.proc("root/web1/rootfs/file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    let refused = fs::write(&file, "more").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !ours.contains(host.path().to_str().unwrap()),
        "the host sees a mount: {ours}"
    );
}

fn second_thread() {
    let inmate = Inmate::enter("threads");
    assert!(
        inmate.word.starts_with("be a process of one thread: "),
        "{}",
        inmate.word
    );
}

fn path_upwards() {
    let host = tempfile::tempdir().unwrap();
    let tree = detach(host.path(), Tree::One, Access::ReadOnly).unwrap();
    let inmate = Inmate::enter_with("upwards", Some(tree));
    assert!(
        inmate.word.starts_with("../up is no plain relative path"),
        "{}",
        inmate.word
    );
}

/// By `caisson-jail`: the program is this one, which is static and needs no library.
fn executed() {
    let this = std::env::current_exe().unwrap();
    let tree = detach(&this, Tree::One, Access::ReadOnly).unwrap();
    let kept = fs::File::open("/etc/passwd").unwrap();
    let stray = fs::File::open("/etc/group").unwrap();
    let spec = serde_json::json!({
        "program": "/bin/inmate", "arguments": ["inmate=resident"],
        "files": [{"path": "bin/inmate", "kind": "file", "descriptor": TREE}],
        "descriptors": [4], "open_files": 64,
    });
    let (spec_end, mut end) = std::io::pipe().unwrap();
    end.write_all(spec.to_string().as_bytes()).unwrap();
    drop(end);
    let mut command = Command::new(env!("CARGO_BIN_EXE_caisson-jail"));
    command.env("SECRET", "1");
    let inmate = Inmate::started(
        command,
        [
            (spec_end.into(), 3),
            (kept.into(), 4),
            (stray.into(), 5),
            (tree, TREE),
        ],
    );
    assert_eq!(inmate.word, "in");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(inmate.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(inmate.status("NoNewPrivs"), "1");
    assert_eq!(inmate.descriptors(), ["0", "1", "2", "4"]);
    assert_eq!(inmate.read("environ"), "");
    let entries = fs::read_dir(inmate.proc("root")).unwrap();
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    entries.sort();
    assert_eq!(entries, ["bin", "proc"]);
    let own: Vec<_> = fs::read_dir(inmate.proc("root/proc/self/fd"))
        .unwrap()
        .collect();
    assert_eq!(own.len(), 4);
    assert!(!inmate.proc("root/proc/self/mem").exists());
    let refused = fs::write(inmate.proc("root/bin/inmate"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

/// A process that has entered the jail; ends when dropped.
struct Inmate {
    child: Child,
    _life: ChildStdin,
    /// Its report on its entry.
    word: String,
}

impl Inmate {
    fn enter(jail: &str) -> Self {
        let inmate = Self::enter_with(jail, None);
        if jail != "threads" {
            assert_eq!(inmate.word, "in");
        }
        inmate
    }

    fn enter_with(jail: &str, tree: Option<OwnedFd>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(format!("inmate={jail}"));
        Self::started(command, tree.map(|tree| (tree, TREE)))
    }

    fn started(
        mut command: Command,
        descriptors: impl IntoIterator<Item = (OwnedFd, i32)>,
    ) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mappings = descriptors
            .into_iter()
            .map(|(parent_fd, child_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
        command.fd_mappings(mappings.collect()).unwrap();
        let mut child = command.spawn().unwrap();
        let life = child.stdin.take().unwrap();
        let mut word = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut word)
            .unwrap();
        Self {
            child,
            _life: life,
            word: word.trim_end().into(),
        }
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.proc(name)).unwrap()
    }

    fn descriptors(&self) -> Vec<String> {
        let names = fs::read_dir(self.proc("fd")).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn status(&self, field: &str) -> String {
        let status = self.read("status");
        let line = status
            .lines()
            .find(|l| l.starts_with(&format!("{field}:")))
            .unwrap();
        line.split_once(':')
            .unwrap()
            .1
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
