//! Owns what a person can change while the service runs, and the change from one set of it to the next. A pass keeps the
//! rules that it began with. It reads no configuration, and applies nothing.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::fs::watch::Heard;
use crate::plan::conflict::Policy;
use crate::plan::keep::Keep;
use crate::plan::mirror::Compare;
use crate::tree::exclude::{Exclude, RESERVED};
use crate::tree::path::RelPath;

/// What passes go by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub exclude: Exclude,
    pub compare: Compare,
    /// The share of the replica's entries, in percent, that one pass or minute may remove unasked.
    pub max_delete: f64,
    pub jobs: usize,
    /// What becomes of what both sides have changed.
    pub policy: Policy,
    /// For how long what the replica loses is kept. Whether anything is, is settled at the start.
    pub keep: Keep,
}

/// The rules for the next pass, and those of before that a pass may still go by.
#[derive(Debug)]
pub struct InForce(Mutex<State>);

#[derive(Debug)]
struct State {
    now: Arc<Rules>,
    former: Vec<Weak<Rules>>,
}

impl InForce {
    pub fn new(rules: Rules) -> Self {
        Self(Mutex::new(State { now: Arc::new(rules), former: Vec::new() }))
    }

    /// Those of this moment, to be kept for the whole of a pass.
    pub fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.lock().now)
    }

    pub fn replace(&self, rules: Rules) {
        let mut state = self.lock();
        let former = std::mem::replace(&mut state.now, Arc::new(rules));
        state.former.push(Arc::downgrade(&former));
        drop(former);
        state.former.retain(|rules| rules.strong_count() > 0);
    }

    /// Whether some pass may have gone by former rules since this was last asked.
    pub fn take_former(&self) -> bool {
        let mut state = self.lock();
        let is_any = !state.former.is_empty();
        state.former.retain(|rules| rules.strong_count() > 0);
        is_any
    }

    /// Whether nobody needs to hear of this path, whatever lies there.
    pub fn leave_alone(&self, path: &RelPath) -> bool {
        self.now().exclude.skips_either(path)
    }

    /// What is left to hear where it is about paths that are left alone: in which folders a name came or went, since their
    /// times go across. The program sets those itself where its own folder comes and goes.
    pub fn rest_of(&self, heard: &Heard) -> Vec<Heard> {
        if heard.paths().into_iter().flatten().any(|path| path.as_bytes() == RESERVED) {
            return Vec::new();
        }
        let exclude = &self.now().exclude;
        heard.folders().filter(|folder| !exclude.skips_within(folder, true)).map(Heard::Listed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What was asked for, read again.
#[derive(Debug)]
pub struct Reread {
    pub rules: Rules,
    pub interval: Duration,
    pub debounce: Duration,
    pub max_delay: Duration,
    /// 0 is normal, below is quiet, above verbose.
    pub verbosity: i8,
    /// What has changed, in words for the log: `interval 10m -> 1h`.
    pub changed: Vec<String>,
    /// Options whose change counts from the next start on.
    pub for_a_restart: Vec<&'static str>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

/// Reads again what was asked for; the message of a failure has one line for each thing that is wrong.
pub type Reload = Box<dyn FnMut() -> Result<Reread, Vec<String>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pattern: &str) -> Rules {
        let exclude = Exclude::new([pattern]).expect("a pattern");
        Rules {
            exclude,
            compare: Compare::Stamps,
            max_delete: 50.0,
            jobs: 1,
            policy: Policy::KeepBoth,
            keep: Keep::default(),
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn of_what_is_left_alone_only_coming_and_going_is_told_of_its_folder() {
        let in_force = InForce::new(rules("x"));
        let rest = |heard: Heard| in_force.rest_of(&heard);
        let listed = |folder: &str| Heard::Listed(path(folder));
        for quiet in [Heard::Written, Heard::Modified, Heard::Attributes] {
            assert_eq!(rest(quiet(path("a/x"))), []);
        }
        for loud in [Heard::Made, Heard::FolderMade, Heard::Removed, Heard::Left, Heard::Came] {
            assert_eq!(rest(loud(path("a/x"))), [listed("a")]);
            assert_eq!(rest(loud(path("x"))), [listed("")]);
            assert_eq!(rest(loud(path("a/x/b"))), [], "its folder is left alone too");
            assert_eq!(rest(loud(path(".driftless"))), []);
        }
        let renamed = |from: &str, to: &str| rest(Heard::Renamed { from: path(from), to: path(to) });
        assert_eq!(renamed("a/x", "b/x"), [listed("a"), listed("b")]);
        assert_eq!(renamed("a/x", "a/x"), [listed("a")]);
        assert_eq!(renamed("a/x/b", "x"), [listed("")]);
    }

    #[test]
    fn a_pass_keeps_the_rules_that_it_began_with() {
        let in_force = InForce::new(rules("*.a"));
        let begun = in_force.now();
        assert!(!in_force.take_former(), "none have gone before");
        in_force.replace(rules("*.b"));
        assert!(begun.exclude.skips(&path("x.a"), false) && !in_force.leave_alone(&path("x.a")));
        assert!(in_force.leave_alone(&path("x.b")));
        assert!(in_force.take_former() && in_force.take_former(), "a pass goes by them still");
        drop(begun);
        assert!(in_force.take_former(), "it has just ended");
        assert!(!in_force.take_former());
    }

    #[test]
    fn rules_that_nobody_goes_by_are_not_kept() {
        let in_force = InForce::new(rules("*.a"));
        for _ in 0..3 {
            in_force.replace(rules("*.b"));
        }
        assert!(!in_force.take_former());
    }
}
