//! A server as a process, with what it serves. Owns its start and its end.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use caisson_fs::socket;
use caisson_fs::spec::{Cache, DEFAULT_NAMES, FsSpec, Share};
use caisson_jail::detached::{Access, Tree, detach};
use command_fds::{CommandFdExt, FdMapping};

/// A directory `rootfs` and a file `file`.
pub(crate) fn host_directory() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("rootfs")).unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    host
}

pub(crate) fn socket_pair() -> (OwnedFd, UnixStream) {
    let private = tempfile::tempdir().unwrap();
    let (listener, machine) = socket::pair(private.path()).unwrap();
    (listener.into(), machine)
}

/// Something of the host to be served.
pub(crate) struct Export {
    mount: OwnedFd,
    path: &'static str,
    is_dir: bool,
    pub(crate) promised_read_only: bool,
}

impl Export {
    pub(crate) fn directory(host: &Path, path: &'static str, access: Access) -> Self {
        let mount = detach(host, Tree::Recursive, access).unwrap();
        Self {
            mount,
            path,
            is_dir: true,
            promised_read_only: access == Access::ReadOnly,
        }
    }

    pub(crate) fn file(host: &Path, path: &'static str, access: Access) -> Self {
        Self {
            is_dir: false,
            ..Self::directory(host, path, access)
        }
    }
}

/// A running server and the machine's end of its connection; ends when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    stderr: ChildStderr,
    pub(crate) machine: Option<UnixStream>,
}

impl Server {
    pub(crate) fn start(exports: Vec<Export>) -> Self {
        Self::with_names(exports, DEFAULT_NAMES)
    }

    /// One whose guest may hold `max_names`.
    pub(crate) fn with_names(exports: Vec<Export>, max_names: u64) -> Self {
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
            max_names,
        };
        Self::with_spec(&serde_json::to_vec(&spec).unwrap(), descriptors, machine)
    }

    pub(crate) fn with_spec(
        spec: &[u8],
        mut descriptors: Vec<(i32, OwnedFd)>,
        machine: UnixStream,
    ) -> Self {
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
    pub(crate) fn wait_until_ready(&self) {
        // GET_FEATURES, version 1, no payload.
        let request: [u32; 3] = [1, 1, 0];
        let request: Vec<u8> = request.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut machine = self.machine.as_ref().unwrap();
        machine.write_all(&request).unwrap();
        machine.read_exact(&mut [0; 20]).unwrap();
    }

    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    pub(crate) fn diagnostics(&mut self) -> String {
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
