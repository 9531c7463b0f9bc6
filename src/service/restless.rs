//! Owns the files that change while they are read: since when, when each is looked at again, and whether it has waited so
//! long that it is taken as it is. It takes `now`, and neither reads nor logs anything itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::path::RelPath;

/// What a look at a file gave that was changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: the replica has what it had.
    Waits,
    /// The same, and it has waited too long.
    Behind,
    /// One state of the file, which has changed since.
    Taken,
    /// What may be no state that ever was.
    Uncertain,
    /// It changes no more.
    Rests,
}

#[derive(Debug)]
pub struct Restless {
    spells: Mutex<BTreeMap<RelPath, Spell>>,
    /// In nanoseconds.
    max_delay: AtomicU64,
}

/// The time from the first look that failed to the one that finds the file at rest.
#[derive(Clone, Copy, Debug)]
struct Spell {
    /// When the wait for a state began that the replica does not have.
    first: Moment,
    /// When the oldest event was read that the replica does not show; `None`: it shows all that was heard.
    unserved: Option<Moment>,
    due: Moment,
    tries: u32,
    is_uncertain: bool,
    is_said: bool,
}

/// As many are known at a time. Further ones are taken as they are.
const SPELLS: usize = 1_000;
/// In longest delays.
const LONG: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl Restless {
    pub fn new(max_delay: Duration) -> Self {
        let restless = Self { spells: Mutex::default(), max_delay: AtomicU64::default() };
        restless.set_max_delay(max_delay);
        restless
    }

    /// Waits as long as this at most from now on.
    pub fn set_max_delay(&self, max_delay: Duration) {
        self.max_delay.store(u64::try_from(max_delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn max_delay(&self) -> Duration {
        Duration::from_nanos(self.max_delay.load(Ordering::Relaxed))
    }

    /// Whether the file has waited as long as anything may.
    pub fn is_overdue(&self, path: &RelPath, now: Moment) -> bool {
        self.has_waited(path, now, self.max_delay())
    }

    /// Whether it has waited so long that a person should know.
    pub fn is_long_overdue(&self, path: &RelPath, now: Moment) -> bool {
        self.has_waited(path, now, self.max_delay().saturating_mul(LONG))
    }

    fn has_waited(&self, path: &RelPath, now: Moment, delay: Duration) -> bool {
        let spells = self.lock();
        match spells.get(path) {
            Some(spell) => spell.unserved.is_some() && now >= later(spell.first, delay),
            None => spells.len() >= SPELLS,
        }
    }

    /// Whether it is to be said now that the file does not rest: once a spell.
    pub fn first_said(&self, path: &RelPath) -> bool {
        self.lock().get_mut(path).is_none_or(|spell| !std::mem::replace(&mut spell.is_said, true))
    }

    /// Takes in what came of a pass over `dirty`, whose oldest event was read at `since`. Returns the files that were
    /// said not to rest and do now. What is in `again` has not been looked at to the end.
    pub fn settle(
        &self,
        dirty: &DirtySet,
        again: &DirtySet,
        looks: &[(RelPath, Look)],
        since: Moment,
        now: Moment,
    ) -> Vec<RelPath> {
        let mut spells = self.lock();
        if spells.is_empty() && looks.is_empty() {
            return Vec::new();
        }
        let mut rested = Vec::new();
        let looked: BTreeMap<&RelPath, Look> = looks.iter().map(|(path, look)| (path, *look)).collect();
        spells.retain(|path, spell| {
            let rests = match looked.get(path) {
                Some(look) => *look == Look::Rests,
                None => dirty.covers(path) && !again.covers(path),
            };
            if rests && spell.is_said {
                rested.push(path.clone());
            }
            !rests
        });
        for (path, look) in looked {
            if look != Look::Rests && (spells.len() < SPELLS || spells.contains_key(path)) {
                let fresh =
                    Spell { first: now, unserved: None, due: now, tries: 0, is_uncertain: false, is_said: false };
                spells.entry(path.clone()).or_insert(fresh).note(look, since, now, self.max_delay());
            }
        }
        rested
    }

    /// Puts all that is due back into doubt.
    pub fn take_due(&self, now: Moment) -> DirtySet {
        let mut dirty = DirtySet::default();
        for (path, spell) in self.lock().iter_mut().filter(|(_, spell)| spell.due <= now) {
            // Looked at once, until the outcome says more.
            spell.due = Moment(u64::MAX);
            dirty.insert(path, Doubt::contents(now).heard_first(spell.unserved));
        }
        dirty
    }

    pub fn next(&self) -> Option<Moment> {
        self.lock().values().map(|spell| spell.due).filter(|due| *due != Moment(u64::MAX)).min()
    }

    /// When the oldest event was read that the replica does not show.
    pub fn oldest(&self) -> Option<Moment> {
        self.lock().values().filter_map(|spell| spell.unserved).min()
    }

    /// The files whose copy may be no state that ever was, or has fallen behind.
    pub fn uncertain(&self, at_most: usize) -> Vec<RelPath> {
        let spells = self.lock();
        spells.iter().filter(|(_, s)| s.is_uncertain).map(|(path, _)| path.clone()).take(at_most).collect()
    }

    /// How many files that is.
    pub fn uncertain_count(&self) -> usize {
        self.lock().values().filter(|spell| spell.is_uncertain).count()
    }

    /// How many files are waited for, or uncertain.
    pub fn unsettled(&self) -> usize {
        self.lock().values().filter(|s| s.is_uncertain || s.unserved.is_some()).count()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RelPath, Spell>> {
        self.spells.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Spell {
    fn note(&mut self, look: Look, since: Moment, now: Moment, max_delay: Duration) {
        match look {
            Look::Waits | Look::Behind => {
                if self.unserved.is_none() {
                    (self.first, self.tries) = (now, 0);
                }
                self.unserved = Some(self.unserved.map_or(since, |at| at.min(since)));
                self.tries = self.tries.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(10));
                self.due = later(now, pause.min(max_delay / 4).max(FIRST_PAUSE));
                self.is_uncertain |= look == Look::Behind;
            }
            Look::Taken | Look::Uncertain => {
                (self.unserved, self.tries) = (None, 0);
                // Its next change is heard of; this is for what is not.
                self.due = later(now, max_delay);
                self.is_uncertain = look == Look::Uncertain;
            }
            Look::Rests => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(2);

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn one(text: &str) -> DirtySet {
        let mut dirty = DirtySet::default();
        dirty.insert(&path(text), Doubt::contents(Moment(1)));
        dirty
    }

    #[test]
    fn pauses_grow_until_the_file_has_waited_too_long() {
        let (restless, none) = (Restless::new(DELAY), DirtySet::default());
        let mut now = Moment(1);
        let mut pause = Duration::ZERO;
        let mut tries = 0;
        while !restless.is_overdue(&path("a"), now) {
            restless.settle(&one("a"), &none, &[(path("a"), Look::Waits)], now, now);
            let next = restless.next().expect("a try");
            let waited = Duration::from_nanos(next.0 - now.0);
            assert!(waited >= pause && waited <= DELAY / 4);
            (pause, now, tries) = (waited, next, tries + 1);
            assert!(restless.take_due(now).covers(&path("a")) && restless.next().is_none());
        }
        assert!(now <= later(Moment(1), DELAY + DELAY / 4) && tries > 5, "{now:?} after {tries}");
        assert_eq!(restless.oldest(), Some(Moment(1)), "a flush waits for it");
        restless.settle(&one("a"), &none, &[(path("a"), Look::Uncertain)], now, now);
        assert_eq!((restless.oldest(), restless.uncertain(9)), (None, vec![path("a")]));
        restless.settle(&one("a"), &none, &[(path("a"), Look::Waits)], now, now);
        assert!(!restless.is_overdue(&path("a"), now), "the next one waits anew");
    }

    #[test]
    fn what_does_not_rest_is_said_once_and_once_more_when_it_does() {
        let (restless, none) = (Restless::new(DELAY), DirtySet::default());
        let looks = [(path("a"), Look::Uncertain)];
        restless.settle(&one("a"), &none, &looks, Moment(1), Moment(1));
        assert!(restless.first_said(&path("a")) && !restless.first_said(&path("a")));
        assert!(restless.settle(&one("b"), &none, &[], Moment(2), Moment(2)).is_empty(), "not looked at");
        assert!(restless.settle(&one("a"), &one("a"), &[], Moment(2), Moment(2)).is_empty(), "not to the end");
        assert_eq!(restless.settle(&one("a"), &none, &[], Moment(3), Moment(3)), [path("a")]);
        assert!(restless.uncertain(9).is_empty() && restless.next().is_none());
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let (restless, none) = (Restless::new(DELAY), DirtySet::default());
        for i in 0..SPELLS + 5 {
            restless.settle(&none, &none, &[(path(&i.to_string()), Look::Waits)], Moment(1), Moment(1));
        }
        assert!(restless.is_overdue(&path("unknown"), Moment(1)));
        assert_eq!(restless.unsettled(), SPELLS);
    }
}
