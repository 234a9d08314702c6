//! Opens a guest kernel, and says what is wrong with it before a machine does.
//!
//! Reads the ELF header and program headers (System V ABI, chapters 4 and 5),
//! no more: what lies in them is the machine's affair.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::config::installation::GuestImage;
use crate::vm::hypervisor_error::Error;

const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
/// 64-bit, little-endian.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const MACHINE_X86_64: u16 = 0x3e;

/// Opens the image's kernel.
pub(crate) fn open(image: &GuestImage) -> Result<File, Error> {
    let wrong = |reason: String| Error::Kernel {
        path: image.kernel.display().to_string(),
        reason,
    };
    let file = File::open(&image.kernel).map_err(|err| wrong(err.to_string()))?;
    match check(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(wrong("not an uncompressed x86-64 vmlinux".into())),
        Err(_) => Err(wrong("truncated: build it again with `make kernel`".into())),
    }
}

/// Whether it is a vmlinux; an error means that the file ends before it should.
fn check(file: &File) -> std::io::Result<bool> {
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    if !header.starts_with(MAGIC) || short(&header, 18) != MACHINE_X86_64 {
        return Ok(false);
    }
    let table = long(&header, 32);
    for number in 0..u64::from(short(&header, 56)) {
        let mut segment = [0; SEGMENT_LEN];
        file.read_exact_at(
            &mut segment,
            table.saturating_add(number * SEGMENT_LEN as u64),
        )?;
        let end = long(&segment, 8).saturating_add(long(&segment, 32));
        if let Some(last) = end.checked_sub(1) {
            file.read_exact_at(&mut [0], last)?;
        }
    }
    Ok(true)
}

fn short(bytes: &[u8], at: usize) -> u16 {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map_or(0, |part| u16::from_le_bytes(*part))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.map_or(0, |part| u64::from_le_bytes(*part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A vmlinux with one segment of 100 bytes behind its headers.
    fn kernel(len: usize) -> File {
        let mut bytes = vec![0; HEADER_LEN + SEGMENT_LEN + 100];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[18] = 0x3e;
        bytes[32] = 64;
        bytes[56] = 1;
        bytes[HEADER_LEN + 8] = 120;
        bytes[HEADER_LEN + 32] = 100;
        let flags = nix::sys::memfd::MFdFlags::empty();
        let mut file = File::from(nix::sys::memfd::memfd_create(c"kernel", flags).unwrap());
        file.write_all(&bytes[..len]).unwrap();
        file
    }

    #[test]
    fn a_whole_kernel_is_told_from_a_cut_one() {
        assert!(check(&kernel(220)).unwrap());
        for len in [0, 10, 63, 100, 219] {
            check(&kernel(len)).unwrap_err();
        }
    }

    #[test]
    fn another_file_is_not_a_kernel() {
        let null = kernel(220);
        null.write_all_at(b"MZ", 0).unwrap();
        assert!(!check(&null).unwrap());
    }
}
