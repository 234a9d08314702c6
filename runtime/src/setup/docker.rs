//! Docker's daemon.json: one entry below `runtimes`.
//!
//! The entry is the command line by its path, which every version of Docker
//! knows; the shim needs no entry, only to be found on PATH.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde_json::Value;

use crate::setup::{Aim, Programs, RUNTIME};

/// Which runtime containers have that name none.
const DEFAULT: &str = "default-runtime";

/// The new text of the file, or none where nothing would be left in it.
pub(super) fn edit(before: &str, aim: Aim, programs: &Programs) -> Result<Option<String>, String> {
    let has_text = !before.trim().is_empty();
    let value = if has_text {
        check(before)?
    } else {
        Value::Null
    };
    let root =
        CstRootNode::parse(before, &ParseOptions::default()).map_err(|err| err.to_string())?;
    let object = root.object_value_or_set();
    match aim {
        Aim::Entered => {
            let path = programs.command.display().to_string();
            let entry = CstInputValue::Object(vec![("path".to_owned(), path.into())]);
            let runtimes = object.object_value_or_set("runtimes");
            match runtimes.get(RUNTIME) {
                Some(old) => old.set_value(entry),
                None => drop(runtimes.append(RUNTIME, entry)),
            }
        }
        Aim::Removed => {
            // Docker doesn't start with a default that it doesn't know.
            if value[DEFAULT] == RUNTIME
                && let Some(default) = object.get(DEFAULT)
            {
                default.remove();
            }
            if let Some(runtimes) = object.object_value("runtimes") {
                if let Some(entry) = runtimes.get(RUNTIME) {
                    entry.remove();
                }
                if runtimes.properties().is_empty()
                    && let Some(empty) = object.get("runtimes")
                {
                    empty.remove();
                }
            }
            if object.properties().is_empty() {
                return Ok(None);
            }
        }
    }
    let mut text = root.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(Some(text))
}

/// The program of the entry, which may also name a shim.
pub(super) fn registered(text: &str) -> Result<Option<String>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = check(text)?;
    let entry = &value["runtimes"][RUNTIME];
    let program = entry["path"]
        .as_str()
        .or_else(|| entry["runtimeType"].as_str());
    Ok(program.map(str::to_owned))
}

/// Docker reads strict JSON, and what it could not read is not for us to mend.
fn check(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|err| err.to_string())?;
    let Some(members) = value.as_object() else {
        return Err("it holds no JSON object".to_owned());
    };
    match members.get("runtimes") {
        None | Some(Value::Object(_)) => Ok(value),
        Some(_) => Err("\"runtimes\" is no object".to_owned()),
    }
}
