//! The hooks of one container, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

/// When a hook of the host is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// The namespaces and cgroup of the owner are there, the machine is not.
    Prestart,
    /// Right after the former.
    CreateRuntime,
    /// After those, in the owner's namespaces.
    CreateContainer,
    /// The container's program runs.
    Poststart,
    /// The container is removed.
    Poststop,
}

impl HookKind {
    /// The member of config.json.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// What the container's state says meanwhile (runtime-spec, runtime.md#state).
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Its arguments with its name, or nothing: then the path is its name.
    pub args: Vec<String>,
    /// Its whole environment; none is named: it has that of this program, as
    /// runc and crun do it.
    pub env: Option<Vec<(String, String)>>,
    /// It is killed after this.
    pub limit: Option<Duration>,
}

/// A hook that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hooks.{kind}[{index}]: {reason}")]
pub struct Malformed {
    kind: &'static str,
    index: usize,
    reason: String,
}

/// The hooks of one container that the host runs, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    create_container: Vec<Hook>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

impl Hooks {
    /// Takes them from config.json.
    ///
    /// # Errors
    /// A path that is not absolute, a time limit of nothing, a malformed variable.
    pub fn planned(hooks: Option<&oci::Hooks>) -> Result<Self, Malformed> {
        let Some(hooks) = hooks else {
            return Ok(Self::default());
        };
        // The guest runs these; here they are only checked.
        parsed("startContainer", hooks.start_container().as_deref())?;
        Ok(Self {
            prestart: parsed(HookKind::Prestart.name(), hooks.prestart().as_deref())?,
            create_runtime: parsed(
                HookKind::CreateRuntime.name(),
                hooks.create_runtime().as_deref(),
            )?,
            create_container: parsed(
                HookKind::CreateContainer.name(),
                hooks.create_container().as_deref(),
            )?,
            poststart: parsed(HookKind::Poststart.name(), hooks.poststart().as_deref())?,
            poststop: parsed(HookKind::Poststop.name(), hooks.poststop().as_deref())?,
        })
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: HookKind) -> &[Hook] {
        match kind {
            HookKind::Prestart => &self.prestart,
            HookKind::CreateRuntime => &self.create_runtime,
            HookKind::CreateContainer => &self.create_container,
            HookKind::Poststart => &self.poststart,
            HookKind::Poststop => &self.poststop,
        }
    }

    /// Whether any is due before the machine starts, outside of the owner.
    #[must_use]
    pub const fn has_runtime_hooks(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// Whether any may mount something that the container should see.
    #[must_use]
    pub const fn may_mount(&self) -> bool {
        self.has_runtime_hooks() || !self.create_container.is_empty()
    }
}

fn parsed(kind: &'static str, hooks: Option<&[oci::Hook]>) -> Result<Vec<Hook>, Malformed> {
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks
        .map(|(index, hook)| {
            parse(hook).map_err(|reason| Malformed {
                kind,
                index,
                reason,
            })
        })
        .collect()
}

fn parse(hook: &oci::Hook) -> Result<Hook, String> {
    let path = hook.path();
    if !path.is_absolute() {
        return Err(format!("path {} is not absolute", path.display()));
    }
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => return Err(format!("timeout {seconds} is not greater than zero")),
        },
    };
    let pair = |variable: &String| match variable.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("env {variable:?} is not of the form name=value")),
    };
    let pairs = |variables: &Vec<String>| variables.iter().map(pair).collect();
    Ok(Hook {
        path: path.clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().as_ref().map(pairs).transpose()?,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(hooks: serde_json::Value) -> Result<Hooks, Malformed> {
        let hooks: oci::Hooks = serde_json::from_value(hooks).unwrap();
        Hooks::planned(Some(&hooks))
    }

    #[test]
    fn a_hook_is_taken_with_all_it_says() {
        let hooks = planned(json!({"createRuntime": [
            {"path": "/bin/a", "args": ["a", "-x"], "env": ["K=v=w"], "timeout": 3}, {"path": "/bin/b"},
        ]}))
        .unwrap();
        let [first, second] = hooks.of(HookKind::CreateRuntime) else {
            panic!("two hooks: {hooks:?}");
        };
        assert_eq!(first.args, ["a", "-x"]);
        assert_eq!(first.env, Some(vec![("K".to_owned(), "v=w".to_owned())]));
        assert_eq!(second.env, None);
        assert_eq!(first.limit, Some(Duration::from_secs(3)));
        assert_eq!((second.args.len(), second.limit), (0, None));
        assert!(hooks.has_runtime_hooks() && hooks.may_mount());
    }

    #[test]
    fn what_cannot_be_a_hook_is_named() {
        for (hook, text) in [
            (json!({"path": "a"}), "path a is not absolute"),
            (
                json!({"path": "/a", "timeout": 0}),
                "timeout 0 is not greater than zero",
            ),
            (
                json!({"path": "/a", "timeout": -1}),
                "timeout -1 is not greater than zero",
            ),
            (
                json!({"path": "/a", "env": ["K"]}),
                "env \"K\" is not of the form name=value",
            ),
        ] {
            let err = planned(json!({"poststop": [{"path": "/ok"}, hook]})).unwrap_err();
            assert_eq!(err.to_string(), format!("hooks.poststop[1]: {text}"));
        }
    }

    #[test]
    fn hooks_after_the_start_change_no_namespaces() {
        let hooks = planned(json!({"poststart": [{"path": "/a"}]})).unwrap();
        assert!(!hooks.may_mount());
        assert_eq!(Hooks::planned(None).unwrap(), Hooks::default());
    }
}
