//! Owns the list of what failed: which paths, why, how often, since when, and when each is tried again; and the bytes
//! that it is kept in from one start to the next. It takes `now` and neither tries nor logs anything itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::schedule::{failures, later, pause};
use crate::tree::codec::{put, put_bytes, take, take_bytes, take_counted};
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::operation::{Cause, Problem};
use crate::tree::path::RelPath;

#[derive(Debug, Default)]
pub struct Ledger {
    paths: BTreeMap<RelPath, Failed>,
    /// Differs from what was last kept.
    is_changed: bool,
}

/// What is known of one path that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub reason: String,
    pub tries: u32,
    /// The first failure and the last one, in seconds since 1970.
    pub first: u64,
    pub last: u64,
    /// The next try; `Moment(u64::MAX)` while it is being tried.
    pub due: Moment,
    /// Failures since the last event for the path: the pauses grow with them.
    in_a_row: u32,
}

/// As many paths are listed one by one at most: a sweep finds the others.
const LISTED: usize = 10_000;
/// As many of them, with so much of each reason, outlive the process.
const KEPT: usize = 1_000;
const KEPT_REASON: usize = 500;
/// The form of the kept bytes. Another one is as good as none.
const FORMAT: &[u8] = b"\x01";

impl Ledger {
    /// Takes in what failed in a pass over `dirty`. `wall` is the time in seconds since 1970. Returns the problems that
    /// are new, or other than before.
    pub fn note(&mut self, dirty: &DirtySet, problems: &[Problem], now: Moment, wall: u64) -> Vec<Problem> {
        let mut news = Vec::new();
        let mut seen = BTreeSet::new();
        for problem in problems {
            // One reason a path is enough.
            if !seen.insert(&problem.path) {
                continue;
            }
            let known = self.paths.get(&problem.path);
            if known.is_none_or(|k| k.reason != problem.reason) {
                news.push(problem.clone());
            }
            if known.is_some() || self.paths.len() < LISTED {
                let in_a_row = failures(known.map_or(0, |k| k.in_a_row), dirty.asked(&problem.path));
                let failed = Failed {
                    reason: problem.reason.clone(),
                    tries: known.map_or(0, |k| k.tries).saturating_add(1),
                    first: known.map_or(wall, |k| k.first),
                    last: wall,
                    due: later(now, pause(in_a_row)),
                    in_a_row,
                };
                self.paths.insert(problem.path.clone(), failed);
                self.is_changed = true;
            }
        }
        news
    }

    /// Drops what `is_done` says is mended or gone. Returns it, with the number of tries that had failed.
    pub fn mend(&mut self, mut is_done: impl FnMut(&RelPath) -> bool) -> Vec<(RelPath, u32)> {
        let done: Vec<(RelPath, u32)> =
            self.paths.iter().filter(|(p, _)| is_done(p)).map(|(p, failed)| (p.clone(), failed.tries)).collect();
        for (path, _) in &done {
            self.paths.remove(path);
        }
        self.is_changed |= !done.is_empty();
        done
    }

    /// Puts all that is due back into doubt.
    pub fn take_due(&mut self, now: Moment) -> DirtySet {
        let mut dirty = DirtySet::default();
        for (path, failed) in &mut self.paths {
            if failed.due <= now {
                // Tried once, until its outcome says more.
                failed.due = Moment(u64::MAX);
                dirty.insert(path, Doubt::subtree(now).asked_by(Cause::Retry));
            }
        }
        dirty
    }

    pub fn next(&self) -> Option<Moment> {
        self.paths.values().map(|f| f.due).filter(|due| *due != Moment(u64::MAX)).min()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Failed)> {
        self.paths.iter()
    }

    pub fn has(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether it is to be kept anew.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The bytes to keep.
    pub fn kept(&mut self) -> Vec<u8> {
        self.is_changed = false;
        let mut out = FORMAT.to_vec();
        for (path, failed) in self.paths.iter().take(KEPT) {
            put_bytes(&mut out, path.as_bytes());
            put_bytes(&mut out, shortened(&failed.reason).as_bytes());
            for number in [u64::from(failed.tries), failed.first, failed.last] {
                put(&mut out, number);
            }
        }
        out
    }

    /// What was kept. The first sweep tries all of it; nothing is due before. Bytes that no ledger wrote are an empty one.
    pub fn restore(bytes: &[u8]) -> Self {
        let paths = decode(bytes).unwrap_or_default();
        Self { paths, is_changed: false }
    }
}

fn shortened(reason: &str) -> &str {
    let ends = reason.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= KEPT_REASON).last().unwrap_or(0);
    reason.get(..end).unwrap_or_default()
}

