//! Owns the guards over the roots and the mounts below them while the service runs: it holds when one is not what it was,
//! looks for it, and goes on with fresh descriptors and watches when it is back. Nothing here asks a disk: passes do, and
//! looks that have threads of their own (see `service::look`), so that the service can always answer and always stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::Dispatcher;
use super::lanes::LaneState;
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::plan::schedule::later;
use crate::service::claims::Claims;
use crate::service::clock;
use crate::service::lane::Which;
use crate::service::look::{self, Answer, Mounts, Opened, Renew};
use crate::service::pair::Pair;
use crate::service::pass::describe;
use crate::service::places::{Misplaced, REMEDY};
use crate::service::report;
use crate::service::thinning::Thinning;
use crate::tree::doubt::Moment;
use crate::tree::path::RelPath;

/// How often a root that is not in its place is looked for.
const LOOK_FOR_ROOT: Duration = Duration::from_secs(1);

/// The state of the guards.
pub(super) struct Guards {
    pub(super) misplaced: Option<Misplaced>,
    /// When to look for it again.
    pub(super) due: Moment,
    /// Mounts below the roots that are gone.
    pub(super) gone: BTreeSet<RelPath>,
    /// Whatever is mounted below the source.
    mounted: BTreeSet<PathBuf>,
    renew: Renew,
    /// A look at the roots that is under way, and how many there have been.
    pub(super) look: Option<Receiver<Answer>>,
    pub(super) looks: u64,
    /// Something has changed since that began: one more follows.
    is_stale: bool,
    /// The next look remembers the roots as they are: a person has said that they are meant.
    is_accepted: bool,
}

impl Guards {
    pub(super) fn new(misplaced: Option<Misplaced>, renew: Renew, pair: &Pair) -> Self {
        Self {
            misplaced,
            due: Moment::default(),
            gone: BTreeSet::new(),
            mounted: pair.places.mounted(&pair.source),
            renew,
            look: None,
            looks: 0,
            is_stale: false,
            is_accepted: false,
        }
    }
}

impl Dispatcher {
    /// When to look for roots that are not in their places. Nobody looks while somebody has the former ones open.
    pub(super) fn look_due(&self) -> Option<Moment> {
        let is_busy = self.lanes().any(|lane| lane.running.is_some()) || self.guards.look.is_some();
        (self.guards.misplaced.is_some() && !is_busy).then_some(self.guards.due)
    }

    /// Without its roots the service holds, and goes on when they are back.
    pub(super) fn look_for_roots(&mut self, now: Moment) {
        if self.look_due().is_none_or(|due| now < due) {
            return;
        }
        self.guards.due = later(now, LOOK_FOR_ROOT);
        let started = self.put_down().and_then(|is_down| {
            if is_down {
                let renew = Arc::clone(&self.guards.renew);
                let source = self.pair().source.path().to_path_buf();
                self.look(move |pair| look::for_roots(pair, &renew))
                    .map_err(|error| Misplaced::Unusable(source, error.to_string()))?;
            }
            Ok(())
        });
        if let Err(reason) = started {
            self.hold_for(reason);
        }
    }

    fn look(&mut self, work: impl FnOnce(&Pair) -> Answer + Send + 'static) -> std::io::Result<()> {
        self.guards.look = Some(look::aside(self.pair(), work)?);
        self.guards.looks += 1;
        Ok(())
    }

    /// Something was mounted or unmounted somewhere.
    pub(super) fn mounts_changed(&mut self, now: Moment) {
        if self.guards.misplaced.is_some() {
            self.guards.due = now;
        } else if self.guards.look.is_some() {
            self.guards.is_stale = true;
        } else {
            self.look_at_mounts();
        }
    }

    fn look_at_mounts(&mut self) {
        let is_accepted = std::mem::take(&mut self.guards.is_accepted);
        if let Err(error) = self.look(move |pair| look::at_mounts(pair, is_accepted)) {
            self.pair().log.debug(format_args!("No thread to look at the mounts: {error}"));
            self.guards.is_accepted = is_accepted;
            // Each pass looks as well.
            self.sweeps.ask();
        }
    }

    /// Takes in what a look found. `None`: it came to no answer.
    pub(super) fn looked(&mut self, answer: Option<Answer>) {
        self.guards.look = None;
        let is_stale = std::mem::take(&mut self.guards.is_stale);
        match answer {
            Some(Answer::Mounts(Err(reason))) => self.misplaced(reason),
            // What was asked before a person accepted it is not what is asked now.
            Some(Answer::Mounts(Ok(_))) if self.guards.misplaced.is_some() || self.guards.is_accepted => {}
            Some(Answer::Mounts(Ok(mounts))) => self.note_mounts(mounts),
            Some(Answer::Opened(opened)) => match opened.and_then(|opened| self.take_up(opened)) {
                Ok(()) => {
                    self.guards.misplaced = None;
                    self.pair().log.info("Going on: both folders are in their places");
                    self.sweeps.ask();
                }
                Err(reason) => self.hold_for(reason),
            },
            None => self.sweeps.ask(),
        }
        if (is_stale || self.guards.is_accepted) && self.guards.misplaced.is_none() {
            self.look_at_mounts();
        }
    }

