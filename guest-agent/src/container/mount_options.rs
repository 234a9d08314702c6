//! The options of one OCI mount.
//!
//! Owns the table of option names (runtime-spec config.md, "Linux mount
//! options"). Mounts nothing.

use crate::sys::MountAttributes;

/// The options of one mount, sorted by what they act on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind`: the source is an existing tree.
    pub(crate) bind: Option<Bind>,
    /// For the mount itself.
    pub(crate) own: MountAttributes,
    /// For the mount and everything below it.
    pub(crate) recursive: MountAttributes,
    /// In the order given, since each replaces what an earlier one did.
    pub(crate) propagation: Vec<Propagation>,
    /// Change the mount that is already at the destination.
    pub(crate) remount: bool,
    /// Fill a fresh tmpfs with what it covers.
    pub(crate) copy_up: bool,
    /// Flags that every file system has: `sync`, `dirsync`, `lazytime`.
    pub(crate) flags: Vec<&'static str>,
    /// For the file system alone: flags without, settings with a value.
    pub(crate) parameters: Vec<(String, Option<String>)>,
}

impl MountOptions {
    fn set_flag(&mut self, flag: &'static str) {
        self.flags.retain(|&other| other != flag);
        self.flags.push(flag);
    }

    /// What is to be set when nothing of the mount's own earlier attributes stays,
    /// as when it is mounted again.
    #[must_use]
    pub(crate) const fn replacing(&self) -> MountAttributes {
        let kinds = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC | NO_DIR_ACCESS_TIME | NO_SYMLINK_FOLLOW;
        MountAttributes {
            clear: self.own.clear | (kinds & !self.own.set),
            ..self.own
        }
    }
}

/// The part of the source tree that a bind mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    /// The one mount that the source lies on.
    One,
    /// Mounts below it too.
    Tree,
}

/// One change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) kind: u64,
    /// For the mounts below too.
    pub(crate) recursive: bool,
}

/// Sorts the options of one mount.
#[must_use]
pub(crate) fn parse(options: &[String]) -> MountOptions {
    let mut parsed = MountOptions::default();
    for option in options {
        parse_one(&mut parsed, option);
    }
    parsed
}

fn parse_one(parsed: &mut MountOptions, option: &str) {
    match option {
        "bind" => parsed.bind = Some(Bind::One),
        "rbind" => parsed.bind = Some(Bind::Tree),
        "remount" => parsed.remount = true,
        "tmpcopyup" => parsed.copy_up = true,
        "sync" => parsed.set_flag("sync"),
        "dirsync" => parsed.set_flag("dirsync"),
        "lazytime" => parsed.set_flag("lazytime"),
        "async" => parsed.flags.retain(|&flag| flag != "sync"),
        "nolazytime" => parsed.flags.retain(|&flag| flag != "lazytime"),
        _ if NOTHING_TO_DO.contains(&option) => {}
        _ => parse_by_table(parsed, option),
    }
}

/// Options without effect here: defaults of every file system, options that Linux accepts
/// and ignores, and those that the host has applied to the source.
const NOTHING_TO_DO: [&str; 11] = [
    "defaults",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "idmap",
    "ridmap",
    "acl",
    "noacl",
];

fn parse_by_table(parsed: &mut MountOptions, option: &str) {
    let below = option.strip_prefix('r');
    if let Some(attribute) = attribute(option) {
        attribute.apply_to(&mut parsed.own);
    } else if let Some(attribute) = below.and_then(attribute) {
        attribute.apply_to(&mut parsed.recursive);
    } else if let Some(kind) = propagation(option) {
        parsed.propagation.push(Propagation {
            kind,
            recursive: false,
        });
    } else if let Some(kind) = below.and_then(propagation) {
        parsed.propagation.push(Propagation {
            kind,
            recursive: true,
        });
    } else {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (option, None),
        };
        parsed.parameters.push((key.to_owned(), value));
    }
}

/// One row of the table: what an option sets and clears.
#[derive(Clone, Copy)]
struct Attribute {
    set: u64,
    clear: u64,
}

impl Attribute {
    const fn on(bit: u64) -> Self {
        Self { set: bit, clear: 0 }
    }

    const fn off(bit: u64) -> Self {
        Self { set: 0, clear: bit }
    }

    /// The kinds of access time exclude each other.
    const fn access_time(kind: u64) -> Self {
        Self {
            set: kind,
            clear: ACCESS_TIME,
        }
    }

    const fn apply_to(self, attributes: &mut MountAttributes) {
        attributes.set = (attributes.set & !self.clear) | self.set;
        attributes.clear = (attributes.clear & !self.set) | self.clear;
    }
}

