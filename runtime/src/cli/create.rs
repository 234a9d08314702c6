//! `create`: sets a container up to the point before its program runs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::{Caller, Outcome, failed};
use crate::container::create;
use crate::container::create::Creation;
use crate::container::preserved_fds::Preserved;
use crate::container::sd_notify::NotifySocket;
use crate::container::send_fd::send_fd;
use crate::log::Level;
use crate::process::pidfd::Pidfd;

/// Callers read it, and signal whom it names.
const PID_FILE_MODE: u32 = 0o644;

/// Flags that `create` and `run` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,
    /// Socket that receives the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Socket that receives a pidfd of the process that stands for the container
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File that receives the pid of the process that stands for the container
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Accepted for compatibility: the guest always pivots
    #[arg(long)]
    no_pivot: bool,
    /// Accepted for compatibility: the guest's keyrings are its own
    #[arg(long)]
    no_new_keyring: bool,
    /// Descriptors from 3 up to hand to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

impl Common {
    pub(super) fn creation(
        &self,
        caller: &Caller,
        foreground: bool,
    ) -> Result<Creation, Box<dyn std::error::Error>> {
        check_ways_to_caller(self.pidfd_socket.as_deref(), self.pid_file.as_deref())?;
        Ok(Creation {
            preserved: Preserved::take(self.preserve_fds)?,
            console_socket: self
                .console_socket
                .as_deref()
                .map(std::path::absolute)
                .transpose()?,
            foreground,
            notify: self.notify(caller),
            ..caller.creation(self.id.clone(), self.bundle.clone())
        })
    }

    /// A manager that is gone is no reason to run nothing.
    fn notify(&self, caller: &Caller) -> Option<NotifySocket> {
        NotifySocket::of_environment().unwrap_or_else(|err| {
            caller
                .log
                .write(Level::Warning, &crate::log::error_line::chain(&err));
            None
        })
    }

    /// Tells the caller which process stands for the container. The pid file comes
    /// last: as soon as it is there, callers go on.
    pub(super) fn introduce(&self, pid: i32) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(socket) = &self.pidfd_socket {
            send_pidfd(socket, pid, "standard")?;
        }
        match &self.pid_file {
            Some(path) => write_pid_file(path, pid),
            None => Ok(()),
        }
    }
}

/// Create a container, without running its program
///
/// Starts the container's machine and sets everything up to the point before the
/// program of config.json runs; start runs it. The process whose pid is told stands
/// for the container: it ends when the container does, with the same exit status,
/// and passes signals on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson spec && caisson create --bundle . web1 && caisson start web1
  caisson create --bundle /b --pid-file /run/web1.pid --console-socket /run/tty.sock web1")]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
}

impl Create {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let creation = self.common.creation(caller, false)?;
        let (container, owner) = create::create(&caller.store, &creation)?;
        if let Err(err) = self.common.introduce(owner.pid()) {
            container.delete(true, &caller.log)?;
            return Err(err);
        }
        Ok(0)
    }
}

/// Before anything is begun: that the caller can be told of the process that stands for
/// the one in the guest.
pub(super) fn check_ways_to_caller(
    pidfd_socket: Option<&Path>,
    pid_file: Option<&Path>,
) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(socket) = pidfd_socket {
        std::fs::metadata(socket)
            .map_err(failed(format!("send a pidfd to {}", socket.display())))?;
    }
    let Some(path) = pid_file else {
        return Ok(());
    };
    // The parent of a plain name is the working directory, which is there.
    let directory = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(directory) = directory {
        std::fs::metadata(directory)
            .map_err(failed(format!("write pid file {}", path.display())))?;
    }
    Ok(())
}

/// Sends a pidfd to a socket, with the word that runc sends beside it: `standard` for
/// a container's process, `setns` for one more in it.
pub(super) fn send_pidfd(
    socket: &Path,
    pid: i32,
    word: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let sending = || failed(format!("send a pidfd to {}", socket.display()));
    let pidfd = Pidfd::of(pid).map_err(sending())?;
    Ok(send_fd(socket, word.as_bytes(), pidfd.as_fd()).map_err(sending())?)
}

/// Writes a pid whole or not at all; callers read it as soon as it is there.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<(), Box<dyn std::error::Error>> {
    let name = path.file_name().ok_or("the pid file has no name")?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    let draft = path.with_file_name(draft_name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PID_FILE_MODE)
        .open(&draft)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        std::fs::remove_file(&draft).ok();
    }
    Ok(written.map_err(failed(format!("write pid file {}", path.display())))?)
}
