//! Log lines of this process and its libraries, to standard error, which the
//! owner reads. Nothing below a warning.

use log::{LevelFilter, Log, Metadata, Record};

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("{}", record.args());
    }

    fn flush(&self) {}
}

/// Sends warnings and errors to standard error from now on.
pub(super) fn to_standard_error() {
    // Fails only if there is a logger already, which then stays.
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
