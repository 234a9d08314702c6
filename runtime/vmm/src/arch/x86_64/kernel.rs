//! Kernel, initramfs and command line, from descriptors into guest memory.
//!
//! The owner is trusted to name the right files, not to name good ones: a damaged
//! image is an error, never a panic.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Seek};

use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{Error as LoaderError, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

use super::FIRST_GSI;
use super::layout::{HIGH_RAM_START, LOW_GAP_START, SLOT_LEN, SLOTS_BASE};
use crate::boot::extent;
use crate::boot::image::Image;

/// Where the command line is put.
pub(crate) const CMDLINE_ADDRESS: u64 = 0x2_0000;
/// `COMMAND_LINE_SIZE` of Linux on x86: longest command line in bytes, its final zero
/// included.
pub(crate) const CMDLINE_CAPACITY: usize = 2048;
const PAGE: u64 = 4096;

/// Why a guest can't be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The image is no ELF file, or a damaged one.
    #[error("load the kernel")]
    Kernel(#[source] LoaderError),
    /// The image can't be started by the PVH protocol.
    #[error("the kernel has no PVH entry note (CONFIG_PVH)")]
    NoPvhEntry,
    /// The initramfs can't be read.
    #[error("read the initramfs")]
    Initramfs(#[source] io::Error),
    /// There is no room for the initramfs behind the kernel.
    #[error("kernel and initramfs ({initramfs_len} bytes) don't fit into guest memory")]
    NoRoom {
        /// Length of the initramfs.
        initramfs_len: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {0} bytes, more than {CMDLINE_CAPACITY}")]
    Cmdline(usize),
    /// Guest memory can't be written.
    #[error("write guest memory")]
    Memory(#[from] GuestMemoryError),
}

/// A stretch of guest memory with something in it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// What the start protocol has to know about the images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadedImages {
    /// The first instruction, in 32-bit mode.
    pub(crate) entry: u64,
    pub(crate) initramfs: Loaded,
}

/// Reads kernel and initramfs into `mem`.
pub(crate) fn load(
    mem: &GuestMemoryMmap,
    kernel: &mut File,
    initramfs: &mut File,
) -> Result<LoadedImages, Error> {
    let floor = Some(GuestAddress(HIGH_RAM_START));
    let mut initramfs = Image::new(initramfs, mem);
    let initramfs_len = initramfs.len().map_err(Error::Initramfs)?;
    extent::reserve(mem, kernel, initramfs_len);
    let mut kernel = Image::new(kernel, mem);
    let kernel = Elf::load(mem, None, &mut kernel, floor).map_err(Error::Kernel)?;
    let PvhBootCapability::PvhEntryPresent(entry) = kernel.pvh_boot_cap else {
        return Err(Error::NoPvhEntry);
    };
    Ok(LoadedImages {
        entry: entry.0,
        initramfs: load_initramfs(mem, &mut initramfs, initramfs_len, kernel.kernel_end)?,
    })
}

fn load_initramfs(
    mem: &GuestMemoryMmap,
    image: &mut Image<'_>,
    len: u64,
    kernel_end: u64,
) -> Result<Loaded, Error> {
    let ram_end = (mem.last_addr().0 + 1).min(LOW_GAP_START);
    let start =
        highest_place(len, kernel_end, ram_end).ok_or(Error::NoRoom { initramfs_len: len })?;
    let count = usize::try_from(len).map_err(|_| Error::NoRoom { initramfs_len: len })?;
    image.rewind().map_err(Error::Initramfs)?;
    mem.read_exact_volatile_from(GuestAddress(start), image, count)?;
    Ok(Loaded { start, len })
}

/// The last page-aligned address below `end` with `len` bytes, none below `floor`.
fn highest_place(len: u64, floor: u64, end: u64) -> Option<u64> {
    let start = end.checked_sub(len)? / PAGE * PAGE;
    (start >= floor).then_some(start)
}

/// `words` plus the words that announce `slots` virtio-mmio slots to the kernel.
pub(crate) fn cmdline(words: &str, slots: usize) -> String {
    let mut line = words.to_owned();
    let mut base = SLOTS_BASE;
    for gsi in (FIRST_GSI..).take(slots) {
        // Writing to a `String` can't fail.
        write!(
            line,
            " virtio_mmio.device={}K@{base:#x}:{gsi}",
            SLOT_LEN / 1024
        )
        .ok();
        base += SLOT_LEN;
    }
    line
}

/// Puts the command line, with its final zero, where `start_info` points.
pub(crate) fn write_cmdline(mem: &GuestMemoryMmap, line: &str) -> Result<(), Error> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(0);
    if bytes.len() > CMDLINE_CAPACITY {
        return Err(Error::Cmdline(bytes.len()));
    }
    mem.write_slice(&bytes, GuestAddress(CMDLINE_ADDRESS))?;
    Ok(())
}

#[cfg(test)]
#[path = "kernel_test.rs"]
mod tests;
