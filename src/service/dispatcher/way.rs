//! Owns one way that changes go: what waits for it, what it does, what it holds and what fails on it. From the source to
//! the replica there is always one; where both folders are worked in, another one goes back.

use std::sync::Arc;

use super::held::{Hold, Recent};
use super::lanes::LaneState;
use super::trouble::Trouble;
use crate::plan::schedule::later;
use crate::service::clock;
use crate::service::intake::Intake;
use crate::service::lane::Which;
use crate::service::ledger::Ledger;
use crate::service::pair::Pair;
use crate::tree::doubt::{Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::totals::Totals;

/// The name under which the archive keeps what failed.
const LEDGER: &str = "failing";

pub struct Way {
    pub(super) pair: Arc<Pair>,
    pub(super) intake: Arc<Intake>,
    pub(super) express: LaneState,
    pub(super) bulk: LaneState,
    pub(super) ledger: Ledger,
    pub(super) hold: Hold,
    pub(super) recent: Recent,
    /// In the folder that it writes to.
    pub(super) entries: Option<u64>,
    /// What it did since the start.
    pub(super) totals: Totals,
    pub(super) trouble: Trouble,
    polled: Moment,
    /// It has still to look at everything for the sweep that is under way.
    pub(super) has_to_sweep: bool,
}

/// How often folders without a watch are looked at.
const POLL: std::time::Duration = std::time::Duration::from_secs(10);

impl Way {
    pub(super) fn new(pair: Arc<Pair>, intake: Arc<Intake>, express: LaneState, bulk: LaneState) -> Self {
        Self {
            hold: Hold::restore(&pair),
            recent: Recent::restore(&pair, clock::now()),
            entries: pair.entries(),
            totals: Totals::default(),
            ledger: Ledger::restore(&pair.fact(LEDGER).unwrap_or_default()),
            trouble: Trouble::default(),
            polled: clock::now(),
            has_to_sweep: false,
            pair,
            intake,
            express,
            bulk,
        }
    }

    pub(super) fn lane(&mut self, which: Which) -> &mut LaneState {
        match which {
            Which::Express => &mut self.express,
            Which::Bulk => &mut self.bulk,
        }
    }

    pub(super) fn lanes(&self) -> [&LaneState; 2] {
        [&self.express, &self.bulk]
    }

    /// Puts the folders without a watch into doubt.
    pub(super) fn poll(&mut self, now: Moment) {
        self.polled = now;
        for folder in self.pair.watches.iter().flat_map(|w| w.without()) {
            self.bulk.waiting.insert_extent(folder, Extent::Listing, Cause::Poll, now);
        }
    }

    pub(super) fn poll_if_due(&mut self, now: Moment) {
        if later(self.polled, POLL) <= now {
            self.poll(now);
        }
    }

    /// The next moment at which something is due on this way that nothing else announces.
    pub(super) fn deadline(&self, may_begin: bool) -> Option<Moment> {
        let mut due = vec![];
        due.extend(self.intake.deadline());
        due.extend(self.ledger.next());
        due.extend(self.pair.restless.next());
        // While it holds, nothing is begun.
        if may_begin {
            due.extend(
                self.lanes().into_iter().filter(|l| l.running.is_none() && !l.soon.is_empty()).map(|l| l.soon_due),
            );
        }
        if self.pair.watches.as_ref().is_some_and(|w| w.count().1 > 0) {
            due.push(later(self.polled, POLL));
        }
        due.into_iter().min()
    }

    /// When the oldest event was read that is not dealt with; what failed is listed elsewhere.
    pub(super) fn oldest(&self) -> Option<Moment> {
        let lanes = self.lanes().into_iter().flat_map(|l| [l.waiting.oldest, l.running, l.soon.oldest]);
        // What is released waits for the pass that runs, which knows nothing of it.
        let released = self.hold.released().map(|(since, _)| since);
        lanes.chain([self.pair.restless.oldest(), released]).flatten().min()
    }

    /// Keeps for the next start what is held and what fails.
    pub(super) fn keep_facts(&mut self) {
        self.hold.keep(&self.pair);
        if self.ledger.is_changed() {
            self.pair.set_fact(LEDGER, &self.ledger.kept());
        }
    }
}
