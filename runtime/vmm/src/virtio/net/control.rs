//! Commands of the guest (virtio 1.3, section 5.1.6.5): one, how many pairs of queues
//! it uses.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use vm_memory::GuestMemoryMmap;

use crate::virtio::chain::Chain;
use crate::virtio::span::Span;

/// Class, command, and how many (u16, little endian).
const COMMAND_LEN: usize = 4;

/// Answers the command in `chain`; what it wants goes to `wanted`. Returns the length
/// of the answer.
pub(super) fn answer(
    mem: &GuestMemoryMmap,
    chain: &Chain<'_>,
    most: usize,
    wanted: &mut Option<usize>,
) -> u32 {
    let mut command = [0; COMMAND_LEN];
    let read = Span::readable(mem, chain).ok();
    if let Some(span) = read.filter(|span| span.byte_len() >= COMMAND_LEN) {
        span.copy_to(&mut command);
    }
    let pairs = parse(command, most);
    *wanted = pairs.or(*wanted);
    let verdict = if pairs.is_some() {
        VIRTIO_NET_OK
    } else {
        VIRTIO_NET_ERR
    };
    let Some(room) = Span::writable(mem, chain)
        .ok()
        .filter(|room| room.byte_len() > 0)
    else {
        return 0;
    };
    room.copy_from(&[u8::try_from(verdict).unwrap_or(u8::MAX)]);
    1
}

/// How many pairs are wanted, if this is a command that can be obeyed.
fn parse(command: [u8; COMMAND_LEN], most: usize) -> Option<usize> {
    let [class, name, count @ ..] = command;
    let is_it = u32::from(class) == VIRTIO_NET_CTRL_MQ
        && u32::from(name) == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    let count = usize::from(u16::from_le_bytes(count));
    (is_it && (1..=most).contains(&count)).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_pairs_that_exist_are_taken() {
        assert_eq!(parse([4, 0, 1, 0], 3), Some(1));
        assert_eq!(parse([4, 0, 3, 0], 3), Some(3));
        for refused in [
            [4, 0, 0, 0],
            [4, 0, 4, 0],
            [4, 0, 1, 1],
            [4, 1, 1, 0],
            [0, 0, 1, 0],
        ] {
            assert_eq!(parse(refused, 3), None);
        }
    }
}
