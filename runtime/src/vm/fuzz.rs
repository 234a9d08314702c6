//! What the owner reads of its guest's agent, tried with any bytes.

use crate::vm::agent_answers;
use crate::vm::agent_connection::try_frames;

/// The payload of an answer, as each call reads it.
pub fn answers(bytes: &[u8]) {
    drop((
        agent_answers::payload(bytes),
        agent_answers::nothing(bytes),
        agent_answers::major_version(bytes),
        agent_answers::unix_time_ns(bytes),
        agent_answers::news(bytes),
    ));
    drop((
        agent_answers::statistics(bytes),
        agent_answers::processes(bytes),
    ));
}

/// Frames of ttrpc on the control connection, beside calls that wait.
pub fn frames(bytes: &[u8]) {
    try_frames(bytes);
}
