//! A container without a bundle: one command of this host, in a VM, on the host's own
//! system directories.
//!
//! Owns what of the host such a container sees, and its config.json. The container is
//! created as any other; everything here is closed unless the caller opens it.

mod config_json;
mod error;
mod host_view;
mod mount_namespace;
mod network;
mod request;

use std::path::{Path, PathBuf};

pub use error::Error;
use host_view::HostView;
pub use network::Network;
pub use request::Request;

/// A bundle that this process, and what it starts, can see.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory.
    pub path: PathBuf,
    /// What the caller should know, a line each.
    pub remarks: Vec<String>,
}

/// Makes a bundle at `directory`, in a mount namespace of this process's own: it ends with
/// the last process of the container, and nothing of it has to be removed.
///
/// # Errors
/// When something that the caller opens is not there, or the host refuses a mount.
pub fn prepare(request: &Request, directory: &Path) -> Result<Bundle, Error> {
    let view = HostView::of(request)?;
    mount_namespace::enter(&view, directory)?;
    config_json::write(request, &view, directory)?;
    Ok(Bundle {
        path: directory.to_owned(),
        remarks: view.remarks,
    })
}
