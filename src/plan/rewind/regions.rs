//! Owns which lines of the journal can matter for what a path was: wherever anything went that was in it.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

/// Paths with all below them.
#[derive(Clone, Debug)]
pub struct Regions(BTreeSet<RelPath>);

impl Regions {
    pub fn of(path: RelPath) -> Self {
        Self(BTreeSet::from([path]))
    }

    pub fn all() -> Self {
        Self::of(RelPath::root())
    }

    pub fn are_all(&self) -> bool {
        self.0.contains(&RelPath::root())
    }

    /// Follows what is in them: lines are given the oldest first. One that did not come to be makes them larger, no more.
    pub fn follow(&mut self, line: &Line) {
        let new = match &line.event {
            Event::Renamed { to, .. } => self.moved(&line.path, to),
            Event::Exchanged { with, .. } => [self.moved(&line.path, with), self.moved(with, &line.path)].concat(),
            _ => return,
        };
        for region in new {
            self.add(region);
        }
    }

    fn moved(&self, from: &RelPath, to: &RelPath) -> Vec<RelPath> {
        let whole = self.cover(from).then(|| to.clone());
        self.within(from).filter_map(|region| region.moved(from, to)).chain(whole).collect()
    }

    fn add(&mut self, region: RelPath) {
        if !self.cover(&region) {
            self.0.insert(region);
        }
    }

    /// Whether the path lies in one of them.
    pub fn cover(&self, path: &RelPath) -> bool {
        self.are_all() || path.and_above().any(|path| self.0.contains(&path))
    }

    /// Whether the path lies in one of them, or one of them lies in it.
    pub fn concern(&self, path: &RelPath) -> bool {
        self.cover(path) || self.within(path).next().is_some()
    }

    fn within(&self, path: &RelPath) -> impl Iterator<Item = &RelPath> {
        let from = (Bound::Included(path.clone()), Bound::Unbounded);
        let path = path.clone();
        self.0.range(from).take_while(move |region| region.is_within(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Time;
    use crate::tree::history::By;
    use crate::tree::operation::Cause;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path")
    }

    fn renamed(from: &str, to: &str) -> Line {
        let event = Event::Renamed { to: path(to), ino: 1 };
        Line { at: Time::default(), path: path(from), event, by: By::Cause(Cause::Event), in_source: false }
    }

    #[test]
    fn they_go_where_their_contents_go() {
        let mut regions = Regions::of(path("a/b"));
        for (from, to) in [("a", "x"), ("x/b/c", "y"), ("y/d", "z/d"), ("q", "a/b/q"), ("u", "v")] {
            regions.follow(&renamed(from, to));
        }
        for inside in ["a/b/k", "x/b", "y/k", "z/d"] {
            assert!(regions.cover(&path(inside)), "{inside}");
        }
        for outside in ["a", "x", "z", "z/e", "q", "v"] {
            assert!(!regions.cover(&path(outside)), "{outside}");
        }
        assert!(regions.concern(&path("x")) && regions.concern(&path("z")) && !regions.concern(&path("q")));
        let exchanged = Line { event: Event::Exchanged { with: path("m"), ino: 1 }, ..renamed("x/b", "m") };
        regions.follow(&exchanged);
        assert!(regions.cover(&path("m/k")) && regions.cover(&path("x/b")));
    }
}
