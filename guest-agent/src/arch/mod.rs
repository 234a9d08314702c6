//! What depends on the processor's architecture: one directory for each, with the same
//! names in all of them.
//!
//! Owns the choice of the directory. Another architecture is one more directory, and
//! two lines here.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::power_off;
