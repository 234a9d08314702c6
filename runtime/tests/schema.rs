//! What `features`, `spec` and `state` print, against the specification's
//! schemas. Where runc is installed it is judged in the same way, as control.
//!
//! With `SUITE_JSON` set, the comparison is written to that file.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use caisson::container::store::{Record, Store};
use jsonschema::{Retrieve, Uri, Validator};
use serde_json::{Value, json};

/// Where the schemas are thought to lie.
const BASE: &str = "schema:///";

/// Reads the vendored files instead of the network.
struct Vendored;

impl Retrieve for Vendored {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().trim_start_matches('/');
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let text = std::fs::read_to_string(folder.join("oci-runtime-spec-1.3.0").join(name))?;
        // One file writes its pointers without the first slash.
        Ok(serde_json::from_str(
            &text.replace("#definitions/", "#/definitions/"),
        )?)
    }
}

fn schema(name: &str) -> Validator {
    jsonschema::options()
        .with_retriever(Vendored)
        .build(&json!({"$ref": format!("{BASE}{name}-schema.json")}))
        .unwrap()
}

/// A document that a runtime prints or writes.
struct Document {
    name: &'static str,
    schema: &'static str,
    fetch: fn(&Path) -> Option<Value>,
}

const DOCUMENTS: &[Document] = &[
    Document {
        name: "features",
        schema: "features",
        fetch: |program| printed(Command::new(program).arg("features")),
    },
    Document {
        name: "spec",
        schema: "config",
        fetch: |program| written(program, &[]),
    },
    Document {
        name: "spec --rootless",
        schema: "config",
        fetch: |program| written(program, &["--rootless"]),
    },
    Document {
        name: "state",
        schema: "state",
        fetch: state,
    },
];

fn printed(command: &mut Command) -> Option<Value> {
    let output = command.output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn written(program: &Path, flags: &[&str]) -> Option<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg("spec").args(flags).current_dir(&folder);
    command.status().ok().filter(|status| status.success())?;
    serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).ok()?).ok()
}

/// Of a container that has ended: its record is there, its owner is not. No
/// other runtime reads that record.
fn state(program: &Path) -> Option<Value> {
    let folder = tempfile::tempdir().unwrap();
    let (entry, _held) = Store::new(folder.path()).unwrap().reserve("box").unwrap();
    let record = Record {
        oci_version: "1.2.1".into(),
        bundle: "/bundle".into(),
        ..Record::new("box")
    };
    entry.write(&record).unwrap();
    let root = ["--root", folder.path().to_str().unwrap()];
    printed(Command::new(program).args(root).args(["state", "box"]))
}

fn verdict(document: &Document, program: Option<PathBuf>) -> &'static str {
    let Some(value) = program.and_then(|program| (document.fetch)(&program)) else {
        return "no result";
    };
    let errors: Vec<String> = schema(document.schema)
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        return "ok";
    }
    eprintln!("{}: {errors:?}", document.name);
    "not ok"
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
}

#[test]
fn what_is_printed_keeps_to_the_schemas() {
    let caisson = PathBuf::from(env!("CARGO_BIN_EXE_caisson"));
    let compare = |document: &Document| {
        json!({
            "name": document.name,
            "control": verdict(document, installed("runc")),
            "caisson": verdict(document, Some(caisson.clone())),
        })
    };
    let tests: Vec<Value> = DOCUMENTS.iter().map(compare).collect();
    if let Some(file) = std::env::var_os("SUITE_JSON") {
        let suite = json!({"suite": "schema", "tests": tests});
        std::fs::write(file, serde_json::to_vec_pretty(&suite).unwrap()).unwrap();
    }
    assert!(
        tests.iter().all(|test| test["caisson"] == "ok"),
        "{tests:#?}"
    );
}

#[test]
fn the_schemas_find_faults() {
    for (name, fault) in [
        ("features", json!({"ociVersionMin": "1.0.0"})),
        (
            "config",
            json!({"ociVersion": "1.3.0", "linux": {"resources": {"pids": {}}}}),
        ),
        (
            "state",
            json!({"ociVersion": "1.3.0", "id": "a", "status": "gone", "bundle": "/"}),
        ),
    ] {
        assert!(!schema(name).is_valid(&fault), "{name}");
    }
}
