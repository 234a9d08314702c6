//! Brings `lo` up.
//!
//! Owns no other interface.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sets the loopback interface up; the kernel then gives it its addresses.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    let control: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    for (slot, byte) in name.iter_mut().zip(*b"lo") {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOOPBACK;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(up).unwrap_or_default(),
        },
    };
    // SAFETY: the request is complete, outlives the call and isn't kept.
    let result =
        unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
