//! Closes what a process inherited by accident. Owns no descriptor.

use std::os::fd::RawFd;

use crate::error::{Error, Step};
use crate::sys;

/// Closes every descriptor from 3 upwards that is not in `keep`.
pub(crate) fn keep_only(keep: &[RawFd]) -> Result<(), Error> {
    for (first, last) in gaps(keep) {
        sys::close_range(first, last).map_err(Step::CloseDescriptors.refused())?;
    }
    Ok(())
}

/// The ranges, both ends included, between the numbers of `keep`, from 3 to the
/// largest possible descriptor.
fn gaps(keep: &[RawFd]) -> Vec<(u32, u32)> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|&fd| u32::try_from(fd).ok())
        .collect();
    keep.sort_unstable();
    let mut first = 3;
    let mut gaps = Vec::with_capacity(keep.len() + 1);
    for fd in keep {
        if fd > first {
            gaps.push((first, fd - 1));
        }
        first = first.max(fd.saturating_add(1));
    }
    gaps.push((first, u32::MAX));
    gaps
}

#[cfg(test)]
mod tests {
    use super::gaps;

    #[test]
    fn everything_between_the_kept_numbers_is_closed() {
        assert_eq!(gaps(&[]), [(3, u32::MAX)]);
        assert_eq!(gaps(&[3, 4]), [(5, u32::MAX)]);
        assert_eq!(gaps(&[9, 4, 4, 1, -1]), [(3, 3), (5, 8), (10, u32::MAX)]);
    }
}
