//! The flags that containerd gives a shim: Go's form, one dash, before the action.
//!
//! Owns their reading. Flags that containerd adds later are accepted and have no effect:
//! it passes the same values in the environment or on standard input.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// Print the version.
    Version,
    /// Print what this shim can do.
    Describe,
    /// Start the server, or find the running one.
    Start,
    /// Run as that server, on the listening socket that is standard input.
    #[default]
    Serve,
    /// Clean up after a server that is gone.
    Delete,
}

/// The flags and the action of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) action: Action,
    /// Namespace of containerd.
    pub(crate) namespace: String,
    /// Name of the container.
    pub(crate) id: String,
    /// The address at which containerd serves its clients.
    pub(crate) address: String,
    /// The address to which events go, where it is not in the environment.
    pub(crate) events: Option<String>,
    /// Directory of the bundle, for `delete`.
    pub(crate) bundle: Option<PathBuf>,
    /// Enable debug logging.
    pub(crate) debug: bool,
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag without its value.
    #[error("-{0} needs a value")]
    NoValue(String),
    /// An action that no shim has.
    #[error("unknown action {0:?}: containerd calls this program with start or delete")]
    Action(String),
    /// The namespace or the name of the container is missing.
    #[error("-namespace and -id are needed; this program is started by containerd, not by hand")]
    Nobody,
}

/// Flags that stand alone.
const SWITCHES: [&str; 5] = ["debug", "v", "version", "info", "help"];

impl Arguments {
    /// Reads them.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, Error> {
        let mut arguments = Self::default();
        let mut action = None;
        let mut words = words.map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                action = Some(action_of(&word)?);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if SWITCHES.contains(&name) {
                match name {
                    "debug" => arguments.debug = value.is_none_or(|value| value == "true"),
                    "info" => action = Some(Action::Describe),
                    _ => action = Some(Action::Version),
                }
                continue;
            }
            let value = value
                .or_else(|| words.next())
                .ok_or_else(|| Error::NoValue(name.to_owned()))?;
            arguments.set(name, value);
        }
        arguments.action = action.unwrap_or_default();
        let anonymous = arguments.namespace.is_empty() || arguments.id.is_empty();
        if anonymous && !matches!(arguments.action, Action::Version | Action::Describe) {
            return Err(Error::Nobody);
        }
        Ok(arguments)
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "events" => self.events = Some(value),
            "bundle" => self.bundle = Some(value.into()),
            _ => {}
        }
    }
}

fn action_of(word: &str) -> Result<Action, Error> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "serve" => Ok(Action::Serve),
        other => Err(Error::Action(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, Error> {
        Arguments::parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn what_containerd_sends_is_understood() {
        let words = "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd \
                     -id web1 -debug start";
        let arguments = parse(words).unwrap();
        assert_eq!(arguments.action, Action::Start);
        assert_eq!(arguments.namespace, "k8s.io");
        assert_eq!(arguments.id, "web1");
        assert_eq!(arguments.address, "/run/c.sock");
        assert!(arguments.debug);
        let arguments = parse("-namespace=n -id=i -bundle=/b delete").unwrap();
        assert_eq!(arguments.action, Action::Delete);
        assert_eq!(arguments.bundle, Some("/b".into()));
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Describe);
    }

    #[test]
    fn what_no_shim_does_is_refused() {
        assert!(matches!(
            parse("-namespace n -id i run"),
            Err(Error::Action(_))
        ));
        assert!(matches!(parse("start"), Err(Error::Nobody)));
        assert!(matches!(parse("-namespace"), Err(Error::NoValue(_))));
    }
}
