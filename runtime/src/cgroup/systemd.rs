//! Scopes of systemd, made, changed and stopped by its manager.
//!
//! Owns the way to the manager: its bus, or its private socket where there is no
//! bus, as in small systems and early in the boot. What a scope is like is the
//! caller's to say.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use zvariant::{DynamicType, OwnedObjectPath, Value};

use crate::cgroup::dbus;
use crate::cgroup::dbus::{Client, Message, Target};
use crate::cgroup::property::{Property, Typed};
use crate::host::identity::own_uid;

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// An answer, or the end of a job, comes in this time or systemd is stuck.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the bus nor the manager's own socket answers.
    #[error("connect to systemd: neither by its bus ({bus}) nor by {}; start systemd, or use cgroups without --systemd-cgroup", socket.display())]
    Unreachable {
        /// Why not by the bus.
        bus: String,
        /// The other way.
        socket: PathBuf,
        /// Why not by that.
        #[source]
        source: dbus::Error,
    },
    /// The manager refuses.
    #[error("{action} {unit}")]
    Bus {
        /// What was being done.
        action: &'static str,
        /// With which unit.
        unit: String,
        /// What systemd says.
        #[source]
        source: dbus::Error,
    },
    /// systemd has tried and failed.
    #[error(
        "systemd could not start {unit}: the job's result is {result:?}; see journalctl --unit {unit}"
    )]
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
    /// That of the user this process runs for: root of a user namespace is none.
    pub(super) fn of_this_user() -> Self {
        if own_uid() == 0 {
            Self::System
        } else {
            Self::User
        }
    }

    /// Where it listens, unless the environment says otherwise.
    fn address(self) -> String {
        let variable = match self {
            Self::System => "DBUS_SYSTEM_BUS_ADDRESS",
            Self::User => "DBUS_SESSION_BUS_ADDRESS",
        };
        std::env::var(variable).unwrap_or_else(|_| match self {
            Self::System => "unix:path=/run/dbus/system_bus_socket".to_owned(),
            Self::User => format!("unix:path={}/bus", runtime_directory().display()),
        })
    }

    const fn default_slice(self) -> &'static str {
        match self {
            Self::System => "system.slice",
            Self::User => "user.slice",
        }
    }

    fn private_socket(self) -> PathBuf {
        match self {
            Self::System => "/run/systemd/private".into(),
            Self::User => runtime_directory().join("systemd/private"),
        }
    }
}

fn runtime_directory() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| format!("/run/user/{}", own_uid()).into())
}

/// A manager that answers.
struct Systemd {
    client: Client,
    /// Its name on the bus, which is nobody else's; none on its private socket.
    owner: Option<String>,
}

impl Systemd {
    fn connect(bus: Bus) -> Result<Self, Error> {
        let by_bus = match Self::by_bus(bus) {
            Ok(manager) => return Ok(manager),
            Err(err) => err,
        };
        let socket = bus.private_socket();
        match Client::to_peer(&socket, own_uid(), LIMIT) {
            Ok(client) => Ok(Self {
                client,
                owner: None,
            }),
            Err(source) => Err(Error::Unreachable {
                bus: crate::log::error_line::chain(&by_bus),
                socket,
                source,
            }),
        }
    }

    fn by_bus(bus: Bus) -> Result<Self, dbus::Error> {
        let mut client = Client::to_bus(&bus.address(), own_uid(), LIMIT)?;
        let owner = Some(client.owner_of(SERVICE)?);
        Ok(Self { client, owner })
    }

    fn call<B>(&mut self, method: &str, body: &B) -> Result<Message, dbus::Error>
    where
        B: Serialize + DynamicType,
    {
        self.client.call(target(&self.owner), method, body)
    }

    /// From now on, the ends of jobs are told.
    fn follow_jobs(&mut self) -> Result<(), dbus::Error> {
        if self.owner.is_some() {
            self.client.subscribe(&target(&self.owner), "JobRemoved")?;
        }
        self.call("Subscribe", &()).map(drop)
    }

    /// systemd's word for how a job has ended.
    fn result_of(&mut self, job: &Message) -> Result<String, dbus::Error> {
        /// Number, path, unit, result.
        type Removed = (u32, OwnedObjectPath, String, String);
        let job: OwnedObjectPath = job.arguments()?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let signal = self.client.signal(&target(&self.owner), deadline)?;
            if signal.member != "JobRemoved" {
                continue;
            }
            let (_, path, _, result) = signal.arguments::<Removed>()?;
            if path == job {
                return Ok(result);
            }
        }
    }
}

fn target(owner: &Option<String>) -> Target<'_> {
    Target {
        name: owner.as_deref(),
        path: MANAGER,
        interface: INTERFACE,
    }
}

