//! Where caisson's own parts lie, and the administrator's few settings.
//!
//! Owns the configuration file and the search for helper programs, kernels and
//! guest images. Opens none of them.

use std::path::{Path, PathBuf};

use caisson_fs::spec::Cache;
use caisson_vmm::spec::{MAX_MEM_MIB, MAX_VCPUS};
use serde::Deserialize;

use crate::config::annotations::Bounds;
use crate::config::machine_choice::MachineChoice;

/// Configuration read when `CAISSON_CONFIG` names no other.
pub const DEFAULT_CONFIG: &str = "/etc/caisson/config.toml";

/// What can be wrong with the installation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is not valid.
    #[error("{}: {message} (see `caisson doctor configuration`)", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What the parser says, on one line.
        message: String,
    },
    /// A part is missing.
    #[error("{what} not found at {}: {fix} (see `caisson doctor {check}`)", path.display())]
    Missing {
        /// The part.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// How to get it.
        fix: &'static str,
        /// The check of `caisson doctor` that explains it.
        check: &'static str,
    },
    /// The program's own path is unknown.
    #[error("find the path of this program")]
    Exe(#[source] std::io::Error),
}

/// Which guest kernel boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelChoice {
    /// caisson's own where it is installed, else the distribution's.
    #[default]
    Auto,
    /// caisson's own.
    Built,
    /// The distribution's, with its virtio modules in the guest image.
    Stock,
}

/// The configuration file. Every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `auto` (default), `kvm` or `tcg`.
    pub machine: MachineChoice,
    /// With `machine = "auto"`, emulation is allowed where KVM does not work, and to
    /// containers that ask for it. Off by default: its barrier is QEMU, not hardware.
    pub allow_emulation: bool,
    /// `auto` (default), `built` or `stock`.
    pub kernel: KernelChoice,
    /// Memory of a container without a limit, in MiB.
    pub default_mem_mib: Option<u32>,
    /// Virtual CPUs of a container without a quota.
    pub default_vcpus: Option<u8>,
    /// Most memory of a machine, in MiB; the host's without.
    pub max_mem_mib: Option<u32>,
    /// Most virtual CPUs of a machine; the host's CPUs without.
    pub max_vcpus: Option<u8>,
    /// Containers may share a machine only as a pod: annotations that name a group
    /// are refused.
    pub forbid_groups: bool,
    /// `auto` (default), `always` or `never`.
    pub file_cache: Cache,
    /// The host's kernel moves the packets of containers (vhost-net), on KVM: fewer
    /// switches between guest and host, for a kernel that parses what guests write.
    pub vhost_net: bool,
    /// The QEMU program for machine tcg, with support for seccomp; else the first on PATH.
    pub qemu: Option<PathBuf>,
    /// Kernels that config.json may ask for by `vm.kernel.path`, beside the
    /// installed one. Each must be of the kind that `kernel` says.
    pub allowed_kernels: Vec<PathBuf>,
    /// Directory with helper programs and guest images, in place of the one that
    /// this program was installed with.
    pub prefix: Option<PathBuf>,
}

impl Config {
    /// Whether any container may run in emulation.
    #[must_use]
    pub const fn allows_emulation(&self) -> bool {
        match self.machine {
            MachineChoice::Auto => self.allow_emulation,
            MachineChoice::Kvm => false,
            MachineChoice::Tcg => true,
        }
    }
}

/// What a kernel needs of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelKind {
    /// caisson's own: finds CPUs and devices by MP table and command line.
    Built,
    /// The distribution's: finds them by ACPI only.
    Stock,
}

/// A kernel and the initramfs that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// What the kernel needs.
    pub kind: KernelKind,
    /// Uncompressed vmlinux.
    pub kernel: PathBuf,
    /// The agent, with the kernel's modules where it has any.
    pub initramfs: PathBuf,
}

/// caisson's parts on this host.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Settings.
    pub config: Config,
    /// The file they were read from, or would be if it existed.
    pub config_path: PathBuf,
    prefix: PathBuf,
}

impl Installation {
    /// Reads the configuration, the one at `config` or the usual one, and finds
    /// the prefix this program lies in.
    ///
    /// # Errors
    /// When a configuration is named, or exists, and can't be read or is not valid.
    pub fn find(config: Option<&Path>) -> Result<Self, Error> {
        let named = config
            .map(Path::to_owned)
            .or_else(|| std::env::var_os("CAISSON_CONFIG").map(PathBuf::from));
        let path = named
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
        let config = match std::fs::read_to_string(&path) {
            Ok(text) => parse_config(&path, &text)?,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                Config::default()
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        let prefix = match &config.prefix {
            Some(prefix) => prefix.clone(),
            None => prefix_of(&std::env::current_exe().map_err(Error::Exe)?),
        };
        Ok(Self {
            config,
            config_path: path,
            prefix,
        })
    }

    /// The installation as it is without a configuration, for a host whose
    /// configuration can't be read.
    ///
    /// # Errors
    /// When the program's own path is unknown.
    pub fn unconfigured() -> Result<Self, Error> {
        Ok(Self {
            config: Config::default(),
            config_path: DEFAULT_CONFIG.into(),
            prefix: prefix_of(&std::env::current_exe().map_err(Error::Exe)?),
        })
    }

    /// The directory with helper programs and guest images.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The program `caisson`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn program(&self) -> Result<PathBuf, Error> {
        let path = self.prefix.join("bin/caisson");
        existing("program", path, INSTALL)
    }

