//! `caisson-vmm`: reads its spec from descriptor 3, goes to jail, runs one machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    caisson_vmm::process::run()
}
