//! Links libcap-ng, which `virtiofsd` needs, from its static archive: the
//! product's binaries are static, and the crate that declares the library leaves
//! the choice to the linker, which takes the shared one where it finds both.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const ARCHIVE: &str = "libcap-ng.a";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_SERVER").is_none() {
        return Ok(());
    }
    let Some(archive) = installed_archive()? else {
        println!("cargo::error={ARCHIVE} is not installed (Debian: apt install libcap-ng-dev)");
        return Ok(());
    };
    // A folder with nothing else in it, searched before the system's.
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    place(&archive, &folder.join(ARCHIVE))?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    Ok(())
}

/// Where the C compiler finds the archive; it answers the bare name if nowhere.
fn installed_archive() -> io::Result<Option<PathBuf>> {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={ARCHIVE}"))
        .output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(path.is_absolute().then_some(path))
}

fn place(archive: &Path, link: &Path) -> io::Result<()> {
    if link.is_symlink() {
        fs::remove_file(link)?;
    }
    symlink(archive, link)
}
