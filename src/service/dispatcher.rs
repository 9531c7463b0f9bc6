//! Owns the running service: one thread, one inbox, one place where it is decided what runs next. It does no work on
//! the disk itself; that is what the lanes are for, so that it can always answer and always stop.

mod flush;
mod held;
mod lanes;
mod manager;
mod reload;
mod roots;
mod screen;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::clock;
use super::control::{Reply, Request};
use super::intake::Intake;
use super::lane::{Finished, Lane, Which};
use super::ledger::Ledger;
use super::news::{News, Taken};
use super::onlooker::Onlooker;
use super::pair::Pair;
use super::pass::{self, Brake};
use super::places::{Misplaced, REMEDY};
use super::report;
use super::rules::Reload;
use super::status::{State, Status};
use crate::fs::pulse::{Progress, Pulse};
use crate::plan::schedule::{Sweeps, later, until};
use crate::tree::doubt::{DirtySet, Doubt, Extent, Moment};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;
use flush::Flushes;
use held::{Hold, Recent};
use lanes::LaneState;
use manager::Told;
use roots::Guards;
pub use roots::Renew;
use screen::{LastSweep, StateSince};
use trouble::Trouble;

/// All that can ever wake the service.
enum Event {
    News,
    Mounts,
    Finished(Box<Finished>),
    Request(Request),
    Signal(i32),
    /// The watches are in place.
    Placed,
    Due,
}

/// What the dispatcher listens to.
pub struct Inbox {
    pub requests: Receiver<Request>,
    pub signals: Receiver<i32>,
    /// Something was mounted or unmounted.
    pub mounts: Receiver<()>,
}

/// Changed while it was looked at: the first pause before the next look.
const SOON: Duration = Duration::from_millis(10);
const SOON_AT_MOST: Duration = Duration::from_secs(1);
/// How often folders without a watch are looked at.
const POLL: Duration = Duration::from_secs(10);
/// How often a root that is not in its place is looked for.
const LOOK_FOR_ROOT: Duration = Duration::from_secs(1);
/// What has been agreed is committed when nothing more has come for so long.
const COMMIT: Duration = Duration::from_secs(5);
/// The name under which the archive keeps what failed.
const LEDGER: &str = "failing";
/// A stop may take this long.
const STOP: Duration = Duration::from_secs(4);

pub struct Dispatcher {
    pair: Arc<Pair>,
    intake: Arc<Intake>,
    pulse: Arc<Pulse>,
    express: LaneState,
    bulk: LaneState,
    done: Receiver<Finished>,
    tell: Sender<Finished>,
    sweeps: Sweeps,
    /// When the sweep began that runs, and how far all work had come by then.
    sweep_began: Option<(Moment, Progress)>,
    sweeps_ended: u64,
    ledger: Ledger,
    hold: Hold,
    recent: Recent,
    entries: Option<u64>,
    flushes: Flushes,
    began: Moment,
    /// The same by the wall clock, in seconds since 1970.
    started: u64,
    polled: Moment,
    commit_due: Option<Moment>,
    guards: Guards,
    trouble: Trouble,
    totals: Totals,
    last_sweep: Option<LastSweep>,
    shown: StateSince,
    reload: Option<Reload>,
    onlooker: Onlooker,
    told: Told,
}

