//! What the guest's agent answers, from bytes to values: a pure function for each call.
//!
//! Owns how much of it there may be. A guest that has been taken over answers what it
//! likes, so everything is counted before it becomes memory of this process, and what
//! is not known here is passed over without being kept.

use std::collections::HashMap;

use caisson_protocol::client::agent::event::Kind;
use caisson_protocol::client::agent::{
    Exited, HugePageStatistics, IoStatistics, MemoryStatistics, Oom, Pressure, PressureLine, Ready,
    Statistics,
};

use crate::owner::ProcessEntry;
use crate::vm::wire_format::{Fields, Malformed, Value};

/// Processes of one container that are listed.
pub const MAX_PROCESSES: usize = 16 * 1024;
/// Bytes of text in one list of processes. The agent cuts command lines to this.
pub const MAX_TEXT_LEN: usize = 1 << 20;
/// Block devices in statistics.
pub const MAX_DEVICES: usize = 256;
/// Counters of one kind in statistics: memory.stat has the most, some sixty.
pub const MAX_COUNTERS: usize = 256;
/// Sizes of huge pages in statistics.
pub const MAX_PAGE_SIZES: usize = 16;
/// Bytes of a counter's name.
pub const MAX_COUNTER_NAME_LEN: usize = 64;
/// Bytes of a container's or an exec's name.
pub const MAX_NAME_LEN: usize = 1024;
/// Bytes of a refusal that are kept: two paths of the greatest length.
pub const MAX_REFUSAL_LEN: usize = 8 * 1024;

/// Bytes of any other frame than the following ones.
pub const MAX_FRAME_LEN: usize = 64 * 1024;
/// Bytes of the frame of a list of processes: 80 beside the text are enough for each.
pub const MAX_PROCESSES_FRAME_LEN: usize = MAX_PROCESSES * 80 + MAX_TEXT_LEN + 4096;
/// Bytes of a frame of statistics: 200 devices with their counters fit.
pub const MAX_STATISTICS_FRAME_LEN: usize = 128 * 1024;

/// Why bytes are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They are not a message of the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The guest tells more than there may be.
    #[error("more than {most} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
    /// The agent refuses; the text is its own.
    #[error("{message}")]
    Refused {
        /// A code of gRPC.
        code: i32,
        /// Why.
        message: String,
    },
}

/// Takes one more of what there may be `most` of.
fn count(counted: &mut usize, more: usize, what: &'static str, most: usize) -> Result<(), Error> {
    *counted = counted.saturating_add(more);
    if *counted > most {
        return Err(Error::TooMany { what, most });
    }
    Ok(())
}

fn lower_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The answer of a call within ttrpc's own envelope.
///
/// # Errors
/// The agent's refusal, cut to [`MAX_REFUSAL_LEN`] bytes.
pub fn payload(frame: &[u8]) -> Result<&[u8], Error> {
    let mut answer = &[][..];
    for field in Fields::of(frame) {
        match field? {
            (1, Value::Bytes(status)) => refusal(status)?,
            (2, Value::Bytes(bytes)) => answer = bytes,
            _ => {}
        }
    }
    Ok(answer)
}

/// A status of gRPC, which is a success where its code is 0.
fn refusal(status: &[u8]) -> Result<(), Error> {
    let (mut code, mut text) = (0, &[][..]);
    for field in Fields::of(status) {
        match field? {
            (1, Value::Number(number)) => code = lower_half(number),
            (2, Value::Bytes(bytes)) => text = bytes,
            _ => {}
        }
    }
    if code == 0 {
        return Ok(());
    }
    let kept = text.get(..MAX_REFUSAL_LEN).unwrap_or(text);
    Err(Error::Refused {
        code: code.cast_signed(),
        message: String::from_utf8_lossy(kept).into_owned(),
    })
}

/// Of a call that answers with nothing, or with what nobody wants to know.
///
/// # Errors
/// Bytes that are no message.
pub fn nothing(answer: &[u8]) -> Result<(), Error> {
    Fields::of(answer).try_for_each(|field| Ok(field.map(drop)?))
}

/// Of `Hello`: the major version.
///
/// # Errors
/// Bytes that are no message.
pub fn major_version(answer: &[u8]) -> Result<u32, Error> {
    let mut major = 0;
    for field in Fields::of(answer) {
        if let (1, Value::Number(number)) = field? {
            major = lower_half(number);
        }
    }
    Ok(major)
}

