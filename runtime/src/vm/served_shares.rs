//! What the file server serves, and by which path each container finds its share there.
//!
//! Two shares are two file systems in the guest, with locks and cached contents of their
//! own. So what shows the same files as a share, or files inside of one, becomes a part
//! of that: owns this choice, and the list of who uses what. Mounts nothing.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use caisson_protocol::SHARE_PATH;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, openat2};
use serde_json::{Value, json};

use crate::oci::plan::Access;
use crate::owner::{GuestContainer, HostPlace, MountBelow, OfferedShare};

/// A share with its mount.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) share: OfferedShare,
    pub(crate) tree: OwnedFd,
}

impl Cut {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            share: self.share.clone(),
            tree: self.tree.try_clone()?,
        })
    }
}

/// All shares that the file server of one machine serves.
#[derive(Debug, Default)]
pub(crate) struct Served(Vec<Entry>);

/// One share; with no users it is about to go.
#[derive(Debug)]
struct Entry {
    cut: Cut,
    users: BTreeSet<String>,
}

/// Where the shares of one container have come to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Paths of those that are to be served now.
    pub(crate) new: Vec<PathBuf>,
    /// Those that were read-only, and are to be written to now.
    pub(crate) opened: Vec<OpenedShare>,
    /// Paths of the directories that the container sees, or sees a part of.
    used: Vec<PathBuf>,
    moved: Vec<Moved>,
}

/// A share that is made writable for a further user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenedShare {
    path: PathBuf,
    /// The access that it had.
    earlier: Access,
}

/// A share that is found elsewhere than it was planned.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    from: PathBuf,
    to: PathBuf,
    read_only: bool,
}

/// How one share lies in another.
struct Part {
    path: PathBuf,
    /// Only once the other may be written to.
    opens: bool,
    read_only: bool,
}

impl Served {
    /// Adds the shares of the container `user`, those that contain others first.
    pub(crate) fn place(&mut self, user: &str, cuts: Vec<Cut>) -> Placement {
        let mut placement = Placement::default();
        let mut waiting = self.join_all(user, cuts, &mut placement);
        while !waiting.is_empty() {
            let tops = tops(&waiting);
            let (top, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .zip(tops)
                .partition(|(_, is_top)| *is_top);
            for (cut, _) in top {
                self.add(user, cut, &mut placement);
            }
            let rest = rest.into_iter().map(|(cut, _)| cut).collect();
            waiting = self.join_all(user, rest, &mut placement);
        }
        placement
    }

    /// Returns those for which nothing is served yet.
    fn join_all(&mut self, user: &str, cuts: Vec<Cut>, placement: &mut Placement) -> Vec<Cut> {
        let joins = |cut: &Cut| self.join(user, cut, placement);
        let mut joins = joins;
        cuts.into_iter().filter(|cut| !joins(cut)).collect()
    }

    /// Makes `cut` a part of what is served. The nearest is taken: of two that hold it,
    /// one may be read-only and lie around the other.
    fn join(&mut self, user: &str, cut: &Cut, placement: &mut Placement) -> bool {
        let in_use = self.0.iter_mut().filter(|entry| !entry.users.is_empty());
        let holders = in_use.filter_map(|entry| Some((part(&entry.cut, cut)?, entry)));
        let nearest = holders.min_by_key(|(part, _)| (part.opens, part.path.components().count()));
        let Some((part, entry)) = nearest else {
            return false;
        };
        let share = &mut entry.cut.share;
        if part.opens {
            let earlier = std::mem::replace(&mut share.place.access, Access::AsMounted);
            placement.opened.push(OpenedShare {
                path: share.path.clone(),
                earlier,
            });
        }
        entry.users.insert(user.to_owned());
        let is_all = part.path.as_os_str().is_empty();
        placement.moved.push(Moved {
            from: cut.share.path.clone(),
            to: if is_all {
                share.path.clone()
            } else {
                share.path.join(part.path)
            },
            read_only: part.read_only,
        });
        placement.uses(share);
        true
    }

    fn add(&mut self, user: &str, mut cut: Cut, placement: &mut Placement) {
        let from = cut.share.path.clone();
        cut.share.path = self.free_path(&from);
        if cut.share.path != from {
            placement.moved.push(Moved {
                from,
                to: cut.share.path.clone(),
                read_only: false,
            });
        }
        placement.new.push(cut.share.path.clone());
        placement.uses(&cut.share);
        let users = BTreeSet::from([user.to_owned()]);
        self.0.push(Entry { cut, users });
    }

    /// A share may outlive the container whose name it has.
    fn free_path(&self, wanted: &Path) -> PathBuf {
        let numbered = (1..=self.0.len()).map(|number| {
            let mut path = wanted.as_os_str().to_owned();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        });
        let mut paths = std::iter::once(wanted.to_owned()).chain(numbered);
        let is_free = |path: &PathBuf| self.0.iter().all(|entry| entry.cut.share.path != *path);
        // There is one more name than there are shares.
        paths.find(is_free).unwrap_or_default()
    }

    /// Copies of the shares that `placement` has served now.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub(crate) fn new_trees(&self, placement: &Placement) -> io::Result<Vec<Cut>> {
        self.trees(|path| placement.new.contains(path))
    }

