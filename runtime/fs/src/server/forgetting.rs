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

/// What the agent is asked to write to `/proc/sys/vm/drop_caches`, or `PAUSE`.
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
pub(super) enum HeldShare {
    /// Less than an eighth of all: others are to blame.
    Little,
    /// More.
    Much,
}

impl HeldShare {
    /// After how long it is worth a try again, if the guest found nothing to forget:
    /// nobody is notified when a descriptor that was opened by `O_PATH` is closed. Who holds
    /// little waits for it, who holds much is refused meanwhile.
    const fn retry_interval(self) -> Duration {
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
    /// It was last sent this.
    Forgetting(Level),
}

/// What was decided so far.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    agent: Agent,
    /// The least that was held since the guest was last asked: what it can't forget. Who
    /// waited takes more as soon as there is room.
    rest: u64,
    /// Something was forgotten since the last question, or may be on its way: what is
    /// forgotten comes through another ring than questions.
    progress: bool,
    /// Files closed since the guest was last asked.
    closed: u64,
    /// When it was last asked for the sake of who holds little, and of who holds much.
    asked: [Option<Instant>; 2],
}

impl Forgetting {
    /// The guest has forgotten something, and holds `used` now.
    pub(super) fn note_progress(&mut self, used: u64) {
        self.progress = true;
        self.rest = self.rest.min(used);
    }

    /// The guest has closed a file, so there may be more to forget.
    pub(super) const fn note_close(&mut self) {
        self.closed += 1;
    }

    /// The agent asks, with `used` of `limit` descriptors held; `pressed`: requests
    /// are held back.
    pub(super) fn question(&mut self, used: u64, limit: u64, pressed: bool, now: Instant) -> Reply {
        self.rest = self.rest.min(used);
        let Agent::Forgetting(level) = self.agent else {
            self.agent = Agent::Waiting;
            return Reply::Later;
        };
        let too_many = pressed || used > limit / 2;
        if std::mem::take(&mut self.progress) && too_many {
            return Reply::Now(PAUSE);
        }
        match level {
            PAUSE if pressed && self.asked_lately(HeldShare::Little, now) => Reply::Now(PAUSE),
            PAUSE if pressed => Reply::Now(self.ask_for(HeldShare::Little, now)),
            NAMES if too_many => {
                self.progress = true;
                self.agent = Agent::Forgetting(CONTENTS_TOO);
                Reply::Now(CONTENTS_TOO)
            }
            _ => {
                self.agent = Agent::Waiting;
                Reply::Later
            }
        }
    }

    /// What the waiting question is answered with, if `used` of `limit` is enough to.
    pub(super) fn due(&mut self, used: u64, limit: u64) -> Option<Level> {
        // What is in use can't be forgotten: ask when half of what is left is gone.
        let left = (limit / 4 * 3).saturating_sub(self.rest);
        let enough = (limit / 2).max(self.rest + left / 2);
        (self.agent == Agent::Waiting && used > enough).then(|| self.ask())
    }

    /// A request would make the guest hold too much; `share` is its process's.
    pub(super) fn excess(
        &mut self,
        used: u64,
        limit: u64,
        share: HeldShare,
        now: Instant,
    ) -> Excess {
        match self.agent {
            Agent::Absent => return Excess::Refuse,
            Agent::Forgetting(_) => return Excess::Hold,
            Agent::Waiting => {}
        }
        if self.has_news(used, limit) || !self.asked_lately(share, now) {
            return Excess::Ask(self.ask_for(share, now));
        }
        match share {
            HeldShare::Little => {
                self.agent = Agent::Forgetting(PAUSE);
                Excess::Ask(PAUSE)
            }
            HeldShare::Much => Excess::Refuse,
        }
    }

    /// The same for a request that was held back until the guest had forgotten all it
    /// could.
    pub(super) fn excess_again(
        &mut self,
        used: u64,
        limit: u64,
        share: HeldShare,
        now: Instant,
    ) -> Excess {
        match self.agent {
            Agent::Forgetting(_) => Excess::Hold,
            Agent::Waiting if self.has_news(used, limit) => Excess::Ask(self.ask_for(share, now)),
            Agent::Waiting | Agent::Absent => Excess::Refuse,
        }
    }

    /// Whether more was closed or taken since the guest forgot all it could than is
    /// worth asking for.
    const fn has_news(&self, used: u64, limit: u64) -> bool {
        self.closed + used.saturating_sub(self.rest) > limit / 64
    }

    fn asked_lately(&self, share: HeldShare, now: Instant) -> bool {
        let asked = self.asked.get(share as usize).copied().flatten();
        asked.is_some_and(|asked| now.duration_since(asked) < share.retry_interval())
    }

    fn ask_for(&mut self, share: HeldShare, now: Instant) -> Level {
        if let Some(asked) = self.asked.get_mut(share as usize) {
            *asked = Some(now);
        }
        self.ask()
    }

    fn ask(&mut self) -> Level {
        self.progress = true;
        self.rest = u64::MAX;
        self.closed = 0;
        self.agent = Agent::Forgetting(NAMES);
        NAMES
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CONTENTS_TOO, Excess, Forgetting, HeldShare, NAMES, PAUSE, Reply};

    const LIMIT: u64 = 1_000;

    const LITTLE: HeldShare = HeldShare::Little;
    const MUCH: HeldShare = HeldShare::Much;

    /// Decisions, with the time in tenths of a second.
    struct Scene {
        forgetting: Forgetting,
        start: Instant,
    }

