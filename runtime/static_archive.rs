//! For build scripts: links a C library from its static archive.
//!
//! The product's programs are static, and crates that declare a C library leave
//! the choice to the linker, which takes the shared one where it finds both.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Puts `archive` into a directory with nothing else in it, which is searched
/// before the system's. `package` is what Debian calls its package.
pub(crate) fn link(archive: &str, package: &str) -> Result<(), Box<dyn std::error::Error>> {
    let Some(installed) = installed(archive)? else {
        println!("cargo::error={archive} is not installed (Debian: apt install {package})");
        return Ok(());
    };
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    place(&installed, &folder.join(archive))?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    Ok(())
}

/// Where the C compiler finds the archive; it answers the bare name if nowhere.
fn installed(archive: &str) -> io::Result<Option<PathBuf>> {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={archive}"))
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
