//! Properties of a systemd unit: those that annotations of config.json ask for, and
//! those that say the same as the files of a cgroup.
//!
//! Owns names and types. Values of annotations are in the text form of GVariant, of
//! which numbers, truth values, texts and lists of texts are known; no property of a
//! scope has another type. Talks to nobody.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::config::annotations::SYSTEMD_PREFIX;

/// systemd's word for no limit.
const INFINITY: u64 = u64::MAX;
const SECOND_US: u64 = 1_000_000;
/// systemd keeps a quota as a whole per cent of a processor.
const QUOTA_STEP_US: u64 = 10_000;

/// One property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// As systemd.resource-control(5) and its D-Bus interface spell it.
    pub name: String,
    /// What it shall be.
    pub value: Typed,
}

/// A value with the type that travels over D-Bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Typed {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`
    Bytes(Vec<u8>),
}

/// An annotation that can't become a property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a name that systemd could have.
    #[error(
        "annotation {SYSTEMD_PREFIX}{0}: a property's name has three letters or more, and letters alone"
    )]
    Name(String),
    /// Not a value.
    #[error(
        "annotation {SYSTEMD_PREFIX}{name}: {text:?} is not a value such as true, 'text', uint64 5 or ['a', 'b']"
    )]
    Value {
        /// Of the property.
        name: String,
        /// What was given.
        text: String,
    },
    /// A time in seconds that is none.
    #[error("annotation {SYSTEMD_PREFIX}{0}: seconds are a whole number")]
    Seconds(String),
}

/// What the annotations ask for, by name.
///
/// # Errors
/// The first annotation that can't be one.
pub(super) fn of_annotations(
    annotations: &HashMap<String, String>,
) -> Result<Vec<Property>, Malformed> {
    let mut asked: Vec<(&str, &String)> = annotations
        .iter()
        .filter_map(|(key, text)| Some((key.strip_prefix(SYSTEMD_PREFIX)?, text)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    asked.sort_unstable();
    asked
        .into_iter()
        .map(|(name, text)| of(name, text))
        .collect()
}

fn of(name: &str, text: &str) -> Result<Property, Malformed> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Malformed::Name(name.to_owned()));
    }
    let value = parse(text).ok_or_else(|| Malformed::Value {
        name: name.to_owned(),
        text: text.to_owned(),
    })?;
    let (name, value) = match name.strip_suffix("Sec") {
        // Over D-Bus times are in microseconds, and their names say so.
        Some(stem) if stem.ends_with(|last: char| last.is_ascii_lowercase()) => {
            let seconds = value.seconds();
            let us = seconds.and_then(|seconds| seconds.checked_mul(SECOND_US));
            let us = us.ok_or_else(|| Malformed::Seconds(name.to_owned()))?;
            (format!("{stem}USec"), Typed::Uint64(us))
        }
        _ => (name.to_owned(), value),
    };
    Ok(Property { name, value })
}

impl Typed {
    fn seconds(&self) -> Option<u64> {
        match self {
            Self::Byte(number) => Some((*number).into()),
            Self::Int16(number) => u64::try_from(*number).ok(),
            Self::Uint16(number) => Some((*number).into()),
            Self::Int32(number) => u64::try_from(*number).ok(),
            Self::Uint32(number) => Some((*number).into()),
            Self::Int64(number) => u64::try_from(*number).ok(),
            Self::Uint64(number) => Some(*number),
            _ => None,
        }
    }
}

/// The text form of GVariant, as far as units need it.
fn parse(text: &str) -> Option<Typed> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix('[') {
        return texts(list).map(Typed::Texts);
    }
    if text.starts_with(['\'', '"']) {
        let (word, rest) = quoted(text)?;
        return rest.is_empty().then_some(Typed::Text(word));
    }
    if let Some(annotated) = text.strip_prefix('@') {
        let (kind, value) = annotated.split_once(' ')?;
        return match (kind, value.trim()) {
            ("as", value) => texts(value.strip_prefix('[')?).map(Typed::Texts),
            ("s", value) => parse(value).filter(|value| matches!(value, Typed::Text(_))),
            ("b", value) => value.parse().ok().map(Typed::Bool),
            (kind, value) => number(kind, value),
        };
    }
    match text.split_once(' ') {
        None if text == "true" || text == "false" => Some(Typed::Bool(text == "true")),
        None => number("int32", text),
        Some(("string", value)) => parse(value).filter(|value| matches!(value, Typed::Text(_))),
        Some(("boolean", value)) => value.trim().parse().ok().map(Typed::Bool),
        Some((kind, value)) => number(kind, value.trim()),
    }
}

