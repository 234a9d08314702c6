//! A packet as it crosses the tap: header and length.

/// Length of `struct virtio_net_hdr_v1`, which precedes every packet.
pub(super) const HEADER_LEN: usize = 12;
/// The longest packet, its header included: 64 KiB before segmentation.
pub(super) const MAX_PACKET_LEN: usize = HEADER_LEN + 14 + 65_536;
