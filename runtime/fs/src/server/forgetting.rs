//! When the guest is asked to forget names, and who waits meanwhile.
//!
//! The guest's agent asks one question after the other, as the extended attribute
//! `user.caisson.forget` of the root. It is answered when there is something to do:
//!
//! ```text
//!            question               many held, or one was refused
//! (no agent) --------> waiting ---------------------------------> forgetting
//!                         ^                                           |
//!                         |   question; what was held is let through  |
//!                         +-------------------------------------------+
//! ```
//!
//! While it forgets, requests that would make the guest hold more than it may are
//! held back; what is still too much when it has forgotten all it could is refused.
//!
//! Owns the decisions, as a value that does no input or output. Does not own the
//! count, which is `names`', nor the requests, which are `worker`'s.

use std::time::{Duration, Instant};

/// What the agent is told to write to `/proc/sys/vm/drop_caches`, or `PAUSE`.
pub(super) type Level = &'static [u8; 1];
/// Names that nothing uses.
const NAMES: Level = b"2";
/// Cached file contents too: names of files that have some are kept by `NAMES` alone.
const CONTENTS_TOO: Level = b"3";
/// Nothing: it is still forgetting. It is to ask again in a moment.
const PAUSE: Level = b"0";

/// What becomes of a question of the agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is answered at once.
    Now(Level),
    /// It waits; what is held back is tried a last time.
    Later,
}

/// What becomes of a request that would make the guest hold too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// The waiting question is to be answered, and the request to be held back.
    Ask(Level),
    /// It is to be held back.
    Hold,
    /// It is to be refused.
    Refuse,
}

/// How much the process holds that would hold too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Less than an eighth of all: others are to blame.
    Little,
    /// More.
    Much,
}

impl Share {
    /// After how long it is worth a try again, if the guest found nothing to forget:
    /// what is closed by a path alone is not told to anybody.
    const fn patience(self) -> Duration {
        match self {
            Self::Little => Duration::from_secs(1),
            Self::Much => Duration::from_secs(8),
        }
    }
}

/// How far the agent is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Agent {
    /// It has never asked.
    #[default]
    Absent,
    /// Its question waits.
    Waiting,
    /// It was last told this.
    Forgetting(Level),
}

/// What was decided so far.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    agent: Agent,
    /// Held when the guest had last forgotten all it could.
    rest: u64,
    /// Something was forgotten since the last question.
    progress: bool,
    /// When it was last asked for the sake of who holds little, and of who holds much.
    asked: [Option<Instant>; 2],
}

impl Forgetting {
    /// The guest has forgotten something.
    pub(super) const fn note_progress(&mut self) {
        self.progress = true;
    }

    /// The agent asks, with `used` of `limit` descriptors held; `pressed`: requests
    /// are held back.
    pub(super) fn question(&mut self, used: u64, limit: u64, pressed: bool) -> Reply {
        let Agent::Forgetting(level) = self.agent else {
            self.wait(used);
            return Reply::Later;
        };
        let too_many = pressed || used > limit / 2;
        if std::mem::take(&mut self.progress) && too_many {
            return Reply::Now(PAUSE);
        }
        if level == NAMES && too_many {
            self.agent = Agent::Forgetting(CONTENTS_TOO);
            return Reply::Now(CONTENTS_TOO);
        }
        self.wait(used);
        Reply::Later
    }

    /// What the waiting question is answered with, if `used` of `limit` is enough to.
    pub(super) fn due(&mut self, used: u64, limit: u64) -> Option<Level> {
        // What is in use can't be forgotten: ask when half of what is left is gone.
        let left = (limit / 4 * 3).saturating_sub(self.rest);
        let enough = (limit / 2).max(self.rest + left / 2);
        (self.agent == Agent::Waiting && used > enough).then(|| self.ask())
    }

