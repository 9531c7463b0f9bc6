//! Owns what follows from an order that a lane is done with: what is in doubt again, what is said of it, and what is kept
//! for the next start.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Dispatcher;
use super::screen::{LastSweep, timestamp_of};
use super::way::Way;
use crate::plan::schedule::{later, until};
use crate::service::lane::{Finished, Which};
use crate::service::news::{Rename, Taken};
use crate::service::pass::Outcome;
use crate::service::places::Misplaced;
use crate::service::status::ConflictStatus;
use crate::service::{clock, report};
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::operation::{Cause, Conflict};
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

/// Changed while it was looked at: the first pause before the next look.
const SOON: Duration = Duration::from_millis(10);
const SOON_AT_MOST: Duration = Duration::from_secs(1);
/// What has been agreed is committed when nothing more has come for so long.
const COMMIT: Duration = Duration::from_secs(5);

impl Dispatcher {
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { way: at, which, dirty, renames, release, outcome } = finished;
        let now = clock::now();
        self.settle_rules();
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.ways[at].hold.give_back(release, now);
                return self.not_begun((at, which), dirty, renames, reason);
            }
        };
        self.note_gone(std::mem::take(&mut outcome.gone));
        let way = &mut self.ways[at];
        let is_sweep = which == Which::Bulk && std::mem::take(&mut way.bulk.is_sweep);
        let lane = way.lane(which);
        let since = lane.running.take().unwrap_or(now);
        let retried = std::mem::take(&mut lane.is_retry);
        let cause = lane.cause;
        let again = outcome.again.clone();
        if again.is_empty() {
            lane.soon_tries = 0;
        } else {
            lane.soon_tries = lane.soon_tries.saturating_add(1);
            let wait = SOON.saturating_mul(1 << lane.soon_tries.min(10)).min(SOON_AT_MOST);
            lane.soon_due = later(now, wait);
            lane.soon.union(Taken { dirty: again.clone(), oldest: Some(since), renames: Vec::new(), cause });
        }
        let rested = way.pair.restless.settle(&dirty, &again, &outcome.restless, since, now);
        report::rested(&way.pair, &rested);
        way.note_condition(which, now, &outcome, retried);
        let news = way.ledger.note(&dirty, &outcome.problems, now, clock::wall());
        match which {
            Which::Express => way.hand_over(&dirty, &outcome, since),
            Which::Bulk => way.note_ends(&dirty, &outcome),
        }
        outcome.problems = news;
        let common = outcome.common.clone();
        way.report_problems(&dirty, &outcome, common);
        way.recent.add(&way.pair, now, outcome.unasked);
        let added = outcome.totals.files_copied + outcome.totals.directories_created + outcome.totals.links;
        way.entries = way.entries.map(|n| (n + added).saturating_sub(outcome.totals.removed));
        self.totals += outcome.totals;
        if outcome.totals != Totals::default() {
            self.pair().keeping.look();
        }
        self.ways[at].totals += outcome.totals;
        self.note_conflicts(at, &mut outcome);
        let across = std::mem::take(&mut outcome.across);
        if let (false, Some(other)) = (across.is_empty(), self.ways.get_mut(1 - at.min(1))) {
            let cause = if is_sweep { Cause::Sweep } else { cause };
            other.bulk.waiting.union(Taken { dirty: across, oldest: Some(since), renames: Vec::new(), cause });
        }
        if is_sweep {
            self.end_sweep(at, now, outcome);
        }
        let is_changed = |way: &Way| way.ledger.is_changed() || way.hold.is_changed();
        if self.pair().archive.is_behind() || self.ways.iter().any(is_changed) {
            self.commit_due = Some(later(now, COMMIT));
        }
    }

    /// A lane found a root that is not in its place, and did nothing: all of the order waits on.
    fn not_begun(&mut self, (at, which): (usize, Which), dirty: DirtySet, renames: Vec<Rename>, reason: Misplaced) {
        let lane = self.ways[at].lane(which);
        let oldest = lane.running.take();
        lane.retries |= std::mem::take(&mut lane.is_retry);
        lane.waiting.union(Taken { dirty, oldest, renames, cause: lane.cause });
        if std::mem::take(&mut lane.is_sweep) {
            self.sweep_began = None;
            self.ways.iter_mut().for_each(|way| way.has_to_sweep = false);
            self.sweeps.ask();
            self.onlooker.ended();
        }
        self.misplaced(reason);
    }

    /// Remembers the last conflicts, as the log has shown them.
    fn note_conflicts(&mut self, at: usize, outcome: &mut Outcome) {
        let pair = &self.ways[at].pair;
        for Conflict { path, winner, kept } in std::mem::take(&mut outcome.conflicts) {
            if self.conflicts.len() >= report::CONFLICTS {
                self.conflicts.pop_front();
            }
            self.conflicts.push_back(ConflictStatus {
                path: pair.shown(&path),
                winner: winner.to_string(),
                kept: kept.map(|kept| pair.shown(&kept)),
                at: timestamp_of(clock::wall()),
            });
        }
    }

    /// One way is through with the sweep; it ends with the last.
    fn end_sweep(&mut self, at: usize, now: Moment, outcome: Outcome) {
        let began = self.sweep_began.map_or(now, |(began, _)| began);
        if !outcome.cancelled {
            self.ways[at].swept(began, &outcome);
        }
        let mut whole = self.swept.take().unwrap_or_default();
        report::add(&mut whole, outcome);
        if !whole.cancelled && self.ways.iter().any(|way| way.has_to_sweep) {
            self.swept = Some(whole);
            return;
        }
        self.onlooker.ended();
        self.sweep_began = None;
        let duration = until(began, now);
        self.sweeps.ended(now);
        report::sweep(self.pair(), &whole, duration);
        if whole.cancelled {
            self.ways.iter_mut().for_each(|way| way.has_to_sweep = false);
            return;
        }
        self.last_sweep = Some(LastSweep::now(duration, whole.totals));
        self.sweeps_ended += 1;
        self.commit(now);
    }

    pub(super) fn commit(&mut self, now: Moment) {
        self.commit_due = None;
        self.keep_facts();
        let pair = self.pair();
        if let Err(reason) = pair.commit(now, true)
            && pair.said.first("commit")
        {
            pair.log.warn(format_args!("{reason}; the next sweep compares everything"));
        }
        if pair.archive.is_behind() {
            // What is on trust still: it can be written when no event can contradict it any more.
            self.commit_due = Some(later(now, Duration::from_secs(61)));
        }
    }

    /// Keeps for the next start what is held and what fails.
    pub(super) fn keep_facts(&mut self) {
        self.ways.iter_mut().for_each(Way::keep_facts);
    }
}

impl Way {
    /// Everything was looked at since `began`.
    fn swept(&mut self, began: Moment, outcome: &Outcome) {
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
            self.pair.set_fact("entries", entries.to_string().as_bytes());
        }
        if let Some(watches) = &self.pair.watches {
            watches.all_seen();
        }
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
}
