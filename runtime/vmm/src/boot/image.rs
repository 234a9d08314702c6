//! Reading an image file into guest memory without touching its pages.
//!
//! A plain read goes through this process's mapping: each page is faulted in and
//! zeroed before it is overwritten. Here the kernel copies from file to memory file
//! itself, which takes a third of the time. Knows no formats.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use rustix::fs::sendfile;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, ReadVolatile,
    VolatileMemoryError, VolatileSlice,
};

/// An image file, to be read into the guest's memory below 4 GiB.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    file: &'a mut File,
    target: Option<Target<'a>>,
}

/// A region of guest memory and the file behind it.
#[derive(Debug)]
struct Target<'a> {
    memory: &'a File,
    file_offset: u64,
    /// Address of the region in this process.
    base: usize,
    len: u64,
}

impl<'a> Image<'a> {
    pub(crate) fn new(file: &'a mut File, mem: &'a GuestMemoryMmap) -> Self {
        let region = mem.find_region(GuestAddress(0));
        let target = region.and_then(|region| {
            let backing = region.file_offset()?;
            Some(Target {
                memory: backing.file(),
                file_offset: backing.start(),
                base: region.as_ptr().addr(),
                len: region.len(),
            })
        });
        Self { file, target }
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Copies up to `buf.len()` bytes; `None` if that can't be done this way.
    fn copy<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Option<usize> {
        let target = self.target.as_ref()?;
        let from_base = buf.ptr_guard().as_ptr().addr().checked_sub(target.base)? as u64;
        let end = from_base.checked_add(buf.len() as u64)?;
        if end > target.len {
            return None;
        }
        let mut memory = target.memory;
        let position = SeekFrom::Start(target.file_offset + from_base);
        memory.seek(position).ok()?;
        sendfile(memory, &*self.file, None, buf.len()).ok()
    }
}

impl Read for Image<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

impl Seek for Image<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl ReadVolatile for Image<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        match self.copy(buf) {
            Some(len) => Ok(len),
            None => self.file.read_volatile(buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, FileOffset};
    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = TempFile::new().unwrap().into_file();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn read_at(mem: &GuestMemoryMmap, at: u64) -> [u8; 8] {
        let mut source = file(b"abcdefghij");
        let mut image = Image::new(&mut source, mem);
        image.seek(SeekFrom::Start(2)).unwrap();
        let at = GuestAddress(at);
        mem.read_exact_volatile_from(at, &mut image, 8).unwrap();
        assert_eq!(image.stream_position().unwrap(), 10);
        mem.read_obj::<[u8; 8]>(at).unwrap()
    }

    #[test]
    fn both_ways_read_the_same() {
        let anonymous = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8192)]).unwrap();
        assert_eq!(&read_at(&anonymous, 5000), b"cdefghij");
        let backing = Some(FileOffset::new(file(&[0; 3 * 4096]), 4096));
        let ranges = [(GuestAddress(0), 8192, backing)];
        let shared = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        assert_eq!(&read_at(&shared, 5000), b"cdefghij");
    }

    #[test]
    fn memory_of_another_region_is_read_the_plain_way() {
        let low = Some(FileOffset::new(file(&[0; 4096]), 0));
        let ranges = [
            (GuestAddress(0), 4096, low),
            (GuestAddress(1 << 32), 4096, None),
        ];
        let mem = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        assert_eq!(&read_at(&mem, 1 << 32), b"cdefghij");
    }
}