    /// Copies of the shares that `placement` makes writable.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub(crate) fn opened_trees(&self, placement: &Placement) -> io::Result<Vec<Cut>> {
        self.trees(|path| placement.opened.iter().any(|opened| opened.path == *path))
    }

    /// Takes back that shares were made writable: the file server could not do it.
    pub(crate) fn close_again(&mut self, placement: &Placement) {
        for opened in &placement.opened {
            let mut entries = self.0.iter_mut();
            if let Some(entry) = entries.find(|entry| entry.cut.share.path == opened.path) {
                entry.cut.share.place.access = opened.earlier;
            }
        }
    }

    fn trees(&self, is_wanted: impl Fn(&PathBuf) -> bool) -> io::Result<Vec<Cut>> {
        let named = |entry: &&Entry| is_wanted(&entry.cut.share.path);
        let entries = self.0.iter().filter(named);
        entries.map(|entry| entry.cut.try_clone()).collect()
    }

    /// The container `user` is gone. Returns the paths of what nobody uses any more;
    /// they stay taken until they are forgotten.
    pub(crate) fn release(&mut self, user: &str) -> Vec<PathBuf> {
        let left = self.0.iter_mut().filter_map(|entry| {
            let is_last = entry.users.remove(user) && entry.users.is_empty();
            is_last.then(|| entry.cut.share.path.clone())
        });
        left.collect()
    }

    /// Those at `paths` are no longer served.
    pub(crate) fn forget(&mut self, paths: &[PathBuf]) {
        let stays = |entry: &Entry| !paths.contains(&entry.cut.share.path);
        self.0
            .retain(|entry| stays(entry) || !entry.users.is_empty());
    }
}

impl Placement {
    fn uses(&mut self, share: &OfferedShare) {
        if share.is_dir && !self.used.contains(&share.path) {
            self.used.push(share.path.clone());
        }
    }

    /// Has `container` find its files where they are.
    ///
    /// The guest goes to each share before the container has mounts of its own: what is
    /// mounted then is one file system for all containers.
    pub(crate) fn apply_to(&self, container: &mut GuestContainer) {
        let root = &mut container.spec["root"];
        if let Some((path, read_only)) = self.found(&root["path"]) {
            root["path"] = path;
            if read_only {
                root["readonly"] = true.into();
            }
        }
        let mounts = container.spec["mounts"].as_array_mut();
        for mount in mounts.into_iter().flatten() {
            if let Some((path, read_only)) = self.found(&mount["source"]) {
                mount["source"] = path;
                restrict(mount, read_only);
            }
        }
        let submounts = container.submounts.iter().map(|path| {
            let found = self.found(&json!(path));
            let moved = found.and_then(|(path, _)| path.as_str().map(str::to_owned));
            moved.unwrap_or_else(|| path.clone())
        });
        let used = self.used.iter();
        let used = used.map(|path| Path::new(SHARE_PATH).join(path).display().to_string());
        let all: BTreeSet<String> = used.chain(submounts).collect();
        container.submounts = all.into_iter().collect();
    }

    /// Where the guest's path `planned` is found instead, and whether read-only.
    fn found(&self, planned: &Value) -> Option<(Value, bool)> {
        let planned = Path::new(planned.as_str()?).strip_prefix(SHARE_PATH).ok()?;
        self.moved.iter().find_map(|moved| {
            let inside = planned.strip_prefix(&moved.from).ok()?;
            let to = Path::new(SHARE_PATH).join(&moved.to);
            let is_all = inside.as_os_str().is_empty();
            let to = if is_all { to } else { to.join(inside) };
            Some((to.to_str()?.into(), moved.read_only))
        })
    }
}

fn restrict(mount: &mut Value, read_only: bool) {
    if !read_only {
        return;
    }
    match mount["options"].as_array_mut() {
        Some(options) => options.push("ro".into()),
        None => mount["options"] = json!(["ro"]),
    }
}

/// Which of `cuts` lie in no other. Of two that are the same, the earlier one; there is
/// always one, also where mounts show directories inside of themselves.
fn tops(cuts: &[Cut]) -> Vec<bool> {
    let holds = |outer: &Cut, inner: &Cut| part(outer, inner).is_some_and(|part| !part.opens);
    let is_top = |(number, cut): (usize, &Cut)| {
        let mut others = cuts
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number);
        !others.any(|(other, outer)| holds(outer, cut) && (other < number || !holds(cut, outer)))
    };
    let mut tops: Vec<bool> = cuts.iter().enumerate().map(is_top).collect();
    if !tops.contains(&true) {
        tops.iter_mut().take(1).for_each(|first| *first = true);
    }
    tops
}

