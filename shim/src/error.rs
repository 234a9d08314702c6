//! Errors of calls, with the status codes that containerd distinguishes.
//!
//! Owns the translation of the library's errors: for a container or process that is gone
//! the code is NOT_FOUND, on which containerd regards its removal as done.

use caisson::container::handle::Error as LibraryError;
use caisson::container::store;
use caisson::log::error_line::chain;
use ttrpc::{Code, get_status};

/// Why a call has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such container or process, or it has ended.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// The call is not allowed in this state.
    #[error("{0}")]
    Precondition(String),
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// caisson does not implement the call.
    #[error("{0}")]
    Unimplemented(String),
    /// A step failed.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A step that failed, with all causes on one line.
    pub(crate) fn step(action: &str, err: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(format!("{action}: {}", chain(err)))
    }
}

impl From<LibraryError> for Error {
    fn from(err: LibraryError) -> Self {
        let text = chain(&err);
        match err {
            LibraryError::NotRunning => {
                Self::NotFound("process already finished: not found".into())
            }
            LibraryError::Store(store::Error::NotExist(_)) => Self::NotFound(text),
            LibraryError::Store(store::Error::Exists(_)) => Self::AlreadyExists(text),
            LibraryError::StartStopped
            | LibraryError::NotPaused
            | LibraryError::NotStopped { .. } => Self::Precondition(text),
            LibraryError::Bundle(_)
            | LibraryError::Plan(_)
            | LibraryError::Resources(_)
            | LibraryError::Joined(_) => Self::Invalid(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(err: Error) -> Self {
        let code = match err {
            Error::NotFound(_) => Code::NOT_FOUND,
            Error::AlreadyExists(_) => Code::ALREADY_EXISTS,
            Error::Precondition(_) => Code::FAILED_PRECONDITION,
            Error::Invalid(_) => Code::INVALID_ARGUMENT,
            Error::Unimplemented(_) => Code::UNIMPLEMENTED,
            Error::Failed(_) => Code::UNKNOWN,
        };
        Self::RpcStatus(get_status(code, err.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_found() {
        let err = ttrpc::Error::from(Error::from(LibraryError::NotRunning));
        let ttrpc::Error::RpcStatus(status) = err else {
            panic!("{err:?}");
        };
        assert_eq!(status.code(), Code::NOT_FOUND);
    }
}