    /// A request would make the guest hold too much; `share` is its process's.
    pub(super) fn excess(&mut self, used: u64, limit: u64, share: Share, now: Instant) -> Excess {
        match self.agent {
            Agent::Absent => return Excess::Refuse,
            Agent::Forgetting(_) => return Excess::Hold,
            Agent::Waiting => {}
        }
        let [little, much] = &mut self.asked;
        let asked = match share {
            Share::Little => little,
            Share::Much => much,
        };
        // Little was taken since the guest forgot all it could: it would find nothing.
        let grown = used > self.rest + limit / 64;
        let lately = asked.is_some_and(|asked| now.duration_since(asked) < share.patience());
        if lately && !grown {
            return Excess::Refuse;
        }
        *asked = Some(now);
        Excess::Ask(self.ask())
    }

    fn ask(&mut self) -> Level {
        self.progress = false;
        self.agent = Agent::Forgetting(NAMES);
        NAMES
    }

    const fn wait(&mut self, used: u64) {
        self.rest = used;
        self.agent = Agent::Waiting;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CONTENTS_TOO, Excess, Forgetting, NAMES, PAUSE, Reply, Share};

    const LIMIT: u64 = 1_000;

    /// What becomes of a request of a process that holds much.
    fn excess(forgetting: &mut Forgetting, used: u64) -> Excess {
        forgetting.excess(used, LIMIT, Share::Much, Instant::now())
    }

    #[test]
    fn without_an_agent_nothing_waits() {
        assert_eq!(excess(&mut Forgetting::default(), LIMIT), Excess::Refuse);
    }

    #[test]
    fn the_agent_is_asked_before_there_is_too_much() {
        let mut forgetting = Forgetting::default();
        assert_eq!(forgetting.question(10, LIMIT, false), Reply::Later);
        assert_eq!(forgetting.due(500, LIMIT), None);
        assert_eq!(forgetting.due(501, LIMIT), Some(NAMES));
        assert_eq!(forgetting.due(502, LIMIT), None);
        assert_eq!(forgetting.question(20, LIMIT, false), Reply::Later);
    }

    #[test]
    fn contents_go_when_names_alone_are_not_enough() {
        let mut forgetting = Forgetting::default();
        forgetting.question(0, LIMIT, false);
        assert_eq!(excess(&mut forgetting, 750), Excess::Ask(NAMES));
        assert_eq!(excess(&mut forgetting, 750), Excess::Hold);
        forgetting.note_progress();
        assert_eq!(forgetting.question(740, LIMIT, true), Reply::Now(PAUSE));
        assert_eq!(
            forgetting.question(740, LIMIT, true),
            Reply::Now(CONTENTS_TOO)
        );
        assert_eq!(forgetting.question(740, LIMIT, true), Reply::Later);
    }

    #[test]
    fn what_can_not_be_forgotten_is_not_asked_for_again_and_again() {
        let mut forgetting = Forgetting::default();
        forgetting.question(0, LIMIT, false);
        excess(&mut forgetting, 750);
        forgetting.question(750, LIMIT, true);
        forgetting.question(750, LIMIT, true);
        assert_eq!(excess(&mut forgetting, 750), Excess::Refuse);
        assert_eq!(forgetting.due(750, LIMIT), None);
        assert!(matches!(excess(&mut forgetting, 766), Excess::Ask(_)));
    }

    #[test]
    fn who_holds_little_does_not_wait_for_who_holds_much() {
        let mut forgetting = Forgetting::default();
        forgetting.question(0, LIMIT, false);
        let now = Instant::now();
        let mut ask = |share, seconds| {
            let now = now + Duration::from_secs(seconds);
            let excess = forgetting.excess(750, LIMIT, share, now);
            while forgetting.question(750, LIMIT, true) != Reply::Later {}
            excess
        };
        assert_eq!(ask(Share::Much, 0), Excess::Ask(NAMES));
        assert_eq!(ask(Share::Much, 7), Excess::Refuse);
        assert_eq!(ask(Share::Little, 7), Excess::Ask(NAMES));
        assert_eq!(ask(Share::Little, 7), Excess::Refuse);
        assert_eq!(ask(Share::Little, 8), Excess::Ask(NAMES));
        assert_eq!(ask(Share::Much, 8), Excess::Ask(NAMES));
    }
}
