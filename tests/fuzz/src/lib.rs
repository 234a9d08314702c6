//! The driver of all fuzz targets: which there are, what bytes they get, for how long,
//! and what is kept of the bytes that made one fail.
//!
//! A target is a function of bytes, in the crate whose code it tries and behind that
//! crate's feature `fuzz`; what it makes of them is its own affair (`arbitrary` reads
//! structures out of bytes). It fails by panicking. To add one: the function, a line in
//! [`TARGETS`], and whatever is worth starting from as files in `corpora/NAME/`.
//!
//! ```text
//! corpora/NAME/* -> first, as they are        random bytes, or a changed file of the
//!                                             corpus -> until time or count is over
//! panic -> the bytes become corpora/NAME/crash-HASH, and the run fails
//! ```
//!
//! Which bytes come depends on the seed, the corpus and nothing else. `make fuzz` runs
//! them all; environment variables are [`Limits::from_environment`]'s.

mod bytes;
mod corpus;
mod driver;
mod targets;

pub use corpus::Corpus;
pub use driver::{Failure, Limits, Outcome, drive};
pub use targets::TARGETS;

/// Code that is tried with arbitrary bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its directory below `corpora`.
    pub name: &'static str,
    /// Tries one case; a panic is a finding.
    pub run: fn(&[u8]),
}
