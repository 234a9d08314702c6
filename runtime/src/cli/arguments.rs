//! Makes runc's habits of writing flags acceptable to the parser.
//!
//! Callers of runc write long flags with one dash or two; after the container's
//! id, `exec`, `kill` and `ps` read no flags any more.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

/// Gives long flags their second dash, up to the last argument that can hold flags.
pub(super) fn normalized(arguments: Vec<OsString>) -> Vec<OsString> {
    let root = crate::cli::Arguments::command();
    let mut command = &root;
    let mut out = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    out.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str().map(str::to_owned) else {
            out.push(argument);
            continue;
        };
        if text == "--" {
            out.push(argument);
            break;
        }
        if let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.is_empty()) {
            let (word, takes_next) = flag_word(command, flag.trim_start_matches('-'), &text);
            out.extend(word.map(OsString::from));
            if takes_next {
                out.extend(arguments.next());
            }
            continue;
        }
        out.push(argument);
        match command.find_subcommand(&text) {
            Some(found) if std::ptr::eq(command, &root) => command = found,
            _ if stops_at_id(command.get_name()) => break,
            _ => {}
        }
    }
    out.extend(arguments);
    out
}

fn stops_at_id(verb: &str) -> bool {
    matches!(verb, "exec" | "kill" | "ps" | "monitor" | "exec-owner")
}

/// The flag as the parser wants it, if at all, and whether the next argument is
/// its value. A switch may be written with `=true` or `=false`, as Go allows.
fn flag_word(command: &Command, name: &str, written: &str) -> (Option<String>, bool) {
    let (bare, value) = match name.split_once('=') {
        Some((bare, value)) => (bare, Some(value)),
        None => (name, None),
    };
    let find = |matches: &dyn Fn(&Arg) -> bool| command.get_arguments().find(|arg| matches(arg));
    let letter = bare.chars().next().filter(|_| bare.chars().count() == 1);
    let long = find(&|arg: &Arg| arg.get_long() == Some(bare));
    let short = find(&|arg: &Arg| letter.is_some() && arg.get_short() == letter);
    let (arg, dashes) = match (long, short) {
        (Some(arg), _) => (arg, "--"),
        (None, Some(arg)) => (arg, "-"),
        (None, None) => return (Some(written.to_owned()), false),
    };
    match (arg.get_action().takes_values(), value) {
        (true, value) => (Some(format!("{dashes}{name}")), value.is_none()),
        (false, None | Some("true" | "1")) => (Some(format!("{dashes}{bare}")), false),
        (false, Some("false" | "0")) => (None, false),
        (false, Some(_)) => (Some(written.to_owned()), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, wanted: &str) {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(normalized(words(written)), words(wanted));
    }

    #[test]
    fn long_flags_may_have_one_dash() {
        check(
            "caisson -root /r -log=l create -bundle b x",
            "caisson --root /r --log=l create --bundle b x",
        );
        check(
            "caisson run -no-subreaper -b b x",
            "caisson run --no-subreaper -b b x",
        );
    }

    #[test]
    fn a_command_inside_the_container_keeps_its_flags() {
        check(
            "caisson exec -cwd / x ls -cwd",
            "caisson exec --cwd / x ls -cwd",
        );
        check("caisson kill x -9", "caisson kill x -9");
    }

    #[test]
    fn a_switch_may_be_set_by_value() {
        check("caisson --debug=true list -q=1", "caisson --debug list -q");
        check("caisson -debug=false list --quiet=0", "caisson list");
    }

    #[test]
    fn a_container_may_be_called_like_a_verb() {
        check("caisson start run", "caisson start run");
    }
}
