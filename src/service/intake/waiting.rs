//! Owns what waits to fall quiet, and its release into doubt.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::acted::Acted;
use super::lists::Lists;
use super::vanished::Vanished;
use super::written::Written;
use crate::service::news::News;
use crate::service::quiet::Quiet;
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

#[derive(Default)]
pub(super) struct State {
    pub(super) debounce: Duration,
    pub(super) max_delay: Duration,
    pub(super) news: News,
    /// Waiting to fall quiet.
    pub(super) pending: BTreeMap<RelPath, Pending>,
    /// The same by age; entries that are not pending any more are passed over.
    pub(super) by_age: VecDeque<(Moment, RelPath)>,
    pub(super) acted: Acted,
    pub(super) quiet: Option<Quiet>,
    pub(super) fed: Moment,
    pub(super) removals: Removals,
    pub(super) vanished: Vanished,
    pub(super) lists: Lists,
    pub(super) written: Written,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) fed: Moment,
    pub(super) doubt: Doubt,
    pub(super) is_removal: bool,
    /// Nothing was heard of it but its removal.
    pub(super) is_plain: bool,
}

/// The removals among the pending. They wait for one another, so that all are judged as one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removals {
    pub(super) count: usize,
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) fed: Moment,
}

impl State {
    /// At the latest when the oldest event was read of those that are not handed on.
    pub(super) fn oldest(&self) -> Option<Moment> {
        let waiting = self.by_age.front().map(|(first, _)| *first);
        let removals = (self.removals.count > 0).then_some(self.removals.first);
        let news = [self.news.express.oldest, self.news.bulk.oldest];
        [waiting, removals].into_iter().chain(news).flatten().min()
    }

    pub(super) fn release(&mut self, path: &RelPath) {
        if let Some(pending) = self.pending.remove(path) {
            self.news.bulk.insert(path, pending.doubt, pending.first);
        }
    }

    /// Releases a path that need not fall quiet, since its end was heard, unless its removal was too.
    pub(super) fn release_unfinished(&mut self, path: &RelPath) {
        if self.pending.get(path).is_some_and(|pending| !pending.is_removal) {
            self.release(path);
        }
    }

    /// What was removed with a folder is looked at with the folder, if nothing else was heard of it: not even a storm of
    /// removals is kept name by name.
    pub(super) fn forget_removals_in(&mut self, folder: &RelPath) {
        let within = self.pending.range(folder.clone()..).take_while(|(path, _)| path.is_within(folder));
        let plain = within.filter(|(path, pending)| pending.is_plain && *path != folder);
        let covered: Vec<RelPath> = plain.map(|(path, _)| path.clone()).collect();
        self.removals.count -= covered.len().min(self.removals.count);
        for path in covered {
            self.pending.remove(&path);
        }
    }

    /// Releases every removal, quiet or not.
    pub(super) fn release_removals(&mut self) {
        let first = std::mem::take(&mut self.removals).first;
        let gone: Vec<RelPath> =
            self.pending.iter().filter(|(_, p)| p.is_removal).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.release(&path);
        }
        // Also of those that went with their folders.
        self.news.bulk.since(first);
    }

    pub(super) fn release_lists(&mut self) {
        while let Some((since, folder)) = self.lists.take() {
            self.news.bulk.insert_extent(folder, Extent::Names, Cause::Event, since);
        }
    }

    pub(super) fn release_all(&mut self) {
        self.release_lists();
        self.by_age.clear();
        if self.removals.count > 0 {
            self.release_removals();
        }
        for (path, pending) in std::mem::take(&mut self.pending) {
            self.news.bulk.insert(&path, pending.doubt, pending.first);
        }
    }
}
