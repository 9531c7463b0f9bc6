//! Owns what comes into doubt, and by which lane: what was heard, what failed and is tried again, and what may have changed
//! unheard. When it is looked at is decided elsewhere.

use std::time::Duration;

use super::Dispatcher;
use crate::plan::schedule::later;
use crate::service::clock;
use crate::service::news::{News, Taken};
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

/// How often folders without a watch are looked at.
pub(super) const POLL: Duration = Duration::from_secs(10);

impl Dispatcher {
    pub(super) fn take_news(&mut self) {
        let News { express, bulk, lost, linked, is_root_moved, cookies } = self.intake.take(clock::now());
        if is_root_moved {
            self.mounts_changed(clock::now());
        }
        if let Some(since) = lost {
            self.pair.log.warn("Events were lost: everything is looked at again");
            self.pair.archive.distrust();
            self.bulk.waiting.since(since);
            self.sweeps.ask();
        }
        for (path, id) in linked {
            self.pair.links().note(id, &path);
        }
        self.express.waiting.union(express);
        self.bulk.waiting.union(bulk);
        for (name, at) in cookies {
            self.flushes.heard(&name, at);
            // Nobody hears what happens there: they are looked at now.
            self.poll(at);
        }
    }

    pub(super) fn do_what_is_due(&mut self) {
        let now = clock::now();
        let retries = self.ledger.take_due(now);
        self.bulk.waiting.union(Taken {
            oldest: (!retries.is_empty()).then_some(now),
            cause: if retries.is_everything() { Cause::Retry } else { Cause::Event },
            dirty: retries,
            renames: vec![],
        });
        let restless = self.pair.restless.take_due(now);
        self.bulk.waiting.union(Taken {
            oldest: (!restless.is_empty()).then_some(now),
            dirty: restless,
            ..Taken::default()
        });
        if self.commit_due.is_some_and(|due| due <= now) {
            self.commit(now);
        }
        if later(self.polled, POLL) <= now {
            self.poll(now);
        }
    }

    /// Puts all names of files with several names into doubt: a write through one of them is heard of that name alone,
    /// which may be gone by the time it is looked at. Where even the name was never seen, it may have been any file's.
    /// Who waits for everything waits for them too.
    pub(super) fn doubt_unheard(&mut self, since: Moment) {
        if self.intake.take_vanished() {
            self.bulk.waiting.insert_extent(RelPath::root(), Extent::Tree, Cause::Flush, since);
        }
        let names: Vec<RelPath> = self.pair.links().all_names().cloned().collect();
        for name in names {
            self.bulk.waiting.insert(&name, Doubt::unheard(), since);
        }
    }

    /// Puts the folders without a watch into doubt.
    fn poll(&mut self, now: Moment) {
        self.polled = now;
        for folder in self.pair.watches.iter().flat_map(|w| w.without()) {
            self.bulk.waiting.insert_extent(folder, Extent::Listing, Cause::Poll, now);
        }
    }
}
