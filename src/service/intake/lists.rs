//! Owns the folders of which nothing but their own times has moved, since a name came or went in them that is left alone.
//! However many do, a folder is looked at once in a debounce.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::Moment;
use crate::tree::path::RelPath;

#[derive(Default)]
pub struct Lists {
    waiting: HashSet<RelPath>,
    /// Since when, the oldest first.
    by_age: VecDeque<(Moment, RelPath)>,
}

impl Lists {
    /// Returns whether the folder does not wait yet.
    pub fn note(&mut self, folder: RelPath, now: Moment) -> bool {
        let is_new = self.waiting.insert(folder.clone());
        if is_new {
            self.by_age.push_back((now, folder));
        }
        is_new
    }

    /// The next folder that has waited for a debounce, and since when it has.
    pub fn take_due(&mut self, now: Moment, debounce: Duration) -> Option<(Moment, RelPath)> {
        self.by_age.front().filter(|(since, _)| later(*since, debounce) <= now)?;
        self.take()
    }

    /// The one that waits longest.
    pub fn take(&mut self) -> Option<(Moment, RelPath)> {
        let (since, folder) = self.by_age.pop_front()?;
        self.waiting.remove(&folder);
        Some((since, folder))
    }

    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    pub fn oldest(&self) -> Option<Moment> {
        self.by_age.front().map(|(since, _)| *since)
    }
}
