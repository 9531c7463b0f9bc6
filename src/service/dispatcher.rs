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
pub mod scrubs;
mod stop;
mod trouble;
mod way;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::clock;
use super::control::{Reply, Request};
use super::intake::Intake;
use super::lane::{Finished, Lane, Which};
use super::look::{Answer, Renew};
use super::onlooker::Onlooker;
use super::pair::Pair;
use super::pass::Outcome;
use super::places::{Misplaced, REMEDY};
use super::report;
use super::rules::Reload;
use super::scrub::Report;
use super::status::{ConflictStatus, Status};
use super::thinning::Thinning;
use crate::fs::pulse::{Progress, Pulse};
use crate::plan::schedule::{Sweeps, until};
use crate::tree::doubt::Moment;
use crate::tree::totals::Totals;
use flush::Flushes;
use lanes::LaneState;
use manager::Told;
use roots::Guards;
use screen::{LastSweep, StateSince};
use scrubs::Scrubs;
use way::Way;

/// All that can ever wake the service.
enum Event {
    News,
    Mounts,
    Finished(Box<Finished>),
    /// A look at the roots has ended, if with an answer.
    Looked(Option<Answer>),
    Request(Request),
    Signal(i32),
    /// A scrub has ended, if with a report.
    Scrubbed(Option<Box<Report>>),
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

pub struct Dispatcher {
    /// The one from the source to the replica first.
    ways: Vec<Way>,
    pulse: Arc<Pulse>,
    done: Receiver<Finished>,
    tell: Sender<Finished>,
    sweeps: Sweeps,
    /// When the sweep began that runs, and how far all work had come by then.
    sweep_began: Option<(Moment, Progress)>,
    /// What has come of the sweep that runs on the ways that are through with it.
    swept: Option<Outcome>,
    sweeps_ended: u64,
    flushes: Flushes,
    began: Moment,
    /// The same by the wall clock, in seconds since 1970.
    started: u64,
    commit_due: Option<Moment>,
    guards: Guards,
    totals: Totals,
    /// The last of what both sides had changed.
    conflicts: VecDeque<ConflictStatus>,
    last_sweep: Option<LastSweep>,
    shown: StateSince,
    reload: Option<Reload>,
    onlooker: Onlooker,
    told: Told,
    scrubs: Scrubs,
    /// While the replica is there, and its history is kept.
    thinning: Option<Thinning>,
}

impl Dispatcher {
    /// A service that holds from the start where its roots are `misplaced`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(
        pairs: Vec<(Arc<Pair>, Arc<Intake>)>,
        interval: Duration,
        (misplaced, renew): (Option<Misplaced>, Renew),
    ) -> std::io::Result<Self> {
        let (tell, done) = unbounded();
        let pulse = Arc::new(Pulse::default());
        let lane = |way, which| Ok::<_, std::io::Error>(LaneState::new(Self::lane((way, which), &pulse, &tell)?));
        let mut ways = Vec::new();
        for (at, (pair, intake)) in pairs.into_iter().enumerate() {
            ways.push(Way::new(pair, intake, lane(at, Which::Express)?, lane(at, Which::Bulk)?));
        }
        let Some(way) = ways.first() else { return Err(std::io::ErrorKind::InvalidInput.into()) };
        if let Some(reason) = &misplaced {
            way.pair.log.error(format_args!("Held: {reason} Nothing is done until then. {REMEDY}"));
        }
        let guards = Guards::new(misplaced, renew, &way.pair);
        let told = Told::new(&way.pair);
        let scrubs = Scrubs::restore(&way.pair);
        let thinning = Thinning::begin(&way.pair);
        ways.iter().for_each(|way| report::failing(&way.pair, &way.ledger));
        Ok(Self {
            ways,
            told,
            thinning,
            pulse,
            done,
            tell,
            guards,
            sweeps: Sweeps::new(interval),
            sweep_began: None,
            swept: None,
            sweeps_ended: 0,
            flushes: Flushes::default(),
            began: clock::now(),
            started: clock::wall(),
            commit_due: None,
            totals: Totals::default(),
            conflicts: VecDeque::new(),
            last_sweep: None,
            shown: StateSince::default(),
            reload: None,
            onlooker: Onlooker::default(),
            scrubs,
        })
    }

    /// The pair as the person knows it.
    fn pair(&self) -> &Arc<Pair> {
        &self.ways[0].pair
    }

