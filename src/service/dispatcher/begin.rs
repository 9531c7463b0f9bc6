//! Owns what each lane begins with next. Of all ways, one lane for single files is at work at a time, and one of the others.

use std::time::Duration;

use super::Dispatcher;
use super::way::Way;
use crate::plan::schedule::later;
use crate::service::news::Taken;
use crate::service::pass::Brake;
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

/// How long what is no rename waits for renames that have not begun.
const RENAMES_FIRST: Duration = Duration::from_secs(1);

impl Dispatcher {
    pub(super) fn start_what_can(&mut self, now: Moment) {
        if self.guards.misplaced.is_some() {
            return;
        }
        for lane in self.ways.iter_mut().flat_map(|way| [&mut way.express, &mut way.bulk]) {
            if lane.running.is_none() && !lane.soon.is_empty() && lane.soon_due <= now {
                let soon = std::mem::take(&mut lane.soon);
                lane.waiting.union(soon);
                lane.retries = lane.puts_off;
            }
        }
        if self.ways.iter().all(|way| way.express.running.is_none())
            && let Some(at) = self.longest_waiting(|way| &way.express.waiting)
        {
            let way = &mut self.ways[at];
            // It removes nothing.
            way.express.begin(&way.pair, Brake::default(), 1);
        }
        if !self.is_bulk_running() && !self.ways.iter().any(|way| is_renaming_first(way, now)) {
            self.begin_bulk(now);
        }
    }

    fn begin_bulk(&mut self, now: Moment) {
        if self.sweeps.is_due(now) {
            self.sweeps.begun();
            self.sweep_began = Some((now, self.ways[0].bulk.lane.progress()));
            self.swept = None;
            for way in &mut self.ways {
                // Whatever they did is found now.
                way.intake.take_vanished();
                way.has_to_sweep = true;
                way.bulk.waiting.insert_extent(RelPath::root(), Extent::Tree, Cause::Sweep, now);
            }
        }
        for way in &mut self.ways {
            if let Some((since, held)) = way.hold.released() {
                for (path, _) in held.iter() {
                    way.bulk.waiting.insert(path, Doubt::subtree(now).asked_by(Cause::Release), since);
                }
            }
        }
        let sweeping = self.ways.iter().position(|way| way.has_to_sweep);
        let Some(at) = sweeping.or_else(|| self.longest_waiting(|way| &way.bulk.waiting)) else { return };
        let way = &mut self.ways[at];
        let is_sweep = std::mem::take(&mut way.has_to_sweep);
        let (held, release) = way.hold.take_release();
        let entries = way.entries.filter(|_| !is_sweep);
        let brake = Brake { entries, recent: way.recent.sum(now), held, release };
        way.bulk.is_sweep = way.bulk.begin(&way.pair, brake, way.pair.rules().jobs) && is_sweep;
        if way.bulk.is_sweep && at == 0 {
            self.onlooker.began(&self.pulse, way.entries);
        }
    }

    /// The way on which something has been waiting for the longest.
    fn longest_waiting(&self, waiting: impl Fn(&Way) -> &Taken) -> Option<usize> {
        let some = self.ways.iter().enumerate().filter(|(_, way)| !waiting(way).is_empty());
        some.min_by_key(|(_, way)| waiting(way).oldest.unwrap_or(Moment::NEVER)).map(|(at, _)| at)
    }
}

/// A rename leaves a name that is gone and makes one that is new: what is renamed is not to be removed first, nor made anew.
/// Renames that come without end do not hold the rest back without end.
fn is_renaming_first(way: &Way, now: Moment) -> bool {
    let is_young = way.bulk.waiting.oldest.is_none_or(|oldest| now < later(oldest, RENAMES_FIRST));
    let is_waiting = is_young && !way.express.waiting.renames.is_empty();
    is_waiting || way.express.running.is_some() && way.express.is_renaming
}
