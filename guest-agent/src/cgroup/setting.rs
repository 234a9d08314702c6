//! One value for one file of a cgroup.
//!
//! Owns its form and its origin, which decides what a file that the kernel lacks means.

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Name inside the cgroup's directory.
    pub(crate) file: String,
    /// What to write.
    pub(crate) value: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A member of `linux.resources` that is converted.
    Member,
    /// The same, for a file that a kernel may lack because the limit always holds.
    MemberWhereNeeded,
    /// A member of `unified`, whose name is the file's.
    Unified,
}

/// Adds a setting converted from a member of `linux.resources`.
pub(super) fn add(settings: &mut Vec<Setting>, file: &str, value: String) {
    settings.push(Setting {
        file: file.to_owned(),
        value,
        origin: Origin::Member,
    });
}
