//! A disk (virtio 1.3, section 5.2): a raw image, one queue, synchronous.
//!
//! `request` parses what the guest asks and checks it against the disk; this file
//! moves the bytes.

mod limits;
mod request;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX,
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vm_memory::GuestMemoryMmap;

use self::limits::{SEGMENT_LEN, SEGMENTS};
use self::request::{DiskRequest, SECTOR_LEN};
use super::chain::Chain;
use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use super::span::Span;
use super::turn::Turn;

const QUEUE_SIZES: [u16; 1] = [128];
/// Length of a serial number.
const SERIAL_LEN: usize = 20;
const CONFIG_LEN: usize = 24;
/// Bytes moved at once.
const BUFFER_LEN: usize = 64 * 1024;

/// What the guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    /// From the flag of a spec or request.
    pub(crate) fn read_only(read_only: bool) -> Self {
        if read_only {
            Self::ReadOnly
        } else {
            Self::ReadWrite
        }
    }
}

/// A file can't be a disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its length is unknown.
    #[error("measure the disk image")]
    Measure(#[source] io::Error),
    /// The serial number is too long.
    #[error("the serial number has {0} bytes, more than {SERIAL_LEN}")]
    Serial(usize),
}

/// The block device.
#[derive(Debug)]
pub(crate) struct Block {
    disk: Disk,
    config: [u8; CONFIG_LEN],
    active: Option<ActiveQueues>,
}

/// What is behind the device.
#[derive(Debug)]
struct Disk {
    image: File,
    sectors: u64,
    access: Access,
    serial: [u8; SERIAL_LEN],
    buffer: Vec<u8>,
}

impl Block {
    /// A disk with the contents of `image`; a last incomplete sector is left out.
    pub(crate) fn new(mut image: File, access: Access, serial: &str) -> Result<Self, OpenError> {
        // Unlike its metadata, the end is known for block devices as well.
        let len = image.seek(SeekFrom::End(0)).map_err(OpenError::Measure)?;
        let sectors = len / SECTOR_LEN;
        let mut padded = [0; SERIAL_LEN];
        match padded.get_mut(..serial.len()) {
            Some(start) => start.copy_from_slice(serial.as_bytes()),
            None => return Err(OpenError::Serial(serial.len())),
        }
        let mut config = [0; CONFIG_LEN];
        // `capacity`, `size_max` and `seg_max` of `struct virtio_blk_config`.
        let shown = sectors.to_le_bytes().into_iter();
        let shown = shown.chain(SEGMENT_LEN.to_le_bytes());
        let shown = shown.chain(SEGMENTS.to_le_bytes());
        config
            .iter_mut()
            .zip(shown)
            .for_each(|(at, byte)| *at = byte);
        Ok(Self {
            disk: Disk {
                image,
                sectors,
                access,
                serial: padded,
                buffer: Vec::new(),
            },
            config,
            active: None,
        })
    }
}

impl VirtioDevice for Block {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let read_only = u64::from(self.disk.access == Access::ReadOnly) << VIRTIO_BLK_F_RO;
        read_only | 1 << VIRTIO_BLK_F_SIZE_MAX | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_FLUSH
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: ActiveQueues, _events: &mut dyn Events) -> Result<(), Error> {
        self.disk.buffer = vec![0; BUFFER_LEN];
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let disk = &mut self.disk;
        active.serve(queue, events, |mem, chain, turn| {
            disk.answer(mem, chain, turn)
        })
    }

    fn reset(&mut self, _events: &mut dyn Events) {
        self.active = None;
        self.disk.buffer = Vec::new();
    }
}

impl Disk {
    /// Carries out one request; returns the bytes written into the chain.
    fn answer(
        &mut self,
        mem: &GuestMemoryMmap,
        chain: &Chain<'_>,
        turn: &mut Turn,
    ) -> Result<u32, Error> {
        let mut from_guest = Span::readable(mem, chain)?;
        let mut status = Span::writable(mem, chain)?;
        let room = status.byte_len().checked_sub(1);
        let Some(mut to_guest) = room.and_then(|len| status.split_front(len)) else {
            return Err(Error::Guest(
                "a disk request has no room for its status".to_owned(),
            ));
        };
        let room = to_guest.byte_len();
        let outcome = match DiskRequest::read(&mut from_guest, room, self.sectors) {
            Ok(request) => self.execute(request, from_guest, &mut to_guest, turn),
            Err(refused) => Err(refused.into()),
        };
        let code = match outcome {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => VIRTIO_BLK_S_UNSUPP,
            Err(_) => VIRTIO_BLK_S_IOERR,
        };
        // All codes fit into the one byte of a status, for which there is room.
        status.copy_from(&code.to_le_bytes()[..1]);
        let written = room - to_guest.byte_len() + 1;
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn execute(
        &mut self,
        request: DiskRequest,
        from_guest: Span<'_>,
        to_guest: &mut Span<'_>,
        turn: &mut Turn,
    ) -> io::Result<()> {
        match request {
            DiskRequest::Read { offset, len } => {
                turn.spend(len);
                self.read(offset, len, to_guest)
            }
            DiskRequest::Write { .. } if self.access == Access::ReadOnly => {
                Err(io::ErrorKind::ReadOnlyFilesystem.into())
            }
            DiskRequest::Write { offset, len } => {
                turn.spend(len);
                self.write(offset, len, from_guest)
            }
            DiskRequest::Flush => {
                turn.end();
                self.image.sync_data()
            }
            DiskRequest::Serial => {
                let room = to_guest.split_front(SERIAL_LEN).ok_or_else(too_short)?;
                room.copy_from(&self.serial);
                Ok(())
            }
        }
    }

    fn read(&mut self, mut offset: u64, mut len: usize, room: &mut Span<'_>) -> io::Result<()> {
        while len > 0 {
            let part = part(&mut self.buffer, len);
            self.image.read_exact_at(part, offset)?;
            let place = room.split_front(part.len()).ok_or_else(too_short)?;
            place.copy_from(part);
            offset += part.len() as u64;
            len -= part.len();
        }
        Ok(())
    }

    fn write(&mut self, mut offset: u64, mut len: usize, mut data: Span<'_>) -> io::Result<()> {
        while len > 0 {
            let part = part(&mut self.buffer, len);
            let place = data.split_front(part.len()).ok_or_else(too_short)?;
            place.copy_to(part);
            self.image.write_all_at(part, offset)?;
            offset += part.len() as u64;
            len -= part.len();
        }
        Ok(())
    }
}

/// The guest's buffers are shorter than the request; its status is an error.
fn too_short() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// As much of `buffer` as `len` needs.
fn part(buffer: &mut [u8], len: usize) -> &mut [u8] {
    let len = len.min(buffer.len());
    buffer.split_at_mut(len).0
}

#[cfg(test)]
#[path = "block_test.rs"]
mod tests;
