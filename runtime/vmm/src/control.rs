//! The messages between owner and machine while it runs: one JSON
//! message per packet on a SOCK_SEQPACKET socket.
//!
//! Owns the messages, not the socket. The owner's end closing means the owner
//! is dead: the machine ends at once.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::spec;

/// Longest packet in bytes, either way.
pub const MAX_PACKET_LEN: usize = 16 * 1024;

/// Owner to machine. Each is answered by one [`Report::Done`] or [`Report::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Ends the machine now; answered by [`Report::Exit`].
    Stop,
    /// Parks all vCPUs and stops all queues. Answered when nothing of the machine moves any
    /// more; fails, and the machine runs on, if a vCPU does not park in time.
    Pause,
    /// Lets a paused machine run on: notifications that came meanwhile are served.
    Resume,
    /// Puts a disk into the first free placeholder. The packet carries its descriptor.
    PlugBlock {
        /// Writes are refused.
        read_only: bool,
        /// Serial number shown to the guest, at most 20 bytes.
        serial: String,
    },
    /// Puts a network interface into the first free placeholder. The packet carries
    /// the descriptors of its tap, which has headers of 12 bytes: one for each pair of
    /// queues that the guest is offered, at most [`spec::queue_pairs`].
    PlugNet {
        /// Address shown to the guest.
        mac: [u8; 6],
        /// The host's kernel moves the packets: after the tap's descriptors as many of
        /// /dev/vhost-net follow. Only where the spec allows it.
        #[serde(default)]
        vhost: bool,
    },
    /// Empties a slot that was plugged; the guest has let go of it before.
    Unplug {
        /// Its index.
        slot: u8,
    },
}

/// Machine to owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// Rights are dropped and the first guest instruction is about to run.
    Running,
    /// A request was served.
    Done {
        /// Slot index a device was plugged into, where that was asked.
        slot: Option<u8>,
    },
    /// A request failed; the machine goes on.
    Failed {
        /// One line: the cause.
        message: String,
    },
    /// The machine has ended; the last packet.
    Exit {
        /// Why.
        reason: Exit,
    },
}

/// Why a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Exit {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reboot,
    /// The guest's kernel panicked.
    Panic,
    /// A vCPU met a triple fault, or another state it can't leave.
    TripleFault,
    /// The owner asked.
    Stopped,
    /// The machine could not go on, by no wish of the guest.
    Error {
        /// One line: the cause.
        message: String,
    },
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reboot => f.write_str("the guest rebooted"),
            Self::Panic => f.write_str("the guest kernel panicked"),
            Self::TripleFault => f.write_str("the guest met a triple fault"),
            Self::Stopped => f.write_str("the machine was stopped"),
            Self::Error { message } => write!(f, "the machine failed: {message}"),
        }
    }
}
