//! The shim's version and features, for containerd and for people.
//!
//! Owns the form. The library has the content.

use std::io::{self, Write};

use caisson::oci::features;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

const NAME: &str = "io.containerd.caisson.v2";
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the version.
pub(crate) fn print_version() -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("containerd-shim-caisson-v2:\n  Version:  {version}\n");
    io::stdout().write_all(text.as_bytes())
}

/// Prints a `containerd.types.RuntimeInfo`. Options on standard input change
/// nothing of it.
pub(crate) fn print_description() -> io::Result<()> {
    let bytes = description().write_to_bytes().map_err(io::Error::other)?;
    io::stdout().write_all(&bytes)
}

fn description() -> RuntimeInfo {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let features = Any {
        type_url: FEATURES.to_owned(),
        value: features::features().to_string().into_bytes(),
        ..Default::default()
    };
    RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(version).into(),
        features: Some(features).into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_holds_the_features_document() {
        let bytes = description().write_to_bytes().unwrap();
        let info = RuntimeInfo::parse_from_bytes(&bytes).unwrap();
        let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
        assert!(features["ociVersionMax"].is_string());
    }
}
