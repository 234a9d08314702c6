//! rtnetlink(7) as both sides need it: messages are assembled and parsed, one request has
//! one reply, a dump has many.
//!
//! Owns the framing and the socket. Knows no policy and few message types: callers know
//! what a message means. Small on purpose: it is part of every guest's memory.

mod message;
mod socket;

#[cfg(feature = "fuzz")]
pub use message::try_packet;
pub use message::{Answer, Attributes, Message, number, text};
pub use socket::{Events, Socket};

/// Family of IPv4, as messages have it.
pub const INET: u8 = 2;
/// Family of IPv6, as messages have it.
pub const INET6: u8 = 10;