    fn note_mounts(&mut self, Mounts { mounted, gone }: Mounts) {
        if mounted != self.guards.mounted || gone != self.guards.gone {
            self.guards.mounted = mounted;
            self.note_gone(gone);
            self.sweeps.ask();
        }
    }

    /// A root was found not to be in its place.
    pub(super) fn misplaced(&mut self, reason: Misplaced) {
        self.guards.due = later(clock::now(), LOOK_FOR_ROOT);
        self.hold_for(reason);
    }

    fn hold_for(&mut self, reason: Misplaced) {
        if self.guards.misplaced.as_ref() != Some(&reason) {
            self.pair().log.error(format_args!("Held: {reason} Nothing is done until then. {REMEDY}"));
        }
        self.flushes.refuse(&reason.to_string());
        self.guards.misplaced = Some(reason);
    }

    /// A person says that what is there is meant.
    pub(super) fn accept_roots(&mut self) {
        self.pair().places.forget();
        self.pair().log.info("Accepted: the folders, and what is mounted below them, as they are now");
        self.guards.gone.clear();
        self.guards.is_accepted = true;
        self.mounts_changed(Moment::default());
        self.sweeps.ask();
    }

    /// Keeps which mounts are gone, and says what has changed.
    pub(super) fn note_gone(&mut self, gone: BTreeSet<RelPath>) {
        for path in gone.difference(&self.guards.gone) {
            report::gone(self.pair(), path, REMEDY);
        }
        for path in self.guards.gone.difference(&gone) {
            self.pair().log.info(format_args!("Mounted again: {}", self.pair().shown_source(path)));
        }
        self.guards.gone = gone;
    }

    /// Closes the roots, and all that hangs on them: a disk that nobody has open can be taken away, and the lock goes with
    /// the descriptor. Nothing runs meanwhile. Returns whether it is done: somebody may be just putting the pair down.
    fn put_down(&mut self) -> Result<bool, Misplaced> {
        if !self.ways.iter_mut().all(|way| Arc::get_mut(&mut way.pair).is_some()) {
            return Ok(false);
        }
        self.thinning = None;
        for way in &mut self.ways {
            let Some(pair) = Arc::get_mut(&mut way.pair) else { return Ok(false) };
            for root in [&mut pair.source, &mut pair.replica] {
                let nowhere = Root::missing(root.name());
                *root = nowhere.map_err(|e| Misplaced::Unusable(root.path().into(), describe(e)))?;
            }
            pair.stage = Stage::new();
            pair.watches = None;
            // What it has not written yet cannot be written any more, or would be to another folder's.
            (pair.history, pair.gap) = (None, None);
            pair.claims = Default::default();
            pair.links = Default::default();
            way.intake.look_with(Arc::new(|_| None));
        }
        Ok(true)
    }

    /// Works with these roots from now on.
    fn take_up(&mut self, opened: Vec<Opened>) -> Result<(), Misplaced> {
        let source = self.pair().source.path().to_path_buf();
        let unusable = |reason: &str| Misplaced::Unusable(source.clone(), reason.into());
        let claims = Arc::<Claims>::default();
        for (at, (way, opened)) in self.ways.iter_mut().zip(opened).enumerate() {
            let lane = |which| Self::lane((at, which), &self.pulse, &self.tell).map_err(|e| unusable(&e.to_string()));
            let lanes = (lane(Which::Express)?, lane(Which::Bulk)?);
            // Since the former ones were put down, nobody but the look has had it.
            let pair = Arc::get_mut(&mut way.pair).ok_or_else(|| unusable("it is in use"))?;
            let Opened { source, replica, stage, watches, told } = opened;
            (pair.source, pair.replica, pair.stage, pair.watches) = (source, replica, stage, Some(watches));
            (pair.history, pair.gap) = told;
            pair.claims = Arc::clone(&claims);
            pair.archive.distrust();
            // The threads of before are confined to the former roots.
            LaneState::replace(&mut way.express, lanes.0);
            LaneState::replace(&mut way.bulk, lanes.1);
        }
        self.thinning = Thinning::begin(self.pair());
        Ok(())
    }
}
