//! Owns what follows from an order that a lane is done with: what is in doubt again, what is said of it, and what is kept
//! for the next start.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Dispatcher;
use super::screen::LastSweep;
use crate::plan::schedule::{later, until};
use crate::service::lane::{Finished, Which};
use crate::service::news::{Rename, Taken};
use crate::service::pass::Outcome;
use crate::service::places::Misplaced;
use crate::service::{clock, report};
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::path::RelPath;

/// Changed while it was looked at: the first pause before the next look.
const SOON: Duration = Duration::from_millis(10);
const SOON_AT_MOST: Duration = Duration::from_secs(1);
/// What has been agreed is committed when nothing more has come for so long.
const COMMIT: Duration = Duration::from_secs(5);

impl Dispatcher {
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { which, dirty, renames, release, outcome } = finished;
        let now = clock::now();
        self.settle_rules();
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.hold.give_back(release, now);
                return self.not_begun(which, dirty, renames, reason);
            }
        };
        let is_sweep = which == Which::Bulk && std::mem::take(&mut self.bulk.is_sweep);
        self.note_gone(std::mem::take(&mut outcome.gone));
        let lane = match which {
            Which::Express => &mut self.express,
            Which::Bulk => &mut self.bulk,
        };
        let since = lane.running.take().unwrap_or(now);
        let retried = std::mem::take(&mut lane.is_retry);
        let again = outcome.again.clone();
        let rested = self.pair.restless.settle(&dirty, &again, &outcome.restless, since, now);
        report::rested(&self.pair, &rested);
        if again.is_empty() {
            lane.soon_tries = 0;
        } else {
            lane.soon_tries = lane.soon_tries.saturating_add(1);
            let wait = SOON.saturating_mul(1 << lane.soon_tries.min(10)).min(SOON_AT_MOST);
            lane.soon_due = later(now, wait);
            lane.soon.union(Taken { dirty: again, oldest: Some(since), renames: Vec::new(), cause: lane.cause });
        }
        self.note_condition(which, now, &outcome, retried);
        let news = self.ledger.note(&dirty, &outcome.problems, now, clock::wall());
        match which {
            Which::Express => self.hand_over(&dirty, &outcome, since),
            Which::Bulk => self.note_ends(&dirty, &outcome),
        }
        outcome.problems = news;
        let common = outcome.common.clone();
        self.report_problems(&dirty, &outcome, common);
        self.recent.add(&self.pair, now, outcome.unasked);
        let added = outcome.totals.files_copied + outcome.totals.directories_created + outcome.totals.links;
        self.entries = self.entries.map(|n| (n + added).saturating_sub(outcome.totals.removed));
        self.totals += outcome.totals;
        if is_sweep {
            self.onlooker.ended();
            self.end_sweep(now, &outcome);
        }
        if self.pair.archive.is_behind() || self.ledger.is_changed() || self.hold.is_changed() {
            self.commit_due = Some(later(now, COMMIT));
        }
    }

    /// A lane found a root that is not in its place, and did nothing: all of the order waits on.
    fn not_begun(&mut self, which: Which, dirty: DirtySet, renames: Vec<Rename>, reason: Misplaced) {
        let lane = match which {
            Which::Express => &mut self.express,
            Which::Bulk => &mut self.bulk,
        };
        let oldest = lane.running.take();
        lane.retries |= std::mem::take(&mut lane.is_retry);
        lane.waiting.union(Taken { dirty, oldest, renames, cause: lane.cause });
        if std::mem::take(&mut lane.is_sweep) {
            self.sweep_began = None;
            self.sweeps.ask();
            self.onlooker.ended();
        }
        self.misplaced(reason);
    }

    fn end_sweep(&mut self, now: Moment, outcome: &Outcome) {
        let began = self.sweep_began.take().map_or(now, |(began, _)| began);
        let duration = until(began, now);
        self.sweeps.ended(now);
        report::sweep(&self.pair, outcome, duration);
        if outcome.cancelled {
            return;
        }
        let lost = self.pair.lost();
        if lost < began {
            // Unless they were lost once more: then another sweep follows.
            let _ = self.pair.lost.compare_exchange(lost.0, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        if let Some(entries) = outcome.entries {
            let totals = &outcome.totals;
            let added = totals.files_copied + totals.directories_created + totals.links + totals.other;
            let entries = (entries + added).saturating_sub(totals.removed);
            self.entries = Some(entries);
            self.pair.archive.set_fact("entries", entries.to_string().as_bytes());
        }
        if let Some(watches) = &self.pair.watches {
            watches.all_seen();
        }
        self.last_sweep = Some(LastSweep::now(duration, outcome.totals));
        self.sweeps_ended += 1;
        self.commit(now);
    }

    /// What failed or was held, and was looked at, is done with, if nothing more is said of it.
    fn note_ends(&mut self, dirty: &DirtySet, outcome: &Outcome) {
        self.hold.settle(&self.pair, dirty, outcome);
        // A pass that was stopped has not looked at all that it was to.
        if !outcome.cancelled {
            let failed: BTreeSet<&RelPath> = outcome.problems.iter().map(|problem| &problem.path).collect();
            let is_done = |path: &RelPath| dirty.covers(path) && !failed.contains(path) && !outcome.again.covers(path);
            report::mended(&self.pair, &self.ledger.mend(is_done));
        }
    }

    /// Of what is held, or failed before and not now, the lane says more that also removes.
    fn hand_over(&mut self, dirty: &DirtySet, outcome: &Outcome, since: Moment) {
        let failed: BTreeSet<&RelPath> = outcome.problems.iter().map(|problem| &problem.path).collect();
        let failing = self.ledger.iter().map(|(path, _)| path);
        for path in self.hold.paths().chain(failing).filter(|path| dirty.covers(path) && !failed.contains(path)) {
            self.bulk.waiting.insert(path, Doubt::subtree(since), since);
        }
    }

    pub(super) fn commit(&mut self, now: Moment) {
        self.commit_due = None;
        self.keep_facts();
        if let Err(reason) = self.pair.archive.commit(now, true)
            && self.pair.said.first("commit")
        {
            self.pair.log.warn(format_args!("{reason}; the next sweep compares everything"));
        }
        if self.pair.archive.is_behind() {
            // What is on trust still: it can be written when no event can contradict it any more.
            self.commit_due = Some(later(now, Duration::from_secs(61)));
        }
    }

    /// Keeps for the next start what is held and what fails.
    pub(super) fn keep_facts(&mut self) {
        self.hold.keep(&self.pair);
        if self.ledger.is_changed() {
            self.pair.archive.set_fact(super::LEDGER, &self.ledger.kept());
        }
    }
}
