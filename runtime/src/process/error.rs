//! Why a process of this host could not be started or followed.

use std::io;
use std::path::PathBuf;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of the host's own work failed.
    #[error("{0}")]
    Step(&'static str, #[source] io::Error),
    /// A helper process could not be started.
    #[error("start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Names the step that an I/O error belongs to.
pub(crate) fn step(name: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Step(name, source)
}
