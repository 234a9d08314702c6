//! Random sequences of verbs against one name: alone, each does what a model of
//! the container's life says; from several processes at once, each ends in time
//! with one of runc's answers, and nothing is left over.
//!
//! `CAISSON_SEED` repeats a sequence.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use caisson_tests::output::without_emulation_warning;
use caisson_tests::{Bundle, Output, Scene, stories, wait};

stories![
    a_sequence_from_one_process_does_what_the_model_says.limit(300),
    sequences_from_several_processes_leave_one_sound_state.limit(300),
];

/// A command that takes longer waits for ever.
const CALL_LIMIT: Duration = Duration::from_secs(100);

/// What the container is, by the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Absent,
    Created,
    Running,
    PausedCreated,
    PausedRunning,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Start,
    Run,
    Exec,
    Kill,
    KillAll,
    Delete,
    DeleteForce,
    State,
    List,
    Ps,
    Pause,
    Resume,
    Update,
    Events,
}

/// Those that make a container come twice, so that there mostly is one.
const VERBS: [Verb; 17] = [
    Verb::Create,
    Verb::Create,
    Verb::Start,
    Verb::Start,
    Verb::Run,
    Verb::Exec,
    Verb::Kill,
    Verb::KillAll,
    Verb::Delete,
    Verb::DeleteForce,
    Verb::State,
    Verb::List,
    Verb::Ps,
    Verb::Pause,
    Verb::Resume,
    Verb::Update,
    Verb::Events,
];

