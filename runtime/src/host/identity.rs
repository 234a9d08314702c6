//! Who runs this program, and users and groups of a container that is created
//! without root's rights.
//!
//! An ordinary user's container has a user namespace on the host, in which the
//! user is root: that of the owner and the file server, so files get owners as
//! mapped. In the guest, ids are what they are inside of it; the guest makes no
//! user namespace for it then.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};

/// Ids that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A user without root's rights, as far as ids go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// User ids lent to it (subuid(5)), first and count.
    pub sub_uids: Vec<(u32, u32)>,
    /// Group ids lent to it (subgid(5)), first and count.
    pub sub_gids: Vec<(u32, u32)>,
}

/// The users and groups of one container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// Users.
    pub uids: Vec<Range>,
    /// Groups.
    pub gids: Vec<Range>,
}

/// Mappings that an ordinary user can't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Root in the container is the one whose rights all of it runs with.
    #[error("linux.{field}: 0 must be mapped to {own}, the id of the user who runs caisson")]
    NotOwn {
        /// `uidMappings` or `gidMappings`.
        field: &'static str,
        /// The user's own id.
        own: u32,
    },
    /// Files of that owner can't be made.
    #[error(
        "process.user.{field}: {id} is not among the ids that this user's containers have; see subuid(5)"
    )]
    Unmapped {
        /// `uid`, `gid` or `additionalGids`.
        field: &'static str,
        /// The id.
        id: u32,
    },
}

/// Why the maps could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("map this user's id into the container's user namespace")]
    Write(#[source] io::Error),
    /// The program that may map more than one id is not there.
    #[error(
        "start {program}: install it (Debian: uidmap), or map this user's own id alone (see `caisson doctor newuidmap`)"
    )]
    Missing {
        /// newuidmap or newgidmap.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// That program refused.
    #[error("{program}: {message} (see `caisson doctor subordinate-ids`)")]
    Mapper {
        /// newuidmap or newgidmap.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

/// The user outside of the user namespace, if this process is in one: the other end
/// of a socket sees that one, and compares.
pub(crate) fn own_uid() -> u32 {
    outside(&own_map(), nix::unistd::geteuid().as_raw())
}

/// Whether this process has an ordinary user's directories and cgroups, as runc tells it:
/// the user may also be root of a user namespace, as below Podman. A whole system
/// within one has a root of its own, who is called that.
#[must_use]
pub fn is_rootless() -> bool {
    let uid = nix::unistd::geteuid().as_raw();
    is_ordinary(uid, &own_map(), std::env::var_os("USER").as_deref())
}

fn is_ordinary(uid: u32, uid_map: &str, user: Option<&OsStr>) -> bool {
    uid != 0 || (is_of_user_namespace(uid_map) && user != Some(OsStr::new("root")))
}

fn own_map() -> String {
    fs::read_to_string("/proc/self/uid_map").unwrap_or_default()
}

/// The first namespace maps every id to itself (user_namespaces(7)).
fn is_of_user_namespace(uid_map: &str) -> bool {
    let mut fields = uid_map.split_whitespace();
    let first = [fields.next(), fields.next(), fields.next()];
    !uid_map.is_empty() && first != [Some("0"), Some("0"), Some("4294967295")]
}

fn outside(uid_map: &str, uid: u32) -> u32 {
    let ranges = uid_map.lines().filter_map(|line| {
        let mut fields = line
            .split_whitespace()
            .map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.next()??, fields.next()??))
    });
    let mut outside = ranges.filter_map(|(inside, outside, count)| {
        let offset = uid.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    });
    outside.next().unwrap_or(uid)
}

impl User {
    /// The user of this process, unless it is root. Root of a user namespace is: its
    /// container's ids are those of that namespace, and need no further one.
    #[must_use]
    pub fn unprivileged() -> Option<Self> {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if uid.is_root() {
            return None;
        }
        let uid = uid.as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = login_name(&passwd, uid);
        let lent = |path: &str, program: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            match on_path(program) {
                true => ranges(&text, name, uid),
                false => Vec::new(),
            }
        };
        Some(Self {
            uid,
            gid: gid.as_raw(),
            sub_uids: lent("/etc/subuid", UID_MAPPER),
            sub_gids: lent("/etc/subgid", GID_MAPPER),
        })
    }

    /// Ids of a container whose config.json wishes for these, or says nothing:
    /// then the user's own is root, and those lent to it follow.
    ///
    /// # Errors
    /// [`Refused::NotOwn`].
    pub fn identities(
        &self,
        uids: Option<&[LinuxIdMapping]>,
        gids: Option<&[LinuxIdMapping]>,
    ) -> Result<Identities, Refused> {
        let of = |field, request: Option<&[LinuxIdMapping]>, own, lent: &[(u32, u32)]| {
            let ranges = match request.filter(|request| !request.is_empty()) {
                Some(request) => request.iter().map(Range::wished).collect(),
                None => own_and_lent(own, lent),
            };
            let root_is_own = ranges
                .iter()
                .any(|range| range.inside == 0 && range.outside == own);
            match root_is_own {
                true => Ok(ranges),
                false => Err(Refused::NotOwn { field, own }),
            }
        };
        Ok(Identities {
            uids: of("uidMappings", uids, self.uid, &self.sub_uids)?,
            gids: of("gidMappings", gids, self.gid, &self.sub_gids)?,
        })
    }
}

impl Range {
    fn wished(mapping: &LinuxIdMapping) -> Self {
        Self {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            count: mapping.size(),
        }
    }

    const fn has(&self, inside: u32) -> bool {
        inside >= self.inside && inside - self.inside < self.count
    }
}

