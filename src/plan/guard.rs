//! Owns the brake on mass deletion: which removals of one pass go through and which are held. Pure arithmetic; the
//! service counts, remembers the last minute and what is held, and tells the person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::tree::doubt::Moment;
use crate::tree::path::RelPath;

/// Fewer removals than this never need asking.
pub const FREE: u64 = 50;
/// Passes within this time are judged together.
pub const WINDOW: Duration = Duration::from_secs(60);

/// As many held paths are kept one by one at most; of the others, the number of their entries.
pub const LISTED: usize = 10_000;

/// What becomes of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It goes because a person said so.
    Released,
    Hold,
}

/// Removals that wait for a person, and how many entries go with each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    paths: BTreeMap<RelPath, u64>,
    /// Entries of what is held beside the paths that are listed.
    unlisted: u64,
}

/// What a person has let go, once.
#[derive(Clone, Debug, Default)]
pub enum Release {
    #[default]
    Nothing,
    /// What was held when it was said, and nothing that came later.
    These(Arc<Held>),
    Everything,
}

/// What the brake has to know of before a pass.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    /// Entries in the replica as last counted; `None` before the first sweep, which counts them itself.
    pub entries: Option<u64>,
    /// Removals of the last minute.
    pub recent: u64,
    /// What is held already, less what is released.
    pub held: Arc<Held>,
    pub release: Release,
}

impl Held {
    pub fn new(paths: impl IntoIterator<Item = (RelPath, u64)>, unlisted: u64) -> Self {
        let mut held = Self { paths: BTreeMap::new(), unlisted };
        for (path, entries) in paths {
            held.insert(path, entries);
        }
        held
    }

    /// Adds a path, in whose number all that is listed below it is counted.
    pub fn insert(&mut self, path: RelPath, entries: u64) {
        while let Some(below) = self.first_from(&path).filter(|held| held.is_within(&path)).cloned() {
            self.paths.remove(&below);
        }
        if self.paths.len() < LISTED {
            self.paths.insert(path, entries);
        } else {
            self.unlisted = self.unlisted.saturating_add(entries);
        }
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&RelPath) -> bool) {
        self.paths.retain(|path, _| stays(path));
    }

    /// Forgets what is not listed, because everything is being listed anew.
    pub fn forget_unlisted(&mut self) {
        self.unlisted = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.unlisted == 0
    }

    pub fn entries(&self) -> u64 {
        self.paths.values().fold(self.unlisted, |sum, entries| sum.saturating_add(*entries))
    }

    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, u64)> {
        self.paths.iter().map(|(path, entries)| (path, *entries))
    }

    /// Whether removing `path` takes nothing but what is held.
    pub fn covers(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.paths.contains_key(&path) {
                return true;
            }
            at = path.split().map(|(folder, _)| folder);
        }
        false
    }

    /// Whether removing `path` takes, or may take, something that is held.
    pub fn concerns(&self, path: &RelPath) -> bool {
        let holds_one = || self.first_from(path).is_some_and(|held| held.is_within(path));
        self.unlisted > 0 || self.covers(path) || holds_one()
    }

    /// The first held path that is this one or comes after it: what lies below it, if anything does.
    fn first_from(&self, path: &RelPath) -> Option<&RelPath> {
        self.paths.range::<RelPath, _>(path..).next().map(|(held, _)| held)
    }

    /// What is held here and not there.
    pub fn without(&self, other: &Held) -> Held {
        let paths = self.iter().filter(|(path, _)| !other.covers(path)).map(|(path, n)| (path.clone(), n));
        Self { paths: paths.collect(), unlisted: self.unlisted.saturating_sub(other.unlisted) }
    }
}

