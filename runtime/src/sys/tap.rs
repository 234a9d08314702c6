//! The requests that make a tap of an open /dev/net/tun (linux/if_tun.h).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// Length of `struct virtio_net_hdr_v1`, which precedes every packet.
pub(crate) const TAP_HEADER_LEN: libc::c_int = 12;

mod requests {
    nix::ioctl_write_ptr_bad!(
        set_header_len,
        nix::request_code_write!(b'T', 216, 4),
        nix::libc::c_int
    );
}

/// Makes `descriptor` a tap whose packets have headers, or with `several` one of the
/// queues of such a tap; `%d` in the name of a new one becomes a number. Returns
/// the name.
pub(crate) fn make_tap(descriptor: &OwnedFd, name: &str, several: bool) -> io::Result<String> {
    let queues = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            // All flags are in the lower 15 bits.
            ifru_flags: libc::c_short::try_from(flags).unwrap_or_default(),
        },
    };
    let room = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    for (slot, byte) in room.zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the kernel reads and writes one ifreq, which lives until it answers.
    let answer = unsafe { libc::ioctl(descriptor.as_raw_fd(), SET_INTERFACE, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads one number, which lives until it answers.
    unsafe { requests::set_header_len(descriptor.as_raw_fd(), &TAP_HEADER_LEN) }?;
    let bytes = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    Ok(caisson_netlink::text(&bytes))
}

/// `TUNSETIFF`
const SET_INTERFACE: libc::c_ulong = nix::request_code_write!(b'T', 202, 4);
