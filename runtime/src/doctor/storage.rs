//! The state directory: whether it can be trusted and written to, and has room.

use std::io::ErrorKind;

use crate::doctor::host::existing_part;
use crate::doctor::host::words_of;
use crate::doctor::{Finding, HostView};
use crate::host::private::Directory;
use crate::log::error_line::chain;

/// A record, a log and sockets of one container.
const FEWEST_BYTES: u64 = 64 << 10;
const FEWEST_INODES: u64 = 16;
/// For some dozens of containers.
const COMFORTABLE_BYTES: u64 = 16 << 20;

const ELSEWHERE: &str =
    "give another with --root; an ordinary user needs XDG_RUNTIME_DIR, which a login sets";

pub(super) fn state_directory(host: &HostView) -> Finding {
    let named = host.state_directory.display();
    let path = host.path(&host.state_directory);
    let existing = existing_part(&path);
    let is_there = existing == path;
    if is_there && let Err(err) = Directory::open(&path) {
        return Finding::fail(chain(&err), ELSEWHERE);
    }
    match (host.calls.may_write)(existing) {
        Ok(()) if is_there => Finding::ok(format!("{named} is writable for this user alone")),
        Ok(()) => Finding::ok(format!("{named} will be made by the first container")),
        Err(err) if err.kind() == ErrorKind::ReadOnlyFilesystem => Finding::fail(
            format!("{named}: {reason}", reason = words_of(&err)),
            "mount a tmpfs there: mount -t tmpfs -o mode=755 tmpfs /run",
        ),
        Err(err) if is_there => Finding::fail(
            format!("{named}: {reason}", reason = words_of(&err)),
            ELSEWHERE,
        ),
        Err(err) => Finding::fail(
            format!("{named} can't be made: {reason}", reason = words_of(&err)),
            ELSEWHERE,
        ),
    }
}

pub(super) fn space(host: &HostView) -> Finding {
    let named = host.state_directory.display();
    let path = host.path(&host.state_directory);
    let room = match (host.calls.room)(existing_part(&path)) {
        Ok(room) => room,
        Err(err) => {
            return Finding::warn(
                format!("{named}: {reason}", reason = words_of(&err)),
                "df /run",
            );
        }
    };
    let inodes = room
        .inodes
        .map_or_else(|| "any number of".into(), |count| count.to_string());
    let evidence = format!(
        "{} KiB and {inodes} inodes are free for {named}",
        room.bytes >> 10
    );
    let fix = "free space there (`df`, `df -i`), or enlarge it: mount -o remount,size=SIZE /run";
    let is_full = room.inodes.is_some_and(|count| count < FEWEST_INODES);
    if room.bytes < FEWEST_BYTES || is_full {
        return Finding::fail(format!("{evidence}: no record of a container fits"), fix);
    }
    if room.bytes < COMFORTABLE_BYTES {
        return Finding::warn(format!("{evidence}: enough for few containers"), fix);
    }
    Finding::ok(evidence)
}
