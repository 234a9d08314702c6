//! Why a configuration is refused by the table of fields.

/// A field of config.json that can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {field} is not supported: {reason}")]
pub struct Error {
    /// Path of the field, dots between names.
    pub field: String,
    /// Why, and what to do instead.
    pub reason: &'static str,
}
