//! What the owner of a machine is told, and what it says when it is ready.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::store::Record;
use crate::hooks;
use crate::monitor::{mount_point, submounts};
use crate::oci::plan::Plan;
use crate::owner::GuestContainer;
use crate::vm::choice::Choice;

/// Everything an owner needs to bring one container up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Name of the container.
    pub id: String,
    /// `--root`, made absolute.
    pub root: PathBuf,
    /// The decisions to carry out.
    pub plan: Plan,
    /// The record to write, whose pid is not known yet.
    pub record: Record,
    /// Where to send the terminal's master, if the caller wants it.
    pub console_socket: Option<PathBuf>,
    /// Where log lines go; standard error without.
    pub log: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_json: bool,
    /// Tell what is decided and how.
    pub debug: bool,
    /// The configuration of caisson, where it is not the usual one.
    pub config: Option<PathBuf>,
    /// Whose machine it gets.
    pub home: VmPlacement,
    /// The container ends when whoever gave this order hangs up.
    pub bound: bool,
    /// The last descriptor beside it is that of a service manager, which wants to
    /// hear when the container is ready.
    pub notifies: bool,
}

/// The machine of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmPlacement {
    /// One of its own, of this kind.
    Own(Choice),
    /// That of the owner who listens here.
    Joined(PathBuf),
}

impl CreateRequest {
    /// What the guest's agent is told, of a root file system that lacked the mount
    /// points `new_points`. Looks at the host's mounts.
    pub(crate) fn for_guest(&self, new_points: &[PathBuf]) -> GuestContainer {
        let mut spec = self.plan.guest_spec.clone();
        mount_point::give_modes(&mut spec, new_points);
        GuestContainer {
            id: self.id.clone(),
            spec,
            seccomp: self.plan.seccomp.clone(),
            state: hooks::state("created", &self.record, 0),
            submounts: submounts::in_guest(&self.plan.shares),
            root_overlay_mib: self.plan.root_overlay_mib,
            notifies: self.notifies,
        }
    }
}

/// What the owner tells the command that started it: any errands, then one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MonitorMessage {
    /// The command shall do this, and say so.
    CreatorRequest(CreatorRequest),
    /// How the creation has ended.
    Outcome(Outcome),
}

/// How the start of an owner has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The container is set up; the owner lives on.
    Created,
    /// It could not be; nothing is left.
    Failed {
        /// One line: the cause.
        message: String,
    },
}

/// Something the owner can't do from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreatorRequest {
    /// Run the hooks of kinds prestart and createRuntime: the owner's
    /// namespaces are there.
    RunHooks,
    /// Give the owner's new user namespace its ids.
    MapIdentities,
}
