//! Scopes of systemd, made and stopped by its manager over D-Bus.

use zbus::blocking::{Connection, Proxy};
use zbus::zvariant::{OwnedObjectPath, Value};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bus or its manager does not answer.
    #[error("{doing}")]
    Bus {
        /// What was being done.
        doing: &'static str,
        /// What the bus says.
        #[source]
        source: Box<zbus::Error>,
    },
    /// systemd has tried and failed.
    #[error("systemd could not start {unit}: the job's result is {result:?}")]
    Job {
        /// The scope.
        unit: String,
        /// systemd's word, such as `failed` or `timeout`.
        result: String,
    },
}

/// Whose units they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bus {
    /// The system's.
    System,
    /// The user's own manager, which has cgroups delegated to it.
    User,
}

impl Bus {
    fn connect(self) -> Result<Connection, Error> {
        match self {
            Self::System => Connection::system(),
            Self::User => Connection::session(),
        }
        .map_err(failed("connect to systemd"))
    }

    const fn default_slice(self) -> &'static str {
        match self {
            Self::System => "system.slice",
            Self::User => "user.slice",
        }
    }
}

/// Starts the scope `unit` with the process `pid` in it, and waits until it is there.
pub(super) fn start(bus: Bus, slice: Option<&str>, unit: &str, pid: i32) -> Result<(), Error> {
    let connection = bus.connect()?;
    let manager = manager(&connection)?;
    // Signals reach those who subscribe.
    manager
        .call_method("Subscribe", &())
        .map_err(failed("subscribe to systemd's jobs"))?;
    let jobs = manager
        .receive_signal("JobRemoved")
        .map_err(failed("subscribe to systemd's jobs"))?;
    let slice = slice.unwrap_or_else(|| bus.default_slice());
    let job: OwnedObjectPath = manager
        .call(
            "StartTransientUnit",
            &(unit, "fail", properties(slice, unit, pid), Auxiliary::new()),
        )
        .map_err(failed("start a scope of systemd"))?;
    for signal in jobs {
        let body = signal.body();
        let removed = body.deserialize::<(u32, OwnedObjectPath, String, String)>();
        let (_, path, _, result) = removed.map_err(failed("read a job of systemd"))?;
        if path != job {
            continue;
        }
        return match result.as_str() {
            "done" => Ok(()),
            _ => Err(Error::Job {
                unit: unit.to_owned(),
                result,
            }),
        };
    }
    Err(Error::Job {
        unit: unit.to_owned(),
        result: "unknown".into(),
    })
}

/// Stops the scope; one that is gone already, as an empty one soon is, is left so.
pub(super) fn stop(bus: Bus, unit: &str) {
    let stopped = bus.connect().and_then(|connection| {
        let manager = manager(&connection)?;
        manager
            .call_method("StopUnit", &(unit, "replace"))
            .map_err(failed("stop a scope of systemd"))
    });
    drop(stopped);
}

type Properties<'a> = Vec<(&'static str, Value<'a>)>;
/// Units that would be started along; there are none.
type Auxiliary<'a> = Vec<(&'a str, Properties<'a>)>;

fn properties<'a>(slice: &'a str, unit: &str, pid: i32) -> Properties<'a> {
    vec![
        (
            "Description",
            Value::from(format!("caisson container {unit}")),
        ),
        ("Slice", Value::from(slice)),
        // Limits are written by caisson: they leave room for the machine.
        ("Delegate", Value::from(true)),
        ("DefaultDependencies", Value::from(false)),
        ("MemoryAccounting", Value::from(true)),
        ("CPUAccounting", Value::from(true)),
        ("IOAccounting", Value::from(true)),
        ("TasksAccounting", Value::from(true)),
        ("PIDs", Value::from(vec![pid.unsigned_abs()])),
    ]
}

fn manager(connection: &Connection) -> Result<Proxy<'_>, Error> {
    Proxy::new(connection, SERVICE, MANAGER, INTERFACE).map_err(failed("connect to systemd"))
}

fn failed(doing: &'static str) -> impl FnOnce(zbus::Error) -> Error {
    move |source| Error::Bus {
        doing,
        source: Box::new(source),
    }
}
