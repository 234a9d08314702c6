//! Where a case comes from: random numbers that a seed determines, and changes to bytes
//! that were good for something before.

/// Most bytes of a case.
const MAX_LEN: usize = 16 * 1024;
/// Most changes that a kept case gets at once.
const MAX_CHANGES: u64 = 8;
/// Most bytes that one change touches.
const MAX_SPAN_LEN: usize = 64;
/// Bytes at which code tends to change its mind.
const TURNING_POINTS: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, b'"'];

/// A random sequence (splitmix64): the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.next().to_le_bytes();
        byte
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The next case: new, or made of one or two of `kept`.
pub(crate) fn next_case(random: &mut Random, kept: &[Vec<u8>]) -> Vec<u8> {
    let from = random.below(kept.len());
    match kept.get(from) {
        Some(case) if !random.one_in(4) => change(random, case, kept),
        _ => new_case(random),
    }
}

/// Random bytes: short ones more often than long ones.
fn new_case(random: &mut Random) -> Vec<u8> {
    let most = MAX_LEN >> random.below(10);
    let len = random.below(most + 1);
    (0..len).map(|_| random.byte()).collect()
}

fn change(random: &mut Random, case: &[u8], kept: &[Vec<u8>]) -> Vec<u8> {
    let mut changed = case.to_vec();
    let changes = 1 + random.next() % MAX_CHANGES;
    for _ in 0..changes {
        change_once(random, &mut changed, kept);
    }
    changed.truncate(MAX_LEN);
    changed
}

fn change_once(random: &mut Random, case: &mut Vec<u8>, kept: &[Vec<u8>]) {
    let at = random.below(case.len());
    let span_end = (at + 1 + random.below(MAX_SPAN_LEN)).min(case.len());
    match random.below(6) {
        0 => case.iter_mut().skip(at).take(1).for_each(|byte| {
            *byte ^= 1 << random.below(8);
        }),
        1 => {
            let point = random.below(TURNING_POINTS.len());
            let point = TURNING_POINTS.get(point).copied().unwrap_or(0);
            case.iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = point);
        }
        2 => drop(case.drain(at.min(span_end)..span_end)),
        3 => {
            let copied = case.get(at..span_end).unwrap_or_default().to_vec();
            case.splice(at..at, copied);
        }
        4 => {
            let len = random.below(MAX_SPAN_LEN);
            let inserted: Vec<u8> = (0..len).map(|_| random.byte()).collect();
            case.splice(at..at, inserted);
        }
        _ => {
            // The end of another one.
            let other = kept.get(random.below(kept.len())).map_or(&[][..], |it| it);
            case.truncate(at);
            case.extend(other.iter().skip(random.below(other.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_cases() {
        let kept = [b"abc".to_vec(), vec![], vec![7; 300]];
        let cases = |seed| {
            let mut random = Random::new(seed);
            let cases: Vec<_> = (0..2000).map(|_| next_case(&mut random, &kept)).collect();
            cases
        };
        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
        assert!(cases(3).iter().all(|case| case.len() <= MAX_LEN));
    }
}
