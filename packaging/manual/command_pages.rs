//! Pages of section 8: one for the program, one for each verb, one for the shim.
//!
//! Owns what clap's definition has no place for: files, environment, exit statuses,
//! examples as they are typed.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::{PROGRAM, Page};

pub(crate) const SOURCE: &str = concat!("caisson ", env!("CARGO_PKG_VERSION"));
const SECTION: &str = "8";
const SHIM: &str = "containerd-shim-caisson-v2";

const FILES: &[(&str, &str)] = &[
    (
        "/etc/caisson/config.toml",
        "The configuration, see caisson-config.toml(5). It need not exist.",
    ),
    (
        "/run/caisson",
        "State of containers, unless --root names another directory. For a user without root's rights: $XDG_RUNTIME_DIR/caisson.",
    ),
    (
        "libexec/caisson, share/caisson",
        "Helper programs, the guest's kernel and its initramfs, below the directory that holds bin/caisson.",
    ),
    (
        "/dev/kvm",
        "Hardware virtualization. Without it nothing runs, unless the configuration allows emulation.",
    ),
];
const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "CAISSON_CONFIG",
        "The configuration file to read in place of /etc/caisson/config.toml.",
    ),
    (
        "XDG_RUNTIME_DIR",
        "Where the state of containers of a user without root's rights is kept.",
    ),
];
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Success."),
    ("1", "Failure; one line on standard error names it."),
    (
        "255",
        "Failure of exec, and of run where the program was found and can't be executed.",
    ),
    (
        "other",
        "run and exec in the foreground end with the status of the process: its own, or 128 plus the number of the signal that ended it.",
    ),
];

/// Returns all pages; the verbs are those of `command`.
pub(crate) fn all(command: &Command, date: &str) -> io::Result<Vec<Page>> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![program_page(&command, date)?, shim_page(date)];
    for verb in command.get_subcommands() {
        pages.push(verb_page(verb, date)?);
    }
    Ok(pages)
}

fn program_page(command: &Command, date: &str) -> io::Result<Page> {
    let mut text = generated(command, date)?;
    let mut more = Roff::new();
    terms(&mut more, "EXIT STATUS", EXIT_STATUS);
    terms(&mut more, "FILES", FILES);
    terms(&mut more, "ENVIRONMENT", ENVIRONMENT);
    let verbs = command.get_subcommands();
    let mut others: Vec<String> = verbs
        .map(|verb| format!("caisson-{}(8)", verb.get_name()))
        .collect();
    others.sort();
    others.insert(0, "caisson-config.toml(5)".to_owned());
    others.push(format!("{SHIM}(8)"));
    see_also(&mut more, &others);
    text.push_str(&more.render());
    Ok(page(PROGRAM, text))
}

fn verb_page(verb: &Command, date: &str) -> io::Result<Page> {
    let mut text = generated(verb, date)?;
    let mut more = Roff::new();
    if let Some(help) = verb.get_after_help() {
        examples(&mut more, &help.to_string());
    }
    see_also(&mut more, &["caisson(8)".to_owned()]);
    text.push_str(&more.render());
    Ok(page(&format!("{PROGRAM}-{}", verb.get_name()), text))
}

fn shim_page(date: &str) -> Page {
    let mut roff = Roff::new();
    title(&mut roff, SHIM, SECTION, date);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{SHIM} - containerd's way to caisson"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(SHIM), roman(" [flags] start|delete")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "The process by which containerd, and Docker and Kubernetes on top of it, run containers \
         with caisson. It is started by containerd, not by hand: a container whose runtime is",
    )]);
    roff.text([bold("io.containerd.caisson.v2")]);
    roff.text([roman(
        "has containerd look for this program on its PATH. The containers of a Kubernetes pod \
         share one virtual machine.",
    )]);
    roff.control("PP", []);
    roff.text([bold("caisson setup containerd")]);
    roff.text([roman("enters the runtime into containerd's configuration.")]);
    terms(&mut roff, "OPTIONS", &[("-v", "Print the version.")]);
    let state = "State of containers: a directory for each namespace of containerd, which \
                 caisson --root shows.";
    terms(&mut roff, "FILES", &[("/run/caisson-shim", state)]);
    see_also(
        &mut roff,
        &["caisson(8)".to_owned(), "caisson-setup(8)".to_owned()],
    );
    page(SHIM, roff.to_roff())
}

/// What clap_mangen writes, without the text after the options: it would fill the lines
/// of examples.
fn generated(command: &Command, date: &str) -> io::Result<String> {
    let name = command.get_display_name().unwrap_or(PROGRAM).to_owned();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(SECTION)
        .date(date)
        .source(SOURCE)
        .manual(PROGRAM);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    String::from_utf8(text).map_err(io::Error::other)
}

fn page(name: &str, text: String) -> Page {
    Page {
        file: format!("{name}.{SECTION}"),
        text,
    }
}

pub(crate) fn title(roff: &mut Roff, name: &str, section: &str, date: &str) {
    let name = name.to_uppercase();
    roff.control("TH", [name.as_str(), section, date, SOURCE, PROGRAM]);
}

/// A section of terms and what each means.
pub(crate) fn terms(roff: &mut Roff, name: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [name]);
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

/// Lines stay lines; a word before them that only names them is left out.
fn examples(roff: &mut Roff, help: &str) {
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    let lines = help
        .trim_start_matches("Examples:\n")
        .trim_start_matches("Example: ");
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

pub(crate) fn see_also(roff: &mut Roff, pages: &[String]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut words = Vec::new();
    for page in pages {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.push(italic(name));
        words.push(roman(format!("({section}")));
    }
    roff.text(words);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_examples_stay_lines() {
        let mut roff = Roff::new();
        examples(&mut roff, "Examples:\n  caisson list\n  caisson list -q");
        let text = roff.to_roff();
        assert!(text.contains(".nf\n"), "{text}");
        assert!(text.contains("caisson list\n"), "{text}");
        assert!(!text.contains("Examples"), "{text}");
    }

    #[test]
    fn the_page_of_the_program_has_files_and_statuses() {
        let pages = all(&caisson::cli::command(), "2026-12-31").unwrap();
        let text = &pages[0].text;
        for part in [
            ".SH \"EXIT STATUS\"",
            "config.toml",
            "CAISSON_CONFIG",
            ".TH CAISSON 8 2026-12-31",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
