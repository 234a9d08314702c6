//! x86-64.
//!
//! Owns nothing itself: `power` ends the machine.

mod power;

pub(crate) use power::power_off;
