//! Owns the guards over the roots and the mounts below them while the service runs: it holds when one is not what it was,
//! looks for it, and goes on with fresh descriptors and watches when it is back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::Dispatcher;
use super::lanes::LaneState;
use crate::fs::lock::{self, Refused};
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::fs::watch::Watches;
use crate::plan::schedule::later;
use crate::service::lane::Which;
use crate::service::pair::Pair;
use crate::service::pass::describe;
use crate::service::places::{Misplaced, REMEDY};
use crate::tree::doubt::Moment;
use crate::tree::identity::Side;
use crate::tree::path::RelPath;

/// Starts to watch and to look into the source that is in its place now.
pub type Renew = Box<dyn Fn() -> Result<Watches, String>>;

/// The state of the guards.
pub(super) struct Guards {
    pub(super) misplaced: Option<Misplaced>,
    /// When to look for it again.
    pub(super) due: Moment,
    /// Mounts below the roots that are gone.
    pub(super) gone: BTreeSet<RelPath>,
    /// Whatever is mounted below the source.
    mounted: BTreeSet<std::path::PathBuf>,
    renew: Renew,
}

impl Guards {
    pub(super) fn new(misplaced: Option<Misplaced>, renew: Renew, pair: &Pair) -> Self {
        let mounted = pair.places.mounted(&pair.source);
        Self { misplaced, due: Moment::default(), gone: BTreeSet::new(), mounted, renew }
    }
}

impl Dispatcher {
    /// Without its roots the service holds, and goes on when they are back.
    pub(super) fn look_for_roots(&mut self, now: Moment) {
        let idle = self.express.is_idle() && self.bulk.is_idle() && !self.sweeps.is_due(now);
        if self.guards.misplaced.is_none() && !idle {
            self.check_roots(now);
        }
        let is_running = self.express.running.is_some() || self.bulk.running.is_some();
        if self.guards.misplaced.is_none() || now < self.guards.due || is_running {
            return;
        }
        self.guards.due = later(now, super::LOOK_FOR_ROOT);
        match self.renew() {
            Ok(()) => {
                self.guards.misplaced = None;
                self.pair.log.info("Going on: both folders are in their places");
                self.sweeps.ask();
            }
            Err(reason) => self.hold_for(reason),
        }
    }

    fn check_roots(&mut self, now: Moment) {
        let pair = &self.pair;
        let elsewhere = [(Side::Source, &pair.source), (Side::Replica, &pair.replica)]
            .into_iter()
            .find(|(_, root)| !root.is_in_place());
        if let Some((side, root)) = elsewhere {
            let reason = Misplaced::now(side, root.path());
            self.guards.due = later(now, super::LOOK_FOR_ROOT);
            self.hold_for(reason);
        }
    }

    fn hold_for(&mut self, reason: Misplaced) {
        if self.guards.misplaced.as_ref() != Some(&reason) {
            self.pair.log.error(format_args!("Held: {reason} Nothing is done until then. {REMEDY}"));
        }
        self.flushes.refuse(&reason.to_string());
        self.guards.misplaced = Some(reason);
    }

    /// Something was mounted or unmounted somewhere.
    pub(super) fn mounts_changed(&mut self, now: Moment) {
        if self.guards.misplaced.is_some() {
            self.guards.due = now;
            return;
        }
        self.check_roots(now);
        if self.guards.misplaced.is_some() {
            return;
        }
        let mounted = self.pair.places.mounted(&self.pair.source);
        let gone = self.pair.places.gone(&self.pair.source, &self.pair.replica);
        if mounted != self.guards.mounted || gone != self.guards.gone {
            self.guards.mounted = mounted;
            self.note_gone(gone);
            self.sweeps.ask();
        }
    }

    /// A person says that what is there is meant.
    pub(super) fn accept_roots(&mut self) {
        self.pair.places.forget();
        self.pair.log.info("Accepted: the folders, and what is mounted below them, as they are now");
        self.guards.due = Moment::default();
        self.guards.gone.clear();
        if self.guards.misplaced.is_none() {
            self.pair.places.remember(&self.pair.source, &self.pair.replica, &self.pair.archive);
        }
        self.sweeps.ask();
    }

    /// Keeps which mounts are gone, and says what has changed.
    pub(super) fn note_gone(&mut self, gone: BTreeSet<RelPath>) {
        for path in gone.difference(&self.guards.gone) {
            crate::service::report::gone(&self.pair, path, REMEDY);
        }
        for path in self.guards.gone.difference(&gone) {
            self.pair.log.info(format_args!("Mounted again: {}", self.pair.shown_source(path)));
        }
        self.guards.gone = gone;
    }

    /// Opens the roots anew, and all that hangs on them. Nothing runs meanwhile.
    fn renew(&mut self) -> Result<(), Misplaced> {
        let Some(pair) = Arc::get_mut(&mut self.pair) else {
            // A pass is just putting it down.
            return self.guards.misplaced.clone().map_or(Ok(()), Err);
        };
        // A disk that nobody has open can be taken away.
        for root in [&mut pair.source, &mut pair.replica] {
            let nowhere = Root::missing(root.path());
            *root = nowhere.map_err(|e| Misplaced::Unusable(root.path().into(), describe(e)))?;
        }
        pair.stage = Stage::new();
        pair.watches = None;
        self.intake.look_with(Box::new(|_| None));
        let open = |side, path: &Path| match Root::open(path) {
            Ok(root) => Ok(root),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Err(Misplaced::Gone(side, path.into())),
            Err(error) => Err(Misplaced::Unusable(path.into(), describe(error))),
        };
        let source = open(Side::Source, pair.source.path())?;
        let replica = open(Side::Replica, pair.replica.path())?;
        pair.places.check(&source, &replica)?;
        // The lock goes with the old descriptor.
        (pair.source, pair.replica) = (source, replica);
        let path = || pair.replica.path().to_path_buf();
        match lock::take(&pair.replica) {
            Ok(()) => {}
            Err(Refused::Held(pid)) => return Err(Misplaced::Locked(path(), pid)),
            Err(Refused::Failed(error)) => return Err(Misplaced::Unusable(path(), describe(error))),
        }
        pair.places.remember(&pair.source, &pair.replica, &pair.archive);
        pair.clear_leftovers();
        pair.claims = Default::default();
        pair.links = Default::default();
        pair.archive.distrust();
        let unusable = |reason| Misplaced::Unusable(pair.source.path().into(), reason);
        pair.watches = Some((self.guards.renew)().map_err(unusable)?);
        let lane = |which| Self::lane(which, &self.pulse, &self.tell).map_err(|e| e.to_string());
        for (state, which) in [(&mut self.express, Which::Express), (&mut self.bulk, Which::Bulk)] {
            let lane = lane(which).map_err(|reason| Misplaced::Unusable(pair.source.path().into(), reason))?;
            LaneState::replace(state, lane);
        }
        Ok(())
    }
}
