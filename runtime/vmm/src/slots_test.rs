//! Effects that come in another order than they were written, or not at all; devices
//! that are busy beside others.

use proptest::prelude::*;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::model::{DATA_AT, KINDS, Model, RING_LEN};
use crate::virtio::guest_ring::{NEXT, WRITE};

const RNG: usize = 3;
const BLOCK: usize = 5;

/// The guest brings the device up, resets it, and so on, `count` times.
fn effects(model: &Model, slot: usize, count: usize) -> Vec<Effect> {
    let once = |_| {
        let up = model.bring_up(slot);
        let down = model.write_register(slot, VIRTIO_MMIO_STATUS, 0);
        [up, down]
    };
    (0..count).flat_map(once).flatten().collect()
}

#[test]
fn a_device_whose_reset_was_lost_is_stopped_and_started_anew() {
    let mut model = Model::new().unwrap();
    for (slot, kind) in KINDS.iter().enumerate() {
        for _ in 0..3 {
            let up = model.bring_up(slot).unwrap();
            model
                .apply(slot, up)
                .unwrap_or_else(|error| panic!("{kind}: {error}"));
            let (active, present) = model.epochs(slot);
            assert_eq!(active, present, "{kind}");
            // The effect is dropped.
            model.write_register(slot, VIRTIO_MMIO_STATUS, 0);
        }
    }
}

#[test]
fn a_late_activation_and_a_late_reset_change_nothing() {
    let mut model = Model::new().unwrap();
    for (slot, kind) in KINDS.iter().enumerate() {
        let late = effects(&model, slot, 1);
        let up = model.bring_up(slot).unwrap();
        model.apply(slot, up).unwrap();
        let before = model.epochs(slot);
        for effect in late {
            model.apply(slot, effect).unwrap();
            assert_eq!(model.epochs(slot), before, "{kind}");
        }
        assert!(before.0.is_some(), "{kind}");
    }
}

/// A disk with a full ring of flushes, each of which is a turn, and an entropy source
/// that gets a request before each: neither waits for the other.
#[test]
fn a_busy_device_leaves_the_others_their_turn() {
    let mut model = Model::new().unwrap();
    for slot in [BLOCK, RNG] {
        let up = model.bring_up(slot).unwrap();
        model.apply(slot, up).unwrap();
    }
    // The kicks of `bring_up`.
    model.turn().unwrap();
    let busy = model.ring(BLOCK, 0);
    let flush = 4_u32.to_le();
    model.mem.write_obj(flush, GuestAddress(DATA_AT)).unwrap();
    busy.describe(0, Descriptor::new(DATA_AT, 16, NEXT, 1));
    busy.describe(1, Descriptor::new(DATA_AT + 64, 1, WRITE, 0));
    busy.fill_with(0);
    let other = model.ring(RNG, 0);
    other.describe(0, Descriptor::new(DATA_AT + 128, 8, WRITE, 0));
    other.fill_with(0);
    model.kick(BLOCK, 0);
    for turn in 1..=RING_LEN {
        other.announce(turn);
        model.kick(RNG, 0);
        model.turn().unwrap();
        assert_eq!((busy.used(), other.used()), (turn, turn));
    }
    model.turn().unwrap();
    assert_eq!(model.turn().unwrap(), [], "it came again for nothing");
}

proptest! {
    /// In whatever order effects come: no error of the host, and when all have come,
    /// the device is what its registers say.
    #[test]
    fn the_last_word_of_the_guest_counts_in_any_order(
        slot in 0..KINDS.len(),
        resets in 0_usize..4,
        ends_active: bool,
        order in prop::collection::vec(any::<prop::sample::Index>(), 9),
    ) {
        let mut model = Model::new().unwrap();
        let mut waiting = effects(&model, slot, resets);
        if ends_active {
            waiting.extend(model.bring_up(slot));
        }
        for next in order {
            if !waiting.is_empty() {
                let effect = waiting.swap_remove(next.index(waiting.len()));
                let outcome = model.apply(slot, effect);
                prop_assert!(outcome.is_ok(), "{}: {outcome:?}", KINDS[slot]);
            }
        }
        prop_assert!(waiting.is_empty());
        let (active, present) = model.epochs(slot);
        prop_assert_eq!(active, present.filter(|_| ends_active));
    }
}
