//! `events`: prints what a container uses, and each kill for lack of memory.
//!
//! Owns the rhythm and the lines, one JSON object each, whose form is runc's.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::cli::{Caller, Outcome};
use crate::container::handle;
use crate::container::handle::Container;
use crate::container::statistics::Statistics;
use crate::owner::{Connection, Reply};

/// Print what a container uses, and each kill for lack of memory
///
/// One JSON object per line: {"type": "stats" or "oom", "id": ..., "data": ...}.
/// Times are in nanoseconds, sizes in bytes; the figures are those of the container
/// alone, without the guest's kernel. Ends when the container does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  caisson events --stats web1           print the figures once
  caisson events --interval 1m web1     print them every minute, and kills at once")]
pub(super) struct Events {
    /// Time between two lines of figures, such as 5s, 1m30s or 250ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// Print the figures once and return
    #[arg(long)]
    stats: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    id: String,
}

/// One line. Scripts look for its first members as text: they come in this order.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Statistics>,
}

/// What has ended a wait.
enum News {
    Tick,
    OutOfMemory,
    Ended,
}

impl Events {
    pub(super) fn run(self, caller: &Caller) -> Outcome {
        let interval = parse_interval(&self.interval)?;
        let container = Container::find(&caller.store, &self.id)?;
        if self.stats {
            let statistics = container.statistics().map_err(|err| self.explain(err))?;
            self.print("stats", Some(&statistics))?;
            return Ok(0);
        }
        let news = container.follow().map_err(|err| self.explain(err))?;
        let mut next = Instant::now() + interval;
        loop {
            match wait(&news, next)? {
                News::Ended => return Ok(0),
                News::OutOfMemory => self.print("oom", None)?,
                News::Tick => {
                    next += interval;
                    match container.statistics() {
                        Ok(statistics) => self.print("stats", Some(&statistics))?,
                        Err(handle::Error::NotRunning) => return Ok(0),
                        Err(err) => return Err(err.into()),
                    }
                }
            }
        }
    }

    /// In the words of runc.
    fn explain(&self, err: handle::Error) -> Box<dyn std::error::Error> {
        match err {
            handle::Error::NotRunning => {
                format!("container with id {} is not running", self.id).into()
            }
            other => other.into(),
        }
    }

    fn print(
        &self,
        kind: &str,
        data: Option<&Statistics>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let line = Line {
            r#type: kind,
            id: &self.id,
            data,
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

fn wait(news: &Connection, until: Instant) -> Result<News, Box<dyn std::error::Error>> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left)?;
    let mut polled = [PollFd::new(news, PollFlags::IN)];
    match poll(&mut polled, Some(&left)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(News::Tick),
        Ok(_) => Ok(match news.receive::<Reply>() {
            Ok((Reply::OutOfMemory, _)) => News::OutOfMemory,
            _ => News::Ended,
        }),
        Err(err) => Err(err.into()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|err| format!("--interval {text:?}: {err}; give a time such as 5s"))?;
    if interval.is_zero() {
        return Err("duration interval must be greater than 0".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_of_some_length() {
        assert_eq!(parse_interval("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_interval("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "5", "-5s", "soon"] {
            assert!(parse_interval(wrong).unwrap_err().starts_with("--interval"));
        }
        assert!(parse_interval("0s").unwrap_err().contains("greater than 0"));
    }
}
