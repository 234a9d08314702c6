//! The contract between caisson on the host and its agent in the guest:
//! messages, service, version and the fixed numbers both sides must agree on.
//!
//! Owns no I/O, no clock and, but for `rate`, no policy. The meaning of every call and field
//! stands in `proto/agent.proto`. The host builds with feature `client`
//! (blocking), the guest with feature `server` (async, one thread).

pub mod cgroup;
pub mod path;
pub mod rate;

/// Generated for the host: messages in `agent`, the blocking client in `agent_ttrpc`.
#[cfg(feature = "client")]
#[expect(
    missing_debug_implementations,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    reason = "generated"
)]
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/client/mod.rs"));
}

/// Generated for the guest: messages in `agent`, the async service in `agent_ttrpc`.
#[cfg(feature = "server")]
#[expect(
    missing_debug_implementations,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    reason = "generated"
)]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/server/mod.rs"));
}

/// Raised by a change that an older peer would misunderstand.
pub const PROTOCOL_MAJOR: u32 = 2;
/// Raised by an addition that an older peer may ignore.
pub const PROTOCOL_MINOR: u32 = 2;

/// Character devices whose numbers mean the same on every Linux: null, zero, full,
/// random, urandom, kmsg, tty, console, ptmx, tun and fuse.
const UNIVERSAL_DEVICES: [(i64, i64); 11] = [
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (1, 11),
    (5, 0),
    (5, 1),
    (5, 2),
    (10, 200),
    (10, 229),
];

/// Whether the character device of these numbers is in every guest.
#[must_use]
pub fn is_universal_device(major: i64, minor: i64) -> bool {
    UNIVERSAL_DEVICES.contains(&(major, minor))
}

/// Settings of sysctl(8) that belong to an IPC namespace, beside `fs.mqueue.*`.
const IPC_SETTINGS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Returns whether a setting, whose name has dots between its parts, belongs to an IPC
/// namespace (ipc_namespaces(7)).
#[must_use]
pub fn is_ipc_setting(name: &str) -> bool {
    IPC_SETTINGS.contains(&name) || name.starts_with("fs.mqueue.")
}

/// Prefix of the path of a namespace to join; the name of its container follows.
pub const JOINED_PREFIX: &str = "container/";

/// Mount options that the agent knows, whatever the file system. `r` before the
/// name of an attribute or a propagation means everything below the mount, too.
pub const MOUNT_OPTIONS: &[&str] = &[
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Vsock address of the guest.
pub const GUEST_CID: u32 = 3;
/// Vsock port on the host to which the agent connects to be controlled.
pub const CONTROL_PORT: u32 = 1024;
/// Vsock port on the host to which the agent forwards queries to name servers. A
/// connection begins with the four bytes of the server's address and one of the
/// `NAMES_*`; then each message has its length before it, in two bytes of network
/// order, as in DNS over TCP.
pub const NAMES_PORT: u32 = 1025;
/// One query, which the host sends in a datagram, and one reply.
pub const NAMES_DATAGRAM: u8 = 0;
/// A connection to the server, passed on as it is.
pub const NAMES_STREAM: u8 = 1;
/// Streams use ports from here up, one per stream, chosen by the host at random.
pub const FIRST_STREAM_PORT: u32 = 0x1_0000;
/// Bytes of the token that `Hello` gives the agent.
pub const TOKEN_LEN: usize = 16;

/// Tag of the virtio-fs device that carries every shared directory.
pub const SHARE_TAG: &str = "caisson";
/// Where the agent mounts the tag; rootfs and bind sources lie below it.
pub const SHARE_PATH: &str = "/run/caisson/share";
/// Extended attribute of the root of the tag, by which the file server requests that the
/// guest drop cached names. A read of it returns when there is something to do: one byte
/// for `/proc/sys/vm/drop_caches`, or [`FORGET_PAUSE`].
pub const FORGET_ATTRIBUTE: &str = "user.caisson.forget";
/// Nothing for now: read again in a moment.
pub const FORGET_PAUSE: u8 = b'0';
/// Where the agent receives what containers send to a service manager (sd_notify(3)): a
/// directory for each, by its name, with [`NOTIFY_SOCKET`] in it.
pub const NOTIFY_PATH: &str = "/run/caisson/notify";
/// Name of such a socket.
pub const NOTIFY_SOCKET: &str = "notify.sock";

/// I/O port of x86-64 to which the agent writes [`POWER_OFF_VALUE`] to end the machine.
pub const POWER_OFF_PORT: u16 = 0x600;
/// Value that means an orderly power-off.
pub const POWER_OFF_VALUE: u8 = 0x5a;

/// Two sides have incompatible versions of this contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionMismatch {
    /// Major version of the side that reports it.
    pub ours: u32,
    /// Major version of its peer.
    pub theirs: u32,
}

impl std::fmt::Display for VersionMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ours, theirs } = self;
        write!(
            f,
            "host and guest agent speak different protocols (this side {ours}, the other {theirs}): install caisson and its guest image from one release"
        )
    }
}

impl std::error::Error for VersionMismatch {}

/// Checks that a peer of the given major version is compatible.
///
/// # Errors
/// [`VersionMismatch`] when it is older or newer by a breaking change.
pub const fn check_version(their_major: u32) -> Result<(), VersionMismatch> {
    if their_major == PROTOCOL_MAJOR {
        return Ok(());
    }
    Err(VersionMismatch {
        ours: PROTOCOL_MAJOR,
        theirs: their_major,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_major_version_is_refused_in_one_line() {
        assert_eq!(check_version(PROTOCOL_MAJOR), Ok(()));
        let text = check_version(PROTOCOL_MAJOR + 1).unwrap_err().to_string();
        assert!(text.contains("this side 2, the other 3"), "{text}");
        assert!(!text.contains('\n'));
    }
}
