//! What the owner of a machine is told, and what it says when it is ready.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::errand::Errand;
use crate::plan::Plan;
use crate::store::Record;

/// Everything an owner needs to bring one container up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
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
    /// The container ends when whoever gave this order hangs up.
    pub bound: bool,
}

/// What the owner tells the command that started it: any errands, then one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The command shall do this, and say so.
    Errand(Errand),
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
