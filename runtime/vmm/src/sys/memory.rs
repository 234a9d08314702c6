//! Advice to the kernel on the use of guest memory.

use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::VolatileSlice;

/// Asks for huge pages under `slice`, whose ends are page-aligned. Whether there are
/// any depends on the memory file and the host's settings.
pub(crate) fn advise_huge_pages(slice: &VolatileSlice<'_>) -> Result<(), Errno> {
    let guard = slice.ptr_guard_mut();
    let Some(start) = NonNull::new(guard.as_ptr()) else {
        return Err(Errno::EFAULT);
    };
    // SAFETY: this advice changes neither contents nor validity of a mapping, and the
    // range is one that is mapped as long as the slice lives.
    unsafe { madvise(start.cast(), slice.len(), MmapAdvise::MADV_HUGEPAGE) }
}
