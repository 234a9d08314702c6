//! The guest's console (virtio 1.3, section 5.3): one port, output only.
//!
//! The owner reads the other end of the output; a slow or dead owner costs the
//! guest its output, never its time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use vm_memory::WriteVolatile;

use super::device::{ActiveQueues, Error, Events, VirtioDevice};
use super::span::Span;

const TRANSMIT: u16 = 1;
const QUEUE_SIZES: [u16; 2] = [16, 64];
/// `struct virtio_console_config`, nothing of which is used without features.
const CONFIG: [u8; 12] = [0; 12];
/// Bytes taken of one chain; a driver that sends more loses the rest.
const MAX_TEXT_LEN: usize = 64 * 1024;

/// The console device.
#[derive(Debug)]
pub(crate) struct Console {
    output: File,
    active: Option<ActiveQueues>,
}

impl Console {
    /// A console that writes to `output`, which is made non-blocking.
    pub(crate) fn new(output: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&output, FcntlArg::F_GETFL)?);
        fcntl(&output, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            output: output.into(),
            active: None,
        })
    }
}

impl VirtioDevice for Console {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &CONFIG
    }

    fn activate(&mut self, active: ActiveQueues, _events: &mut dyn Events) -> Result<(), Error> {
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, queue: u16, events: &mut dyn Events) -> Result<(), Error> {
        let Some(active) = self.active.as_mut().filter(|_| queue == TRANSMIT) else {
            return Ok(());
        };
        let output = &mut self.output;
        active.serve(queue, events, |mem, chain, turn| {
            let text = Span::readable(mem, chain)?.take_front(MAX_TEXT_LEN);
            turn.spend(text.byte_len());
            for piece in text.slices() {
                // What does not fit is dropped.
                output.write_volatile(piece).unwrap_or(0);
            }
            Ok(0)
        })
    }

    fn reset(&mut self, _events: &mut dyn Events) {
        self.active = None;
    }
}
