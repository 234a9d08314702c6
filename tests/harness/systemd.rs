//! A systemd of its own for one test, which the machine's PID 1 knows nothing of.
//!
//! It is PID 1 of a pid, mount, cgroup, ipc and uts namespace, with one delegated
//! cgroup for a tree, no units but what a test needs, and the host's files. Commands
//! are run inside, as pids and cgroups mean something there. It ends, with all it
//! has started, when this is dropped.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Output, Scene};

const ROOT: &str = "/sys/fs/cgroup";
/// What it boots to: nothing, or the bus.
const GOAL: &str = "caisson-test.target";

/// Whether it can be asked over D-Bus, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only on its private socket.
    PrivateSocket,
    /// By the system's bus.
    Bus,
}

/// A service manager that runs.
#[derive(Debug)]
pub struct Systemd<'a> {
    scene: &'a Scene,
    /// Waits for PID 1 and is its parent.
    outside: Child,
    /// Its PID 1, seen from here.
    init: i32,
    cgroup: PathBuf,
}

impl<'a> Systemd<'a> {
    /// Starts it and waits until it has booted.
    ///
    /// # Panics
    /// When it can't be started; needs cgroups of version 2.
    #[must_use]
    pub fn boot(scene: &'a Scene, reach: Reach) -> Self {
        let cgroup = Path::new(ROOT).join(format!("systemd-{}", scene.tag()));
        fs::create_dir(&cgroup).unwrap();
        fs::create_dir(cgroup.join("caller")).unwrap();
        let socket = scene.path(&format!("systemd-{}.ready", scene.number()));
        let ready = UnixDatagram::bind(&socket).unwrap();
        let outside = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--ipc",
                "--uts",
            ])
            .args(["sh", "-euc", ENTER])
            .arg(&cgroup)
            .arg(units(scene, reach))
            .arg(GOAL)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        await_ready(&ready);
        let pid = outside.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let init = children.trim().parse().unwrap();
        Self {
            scene,
            outside,
            init,
            cgroup,
        }
    }

    /// The directory, seen from here, of a cgroup that this systemd calls `path`.
    #[must_use]
    pub fn folder(&self, path: &str) -> PathBuf {
        self.cgroup.join(path.trim_start_matches('/'))
    }

    /// The same command, run inside, in a cgroup that is no unit's.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-euc", JOIN]);
        inside
            .arg(self.cgroup.join("caller"))
            .arg(self.init.to_string());
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        inside.stdin(Stdio::null());
        inside
    }

    /// Runs caisson inside, which lets systemd make cgroups.
    #[must_use]
    pub fn caisson(&self, arguments: &[&str]) -> Output {
        let command = self
            .scene
            .command([&["--systemd-cgroup"], arguments].concat());
        self.scene.output_of(self.inside(&command))
    }

    /// What `systemctl` says, inside.
    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("systemctl");
        command.args(arguments);
        self.scene.output_of(self.inside(&command)).ok()
    }

    /// One property of a unit, as `systemctl show` prints it.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let text = self.systemctl(&["show", "--value", "--property", name, unit]);
        text.trim().to_owned()
    }
}

impl Drop for Systemd<'_> {
    fn drop(&mut self) {
        // The kernel takes every process of a pid namespace with its first, and then
        // lets the parent know.
        kill(Pid::from_raw(self.init), Signal::SIGKILL).ok();
        self.outside.wait().ok();
        remove(&self.cgroup);
    }
}

/// Cgroup, PID 1, and the command.
const JOIN: &str = r#"
echo $$ >"$0"/cgroup.procs
init=$1
shift
exec nsenter --target "$init" --mount --pid --cgroup --ipc --uts -- "$@"
"#;

/// Cgroup, units and goal. Below /run, so that nothing of the machine's own units counts.
const ENTER: &str = r#"
echo $$ >"$0"/cgroup.procs
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/systemd/system /run/dbus
cp -r "$1"/. /run/systemd/system
umount -R /sys/fs/cgroup
exec unshare --cgroup sh -euc 'mount -t cgroup2 cgroup2 /sys/fs/cgroup; container=caisson-test exec /usr/lib/systemd/systemd --unit="$0" --show-status=no' "$2"
"#;

/// A directory with what it boots to.
fn units(scene: &Scene, reach: Reach) -> PathBuf {
    let folder = scene.path(&format!("units-{}", scene.number()));
    fs::create_dir(&folder).unwrap();
    let alone = "[Unit]\nDefaultDependencies=no\n";
    let wants = match reach {
        Reach::PrivateSocket => "",
        Reach::Bus => "Wants=dbus.service\nAfter=dbus.service\n",
    };
    fs::write(folder.join(GOAL), format!("{alone}{wants}")).unwrap();
    let socket = "[Socket]\nListenStream=/run/dbus/system_bus_socket\n";
    fs::write(folder.join("dbus.socket"), format!("{alone}{socket}")).unwrap();
    let service = "Requires=dbus.socket\nAfter=dbus.socket\n[Service]\nType=notify\nExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n";
    fs::write(folder.join("dbus.service"), format!("{alone}{service}")).unwrap();
    folder
}

/// PID 1 of a container tells when it has booted (sd_notify(3)).
fn await_ready(socket: &UnixDatagram) {
    let mut bytes = [0; 4096];
    loop {
        let len = socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..len]);
        if text.lines().any(|line| line == "READY=1") {
            return;
        }
    }
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(folder).ok();
}
