//! Owns what waits for each lane and what it is doing, as the dispatcher sees it.

use std::sync::Arc;

use crate::service::clock;
use crate::service::lane::{Lane, Work};
use crate::service::news::Taken;
use crate::service::pair::Pair;
use crate::service::pass::Brake;
use crate::tree::doubt::Moment;
use crate::tree::operation::Cause;

/// What waits for a lane, and what it does.
pub(super) struct LaneState {
    pub(super) lane: Lane,
    pub(super) waiting: Taken,
    /// When the oldest event was read of the pass that runs.
    pub(super) running: Option<Moment>,
    pub(super) is_sweep: bool,
    /// What asked for the looks at whole folders and trees of the pass that runs.
    pub(super) cause: Cause,
    /// The pass that runs carries out renames.
    pub(super) is_renaming: bool,
    /// Back in doubt: to be looked at when the pause is over.
    pub(super) soon: Taken,
    pub(super) soon_due: Moment,
    pub(super) soon_tries: u32,
    /// Something of `soon`, or of what became of it, was put off for a condition of the disk.
    pub(super) puts_off: bool,
    /// What was put off is in `waiting`, or in the pass that runs.
    pub(super) retries: bool,
    pub(super) is_retry: bool,
}

impl LaneState {
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            lane,
            waiting: Taken::default(),
            running: None,
            is_sweep: false,
            cause: Cause::default(),
            is_renaming: false,
            soon: Taken::default(),
            soon_due: Moment::default(),
            soon_tries: 0,
            puts_off: false,
            retries: false,
            is_retry: false,
        }
    }

    /// Starts on what waits, if anything does.
    pub(super) fn begin(&mut self, pair: &Arc<Pair>, brake: Brake, jobs: usize) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let Taken { dirty, oldest, renames, cause } = std::mem::take(&mut self.waiting);
        self.cause = cause;
        self.is_renaming = !renames.is_empty();
        self.is_retry = std::mem::take(&mut self.retries);
        self.running = Some(oldest.unwrap_or_else(clock::now));
        let pair = Arc::clone(pair);
        self.lane.begin(Work { pair, dirty, renames, brake, cause, oldest, jobs });
        true
    }

    /// Works in another thread from now on; what waits, waits on.
    pub(super) fn replace(&mut self, lane: Lane) {
        self.lane = lane;
    }
}
