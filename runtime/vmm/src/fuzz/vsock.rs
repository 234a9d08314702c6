//! Packets of a hostile guest, with an owner that takes, reads, writes and drops streams
//! at any moment.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use arbitrary::{Result, Unstructured};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::virtio::vsock::muxer::Muxer;
use crate::virtio::vsock::packet::{HOST_CID, Header, STREAM};

const GUEST: u64 = 3;
/// Longest payload that is tried.
const MAX_PAYLOAD_LEN: usize = 8 * 1024;

/// The device, its owner, and the streams that the owner holds.
struct MuxerWorld {
    muxer: Muxer,
    owner: UnixDatagram,
    streams: Vec<UnixStream>,
}

/// Tries one course of packets and of the owner's doings.
pub fn vsock_packets(bytes: &[u8]) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without descriptors there is nothing to try.
    let Ok((device, owner)) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
    else {
        return;
    };
    let Ok(muxer) = Muxer::new(GUEST, device) else {
        return;
    };
    let mut world = MuxerWorld {
        muxer,
        owner: owner.into(),
        streams: Vec::new(),
    };
    let mut bytes = Unstructured::new(bytes);
    while !bytes.is_empty() && world.step(&mut bytes).is_ok() {}
}

impl MuxerWorld {
    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.int_in_range(0..=9)? {
            0..=4 => self.send(bytes)?,
            5 => self.take(bytes)?,
            6 => self.muxer.host_ready().unwrap_or_default(),
            7 => self.accept(),
            8 => self.use_stream(bytes)?,
            _ => {
                let dropped = bytes.choose_index(self.streams.len().max(1))?;
                if dropped < self.streams.len() {
                    drop(self.streams.swap_remove(dropped));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let (header, len) = header(bytes)?;
        let mut payload = vec![0x5a; len];
        let (front, back) = payload.split_at_mut(len / 3);
        self.muxer.receive(&header, &[front.into(), back.into()]);
        Ok(())
    }

    fn take(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let len = bytes.int_in_range(0..=MAX_PAYLOAD_LEN)?;
        let mut room = vec![0; len];
        if let Some(header) = self.muxer.next(&[room.as_mut_slice().into()]) {
            assert!(header.len as usize <= len, "more than there is room for");
            assert_eq!(header.dst_cid, GUEST);
        }
        Ok(())
    }

    fn accept(&mut self) {
        let mut port = [0; 4];
        if let Ok((_, Some(file))) = self.owner.recv_with_fd(&mut port) {
            let stream = UnixStream::from(OwnedFd::from(file));
            // A stream that blocks would keep the loop.
            if stream.set_nonblocking(true).is_ok() {
                self.streams.push(stream);
            }
        }
    }

    fn use_stream(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let number = bytes.choose_index(self.streams.len().max(1))?;
        let mut buffer = vec![0xa5; bytes.int_in_range(1..=MAX_PAYLOAD_LEN)?];
        if let Some(mut stream) = self.streams.get(number) {
            // Neither has to succeed, or to go all the way.
            if bytes.arbitrary()? {
                stream.read(&mut buffer).unwrap_or_default();
            } else {
                stream.write(&buffer).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// A header, and the length of the payload that goes with it. Mostly plausible: few
/// ports, the right addresses, the length that follows.
fn header(bytes: &mut Unstructured<'_>) -> Result<(Header, usize)> {
    let len = bytes.int_in_range(0..=MAX_PAYLOAD_LEN)?;
    let plausible = Header {
        src_cid: GUEST,
        dst_cid: HOST_CID,
        src_port: bytes.int_in_range(0..=3)?,
        dst_port: bytes.int_in_range(1024..=1025)?,
        len: u32::try_from(len).unwrap_or(0),
        kind: STREAM,
        op: bytes.int_in_range(0..=8)?,
        flags: bytes.int_in_range(0..=3)?,
        buf_alloc: bytes.arbitrary()?,
        fwd_cnt: bytes.arbitrary()?,
    };
    let strange = |value: u32| if value == 0 { u32::MAX } else { value };
    Ok(match bytes.int_in_range(0..=31)? {
        0 => (
            Header {
                src_cid: bytes.arbitrary()?,
                ..plausible
            },
            len,
        ),
        1 => (
            Header {
                dst_cid: bytes.arbitrary()?,
                ..plausible
            },
            len,
        ),
        2 => (
            Header {
                kind: bytes.arbitrary()?,
                ..plausible
            },
            len,
        ),
        3 => (
            Header {
                op: bytes.arbitrary()?,
                ..plausible
            },
            len,
        ),
        4 => (
            Header {
                src_port: strange(bytes.arbitrary()?),
                ..plausible
            },
            len,
        ),
        5 => (
            Header {
                dst_port: strange(bytes.arbitrary()?),
                ..plausible
            },
            len,
        ),
        6 => (
            Header {
                flags: bytes.arbitrary()?,
                ..plausible
            },
            len,
        ),
        _ => (plausible, len),
    })
}