impl Verb {
    /// What follows `caisson`.
    fn arguments(self, bundle: &Bundle) -> Vec<String> {
        let folder = bundle.path.to_str().unwrap();
        let id = bundle.id.as_str();
        let words: &[&str] = match self {
            Self::Create => &["create", "--bundle", folder, id],
            Self::Start => &["start", id],
            Self::Run => &["run", "--detach", "--bundle", folder, id],
            Self::Exec => &["exec", id, "true"],
            Self::Kill => &["kill", id, "KILL"],
            Self::KillAll => &["kill", "--all", id, "KILL"],
            Self::Delete => &["delete", id],
            Self::DeleteForce => &["delete", "--force", id],
            Self::State => &["state", id],
            Self::List => &["list"],
            Self::Ps => &["ps", id],
            Self::Pause => &["pause", id],
            Self::Resume => &["resume", id],
            Self::Update => &["update", "--pids-limit", "60", id],
            Self::Events => &["events", "--stats", id],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// What becomes of a container by it; `None` where it is refused.
    const fn applied_to(self, life: Life) -> Option<Life> {
        use Life::{Absent, Created, PausedCreated, PausedRunning, Running, Stopped};
        Some(match (self, life) {
            (Self::List, same) => same,
            (Self::Create, Absent) => Created,
            (Self::Run, Absent) => Running,
            (Self::Create | Self::Run, _) => return None,
            (Self::DeleteForce, _) => Absent,
            (_, Absent) => return None,
            (Self::State | Self::Ps, same) => same,
            (Self::KillAll, _) => Stopped,
            (Self::Delete, Created | Stopped) => Absent,
            (Self::Delete, _) | (_, Stopped) => return None,
            (Self::Kill, _) => Stopped,
            (Self::Update | Self::Events, same) => same,
            (Self::Resume, PausedCreated) | (Self::Exec, Created) => Created,
            (Self::Resume, PausedRunning) | (Self::Start, Created) | (Self::Exec, Running) => {
                Running
            }
            (Self::Pause, Created) => PausedCreated,
            (Self::Pause, Running) => PausedRunning,
            _ => return None,
        })
    }

    /// Exit code of a refusal.
    const fn refusal(self) -> i32 {
        match self {
            Self::Exec => 255,
            _ => 1,
        }
    }
}

impl Life {
    /// The status that callers see.
    const fn status(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Created => "created",
            Self::Running => "running",
            Self::PausedCreated | Self::PausedRunning => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Numbers that look random and come again with their seed (xorshift).
struct Dice(u64);

impl Dice {
    fn thrown(scene: &Scene) -> Self {
        let given = std::env::var("CAISSON_SEED").ok();
        let clock = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let seed = given.map_or_else(|| u64::from(clock), |text| text.parse().unwrap()) | 1;
        scene.note(&format!("CAISSON_SEED={seed} repeats this"));
        Self(seed)
    }

    fn verb(&mut self) -> Verb {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        VERBS[usize::try_from(self.0 >> 33).unwrap() % VERBS.len()]
    }
}

fn status(scene: &Scene, bundle: &Bundle) -> String {
    let output = scene.caisson(["state", &bundle.id]);
    if output.code != 0 {
        assert!(output.stderr.contains("does not exist"), "{output:?}");
        return "absent".to_owned();
    }
    let state: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

fn a_sequence_from_one_process_does_what_the_model_says(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let mut dice = Dice::thrown(scene);
    let mut life = Life::Absent;
    for _ in 0..scene.settings.count(300) {
        let verb = dice.verb();
        let output = scene.caisson(verb.arguments(&bundle));
        let next = verb.applied_to(life);
        let code = if next.is_some() { 0 } else { verb.refusal() };
        assert_eq!(output.code, code, "{verb:?} of {life:?}: {output:?}");
        life = next.unwrap_or(life);
        if matches!(verb, Verb::Kill | Verb::KillAll) && life == Life::Stopped {
            await_the_end(scene, &bundle);
        }
        assert_eq!(status(scene, &bundle), life.status(), "after {verb:?}");
    }
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}

/// A signal is sent when `kill` returns; the end follows in its own time.
fn await_the_end(scene: &Scene, bundle: &Bundle) {
    let state = scene.caisson(["state", &bundle.id]).ok();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    assert!(pid == 0 || wait::ends_within(pid, CALL_LIMIT), "{state}");
}

/// One command to be run, with files for what it says.
struct Call {
    verb: Verb,
    command: Command,
    stderr: PathBuf,
}

impl Call {
    fn prepared(scene: &Scene, bundle: &Bundle, verb: Verb) -> Self {
        let mut command = scene.command(verb.arguments(bundle));
        let stderr = scene.path(&format!("call-{}", scene.number()));
        command.stdout(std::process::Stdio::null());
        command.stderr(File::create(&stderr).unwrap());
        Self {
            verb,
            command,
            stderr,
        }
    }

    /// Runs it, and answers what is wrong with its end.
    fn complaint(mut self) -> Option<String> {
        let mut child = self.command.spawn().unwrap();
        let pidfd = wait::pidfd(i32::try_from(child.id()).unwrap()).unwrap();
        if !wait::readable_within(pidfd.as_fd(), CALL_LIMIT) {
            child.kill().and_then(|()| child.wait()).unwrap();
            return Some(format!("{:?} hangs", self.verb));
        }
        let code = Output::code_of(child.wait().unwrap());
        let said = without_emulation_warning(&fs::read_to_string(&self.stderr).unwrap());
        let refused = code == self.verb.refusal() && ANSWERS.iter().any(|one| said.contains(one));
        // What runs in a container that is killed is killed.
        let killed = self.verb == Verb::Exec && code == 137;
        let sound = (code == 0 && said.is_empty()) || refused || killed;
        (!sound).then(|| format!("{:?} ended with {code}: {said}", self.verb))
    }
}

/// What a verb may be told whose moment has passed.
const ANSWERS: &[&str] = &[
    "container does not exist: ",
    "container with given ID already exists: ",
    "container not running",
    "os: process already finished",
    "container not paused",
    " is not running",
    "that is not stopped: ",
    "cannot start a container that has stopped",
    "cannot start an already running container",
    "cannot start a container in the paused state",
    "cannot exec in a paused container",
    "cannot exec in a stopped container",
    "the container ended with this process in it",
    "the process ended while it was set up",
];

fn sequences_from_several_processes_leave_one_sound_state(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    let mut dice = Dice::thrown(scene);
    let calls = scene.settings.count(100);
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let prepared = |_| Call::prepared(scene, &bundle, dice.verb());
            let calls: Vec<Call> = (0..calls).map(prepared).collect();
            std::thread::spawn(move || {
                let complaints = calls.into_iter().filter_map(Call::complaint);
                complaints.collect::<Vec<String>>()
            })
        })
        .collect();
    let complaints: Vec<String> = workers
        .into_iter()
        .flat_map(|worker| worker.join().unwrap())
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let status = status(scene, &bundle);
    let sound = ["absent", "created", "running", "paused", "stopped"];
    assert!(sound.contains(&status.as_str()), "{status}");
    scene.caisson(["delete", "--force", &bundle.id]).ok();
}
