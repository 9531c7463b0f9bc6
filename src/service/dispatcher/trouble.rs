//! Owns what is wrong with the replica as a whole, from the first pass that found it to the first that came through:
//! said once when it begins and once when it ends. The ledger has what is wrong with single paths.

use std::collections::BTreeSet;

use super::way::Way;
use crate::plan::schedule::{later, pause};
use crate::service::condition::Condition;
use crate::service::lane::Which;
use crate::service::pass::Outcome;
use crate::service::report::{self, Common};
use crate::tree::doubt::{DirtySet, Moment};
use crate::tree::path::RelPath;

/// As many paths are kept in mind at most.
const LISTED: usize = 10_000;

#[derive(Default)]
pub(super) struct Trouble {
    /// What holds now.
    condition: Option<Condition>,
    /// How often what it put off was tried, and when it is tried again.
    tries: u32,
    due: Moment,
    /// Paths that fail for a reason that many may share.
    common: BTreeSet<RelPath>,
    said: Common,
}

impl Trouble {
    /// Why the state is degraded, if it is for this.
    pub(super) fn reason(&self) -> Option<String> {
        self.condition.map(|condition| condition.reason().into())
    }

    /// How `status` says that paths fail.
    pub(super) fn failing(&self, paths: usize) -> String {
        match self.said.reason() {
            Some(reason) => format!("{paths} paths fail, some of them for one reason: {reason}"),
            None if paths == 1 => "1 path fails".into(),
            None => format!("{paths} paths fail"),
        }
    }
}

impl Way {
    /// Takes in what a pass met of conditions; `retried` says that it was over what had been put off.
    pub(super) fn note_condition(&mut self, which: Which, now: Moment, outcome: &Outcome, retried: bool) {
        let lane = self.lane(which);
        let Some(met) = outcome.condition else {
            lane.puts_off &= !retried || outcome.cancelled;
            if !self.express.puts_off
                && !self.bulk.puts_off
                && let Some(condition) = self.trouble.condition.take()
            {
                self.pair.log.info(condition.end());
                self.trouble.tries = 0;
            }
            return self.put_off(which);
        };
        lane.puts_off = true;
        let known = self.trouble.condition.replace(met);
        if known != Some(met) {
            report::condition(&self.pair, met);
        }
        // What is new meanwhile is tried once, and makes the pause neither longer nor start again.
        if known.is_none() || (retried && self.trouble.due <= now) {
            self.trouble.tries = self.trouble.tries.saturating_add(1);
            self.trouble.due = later(now, pause(self.trouble.tries));
        }
        self.put_off(which);
    }

    fn put_off(&mut self, which: Which) {
        let due = self.trouble.due;
        let lane = self.lane(which);
        if lane.puts_off {
            lane.soon_due = lane.soon_due.max(due);
        }
    }

    /// Logs the problems that are new; those that many paths share only for the first of them.
    pub(super) fn report_problems(&mut self, dirty: &DirtySet, outcome: &Outcome, common: BTreeSet<RelPath>) {
        report::problems(&self.pair, outcome, &mut self.trouble.said);
        self.trouble.common.retain(|path| !dirty.covers(path));
        let room = LISTED.saturating_sub(self.trouble.common.len());
        self.trouble.common.extend(common.into_iter().take(room));
        if self.trouble.common.is_empty()
            && let Some(reason) = std::mem::take(&mut self.trouble.said).reason()
        {
            self.pair.log.info(format_args!("No path fails any more with: {reason}"));
        }
    }
}
