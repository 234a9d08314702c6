//! Walks along chains that loop, leave their table, or stand for tables.

use proptest::prelude::*;

use super::*;
use crate::virtio::guest_ring::{GuestRing, INDIRECT, NEXT, WRITE};

const LEN: u16 = 256;
const TABLE_AT: u64 = 0x1_0000;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap()
}

/// What a walk along the chain at `head` finds: the number of descriptors, and how it
/// ends.
fn walk(
    mem: &GuestMemoryMmap,
    ring: &GuestRing,
    tables: IndirectTables,
) -> (usize, Option<String>) {
    ring.fill_with(0);
    let chain = Chain::next_of(&mut ring.queue(), mem, tables);
    let chain = chain.unwrap().unwrap();
    let found: Vec<_> = chain.descriptors().collect();
    let error = found.iter().find_map(|item| item.as_ref().err());
    (
        found.iter().filter(|item| item.is_ok()).count(),
        error.map(ToString::to_string),
    )
}

#[test]
fn a_loop_ends_with_an_error_after_the_longest_chain() {
    let mem = memory();
    let ring = GuestRing::new(&mem, 0, LEN);
    ring.describe(0, Descriptor::new(0, 1, NEXT, 0));
    let (count, error) = walk(&mem, &ring, IndirectTables::Refused);
    assert_eq!(count, usize::from(MAX_DESCRIPTORS));
    assert_eq!(error.as_deref(), Some("invalid descriptor chain"));
}

#[test]
fn a_table_is_refused_where_none_was_offered() {
    let mem = memory();
    let ring = GuestRing::new(&mem, 0, LEN);
    ring.describe(0, Descriptor::new(TABLE_AT, 160, INDIRECT, 0));
    assert_eq!(
        walk(&mem, &ring, IndirectTables::Refused),
        (0, Some("invalid indirect descriptor".into()))
    );
}

#[test]
fn a_table_that_is_followed_is_no_longer_than_a_chain_and_holds_no_other() {
    let mem = memory();
    let ring = GuestRing::new(&mem, 0, LEN);
    let table = GuestRing::new(&mem, TABLE_AT, 1024);
    ring.describe(0, Descriptor::new(TABLE_AT, 1024 * 16, INDIRECT, 0));
    for index in 0..1024 {
        table.describe(index, Descriptor::new(0, 0, NEXT, index + 1));
    }
    let (count, error) = walk(&mem, &ring, IndirectTables::Followed);
    assert_eq!(count, usize::from(MAX_DESCRIPTORS));
    assert_eq!(error.as_deref(), Some("invalid descriptor chain"));
    table.describe(1, Descriptor::new(TABLE_AT, 160, INDIRECT, 0));
    assert_eq!(
        walk(&mem, &ring, IndirectTables::Followed),
        (1, Some("invalid indirect descriptor".into()))
    );
}

proptest! {
    /// Whatever is in the table: a walk ends, is no longer than queue and limit, finds
    /// less than 2^32 bytes, and each descriptor once in each of the two halves.
    #[test]
    fn every_walk_is_bounded(
        descriptors in prop::collection::vec(
            (any::<u64>(), any::<u32>(), 0_u16..8, 0_u16..20),
            1..17,
        ),
        shift in 0_u32..32,
        followed: bool,
    ) {
        let mem = memory();
        let ring = GuestRing::new(&mem, 0, 16);
        for (index, (address, len, flags, next)) in (0..).zip(descriptors) {
            let address = if flags & INDIRECT == 0 { address } else { address % 0x4_0000 };
            ring.describe(index, Descriptor::new(address, len >> shift, flags, next));
        }
        ring.fill_with(0);
        let tables = if followed { IndirectTables::Followed } else { IndirectTables::Refused };
        let chain = Chain::next_of(&mut ring.queue(), &mem, tables).unwrap().unwrap();
        let found: Vec<_> = chain.descriptors().collect();
        prop_assert!(found.len() <= 17);
        let whole = found.iter().flatten();
        let bytes: u64 = whole.clone().map(|descriptor| u64::from(descriptor.len())).sum();
        prop_assert!(bytes <= u64::from(u32::MAX));
        let failed = found.iter().filter(|item| item.is_err()).count();
        prop_assert!(failed <= 1 && found.iter().rev().skip(1).all(Result::is_ok));
        prop_assert!(followed || whole.clone().all(|descriptor| descriptor.flags() & INDIRECT == 0));
        let written = whole.filter(|descriptor| descriptor.flags() & WRITE != 0).count();
        prop_assert_eq!(chain.writable().flatten().count(), written);
        prop_assert_eq!(
            chain.readable().flatten().count() + written,
            found.len() - failed
        );
    }
}
