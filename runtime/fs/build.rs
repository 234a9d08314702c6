//! Links libcap-ng, which `virtiofsd` needs, into a static program.

use std::env;

#[path = "../static_archive.rs"]
mod static_archive;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../static_archive.rs");
    if env::var_os("CARGO_FEATURE_SERVER").is_none() {
        return Ok(());
    }
    static_archive::link("libcap-ng.a", "libcap-ng-dev")
}
