//! Owns what each lane begins with next.

use super::Dispatcher;
use crate::service::pass::Brake;
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

impl Dispatcher {
    pub(super) fn start_what_can(&mut self, now: Moment) {
        if self.guards.misplaced.is_some() {
            return;
        }
        for lane in [&mut self.express, &mut self.bulk] {
            if lane.running.is_none() && !lane.soon.is_empty() && lane.soon_due <= now {
                let soon = std::mem::take(&mut lane.soon);
                lane.waiting.union(soon);
                lane.retries = lane.puts_off;
            }
        }
        if self.express.running.is_none() {
            // It removes nothing.
            self.express.begin(&self.pair, Brake::default(), 1);
        }
        // A rename leaves a name that is gone, and what is renamed is not to be removed first.
        let is_renaming = self.express.running.is_some() && self.express.is_renaming;
        if self.bulk.running.is_none() && !is_renaming {
            let sweep = self.sweeps.is_due(now);
            if sweep {
                self.sweeps.begun();
                // Whatever they did is found now.
                self.intake.take_vanished();
                self.sweep_began = Some((now, self.bulk.lane.progress()));
                self.bulk.waiting.insert_extent(RelPath::root(), Extent::Tree, Cause::Sweep, now);
            }
            if let Some((since, held)) = self.hold.released() {
                for (path, _) in held.iter() {
                    self.bulk.waiting.insert(path, Doubt::subtree(now).asked_by(Cause::Release), since);
                }
            }
            if !self.bulk.waiting.is_empty() {
                let (held, release) = self.hold.take_release();
                let entries = self.entries.filter(|_| !sweep);
                let brake = Brake { entries, recent: self.recent.sum(now), held, release };
                self.bulk.is_sweep = self.bulk.begin(&self.pair, brake, self.pair.rules().jobs) && sweep;
                if self.bulk.is_sweep {
                    self.onlooker.began(&self.pulse, self.entries);
                }
            }
        }
    }
}
