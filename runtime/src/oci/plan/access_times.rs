//! When reading a share's files changes their access times.
//!
//! Owns what the options of a mount mean for that. It is the host that reads the files,
//! so the host's mount has these options; the guest's mount shows them.

use serde::{Deserialize, Serialize};

/// For a mount and those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTimes {
    /// For the mount itself.
    pub itself: TimeOptions,
    /// For it and all mounts below.
    pub all: TimeOptions,
}

/// What is not chosen stays as the mount on the host has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOptions {
    /// For which reads.
    pub kind: Option<AccessTime>,
    /// Whether for directories, too.
    pub directories: Option<bool>,
}

/// When a read changes the access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessTime {
    /// When it is older than the last change, or than a day.
    Relative,
    /// Never.
    Never,
    /// Always.
    Strict,
}

impl AccessTimes {
    /// What `options` of a mount choose; the last one counts.
    pub(crate) fn of(options: &[String]) -> Self {
        let mut times = Self::default();
        for option in options {
            if !times.itself.choose(option)
                && let Some(option) = option.strip_prefix('r')
            {
                times.all.choose(option);
            }
        }
        times
    }
}

impl TimeOptions {
    fn choose(&mut self, option: &str) -> bool {
        match option {
            "atime" | "relatime" | "norelatime" | "nostrictatime" => {
                self.kind = Some(AccessTime::Relative);
            }
            "noatime" => self.kind = Some(AccessTime::Never),
            "strictatime" => self.kind = Some(AccessTime::Strict),
            "nodiratime" => self.directories = Some(false),
            "diratime" => self.directories = Some(true),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_option_of_a_kind_counts_and_r_means_mounts_below_too() {
        let of = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            AccessTimes::of(&options)
        };
        assert_eq!(of(&["rbind", "ro", "rro"]), AccessTimes::default());
        let times = of(&["noatime", "strictatime", "nodiratime", "rnoatime"]);
        assert_eq!(times.itself.kind, Some(AccessTime::Strict));
        assert_eq!(times.itself.directories, Some(false));
        assert_eq!(times.all.kind, Some(AccessTime::Never));
        assert_eq!(times.all.directories, None);
        let times = of(&["relatime", "rrelatime", "rdiratime"]);
        assert_eq!(times.itself.kind, Some(AccessTime::Relative));
        assert_eq!(times.all.kind, Some(AccessTime::Relative));
        assert_eq!(times.all.directories, Some(true));
    }
}