/// Starts the scope `unit` with the process `pid` in it, and waits until it is there.
/// The `requested` properties come after caisson's own, so they prevail.
pub(super) fn start(
    bus: Bus,
    slice: Option<&str>,
    unit: &str,
    requested: &[Property],
    pid: i32,
) -> Result<(), Error> {
    let failed = |action| failed(action, unit);
    let mut manager = Systemd::connect(bus)?;
    manager
        .follow_jobs()
        .map_err(failed("follow the start of"))?;
    let slice = slice.unwrap_or_else(|| bus.default_slice());
    let mut properties = own_properties(slice, unit, pid);
    properties.extend(requested.iter().map(travelling));
    let arguments = (unit, "fail", properties, Auxiliary::new());
    let begin = |manager: &mut Systemd| manager.call("StartTransientUnit", &arguments);
    let job = match begin(&mut manager) {
        // One of that name may have failed, and is remembered for nothing else.
        Err(err) if is_named(&err, "UnitExists") => manager
            .call("ResetFailedUnit", &(unit,))
            .and_then(|_| begin(&mut manager)),
        other => other,
    };
    let job = job.map_err(failed("have systemd start"))?;
    let result = manager.result_of(&job);
    match result.map_err(failed("follow the start of"))?.as_str() {
        "done" => Ok(()),
        result => Err(Error::Job {
            unit: unit.to_owned(),
            result: result.to_owned(),
        }),
    }
}

/// Changes properties of a scope until it ends.
pub(super) fn change(bus: Bus, unit: &str, properties: &[Property]) -> Result<(), Error> {
    let mut manager = Systemd::connect(bus)?;
    let properties: Properties<'_> = properties.iter().map(travelling).collect();
    // Kept below /run, as all of a transient unit.
    let changed = manager.call("SetUnitProperties", &(unit, true, properties));
    changed.map(drop).map_err(failed("set properties of", unit))
}

/// Stops the scope, and waits until it is; one that is gone already, as an empty one
/// soon is, is left so, and so is one of a systemd that is gone.
pub(super) fn stop(bus: Bus, unit: &str) {
    let Ok(mut manager) = Systemd::connect(bus) else {
        return;
    };
    let stopped = manager
        .follow_jobs()
        .and_then(|()| manager.call("StopUnit", &(unit, "replace")))
        .and_then(|job| manager.result_of(&job));
    // A failed one would be there until somebody asks why.
    let forgotten = manager.call("ResetFailedUnit", &(unit,));
    drop((stopped, forgotten));
}

type Properties<'a> = Vec<(&'a str, Value<'a>)>;
/// Units that would be started along; there are none.
type Auxiliary<'a> = Vec<(&'a str, Properties<'a>)>;

fn own_properties<'a>(slice: &'a str, unit: &str, pid: i32) -> Properties<'a> {
    vec![
        (
            "Description",
            Value::from(format!("caisson container {unit}")),
        ),
        ("Slice", Value::from(slice)),
        ("Delegate", Value::from(true)),
        ("DefaultDependencies", Value::from(false)),
        ("MemoryAccounting", Value::from(true)),
        ("CPUAccounting", Value::from(true)),
        ("IOAccounting", Value::from(true)),
        ("TasksAccounting", Value::from(true)),
        ("PIDs", Value::from(vec![pid.unsigned_abs()])),
    ]
}

fn travelling(property: &Property) -> (&str, Value<'_>) {
    let value = match &property.value {
        Typed::Bool(value) => Value::from(*value),
        Typed::Byte(value) => Value::from(*value),
        Typed::Int16(value) => Value::from(*value),
        Typed::Uint16(value) => Value::from(*value),
        Typed::Int32(value) => Value::from(*value),
        Typed::Uint32(value) => Value::from(*value),
        Typed::Int64(value) => Value::from(*value),
        Typed::Uint64(value) => Value::from(*value),
        Typed::Text(value) => Value::from(value.as_str()),
        Typed::Texts(value) => Value::from(value),
        Typed::Bytes(value) => Value::from(value),
    };
    (&property.name, value)
}

/// Whether this is systemd's error of that name.
fn is_named(err: &dbus::Error, wanted: &str) -> bool {
    let dbus::Error::Refused { name, .. } = err else {
        return false;
    };
    name.strip_prefix("org.freedesktop.systemd1.") == Some(wanted)
}

fn failed(action: &'static str, unit: &str) -> impl FnOnce(dbus::Error) -> Error {
    let unit = unit.to_owned();
    move |source| Error::Bus {
        action,
        unit,
        source,
    }
}
