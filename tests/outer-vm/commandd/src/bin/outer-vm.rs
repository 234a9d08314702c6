//! Starts, uses and ends test hosts from a shell. Every command is a thin door
//! to the library.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use caisson_commandd::batch::Batch;
use caisson_commandd::test_host::{self, Started};
use caisson_commandd::{Command, Status, TestHost, batch, client, supervisor};
use clap::Parser;

/// Exit codes as those of timeout(1) and env(1).
const TIMED_OUT: u8 = 124;
const NO_RESULT: u8 = 125;
const NOT_STARTED: u8 = 127;

/// A Debian machine with /dev/kvm, emulated, restored in about a second.
#[derive(Parser)]
enum Verb {
    /// Restore a test host and print its directory, which names it for the other commands.
    Start {
        /// Directory of the saved state.
        #[arg(long)]
        state: PathBuf,
        /// Process whose end ends the test host (default: the caller).
        #[arg(long)]
        owner: Option<u32>,
        /// Boot instead of restoring, and write to the state's disk.
        #[arg(long, hide = true)]
        prepare: bool,
    },
    /// Run a command; streams and exit code are passed through.
    Exec(Exec),
    /// Copy a file or the contents of a directory into a test host.
    Put {
        /// The test host.
        host: PathBuf,
        /// File or directory on this side.
        source: PathBuf,
        /// Path in the test host.
        destination: String,
    },
    /// Copy a file or the contents of a directory out of a test host.
    Get {
        /// The test host.
        host: PathBuf,
        /// Path in the test host.
        source: String,
        /// Path on this side.
        destination: PathBuf,
    },
    /// Print lines of the kernel's log that tell of trouble; fail if there are any.
    Check {
        /// The test host.
        host: PathBuf,
    },
    /// Print the milliseconds of CPU time that the test host has used.
    Cpu {
        /// The test host.
        host: PathBuf,
    },
    /// Print the port of the command server, for the library's client.
    Port {
        /// The test host.
        host: PathBuf,
    },
    /// End a test host and remove its directory.
    Stop {
        /// The test host.
        host: PathBuf,
    },
    /// Boot a test host for one program and fetch what it leaves.
    Batch(BatchArguments),
    /// Save the memory of a test host that was started to prepare a state.
    #[command(hide = true)]
    Save {
        /// The test host.
        host: PathBuf,
        /// File to write.
        ram: PathBuf,
    },
    /// The process behind a running test host.
    #[command(hide = true)]
    Supervise {
        /// As for start.
        #[arg(long)]
        state: PathBuf,
        /// As for start.
        #[arg(long)]
        owner: u32,
        /// As for start.
        #[arg(long)]
        prepare: bool,
    },
}

