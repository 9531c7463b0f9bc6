//! Owns since when each change of a pass was known to be due, and how long it took to arrive in the replica. Only what an
//! event asked for counts: nobody knows how long a sweep's find, or what failed before, has been waiting.

use super::{Order, Pass};
use crate::plan::schedule::until;
use crate::service::clock;
use crate::tree::doubt::{DirtySet, Moment};
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
        let named = if self.has_names { dirty.heard_first(path) } else { None };
        match named {
            Some(first) => Some(first).filter(|first| *first != Moment::NEVER),
            None => self.oldest.filter(|_| dirty.covers(path)),
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

    /// A change is in the replica.
    pub(super) fn arrived(&self, path: &RelPath) {
        if let Some(first) = self.heard.first(self.dirty, path) {
            self.pair.latency.note(until(first, clock::now()));
        }
    }
}