impl Brake {
    /// Judges the removals that a pass has found, each with the number of entries that go with it. `entries` is the
    /// number in the replica before the pass, `percent` the share of them that may go unasked.
    ///
    /// What is held stays held however few it is, until it is released or not to be removed any more; and it counts
    /// for what comes later, as if both had been found together.
    pub fn sort(&self, removals: &[(&RelPath, u64)], entries: u64, percent: f64) -> Vec<Verdict> {
        let (nothing, everything) = (Held::default(), matches!(self.release, Release::Everything));
        let released = if let Release::These(held) = &self.release { held } else { &nothing };
        let first = |(path, _): &(&RelPath, u64)| {
            if released.covers(path) {
                Verdict::Released
            } else if self.held.concerns(path) {
                Verdict::Hold
            } else {
                Verdict::Go
            }
        };
        let mut verdicts: Vec<Verdict> = removals.iter().map(first).collect();
        let sum = |wanted: Verdict| {
            let wanted = removals.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == wanted);
            wanted.fold(0u64, |sum, ((_, entries), _)| sum.saturating_add(*entries))
        };
        // Released without being listed: as many may go as there were.
        let fresh = sum(Verdict::Go).saturating_sub(released.unlisted);
        let held = self.held.entries().max(sum(Verdict::Hold));
        // The others are judged as if what is released were gone by then.
        let entries = entries.saturating_sub(sum(Verdict::Released).saturating_add(sum(Verdict::Go) - fresh));
        let too_many = fresh > 0 && are_too_many(fresh.saturating_add(held), self.recent, entries, percent);
        for verdict in &mut verdicts {
            *verdict = match *verdict {
                Verdict::Go if too_many && !everything => Verdict::Hold,
                Verdict::Go if too_many || released.unlisted > 0 => Verdict::Released,
                Verdict::Hold if everything => Verdict::Released,
                verdict => verdict,
            };
        }
        verdicts
    }
}

/// The removals of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Window {
    recent: Vec<(Moment, u64)>,
}

impl Window {
    pub fn add(&mut self, now: Moment, removed: u64) {
        self.forget(now);
        if removed > 0 {
            self.recent.push((now, removed));
        }
    }

    pub fn sum(&mut self, now: Moment) -> u64 {
        self.forget(now);
        self.recent.iter().map(|(_, n)| n).sum()
    }

    fn forget(&mut self, now: Moment) {
        let span = WINDOW.as_nanos() as u64;
        self.recent.retain(|(at, _)| now.0.saturating_sub(at.0) < span);
    }
}

