//! Why a call of the guest's agent has no result.

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The agent said no; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// The container is not in the guest: it is ending, or has ended.
    #[error("the guest's agent does not know it: {0}")]
    Gone(String),
    /// The connection is lost. The agent connects again, or the machine is ended.
    #[error("the connection to the guest's agent is lost")]
    Lost,
    /// It was asked, and says nothing.
    #[error(
        "the guest has not answered in time: it hangs, or its host is overloaded; SIGKILL ends the container with its machine"
    )]
    Silent,
    /// What it answers can't be an answer.
    #[error("what the guest's agent has answered is refused: {0}")]
    Nonsense(String),
}
