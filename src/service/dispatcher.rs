//! Owns the running service: one thread, one inbox, one place where it is decided what runs next. It asks
//! no disk that a root is on, not even whether the root is there: that is what the lanes are for, and threads for a single
//! look, so that it can always answer and always stop.

mod begin;
mod doubt;
mod flush;
mod held;
mod lanes;
mod manager;
mod outcome;
mod reload;
mod roots;
mod screen;
mod stop;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::clock;
use super::control::{Reply, Request};
use super::intake::Intake;
use super::lane::{Finished, Lane, Which};
use super::ledger::Ledger;
use super::look::{Answer, Renew};
use super::onlooker::Onlooker;
use super::pair::Pair;
use super::places::{Misplaced, REMEDY};
use super::report;
use super::rules::Reload;
use super::status::Status;
use crate::fs::pulse::{Progress, Pulse};
use crate::plan::schedule::{Sweeps, later, until};
use crate::tree::doubt::Moment;
use crate::tree::totals::Totals;
use doubt::POLL;
use flush::Flushes;
use held::{Hold, Recent};
use lanes::LaneState;
use manager::Told;
use roots::Guards;
use screen::{LastSweep, StateSince};
use trouble::Trouble;

/// All that can ever wake the service.
enum Event {
    News,
    Mounts,
    Finished(Box<Finished>),
    /// A look at the roots has ended, if with an answer.
    Looked(Option<Answer>),
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

/// The name under which the archive keeps what failed.
const LEDGER: &str = "failing";

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
                Event::Looked(answer) => self.looked(answer),
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
        let (nobody, no_look) = (never(), never());
        let ahead = self.told.ahead.as_ref().map_or(&nobody, |ahead| ahead.ended());
        let look = self.guards.look.as_ref().unwrap_or(&no_look);
        select! {
            recv(self.intake.woken()) -> _ => Event::News,
            recv(ahead) -> _ => Event::Placed,
            recv(self.done) -> finished => finished.map_or(Event::Due, |f| Event::Finished(Box::new(f))),
            recv(look) -> answer => Event::Looked(answer.ok()),
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
        due.extend(self.look_due());
        // While it holds, nothing of this is begun.
        if self.guards.misplaced.is_none() {
            due.extend(self.bulk.running.is_none().then(|| self.sweeps.due()));
            let lanes = [&self.express, &self.bulk].into_iter();
            due.extend(lanes.filter(|l| l.running.is_none() && !l.soon.is_empty()).map(|lane| lane.soon_due));
        }
        if self.pair.watches.as_ref().is_some_and(|w| w.count().1 > 0) {
            due.push(later(self.polled, POLL));
        }
        due.into_iter().filter(|d| *d != Moment(u64::MAX)).min()
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
                let is_held = self.hold.release(&self.pair, clock::now());
                if self.hold.released().is_some_and(|(_, held)| held.unlisted() > 0) {
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

    /// When the oldest event was read, or word was given, that is not dealt with; what failed is listed elsewhere.
    fn oldest(&self) -> Option<Moment> {
        let lanes = [&self.express, &self.bulk].into_iter().flat_map(|l| [l.waiting.oldest, l.running, l.soon.oldest]);
        let first_sweep = self.last_sweep.is_none().then_some(Moment::default());
        // It waits for the pass that runs, which knows nothing of it.
        let released = self.hold.released().map(|(since, _)| since);
        lanes.chain([first_sweep, self.pair.restless.oldest(), released]).flatten().min()
    }
}

/// A channel for requests, with room for one at a time: who asks waits for the answer anyway.
pub fn requests() -> (Sender<Request>, Receiver<Request>) {
    bounded(1)
}
