//! Flow control against a model with counters that never wrap.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    GuestSends(u32),
    HostTakes(u32),
    DeviceAnnounces,
    DeviceSends(u32),
    GuestTakes(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200_000u32).prop_map(Step::GuestSends),
        (0..200_000u32).prop_map(Step::HostTakes),
        Just(Step::DeviceAnnounces),
        (0..200_000u32).prop_map(Step::DeviceSends),
        (0..200_000u32).prop_map(Step::GuestTakes),
    ]
}

/// Totals as the two ends see them.
#[derive(Default)]
struct Model {
    guest_sent: u64,
    host_took: u64,
    guest_knows: u64,
    device_sent: u64,
    guest_took: u64,
}

const GUEST_BUFFER_LEN: u32 = 0x40000;

impl Model {
    fn apply(&mut self, credit: &mut Credit, step: &Step) {
        match *step {
            Step::GuestSends(len) => {
                let room = u64::from(BUFFER_LEN) - (self.guest_sent - self.host_took);
                let fits = u64::from(len) <= room;
                assert_eq!(credit.received(len).is_ok(), fits);
                self.guest_sent += if fits { u64::from(len) } else { 0 };
            }
            Step::HostTakes(len) => {
                let len = u64::from(len).min(self.guest_sent - self.host_took);
                credit.forwarded(u32::try_from(len).unwrap());
                self.host_took += len;
            }
            Step::DeviceAnnounces => {
                credit.announce();
                self.guest_knows = self.host_took;
            }
            Step::DeviceSends(len) => {
                let len = len.min(credit.sendable());
                credit.sent(len);
                self.device_sent += u64::from(len);
                assert!(self.device_sent - self.guest_took <= u64::from(GUEST_BUFFER_LEN));
            }
            Step::GuestTakes(len) => {
                self.guest_took += u64::from(len).min(self.device_sent - self.guest_took);
                let wrapped = u32::try_from(self.guest_took & 0xffff_ffff).unwrap();
                credit.guest_announces(GUEST_BUFFER_LEN, wrapped);
            }
        }
    }
}

proptest! {
    #[test]
    fn credit_never_exceeds_either_buffer(steps in proptest::collection::vec(step(), 1..200)) {
        let mut credit = Credit::default();
        credit.guest_announces(GUEST_BUFFER_LEN, 0);
        let mut model = Model::default();
        for step in &steps {
            model.apply(&mut credit, step);
            let window = u64::from(BUFFER_LEN).saturating_sub(model.guest_sent - model.guest_knows);
            let drained = model.guest_sent == model.host_took;
            prop_assert!(window > 0 || !drained || credit.is_update_due(), "guest stalls for ever");
        }
    }

    #[test]
    fn any_words_of_the_guest_are_survived(words in proptest::collection::vec(any::<(u32, u32)>(), 1..50)) {
        let mut credit = Credit::default();
        for (buf_alloc, fwd_cnt) in words {
            credit.guest_announces(buf_alloc, fwd_cnt);
            let len = credit.sendable();
            prop_assert!(len <= buf_alloc);
            credit.sent(len);
        }
    }
}

#[test]
fn counters_wrap_at_four_gibibytes() {
    let mut credit = Credit {
        sent: Wrapping(u32::MAX - 9),
        ..Credit::default()
    };
    credit.guest_announces(100, u32::MAX - 9);
    credit.sent(50);
    assert_eq!(credit.sendable(), 50);
    credit.guest_announces(100, 40);
    assert_eq!(credit.sendable(), 100);
}
