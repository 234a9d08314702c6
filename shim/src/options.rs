//! The options of this runtime in containerd's configuration, as `Create` has them.
//!
//! Owns the two forms: options of other runtimes (`runtimeoptions.v1.Options`: a
//! file's name, or the table itself), and runc's, which some callers send to all.
//! A member without a meaning here is refused by its name.

use std::path::{Path, PathBuf};
use std::{fs, io};

use caisson::cgroup::Driver;
use containerd_shim_protos::shim::oci::Options as RuncOptions;
use protobuf::well_known_types::any::Any;
use protobuf::{CodedInputStream, Message};

use crate::error::Error;
use crate::paths;

const RUNC: &str = "containerd.runc.v1.Options";
const OTHERS: &str = "runtimeoptions.v1.Options";
/// The file in a container's bundle that has its table of options.
const WRITTEN: &str = "caisson.toml";
/// The file in a sandbox's bundle that has its options.
const SAVED: &str = "options.pb";

/// The options that this shim has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The cgroup driver; without one the form of `linux.cgroupsPath` decides.
    pub(crate) driver: Option<Driver>,
    /// The path of caisson's configuration.
    pub(crate) config: Option<PathBuf>,
}

impl Options {
    /// Reads them. A table is written into `bundle`, as a configuration.
    pub(crate) fn of(any: Option<&Any>, bundle: &Path) -> Result<Self, Error> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        match type_name(any) {
            RUNC => of_runc(&any.value),
            OTHERS => of_others(&any.value, bundle),
            other => Err(Error::Invalid(format!(
                "options of type {other:?} are not known: use {OTHERS:?}"
            ))),
        }
    }
}

/// The name of the message's type, without the host that some callers prefix.
fn type_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// Saves options that came with `start` in the bundle, for a sandbox: CreateSandbox has
/// the pod's configuration in their place.
pub(crate) fn save(any: &Any, bundle: &Path) -> io::Result<()> {
    if ![RUNC, OTHERS].contains(&type_name(any)) {
        return Ok(());
    }
    let bytes = any.write_to_bytes().map_err(io::Error::other)?;
    paths::write(&bundle.join(SAVED), &bytes)
}

/// The options that [`save`] has written, if any.
pub(crate) fn saved(bundle: &Path) -> Result<Option<Any>, Error> {
    let read = match fs::read(bundle.join(SAVED)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|err| Error::step("read the runtime's options", &err))?,
    };
    let any = Any::parse_from_bytes(&read)
        .map_err(|err| Error::step("read the runtime's options", &err))?;
    Ok(Some(any))
}

fn of_runc(bytes: &[u8]) -> Result<Options, Error> {
    let options = RuncOptions::parse_from_bytes(bytes)
        .map_err(|err| Error::step("read the runtime's options", &err))?;
    let meant_for_runc = [
        ("ShimCgroup", !options.shim_cgroup.is_empty()),
        ("IoUid", options.io_uid != 0),
        ("IoGid", options.io_gid != 0),
        ("BinaryName", !options.binary_name.is_empty()),
        ("Root", !options.root.is_empty()),
    ];
    if let Some((name, _)) = meant_for_runc.iter().find(|(_, is_set)| *is_set) {
        let text = format!("options: {name} is runc's, and means nothing here");
        return Err(Error::Invalid(text));
    }
    // NoPivotRoot and NoNewKeyring have no effect: a machine has its own root and keyrings.
    Ok(Options {
        driver: options.systemd_cgroup.then_some(Driver::Systemd),
        config: None,
    })
}

fn of_others(bytes: &[u8], bundle: &Path) -> Result<Options, Error> {
    let [_, path, body] =
        fields(bytes).map_err(|err| Error::step("read the runtime's options", &err))?;
    if !path.is_empty() {
        let path = PathBuf::from(path);
        if !path.is_file() {
            let text = format!("options: ConfigPath {} is no file", path.display());
            return Err(Error::Invalid(text));
        }
        return Ok(Options {
            driver: None,
            config: Some(path),
        });
    }
    of_table(&body, bundle)
}

