//! The normal form of a path in `config.json` that doesn't exist yet, for both sides.
//!
//! Owns no access to a file system: links are resolved when the path is opened.

use std::path::{Component, Path, PathBuf};

/// `path` below `/` without `.` and `..`. The latter goes up by name and stops at
/// the root: what it would have gone through may not exist yet.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_by_name_and_never_leave_the_root() {
        let cleaned = |path: &str| clean(Path::new(path)).to_str().map(str::to_owned);
        for (path, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("../../etc/passwd", "/etc/passwd"),
            ("a//b/", "/a/b"),
            ("/..", "/"),
            ("", "/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(expected), "{path}");
        }
    }
}
