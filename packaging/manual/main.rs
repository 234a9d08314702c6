//! Writes the man pages and the shell completions of caisson for its packages.
//!
//! Owns their form. What they describe is the definition of the command line in
//! `caisson::cli` and the example of the configuration file. Is not installed itself.

mod command_pages;
mod configuration_page;
mod settings;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

const PROGRAM: &str = "caisson";
/// The date is that of the source, as every page names it: 2026-12-31.
const USAGE: &str = "usage: manual SHARE DATE";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("manual: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<(), Box<dyn Error>> {
    let [share, date] = <[OsString; 2]>::try_from(arguments).map_err(|_| USAGE)?;
    let share = PathBuf::from(share);
    let date = date.to_str().ok_or(USAGE)?;
    let command = visible(&caisson::cli::command());
    for page in command_pages::all(&command, date)? {
        write(&share.join("man/man8"), &page.file, &page.text)?;
    }
    let page = configuration_page::page(&settings::all(), date);
    write(&share.join("man/man5"), &page.file, &page.text)?;
    completions(&share, command)
}

/// The command line without the verbs that only caisson itself uses.
fn visible(command: &Command) -> Command {
    let mut visible = Command::new(PROGRAM)
        .disable_version_flag(true)
        .args(command.get_arguments())
        .subcommands(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
    if let Some(about) = command.get_about() {
        visible = visible.about(about.clone());
    }
    visible
}

/// Each shell finds them by these places and names, below /usr/share.
fn completions(share: &Path, mut command: Command) -> Result<(), Box<dyn Error>> {
    let places = [
        (Shell::Bash, "bash-completion/completions", "caisson"),
        (Shell::Zsh, "zsh/vendor-completions", "_caisson"),
        (Shell::Fish, "fish/vendor_completions.d", "caisson.fish"),
    ];
    for (shell, directory, file) in places {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, PROGRAM, &mut text);
        write(&share.join(directory), file, &String::from_utf8(text)?)?;
    }
    Ok(())
}

/// A page of the manual, and the name of its file.
struct Page {
    file: String,
    text: String,
}

fn write(directory: &Path, file: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let path = directory.join(file);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, text))
        .map_err(|err| format!("write {}: {err}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_know_all_verbs_but_hidden_ones() {
        let share = tempfile::tempdir().unwrap();
        run(vec![share.path().into(), "2026-12-31".into()]).unwrap();
        let completions = [
            "bash-completion/completions/caisson",
            "zsh/vendor-completions/_caisson",
            "fish/vendor_completions.d/caisson.fish",
        ]
        .map(|file| fs::read_to_string(share.path().join(file)).unwrap());
        let command = caisson::cli::command();
        assert!(command.get_subcommands().count() > 15);
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let page = share.path().join(format!("man/man8/caisson-{name}.8"));
            assert_eq!(page.exists(), !verb.is_hide_set(), "{name}");
            for text in &completions {
                assert_eq!(text.contains(name), !verb.is_hide_set(), "{name}");
            }
        }
        assert!(share.path().join("man/man5/caisson-config.toml.5").exists());
    }

    #[test]
    fn directory_and_date_are_wanted() {
        let message = run(Vec::new()).unwrap_err().to_string();
        assert_eq!(message, USAGE);
    }
}
