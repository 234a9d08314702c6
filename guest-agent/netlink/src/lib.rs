//! rtnetlink(7) as both sides need it: messages are put together and taken apart,
//! one request has one answer, a dump has many.
//!
//! Owns the framing and the socket. Knows no policy and few message types: what a
//! message means stands with whoever sends it. Small on purpose: it is part of every
//! guest's memory.

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
