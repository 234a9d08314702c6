//! A user namespace that nobody lives in, for the maps it has.

use std::fs::File;
use std::io::{self, Read, pipe};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

/// Makes a user namespace. `write_maps` gets the number of a process in it, whose
/// files in /proc take the maps.
///
/// # Errors
/// The kernel's refusal of the namespace, or what `write_maps` answers.
pub(crate) fn user_namespace(
    write_maps: impl FnOnce(i32) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let (mut ready, tell) = pipe()?;
    let (hold, release) = pipe()?;
    let (tell_number, hold_number) = (tell.as_raw_fd(), hold.as_raw_fd());
    let release_number = release.as_raw_fd();
    // SAFETY: the child makes system calls only, until it ends: it takes no lock that
    // another thread of the parent may hold, and allocates nothing.
    let child = match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => live_in_namespace(tell_number, hold_number, release_number),
    };
    drop((tell, hold));
    let mut answer = [libc::EIO.to_le_bytes()[0]];
    let made = ready.read_exact(&mut answer).and_then(|()| match answer {
        [0] => write_maps(child.as_raw()),
        [errno] => Err(io::Error::from_raw_os_error(errno.into())),
    });
    let namespace = made.and_then(|()| File::open(format!("/proc/{child}/ns/user")));
    drop(release);
    reap(child)?;
    namespace.map(OwnedFd::from)
}

fn reap(child: Pid) -> io::Result<()> {
    while let Err(errno) = waitpid(child, None) {
        if errno != nix::errno::Errno::EINTR {
            return Err(errno.into());
        }
    }
    Ok(())
}

/// Body of the child: tells its errno, and stays until the other side hangs up.
fn live_in_namespace(tell: i32, hold: i32, release: i32) -> ! {
    // SAFETY: takes a number and changes this process alone.
    let made = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    let errno = if made {
        0
    } else {
        nix::errno::Errno::last_raw()
    };
    let answer = errno.to_le_bytes();
    let mut word = [0_u8];
    // SAFETY: the number is that of the child's own copy, which nothing uses later.
    unsafe { libc::close(release) };
    // SAFETY: the byte outlives the call.
    unsafe { libc::write(tell, answer.as_ptr().cast(), 1) };
    // SAFETY: the byte outlives the call, and may be written to.
    unsafe { libc::read(hold, word.as_mut_ptr().cast(), 1) };
    // SAFETY: ends the child without the exit functions of the parent.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_map_ends_the_child_too() {
        let mut number = 0;
        let refused = user_namespace(|pid| {
            number = pid;
            Err(io::ErrorKind::Unsupported.into())
        });
        refused.unwrap_err();
        // Where user namespaces are forbidden, no map is ever asked for.
        assert!(number == 0 || !std::path::Path::new(&format!("/proc/{number}")).exists());
    }
}