    impl Scene {
        /// One in which the agent's first question waits.
        fn new() -> Self {
            let mut scene = Self {
                forgetting: Forgetting::default(),
                start: Instant::now(),
            };
            assert_eq!(scene.ask(0, 0), Reply::Later);
            scene
        }

        fn at(&self, tenths: u64) -> Instant {
            self.start + Duration::from_millis(100 * tenths)
        }

        /// The agent's question.
        fn ask(&mut self, used: u64, tenths: u64) -> Reply {
            let now = self.at(tenths);
            self.forgetting.question(used, LIMIT, used >= 750, now)
        }

        /// Its question after the pause that follows each order to forget.
        fn ask_twice(&mut self, used: u64, tenths: u64) -> Reply {
            assert_eq!(self.ask(used, tenths), Reply::Now(PAUSE));
            self.ask(used, tenths)
        }

        fn excess(&mut self, used: u64, share: HeldShare, tenths: u64) -> Excess {
            let now = self.at(tenths);
            self.forgetting.excess(used, LIMIT, share, now)
        }

        /// A request that is too much, for which the guest finds nothing to forget.
        fn ask_in_vain(&mut self, share: HeldShare, tenths: u64) {
            assert_eq!(self.excess(750, share, tenths), Excess::Ask(NAMES));
            assert_eq!(self.excess(750, share, tenths), Excess::Hold);
            assert_eq!(self.ask_twice(750, tenths), Reply::Now(CONTENTS_TOO));
            assert_eq!(self.ask_twice(750, tenths), Reply::Later);
        }
    }

    #[test]
    fn without_an_agent_nothing_waits() {
        let mut forgetting = Forgetting::default();
        let excess = forgetting.excess(LIMIT, LIMIT, MUCH, Instant::now());
        assert_eq!(excess, Excess::Refuse);
    }

    #[test]
    fn the_agent_is_asked_before_there_is_too_much() {
        let mut scene = Scene::new();
        assert_eq!(scene.forgetting.due(500, LIMIT), None);
        assert_eq!(scene.forgetting.due(501, LIMIT), Some(NAMES));
        assert_eq!(scene.forgetting.due(502, LIMIT), None);
        assert_eq!(scene.ask(20, 1), Reply::Later);
        assert_eq!(scene.forgetting.due(501, LIMIT), Some(NAMES));
    }

    #[test]
    fn the_agent_pauses_while_names_are_forgotten() {
        let mut scene = Scene::new();
        assert_eq!(scene.excess(750, MUCH, 0), Excess::Ask(NAMES));
        assert_eq!(scene.ask(760, 1), Reply::Now(PAUSE));
        scene.forgetting.note_progress(755);
        assert_eq!(scene.ask(755, 1), Reply::Now(PAUSE));
        assert_eq!(scene.ask(755, 1), Reply::Now(CONTENTS_TOO));
    }

    #[test]
    fn who_holds_much_is_refused_where_who_holds_little_waits() {
        let mut scene = Scene::new();
        scene.ask_in_vain(MUCH, 0);
        assert_eq!(scene.excess(750, MUCH, 3), Excess::Refuse);
        assert_eq!(scene.forgetting.due(750, LIMIT), None);
        // That was not for the sake of who holds little.
        scene.ask_in_vain(LITTLE, 4);
        assert_eq!(scene.excess(750, LITTLE, 7), Excess::Ask(PAUSE));
        assert_eq!(scene.ask(750, 8), Reply::Now(PAUSE));
        assert_eq!(scene.ask(750, 15), Reply::Now(NAMES));
        assert_eq!(scene.ask_twice(750, 16), Reply::Now(CONTENTS_TOO));
        assert_eq!(scene.ask_twice(750, 17), Reply::Later);
        scene.ask_in_vain(MUCH, 81);
    }

    #[test]
    fn what_is_new_may_be_forgotten() {
        let mut scene = Scene::new();
        scene.ask_in_vain(MUCH, 0);
        assert_eq!(scene.excess(765, MUCH, 1), Excess::Refuse);
        assert_eq!(scene.excess(766, MUCH, 1), Excess::Ask(NAMES));
        while scene.ask(750, 1) != Reply::Later {}
        assert_eq!(scene.excess(750, MUCH, 1), Excess::Refuse);
        (0..16).for_each(|_| scene.forgetting.note_close());
        assert_eq!(scene.excess(734, MUCH, 2), Excess::Ask(NAMES));
    }

    #[test]
    fn who_takes_what_was_just_forgotten_may_have_it_forgotten_too() {
        let mut scene = Scene::new();
        assert_eq!(scene.excess(750, MUCH, 0), Excess::Ask(NAMES));
        scene.forgetting.note_progress(400);
        assert_eq!(scene.ask_twice(750, 1), Reply::Now(CONTENTS_TOO));
        assert_eq!(scene.ask_twice(750, 1), Reply::Later);
        let now = scene.at(1);
        let again = scene.forgetting.excess_again(750, LIMIT, LITTLE, now);
        assert_eq!(again, Excess::Ask(NAMES));
        assert_eq!(scene.ask_twice(750, 1), Reply::Now(CONTENTS_TOO));
        assert_eq!(scene.ask_twice(750, 1), Reply::Later);
        let again = scene.forgetting.excess_again(750, LIMIT, LITTLE, now);
        assert_eq!(again, Excess::Refuse);
    }
}