/// Of `AdjustClock`: nanoseconds since the epoch.
///
/// # Errors
/// Bytes that are no message.
pub fn unix_time_ns(answer: &[u8]) -> Result<u64, Error> {
    let mut time = 0;
    for field in Fields::of(answer) {
        if let (1, Value::Number(number)) = field? {
            time = number;
        }
    }
    Ok(time)
}

/// Of `ListProcesses`.
///
/// # Errors
/// More processes, or text, than there may be.
pub fn processes(answer: &[u8]) -> Result<Vec<ProcessEntry>, Error> {
    let mut processes = Vec::new();
    let (mut listed, mut text_len) = (0, 0);
    for field in Fields::of(answer) {
        if let (1, Value::Bytes(bytes)) = field? {
            count(&mut listed, 1, "processes", MAX_PROCESSES)?;
            processes.push(process(bytes, &mut text_len)?);
        }
    }
    Ok(processes)
}

fn process(message: &[u8], text_len: &mut usize) -> Result<ProcessEntry, Error> {
    let mut entry = ProcessEntry::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Number(number)) => entry.pid = lower_half(number),
            (2, Value::Number(number)) => entry.parent_pid = lower_half(number),
            (3, Value::Number(number)) => entry.uid = lower_half(number),
            (4, Value::Number(number)) => entry.cpu_ms = number,
            (5, Value::Number(number)) => entry.started_unix_ns = number,
            (number @ 6..=9, Value::Bytes(bytes)) => {
                count(text_len, bytes.len(), "bytes of text", MAX_TEXT_LEN)?;
                let text = printable(bytes);
                match number {
                    6 => entry.tty = text,
                    7 => entry.command = text,
                    8 => entry.name = text,
                    _ => entry.state = text,
                }
            }
            (10, Value::Number(number)) => entry.virtual_kib = number,
            (11, Value::Number(number)) => entry.resident_kib = number,
            _ => {}
        }
    }
    Ok(entry)
}

/// As ps shows it. As JSON a control character would be six times as long.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(char::is_control, "?")
}

/// Of `GetStatistics`.
///
/// # Errors
/// More devices, or counters, than there may be.
pub fn statistics(answer: &[u8]) -> Result<Statistics, Error> {
    let mut statistics = Statistics::default();
    let (mut devices, mut sizes) = (0, 0);
    for field in Fields::of(answer) {
        match field? {
            (1, Value::Bytes(bytes)) => counter(bytes, &mut statistics.cpu)?,
            (2, Value::Bytes(bytes)) => statistics.cpu_pressure = Some(pressure(bytes)?).into(),
            (3, Value::Bytes(bytes)) => statistics.memory = Some(memory(bytes)?).into(),
            (4, Value::Bytes(bytes)) => statistics.memory_pressure = Some(pressure(bytes)?).into(),
            (5, Value::Number(number)) => statistics.pids_current = number,
            (6, Value::Number(number)) => statistics.pids_max = number,
            (7, Value::Bytes(bytes)) => {
                count(&mut devices, 1, "block devices", MAX_DEVICES)?;
                statistics.io.push(device(bytes)?);
            }
            (8, Value::Bytes(bytes)) => statistics.io_pressure = Some(pressure(bytes)?).into(),
            (9, Value::Bytes(bytes)) => {
                count(&mut sizes, 1, "sizes of huge pages", MAX_PAGE_SIZES)?;
                statistics.huge_pages.push(huge_pages(bytes)?);
            }
            _ => {}
        }
    }
    Ok(statistics)
}

/// One entry of a map.
fn counter(message: &[u8], into: &mut HashMap<String, u64>) -> Result<(), Error> {
    let (mut name, mut value) = (String::new(), 0);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => name = short_text(bytes, MAX_COUNTER_NAME_LEN)?,
            (2, Value::Number(number)) => value = number,
            _ => {}
        }
    }
    into.insert(name, value);
    count(&mut into.len(), 0, "counters", MAX_COUNTERS)
}

fn short_text(bytes: &[u8], most: usize) -> Result<String, Error> {
    count(&mut bytes.len(), 0, "bytes of a name", most)?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn memory(message: &[u8]) -> Result<MemoryStatistics, Error> {
    let mut memory = MemoryStatistics::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Number(number)) => memory.current = number,
            (2, Value::Number(number)) => memory.max = number,
            (3, Value::Number(number)) => memory.peak = number,
            (4, Value::Number(number)) => memory.swap_current = number,
            (5, Value::Number(number)) => memory.swap_max = number,
            (6, Value::Bytes(bytes)) => counter(bytes, &mut memory.stat)?,
            (7, Value::Bytes(bytes)) => counter(bytes, &mut memory.events)?,
            _ => {}
        }
    }
    Ok(memory)
}

