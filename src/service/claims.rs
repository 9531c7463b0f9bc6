//! Owns which paths are being worked on, so that two passes at once never publish the same name in the wrong order.
//! Nobody waits for a claim: a path that is taken goes back into doubt.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::tree::path::RelPath;

/// Which of the two lanes a pass runs in; see `lane`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Express,
    Bulk,
}

#[derive(Debug, Default)]
pub struct Claims(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    express: HashSet<RelPath>,
    bulk: HashSet<RelPath>,
    subtrees: Vec<RelPath>,
}

impl Claims {
    /// Claims one entry.
    pub fn entry(&self, path: &RelPath, which: Which) -> bool {
        let mut taken = self.lock();
        let is_free =
            !taken.subtrees.iter().any(|tree| path.is_within(tree)) && !taken.of(which.other()).contains(path);
        is_free && taken.of(which).insert(path.clone())
    }

    pub fn release_entry(&self, path: &RelPath, which: Which) {
        self.lock().of(which).remove(path);
    }

    /// Whether the other lane works on an entry of this folder: what is listed may be about to change.
    pub fn others_in(&self, folder: &RelPath, which: Which) -> bool {
        let mut taken = self.lock();
        taken.of(which.other()).iter().any(|path| path.split().is_some_and(|(parent, _)| parent == *folder))
    }

    /// Claims an entry and all below it.
    pub fn subtree(&self, path: &RelPath) -> bool {
        let mut taken = self.lock();
        let overlaps = taken.subtrees.iter().any(|t| path.is_within(t) || t.is_within(path))
            || taken.express.iter().chain(&taken.bulk).any(|e| e.is_within(path));
        if !overlaps {
            taken.subtrees.push(path.clone());
        }
        !overlaps
    }

    pub fn release_subtree(&self, path: &RelPath) {
        self.lock().subtrees.retain(|t| t != path);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Which {
    fn other(self) -> Self {
        match self {
            Which::Express => Which::Bulk,
            Which::Bulk => Which::Express,
        }
    }
}

impl Taken {
    fn of(&mut self, which: Which) -> &mut HashSet<RelPath> {
        match which {
            Which::Express => &mut self.express,
            Which::Bulk => &mut self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Which::{Bulk, Express};

    #[test]
    fn a_path_belongs_to_one_at_a_time() {
        let path = |text: &str| RelPath::new(text.as_bytes()).expect("a valid path");
        let claims = Claims::default();
        assert!(claims.entry(&path("a/b"), Express));
        assert!(!claims.entry(&path("a/b"), Express));
        assert!(!claims.entry(&path("a/b"), Bulk));
        assert!(!claims.subtree(&path("a")));
        assert!(claims.subtree(&path("c")));
        assert!(!claims.entry(&path("c/d"), Bulk));
        assert!(!claims.subtree(&path("c/d")));
        claims.release_entry(&path("a/b"), Express);
        assert!(claims.subtree(&path("a")));
        claims.release_subtree(&path("c"));
        assert!(claims.entry(&path("c/d"), Bulk));
    }

    #[test]
    fn a_lane_sees_what_the_other_one_does_in_a_folder() {
        let path = |text: &str| RelPath::new(text.as_bytes()).expect("a valid path");
        let claims = Claims::default();
        assert!(claims.entry(&path("a/b"), Express));
        assert!(claims.others_in(&path("a"), Bulk));
        assert!(!claims.others_in(&path("a"), Express));
        assert!(!claims.others_in(&path(""), Bulk));
    }
}
