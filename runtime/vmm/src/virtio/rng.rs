//! The entropy source (virtio 1.3, section 5.4): the host's random numbers.

use rustix::rand::GetRandomFlags;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use super::span::Span;

const QUEUE_SIZES: [u16; 1] = [8];
/// Most bytes given for one request; a driver that wants more asks again.
const MOST: usize = 256;

/// The entropy device.
#[derive(Debug, Default)]
pub(crate) struct Rng {
    active: Option<ActiveQueues>,
}

impl VirtioDevice for Rng {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, active: ActiveQueues, _events: &mut dyn Events) -> Result<(), Error> {
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        active.serve(queue, events, |mem, chain, _| {
            let room = Span::writable(mem, chain)?;
            let mut random = [0; MOST];
            let len = room.byte_len().min(MOST);
            let random = random.get_mut(..len).unwrap_or_default();
            // Requests of up to 256 bytes are never answered in part.
            let given = rustix::rand::getrandom(&mut *random, GetRandomFlags::empty());
            given.map_err(|error| Error::Host {
                part: "get random numbers",
                source: error.into(),
            })?;
            room.copy_from(random);
            Ok(u32::try_from(len).unwrap_or(0))
        })
    }

    fn reset(&mut self, _events: &mut dyn Events) {
        self.active = None;
    }
}
