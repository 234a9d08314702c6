//! The server as a process: what /proc tells about it while it waits for work,
//! and how it ends. No machine is needed. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use caisson_fs::socket;
use caisson_fs::spec::{Cache, FsSpec, Share};
use caisson_jail::detached::{Access, Tree, detach};
use command_fds::{CommandFdExt, FdMapping};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount,
};

#[test]
fn shares_are_the_only_things_in_its_root() {
    let host = host_folder();
    let server = Server::start(vec![
        Export::folder(
            &host.path().join("rootfs"),
            "web1/rootfs",
            Access::AsMounted,
        ),
        Export::file(&host.path().join("file"), "web1/mounts/0", Access::ReadOnly),
    ]);
    server.wait_until_ready();
    let root = server.proc("root");
    assert_eq!(names(&root), ["web1"]);
    assert_eq!(names(&root.join("web1")), ["mounts", "rootfs"]);
    assert_eq!(
        fs::read_to_string(root.join("web1/mounts/0")).unwrap(),
        "content"
    );
    fs::write(root.join("web1/rootfs/new"), "x").unwrap();
    assert_eq!(
        fs::read_to_string(host.path().join("rootfs/new")).unwrap(),
        "x"
    );
    let refused = fs::write(root.join("web1/mounts/0"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn mounts_and_unmounts_of_the_host_arrive() {
    let host = host_folder();
    let rootfs = host.path().join("rootfs");
    let outer = TestMount::shared_bind(&rootfs);
    fs::create_dir(rootfs.join("volume")).unwrap();
    let server = Server::start(vec![Export::folder(
        &rootfs,
        "web1/rootfs",
        Access::AsMounted,
    )]);
    server.wait_until_ready();
    let seen = server.proc("root/web1/rootfs/volume/file");
    let volume = TestMount::tmpfs(&rootfs.join("volume"));
    fs::write(rootfs.join("volume/file"), "late").unwrap();
    assert_eq!(fs::read_to_string(&seen).unwrap(), "late");
    drop(volume);
    assert!(!seen.exists());
    drop(outer);
}

#[test]
fn every_thread_is_filtered_and_without_rights_on_the_host() {
    let server = Server::start(vec![]);
    server.wait_until_ready();
    for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(
            fs::read_link(server.proc(&format!("ns/{kind}"))).unwrap(),
            ours,
            "{kind}"
        );
    }
    let threads = names(&server.proc("task"));
    assert!(threads.len() >= 3, "{threads:?}");
    for thread in threads {
        let status = server.proc("task").join(thread).join("status");
        let status = fs::read_to_string(status).unwrap();
        assert_eq!(field(&status, "Seccomp"), "2");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "CapBnd"), "0000000000000000");
        // CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID SETFCAP, of its own
        // user namespace.
        assert_eq!(field(&status, "CapPrm"), "00000000800000db");
    }
}

#[test]
fn no_descriptor_of_the_host_stays_open() {
    let host = host_folder();
    let folder = Export::folder(
        &host.path().join("rootfs"),
        "web1/rootfs",
        Access::AsMounted,
    );
    let server = Server::start(vec![folder]);
    server.wait_until_ready();
    let mut targets: Vec<String> = names(&server.proc("fd"))
        .iter()
        .filter(|number| number.parse::<u32>().unwrap() >= 3)
        .map(|number| fs::read_link(server.proc("fd").join(number)).unwrap())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.starts_with("socket:") && !target.starts_with("anon_inode:"))
        .collect();
    targets.sort();
    // Its root, and the detached /proc/self/fd, which shows as its own root.
    assert_eq!(targets, ["/", "/"]);
}

#[test]
fn it_ends_well_when_the_machine_disconnects() {
    let mut server = Server::start(vec![]);
    server.wait_until_ready();
    drop(server.machine.take());
    assert!(server.child.wait().unwrap().success());
    assert_eq!(server.diagnostics(), "");
}

