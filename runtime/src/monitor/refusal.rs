//! Why an owner does not carry a request out.
//!
//! Owns the kinds of it. The reply to each is `container_service`'s.

use crate::monitor::error::Error;
use crate::vm::agent;

/// Why a request is not carried out.
pub(crate) enum Refusal {
    /// The container has stopped, or is stopping.
    NotRunning,
    /// The connection to the guest is lost: it runs, or will have stopped soon.
    Lost,
    /// The guest says that it is not there: it will have stopped soon, or the guest lies.
    Missing(String),
    /// One line.
    Because(String),
}

impl Refusal {
    /// One line for the command that creates the container.
    pub(crate) fn line(self) -> String {
        match self {
            Self::NotRunning => "the container has stopped".to_owned(),
            Self::Lost => agent::Error::Lost.to_string(),
            Self::Missing(line) | Self::Because(line) => line,
        }
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::Because(why.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        Self::Because(crate::log::error_line::chain(&err))
    }
}

impl From<crate::process::Error> for Refusal {
    fn from(err: crate::process::Error) -> Self {
        Self::Because(crate::log::error_line::chain(&err))
    }
}

impl From<crate::vm::Error> for Refusal {
    fn from(err: crate::vm::Error) -> Self {
        Self::Because(crate::log::error_line::chain(&err))
    }
}

impl From<agent::Error> for Refusal {
    fn from(err: agent::Error) -> Self {
        match err {
            agent::Error::Refused(why) => Self::Because(why),
            agent::Error::Gone(_) => Self::Missing(err.to_string()),
            agent::Error::Lost => Self::Lost,
            agent::Error::Silent | agent::Error::Nonsense(_) => Self::Because(err.to_string()),
        }
    }
}
