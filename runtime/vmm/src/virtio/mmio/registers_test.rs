//! The register file, driven as a driver does, and as no driver would.

use proptest::prelude::*;
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;

use super::super::RegisterWindow;
use super::*;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

struct Bench {
    registers: Registers,
    page: RegisterPage,
}

impl Bench {
    fn new() -> Self {
        Self::with(Identity {
            device_id: 4,
            features: TRANSPORT_FEATURES | 1,
            queue_sizes: vec![8, 16],
            config: vec![1, 2, 3, 4, 5],
        })
    }

    fn with(identity: Identity) -> Self {
        let page = RegisterWindow::new(1).unwrap().page(0).unwrap();
        Self {
            registers: Registers::new(page.clone(), identity),
            page,
        }
    }

    fn write(&mut self, register: u32, value: u32) -> Option<Effect> {
        self.registers.write(register.into(), &value.to_le_bytes())
    }

    fn read(&self, register: u32) -> u32 {
        self.page.load(register)
    }

    fn accept(&mut self, features: u64) {
        self.write(VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
        for (selector, half) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, selector);
            self.write(VIRTIO_MMIO_DRIVER_FEATURES, u32::try_from(half).unwrap());
        }
        self.write(VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    }

    fn set_up_queue(&mut self, index: u32, size: u32) {
        self.write(VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(VIRTIO_MMIO_QUEUE_NUM, size);
        self.write(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
        self.write(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000);
        self.write(VIRTIO_MMIO_QUEUE_USED_HIGH, 1);
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
    }

    fn start(&mut self) -> Option<Effect> {
        self.write(
            VIRTIO_MMIO_STATUS,
            ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
        )
    }
}

#[test]
fn a_slot_introduces_its_device() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!(bench.read(VIRTIO_MMIO_VERSION), 2);
    assert_eq!(bench.read(VIRTIO_MMIO_DEVICE_ID), 4);
    assert_eq!(bench.read(VIRTIO_MMIO_CONFIG), 0x0403_0201);
    assert_eq!(bench.read(VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
    bench.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_eq!(bench.read(VIRTIO_MMIO_DEVICE_FEATURES), 1);
    bench.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(bench.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
    bench.write(VIRTIO_MMIO_QUEUE_SEL, 2);
    assert_eq!(bench.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

#[test]
fn a_driver_that_follows_the_steps_gets_a_device() {
    let mut bench = Bench::new();
    bench.accept(VERSION_1 | 1);
    assert_ne!(bench.read(VIRTIO_MMIO_STATUS) & FEATURES_OK, 0);
    bench.set_up_queue(1, 4);
    assert_eq!(bench.read(VIRTIO_MMIO_QUEUE_READY), 1);
    let Some(Effect::Activate(setup)) = bench.start() else {
        panic!("not started");
    };
    assert_eq!(setup.features, VERSION_1 | 1);
    assert!(!setup.queues[0].ready());
    let queue = &setup.queues[1];
    assert!(queue.ready() && !queue.event_idx_enabled());
    assert_eq!(queue.size(), 4);
    assert_eq!((queue.desc_table(), queue.avail_ring()), (0x1000, 0x2000));
    assert_eq!(queue.used_ring() >> 32, 1);
}

#[test]
fn features_that_are_not_offered_are_refused() {
    for features in [VERSION_1 | 2, VERSION_1 | 1 << VIRTIO_F_RING_PACKED, 1] {
        let mut bench = Bench::new();
        bench.accept(features);
        assert_eq!(bench.read(VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER);
        assert!(bench.start().is_none());
    }
}

#[test]
fn steps_cannot_be_left_out() {
    let mut bench = Bench::new();
    assert!(bench.write(VIRTIO_MMIO_STATUS, DRIVER_OK).is_none());
    assert_eq!(bench.read(VIRTIO_MMIO_STATUS), 0);
    bench.write(VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    bench.set_up_queue(0, 4);
    assert_eq!(bench.read(VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn a_driver_that_failed_gets_nothing_more() {
    let mut bench = Bench::new();
    bench.accept(VERSION_1);
    bench.write(VIRTIO_MMIO_STATUS, FAILED);
    assert!(bench.start().is_none());
    assert_ne!(bench.read(VIRTIO_MMIO_STATUS) & FAILED, 0);
}

#[test]
fn a_reset_stops_an_active_device_once() {
    let mut bench = Bench::new();
    bench.accept(VERSION_1);
    bench.set_up_queue(0, 4);
    bench.start();
    assert!(matches!(
        bench.write(VIRTIO_MMIO_STATUS, 0),
        Some(Effect::Reset { .. })
    ));
    assert_eq!(bench.read(VIRTIO_MMIO_STATUS), 0);
    assert_eq!(bench.read(VIRTIO_MMIO_QUEUE_READY), 0);
    assert!(bench.write(VIRTIO_MMIO_STATUS, 0).is_none());
}

#[test]
fn a_broken_device_asks_for_a_reset_unless_it_had_one() {
    let mut bench = Bench::new();
    bench.accept(VERSION_1);
    let Some(Effect::Activate(setup)) = bench.start() else {
        panic!("not started");
    };
    assert!(bench.registers.mark_needs_reset(setup.epoch));
    assert_ne!(bench.read(VIRTIO_MMIO_STATUS) & NEEDS_RESET, 0);
    bench.write(VIRTIO_MMIO_STATUS, 0);
    assert!(!bench.registers.mark_needs_reset(setup.epoch));
    assert_eq!(bench.read(VIRTIO_MMIO_STATUS), 0);
}

#[test]
fn an_empty_slot_ignores_writes_until_it_is_filled() {
    let mut bench = Bench::with(Identity::default());
    assert_eq!(bench.read(VIRTIO_MMIO_MAGIC_VALUE), MAGIC);
    assert_eq!(bench.read(VIRTIO_MMIO_DEVICE_ID), 0);
    bench.accept(VERSION_1);
    assert_eq!(bench.read(VIRTIO_MMIO_STATUS), 0);
    bench.registers.attach(Identity {
        device_id: 2,
        features: TRANSPORT_FEATURES,
        queue_sizes: vec![8],
        config: Vec::new(),
    });
    bench.accept(VERSION_1);
    assert!(matches!(bench.start(), Some(Effect::Activate(_))));
}

#[test]
fn acknowledging_clears_the_configuration_bit_only() {
    let mut bench = Bench::new();
    let all = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;
    bench
        .page
        .set_bits(VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_INT_CONFIG);
    bench.write(VIRTIO_MMIO_INTERRUPT_ACK, all);
    assert_eq!(
        bench.read(VIRTIO_MMIO_INTERRUPT_STATUS),
        VIRTIO_MMIO_INT_VRING
    );
}

proptest! {
    /// Any bytes anywhere: no panic, one start per reset, and the status keeps its order.
    #[test]
    fn arbitrary_writes_leave_a_consistent_slot(
        writes in prop::collection::vec(
            (
                prop_oneof![0_u64..0x120, any::<u64>(), Just(u64::from(VIRTIO_MMIO_STATUS))],
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..9),
                    (0_u8..16).prop_map(|low| vec![low, 0, 0, 0]),
                ],
            ),
            0..200,
        ),
    ) {
        let mut bench = Bench::new();
        let mut active = false;
        for (offset, bytes) in writes {
            match bench.registers.write(offset, &bytes) {
                Some(Effect::Activate(setup)) => {
                    prop_assert!(!active);
                    prop_assert_eq!(setup.features & !bench.registers.identity.features, 0);
                    active = true;
                }
                Some(Effect::Reset { .. }) => {
                    prop_assert!(active);
                    active = false;
                }
                Some(Effect::Config { .. }) | None => {}
            }
            let status = bench.read(VIRTIO_MMIO_STATUS);
            prop_assert_eq!(status & DRIVER_OK != 0, active);
            prop_assert!(status & DRIVER_OK == 0 || status & FEATURES_OK != 0);
            prop_assert_eq!(bench.read(VIRTIO_MMIO_DEVICE_ID), 4);
        }
    }
}
