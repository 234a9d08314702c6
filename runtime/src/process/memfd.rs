//! Unnamed files in memory: what another process is to read, or may write at
//! any length without anyone reading meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// A file that holds `content`, read from its beginning. The name is for
/// listings of descriptors only.
///
/// # Errors
/// When descriptors or memory have run out.
pub(crate) fn memory_file(name: &CStr, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
