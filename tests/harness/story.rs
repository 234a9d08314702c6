//! `Story`: one test, its limit and where it can play.

use std::time::Duration;

use crate::{Machine, Scene};

/// Emulation on a busy machine of two CPUs needs most of this.
const USUAL_LIMIT_S: u64 = 120;

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    path: &'static str,
    /// What happens.
    pub play: fn(&Scene),
    limit_s: u64,
    /// The only machine on which it makes sense.
    pub only: Option<Machine>,
    /// Belongs to the short selection for further kernels and QEMUs.
    pub smoke: bool,
}

impl Story {
    /// A test by its module's path and its function; `stories!` fills both in.
    #[must_use]
    pub const fn new(path: &'static str, play: fn(&Scene)) -> Self {
        Self {
            path,
            play,
            limit_s: USUAL_LIMIT_S,
            only: None,
            smoke: false,
        }
    }

    /// With another limit than the usual one, in seconds.
    #[must_use]
    pub const fn limit(mut self, limit_s: u64) -> Self {
        self.limit_s = limit_s;
        self
    }

    /// On one machine only.
    #[must_use]
    pub const fn only(mut self, machine: Machine) -> Self {
        self.only = Some(machine);
        self
    }

    /// Also with further kernels and QEMUs.
    #[must_use]
    pub const fn smoke(mut self) -> Self {
        self.smoke = true;
        self
    }

    /// Name as it is printed and filtered by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path
            .split_once("::")
            .map_or(self.path, |(_, name)| name)
    }

    /// When it has failed, however far it got.
    #[must_use]
    pub const fn limit_of(&self, soak: bool) -> Duration {
        Duration::from_secs(if soak {
            self.limit_s * 10
        } else {
            self.limit_s
        })
    }
}

/// The tests of a module, named like their functions.
#[macro_export]
macro_rules! stories {
    ($($name:ident $(.$with:ident($($value:expr)?))*),* $(,)?) => {
        pub(crate) const STORIES: &[$crate::Story] = &[$(
            $crate::Story::new(concat!(module_path!(), "::", stringify!($name)), $name)
                $(.$with($($value)?))*
        ),*];
    };
}
