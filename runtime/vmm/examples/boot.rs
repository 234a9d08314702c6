//! Runs one machine as its owner would: spawns `caisson-vmm`, prints the guest's
//! console and the reports, each with the milliseconds since the spawn.
//!
//! For development and measuring; the product's owner is the `caisson` crate. Usage:
//! `boot VMM KERNEL INITRAMFS [key=value]...` with the keys `mem`, `vcpus`, `cmdline`,
//! `fs` (a vhost-user socket to connect to), `disk` (a disk from the start) and `plug`
//! (one to plug in when the console says `plug!`).

#[path = "../tests/owner/mod.rs"]
mod owner;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

use caisson_vmm::control::{Report, Request};

use owner::{Failure, Machine, Wish};

fn main() -> Result<(), Failure> {
    let (wish, plug) = parse(std::env::args().skip(1))?;
    let started = Instant::now();
    let mut machine = owner::start(&wish)?;
    let (console, control) = (machine.console.try_clone()?, machine.control.try_clone()?);
    let printer = thread::spawn(move || print_console(console, &control, plug.as_deref()));
    let followed = follow(&machine, started);
    let status = machine.child.wait()?;
    printer.join().ok();
    eprintln!("[{:8.2} ms] {status}", elapsed_ms(started));
    followed
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<(Wish, Option<String>), Failure> {
    let mut next = |name: &str| args.next().ok_or_else(|| format!("{name} is missing"));
    let mut wish = Wish {
        vmm: next("VMM")?.into(),
        kernel: next("KERNEL")?.into(),
        initramfs: next("INITRAMFS")?.into(),
        mem_mib: 128,
        vcpus: 1,
        cmdline: "console=hvc0 reboot=k,panic_warm panic=-1".to_owned(),
        fs: None,
        disk: None,
    };
    let mut plug = None;
    for arg in args {
        match arg.split_once('=') {
            Some(("mem", value)) => wish.mem_mib = value.parse()?,
            Some(("vcpus", value)) => wish.vcpus = value.parse()?,
            Some(("cmdline", value)) => value.clone_into(&mut wish.cmdline),
            Some(("fs", value)) => wish.fs = Some(value.into()),
            Some(("disk", value)) => wish.disk = Some(value.into()),
            Some(("plug", value)) => plug = Some(value.to_owned()),
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok((wish, plug))
}

/// Prints what the guest writes; plugs the disk in when the guest asks for it.
fn print_console(console: File, control: &OwnedFd, plug: Option<&str>) {
    for line in BufReader::new(console).lines().map_while(Result::ok) {
        writeln!(io::stdout(), "{line}").ok();
        if let Some(path) = plug.filter(|_| line.trim() == "plug!")
            && let Err(error) = plug_in(control, path.as_ref())
        {
            eprintln!("{path}: {error}");
        }
    }
}

fn plug_in(control: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let request = Request::PlugBlock {
        read_only: false,
        serial: "plugged".to_owned(),
    };
    owner::ask(control, &request, Some(&owner::open(path)?))
}

/// Prints reports until the last one.
fn follow(machine: &Machine, started: Instant) -> Result<(), Failure> {
    while let Some(report) = machine.report()? {
        eprintln!("[{:8.2} ms] {report:?}", elapsed_ms(started));
        if matches!(report, Report::Exit { .. }) {
            return Ok(());
        }
    }
    Err("no exit was reported".into())
}

fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
