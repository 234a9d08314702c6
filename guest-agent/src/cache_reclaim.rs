//! Reclaim of the dentry cache of shares. Each cached name is a descriptor of the
//! host's file server, whose number is limited; the kernel drops names for lack of
//! memory alone. So a process of its own drops caches when the server requests it.
//!
//! The request is the reply to a read of the extended attribute [`FORGET_ATTRIBUTE`] of
//! the share's root: the server holds the reply back until there is something to do,
//! and then sends the value for `drop_caches`. Owns no policy: the server decides.

use std::fs;

use caisson_protocol::{FORGET_ATTRIBUTE, FORGET_PAUSE, SHARE_PATH};
use rustix::fs::getxattr;
use rustix::io::Errno;
use rustix::thread::{NanosleepRelativeResult, Timespec, nanosleep};

use crate::{
    failure::{Attempt, Failure},
    sys::{clone_process, close_all_except, exit_now},
};

/// Between two reads while the kernel sends FUSE_FORGET requests to the server: it does
/// so in the background, and reports no end of it.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Starts the process. It ends with the machine, or when the server doesn't have the
/// attribute.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn start() -> Result<(), Failure> {
    let child = clone_process(0, None).step("start the process that drops caches")?;
    if child.is_some() {
        return Ok(());
    }
    close_all_except(&[]);
    // Were this process killed, the first container with too many names would be the last.
    fs::write("/proc/self/oom_score_adj", "-1000").unwrap_or_default();
    while let Some(level) = next_request() {
        reclaim(level);
    }
    exit_now(0)
}

/// Waits for the server's next request; `None` when there will be none.
fn next_request() -> Option<u8> {
    let mut level = [0_u8; 1];
    loop {
        match getxattr(SHARE_PATH, FORGET_ATTRIBUTE, &mut level) {
            Ok(_) => return Some(level[0]),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn reclaim(level: u8) {
    if level == FORGET_PAUSE {
        // A pause cut short by a signal does no harm.
        let _: NanosleepRelativeResult = nanosleep(&PAUSE);
        return;
    }
    // The first scan spares names that were used since the last one; the second drops
    // them. No kernel refuses the write; the server counts what was dropped.
    for _ in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", [level]).unwrap_or_default();
    }
}
