//! The host's end of one connection: a nonblocking socket and the bytes it had no
//! room for.
//!
//! Owns bytes, not their accounting: the caller keeps within `BUFFER_LEN` by
//! credit. An idle stream has no buffer. The peer may vanish at any time; the
//! process ignores SIGPIPE, as every Rust program does.

use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

/// What a read met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// Nothing, for ever.
    End,
}

/// One connected stream socket.
#[derive(Debug)]
pub struct Stream {
    socket: UnixStream,
    backlog: Vec<u8>,
    /// Bytes at the front of `backlog` that were written since.
    flushed: usize,
}

impl Stream {
    /// Takes a nonblocking socket over.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            backlog: Vec::new(),
            flushed: 0,
        }
    }

    /// Number of bytes that wait for room in the socket.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.backlog.len() - self.flushed
    }

    /// Bytes wait for room in the socket.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.waiting_len() > 0
    }

    /// Writes `payload`, or keeps what the socket has no room for. Returns the number
    /// of bytes that reached the socket, earlier ones included.
    pub fn write(&mut self, payload: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for slice in payload {
            let len = if self.is_blocked() {
                0
            } else {
                self.write_slice(slice)?
            };
            written += len;
            if len < slice.len() {
                self.keep(&slice.offset(len).map_err(to_io)?)?;
            }
        }
        Ok(written)
    }

    /// Writes kept bytes until the socket is full. Returns their number.
    pub fn flush(&mut self) -> io::Result<usize> {
        let before = self.flushed;
        while let Some(rest @ [_, ..]) = self.backlog.get(self.flushed..) {
            match self.socket.write(rest) {
                Ok(len) => self.flushed += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let written = self.flushed - before;
        if self.flushed == self.backlog.len() {
            self.discard();
        }
        Ok(written)
    }

    /// Forgets kept bytes and gives their memory back.
    pub fn discard(&mut self) {
        self.backlog = Vec::new();
        self.flushed = 0;
    }

    /// Reads up to `limit` bytes into `room`.
    pub fn read(&mut self, room: &[VolatileSlice<'_>], limit: usize) -> io::Result<Read> {
        let mut total = 0;
        for slice in room {
            let len = slice.len().min(limit - total);
            if len == 0 {
                continue;
            }
            let mut part = slice.subslice(0, len).map_err(to_io)?;
            match self.socket.read_volatile(&mut part).map_err(to_io) {
                Ok(0) if total == 0 => return Ok(Read::End),
                Ok(count) if count == len => total += count,
                Ok(count) => return Ok(Read::Bytes(total + count)),
                Err(error) if total > 0 || error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(if total == 0 {
            Read::Empty
        } else {
            Read::Bytes(total)
        })
    }

    /// Closes one direction; the peer reads an end of file, or gets EPIPE.
    pub fn shutdown(&self, direction: Shutdown) -> io::Result<()> {
        self.socket.shutdown(direction)
    }

    fn write_slice(&mut self, slice: &VolatileSlice<'_>) -> io::Result<usize> {
        let mut written = 0;
        while written < slice.len() {
            let rest = slice.offset(written).map_err(to_io)?;
            match self.socket.write_volatile(&rest).map_err(to_io) {
                Ok(len) => written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn keep(&mut self, slice: &VolatileSlice<'_>) -> io::Result<()> {
        self.backlog.drain(..self.flushed);
        self.flushed = 0;
        self.backlog.reserve_exact(slice.len());
        self.backlog.write_volatile(slice).map_err(to_io).map(drop)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn to_io(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    }
}
