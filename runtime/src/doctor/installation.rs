//! caisson's own parts on this host: configuration, helpers, guest images, and QEMU.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use memchr::memmem;
use sha2::{Digest, Sha256};

use crate::config::installation::{Error, GuestImage};
use crate::doctor::host::words_of;
use crate::doctor::kvm::KvmNeed;
use crate::doctor::{Finding, HostView};
use crate::vm::hypervisor_error::Error as VmError;
use crate::vm::{find_qemu, kernel};

/// Beside the images: their hashes when they were installed.
const SUMS: &str = "SHA256SUMS";
/// In the messages of a QEMU that can filter its system calls, linked either way.
const SECCOMP_MESSAGE: &[u8] = b"seccomp syscall filter";
const INSTALL: &str = "`make install`, or set `prefix` in the configuration";

pub(super) fn configuration(host: &HostView) -> Finding {
    let installation = &host.installation;
    let path = installation.config_path.display();
    match &host.configuration_fault {
        None if installation.config_path.exists() => {}
        None => return Finding::ok(format!("{path} does not exist: all is as by default")),
        Some(Error::Config { path, message }) => {
            return Finding::fail(
                format!(
                    "{}: {message}; the checks below assume defaults",
                    path.display()
                ),
                format!("correct {}: README.md lists its keys", path.display()),
            );
        }
        Some(Error::Read { path, source }) => {
            return Finding::fail(
                format!(
                    "{} can't be read: {reason}; the checks below assume defaults",
                    path.display(),
                    reason = words_of(source)
                ),
                format!(
                    "chmod 644 {}; if CAISSON_CONFIG names it, it must exist",
                    path.display()
                ),
            );
        }
        Some(other) => return Finding::fail(other.to_string(), INSTALL),
    }
    let missing = installation.config.allowed_kernels.iter();
    match missing.into_iter().find(|kernel| !kernel.exists()) {
        Some(kernel) => Finding::warn(
            format!(
                "{path}: `allowed_kernels` names {}, which does not exist",
                kernel.display()
            ),
            format!("take it out of {path}"),
        ),
        None => Finding::ok(format!("{path} is valid")),
    }
}

