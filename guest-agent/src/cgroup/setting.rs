//! One value for one file of a cgroup.
//!
//! Owns its form, and who asked for it: that decides what becomes of a file that the
//! kernel lacks.

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Name inside the cgroup's folder.
    pub(crate) file: String,
    /// What to write.
    pub(crate) value: String,
    /// Who asked for this file.
    pub(crate) origin: Origin,
}

/// Who asked for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A member of the configuration that stands for it.
    Member,
    /// The same, for a file that a kernel may lack because the limit always holds.
    MemberWhereNeeded,
    /// `unified` names the file itself.
    Unified,
}

/// Adds a setting that a member of the configuration stands for.
pub(super) fn add(settings: &mut Vec<Setting>, file: &str, value: String) {
    settings.push(Setting {
        file: file.to_owned(),
        value,
        origin: Origin::Member,
    });
}
