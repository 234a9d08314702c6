//! config.json (OCI runtime-spec): read, checked field by field, and made into a plan.
//!
//! `bundle` reads it, `fields` is the table of what becomes of each field, `plan` decides
//! everything about one container. Starts nothing.

pub mod bundle;
pub(crate) mod capabilities;
pub mod features;
pub mod fields;
pub mod memory_policy;
pub(crate) mod normalize;
pub mod plan;
