//! Functions of bytes for the driver in tests/fuzz: what this crate reads of guests, of
//! callers and of the kernel. Each fails by panicking. Owns no case and no clock.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::cgroup::Driver;
use crate::config::annotations::Bounds;
use crate::config::machine_choice::MachineChoice;
use crate::network::names;
use crate::oci::bundle::Bundle;
use crate::oci::plan::{HostFacts, plan};
use crate::owner::{Connection, Reply, Request};

pub use crate::vm::fuzz::{answers, frames};

/// More than this is not written into a socket that nobody reads meanwhile.
const MAX_LEN: usize = 64 * 1024;

/// One end of a connection from whose other end `bytes` come, and then its end.
fn sent(bytes: &[u8]) -> Option<UnixStream> {
    let (near, mut far) = UnixStream::pair().ok()?;
    far.write_all(bytes.get(..MAX_LEN).unwrap_or(bytes)).ok()?;
    far.shutdown(Shutdown::Write).ok()?;
    Some(near)
}

/// config.json of a bundle in the root directory, up to the plan.
pub fn configuration(bytes: &[u8]) {
    let facts = HostFacts {
        cpus: 4,
        default_mem_mib: None,
        default_vcpus: None,
        bounds: Bounds {
            machine: MachineChoice::Auto,
            emulation: true,
            max_mem_mib: 16 * 1024,
            max_vcpus: 8,
            kernels: Vec::new(),
            groups: true,
        },
        cgroup_driver: Driver::Cgroupfs,
        user: None,
        group: Vec::new(),
    };
    if let Ok(bundle) = Bundle::parse(Path::new("/"), bytes) {
        drop(plan("fuzz", &bundle, &facts));
    }
}

/// What a process of this host sends to an owner's socket, and what an owner answers.
pub fn requests(bytes: &[u8]) {
    if let Some(stream) = sent(bytes) {
        drop(Connection::from(stream).receive::<Request>());
    }
    if let Some(stream) = sent(bytes) {
        drop(Connection::from(stream).receive::<Reply>());
    }
}

/// What a guest sends on the port for questions to name servers; none is known.
pub fn questions(bytes: &[u8]) {
    if let Some(stream) = sent(bytes) {
        drop(names::serve(stream, &[]));
    }
}
