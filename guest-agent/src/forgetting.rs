//! Forgetting names of shares. Each name that this kernel remembers is a descriptor
//! of the host's file server, which can have only so many; the kernel forgets for
//! lack of memory alone. So a process of its own asks the server, and forgets when
//! told to.
//!
//! The question is the extended attribute [`FORGET_ATTRIBUTE`] of the share's root. The
//! server keeps it until there is something to do, and then answers with what is to
//! be written to `drop_caches`. Owns nothing of when that is: the server decides.

use std::fs;

use caisson_protocol::{FORGET_ATTRIBUTE, FORGET_PAUSE, SHARE_PATH};
use rustix::fs::getxattr;
use rustix::io::Errno;
use rustix::thread::{NanosleepRelativeResult, Timespec, nanosleep};

use crate::{
    failure::{Attempt, Failure},
    sys::{clone_process, close_all_except, exit_now},
};

/// Between two questions while the kernel sends what it forgets to the server, which
/// it does in the background, and tells nobody when it is done.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Starts the process. It ends with the machine, or when the server knows no such
/// question.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn begin() -> Result<(), Failure> {
    let child = clone_process(0, None).doing("start the process that forgets names")?;
    if child.is_some() {
        return Ok(());
    }
    close_all_except(&[]);
    // Without it the first container that holds too many names would be the last.
    fs::write("/proc/self/oom_score_adj", "-1000").unwrap_or_default();
    while let Some(level) = ask() {
        follow(level);
    }
    exit_now(0)
}

/// What the server wants, when it wants something.
fn ask() -> Option<u8> {
    let mut level = [0_u8; 1];
    loop {
        match getxattr(SHARE_PATH, FORGET_ATTRIBUTE, &mut level) {
            Ok(_) => return Some(level[0]),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn follow(level: u8) {
    if level == FORGET_PAUSE {
        // Woken early it asks early.
        let _: NanosleepRelativeResult = nanosleep(&PAUSE);
        return;
    }
    // What was used since the kernel last looked is spared once, and goes at the second
    // look. Refused by no kernel; the server finds out that nothing was forgotten.
    for _ in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", [level]).unwrap_or_default();
    }
}
