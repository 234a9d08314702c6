//! How much one request of the guest may move.

/// Data buffers of one request: the queue without header and status.
pub(super) const SEGMENTS: u32 = 126;
/// Most bytes of one of them.
pub(super) const SEGMENT_LEN: u32 = 64 * 1024;
/// Most bytes of data of one request, which follows from the two.
pub(super) const MAX_DATA_LEN: usize = (SEGMENTS * SEGMENT_LEN) as usize;