/// The three strings of the message, for which no crate has a type.
fn fields(bytes: &[u8]) -> protobuf::Result<[String; 3]> {
    let mut fields: [String; 3] = Default::default();
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // A number of the field, and 2 for a length and bytes.
        let number = (tag >> 3) as usize;
        let text = input.read_bytes()?;
        if let Some(field) = number
            .checked_sub(1)
            .and_then(|index| fields.get_mut(index))
        {
            *field = String::from_utf8_lossy(&text).into_owned();
        }
    }
    Ok(fields)
}

/// The table is written as caisson's configuration, without what other runtimes have in
/// common: `SystemdCgroup` selects the cgroup driver.
fn of_table(body: &str, bundle: &Path) -> Result<Options, Error> {
    let mut table: toml::Table = body
        .parse()
        .map_err(|err| Error::step("read the runtime's options", &err))?;
    let systemd = table.remove("SystemdCgroup");
    let driver = match systemd.map(|value| value.as_bool()) {
        None | Some(Some(false)) => None,
        Some(Some(true)) => Some(Driver::Systemd),
        Some(None) => {
            let text = "options: SystemdCgroup is true or false";
            return Err(Error::Invalid(text.to_owned()));
        }
    };
    for empty in ["TypeUrl", "ConfigPath", "ConfigBody"] {
        table.remove(empty);
    }
    if table.is_empty() {
        return Ok(Options {
            driver,
            config: None,
        });
    }
    let path = bundle.join(WRITTEN);
    paths::write(&path, table.to_string().as_bytes())
        .map_err(|err| Error::step("write the runtime's options", &err))?;
    Ok(Options {
        driver,
        config: Some(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::CodedOutputStream;

    fn any(path: &str, body: &str) -> Any {
        let mut value = Vec::new();
        {
            let mut output = CodedOutputStream::vec(&mut value);
            output.write_string(1, "x").unwrap();
            output.write_string(2, path).unwrap();
            output.write_string(3, body).unwrap();
            output.flush().unwrap();
        }
        Any {
            type_url: OTHERS.to_owned(),
            value,
            ..Default::default()
        }
    }

    #[test]
    fn a_table_becomes_a_configuration_without_what_is_the_shims() {
        let directory = tempfile::tempdir().unwrap();
        let any = any("", "SystemdCgroup = true\nmachine = \"tcg\"\n");
        let options = Options::of(Some(&any), directory.path()).unwrap();
        assert_eq!(options.driver, Some(Driver::Systemd));
        let text = fs::read_to_string(options.config.unwrap()).unwrap();
        assert_eq!(text.trim(), "machine = \"tcg\"");
    }

    #[test]
    fn nothing_asked_for_is_nothing_changed() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(Options::of(None, nowhere).unwrap(), Options::default());
        let empty = any("", "SystemdCgroup = false\n");
        assert_eq!(
            Options::of(Some(&empty), nowhere).unwrap(),
            Options::default()
        );
        Options::of(Some(&any("/no/file", "")), nowhere).unwrap_err();
    }

    #[test]
    fn options_of_runc_count_or_are_refused_by_name() {
        let of = |options: RuncOptions| {
            let any = Any {
                type_url: RUNC.to_owned(),
                value: options.write_to_bytes().unwrap(),
                ..Default::default()
            };
            Options::of(Some(&any), Path::new("/"))
        };
        let systemd = RuncOptions {
            systemd_cgroup: true,
            no_pivot_root: true,
            ..Default::default()
        };
        assert_eq!(of(systemd).unwrap().driver, Some(Driver::Systemd));
        let other = RuncOptions {
            binary_name: "/usr/bin/crun".to_owned(),
            ..Default::default()
        };
        let text = of(other).unwrap_err().to_string();
        assert!(text.contains("BinaryName"), "{text}");
    }

    #[test]
    fn options_of_another_runtime_are_refused_by_name() {
        let strange = Any {
            type_url: "example.Options".to_owned(),
            ..Default::default()
        };
        let err = Options::of(Some(&strange), Path::new("/")).unwrap_err();
        assert!(err.to_string().contains("example.Options"));
    }
}