/// Arguments of `exec`.
#[derive(clap::Args)]
struct Exec {
    /// The test host.
    host: PathBuf,
    /// Forward standard input.
    #[arg(short, long)]
    interactive: bool,
    /// Add a variable NAME=VALUE to the environment.
    #[arg(long, value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Working directory.
    #[arg(long)]
    cwd: Option<String>,
    /// Kill the command's process group after this time.
    #[arg(long, default_value_t = 120_000)]
    timeout_ms: u64,
    /// Go on until background processes have closed their output too.
    #[arg(long)]
    follow_output: bool,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Arguments of `batch`.
#[derive(clap::Args)]
struct BatchArguments {
    /// Directory of the saved state.
    #[arg(long)]
    state: PathBuf,
    /// Tree to send, with an executable `run`.
    #[arg(long)]
    input: PathBuf,
    /// Directory for `log`, `kernel.log`, `status` and what `run` puts into $BATCH_OUT.
    #[arg(long)]
    output: PathBuf,
    /// Let the virtual clock count instructions, two nanoseconds each.
    #[arg(long)]
    icount: bool,
    /// Give up after this time.
    #[arg(long, default_value_t = 1_800_000)]
    timeout_ms: u64,
}

/// What ended the program before it had a result.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    TestHost(#[from] test_host::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Batch(#[from] batch::Error),
    #[error("standard output")]
    Output(#[from] io::Error),
    #[error("standard output")]
    Encoding(#[from] serde_json::Error),
    #[error("the caller has ended")]
    NoCaller,
}

fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outer-vm: {}", chain(&error));
            ExitCode::from(NO_RESULT)
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::Start {
            state,
            owner,
            prepare,
        } => {
            let owner = owner.or_else(caller).ok_or(Error::NoCaller)?;
            let host = TestHost::start_for(&state, owner, prepare)?;
            writeln!(io::stdout(), "{}", host.folder.display())?;
        }
        Verb::Exec(exec) => return run_command(exec),
        Verb::Put {
            host,
            source,
            destination,
        } => TestHost::open(&host)?.client().put(&source, &destination)?,
        Verb::Get {
            host,
            source,
            destination,
        } => TestHost::open(&host)?.client().get(&source, &destination)?,
        Verb::Check { host } => return check(&TestHost::open(&host)?),
        Verb::Cpu { host } => writeln!(io::stdout(), "{}", TestHost::open(&host)?.cpu_ms()?)?,
        Verb::Port { host } => writeln!(io::stdout(), "{}", TestHost::open(&host)?.port)?,
        Verb::Stop { host } => {
            // One that is not there any more is what was wanted.
            if let Ok(host) = TestHost::open(&host) {
                host.stop();
            }
        }
        Verb::Batch(arguments) => return run_batch(arguments),
        Verb::Save { host, ram } => TestHost::open(&host)?.save(&ram)?,
        Verb::Supervise {
            state,
            owner,
            prepare,
        } => {
            return supervise(&supervisor::Start {
                state,
                owner,
                prepare,
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn caller() -> Option<u32> {
    rustix::process::getppid().and_then(|pid| pid.as_raw_nonzero().get().try_into().ok())
}

fn run_command(exec: Exec) -> Result<ExitCode, Error> {
    let mut command = Command::new(exec.argv).timeout(Duration::from_millis(exec.timeout_ms));
    if exec.follow_output {
        command = command.follow_output();
    }
    if let Some(path) = exec.cwd {
        command = command.cwd(path);
    }
    let command = exec
        .env
        .into_iter()
        .fold(command, |command, (name, value)| command.env(name, value));
    let client = TestHost::open(&exec.host)?.client();
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    let status = if exec.interactive {
        client.stream(&command, io::stdin(), &mut stdout, &mut stderr)?
    } else {
        client.stream(&command, io::empty(), &mut stdout, &mut stderr)?
    };
    Ok(ExitCode::from(match status {
        Status::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Status::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Status::TimedOut => {
            eprintln!("outer-vm: killed after {} ms", exec.timeout_ms);
            TIMED_OUT
        }
        Status::NotStarted(reason) => {
            eprintln!("outer-vm: {reason}");
            NOT_STARTED
        }
    }))
}

fn check(host: &TestHost) -> Result<ExitCode, Error> {
    let complaints = host.complaints()?;
    for line in &complaints {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The batch ends with its caller, and QEMU with the batch.
fn run_batch(arguments: BatchArguments) -> Result<ExitCode, Error> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)?;
    let batch = Batch {
        state: arguments.state,
        input: arguments.input,
        output: arguments.output,
        count_instructions: arguments.icount,
        timeout: Duration::from_millis(arguments.timeout_ms),
    };
    Ok(ExitCode::from(
        u8::try_from(batch.run()?).unwrap_or(u8::MAX),
    ))
}

fn supervise(start: &supervisor::Start) -> Result<ExitCode, Error> {
    let started = |host: &TestHost| {
        // The starter is gone only if the owner is, which is noticed anyway.
        report(&Started::Running(host.clone())).ok();
    };
    if let Err(error) = supervisor::run(start, started) {
        report(&Started::Failed(chain(&error)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(started: &Started) -> Result<(), Error> {
    let mut line = serde_json::to_vec(started)?;
    line.push(b'\n');
    let mut stdout = io::stdout();
    stdout.write_all(&line)?;
    Ok(stdout.flush()?)
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
