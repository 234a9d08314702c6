//! The header in front of every vsock packet (virtio 1.3, 5.10.6).
//!
//! Owns its fields and their place in memory; gives them no meaning. A header that
//! was read from the guest is hostile in every field.

/// Address of the host end of every connection.
pub const HOST_CID: u64 = 2;
/// Bytes in front of the payload.
pub const HEADER_LEN: usize = 44;
/// `type` of a byte stream, the only one spoken here.
pub const STREAM: u16 = 1;
/// `flags` of a `Shutdown`: its sender receives no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// `flags` of a `Shutdown`: its sender sends no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for (`VIRTIO_VSOCK_OP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Asks for a connection.
    Request = 1,
    /// Grants it.
    Response = 2,
    /// Ends a connection at once, or answers to one that isn't there.
    Reset = 3,
    /// Ends one or both directions in order.
    Shutdown = 4,
    /// Carries payload.
    Data = 5,
    /// Carries nothing but the sender's buffer state, as every packet does.
    CreditUpdate = 6,
    /// Asks for a `CreditUpdate`.
    CreditRequest = 7,
}

impl Operation {
    /// The operation with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// Its number in a header.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// `struct virtio_vsock_hdr`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Sender's address.
    pub src_cid: u64,
    /// Receiver's address.
    pub dst_cid: u64,
    /// Sender's port.
    pub src_port: u32,
    /// Receiver's port.
    pub dst_port: u32,
    /// Bytes of payload.
    pub len: u32,
    /// Kind of socket (`type`).
    pub kind: u16,
    /// An [`Operation`], if it is a known one.
    pub op: u16,
    /// Meaning depends on the operation.
    pub flags: u32,
    /// Size of the sender's receive buffer, in bytes.
    pub buf_alloc: u32,
    /// Bytes the sender has taken out of its receive buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads the header out of its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(fields.take()),
            dst_cid: u64::from_le_bytes(fields.take()),
            src_port: u32::from_le_bytes(fields.take()),
            dst_port: u32::from_le_bytes(fields.take()),
            len: u32::from_le_bytes(fields.take()),
            kind: u16::from_le_bytes(fields.take()),
            op: u16::from_le_bytes(fields.take()),
            flags: u32::from_le_bytes(fields.take()),
            buf_alloc: u32::from_le_bytes(fields.take()),
            fwd_cnt: u32::from_le_bytes(fields.take()),
        }
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut bytes = [0; HEADER_LEN];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

/// The part of a header that isn't read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; zeros behind the end, which `HEADER_LEN` rules out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_fields_stand_where_the_specification_puts_them() {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 0x1122_3344,
            dst_port: 1024,
            len: 7,
            kind: STREAM,
            op: Operation::Data.number(),
            flags: SHUTDOWN_SEND,
            buf_alloc: 0x0004_0000,
            fwd_cnt: 0xffff_ffff,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[16..20], [0x44, 0x33, 0x22, 0x11]);
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(bytes[36..40], [0, 0, 4, 0]);
    }

    proptest! {
        #[test]
        fn header_is_unchanged_by_bytes_and_back(bytes in proptest::collection::vec(any::<u8>(), HEADER_LEN)) {
            let bytes: [u8; HEADER_LEN] = bytes.try_into().unwrap();
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn operation_numbers_match(number: u16) {
            if let Some(operation) = Operation::from_number(number) {
                prop_assert_eq!(operation.number(), number);
            }
        }
    }
}
