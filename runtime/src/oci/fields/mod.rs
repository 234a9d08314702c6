//! Every field of config.json (runtime-spec 1.3), and what becomes of it.
//!
//! Owns the table: a field is applied (where), ignored (why) or refused (why).
//! It decides what is refused by name, and which fields the guest gets to see;
//! docs/oci-fields.md is its printed form. What a value may be is for whoever
//! applies the field. Fields that the specification doesn't know are ignored,
//! as it asks.

mod admission;
mod content;
mod error;
mod namespaces;

mod general;
mod linux;
mod process;
mod resources;

pub use admission::{
    Ignored, check, check_process, check_resources, for_guest, process_for_guest,
    resources_for_guest,
};
pub use error::Error;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Names joined by dots, `[]` after a list. Speaks for all that lies below
    /// it, except where a longer row does.
    pub path: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Why it is ignored or refused; else what there is to say, maybe nothing.
    pub note: &'static str,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    Applied(&'static [Place]),
    /// It changes nothing, and the log says so.
    Ignored,
    /// Asking for it is an error.
    Refused,
}

/// Who carries a field out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The container's owner and its commands, on the host.
    Host,
    /// The virtual machine: its memory, processors and devices.
    Machine,
    /// The agent in the guest; it is sent the field.
    Guest,
}

const GUEST: &[Place] = &[Place::Guest];
const HOST: &[Place] = &[Place::Host];
const HOST_AND_GUEST: &[Place] = &[Place::Host, Place::Guest];
const MACHINE: &[Place] = &[Place::Machine];
const MACHINE_AND_GUEST: &[Place] = &[Place::Machine, Place::Guest];

const NO_LABELS: &str = "caisson doesn't label a machine's processes and files; have the engine ask for none (label=disable)";
const NOT_YET: &str = "this version of caisson can't apply it; remove it from the configuration";

/// The whole table.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    [
        general::FIELDS,
        process::FIELDS,
        linux::FIELDS,
        resources::FIELDS,
    ]
    .into_iter()
    .flatten()
}

const fn applied(path: &'static str, places: &'static [Place], note: &'static str) -> Field {
    let fate = Fate::Applied(places);
    Field { path, fate, note }
}

const fn ignored(path: &'static str, note: &'static str) -> Field {
    let fate = Fate::Ignored;
    Field { path, fate, note }
}

const fn refused(path: &'static str, note: &'static str) -> Field {
    let fate = Fate::Refused;
    Field { path, fate, note }
}

impl Field {
    fn is_for_guest(&self) -> bool {
        matches!(self.fate, Fate::Applied(places) if places.contains(&Place::Guest))
    }
}

/// Whether something is done with `path`, by whomever.
#[must_use]
pub fn is_applied(path: &str) -> bool {
    row_of(path).is_some_and(|field| matches!(field.fate, Fate::Applied(_)))
}

/// The row that speaks for `path`; none if the specification doesn't know it.
fn row_of(path: &str) -> Option<&'static Field> {
    fields()
        .filter(|field| is_within(path, field.path))
        .max_by_key(|field| field.path.len())
}

/// Whether the table tells apart what lies below `path`.
fn has_rows_below(path: &str) -> bool {
    fields().any(|field| field.path != path && is_within(field.path, path))
}

fn has_guest_rows_below(path: &str) -> bool {
    fields().any(|field| field.is_for_guest() && is_within(field.path, path))
}

/// Whether `path` is `place` or lies below it. The empty place holds everything.
fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| place.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod tests;
