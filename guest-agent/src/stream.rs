//! A non-blocking descriptor on the event loop: pipe, terminal or socket.
//!
//! Owns the descriptor. Does not interpret the bytes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::buffer::spare_capacity;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

use crate::sys;

/// A non-blocking descriptor on the event loop.
#[derive(Debug)]
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// Takes the descriptor and makes it non-blocking.
    ///
    /// # Errors
    /// The event loop's refusal, as for a regular file.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
        fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        sys::watch(descriptor).map(Self)
    }

    /// Takes the descriptor off the event loop and makes it blocking, for a program.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        let descriptor = self.0.into_inner();
        rustix::io::ioctl_fionbio(&descriptor, false)?;
        Ok(descriptor)
    }

    /// Appends what there is, at most the buffer's spare capacity, and returns
    /// its length; 0 is the end of the stream.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.0
            .async_io(Interest::READABLE, |fd| read_once(fd.as_fd(), buffer))
            .await
    }

    /// As [`Stream::read`], but never waits.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, and the kernel's.
    pub(crate) fn read_now(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        read_once(self.as_fd(), buffer)
    }

    /// Writes all of it, waiting for room as often as needed.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .0
                .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?))
                .await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Waits until a connection attempt has ended.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        // The readiness is kept: it comes once, and the first write needs it too.
        self.0.writable().await?.retain_ready();
        match rustix::net::sockopt::socket_error(&self.0)? {
            Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until no process has the other end of a pipe open.
    pub(crate) async fn abandoned(&self) {
        // An error of the wait itself means that the event loop is gone.
        drop(self.0.ready(Interest::ERROR).await);
    }
}

fn read_once(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::io::read(fd, spare_capacity(buffer))?)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd, unfilled)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Write) {
            // A pipe or a terminal has no other direction.
            Ok(()) | Err(rustix::io::Errno::NOTSOCK) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}
