//! Owns the list of what failed: which paths, why, how often, and when each is tried again. It takes `now` and neither
//! tries nor logs anything itself.

use std::collections::BTreeMap;

use crate::plan::schedule::{later, pause};
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::operation::Problem;
use crate::tree::path::RelPath;

#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<RelPath, Failed>);

/// What is known of one path that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub reason: String,
    pub tries: u32,
    pub due: Moment,
}

/// As many paths are listed one by one at most: a sweep finds the others.
const LISTED: usize = 10_000;

impl Ledger {
    /// Takes in what came of a pass over `dirty`. Returns the problems that are new, or other than before.
    pub fn settle(&mut self, dirty: &DirtySet, problems: &[Problem], now: Moment) -> Vec<Problem> {
        let mut before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for problem in problems {
            let known = before.remove(&problem.path);
            if known.as_ref().is_none_or(|k| k.reason != problem.reason) && !self.0.contains_key(&problem.path) {
                news.push(problem.clone());
            }
            let tries = known.map_or(0, |k| k.tries).saturating_add(1);
            if self.0.len() < LISTED {
                let failed = Failed { reason: problem.reason.clone(), tries, due: later(now, pause(tries)) };
                self.0.insert(problem.path.clone(), failed);
            }
        }
        // What was looked at and is no problem any more is done with.
        before.retain(|path, _| !dirty.covers(path));
        self.0.append(&mut before);
        news
    }

    /// Puts all that is due back into doubt.
    pub fn take_due(&mut self, now: Moment) -> DirtySet {
        let mut dirty = DirtySet::default();
        for (path, failed) in &mut self.0 {
            if failed.due <= now {
                // Tried once, until its outcome says more.
                failed.due = Moment(u64::MAX);
                dirty.insert(path, Doubt::subtree(now));
            }
        }
        dirty
    }

    pub fn next(&self) -> Option<Moment> {
        self.0.values().map(|f| f.due).filter(|due| *due != Moment(u64::MAX)).min()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Failed)> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn problem(text: &str, reason: &str) -> Problem {
        Problem { path: path(text), reason: reason.into() }
    }

    #[test]
    fn a_problem_is_news_once_and_is_tried_again_with_growing_pauses() {
        let mut ledger = Ledger::default();
        let all = DirtySet::everything();
        let now = Moment(1);
        assert_eq!(ledger.settle(&all, &[problem("a", "x")], now).len(), 1);
        let first = ledger.next().expect("a try");
        assert!(ledger.take_due(first).covers(&path("a")));
        assert_eq!(ledger.next(), None, "it is being tried");
        assert!(ledger.settle(&all, &[problem("a", "x")], first).is_empty());
        let second = ledger.next().expect("a try");
        assert!(second.0 - first.0 > first.0 - now.0);
        assert_eq!(ledger.settle(&all, &[problem("a", "y")], second).len(), 1, "another reason");
        ledger.settle(&all, &[], second);
        assert!(ledger.is_empty());
    }

    #[test]
    fn what_was_not_looked_at_stays() {
        let mut ledger = Ledger::default();
        ledger.settle(&DirtySet::everything(), &[problem("a", "x"), problem("b", "x")], Moment(1));
        let mut only_b = DirtySet::default();
        only_b.insert(&path("b"), Doubt::contents(Moment(2)));
        ledger.settle(&only_b, &[], Moment(2));
        assert_eq!(ledger.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>(), [path("a")]);
    }
}
