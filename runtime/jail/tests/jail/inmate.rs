//! The jailed process: enters the jail, reports how that went, and stays until its
//! standard input ends. What it attaches comes as descriptor [`TREE`].

use std::error::Error as _;
use std::io::{self, Read};
use std::path::Path;

use caisson_jail::Kind;
use caisson_jail::{CapabilitySet, Error, Identities, Jail, inherited};

/// The descriptor with the mount that the furnished jails attach.
pub(crate) const TREE: i32 = 9;

pub(crate) fn serve_time(name: &str) {
    let word = match enter(name) {
        Ok(()) => "in".to_string(),
        Err(e) => format!(
            "{e}: {}",
            e.source().map(ToString::to_string).unwrap_or_default()
        ),
    };
    println!("{word}");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn enter(name: &str) -> Result<(), Error> {
    let empty = Jail {
        descriptors: &[],
        identities: Identities::Own,
        capabilities: CapabilitySet::empty(),
        open_files: 64,
    };
    match name {
        // Who was executed in a jail is there.
        "resident" => Ok(()),
        "empty" => empty.enter(),
        "unique" => Jail {
            identities: Identities::Unique,
            ..empty
        }
        .enter(),
        "all" => {
            let capabilities = CapabilitySet::CHOWN | CapabilitySet::SETUID;
            Jail {
                identities: Identities::All,
                capabilities,
                ..empty
            }
            .enter()
        }
        "furnished" => furnish(
            &Jail {
                identities: Identities::All,
                ..empty
            },
            "web1/rootfs",
        ),
        "upwards" => furnish(&empty, "../up"),
        "threads" => {
            let _parked = std::thread::spawn(std::thread::park);
            empty.enter()
        }
        other => panic!("no jail is called {other}"),
    }
}

fn furnish(jail: &Jail<'_>, place: &str) -> Result<(), Error> {
    let tree = inherited(TREE)?;
    Jail {
        descriptors: &[TREE],
        ..jail.clone()
    }
    .enter_furnished(|root| root.attach(Path::new(place), Kind::Directory, &tree))
}
