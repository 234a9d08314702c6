//! Control and caisson side by side, and what follows from the pair.

use serde::Serialize;

use crate::allowed::Allowed;
use crate::tap::{Outcome, Results};

/// One suite's result, as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) suite: String,
    pub(crate) machine: String,
    pub(crate) tests: Vec<Test>,
}

/// One test on both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) control: Outcome,
    pub(crate) caisson: Outcome,
    pub(crate) verdict: Verdict,
}

/// What the two outcomes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Caisson passes, or the control doesn't either.
    Good,
    /// The control passes, caisson doesn't, and the list says why.
    Allowed,
    /// The control passes and caisson doesn't.
    Worse,
    /// It passes, and the list need not name it any more.
    NotNeeded,
}

impl Comparison {
    /// Whether there are results, and none is worse than the control's.
    pub(crate) fn is_good(&self) -> bool {
        let compared = |test: &&Test| test.control == Outcome::Ok;
        self.tests.iter().any(|test| compared(&test))
            && self.tests.iter().all(|test| test.verdict != Verdict::Worse)
    }
}

/// All tests that either side told of, by name.
pub(crate) fn compare(control: Results, mut caisson: Results, allowed: &Allowed<'_>) -> Vec<Test> {
    let mut tests: Vec<Test> = control
        .into_iter()
        .map(|(name, outcome)| {
            let other = caisson.remove(&name).unwrap_or(Outcome::Lost);
            test(name, outcome, other, allowed)
        })
        .collect();
    let only_ours = caisson.into_iter();
    tests.extend(only_ours.map(|(name, outcome)| test(name, Outcome::Lost, outcome, allowed)));
    tests
}

fn test(name: String, control: Outcome, caisson: Outcome, allowed: &Allowed<'_>) -> Test {
    let verdict = match (control, caisson, allowed.names(&name)) {
        (Outcome::Ok, Outcome::Ok, true) => Verdict::NotNeeded,
        (Outcome::Ok, Outcome::Ok, false) => Verdict::Good,
        (Outcome::Ok, _, true) => Verdict::Allowed,
        (Outcome::Ok, _, false) => Verdict::Worse,
        _ => Verdict::Good,
    };
    Test {
        name,
        control,
        caisson,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::AllowList;

    fn verdicts(control: &str, caisson: &str) -> Vec<(String, Verdict)> {
        let list = AllowList::parse(
            "[[entry]]\ntests = [\"f/listed\"]\nreason = \"r\"\ninstead = \"i\"\ndate = \"d\"\n",
        )
        .unwrap();
        let results = |text: &str| crate::tap::parse("f", text);
        compare(results(control), results(caisson), &list.on("kvm"))
            .into_iter()
            .map(|test| (test.name, test.verdict))
            .collect()
    }

    fn one(control: &str, caisson: &str) -> Verdict {
        verdicts(control, caisson)[0].1
    }

    #[test]
    fn caisson_must_pass_what_the_control_passes() {
        assert_eq!(one("ok a", "ok a"), Verdict::Good);
        assert_eq!(one("ok a", "not ok a"), Verdict::Worse);
        assert_eq!(one("ok a", "ok a # skip no reason"), Verdict::Worse);
        assert_eq!(one("ok a", ""), Verdict::Worse);
        assert_eq!(one("not ok a", "not ok a"), Verdict::Good);
        assert_eq!(one("ok a # skip v2", "not ok a"), Verdict::Good);
    }

    #[test]
    fn the_list_excuses_and_is_told_when_it_need_not() {
        assert_eq!(one("ok listed", "not ok listed"), Verdict::Allowed);
        assert_eq!(one("ok listed", "ok listed"), Verdict::NotNeeded);
        assert_eq!(one("not ok listed", "not ok listed"), Verdict::Good);
    }

    #[test]
    fn a_suite_without_a_passing_control_proves_nothing() {
        let comparison = |tests| Comparison {
            suite: "s".into(),
            machine: "kvm".into(),
            tests,
        };
        assert!(!comparison(Vec::new()).is_good());
        let both_fail = test(
            "a".into(),
            Outcome::NotOk,
            Outcome::NotOk,
            &Allowed::default(),
        );
        assert!(!comparison(vec![both_fail]).is_good());
    }
}
