//! How files are served: every option that differs from the library's default,
//! or that one would expect to, with its reason.

use std::fs::File;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use virtiofsd::passthrough::{CachePolicy, Config, NegotiationMode};

use crate::spec::Cache;

/// Descriptors kept back for the server itself: the socket, guest memory, rings
/// and what a request opens for a moment.
const OWN_DESCRIPTORS: u64 = 128;
/// As many as kernels allow one process by default (`fs.nr_open`), less a few.
const MAX_DESCRIPTORS: u64 = 1_000_000;

/// The options for serving `/` of the jail.
pub(super) fn config(cache: Cache, proc_self_fd: File) -> Config {
    let remembered = match cache {
        Cache::Auto => Duration::from_secs(1),
        Cache::Always => Duration::from_secs(86_400),
        Cache::Never => Duration::ZERO,
    };
    Config {
        entry_timeout: remembered,
        attr_timeout: remembered,
        // The library's `Auto` has the guest drop a file's pages at every open,
        // so nothing is ever read from them again. Kept, they go when attributes
        // that were asked for again tell another size or time.
        cache_policy: match cache {
            Cache::Auto | Cache::Always => CachePolicy::Always,
            Cache::Never => CachePolicy::Never,
        },
        // A directory is read with the attributes of its entries, which a guest
        // that remembers nothing would throw away.
        readdirplus: cache != Cache::Never,
        // Off: the guest would overwrite what the host changes meanwhile, and
        // file sizes on the host would lag.
        writeback: false,
        proc_sfd_rawfd: Some(proc_self_fd),
        // Each share is a mount of its own: without this, equal inode numbers of
        // two file systems would be one file to the guest.
        announce_submounts: true,
        // File capabilities and user attributes are part of images.
        xattr: true,
        // The host clears set-id bits and file capabilities at writes. Without
        // this the guest asks for `security.capability` before every write.
        killpriv_v2: true,
        // Off: guest kernels have no ACLs in announced submounts, which all
        // shares are, so asking for them would only move the umask to the host.
        posix_acl: NegotiationMode::Never,
        // Off: the guest bypasses its own cache as it asked to, and the host
        // keeps its, which works on every file system and at every alignment.
        allow_direct_io: false,
        // Shared mappings work in the mode without a cache too.
        allow_mmap: true,
        // What the guest may hold is counted before the library is asked.
        guest_fd_limit: u64::MAX,
        ..Config::default()
    }
}

/// How many descriptors the server needs to hold `max_names` for the guest.
pub(super) fn open_files(max_names: u64) -> u64 {
    max_names
        .saturating_add(OWN_DESCRIPTORS)
        .min(MAX_DESCRIPTORS)
}

/// How many of `max_names` the guest may hold: as many as the limit of open files
/// leaves, so that the server itself can still open what it needs.
pub(super) fn names(max_names: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    max_names.min(limit.saturating_sub(OWN_DESCRIPTORS))
}
