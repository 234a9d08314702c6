//! What is under test: read from the environment, which `run.sh` fills.

use std::path::PathBuf;

/// The two ways to run a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// caisson's own monitor on KVM.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Machine {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What is under test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory with `bin`, `libexec` and `share` of an installation.
    pub dist: PathBuf,
    /// Machine that runs the containers.
    pub machine: Machine,
    /// `built` or `stock`.
    pub kernel: String,
    /// QEMU to use in place of the one on PATH.
    pub qemu: Option<PathBuf>,
    /// A static busybox: every root file system is made of it.
    pub busybox: PathBuf,
    /// Every count in full.
    pub soak: bool,
    /// Which of the tests are run.
    pub part: Part,
}

/// One of several parts of the same size that all tests are dealt into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which, from 1.
    number: usize,
    /// How many there are.
    of: usize,
}

impl Part {
    /// Reads `NUMBER/OF`.
    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Whether the test at this place of the list belongs to it.
    #[must_use]
    pub fn holds(self, place: usize) -> bool {
        place % self.of == self.number - 1
    }
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// Says what is missing and how to get it.
    pub fn from_environment() -> Result<Self, String> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let dist = text("CAISSON_DIST").map(PathBuf::from).ok_or(
            "CAISSON_DIST is not set: start the suite with tests/run.sh, or name an installation",
        )?;
        let machine = match text("CAISSON_MACHINE").as_deref() {
            Some("kvm") => Machine::Kvm,
            Some("tcg") => Machine::Tcg,
            other => return Err(format!("CAISSON_MACHINE is kvm or tcg, not {other:?}")),
        };
        let part = text("CAISSON_PART").unwrap_or_else(|| "1/1".into());
        let part = Part::parse(&part)
            .ok_or_else(|| format!("CAISSON_PART is NUMBER/OF, as 1/2, not {part}"))?;
        let settings = Self {
            part,
            dist,
            machine,
            kernel: text("CAISSON_KERNEL").unwrap_or_else(|| "built".into()),
            qemu: text("CAISSON_QEMU").map(PathBuf::from),
            busybox: text("CAISSON_BUSYBOX").map_or_else(|| "/bin/busybox".into(), PathBuf::from),
            soak: text("CAISSON_SOAK").as_deref() == Some("1"),
        };
        settings.check()?;
        Ok(settings)
    }

    /// How often something is done: `full` times in a soak, else a tenth.
    #[must_use]
    pub fn count(&self, full: usize) -> usize {
        if self.soak { full } else { full.div_ceil(10) }
    }

    /// The program under test.
    #[must_use]
    pub fn caisson(&self) -> PathBuf {
        self.dist.join("bin/caisson")
    }

    fn check(&self) -> Result<(), String> {
        let suffix = if self.kernel == "stock" { "-stock" } else { "" };
        let needed = [
            (self.caisson(), "make programs"),
            (
                self.dist.join("libexec/caisson/caisson-fs"),
                "make programs",
            ),
            (
                self.dist.join(format!("share/caisson/vmlinux{suffix}")),
                "make kernel, or make stock-kernel for the distribution's",
            ),
            (
                self.dist
                    .join(format!("share/caisson/initramfs{suffix}.cpio")),
                "make programs, or make stock-kernel for the distribution's",
            ),
            (self.busybox.clone(), "apt-get install busybox-static"),
        ];
        match needed.iter().find(|(path, _)| !path.exists()) {
            Some((path, fix)) => Err(format!("{} is missing: {fix}", path.display())),
            None if !nix::unistd::geteuid().is_root() => {
                Err("tests of whole containers need root: namespaces and mounts".into())
            }
            None => Ok(()),
        }
    }
}
