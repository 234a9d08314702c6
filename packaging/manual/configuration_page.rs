//! The page of the configuration file, in section 5.

use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::Page;
use crate::command_pages::{see_also, title};
use crate::settings::Setting;

const NAME: &str = "caisson-config.toml";
const SECTION: &str = "5";
const FILE: &str = "/etc/caisson/config.toml";
const EXAMPLE: &str = "/usr/share/doc/caisson/config.toml.example";

/// Writes the page of these settings.
pub(crate) fn page(settings: &[Setting], date: &str) -> Page {
    let mut roff = Roff::new();
    title(&mut roff, NAME, SECTION, date);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{NAME} - configuration of caisson"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([italic(FILE)]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman(
            "A file in TOML that caisson reads at each start of a command, and that need not \
               exist. The environment variable ",
        ),
        bold("CAISSON_CONFIG"),
        roman(
            " names another. Every key is optional, and an unknown one is an error. Containers \
               that run already keep what they were created with.",
        ),
    ]);
    roff.control("SH", ["KEYS"]);
    for setting in settings {
        roff.control("TP", []);
        let line = if setting.is_example() {
            setting.key().to_owned()
        } else {
            setting.line.to_owned()
        };
        roff.text([bold(line)]);
        let text = setting.text.trim_end_matches(" Example:");
        roff.text([roman(text)]);
        if setting.is_example() {
            roff.text([roman("Example: "), bold(setting.line)]);
        }
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    roff.text([italic(EXAMPLE)]);
    roff.text([roman(
        "Every key with its default and its meaning, to copy from. Below another \
                      directory where caisson is not installed from a package.",
    )]);
    roff.control("SH", ["EXAMPLES"]);
    roff.text([roman(
        "A machine without hardware virtualization, on which caisson is to be tried:",
    )]);
    roff.control("PP", []);
    roff.text([bold("allow_emulation = true")]);
    see_also(&mut roff, &["caisson(8)".to_owned()]);
    Page {
        file: format!("{NAME}.{SECTION}"),
        text: roff.to_roff(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_on_the_page() {
        let settings = crate::settings::all();
        let text = page(&settings, "2026-12-31").text;
        for setting in settings {
            assert!(text.contains(setting.key()), "{}", setting.key());
        }
    }
}