fn attribute(option: &str) -> Option<Attribute> {
    Some(match option {
        "ro" => Attribute::on(READ_ONLY),
        "rw" => Attribute::off(READ_ONLY),
        "nosuid" => Attribute::on(NO_SUID),
        "suid" => Attribute::off(NO_SUID),
        "nodev" => Attribute::on(NO_DEV),
        "dev" => Attribute::off(NO_DEV),
        "noexec" => Attribute::on(NO_EXEC),
        "exec" => Attribute::off(NO_EXEC),
        "nodiratime" => Attribute::on(NO_DIR_ACCESS_TIME),
        "diratime" => Attribute::off(NO_DIR_ACCESS_TIME),
        "nosymfollow" => Attribute::on(NO_SYMLINK_FOLLOW),
        "symfollow" => Attribute::off(NO_SYMLINK_FOLLOW),
        "noatime" => Attribute::access_time(NO_ACCESS_TIME),
        "strictatime" => Attribute::access_time(STRICT_ACCESS_TIME),
        "atime" | "relatime" | "norelatime" | "nostrictatime" => Attribute::access_time(0),
        _ => return None,
    })
}

const fn propagation(option: &str) -> Option<u64> {
    match option.as_bytes() {
        b"shared" => Some(libc::MS_SHARED),
        b"slave" => Some(libc::MS_SLAVE),
        b"private" => Some(libc::MS_PRIVATE),
        b"unbindable" => Some(libc::MS_UNBINDABLE),
        _ => None,
    }
}

/// `MOUNT_ATTR_RDONLY`
pub(crate) const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEV: u64 = 0x4;
const NO_EXEC: u64 = 0x8;
/// All the bits that choose a kind of access time; none of them is relatime.
const ACCESS_TIME: u64 = 0x70;
const NO_ACCESS_TIME: u64 = 0x10;
const STRICT_ACCESS_TIME: u64 = 0x20;
const NO_DIR_ACCESS_TIME: u64 = 0x80;
const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        parse(&options)
    }

    #[test]
    fn flags_settings_and_kinds_are_distinguished() {
        let tmpfs = parsed(&["nosuid", "noexec", "mode=755", "size=65536k", "noswap"]);
        assert_eq!(tmpfs.own.set, NO_SUID | NO_EXEC);
        assert_eq!(
            tmpfs.parameters,
            [
                ("mode".to_owned(), Some("755".to_owned())),
                ("size".to_owned(), Some("65536k".to_owned())),
                ("noswap".to_owned(), None),
            ]
        );
        let bind = parsed(&["rbind", "rprivate", "ro"]);
        assert_eq!(bind.bind, Some(Bind::Tree));
        assert_eq!(bind.own.set, READ_ONLY);
        assert!(bind.propagation.iter().all(|change| change.recursive));
        assert_eq!(bind.propagation.len(), 1);
        assert!(bind.parameters.is_empty());
    }

    #[test]
    fn every_option_of_the_protocol_is_known() {
        for option in caisson_protocol::MOUNT_OPTIONS {
            assert_eq!(parsed(&[option]).parameters, [], "{option}");
        }
    }

    #[test]
    fn the_r_variants_act_on_the_tree_and_words_that_begin_with_r_do_not() {
        let tree = parsed(&["rro", "rnosuid", "rnoatime"]);
        assert_eq!(tree.recursive.set, READ_ONLY | NO_SUID | NO_ACCESS_TIME);
        assert_eq!(tree.own, MountAttributes::default());
        let one = parsed(&["rw", "relatime"]);
        assert_eq!(one.recursive, MountAttributes::default());
        assert_eq!(one.own.clear, READ_ONLY | ACCESS_TIME);
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        assert_eq!(parsed(&["ro", "rw"]).own.set, 0);
        assert_eq!(parsed(&["rw", "ro"]).own.set, READ_ONLY);
        assert_eq!(
            parsed(&["noatime", "strictatime"]).own.set,
            STRICT_ACCESS_TIME
        );
    }

    #[test]
    fn flags_of_every_file_system_are_no_parameters() {
        let options = parsed(&["sync", "lazytime", "dirsync", "sync", "nolazytime", "mand"]);
        assert_eq!(options.flags, ["dirsync", "sync"]);
        assert_eq!(options.parameters, []);
        assert_eq!(parsed(&["sync", "async"]).flags, [""; 0]);
    }

    #[test]
    fn mounting_again_leaves_nothing_of_the_former_attributes() {
        let again = parsed(&["remount", "bind", "nosuid"]);
        assert!(again.remount && again.bind.is_some());
        let attributes = again.replacing();
        assert_eq!(attributes.set, NO_SUID);
        assert_eq!(
            attributes.clear & (READ_ONLY | NO_EXEC | NO_DEV),
            READ_ONLY | NO_EXEC | NO_DEV
        );
        // A kind of access time that isn't given stays, as the kernel has it.
        assert_eq!(attributes.clear & ACCESS_TIME, 0);
    }
}
