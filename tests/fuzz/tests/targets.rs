//! Every target with its corpus and a few cases more (or for `CAISSON_FUZZ_SECONDS`
//! each), and the driver with a target that fails.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;

use caisson_fuzz::{Corpus, Failure, Limits, TARGETS, Target, drive};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let targets = TARGETS.iter().map(|target| {
        Trial::test(target.name, move || {
            let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora");
            let limits = Limits::from_environment()?;
            let outcome = drive(target, &Corpus::of(&corpora, target.name), &limits);
            outcome
                .map(drop)
                .map_err(|failure| failure.to_string().into())
        })
    });
    let own = Trial::test("a_crash_is_kept_and_tried_first_the_next_time", || {
        a_crash_is_kept();
        Ok(())
    });
    let trials = targets.chain([own]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn a_crash_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target {
        name: "fails",
        run: |bytes| assert!(bytes.len() < 1000, "this is what is looked for"),
    };
    let corpus = Corpus::of(directory.path(), target.name);
    let limits = Limits::from_environment().unwrap();
    let crash = |failure| match failure {
        Failure::Crash {
            kept, executions, ..
        } => (kept, executions),
        Failure::Corpus(error) => unreachable!("{error}"),
    };
    let (kept, _) = crash(drive(&target, &corpus, &limits).unwrap_err());
    assert!(std::fs::read(&kept).unwrap().len() >= 1000);
    let again = crash(drive(&target, &corpus, &limits).unwrap_err());
    assert_eq!(again, (kept, 1));
}
