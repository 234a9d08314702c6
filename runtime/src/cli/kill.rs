//! `kill`: sends a signal to a container.

use nix::sys::signal::Signal;

use crate::cli::{Caller, Outcome};
use crate::container::handle::Container;

/// Send a signal to a container's init
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson kill web1            TERM
  caisson kill web1 KILL       or SIGKILL, or 9
  caisson kill --all web1 9    every process in it")]
pub(super) struct Kill {
    /// To every process; a container that has stopped is a success
    #[arg(long, short)]
    all: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
    /// Number or name, with or without SIG
    #[arg(
        value_name = "SIGNAL",
        default_value = "SIGTERM",
        allow_hyphen_values = true
    )]
    signal: String,
}

impl Kill {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        // As with runc, no name is the default.
        let signal = match self.signal.as_str() {
            "" => Signal::SIGTERM as i32,
            named => parse_signal(named)?,
        };
        Container::find(&caller.store, &self.id)?.kill(signal, self.all)?;
        Ok(0)
    }
}

/// Real-time signals have numbers only; 0 asks whether there is a process.
fn parse_signal(text: &str) -> Result<i32, String> {
    const LAST: i32 = 64;
    if let Ok(number) = text.parse::<i32>() {
        let valid = (0..=LAST).contains(&number);
        return if valid {
            Ok(number)
        } else {
            Err(format!("unknown signal {text:?}"))
        };
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    name.parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| format!("unknown signal {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        assert_eq!(parse_signal("9"), Ok(9));
        assert_eq!(parse_signal("KILL"), Ok(9));
        assert_eq!(parse_signal("sigterm"), Ok(15));
        assert_eq!(parse_signal("34"), Ok(34));
        for wrong in ["65", "-1", "SIGNONE", ""] {
            parse_signal(wrong).unwrap_err();
        }
    }
}
