//! The keys of the configuration file, read from its example: that file is what a
//! package installs and what the man page is written from.

const EXAMPLE: &str = include_str!("../config.toml.example");

/// One key of the configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The key's own line, as in the file once its mark is removed.
    pub(crate) line: &'static str,
    /// What it means.
    pub(crate) text: String,
}

impl Setting {
    pub(crate) fn key(&self) -> &'static str {
        self.line.split(" = ").next().unwrap_or(self.line)
    }

    /// Whether the line is no default but an example.
    pub(crate) fn is_example(&self) -> bool {
        self.text.ends_with("Example:")
    }
}

/// Returns the settings in the order of the file.
pub(crate) fn all() -> Vec<Setting> {
    EXAMPLE.split("\n\n").filter_map(setting).collect()
}

/// A paragraph is the remarks on a key, and the key.
fn setting(paragraph: &'static str) -> Option<Setting> {
    let (text, line) = paragraph.trim_end().rsplit_once('\n')?;
    let line = line.strip_prefix('#')?;
    if line.starts_with(' ') {
        return None;
    }
    let words = text.lines().flat_map(|line| line[1..].split_whitespace());
    Some(Setting {
        line,
        text: words.collect::<Vec<_>>().join(" "),
    })
}

#[cfg(test)]
mod tests {
    use caisson::config::installation::Config;
    use caisson::oci::plan::{DEFAULT_MEM_MIB, DEFAULT_VCPUS};

    use super::*;

    const README: &str = include_str!("../../README.md");

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|err| err.message().to_owned())
    }

    /// The parser names the keys that it knows when it finds another.
    fn known_keys() -> Vec<String> {
        let message = parse("no_such_key = 1").unwrap_err();
        let names = message.split('`').skip(3).step_by(2);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_example_has_every_key_of_the_configuration_and_no_other() {
        let mut keys: Vec<_> = all()
            .iter()
            .map(|setting| setting.key().to_owned())
            .collect();
        let mut known = known_keys();
        assert!(known.len() > 10, "{known:?}");
        keys.sort();
        known.sort();
        assert_eq!(keys, known);
    }

    #[test]
    fn readme_has_every_key_of_the_configuration() {
        for key in known_keys() {
            assert!(README.contains(&format!("\n| `{key}` | ")), "{key}");
        }
    }

    #[test]
    fn the_example_parses_as_it_is_and_with_every_key_set() {
        assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
        let lines: Vec<_> = all().iter().map(|setting| setting.line).collect();
        parse(&lines.join("\n")).unwrap();
    }

    #[test]
    fn what_is_no_example_is_the_default() {
        // These two are set where a container's size is planned.
        let elsewhere = [
            format!("default_mem_mib = {DEFAULT_MEM_MIB}"),
            format!("default_vcpus = {DEFAULT_VCPUS}"),
        ];
        for setting in all() {
            let is_default = parse(setting.line).unwrap() == Config::default();
            let is_meant =
                !setting.is_example() && !elsewhere.iter().any(|line| line == setting.line);
            assert_eq!(is_default, is_meant, "{}", setting.line);
        }
    }
}
