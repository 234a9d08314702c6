//! `caisson-vmm`: reads its spec from descriptor 3, enters the jail, runs one machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    caisson_vmm::process::run()
}
