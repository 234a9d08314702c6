//! What becomes of a command: an exit status, or an error with what was being done.

use std::error::Error;
use std::io::Write;

/// The exit status of a command, or why it failed.
pub(crate) type Outcome = Result<u8, Box<dyn Error>>;

/// A step of the command line's own that failed, with its cause.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub(crate) struct Failed<E: Error + 'static> {
    action: String,
    #[source]
    cause: E,
}

/// Says what was being done when something failed.
pub(crate) fn failed<E: Error + 'static>(action: impl Into<String>) -> impl FnOnce(E) -> Failed<E> {
    let action = action.into();
    move |cause| Failed { action, cause }
}

/// Prints what a caller reads from standard output.
pub(crate) fn print(text: &str) -> Outcome {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}
