//! Taking over descriptors that the process was started with, or is sent.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::spec::DescriptorNumber;

/// Lowest number a spec may name: 0 to 2 are the standard streams.
const FIRST: DescriptorNumber = 3;

/// A number in the spec is not a descriptor to take.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is a standard stream or negative.
    #[error("descriptor {0} can't be passed in a spec")]
    Reserved(DescriptorNumber),
    /// Two places of the spec name it.
    #[error("descriptor {0} is named twice")]
    Twice(DescriptorNumber),
    /// Nothing is open under that number.
    #[error("descriptor {number} is not open")]
    Closed {
        /// The number.
        number: DescriptorNumber,
        /// The kernel's error.
        #[source]
        source: Errno,
    },
}

/// The descriptors a process inherited; each can be taken once.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    taken: BTreeSet<DescriptorNumber>,
}

impl Inherited {
    /// Takes ownership of `number` and marks it close-on-exec.
    pub(crate) fn take(&mut self, number: DescriptorNumber) -> Result<OwnedFd, TakeError> {
        if number < FIRST {
            return Err(TakeError::Reserved(number));
        }
        if !self.taken.insert(number) {
            return Err(TakeError::Twice(number));
        }
        // SAFETY: the number is not negative, and the value does not outlive this call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|source| TakeError::Closed { number, source })?;
        // SAFETY: the descriptor is open (just checked), it was inherited, so that no
        // other part of this process owns it, and `taken` lets it be taken only once.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// Most descriptors in one packet; more are refused by closing them.
const MAX_SENT: usize = 8;

/// Receives one packet; returns its length and the descriptors that came with it.
pub(crate) fn receive_packet(
    socket: BorrowedFd<'_>,
    packet: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = nix::cmsg_space!([RawFd; MAX_SENT]);
    let mut parts = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and
            // nothing else knows of them.
            let adopt = |number| unsafe { OwnedFd::from_raw_fd(number) };
            descriptors.extend(numbers.into_iter().map(adopt));
        }
    }
    Ok((message.bytes, descriptors))
}
