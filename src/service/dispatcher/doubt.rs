//! Owns what comes into doubt, and by which lane: what was heard, what failed and is tried again, and what may have changed
//! unheard. When it is looked at is decided elsewhere.

use super::Dispatcher;
use crate::service::clock;
use crate::service::news::{News, Taken};
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

impl Dispatcher {
    pub(super) fn take_news(&mut self) {
        for at in 0..self.ways.len() {
            self.take_news_of(at);
        }
    }

    fn take_news_of(&mut self, at: usize) {
        let way = &mut self.ways[at];
        let News { express, bulk, lost, linked, is_root_moved, cookies } =
            way.intake.take(clock::now(), way.oldest(), |path| way.ledger.has(path));
        if let Some(since) = lost {
            way.pair.log.warn("Events were lost: everything is looked at again");
            way.pair.archive.distrust();
            way.bulk.waiting.since(since);
            self.sweeps.ask();
        }
        for (path, id) in linked {
            way.pair.links().note(id, &path);
        }
        way.express.waiting.union(express);
        way.bulk.waiting.union(bulk);
        for (name, heard) in cookies {
            self.flushes.heard(&name, heard);
            // Nobody hears what happens there: they are looked at now.
            way.poll(heard);
        }
        if is_root_moved {
            self.mounts_changed(clock::now());
        }
    }

    pub(super) fn do_what_is_due(&mut self) {
        let now = clock::now();
        for way in &mut self.ways {
            let retries = way.ledger.take_due(now);
            way.bulk.waiting.union(Taken {
                oldest: (!retries.is_empty()).then_some(now),
                cause: if retries.is_everything() { Cause::Retry } else { Cause::Event },
                dirty: retries,
                renames: vec![],
            });
            let restless = way.pair.restless.take_due(now);
            way.bulk.waiting.union(Taken {
                oldest: (!restless.is_empty()).then_some(now),
                dirty: restless,
                ..Taken::default()
            });
            way.poll_if_due(now);
        }
        if self.commit_due.is_some_and(|due| due <= now) {
            self.commit(now);
        }
    }

    /// Puts all names of files with several names into doubt: a write through one of them is heard of that name alone,
    /// which may be gone by the time it is looked at. Where even the name was never seen, it may have been any file's.
    /// Who waits for everything waits for them too.
    pub(super) fn doubt_unheard(&mut self, since: Moment) {
        for way in &mut self.ways {
            if way.intake.take_vanished() {
                way.bulk.waiting.insert_extent(RelPath::root(), Extent::Tree, Cause::Flush, since);
            }
            let names: Vec<RelPath> = way.pair.links().all_names().cloned().collect();
            for name in names {
                way.bulk.waiting.insert(&name, Doubt::unheard(), since);
            }
        }
    }
}
