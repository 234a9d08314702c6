//! The monitor: the process that holds one VM, and answers for the containers in it.
//!
//! `create_request` is what it is asked for, `run` its life, `containers` the list of
//! them, `container_service` one of them, `server` the requests of other commands.
//! `joined` is the process of a container whose VM another monitor holds.

pub(crate) mod container_service;
pub(crate) mod containers;
pub mod create_request;
pub mod error;
pub(crate) mod joined;
pub(crate) mod joined_network;
pub(crate) mod late_output;
pub(crate) mod mount_point;
pub(crate) mod mount_view;
pub(crate) mod namespaces;
pub(crate) mod prepare;
pub(crate) mod refusal;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod state_lock;
pub(crate) mod stdio_ports;
pub(crate) mod submounts;
pub(crate) mod subscribers;

pub use create_request::{CreateRequest, MonitorMessage, Outcome, VmPlacement};
pub use error::Error;
pub use run::run;
