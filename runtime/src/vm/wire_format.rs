//! Reads protobuf's wire format field by field
//! (protobuf.dev/programming-guides/encoding), without building anything.
//!
//! Owns lengths and kinds of fields. What a field means, and how many there may be, is
//! for whoever reads: bytes of a guest become memory of the host only there.

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message that is not protobuf")]
pub struct Malformed;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Any integer or boolean.
    Number(u64),
    /// 8 bytes, or 4 in the lower half: a double or a fixed number.
    Fixed(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message in their order, with their numbers; after a fault, no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            // What is more than 64 bits is dropped, as other readers do.
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn fixed(&mut self, length: usize) -> Option<u64> {
        let bytes = self.bytes(length)?;
        let mut whole = [0; 8];
        whole.get_mut(..length)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(whole))
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed(self.fixed(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Fixed(self.fixed(4)?),
            // Groups, which nobody writes any more, and nothing at all.
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_kinds_are_read_in_their_order() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // 3: 1.0
            0x25, 7, 0, 0, 0, // 4: 7
        ];
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Number(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed(1.0_f64.to_bits())),
            (4, Value::Fixed(7)),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_is_cut_off_or_no_field_ends_the_reading() {
        let endless = [0xff; 11];
        for bad in [
            &[0x08][..],
            &[0x12, 5, 1],
            &[0x19, 1],
            &[0x0b],
            &[0x00, 1],
            &endless,
        ] {
            let fields: Vec<_> = Fields::of(bad).collect();
            assert_eq!(fields, [Err(Malformed)], "{bad:?}");
        }
    }
}
