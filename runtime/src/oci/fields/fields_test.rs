//! The table against the specification's schema, and against its printed form.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The fields of the schema, read as the table writes them.
struct Schema {
    fields: BTreeSet<String>,
}

impl Schema {
    fn of_config() -> Self {
        let mut schema = Self {
            fields: BTreeSet::new(),
        };
        let file = "config-schema.json";
        schema.walk(file, &load(file), "");
        schema
    }

    /// Notes what lies below `path`; answers whether something does.
    fn walk(&mut self, file: &str, node: &Value, path: &str) -> bool {
        if let Some(reference) = node["$ref"].as_str() {
            let (other, pointer) = reference.split_once('#').unwrap();
            let other = if other.is_empty() { file } else { other };
            // One file writes its pointers without the first slash.
            let pointer = format!("/{}", pointer.trim_start_matches('/'));
            let target = load(other).pointer(&pointer).unwrap().clone();
            return self.walk(other, &target, path);
        }
        let mut has_fields = false;
        for (name, member) in node["properties"].as_object().into_iter().flatten() {
            has_fields = true;
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            if !self.walk(file, member, &path) {
                self.fields.insert(path);
            }
        }
        let alternatives = ["allOf", "anyOf", "oneOf"].into_iter();
        for part in alternatives.flat_map(|key| node[key].as_array().into_iter().flatten()) {
            has_fields |= self.walk(file, part, path);
        }
        for (key, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
            if node[key].is_object() {
                has_fields |= self.walk(file, &node[key], &format!("{path}{sign}"));
            }
        }
        has_fields
    }
}

fn load(file: &str) -> Value {
    let folder = root().join("tests/data/oci-runtime-spec-1.3.0");
    serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
}

#[test]
fn the_table_speaks_for_every_field_of_the_specification() {
    let schema = Schema::of_config();
    assert!(schema.fields.len() > 200, "{}", schema.fields.len());
    let missing: Vec<_> = schema
        .fields
        .iter()
        .filter(|path| row_of(path).is_none())
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn what_is_applied_is_named_or_one_level_above() {
    for path in &Schema::of_config().fields {
        let row = row_of(path).unwrap();
        let below = path[row.path.len()..].replace(".*", "");
        let loose = matches!(row.fate, Fate::Applied(_)) && below.matches('.').count() > 1;
        assert!(!loose, "{} is too little to say of {path}", row.path);
    }
}

#[test]
fn every_row_is_of_the_specification_and_stands_once() {
    let schema = Schema::of_config();
    let mut seen = HashSet::new();
    for field in fields() {
        let known = schema.fields.iter().any(|path| is_within(path, field.path));
        assert!(known, "{} is in no schema", field.path);
        assert!(seen.insert(field.path), "{} stands twice", field.path);
        let needs_reason = !matches!(field.fate, Fate::Applied(_));
        assert!(!needs_reason || !field.note.is_empty(), "{}", field.path);
    }
}

const HEAD: &str = "\
# Fields of config.json

What caisson does with each field of the OCI runtime specification 1.3. A line
speaks for everything below its field, unless that has a line of its own. Empty
values (`null`, `0`, `\"\"`, `[]`, `{}`, `false`) ask for nothing, so they are
never refused. Fields that the specification doesn't know are ignored.

- **applied**: carried out, on the *host*, by the *machine* (the container's
  virtual machine) or in the *guest* (by the agent in it);
- **ignored**: changes nothing; the log file, if one is given, says so;
- **refused**: `create`, `run` and `exec` fail with one line that names the field.

Written from the table in `runtime/src/oci/fields/` by
`BLESS=1 cargo test -p caisson fields`.

| field | what becomes of it | remark |
|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for field in fields() {
        let fate = match field.fate {
            Fate::Applied(places) => {
                let places: Vec<_> = places.iter().map(place_name).collect();
                format!("applied: {}", places.join(", "))
            }
            Fate::Ignored => "ignored".to_owned(),
            Fate::Refused => "refused".to_owned(),
        };
        writeln!(page, "| `{}` | {fate} | {} |", field.path, field.note).unwrap();
    }
    page
}

fn place_name(place: &Place) -> &'static str {
    match place {
        Place::Host => "host",
        Place::Machine => "machine",
        Place::Guest => "guest",
    }
}

#[test]
fn the_page_for_users_is_printed_from_the_table() {
    let file = root().join("docs/oci-fields.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, page()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(
        written == page(),
        "docs/oci-fields.md is not what the table says: BLESS=1 cargo test -p caisson fields"
    );
}
