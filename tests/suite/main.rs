//! All tests of whole containers, as one program that runs on the machine
//! under test.
//!
//! Owns the list of subjects and the choice of what is run. With `--play NAME`
//! it is the process in which one test plays; as `probe` it is the program in
//! a container that does what no shell can, and as `/init` the first process of a guest
//! that somebody has taken over.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on has failed"
)]

mod bad_input;
mod barrier;
mod clock;
mod command_line;
mod confinement;
mod descriptors;
mod escape;
mod events;
mod exec;
mod exit_codes;
mod files;
mod held_files;
mod hooks;
mod host_cgroup;
mod hostile;
mod hostile_agent;
mod hotplug;
mod lifecycle;
mod limits;
mod machine_pausing;
mod many;
mod misuse;
mod mount_options;
mod mounts;
mod network;
mod network_live;
mod network_paths;
mod overlays;
mod pausing;
mod probe;
mod process_attributes;
mod random_verbs;
mod readiness;
mod rootless;
mod same_files;
mod sandbox;
mod seccomp;
mod shim;
mod signals;
mod state_directory;
mod streams;
mod sudden_death;
mod systemd;
mod taken_over;
mod terminal;
mod traffic;
mod updates;
mod vsock;

use std::process::{Command, ExitCode};

use caisson_tests::{Machine, Settings, Story, isolation};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// What depends on the virtual machine: devices, memory, the file server's and the
/// network's ways into it, its end.
const OF_THE_MACHINE: &[&[Story]] = &[
    lifecycle::STORIES,
    signals::STORIES,
    exec::STORIES,
    descriptors::STORIES,
    streams::STORIES,
    limits::STORIES,
    pausing::STORIES,
    machine_pausing::STORIES,
    events::STORIES,
    sudden_death::STORIES,
    hostile::STORIES,
    files::STORIES,
    held_files::STORIES,
    barrier::STORIES,
    random_verbs::STORIES,
    clock::STORIES,
    many::STORIES,
    confinement::STORIES,
    escape::STORIES,
    taken_over::STORIES,
    vsock::STORIES,
    hotplug::STORIES,
    network::STORIES,
    network_live::STORIES,
    network_paths::STORIES,
    systemd::STORIES,
    shim::STORIES,
];

/// What the command line, the plan and the agent do, on any machine alike. A short run on
/// kvm, which is slow, has a part of each.
const OF_ALL_MACHINES: &[&[Story]] = &[
    exit_codes::STORIES,
    terminal::STORIES,
    process_attributes::STORIES,
    seccomp::STORIES,
    updates::STORIES,
    same_files::STORIES,
    sandbox::STORIES,
    mount_options::STORIES,
    overlays::STORIES,
    mounts::STORIES,
    bad_input::STORIES,
    misuse::STORIES,
    readiness::STORIES,
    command_line::STORIES,
    hooks::STORIES,
    host_cgroup::STORIES,
    rootless::STORIES,
    state_directory::STORIES,
];

/// Of so many tests on all machines a short run has one.
const SHORT_STEP: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let called = arguments[0].rsplit('/').next().unwrap_or_default();
    if called == "probe" {
        return probe::main(&arguments[1..]);
    }
    if arguments[0] == "/init" {
        return hostile_agent::main();
    }
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("caisson-suite: {message}");
            return ExitCode::from(2);
        }
    };
    match arguments.get(1).map(String::as_str) {
        Some("--play") => play(&arguments[2], &settings),
        _ => run_all(Arguments::from_args(), &settings).exit_code(),
    }
}

fn stories() -> impl Iterator<Item = &'static Story> {
    let subjects = OF_THE_MACHINE.iter().chain(OF_ALL_MACHINES);
    subjects.flat_map(|subject| subject.iter())
}

/// All tests of the machine, and the first, fifth ... of each other subject.
fn short_run() -> impl Iterator<Item = &'static Story> {
    let of_all = OF_ALL_MACHINES.iter();
    let of_all = of_all.flat_map(|subject| subject.iter().step_by(SHORT_STEP));
    let of_one = OF_THE_MACHINE.iter().flat_map(|subject| subject.iter());
    of_one.chain(of_all)
}

fn play(name: &str, settings: &Settings) -> ExitCode {
    let story = stories()
        .find(|story| story.name() == name)
        .expect("a test of this name");
    isolation::play_here(story, settings);
    ExitCode::SUCCESS
}

/// A test host has one CPU, so one test at a time there.
fn run_all(mut arguments: Arguments, settings: &Settings) -> Conclusion {
    let threads = if settings.machine == Machine::Kvm {
        1
    } else {
        2
    };
    arguments.test_threads.get_or_insert(threads);
    let smoke = std::env::var_os("CAISSON_SMOKE").is_some();
    let short = std::env::var("CAISSON_SHORT").is_ok_and(|value| value == "1");
    let chosen: Vec<&Story> = if short && !smoke {
        short_run().collect()
    } else {
        stories().collect()
    };
    let trials = chosen
        .into_iter()
        .filter(|story| story.only.is_none_or(|only| only == settings.machine))
        .filter(|story| story.smoke || !smoke)
        .enumerate()
        .filter(|(number, _)| settings.part.holds(*number))
        .map(|(_, story)| trial(story, settings.soak))
        .collect();
    libtest_mimic::run(&arguments, trials)
}

fn trial(story: &'static Story, soak: bool) -> Trial {
    Trial::test(story.name(), move || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--play", story.name()]);
        isolation::play_apart(command, story.limit_of(soak)).map_err(Failed::from)
    })
}