    fn lanes(&self) -> impl Iterator<Item = &LaneState> {
        self.ways.iter().flat_map(|way| way.lanes())
    }

    /// Tells of its sweeps there.
    #[must_use]
    pub fn looked_on_by(self, onlooker: Onlooker) -> Self {
        Self { onlooker, ..self }
    }

    fn lane(which: (usize, Which), pulse: &Arc<Pulse>, tell: &Sender<Finished>) -> std::io::Result<Lane> {
        Lane::start(which, pulse, Sender::clone(tell))
    }

    /// Runs until a signal says stop. Returns what there was to say at the end.
    pub fn run(mut self, inbox: &Inbox) -> Status {
        self.place_watches();
        loop {
            let now = clock::now();
            self.look_for_roots(now);
            self.start_what_can(now);
            self.begin_scrub(now);
            if let Some(since) = self.flushes.settle(self.oldest(), &self.ways) {
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
                    self.pair().log.reopen();
                    self.reload();
                    self.tell_reloaded();
                }
                Event::Signal(SIGUSR1) => self.sweeps.ask(),
                Event::Signal(_) => return self.stop(),
                Event::Scrubbed(report) => self.scrubbed(report.map(|report| *report)),
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
        let no_scrub = never();
        let scrub = self.scrubs.ended().unwrap_or(&no_scrub);
        let (news, nothing) = (self.ways[0].intake.woken(), never());
        let back = self.ways.get(1).map_or(&nothing, |way| way.intake.woken());
        select! {
            recv(news) -> _ => Event::News,
            recv(back) -> _ => Event::News,
            recv(ahead) -> _ => Event::Placed,
            recv(self.done) -> finished => finished.map_or(Event::Due, |f| Event::Finished(Box::new(f))),
            recv(look) -> answer => Event::Looked(answer.ok()),
            recv(scrub) -> report => Event::Scrubbed(report.ok().map(Box::new)),
            recv(inbox.requests) -> request => request.map_or(Event::Due, Event::Request),
            recv(inbox.mounts) -> changed => changed.map_or(Event::Due, |()| Event::Mounts),
            recv(inbox.signals) -> signal => signal.map_or(Event::Due, Event::Signal),
            recv(timer) -> _ => Event::Due,
        }
    }

    /// The next moment at which something is due that nothing else announces.
    fn deadline(&self) -> Option<Moment> {
        let may_begin = self.guards.misplaced.is_none();
        let mut due: Vec<Moment> = self.ways.iter().filter_map(|way| way.deadline(may_begin)).collect();
        due.extend(self.commit_due);
        due.extend(self.told.deadline());
        due.extend(self.look_due());
        due.extend(self.scrub_due(clock::now()));
        due.extend((may_begin && !self.is_bulk_running()).then(|| self.sweeps.due()));
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
                let mut is_held = false;
                for way in &mut self.ways {
                    is_held |= way.hold.release(&way.pair, clock::now());
                    if way.hold.released().is_some_and(|(_, held)| held.unlisted() > 0) {
                        // There are more than can be named: they have to be found.
                        self.sweeps.ask();
                    }
                }
                let _ = reply.send(if is_held { Reply::Done } else { Reply::Failed("no removals are held".into()) });
            }
            Request::Scrub { ask, reply } => self.ask_for_scrub(ask, reply),
            Request::AcceptRoots { reply } => {
                self.accept_roots();
                let _ = reply.send(Reply::Done);
            }
            Request::Flush { reply, .. } => {
                let watches = self.ways.iter().map(|way| way.pair.watches.as_ref()).collect();
                let misplaced = self.guards.misplaced.as_ref().map(ToString::to_string);
                self.flushes.begin(reply, watches, misplaced.as_deref());
            }
        }
    }

    /// When the oldest event was read, or word was given, that is not dealt with; what failed is listed elsewhere.
    fn oldest(&self) -> Option<Moment> {
        let first_sweep = self.last_sweep.is_none().then_some(Moment::default());
        self.ways.iter().filter_map(Way::oldest).chain(first_sweep).min()
    }

    fn is_bulk_running(&self) -> bool {
        self.ways.iter().any(|way| way.bulk.running.is_some())
    }
}

/// A channel for requests, with room for one at a time: who asks waits for the answer anyway.
pub fn requests() -> (Sender<Request>, Receiver<Request>) {
    bounded(1)
}
