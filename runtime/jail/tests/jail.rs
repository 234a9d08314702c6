//! A process in jail, looked at from outside through /proc, and mounts cut out
//! for it. Needs root, and says so where it isn't. This program is also the
//! jailed process: it is started again with the name of a jail as its argument.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test program"
)]

#[path = "jail/detached.rs"]
mod detached;
#[path = "jail/inmate.rs"]
mod inmate;
#[path = "jail/outside.rs"]
mod outside;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if let Some(name) = std::env::args()
        .nth(1)
        .and_then(|a| a.strip_prefix("inmate=").map(String::from))
    {
        inmate::serve_time(&name);
        return;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests need root"
    );
    let trials: Vec<Trial> = outside::trials()
        .into_iter()
        .chain(detached::trials())
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A trial that fails by panicking, as tests do.
fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
