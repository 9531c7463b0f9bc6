//! Owns which paths are being worked on, so that two passes at once never publish the same name in the wrong order.
//! Nobody waits for a claim: a path that is taken goes back into doubt.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::tree::path::RelPath;

#[derive(Debug, Default)]
pub struct Claims(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    entries: HashSet<RelPath>,
    subtrees: Vec<RelPath>,
}

impl Claims {
    /// Claims one entry.
    pub fn entry(&self, path: &RelPath) -> bool {
        let mut taken = self.lock();
        if taken.subtrees.iter().any(|tree| path.is_within(tree)) {
            return false;
        }
        taken.entries.insert(path.clone())
    }

    pub fn release_entry(&self, path: &RelPath) {
        self.lock().entries.remove(path);
    }

    /// Claims an entry and all below it.
    pub fn subtree(&self, path: &RelPath) -> bool {
        let mut taken = self.lock();
        let overlaps = taken.subtrees.iter().any(|t| path.is_within(t) || t.is_within(path))
            || taken.entries.iter().any(|e| e.is_within(path));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_one_at_a_time() {
        let path = |text: &str| RelPath::new(text.as_bytes()).expect("a valid path");
        let claims = Claims::default();
        assert!(claims.entry(&path("a/b")));
        assert!(!claims.entry(&path("a/b")));
        assert!(!claims.subtree(&path("a")));
        assert!(claims.subtree(&path("c")));
        assert!(!claims.entry(&path("c/d")));
        assert!(!claims.subtree(&path("c/d")));
        claims.release_entry(&path("a/b"));
        assert!(claims.subtree(&path("a")));
        claims.release_subtree(&path("c"));
        assert!(claims.entry(&path("c/d")));
    }
}