fn device(message: &[u8]) -> Result<IoStatistics, Error> {
    let mut device = IoStatistics::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Number(number)) => device.major = lower_half(number),
            (2, Value::Number(number)) => device.minor = lower_half(number),
            (3, Value::Bytes(bytes)) => counter(bytes, &mut device.counters)?,
            _ => {}
        }
    }
    Ok(device)
}

fn huge_pages(message: &[u8]) -> Result<HugePageStatistics, Error> {
    let mut pages = HugePageStatistics::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => pages.page_size = short_text(bytes, MAX_COUNTER_NAME_LEN)?,
            (2, Value::Number(number)) => pages.current = number,
            (3, Value::Number(number)) => pages.max = number,
            (4, Value::Number(number)) => pages.failures = number,
            _ => {}
        }
    }
    Ok(pages)
}

fn pressure(message: &[u8]) -> Result<Pressure, Error> {
    let mut pressure = Pressure::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => pressure.some = Some(pressure_line(bytes)?).into(),
            (2, Value::Bytes(bytes)) => pressure.full = Some(pressure_line(bytes)?).into(),
            _ => {}
        }
    }
    Ok(pressure)
}

fn pressure_line(message: &[u8]) -> Result<PressureLine, Error> {
    let mut line = PressureLine::default();
    // What is no number has no form in JSON.
    let share = |bits| Some(f64::from_bits(bits)).filter(|share| share.is_finite());
    for field in Fields::of(message) {
        match field? {
            (1, Value::Fixed(bits)) => line.avg10 = share(bits).unwrap_or_default(),
            (2, Value::Fixed(bits)) => line.avg60 = share(bits).unwrap_or_default(),
            (3, Value::Fixed(bits)) => line.avg300 = share(bits).unwrap_or_default(),
            (4, Value::Number(number)) => line.total = number,
            _ => {}
        }
    }
    Ok(line)
}

/// Something that has happened in the guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// Counts from 1, without gaps.
    pub number: u64,
    /// None where this side does not know it.
    pub kind: Option<Kind>,
}

/// Of `NextEvent`.
///
/// # Errors
/// Names that are too long.
pub fn news(answer: &[u8]) -> Result<News, Error> {
    let mut news = News::default();
    for field in Fields::of(answer) {
        match field? {
            (1, Value::Number(number)) => news.number = number,
            (2, Value::Bytes(bytes)) => news.kind = Some(Kind::Exited(exited(bytes)?)),
            (3, Value::Bytes(bytes)) => {
                news.kind = Some(Kind::Oom(Oom {
                    container_id: container_id(bytes)?,
                    ..Default::default()
                }));
            }
            (4, Value::Bytes(bytes)) => {
                news.kind = Some(Kind::Ready(Ready {
                    container_id: container_id(bytes)?,
                    ..Default::default()
                }));
            }
            _ => {}
        }
    }
    Ok(news)
}

fn container_id(message: &[u8]) -> Result<String, Error> {
    let mut id = String::new();
    for field in Fields::of(message) {
        if let (1, Value::Bytes(bytes)) = field? {
            id = short_text(bytes, MAX_NAME_LEN)?;
        }
    }
    Ok(id)
}

fn exited(message: &[u8]) -> Result<Exited, Error> {
    let mut exited = Exited::default();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => exited.container_id = short_text(bytes, MAX_NAME_LEN)?,
            (2, Value::Bytes(bytes)) => exited.exec_id = short_text(bytes, MAX_NAME_LEN)?,
            (3, Value::Number(number)) => exited.status = lower_half(number),
            (4, Value::Number(number)) => exited.exited_unix_ns = number,
            (5, Value::Number(number)) => exited.stdout_bytes = number,
            (6, Value::Number(number)) => exited.stderr_bytes = number,
            (7, Value::Number(number)) => exited.stdout_held = number != 0,
            (8, Value::Number(number)) => exited.stderr_held = number != 0,
            _ => {}
        }
    }
    Ok(exited)
}

#[cfg(test)]
#[path = "agent_answers_test.rs"]
mod tests;
