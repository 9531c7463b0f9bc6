//! Owns what was heard to be written and is not dealt with: a file that is renamed meanwhile takes that along to its new name.
//! Its times need not show it: they can be set back, and the new name moves the ctime by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::{Doubt, Moment};
use crate::tree::path::RelPath;

/// Paths remembered one by one. With more than these, what is renamed may have been any of them.
const MOST: usize = 4_096;
/// A rename may be read of so much later than the look that found the old name gone, and was content with that.
const LATE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Written {
    paths: BTreeMap<RelPath, Moment>,
    /// Since when there have been too many to remember.
    unknown: Option<Moment>,
    forgotten: Moment,
}

impl Written {
    /// Notes what was heard of one name. What was heard of a whole tree is looked at with all that it holds.
    pub fn heard(&mut self, path: &RelPath, doubt: Doubt, now: Moment) {
        if doubt.contents && !doubt.below {
            self.note(path, now);
        }
    }

    fn note(&mut self, path: &RelPath, now: Moment) {
        if let Some(at) = self.paths.get_mut(path) {
            *at = now;
        } else if self.paths.len() < MOST {
            self.paths.insert(path.clone(), now);
        } else {
            self.unknown = Some(now);
        }
    }

    /// Whether this file may have been written to.
    pub fn may_be(&self, path: &RelPath) -> bool {
        self.unknown.is_some() || self.paths.contains_key(path)
    }

    /// What was written there, or within it, was so under its new name too. Returns what lies within.
    pub fn renamed(&mut self, from: &RelPath, to: &RelPath, now: Moment) -> Vec<RelPath> {
        let within = self.paths.range(from.clone()..).take_while(|(path, _)| path.is_within(from));
        let moved: Vec<RelPath> = within.filter_map(|(path, _)| path.moved(from, to)).collect();
        // The old name may have become another file's: two that change places are heard one after the other.
        moved.iter().for_each(|path| self.note(path, now));
        moved.into_iter().filter(|path| path != to).collect()
    }

    /// Forgets what is dealt with: all that was heard before the oldest of what is not, and not just now.
    pub fn forget(&mut self, oldest: Option<Moment>, now: Moment, is_failing: impl Fn(&RelPath) -> bool) {
        // In a storm this is asked thousands of times a second.
        if now < later(self.forgotten, LATE / 16) {
            return;
        }
        self.forgotten = now;
        let is_over = |at: Moment| oldest.is_none_or(|oldest| at < oldest) && later(at, LATE) <= now;
        self.paths.retain(|path, at| !is_over(*at) || is_failing(path));
        self.unknown = self.unknown.filter(|at| !is_over(*at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn what_is_within_a_folder_goes_along_with_it() {
        let mut written = Written::default();
        for name in ["a", "a/b", "a/c/d", "a0", "ab"] {
            written.note(&path(name), Moment(1));
        }
        assert_eq!(written.renamed(&path("a"), &path("z/y"), Moment(2)), [path("z/y/b"), path("z/y/c/d")]);
        assert!(["z/y", "z/y/b", "z/y/c/d", "a", "a0"].iter().all(|name| written.may_be(&path(name))));
        assert!(!written.may_be(&path("z")) && !written.may_be(&path("a/c")));
    }

    #[test]
    fn what_is_dealt_with_is_forgotten_in_time_and_what_fails_is_not() {
        let mut written = Written::default();
        for (name, at) in [("failing", 1), ("done", 1), ("waiting", 2)] {
            written.note(&path(name), Moment(at));
        }
        let known = |written: &Written| ["failing", "done", "waiting"].map(|name| written.may_be(&path(name)));
        let soon = Moment(later(Moment(2), LATE).0 - 1);
        written.forget(Some(Moment(1)), soon, |_| false);
        assert_eq!(known(&written), [true; 3]);
        let (late, later) = (later(soon, LATE), later(soon, 2 * LATE));
        written.forget(Some(Moment(2)), late, |at| *at == path("failing"));
        assert_eq!(known(&written), [true, false, true]);
        written.forget(None, later, |_| false);
        assert_eq!(known(&written), [false; 3]);
        written.note(&path("done"), later);
        written.forget(None, Moment(later.0 + LATE.as_nanos() as u64 - 1), |_| false);
        assert_eq!(known(&written), [false, true, false], "it was just now");
    }

    #[test]
    fn where_there_are_too_many_it_may_have_been_any_until_they_are_dealt_with() {
        let mut written = Written::default();
        for n in 0..=MOST as u64 {
            assert!(!written.may_be(&path("other")));
            written.note(&path(&n.to_string()), Moment(n));
        }
        assert!(written.may_be(&path("other")) && written.paths.len() == MOST);
        let last = MOST as u64;
        written.forget(Some(Moment(last)), later(Moment(last), LATE), |_| false);
        assert!(written.may_be(&path("other")) && written.paths.is_empty());
        written.forget(Some(Moment(last + 1)), later(Moment(last), 2 * LATE), |_| false);
        assert!(!written.may_be(&path("other")));
    }
}