fn own_and_lent(own: u32, lent: &[(u32, u32)]) -> Vec<Range> {
    let mut ranges = vec![Range {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside = 1_u32;
    for &(outside, count) in lent {
        let count = count.min(u32::MAX - inside);
        ranges.push(Range {
            inside,
            outside,
            count,
        });
        inside += count;
    }
    ranges
}

const UID_MAPPER: &str = "newuidmap";
const GID_MAPPER: &str = "newgidmap";

impl Identities {
    /// Checks the ids that a process shall have.
    ///
    /// # Errors
    /// [`Refused::Unmapped`].
    pub fn check(&self, uid: u32, gid: u32, more_gids: &[u32]) -> Result<(), Refused> {
        let lacks = |ranges: &[Range], id: u32| !ranges.iter().any(|range| range.has(id));
        if lacks(&self.uids, uid) {
            return Err(Refused::Unmapped {
                field: "uid",
                id: uid,
            });
        }
        if lacks(&self.gids, gid) {
            return Err(Refused::Unmapped {
                field: "gid",
                id: gid,
            });
        }
        match more_gids.iter().find(|gid| lacks(&self.gids, **gid)) {
            Some(&id) => Err(Refused::Unmapped {
                field: "additionalGids",
                id,
            }),
            None => Ok(()),
        }
    }

    /// Gives the new user namespace of the process `pid` these ids. Called by a
    /// process of the same user outside of it.
    ///
    /// # Errors
    /// When they are not the user's to give.
    pub(crate) fn write(&self, pid: i32) -> Result<(), Error> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        match self.uids[..] {
            [own] if own.count == 1 => {
                fs::write(folder.join("uid_map"), lines(&self.uids)).map_err(Error::Write)?;
            }
            _ => run_mapper(UID_MAPPER, pid, &self.uids)?,
        }
        match self.gids[..] {
            [own] if own.count == 1 => {
                // The kernel's condition for a map without privilege.
                fs::write(folder.join("setgroups"), "deny").map_err(Error::Write)?;
                fs::write(folder.join("gid_map"), lines(&self.gids)).map_err(Error::Write)
            }
            _ => run_mapper(GID_MAPPER, pid, &self.gids),
        }
    }
}

fn lines(ranges: &[Range]) -> String {
    let line = |range: &Range| format!("{} {} {}\n", range.inside, range.outside, range.count);
    ranges.iter().map(line).collect()
}

fn run_mapper(program: &'static str, pid: i32, ranges: &[Range]) -> Result<(), Error> {
    let numbers = ranges
        .iter()
        .flat_map(|range| [range.inside, range.outside, range.count]);
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Missing { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Mapper {
        program,
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// How a user of the host is called: by name, or as runc calls one without.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    login_name(&passwd, uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

/// From passwd(5); without the C library, whose way to other sources of names
/// is closed to static programs.
pub(crate) fn login_name(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// The ranges that subuid(5) lends to a user, by name or by number.
pub(crate) fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (Some(whose) == name || whose == number).then_some(range)
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            uid: 1000,
            gid: 1001,
            sub_uids: vec![(100_000, 65_536), (400_000, 10)],
            sub_gids: Vec::new(),
        }
    }

    #[test]
    fn root_of_a_user_namespace_is_an_ordinary_user_unless_called_root() {
        let (first, podmans) = (
            "         0          0 4294967295\n",
            "         0       1000          1\n         1     100000      65536\n",
        );
        let ordinary = |uid, map, user: Option<&str>| is_ordinary(uid, map, user.map(OsStr::new));
        assert!(ordinary(1000, first, None));
        assert!(ordinary(0, podmans, None) && ordinary(0, podmans, Some("web")));
        assert!(!ordinary(0, podmans, Some("root")));
        assert!(!ordinary(0, first, Some("web")) && !ordinary(0, "", None));
        assert_eq!([outside(podmans, 0), outside(podmans, 7)], [1000, 100_006]);
        assert_eq!(outside(first, 7), 7);
    }

    #[test]
    fn without_a_wish_the_user_is_root_and_lent_ids_follow() {
        let identities = user().identities(None, None).unwrap();
        assert_eq!(
            lines(&identities.uids),
            "0 1000 1\n1 100000 65536\n65537 400000 10\n"
        );
        assert_eq!(lines(&identities.gids), "0 1001 1\n");
        identities.check(65_546, 0, &[]).unwrap();
        identities.check(65_547, 0, &[]).unwrap_err();
        let err = identities.check(0, 0, &[0, 33]).unwrap_err();
        assert!(
            err.to_string()
                .starts_with("process.user.additionalGids: 33 ")
        );
    }

    #[test]
    fn root_inside_is_the_user_outside() {
        let mapping = |host| {
            let value = serde_json::json!({"containerID": 0, "hostID": host, "size": 1});
            [serde_json::from_value(value).unwrap()]
        };
        let of = |host| user().identities(Some(&mapping(host)), None);
        assert_eq!(lines(&of(1000).unwrap().uids), "0 1000 1\n");
        let err = of(0).unwrap_err().to_string();
        assert!(err.starts_with("linux.uidMappings: 0 must be mapped to 1000"));
    }

    #[test]
    fn lent_ranges_are_found_by_name_and_number() {
        let text = "web:100000:65536\nother:1:1\n1000:300000:5\n1000:x:5\n1000:9:0\n";
        assert_eq!(
            ranges(text, Some("web"), 1000),
            [(100_000, 65_536), (300_000, 5)]
        );
        assert_eq!(
            login_name("root:x:0:0::/:\nweb:x:1000:7::/:\n", 1000),
            Some("web")
        );
        assert_eq!(login_name("", 1000), None);
    }
}