#[test]
fn a_writable_mount_is_refused_where_read_only_was_promised() {
    let host = host_folder();
    let mut export = Export::folder(
        &host.path().join("rootfs"),
        "web1/rootfs",
        Access::AsMounted,
    );
    export.promised_read_only = true;
    let mut server = Server::start(vec![export]);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    assert_eq!(
        server.diagnostics(),
        "served tree: web1/rootfs can be written to\n"
    );
}

#[test]
fn a_malformed_spec_is_one_line() {
    let (listener, machine) = socket_pair();
    let mut server = Server::with_spec(b"{", vec![(4, listener)], machine);
    assert_eq!(server.child.wait().unwrap().code(), Some(1));
    let line = server.diagnostics();
    assert!(
        line.starts_with("spec: malformed spec: EOF while parsing"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

/// A folder `rootfs` and a file `file`.
fn host_folder() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("rootfs")).unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    host
}

fn socket_pair() -> (OwnedFd, UnixStream) {
    let private = tempfile::tempdir().unwrap();
    let (listener, machine) = socket::pair(private.path()).unwrap();
    (listener.into(), machine)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find(|line| line.starts_with(&format!("{name}:")))
        .unwrap();
    line.split_once(':').unwrap().1.trim()
}

/// A mount on the host; unmounted when dropped.
struct TestMount(PathBuf);

impl TestMount {
    fn shared_bind(path: &Path) -> Self {
        mount_bind(path, path).unwrap();
        let mount = Self(path.into());
        mount_change(path, MountPropagationFlags::SHARED).unwrap();
        mount
    }

    fn tmpfs(path: &Path) -> Self {
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(path.into())
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Something of the host to be served.
struct Export {
    mount: OwnedFd,
    path: &'static str,
    is_dir: bool,
    promised_read_only: bool,
}

impl Export {
    fn folder(host: &Path, path: &'static str, access: Access) -> Self {
        let mount = detach(host, Tree::Recursive, access).unwrap();
        Self {
            mount,
            path,
            is_dir: true,
            promised_read_only: access == Access::ReadOnly,
        }
    }

    fn file(host: &Path, path: &'static str, access: Access) -> Self {
        Self {
            is_dir: false,
            ..Self::folder(host, path, access)
        }
    }
}

/// A running server and the machine's end of its connection; ends when dropped.
struct Server {
    child: Child,
    stderr: ChildStderr,
    machine: Option<UnixStream>,
}

impl Server {
    fn start(exports: Vec<Export>) -> Self {
        let (listener, machine) = socket_pair();
        let mut descriptors = vec![(4, listener)];
        let mut shares = Vec::new();
        for (fd, export) in (5..).zip(exports) {
            let Export {
                mount,
                path,
                is_dir,
                promised_read_only: read_only,
            } = export;
            shares.push(Share {
                fd,
                path: path.into(),
                is_dir,
                read_only,
            });
            descriptors.push((fd, mount));
        }
        let spec = FsSpec {
            socket_fd: 4,
            shares,
            cache: Cache::Auto,
        };
        Self::with_spec(&serde_json::to_vec(&spec).unwrap(), descriptors, machine)
    }

    fn with_spec(spec: &[u8], mut descriptors: Vec<(i32, OwnedFd)>, machine: UnixStream) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(spec).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        descriptors.push((FsSpec::FD, file.into()));
        let mappings = descriptors
            .into_iter()
            .map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_caisson-fs"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.fd_mappings(mappings).unwrap().spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self {
            child,
            stderr,
            machine: Some(machine),
        }
    }

    /// Returns once the server answers its first vhost-user message.
    fn wait_until_ready(&self) {
        // GET_FEATURES, version 1, no payload.
        let request: [u32; 3] = [1, 1, 0];
        let request: Vec<u8> = request.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut machine = self.machine.as_ref().unwrap();
        machine.write_all(&request).unwrap();
        machine.read_exact(&mut [0; 20]).unwrap();
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    fn diagnostics(&mut self) -> String {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
