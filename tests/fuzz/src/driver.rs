//! Runs one target until its limits, and says how that went.

use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bytes::{Random, next_case};
use crate::{Corpus, Target};

/// Executions where no time is given, beside those of the corpus: enough to see that a
/// target works.
const FEW: u64 = 300;
/// Executions between two looks at the clock.
const STRIDE: u64 = 16;

/// When a run ends, and what it begins from.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For how long; zero: a fixed, small number of executions instead.
    pub time: Duration,
    /// Beginning of the random sequence.
    pub seed: u64,
}

impl Limits {
    /// From `CAISSON_FUZZ_SECONDS` (default 0) and `CAISSON_FUZZ_SEED` (default 1).
    ///
    /// # Errors
    /// Names the variable that is no number.
    pub fn from_environment() -> Result<Self, String> {
        Ok(Self {
            time: Duration::from_secs(number("CAISSON_FUZZ_SECONDS", 0)?),
            seed: number("CAISSON_FUZZ_SEED", 1)?,
        })
    }

    fn are_over(&self, done: u64, started: Instant) -> bool {
        if self.time.is_zero() {
            return done >= FEW;
        }
        done.is_multiple_of(STRIDE) && started.elapsed() >= self.time
    }
}

fn number(variable: &str, default: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{variable} is {text:?}, which is no number")),
        Err(_) => Ok(default),
    }
}

/// A run without findings.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The target.
    pub name: &'static str,
    /// How often it was called.
    pub executions: u64,
    /// How long that took.
    pub time: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, executions, ..
        } = self;
        // At least one, so that there is a rate.
        let time_ms = self.time.as_millis().max(1);
        let rate = u128::from(*executions) * 1000 / time_ms;
        write!(
            f,
            "fuzz {name}: {executions} executions, {rate} per second, 0 crashes"
        )
    }
}

/// A run that ended early.
#[derive(Debug)]
pub enum Failure {
    /// The target panicked.
    Crash {
        /// The target.
        name: &'static str,
        /// How often it was called.
        executions: u64,
        /// Where the bytes are kept.
        kept: PathBuf,
    },
    /// The corpus can't be read or written.
    Corpus(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash {
                name,
                executions,
                kept,
            } => write!(
                f,
                "fuzz {name}: {executions} executions, 1 crash: {}",
                kept.display()
            ),
            Self::Corpus(error) => write!(f, "use the kept cases: {error}"),
        }
    }
}

/// Runs `target` with every case of its corpus, then with new ones.
///
/// # Errors
/// The first case that makes it panic, which is kept.
pub fn drive(target: &Target, corpus: &Corpus, limits: &Limits) -> Result<Outcome, Failure> {
    let kept = corpus.cases().map_err(Failure::Corpus)?;
    let started = Instant::now();
    let mut executions = 0;
    let mut attempt = |case: &[u8]| {
        executions += 1;
        panic::catch_unwind(AssertUnwindSafe(|| (target.run)(case))).map_err(|_| {
            match corpus.keep(case) {
                Ok(kept) => Failure::Crash {
                    name: target.name,
                    executions,
                    kept,
                },
                Err(error) => Failure::Corpus(error),
            }
        })
    };
    for case in &kept {
        attempt(case)?;
    }
    let mut random = Random::new(limits.seed);
    let mut done = 0;
    while !limits.are_over(done, started) {
        attempt(&next_case(&mut random, &kept))?;
        done += 1;
    }
    Ok(Outcome {
        name: target.name,
        executions,
        time: started.elapsed(),
    })
}