    /// A helper program of ours, such as `caisson-vmm`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn helper(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.prefix.join("libexec/caisson").join(name);
        existing("helper program", path, INSTALL)
    }

    /// The guest image that the configuration asks for.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn guest_image(&self) -> Result<GuestImage, Error> {
        match self.config.kernel {
            KernelChoice::Built => self.image(KernelKind::Built),
            KernelChoice::Stock => self.image(KernelKind::Stock),
            KernelChoice::Auto => self
                .image(KernelKind::Built)
                .or_else(|missing| self.image(KernelKind::Stock).map_err(|_| missing)),
        }
    }

    /// What containers may choose among on a host of so many CPUs and so much memory.
    #[must_use]
    pub fn bounds(&self, host_cpus: u8, host_mem_mib: u32) -> Bounds {
        let config = &self.config;
        let own = self.guest_image().ok().map(|image| image.kernel);
        Bounds {
            machine: config.machine,
            emulation: config.allows_emulation(),
            max_mem_mib: config.max_mem_mib.unwrap_or(host_mem_mib).min(MAX_MEM_MIB),
            max_vcpus: config.max_vcpus.unwrap_or(host_cpus).clamp(1, MAX_VCPUS),
            kernels: own
                .into_iter()
                .chain(config.allowed_kernels.iter().cloned())
                .collect(),
            groups: !config.forbid_groups,
        }
    }

    fn image(&self, kind: KernelKind) -> Result<GuestImage, Error> {
        let suffix = match kind {
            KernelKind::Built => "",
            KernelKind::Stock => "-stock",
        };
        let share = self.prefix.join("share/caisson");
        let kernel = share.join(format!("vmlinux{suffix}"));
        let kernel = existing("guest kernel", kernel, BUILD_KERNEL)?;
        let initramfs = share.join(format!("initramfs{suffix}.cpio"));
        let initramfs = existing("guest image", initramfs, BUILD_KERNEL)?;
        Ok(GuestImage {
            kind,
            kernel,
            initramfs,
        })
    }
}

fn parse_config(path: &Path, text: &str) -> Result<Config, Error> {
    toml::from_str(text).map_err(|err| Error::Config {
        path: path.to_owned(),
        message: err.message().replace('\n', " "),
    })
}

/// `<prefix>/bin/caisson` belongs to `<prefix>`.
fn prefix_of(exe: &Path) -> PathBuf {
    exe.ancestors()
        .nth(2)
        .unwrap_or_else(|| Path::new("/"))
        .to_owned()
}

/// How to get a part that is missing, and the check of `caisson doctor` for it.
#[derive(Clone, Copy)]
struct Remedy {
    fix: &'static str,
    check: &'static str,
}

const INSTALL: Remedy = Remedy {
    fix: "install caisson again: its package, its tarball, or `make install`",
    check: "helpers",
};
const BUILD_KERNEL: Remedy = Remedy {
    fix: "install caisson again, or build one with `make kernel` or `make stock-kernel`",
    check: "guest-kernel",
};

fn existing(what: &'static str, path: PathBuf, remedy: Remedy) -> Result<PathBuf, Error> {
    if path.exists() {
        return Ok(path);
    }
    Err(Error::Missing {
        what,
        path,
        fix: remedy.fix,
        check: remedy.check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_two_levels_above_the_program() {
        assert_eq!(
            prefix_of(Path::new("/usr/local/bin/caisson")),
            Path::new("/usr/local")
        );
    }

    #[test]
    fn a_configuration_is_read_and_unknown_keys_are_refused() {
        let path = Path::new("c.toml");
        let config = parse_config(path, "machine = \"tcg\"\ndefault_mem_mib = 256\n").unwrap();
        assert_eq!(config.machine, MachineChoice::Tcg);
        assert_eq!(config.default_mem_mib, Some(256));
        let err = parse_config(path, "machin = \"tcg\"")
            .unwrap_err()
            .to_string();
        assert!(err.contains("machin"), "{err}");
        assert!(!err.contains('\n'));
    }
}
