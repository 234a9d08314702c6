//! Register writes of several vCPUs on a machine with a device of each kind: effects
//! are applied in any order, or lost; rings are filled and kicked beside that.

use arbitrary::{Result, Unstructured};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_STATUS};
use virtio_queue::desc::split::Descriptor;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::arch::SLOT_LEN;
use crate::model::{DATA_AT, KINDS, Model, RING_LEN};
use crate::virtio::device::Error;
use crate::virtio::mmio::Effect;

/// Effects that wait at most: as many as the mailbox has room for.
const MAX_WAITING: usize = 16;

/// Tries one course of writes.
pub fn register_writes(bytes: &[u8]) {
    // Without descriptors or memory there is nothing to try.
    let Ok(model) = Model::new() else {
        return;
    };
    let mut machine = Course {
        model,
        waiting: Vec::new(),
    };
    let mut bytes = Unstructured::new(bytes);
    while !bytes.is_empty() && machine.step(&mut bytes).is_ok() {}
}

struct Course {
    model: Model,
    waiting: Vec<(usize, Effect)>,
}

impl Course {
    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let slot = bytes.int_in_range(0..=KINDS.len())?;
        match bytes.int_in_range(0..=9)? {
            0 => {
                let effect = self.model.bring_up(slot);
                self.wait_for(slot, effect);
            }
            1 => {
                let effect = self.model.write_register(slot, VIRTIO_MMIO_STATUS, 0);
                self.wait_for(slot, effect);
            }
            2..=3 => self.write(slot, bytes)?,
            4..=5 => self.apply(bytes)?,
            6 => self.fill(slot, bytes)?,
            7 => self.model.kick(slot, bytes.int_in_range(0..=3)?),
            8 => self.act_from_outside(bytes)?,
            _ => judge(&self.model.turn().map(drop)),
        }
        Ok(())
    }

    fn write(&mut self, slot: usize, bytes: &mut Unstructured<'_>) -> Result<()> {
        let offset = match bytes.int_in_range(0..=3)? {
            0 => bytes.int_in_range(0..=SLOT_LEN - 1)?,
            1 => u64::from(VIRTIO_MMIO_CONFIG) + bytes.int_in_range(0..=31)?,
            _ => bytes.int_in_range(0..=63)? * 4,
        };
        let value: u64 = match bytes.arbitrary()? {
            true => bytes.int_in_range(0..=15)?,
            false => bytes.arbitrary()?,
        };
        let len = *bytes.choose(&[4, 4, 4, 1, 2, 8])?;
        let value = value.to_le_bytes();
        let written = value.get(..len).unwrap_or_default();
        let effect = self.model.write(slot, offset, written);
        self.wait_for(slot, effect);
        Ok(())
    }

    fn wait_for(&mut self, slot: usize, effect: Option<Effect>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.extend(effect.map(|effect| (slot, effect)));
        }
    }

    /// One that waits, or loses it.
    fn apply(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let chosen = bytes.choose_index(self.waiting.len())?;
        let (slot, effect) = self.waiting.swap_remove(chosen);
        if bytes.int_in_range(0..=7)? > 0 {
            judge(&self.model.apply(slot, effect));
            let (active, present) = self.model.epochs(slot);
            assert!(
                active <= present,
                "{}: an epoch to come",
                KINDS.get(slot).unwrap_or(&"")
            );
        }
        Ok(())
    }

    /// A chain in one of its rings.
    fn fill(&self, slot: usize, bytes: &mut Unstructured<'_>) -> Result<()> {
        if slot >= KINDS.len() {
            return Ok(());
        }
        let ring = self.model.ring(slot, bytes.int_in_range(0..=3)?);
        for index in 0..bytes.int_in_range(0..=RING_LEN - 1)? {
            let address = DATA_AT + bytes.int_in_range(0..=0x1_0000_u64)?;
            let (len, flags) = (
                bytes.int_in_range(0..=0x1_0000)?,
                bytes.int_in_range(0..=3)?,
            );
            ring.describe(index, Descriptor::new(address, len, flags, index + 1));
            ring.offer(index, index);
        }
        ring.announce(bytes.arbitrary()?);
        Ok(())
    }

    fn act_from_outside(&self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let far = self.model.far();
        if bytes.arbitrary()? {
            let len = bytes.int_in_range(0..=2000_usize)?;
            far.network.send(&vec![0; len]).unwrap_or(0);
        } else if far.channel.set_nonblocking(true).is_ok() {
            drop(far.channel.recv_with_fd(&mut [0; 4]));
        }
        Ok(())
    }
}

/// A device that was broken stops by itself; nothing ends the machine.
fn judge(outcome: &std::result::Result<(), Error>) {
    assert!(outcome.is_ok(), "the machine ends: {outcome:?}");
}