/// Whether `removals` more are too many in a replica that held `entries` before this pass and lost `recent` in the last
/// minute. `percent` is the share of the entries that may go unasked.
fn are_too_many(removals: u64, recent: u64, entries: u64, percent: f64) -> bool {
    let (gone, before) = (removals.saturating_add(recent), entries.saturating_add(recent));
    gone > FREE && gone as f64 * 100.0 > before as f64 * percent
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn held(paths: &[(&str, u64)], unlisted: u64) -> Arc<Held> {
        Arc::new(Held::new(paths.iter().map(|(p, n)| (path(p), *n)), unlisted))
    }

    fn sorted(brake: &Brake, removals: &[(&str, u64)], entries: u64) -> Vec<Verdict> {
        let paths: Vec<(RelPath, u64)> = removals.iter().map(|(p, n)| (path(p), *n)).collect();
        brake.sort(&paths.iter().map(|(p, n)| (p, *n)).collect::<Vec<_>>(), entries, 50.0)
    }

    #[test]
    fn fifty_may_always_go_and_more_only_within_the_share() {
        for (removals, recent, entries, percent, too_many) in [
            (50, 0, 50, 50.0, false),
            (51, 0, 51, 50.0, true),
            (51, 0, 102, 50.0, false),
            (51, 0, 101, 50.0, true),
            (30, 30, 70, 50.0, true),
            (1, 60, 60, 50.0, true),
            (1000, 0, 1000, 100.0, false),
            (51, 0, 1_000_000, 0.0, true),
        ] {
            let verdicts = Brake { recent, ..Brake::default() }.sort(&[(&path("a"), removals)], entries, percent);
            let expected = if too_many { Verdict::Hold } else { Verdict::Go };
            assert_eq!(verdicts, [expected], "{removals} {recent} {entries} {percent}");
        }
    }

    #[test]
    fn what_is_held_stays_held_however_few_it_is() {
        let brake = Brake { held: held(&[("a", 1), ("b/c", 1), ("d", 3)], 0), ..Brake::default() };
        let removals = [("a", 1), ("b", 2), ("d/e", 1), ("f", 1)];
        assert_eq!(sorted(&brake, &removals, 1000), [Verdict::Hold, Verdict::Hold, Verdict::Hold, Verdict::Go]);
        assert_eq!(sorted(&brake, &[("b.c", 1)], 1000), [Verdict::Go], "only its name begins so");
    }

    #[test]
    fn what_comes_later_is_judged_together_with_what_is_held() {
        let brake = Brake { held: held(&[("a", 60)], 0), ..Brake::default() };
        assert_eq!(sorted(&brake, &[("b", 1)], 100), [Verdict::Hold]);
        assert_eq!(sorted(&brake, &[("b", 1)], 1000), [Verdict::Go]);
        assert_eq!(sorted(&brake, &[("a", 60), ("b", 1)], 1000), [Verdict::Hold, Verdict::Go]);
    }

    #[test]
    fn release_lets_go_what_was_held_and_nothing_that_comes_with_it() {
        let release = Release::These(held(&[("a", 60), ("b", 1)], 0));
        let brake = Brake { release, ..Brake::default() };
        let removals = [("a", 60), ("b", 1), ("c", 60)];
        assert_eq!(sorted(&brake, &removals, 100), [Verdict::Released, Verdict::Released, Verdict::Hold]);
        assert_eq!(sorted(&brake, &[("a/1", 1), ("c", 2)], 100), [Verdict::Released, Verdict::Go]);
        // 60 of 200 would go, 60 of the 60 that are left then do not.
        assert_eq!(sorted(&brake, &[("a", 140), ("c", 60)], 200), [Verdict::Released, Verdict::Hold]);
        // More than was released would go with it.
        assert_eq!(sorted(&Brake { held: held(&[("d/e", 1)], 0), ..brake }, &[("d", 2)], 1000), [Verdict::Hold]);
    }

    #[test]
    fn release_of_what_is_not_listed_lets_as_many_go() {
        let release = Release::These(held(&[("a", 1)], 100));
        let brake = Brake { release, ..Brake::default() };
        assert_eq!(sorted(&brake, &[("a", 1), ("b", 100)], 110), [Verdict::Released, Verdict::Released]);
        assert_eq!(sorted(&brake, &[("a", 1), ("b", 160)], 110), [Verdict::Released, Verdict::Hold]);
        assert_eq!(Held::default().without(&held(&[], 3)), Held::default());
    }

    #[test]
    fn everything_that_would_be_held_can_be_released() {
        let brake = Brake { release: Release::Everything, held: held(&[("a", 1)], 0), ..Brake::default() };
        assert_eq!(sorted(&brake, &[("a", 1), ("b", 60)], 61), [Verdict::Released, Verdict::Released]);
        assert_eq!(sorted(&brake, &[("b", 1)], 61), [Verdict::Go], "nobody had to be asked");
    }

    #[test]
    fn held_folder_takes_the_place_of_what_was_held_in_it() {
        let held = Held::new([("a/b", 1), ("a/c/d", 1), ("a.b", 1), ("a", 5)].map(|(p, n)| (path(p), n)), 0);
        assert_eq!((held.iter().count(), held.entries()), (2, 6));
    }

    #[test]
    fn list_of_what_is_held_is_bounded_and_its_number_is_not() {
        let many = (0..LISTED as u64 + 10).map(|i| (path(&i.to_string()), 2));
        let held = Held::new(many, 0);
        assert_eq!((held.iter().count(), held.entries()), (LISTED, 2 * (LISTED as u64 + 10)));
        assert!(held.concerns(&path("anything")), "it may be one of those that are not listed");
    }

    #[test]
    fn a_minute_later_removals_are_forgotten() {
        let mut window = Window::default();
        let second = 1_000_000_000;
        window.add(Moment(0), 10);
        window.add(Moment(30 * second), 5);
        assert_eq!(window.sum(Moment(59 * second)), 15);
        assert_eq!(window.sum(Moment(60 * second)), 5);
        assert_eq!(window.sum(Moment(91 * second)), 0);
    }

    proptest! {
        #[test]
        fn more_removals_never_turn_hold_into_go(
            r in 1u64..500, more in 0u64..500, recent in 0u64..100, held_before in 0u64..100, entries in 0u64..1000,
        ) {
            let brake = Brake { recent, held: held(&[("held", held_before)], 0), ..Brake::default() };
            if sorted(&brake, &[("a", r)], entries) == [Verdict::Hold] {
                prop_assert_eq!(sorted(&brake, &[("a", r + more)], entries), [Verdict::Hold]);
                prop_assert_eq!(sorted(&brake, &[("a", r), ("b", more)], entries), [Verdict::Hold, Verdict::Hold]);
            }
        }
    }
}
