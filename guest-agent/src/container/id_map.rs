//! Id maps: from the ids of a user namespace to the guest's.
//!
//! Owns the text form that the kernel reads and writes. The configuration has the maps.

use oci_spec::runtime::LinuxIdMapping;

/// A map of users or of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMap(Vec<Extent>);

/// Ids that follow each other on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// The configured mappings.
    #[must_use]
    pub(crate) fn of(mappings: Option<&Vec<LinuxIdMapping>>) -> Self {
        let extent = |mapping: &LinuxIdMapping| Extent {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            count: mapping.size(),
        };
        Self(mappings.into_iter().flatten().map(extent).collect())
    }

    /// Reads a map as `/proc/PID/uid_map` shows it; lines of another form are
    /// ignored.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Self {
        let extent = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
            Some(Extent {
                inside: numbers.next()??,
                outside: numbers.next()??,
                count: numbers.next()??,
            })
        };
        Self(text.lines().filter_map(extent).collect())
    }

    /// The guest's id of the id `inside`.
    #[must_use]
    pub(crate) fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|extent| {
            let offset = inside.checked_sub(extent.inside)?;
            (offset < extent.count).then(|| extent.outside.wrapping_add(offset))
        })
    }

    /// The map as the kernel reads it.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let line = |extent: &Extent| {
            let Extent {
                inside,
                outside,
                count,
            } = extent;
            format!("{inside} {outside} {count}\n")
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_outside_as_far_as_they_are_mapped() {
        let map = IdMap::parse("         0     100000       1000\n5000 7 1\n");
        assert_eq!(map.outside(0), Some(100_000));
        assert_eq!(map.outside(999), Some(100_999));
        assert_eq!(map.outside(1000), None);
        assert_eq!(map.outside(5000), Some(7));
        assert_eq!(map.text(), "0 100000 1000\n5000 7 1\n");
    }
}
