//! Links libseccomp into a static program.

mod static_archive;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=static_archive.rs");
    static_archive::link("libseccomp.a", "libseccomp-dev")
}
