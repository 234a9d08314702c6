//! Why a guest's kernel panicked, when it could not say so itself.
//!
//! Owns the search of a dead machine's memory for the kernel's own log. A kernel that
//! panics before its console exists has told nobody, yet what it would have said lies
//! in its memory, which outlives it. The bytes are the guest's: no more than a hint.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem;

/// What a panic begins with. The same words stand in the kernel's text with a
/// directive after them.
const WORDS: &[u8] = b"Kernel panic - not syncing: ";
/// The kernel and what is static in it, its log among that, lie below this address.
const SEARCHED: u64 = 64 << 20;
const STEP: usize = 1 << 20;
const MAX_LEN: usize = 200;

/// The line with the cause, if there is one.
pub(crate) fn find(memory: &File) -> Option<String> {
    let mut bytes = vec![0; STEP + WORDS.len() + MAX_LEN];
    (0..SEARCHED).step_by(STEP).find_map(|address| {
        let length = memory.read_at(&mut bytes, address).ok()?;
        bytes.get(..length).and_then(first)
    })
}

fn first(bytes: &[u8]) -> Option<String> {
    memmem::find_iter(bytes, WORDS).find_map(|at| {
        let line = bytes.get(at..)?;
        let console_tail: String = line
            .iter()
            .take(MAX_LEN)
            .take_while(|byte| matches!(byte, b' '..=b'~'))
            .map(|&byte| char::from(byte))
            .collect();
        let cause = console_tail.get(WORDS.len()..)?;
        (!cause.is_empty() && !cause.starts_with('%')).then_some(console_tail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_behind_the_kernels_own_text() {
        let memory = tempfile::tempfile().unwrap();
        let text = |at, words: &[u8]| memory.write_all_at(words, at).unwrap();
        text(1 << 20, b"Kernel panic - not syncing: %s\n\0");
        text((2 << 20) - 3, b"Kernel panic - not syncing: no timer\0\xff");
        assert_eq!(
            find(&memory).as_deref(),
            Some("Kernel panic - not syncing: no timer")
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_a_silent_guest_says_nothing() {
        let memory = tempfile::tempfile().unwrap();
        assert_eq!(find(&memory), None);
        let line = [WORDS, &[b'x'; 1000]].concat();
        memory.write_all_at(&line, 4096).unwrap();
        assert_eq!(find(&memory).unwrap().len(), MAX_LEN);
        // Beyond the kernel's place the words are somebody else's.
        memory.set_len(0).unwrap();
        memory.write_all_at(&line, SEARCHED + (2 << 20)).unwrap();
        assert_eq!(find(&memory), None);
    }
}
