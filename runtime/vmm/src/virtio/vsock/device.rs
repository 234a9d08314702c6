//! The vsock device of the VMM (virtio 1.3, section 5.10).
//!
//! Owns the device's face towards a transport; `muxer` and `pump` do the work. The
//! event queue stays empty: nothing here moves a running guest to another host.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use vmm_sys_util::epoll::EventSet;

use super::muxer::{Error as MuxerError, Muxer};
use super::pump::{Error as PumpError, Rings, pump};
use super::{QUEUE_SIZES, RX_QUEUE, TX_QUEUE};
use crate::virtio::device::{ActiveQueues, Error, Events, VirtioDevice};

/// Device type (virtio 1.3, section 5).
const VSOCK_ID: u32 = 19;
/// The one descriptor that is watched: the muxer's.
const MUXER_TOKEN: u32 = 0;

/// A vsock device.
#[derive(Debug)]
pub struct Vsock {
    config: [u8; 8],
    muxer: Muxer,
    active: Option<ActiveQueues>,
}

impl Vsock {
    /// A device for the guest with this address; `channel` is the device's end of a
    /// SOCK_SEQPACKET pair.
    pub fn new(guest_cid: u32, channel: OwnedFd) -> io::Result<Self> {
        let guest_cid = u64::from(guest_cid);
        let muxer = Muxer::new(guest_cid, channel)?;
        Ok(Self {
            config: guest_cid.to_le_bytes(),
            muxer,
            active: None,
        })
    }

    fn pump(&mut self) -> Result<(), Error> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let [rx, tx, ..] = active.queues.as_mut_slice() else {
            return Ok(());
        };
        let mut rings = Rings {
            mem: &active.mem,
            rx,
            tx,
        };
        let signals = pump(&mut self.muxer, &mut rings)?;
        if signals.rx {
            active.interrupt.queue_used(RX_QUEUE);
        }
        if signals.tx {
            active.interrupt.queue_used(TX_QUEUE);
        }
        Ok(())
    }
}

impl VirtioDevice for Vsock {
    fn device_id(&self) -> u32 {
        VSOCK_ID
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: ActiveQueues, events: &mut dyn Events) -> Result<(), Error> {
        events
            .watch(self.muxer.as_fd(), EventSet::IN, MUXER_TOKEN)
            .map_err(|source| Error::Host {
                part: "watch the vsock device",
                source,
            })?;
        self.active = Some(active);
        Ok(())
    }

    fn queue_ready(&mut self, _queue: u16, _events: &mut dyn Events) -> Result<(), Error> {
        self.pump()
    }

    fn ready(
        &mut self,
        _token: u32,
        _readiness: EventSet,
        _events: &mut dyn Events,
    ) -> Result<(), Error> {
        self.muxer.host_ready()?;
        self.pump()
    }

    fn reset(&mut self, events: &mut dyn Events) {
        if self.active.take().is_some() {
            // It was watched since `activate`; there is nothing to do if it isn't.
            drop(events.unwatch(self.muxer.as_fd()));
        }
        self.muxer.clear();
    }
}

impl From<MuxerError> for Error {
    fn from(error: MuxerError) -> Self {
        match error {
            MuxerError::OwnerGone => Self::Host {
                part: "the owner of the vsock channel is gone",
                source: io::ErrorKind::BrokenPipe.into(),
            },
            MuxerError::Watch(source) => Self::Host {
                part: "watch vsock streams",
                source,
            },
        }
    }
}

impl From<PumpError> for Error {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Queue(source) => Self::Queue(source),
            PumpError::Host(error) => error.into(),
        }
    }
}