impl Dispatcher {
    /// A service that holds from the start where its roots are `misplaced`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(
        pair: Arc<Pair>,
        intake: Arc<Intake>,
        interval: Duration,
        (misplaced, renew): (Option<Misplaced>, Renew),
    ) -> std::io::Result<Self> {
        let (tell, done) = unbounded();
        let pulse = Arc::new(Pulse::default());
        let lane = |which| Ok::<_, std::io::Error>(LaneState::new(Self::lane(which, &pulse, &tell)?));
        if let Some(reason) = &misplaced {
            pair.log.error(format_args!("Held: {reason} Nothing is done until then. {REMEDY}"));
        }
        let guards = Guards::new(misplaced, renew, &pair);
        let ledger = Ledger::restore(&pair.archive.fact(LEDGER).unwrap_or_default());
        report::failing(&pair, &ledger);
        Ok(Self {
            express: lane(Which::Express)?,
            bulk: lane(Which::Bulk)?,
            hold: Hold::restore(&pair),
            recent: Recent::restore(&pair, clock::now()),
            told: Told::new(&pair),
            entries: pair.entries(),
            pair,
            intake,
            pulse,
            done,
            tell,
            guards,
            sweeps: Sweeps::new(interval),
            sweep_began: None,
            sweeps_ended: 0,
            ledger,
            flushes: Flushes::default(),
            began: clock::now(),
            started: clock::wall(),
            polled: clock::now(),
            commit_due: None,
            trouble: Trouble::default(),
            totals: Totals::default(),
            last_sweep: None,
            shown: StateSince::default(),
            reload: None,
            onlooker: Onlooker::default(),
        })
    }

    /// Tells of its sweeps there.
    #[must_use]
    pub fn looked_on_by(self, onlooker: Onlooker) -> Self {
        Self { onlooker, ..self }
    }

    fn lane(which: Which, pulse: &Arc<Pulse>, tell: &Sender<Finished>) -> std::io::Result<Lane> {
        Lane::start(which, pulse, Sender::clone(tell))
    }

    /// Runs until a signal says stop. Returns what there was to say at the end.
    pub fn run(mut self, inbox: &Inbox) -> Status {
        self.place_watches();
        loop {
            let now = clock::now();
            self.look_for_roots(now);
            self.start_what_can(now);
            if let Some(since) = self.flushes.settle(self.oldest(), &self.ledger, &self.pair) {
                self.doubt_unheard(since);
                continue;
            }
            self.note_state();
            self.tell(clock::now());
            match self.wait(inbox) {
                Event::News => self.take_news(),
                Event::Mounts => self.mounts_changed(clock::now()),
                Event::Finished(finished) => self.finished(*finished),
                Event::Request(request) => self.answer(request),
                Event::Signal(SIGHUP) => {
                    self.told.manager.reloading();
                    self.pair.log.reopen();
                    self.reload();
                    self.tell_reloaded();
                }
                Event::Signal(SIGUSR1) => self.sweeps.ask(),
                Event::Signal(_) => return self.stop(),
                Event::Placed => self.told.ahead = None,
                Event::Due => {
                    self.take_news();
                    self.do_what_is_due();
                }
            }
        }
    }

    fn wait(&self, inbox: &Inbox) -> Event {
        let timer = match self.deadline() {
            Some(due) => crossbeam_channel::after(until(clock::now(), due)),
            None => never(),
        };
        let nobody = never();
        let ahead = self.told.ahead.as_ref().map_or(&nobody, |ahead| ahead.ended());
        select! {
            recv(self.intake.woken()) -> _ => Event::News,
            recv(ahead) -> _ => Event::Placed,
            recv(self.done) -> finished => finished.map_or(Event::Due, |f| Event::Finished(Box::new(f))),
            recv(inbox.requests) -> request => request.map_or(Event::Due, Event::Request),
            recv(inbox.mounts) -> changed => changed.map_or(Event::Due, |()| Event::Mounts),
            recv(inbox.signals) -> signal => signal.map_or(Event::Due, Event::Signal),
            recv(timer) -> _ => Event::Due,
        }
    }

    /// The next moment at which something is due that nothing else announces.
    fn deadline(&self) -> Option<Moment> {
        let mut due = vec![];
        due.extend(self.intake.deadline());
        due.extend(self.ledger.next());
        due.extend(self.pair.restless.next());
        due.extend(self.commit_due);
        due.extend(self.told.deadline());
        if self.guards.misplaced.is_some() {
            due.push(self.guards.due);
        } else if self.bulk.running.is_none() {
            due.push(self.sweeps.due());
        }
        for lane in [&self.express, &self.bulk] {
            if !lane.soon.is_empty() && lane.running.is_none() {
                due.push(lane.soon_due);
            }
        }
        if self.pair.watches.as_ref().is_some_and(|w| w.count().1 > 0) {
            due.push(later(self.polled, POLL));
        }
        due.into_iter().filter(|d| *d != Moment(u64::MAX)).min()
    }

    fn take_news(&mut self) {
        let News { express, bulk, lost, linked, is_root_moved, cookies } = self.intake.take(clock::now());
        if is_root_moved {
            self.mounts_changed(clock::now());
        }
        if let Some(since) = lost {
            self.pair.log.warn("Events were lost: everything is looked at again");
            self.pair.archive.distrust();
            self.bulk.waiting.since(since);
            self.sweeps.ask();
        }
        for (path, id) in linked {
            self.pair.links().note(id, &path);
        }
        self.express.waiting.union(express);
        self.bulk.waiting.union(bulk);
        for (name, at) in cookies {
            self.flushes.heard(&name, at);
            // Nobody hears what happens there: they are looked at now.
            self.poll(at);
        }
    }

    fn do_what_is_due(&mut self) {
        let now = clock::now();
        let retries = self.ledger.take_due(now);
        self.bulk.waiting.union(Taken {
            oldest: (!retries.is_empty()).then_some(now),
            cause: if retries.is_everything() { Cause::Retry } else { Cause::Event },
            dirty: retries,
            renames: vec![],
        });
        let restless = self.pair.restless.take_due(now);
        self.bulk.waiting.union(Taken {
            oldest: (!restless.is_empty()).then_some(now),
            dirty: restless,
            ..Taken::default()
        });
        if self.commit_due.is_some_and(|due| due <= now) {
            self.commit(now);
        }
        if later(self.polled, POLL) <= now {
            self.poll(now);
        }
    }

    /// Puts all names of files with several names into doubt: a write through one of them is heard of that name alone,
    /// which may be gone by the time it is looked at. Where even the name was never seen, it may have been any file's.
    /// Who waits for everything waits for them too.
    fn doubt_unheard(&mut self, since: Moment) {
        if self.intake.take_vanished() {
            self.bulk.waiting.insert_extent(RelPath::root(), Extent::Tree, Cause::Flush, since);
        }
        let names: Vec<RelPath> = self.pair.links().all_names().cloned().collect();
        for name in names {
            self.bulk.waiting.insert(&name, Doubt::unheard(), since);
        }
    }

    /// Puts the folders without a watch into doubt.
    fn poll(&mut self, now: Moment) {
        self.polled = now;
        for folder in self.pair.watches.iter().flat_map(|w| w.without()) {
            self.bulk.waiting.insert_extent(folder, Extent::Listing, Cause::Poll, now);
        }
    }

    fn commit(&mut self, now: Moment) {
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
    fn keep_facts(&mut self) {
        self.hold.keep(&self.pair);
        if self.ledger.is_changed() {
            self.pair.archive.set_fact(LEDGER, &self.ledger.kept());
        }
    }

    fn start_what_can(&mut self, now: Moment) {
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
            for (path, _) in self.hold.released().into_iter().flat_map(|held| held.iter()) {
                self.bulk.waiting.insert(path, Doubt::subtree(now).asked_by(Cause::Release), now);
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

    fn finished(&mut self, finished: Finished) {
        let Finished { which, dirty, mut outcome } = finished;
        let now = clock::now();
        self.settle_rules();
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

    fn end_sweep(&mut self, now: Moment, outcome: &pass::Outcome) {
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
    fn note_ends(&mut self, dirty: &DirtySet, outcome: &pass::Outcome) {
        self.hold.settle(&self.pair, dirty, outcome);
        // A pass that was stopped has not looked at all that it was to.
        if !outcome.cancelled {
            let failed: BTreeSet<&RelPath> = outcome.problems.iter().map(|problem| &problem.path).collect();
            let is_done = |path: &RelPath| dirty.covers(path) && !failed.contains(path) && !outcome.again.covers(path);
            report::mended(&self.pair, &self.ledger.mend(is_done));
        }
    }

    /// Of what is held, or failed before and not now, the lane says more that also removes.
    fn hand_over(&mut self, dirty: &DirtySet, outcome: &pass::Outcome, since: Moment) {
        let failed: BTreeSet<&RelPath> = outcome.problems.iter().map(|problem| &problem.path).collect();
        let failing = self.ledger.iter().map(|(path, _)| path);
        for path in self.hold.paths().chain(failing).filter(|path| dirty.covers(path) && !failed.contains(path)) {
            self.bulk.waiting.insert(path, Doubt::subtree(since), since);
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Status { reply } => {
                let _ = reply.send(Reply::Status(Box::new(self.status())));
            }
            Request::Sweep { reply } => {
                self.sweeps.ask();
                let _ = reply.send(Reply::Done);
            }
            Request::Release { reply } => {
                let is_held = self.hold.release(&self.pair);
                if self.hold.released().is_some_and(|held| held.unlisted() > 0) {
                    // There are more than can be named: they have to be found.
                    self.sweeps.ask();
                }
                let _ = reply.send(if is_held { Reply::Done } else { Reply::Failed("no removals are held".into()) });
            }
            Request::AcceptRoots { reply } => {
                self.accept_roots();
                let _ = reply.send(Reply::Done);
            }
            Request::Flush { reply, .. } => {
                self.flushes.begin(reply, self.pair.watches.as_ref());
                if let Some(reason) = &self.guards.misplaced {
                    self.flushes.refuse(&reason.to_string());
                }
            }
        }
    }

    /// When the oldest event was read that is not dealt with; what failed is listed elsewhere.
    fn oldest(&self) -> Option<Moment> {
        let lanes = [&self.express, &self.bulk].into_iter().flat_map(|l| [l.waiting.oldest, l.running, l.soon.oldest]);
        let first_sweep = self.last_sweep.is_none().then_some(Moment::default());
        lanes.chain([first_sweep, self.pair.restless.oldest()]).flatten().min()
    }

    fn stop(mut self) -> Status {
        self.told.manager.stopping();
        self.told.ahead = None;
        self.pulse.stop();
        let limit = crossbeam_channel::after(STOP);
        while self.express.running.is_some() || self.bulk.running.is_some() {
            select! {
                recv(self.done) -> finished => match finished {
                    Ok(finished) => self.finished(finished),
                    Err(_) => break,
                },
                recv(limit) -> _ => {
                    self.pair.log.warn("A pass does not end, perhaps because a disk does not answer: it is left to the next start");
                    break;
                }
            }
        }
        let ended = self.express.running.is_none() && self.bulk.running.is_none();
        if ended && self.guards.misplaced.is_none() {
            pass::close(&self.pair);
        }
        self.keep_facts();
        if let Err(reason) = self.pair.archive.commit(clock::now(), true) {
            self.pair.log.warn(format_args!("{reason}; the next sweep compares everything"));
        }
        if ended {
            self.pair.archive.end();
        }
        let up = until(self.began, clock::now());
        self.pair.log.info(format_args!("Stopped: {} in {:.3} s", self.totals, up.as_secs_f64()));
        let last = Status { state: State::Stopping, reason: None, ..self.status() };
        if ended {
            for lane in [self.express.lane, self.bulk.lane] {
                let _ = lane.close().join();
            }
        }
        last
    }
}

/// A channel for requests, with room for one at a time: who asks waits for the answer anyway.
pub fn requests() -> (Sender<Request>, Receiver<Request>) {
    bounded(1)
}
