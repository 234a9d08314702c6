//! Messages and attributes: lengths, paddings, nesting (linux/netlink.h).

use nix::libc;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_LEN: usize = 4;
/// Bits of an attribute's kind that are flags of its encoding.
const KIND_FLAGS: u16 = 0x8000 | 0x4000;

/// A request under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of type `kind` (`RTM_*`) with flags beside `NLM_F_REQUEST`; `header`
    /// is the structure that this type begins with.
    #[must_use]
    pub fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or_default();
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        // Sequence number and port: one request is under way at a time, and the kernel is
        // the only peer.
        bytes.extend([0; 8]);
        bytes.extend(header);
        pad(&mut bytes);
        Self { bytes }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.bytes, kind, value);
        self
    }

    /// Adds an attribute that is a number of 32 bits.
    #[must_use]
    pub fn with_number(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds an attribute that is a text with a zero at its end.
    #[must_use]
    pub fn with_text(self, kind: u16, value: &str) -> Self {
        self.with(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that holds attributes.
    #[must_use]
    pub fn with_nested(self, kind: u16, attributes: &[(u16, &[u8])]) -> Self {
        self.with(kind, &Self::nested(attributes))
    }

    /// Attributes as the value of another one.
    #[must_use]
    pub fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut inside = Vec::new();
        for (kind, value) in attributes {
            append(&mut inside, *kind, value);
        }
        inside
    }

    /// The finished message, which asks for an acknowledgement with `NLM_F_ACK`.
    pub(crate) fn finish(&self, flags: i32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (first, rest) = bytes.split_at_mut(4);
        first.copy_from_slice(&length.to_ne_bytes());
        let flags = u16::try_from(flags).unwrap_or_default();
        for (byte, more) in rest.iter_mut().skip(2).zip(flags.to_ne_bytes()) {
            *byte |= more;
        }
        bytes
    }
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_LEN + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its type, `RTM_*`.
    pub kind: u16,
    /// The structure of the type, then attributes.
    pub body: Vec<u8>,
}

impl Answer {
    /// The structure of `len` bytes and the attributes after it; `None` if the
    /// message is shorter.
    #[must_use]
    pub fn split(&self, len: usize) -> Option<(&[u8], Attributes<'_>)> {
        let header = self.body.get(..len)?;
        let rest = self.body.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header, Attributes(rest)))
    }
}

/// Attributes one after the other: kind and value. Ends at the first that is cut off.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this kind.
    #[must_use]
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(ATTRIBUTE_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !KIND_FLAGS, value))
    }
}

/// A number of 32 bits; `None` if the value is shorter.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text, up to its zero.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let text = value.get(..end.unwrap_or(value.len())).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Parses a packet of the kernel: type, flags, body of each message.
pub(crate) fn parts(mut packet: &[u8]) -> impl Iterator<Item = Answer> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(packet)?).ok()?;
        let kind = u16::from_ne_bytes(packet.get(4..6)?.try_into().ok()?);
        let body = packet.get(HEADER_LEN..length)?.to_vec();
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, body })
    })
}

/// Reads a packet as the kernel's, to its last attribute; for the driver in tests/fuzz.
#[cfg(feature = "fuzz")]
pub fn try_packet(packet: &[u8]) {
    for reply in parts(packet) {
        for len in [8, 12, 16] {
            let attributes = reply.split(len).map(|(_, attributes)| attributes);
            for (_, value) in attributes.into_iter().flatten() {
                drop((number(value), text(value), Attributes(value).find(1)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_is_taken_apart() {
        let message = Message::new(20, libc::NLM_F_CREATE, &[1, 2, 3, 4, 5])
            .with_text(3, "eth0")
            .with_number(7, 70_000)
            .with_nested(18, &[(1, b"tun"), (2, &[9])]);
        let bytes = message.finish(libc::NLM_F_ACK);
        let mut replies = parts(&bytes);
        let reply = replies.next().unwrap();
        assert_eq!(replies.next(), None);
        assert_eq!(reply.kind, 20);
        let (header, attributes) = reply.split(5).unwrap();
        assert_eq!(header, [1, 2, 3, 4, 5]);
        assert_eq!(attributes.find(3).map(text).unwrap(), "eth0");
        assert_eq!(attributes.find(7).and_then(number), Some(70_000));
        let nested: Vec<_> = Attributes(attributes.find(18).unwrap()).collect();
        assert_eq!(nested, [(1, &b"tun"[..]), (2, &[9][..])]);
    }

    #[test]
    fn cut_off_messages_end_the_list_and_nothing_else() {
        let bytes = Message::new(20, 0, &[0; 8]).with_number(1, 2).finish(0);
        for length in 0..bytes.len() {
            let cut = parts(&bytes[..length]).count();
            assert_eq!(cut, 0);
            let attributes = Attributes(&bytes[..length]);
            assert!(attributes.count() <= length / ATTRIBUTE_LEN);
        }
    }
}
