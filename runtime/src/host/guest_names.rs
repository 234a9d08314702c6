//! How many names and open files of shares a guest may hold, and what they cost the host.
//!
//! Each is a descriptor of the file server, and pins a name and a node of the host's
//! kernel. Owns the figures alone: the file server counts.

/// For each MiB of the guest's memory. Linux needs about one KiB for a name, so these
/// take an eighth of it.
const NAMES_PER_MIB: u64 = 128;
/// What every guest may hold.
const MIN_NAMES: u64 = 65_536;
/// What the server's own limit of open files allows at most.
const MAX_NAMES: u64 = 999_872;
/// What one takes of the host's memory, in bytes: the server's own notes (700) and what
/// the kernel keeps of the file.
const NAME_SIZE: u64 = 3_584;

/// How many a guest with `mem_mib` MiB of memory may hold.
#[must_use]
pub(crate) fn limit(mem_mib: u32) -> u64 {
    (u64::from(mem_mib) * NAMES_PER_MIB).clamp(MIN_NAMES, MAX_NAMES)
}

/// The host's memory that they take at most, in MiB.
#[must_use]
pub(crate) fn cost_mib(mem_mib: u32) -> u64 {
    (limit(mem_mib) * NAME_SIZE).div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use crate::host::guest_names::{cost_mib, limit};

    #[test]
    fn the_limit_follows_the_guests_memory() {
        assert_eq!(limit(128), 65_536);
        assert_eq!(limit(512), 65_536);
        assert_eq!(limit(1024), 131_072);
        assert_eq!(limit(u32::MAX), 999_872);
        assert_eq!(cost_mib(512), 224);
        assert_eq!(cost_mib(1024), 448);
    }
}
