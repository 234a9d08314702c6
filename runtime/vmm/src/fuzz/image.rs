//! Kernel images that are damaged or made to do damage, with any file as initramfs.

use std::fs::File;
use std::io::{self, Write};

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::tempfile::TempFile;

use crate::arch::kernel;

/// Bytes of guest memory: a kernel's place begins at 1 MiB.
const MEM_LEN: usize = 4 << 20;

/// Loads `bytes` as a kernel, and as the initramfs behind it.
pub fn kernel_image(bytes: &[u8]) {
    let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEM_LEN)]);
    // Without memory or files there is nothing to try.
    let (Ok(mem), Ok(mut image), Ok(mut initramfs)) = (mem, file(bytes), file(bytes)) else {
        return;
    };
    if let Ok(images) = kernel::load(&mem, &mut image, &mut initramfs) {
        let end = images.initramfs.start + images.initramfs.len;
        assert!(end <= MEM_LEN as u64, "the initramfs leaves memory");
    }
}

fn file(bytes: &[u8]) -> io::Result<File> {
    let mut file = TempFile::new().map_err(io::Error::from)?.into_file();
    file.write_all(bytes)?;
    Ok(file)
}