fn number(kind: &str, text: &str) -> Option<Typed> {
    match kind {
        "byte" | "y" => text.parse().ok().map(Typed::Byte),
        "int16" | "n" => text.parse().ok().map(Typed::Int16),
        "uint16" | "q" => text.parse().ok().map(Typed::Uint16),
        "int32" | "i" => text.parse().ok().map(Typed::Int32),
        "uint32" | "u" => text.parse().ok().map(Typed::Uint32),
        "int64" | "x" => text.parse().ok().map(Typed::Int64),
        "uint64" | "t" => text.parse().ok().map(Typed::Uint64),
        _ => None,
    }
}

/// What follows `[`, to the end.
fn texts(list: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = list.trim_start();
    if rest == "]" {
        return Some(words);
    }
    loop {
        let (word, after) = quoted(rest)?;
        words.push(word);
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => return (after == "]").then_some(words),
        };
    }
}

/// The text in quotes at the beginning, and what follows it, without spaces.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut characters = text.char_indices();
    let (_, quote) = characters
        .next()
        .filter(|(_, first)| "'\"".contains(*first))?;
    let mut word = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => word.push(unescaped(characters.next()?.1)?),
            end if end == quote => {
                let rest = text.get(at + end.len_utf8()..)?;
                return Some((word, rest.trim()));
            }
            other => word.push(other),
        }
    }
    None
}

const fn unescaped(character: char) -> Option<char> {
    match character {
        'n' => Some('\n'),
        't' => Some('\t'),
        '\\' | '\'' | '"' => Some(character),
        _ => None,
    }
}

/// What says the same as the files of a cgroup of version 2, as far as systemd would
/// write them itself. What `read` doesn't have is left out.
pub(super) fn of_files(read: impl Fn(&str) -> Option<String>) -> Vec<Property> {
    let read = |file: &str| read(file).map(|text| text.trim().to_owned());
    let mut properties = Vec::new();
    let mut add = |name: &str, value: Option<Typed>| {
        if let Some(value) = value {
            let name = name.to_owned();
            properties.push(Property { name, value });
        }
    };
    add(
        "MemoryMax",
        read("memory.max").and_then(|text| amount(&text)),
    );
    add("TasksMax", read("pids.max").and_then(|text| amount(&text)));
    add(
        "CPUWeight",
        read("cpu.weight").and_then(|text| amount(&text)),
    );
    if let Some((quota, period)) = read("cpu.max").as_deref().and_then(quota) {
        add("CPUQuotaPeriodUSec", Some(Typed::Uint64(period)));
        add("CPUQuotaPerSecUSec", Some(Typed::Uint64(quota)));
    }
    for (name, file) in [
        ("AllowedCPUs", "cpuset.cpus"),
        ("AllowedMemoryNodes", "cpuset.mems"),
    ] {
        let set = read(file).filter(|set| !set.is_empty());
        add(name, set.and_then(|set| mask(&set)).map(Typed::Bytes));
    }
    properties
}

fn amount(text: &str) -> Option<Typed> {
    match text {
        "max" => Some(Typed::Uint64(INFINITY)),
        number => number.parse().ok().map(Typed::Uint64),
    }
}

/// From cpu.max to the quota of a second, rounded as systemd would keep it, and the period.
fn quota(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.split_once(' ')?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    if quota == "max" {
        return Some((INFINITY, period));
    }
    let quota: u64 = quota.parse().ok()?;
    let of_second = quota.checked_mul(SECOND_US)?.div_ceil(period);
    Some((of_second.div_ceil(QUOTA_STEP_US) * QUOTA_STEP_US, period))
}

/// A bit for each number of a list such as `0-2,7`, the lowest first.
fn mask(list: &str) -> Option<Vec<u8>> {
    const MOST: usize = 8192;
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for number in first..=last {
            if mask.len() <= number / 8 {
                mask.resize(number / 8 + 1, 0);
            }
            *mask.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    Some(mask)
}

#[cfg(test)]
#[path = "property_test.rs"]
mod tests;