/// How `inner` lies in `outer`, if it does, and if whoever sees it there sees and may do
/// the same.
fn part(outer: &Cut, inner: &Cut) -> Option<Part> {
    let (holder, held) = (&outer.share.place, &inner.share.place);
    if holder.id_maps != held.id_maps || holder.has_mapped_source || held.has_mapped_source {
        return None;
    }
    let wanted = Look::at(&inner.tree)?;
    let path = paths_within(&outer.share, held, wanted.has_more_names)
        .into_iter()
        .filter(|path| has_same_mounts(holder, path, held))
        // The mappings of a share may be those of its top alone.
        .filter(|path| holder.id_maps.is_none() || !crosses_a_mount(holder, path))
        .find(|path| Look::within(&outer.tree, path).is_some_and(|look| look.shows(&wanted)))?;
    let is_all = path.as_os_str().is_empty();
    let may_be_written = !Look::within(&outer.tree, &path)?.is_read_only;
    // Others see the read-only one through mounts that are read-only, too.
    let opens = !may_be_written && !wanted.is_read_only;
    let was_asked = holder.access != Access::AsMounted;
    let can_open = is_all && was_asked && holder.below.is_empty();
    (!opens || can_open).then_some(Part {
        path,
        opens,
        read_only: wanted.is_read_only,
    })
}

/// The paths in `outer` at which `held` could be. Numbers of files are not unique in every
/// file system: the name is the reason for a path, or that the file has more of them.
fn paths_within(outer: &OfferedShare, held: &HostPlace, has_more_names: bool) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if !outer.is_dir && has_more_names {
        paths.push(PathBuf::new());
    }
    let by_name = held.source.strip_prefix(&outer.place.source);
    paths.extend(by_name.map(Path::to_owned));
    if let (Some(all), Some(one)) = (&outer.place.in_file_system, &held.in_file_system)
        && all.device == one.device
    {
        paths.extend(one.path.strip_prefix(&all.path).map(Path::to_owned));
    }
    paths
}

/// Whether a mount of the host lies between the top of `holder` and `path`.
fn crosses_a_mount(holder: &HostPlace, path: &Path) -> bool {
    holder
        .below
        .iter()
        .any(|mount| path.starts_with(&mount.path))
}

/// Whether what is mounted below `path` in `holder` is what is mounted below `held`.
fn has_same_mounts(holder: &HostPlace, path: &Path, held: &HostPlace) -> bool {
    let below = holder.below.iter().filter_map(|mount| {
        let path = mount.path.strip_prefix(path).ok()?;
        (!path.as_os_str().is_empty()).then(|| MountBelow {
            path: path.to_owned(),
            ..mount.clone()
        })
    });
    let below: Vec<_> = below.collect();
    // Those below are read-only as the shares are.
    below == held.below && (below.is_empty() || holder.access == held.access)
}

/// What a mount shows at one place.
struct Look {
    /// Device and number of the file.
    file: (u64, u64),
    owner: (u32, u32),
    flags: StatVfsMountFlags,
    is_read_only: bool,
    /// It is a file with hard links.
    has_more_names: bool,
}

impl Look {
    fn at(place: &OwnedFd) -> Option<Self> {
        let (file, mount) = (fstat(place).ok()?, fstatvfs(place).ok()?);
        Some(Self {
            file: (file.st_dev, file.st_ino),
            owner: (file.st_uid, file.st_gid),
            flags: mount.f_flag - NOT_COMPARED,
            is_read_only: mount.f_flag.contains(StatVfsMountFlags::RDONLY),
            has_more_names: file.st_nlink > 1,
        })
    }

    /// Whoever can write to the tree puts no link in the way.
    fn within(tree: &OwnedFd, path: &Path) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return Self::at(tree);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Self::at(&openat2(tree, path, flags, Mode::empty(), resolve).ok()?)
    }

    fn shows(&self, other: &Self) -> bool {
        (self.file, self.owner, self.flags) == (other.file, other.owner, other.flags)
    }
}

/// Whether it is read-only is looked at by itself. Access times are not worth two file
/// systems: those of the share around count.
const NOT_COMPARED: StatVfsMountFlags = StatVfsMountFlags::RDONLY
    .union(StatVfsMountFlags::NOATIME)
    .union(StatVfsMountFlags::NODIRATIME)
    .union(StatVfsMountFlags::RELATIME);

#[cfg(test)]
#[path = "served_shares_test.rs"]
mod tests;
