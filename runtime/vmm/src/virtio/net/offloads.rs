//! What work on packets guest and host leave to each other (virtio 1.3, section
//! 5.1.3), and how the tap is set for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
};

use crate::sys::set_tap_offloads;

/// `TUN_F_*` of linux/if_tun.h.
const TUN_CSUM: u32 = 1;
const TUN_TSO4: u32 = 1 << 1;
const TUN_TSO6: u32 = 1 << 2;
const TUN_ECN: u32 = 1 << 3;
const TUN_USO: u32 = 1 << 5 | 1 << 6;

/// What is always offered.
const ALWAYS: [u32; 10] = [
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
];
/// What taps can since Linux 6.2.
const NEWER: [u32; 3] = [
    VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_USO,
];

/// The offloads that a tap has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offloads {
    newer: bool,
}

impl Offloads {
    /// Finds out by asking the tap for them.
    pub(super) fn of_tap(tap: &OwnedFd) -> io::Result<Self> {
        let tap = tap.as_fd();
        let newer = set_tap_offloads(tap, TUN_CSUM | TUN_USO).is_ok();
        set_tap_offloads(tap, 0)?;
        Ok(Self { newer })
    }

    /// None that is new.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) const fn none() -> Self {
        Self { newer: false }
    }

    /// Feature bits to offer.
    pub(super) fn features(self) -> u64 {
        let newer: &[u32] = if self.newer { &NEWER } else { &[] };
        let bits = ALWAYS.iter().chain(newer);
        bits.fold(0, |features, bit| features | 1 << bit)
    }

    /// Lets the tap hand over exactly what the guest can take.
    pub(super) fn apply(self, tap: BorrowedFd<'_>, features: u64) -> io::Result<()> {
        set_tap_offloads(tap, tun_flags(features))
    }
}

fn tun_flags(features: u64) -> u32 {
    let agreed = |bit: u32| features >> bit & 1 == 1;
    if !agreed(VIRTIO_NET_F_GUEST_CSUM) {
        return 0;
    }
    let uso = agreed(VIRTIO_NET_F_GUEST_USO4) && agreed(VIRTIO_NET_F_GUEST_USO6);
    [
        (true, TUN_CSUM),
        (agreed(VIRTIO_NET_F_GUEST_TSO4), TUN_TSO4),
        (agreed(VIRTIO_NET_F_GUEST_TSO6), TUN_TSO6),
        (agreed(VIRTIO_NET_F_GUEST_ECN), TUN_ECN),
        (uso, TUN_USO),
    ]
    .into_iter()
    .filter(|(agreed, _)| *agreed)
    .fold(0, |flags, (_, flag)| flags | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_is_told_what_the_guest_has_acknowledged() {
        assert_eq!(tun_flags(0), 0);
        let all = Offloads { newer: true }.features();
        assert_eq!(tun_flags(all), 0b110_1111);
        let older = Offloads { newer: false }.features();
        assert_eq!(tun_flags(older), 0b1111);
        assert_eq!(tun_flags(1 << VIRTIO_NET_F_GUEST_TSO4), 0);
        let some = 1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_TSO6;
        assert_eq!(tun_flags(some), 0b101);
    }
}