pub(super) fn helpers(host: &HostView) -> Finding {
    let mut names = vec!["caisson-fs"];
    let need = KvmNeed::of(host);
    if need != KvmNeed::Unused {
        names.push("caisson-vmm");
    }
    if need != KvmNeed::Required {
        names.extend(["caisson-jail", "caisson-vsock"]);
    }
    for name in &names {
        match host.installation.helper(name) {
            Ok(path) if is_executable(&path) => {}
            Ok(path) => {
                let path = path.display();
                return Finding::fail(
                    format!("{path} is not an executable file"),
                    format!("chmod 755 {path}, or `make install`"),
                );
            }
            Err(Error::Missing { path, .. }) => {
                return Finding::fail(format!("{} does not exist", path.display()), INSTALL);
            }
            Err(other) => return Finding::fail(other.to_string(), INSTALL),
        }
    }
    Finding::ok(format!(
        "below {}: {}",
        host.installation.prefix().display(),
        names.join(" ")
    ))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

pub(super) fn guest_kernel(host: &HostView) -> Finding {
    let image = match host.installation.guest_image() {
        Ok(image) => image,
        Err(Error::Missing {
            what, path, fix, ..
        }) => {
            return Finding::fail(format!("{what} {} does not exist", path.display()), fix);
        }
        Err(other) => return Finding::fail(other.to_string(), INSTALL),
    };
    let fix = "make kernel install (or `make stock-kernel`)";
    match kernel::open(&image) {
        Ok(_) => {}
        Err(VmError::Kernel { path, reason }) => {
            return Finding::fail(format!("{path}: {reason}"), fix);
        }
        Err(other) => return Finding::fail(other.to_string(), fix),
    }
    let initramfs = image.initramfs.display();
    match fs::metadata(&image.initramfs).map(|found| found.len()) {
        Ok(0) => Finding::fail(format!("{initramfs} is empty"), fix),
        Ok(len) => Finding::ok(format!(
            "{}; {initramfs}, {} KiB",
            image.kernel.display(),
            len >> 10
        )),
        Err(err) => Finding::fail(
            format!("{initramfs}: {reason}", reason = words_of(&err)),
            fix,
        ),
    }
}

pub(super) fn image_hashes(host: &HostView) -> Finding {
    let Ok(GuestImage {
        kernel, initramfs, ..
    }) = host.installation.guest_image()
    else {
        return Finding::ok("nothing to hash: see guest-kernel");
    };
    let sums = kernel.parent().map(|directory| directory.join(SUMS));
    let sums = sums.and_then(|path| fs::read_to_string(path).ok());
    let mut evidence = Vec::new();
    for path in [&kernel, &initramfs] {
        let hash = match hash(path) {
            Ok(hash) => hash,
            Err(err) => {
                let evidence = format!(
                    "{} can't be read: {reason}",
                    path.display(),
                    reason = words_of(&err)
                );
                return Finding::fail(evidence, format!("chmod 644 {}", path.display()));
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let installed = sums.as_deref().and_then(|sums| recorded(sums, &name));
        if let Some(installed) = installed.filter(|installed| *installed != hash) {
            return Finding::warn(
                format!(
                    "{} has SHA-256 {hash}, and was installed with {installed}",
                    path.display()
                ),
                "make install, or if you have replaced it: `sha256sum vmlinux* initramfs* > SHA256SUMS` in its directory",
            );
        }
        evidence.push(format!("{name} {hash}"));
    }
    let known = match sums {
        Some(_) => "as installed",
        None => "not compared: no SHA256SUMS beside them",
    };
    Finding::ok(format!("SHA-256: {} ({known})", evidence.join(", ")))
}

/// The hash that sha256sum(1) has written for this name.
fn recorded<'s>(sums: &'s str, name: &str) -> Option<&'s str> {
    let mut lines = sums.lines().filter_map(|line| line.split_once("  "));
    lines
        .find(|(_, other)| *other == name)
        .map(|(hash, _)| hash)
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

pub(super) fn qemu(host: &HostView) -> Finding {
    let need = KvmNeed::of(host);
    if need == KvmNeed::Required {
        return Finding::ok("not used: the configuration allows no emulation");
    }
    let judge = |evidence: String, fix: &str| match need {
        KvmNeed::Unused => Finding::fail(evidence, fix),
        _ => Finding::warn(
            format!("{evidence}: nothing runs where KVM does not work, nor what asks for tcg"),
            fix,
        ),
    };
    let install = "apt install qemu-system-x86, or set `qemu` in the configuration";
    let path = match find_qemu(&host.installation) {
        Ok(path) => path,
        Err(VmError::Qemu { path, reason }) => {
            return judge(format!("{}: {reason}", path.display()), install);
        }
        Err(_) => {
            let configured = host.installation.config.qemu.as_ref();
            let evidence = configured.map_or_else(
                || "qemu-system-x86_64 not found on PATH".into(),
                |path| format!("{} does not exist", path.display()),
            );
            return judge(evidence, install);
        }
    };
    match holds(&path, SECCOMP_MESSAGE) {
        Ok(true) => Finding::ok(format!("{}, with support for seccomp", path.display())),
        Ok(false) => judge(
            format!(
                "{} was built without seccomp, and can't be confined",
                path.display()
            ),
            "use the distribution's QEMU, or build it with --enable-seccomp",
        ),
        Err(err) => judge(
            format!("{}: {reason}", path.display(), reason = words_of(&err)),
            install,
        ),
    }
}

/// Whether a file has these bytes.
fn holds(path: &Path, wanted: &[u8]) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 28).read_to_end(&mut bytes)?;
    Ok(memmem::find(&bytes, wanted).is_some())
}
