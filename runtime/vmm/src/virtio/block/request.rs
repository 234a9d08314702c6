//! What a guest can ask of a disk, parsed and checked (virtio 1.3, section 5.2.6).

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};

use super::limits::MAX_DATA_LEN;
use crate::virtio::span::Span;

/// Unit of positions and lengths in requests, in bytes.
pub(super) const SECTOR_LEN: u64 = 512;

/// A request that this disk can be asked. Offsets and lengths are bytes inside the
/// disk, and as much data is in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskRequest {
    Read { offset: u64, len: usize },
    Write { offset: u64, len: usize },
    Flush,
    Serial,
}

/// Why a request is refused; the guest learns it by the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The header is shorter than it has to be.
    Header,
    /// No such request.
    Kind,
    /// Partly outside of the disk, not whole sectors, or more than is offered.
    Range,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Kind => io::ErrorKind::Unsupported.into(),
            Refused::Header | Refused::Range => io::ErrorKind::InvalidInput.into(),
        }
    }
}

impl DiskRequest {
    /// Reads the header; the data to write is what `from_guest` has left then, the room
    /// for data to read is `room` bytes.
    pub(super) fn read(
        from_guest: &mut Span<'_>,
        room: usize,
        sectors: u64,
    ) -> Result<Self, Refused> {
        let mut header = [0; 16];
        let front = from_guest.split_front(header.len());
        front.ok_or(Refused::Header)?.copy_to(&mut header);
        Self::parse(header, from_guest.byte_len(), room, sectors)
    }

    /// `data` bytes follow the header and there is room for `room` bytes of answer, on
    /// a disk of `sectors`.
    fn parse(header: [u8; 16], data: usize, room: usize, sectors: u64) -> Result<Self, Refused> {
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            VIRTIO_BLK_T_IN => {
                let (offset, len) = range(sector, room, sectors)?;
                Ok(Self::Read { offset, len })
            }
            VIRTIO_BLK_T_OUT => {
                let (offset, len) = range(sector, data, sectors)?;
                Ok(Self::Write { offset, len })
            }
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID => Ok(Self::Serial),
            _ => Err(Refused::Kind),
        }
    }
}

fn range(sector: u64, data_len: usize, sectors: u64) -> Result<(u64, usize), Refused> {
    let len = u64::try_from(data_len).map_err(|_| Refused::Range)?;
    let count = len / SECTOR_LEN;
    let end = sector.checked_add(count).ok_or(Refused::Range)?;
    if !len.is_multiple_of(SECTOR_LEN) || end > sectors || data_len > MAX_DATA_LEN {
        return Err(Refused::Range);
    }
    Ok((sector * SECTOR_LEN, data_len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: u32, sector: u64) -> [u8; 16] {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        header
    }

    #[test]
    fn requests_are_told_apart() {
        let parse = |kind| DiskRequest::parse(header(kind, 1), 512, 1024, 3);
        assert_eq!(
            parse(0),
            Ok(DiskRequest::Read {
                offset: 512,
                len: 1024
            })
        );
        assert_eq!(
            parse(1),
            Ok(DiskRequest::Write {
                offset: 512,
                len: 512
            })
        );
        assert_eq!(parse(4), Ok(DiskRequest::Flush));
        assert_eq!(parse(8), Ok(DiskRequest::Serial));
        assert_eq!(parse(2), Err(Refused::Kind));
    }

    proptest! {
        #[test]
        fn an_accepted_range_is_inside_the_disk(
            bytes: [u8; 16],
            kind in 0_u8..2,
            sector: u64,
            data: usize,
            room: usize,
            sectors in 0..u64::MAX / SECTOR_LEN,
        ) {
            let sector_bytes = sector.to_le_bytes();
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes[8..].copy_from_slice(&sector_bytes);
            match DiskRequest::parse(bytes, data, room, sectors) {
                Ok(DiskRequest::Read { offset, len } | DiskRequest::Write { offset, len }) => {
                    prop_assert!(offset + len as u64 <= sectors * SECTOR_LEN);
                    prop_assert!(len <= MAX_DATA_LEN);
                }
                Ok(DiskRequest::Flush | DiskRequest::Serial) => prop_assert!(false),
                Err(_) => {}
            }
        }
    }
}
