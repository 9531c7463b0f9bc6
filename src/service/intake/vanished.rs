//! Owns the names that came and went unseen, up to a number. What follows from them is the flush's.

use std::collections::HashSet;

use crate::tree::path::RelPath;

const VANISHED: usize = 1_000;

/// Names that were made and gone again before they could be looked at. Any of them may have been another name of a file
/// that is there still, and written through: nothing else tells of that.
#[derive(Default)]
pub struct Vanished {
    pub names: HashSet<RelPath>,
    /// There were too many to remember.
    pub is_full: bool,
}

impl Vanished {
    pub fn note(&mut self, path: &RelPath) {
        self.is_full |= self.names.len() >= VANISHED;
        if !self.is_full {
            self.names.insert(path.clone());
        }
    }
}
