//! Owns since when each change of a pass was known to be due, and how long it took to arrive in the replica. Only what an
//! event asked for counts: nobody knows how long a sweep's find, or what failed before, has been waiting.

use super::{Order, Pass};
use crate::plan::schedule::until;
use crate::service::clock;
use crate::tree::doubt::{DirtySet, Moment, Near};
use crate::tree::entry::Kind;
use crate::tree::operation::{Cause, Operation};
use crate::tree::path::RelPath;

/// What a pass has to know of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Of whole folders and trees that events asked for, when there were too many to be named.
    oldest: Option<Moment>,
    has_names: bool,
}

impl Heard {
    pub(super) fn of(order: &Order) -> Self {
        let oldest = order.oldest.filter(|_| order.cause == Cause::Event);
        Self { oldest, has_names: order.dirty.has_names() }
    }

    /// When the first event was read that asked for the look at a path, if one did.
    pub(super) fn first(&self, dirty: &DirtySet, path: &RelPath) -> Option<Moment> {
        if self.oldest.is_none() && !self.has_names {
            return None;
        }
        let (folder, name) = match path.split() {
            Some((folder, name)) => (folder, name),
            None => return self.oldest.filter(|_| dirty.covers(path)),
        };
        self.first_of(&dirty.near(&folder), name)
    }

    /// The same for an entry of a folder of which it is known what is in doubt near it.
    fn first_of(&self, near: &Near, name: &[u8]) -> Option<Moment> {
        let named = if self.has_names { near.named(name) } else { None };
        match named {
            Some(doubt) => Some(doubt.first).filter(|first| *first != Moment::NEVER),
            None => self.oldest.filter(|_| near.covers(name)),
        }
    }
}

impl Pass<'_> {
    /// Logs one operation, and measures how long it took if an event asked for it.
    pub(super) fn report(&self, operation: Operation, path: &RelPath) {
        self.pair.report(operation, path);
        self.arrived(path);
    }

    /// The same for a removal.
    pub(super) fn report_removal(&self, operation: Operation, path: &RelPath, cause: Cause) {
        self.pair.report_removal(operation, path, cause);
        self.arrived(path);
    }

    /// The same for many in one folder.
    pub(super) fn report_removals(&self, folder: &RelPath, entries: &[(&[u8], Kind)], cause: Cause) {
        let (near, now) = (self.dirty.near(folder), clock::now());
        for (name, kind) in entries {
            self.pair.report_removal(Operation::removal_of(*kind), &folder.join(name), cause);
            if let Some(first) = self.heard.first_of(&near, name) {
                self.pair.latency.note(until(first, now));
            }
        }
    }

    /// A change is in the replica.
    pub(super) fn arrived(&self, path: &RelPath) {
        if let Some(first) = self.heard.first(self.dirty, path) {
            self.pair.latency.note(until(first, clock::now()));
        }
    }
}