fn decode(mut bytes: &[u8]) -> Option<BTreeMap<RelPath, Failed>> {
    let mut paths = BTreeMap::new();
    if take_bytes(&mut bytes, FORMAT.len())? != FORMAT {
        return None;
    }
    while !bytes.is_empty() {
        let path = RelPath::new(take_counted(&mut bytes)?)?;
        let reason = str::from_utf8(take_counted(&mut bytes)?).ok()?.to_owned();
        let tries = u32::try_from(take(&mut bytes)?).ok()?;
        let (first, last) = (take(&mut bytes)?, take(&mut bytes)?);
        paths.insert(path, Failed { reason, tries, first, last, due: Moment(u64::MAX), in_a_row: 0 });
    }
    (paths.len() <= KEPT).then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn problem(text: &str, reason: &str) -> Problem {
        Problem { path: path(text), reason: reason.into() }
    }

    fn of<const N: usize>(ledger: &Ledger, paths: [&str; N]) -> [Failed; N] {
        paths.map(|p| ledger.paths.get(&path(p)).expect("listed").clone())
    }

    #[test]
    fn a_problem_is_news_once_and_is_tried_again_with_growing_pauses() {
        let mut ledger = Ledger::default();
        let all = DirtySet::everything();
        let now = Moment(1);
        assert_eq!(ledger.note(&all, &[problem("a", "x"), problem("a", "y")], now, 100), [problem("a", "x")]);
        let first = ledger.next().expect("a try");
        let dirty = ledger.take_due(first);
        assert_eq!(dirty.asked(&path("a")), Some(Cause::Retry));
        assert_eq!(ledger.next(), None, "it is being tried");
        assert_eq!(ledger.note(&dirty, &[problem("a", "x")], first, 101), []);
        let second = ledger.next().expect("a try");
        assert!(second.0 - first.0 > first.0 - now.0);
        assert_eq!(ledger.note(&all, &[problem("a", "y")], second, 102).len(), 1, "another reason");
        let [failed] = of(&ledger, ["a"]);
        assert_eq!((failed.tries, failed.first, failed.last, failed.reason.as_str()), (3, 100, 102, "y"));
        assert_eq!(ledger.mend(|p| *p == path("a")), [(path("a"), 3)]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_event_for_the_path_begins_the_pauses_anew_and_no_other_event_does() {
        let mut ledger = Ledger::default();
        let all = DirtySet::everything();
        let mut pauses = Vec::new();
        let mut event = DirtySet::default();
        event.insert(&path("a"), Doubt::contents(Moment(9)));
        event.insert(&path("c"), Doubt::contents(Moment(9)));
        for dirty in [&all, &all, &all, &event, &all] {
            let failing = [problem("a", "x"), problem("b", "x")];
            let failing: Vec<Problem> = failing.into_iter().filter(|p| dirty.covers(&p.path)).collect();
            ledger.note(dirty, &failing, Moment(0), 1);
            pauses.push(of(&ledger, ["a", "b"]).map(|f| f.due.0 / 1_000_000));
        }
        assert_eq!(pauses, [[500, 500], [1000, 1000], [2000, 2000], [500, 2000], [1000, 4000]]);
        assert_eq!(of(&ledger, ["a", "b"]).map(|f| f.tries), [5, 4], "each try is counted all the same");
    }

    #[test]
    fn tries_and_the_first_failure_go_on_after_a_restart() {
        let mut ledger = Ledger::default();
        let all = DirtySet::everything();
        ledger.note(&all, &[problem("a", "x"), problem("b", "x")], Moment(1), 100);
        ledger.note(&all, &[problem("a", "x"), problem("b", "x")], Moment(2), 200);
        assert!(ledger.is_changed());
        let mut ledger = Ledger::restore(&ledger.kept());
        assert!(!ledger.is_changed());
        assert_eq!(ledger.next(), None, "the first sweep tries it");
        assert_eq!(ledger.note(&all, &[problem("b", "x")], Moment(3), 300), []);
        assert!(ledger.is_changed());
        ledger.kept();
        assert_eq!(ledger.mend(|p| *p == path("a")), [(path("a"), 2)]);
        assert!(ledger.is_changed());
        let [b] = of(&ledger, ["b"]);
        assert_eq!((b.tries, b.first, b.last), (3, 100, 300));
        assert_eq!(Ledger::restore(&Ledger::default().kept()).len(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut ledger = Ledger::default();
        let reason = "ä".repeat(KEPT_REASON);
        let many: Vec<Problem> = (0..LISTED + 10).map(|i| problem(&i.to_string(), &reason)).collect();
        ledger.note(&DirtySet::everything(), &many, Moment(1), 1);
        assert_eq!(ledger.len(), LISTED);
        let kept = ledger.kept();
        assert!(kept.len() < KEPT * (KEPT_REASON + 50), "{}", kept.len());
        let restored = Ledger::restore(&kept);
        assert_eq!(restored.len(), KEPT);
        assert!(restored.iter().all(|(_, f)| f.reason.len() <= KEPT_REASON && reason.starts_with(&f.reason)));
    }

    proptest! {
        #[test]
        fn restoring_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), is_ours in any::<bool>()) {
            let bytes = if is_ours { [FORMAT, &bytes].concat() } else { bytes };
            prop_assert!(Ledger::restore(&bytes).len() <= KEPT);
        }

        #[test]
        fn restoring_undoes_keeping_and_a_part_of_it_harms_nobody(
            paths in prop::collection::btree_map("[a-c\u{e4}]{1,3}(/[a-c ]{1,3}){0,2}", (".{0,20}", 1u32.., any::<u64>(), any::<u64>()), 0..8),
            cut in 0usize..400,
        ) {
            let failed = |(reason, tries, first, last): &(String, u32, u64, u64)| Failed {
                reason: reason.clone(), tries: *tries, first: *first, last: *last, due: Moment(u64::MAX), in_a_row: 0,
            };
            let paths: BTreeMap<RelPath, Failed> = paths.iter().map(|(p, f)| (path(p), failed(f))).collect();
            let mut ledger = Ledger { paths: paths.clone(), is_changed: true };
            let kept = ledger.kept();
            prop_assert_eq!(&Ledger::restore(&kept).paths, &paths);
            let part = Ledger::restore(kept.get(..cut).unwrap_or(&kept)).paths;
            prop_assert!(part.iter().all(|(path, failed)| paths.get(path) == Some(failed)));
        }
    }
}
