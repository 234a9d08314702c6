//! What the owner reads of its guest's agent, tried with any bytes.

use super::answers;
use super::link::try_frames;

/// The payload of an answer, as each call reads it.
pub fn answers(bytes: &[u8]) {
    drop((
        answers::payload(bytes),
        answers::nothing(bytes),
        answers::major_version(bytes),
        answers::unix_time_ns(bytes),
        answers::news(bytes),
    ));
    drop((answers::statistics(bytes), answers::processes(bytes)));
}

/// Frames of ttrpc on the control connection, beside calls that wait.
pub fn frames(bytes: &[u8]) {
    try_frames(bytes);
}
