//! What cgroup hierarchies the host has, and where this process is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which interface a host's cgroups have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// A hierarchy for each controller or few, also beside an empty one of
    /// version 2 (hybrid).
    V1,
    /// One for all.
    V2,
}

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Controllers of version 1, `name=` ones among them. None with version 2.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// This process's own cgroup, as a directory.
    pub(crate) own: PathBuf,
}

/// All hierarchies of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) version: Version,
    pub(crate) hierarchies: Vec<Hierarchy>,
}

impl Host {
    /// Looks at the host; no hierarchies where none are mounted.
    pub(crate) fn find() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own))
    }

    /// Reads mountinfo and cgroup of a process.
    pub(crate) fn parse(mountinfo: &str, own: &str) -> Self {
        let of_kind = |kind: &str| {
            let mounts = mountinfo.lines().filter_map(Mount::parse);
            mounts.filter(|mount| mount.kind == kind).collect()
        };
        // The first mount of a hierarchy counts; more are binds of it.
        let one: Vec<Mount<'_>> = of_kind("cgroup");
        if one.is_empty() {
            let two: Vec<Mount<'_>> = of_kind("cgroup2");
            let own = own.lines().find_map(|line| line.strip_prefix("0::"));
            let found = two.first().zip(own);
            return Self {
                version: Version::V2,
                hierarchies: found
                    .map(|(mount, own)| mount.hierarchy(Vec::new(), own))
                    .into_iter()
                    .collect(),
            };
        }
        let of_line = |line: &str| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, own) = rest.split_once(':')?;
            let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
            let mount = one.iter().find(|mount| mount.has_all(&controllers))?;
            Some(mount.hierarchy(controllers, own))
        };
        Self {
            version: Version::V1,
            hierarchies: own.lines().filter_map(of_line).collect(),
        }
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    kind: &'a str,
    root: &'a str,
    path: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let mut kind = after.split(' ');
        Some(Self {
            root: fields.next()?,
            path: fields.next()?,
            kind: kind.next()?,
            options: kind.nth(1)?,
        })
    }

    fn has_all(&self, controllers: &[String]) -> bool {
        let options: Vec<&str> = self.options.split(',').collect();
        controllers
            .iter()
            .all(|controller| options.contains(&controller.as_str()))
    }

    fn hierarchy(&self, controllers: Vec<String>, own: &str) -> Hierarchy {
        let own = Path::new(own);
        let below_mount = own.strip_prefix(self.root).unwrap_or(own);
        let below_mount = below_mount.strip_prefix("/").unwrap_or(below_mount);
        Hierarchy {
            controllers,
            mount: self.path.into(),
            own: Path::new(self.path).join(below_mount),
        }
    }
}

impl Hierarchy {
    /// The directory that `path` means in this hierarchy.
    pub(crate) fn directory(&self, version: Version, path: &Path) -> PathBuf {
        if let Ok(below) = path.strip_prefix("/") {
            return self.mount.join(below);
        }
        match version {
            Version::V1 => self.own.join(path),
            // With processes of its own, a cgroup can't have others below it.
            Version::V2 => self.own_parent().join(path),
        }
    }

    /// Where version 2 can have a cgroup beside this process's own.
    pub(crate) fn own_parent(&self) -> &Path {
        let parent = self.own.parent();
        parent
            .filter(|parent| parent.starts_with(&self.mount))
            .unwrap_or(&self.mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_MOUNT: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1_MOUNTS: &str = "\
        31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn directory(host: &Host, number: usize, path: &str) -> String {
        let hierarchy = &host.hierarchies[number];
        let directory = hierarchy.directory(host.version, Path::new(path));
        directory.display().to_string()
    }

    #[test]
    fn version_two_is_one_hierarchy_and_relative_paths_are_beside_the_caller() {
        let host = Host::parse(V2_MOUNT, "0::/user.slice/session.scope\n");
        assert_eq!(host.version, Version::V2);
        assert_eq!(directory(&host, 0, "x"), "/sys/fs/cgroup/user.slice/x");
        assert_eq!(directory(&host, 0, "/a/b"), "/sys/fs/cgroup/a/b");
        let host = Host::parse(V2_MOUNT, "0::/\n");
        assert_eq!(directory(&host, 0, "x"), "/sys/fs/cgroup/x");
    }

    #[test]
    fn version_one_has_many_and_relative_paths_are_below_the_caller() {
        let own = "2:cpu,cpuacct:/job\n1:name=systemd:/\n7:pids:/unmounted\n0::/\n";
        let host = Host::parse(V1_MOUNTS, own);
        assert_eq!((host.version, host.hierarchies.len()), (Version::V1, 2));
        assert_eq!(directory(&host, 0, "x"), "/sys/fs/cgroup/cpu,cpuacct/job/x");
        assert_eq!(directory(&host, 1, "/a"), "/sys/fs/cgroup/systemd/a");
    }

    #[test]
    fn a_mount_of_a_part_is_seen_from_its_root() {
        let mount = "30 23 0:26 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let host = Host::parse(mount, "0::/pod/ctr\n");
        assert_eq!(directory(&host, 0, "x"), "/sys/fs/cgroup/x");
    }

    #[test]
    fn a_host_without_cgroups_has_none() {
        assert!(Host::parse("", "0::/\n").hierarchies.is_empty());
    }
}
