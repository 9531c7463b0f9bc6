//! Owns when a scrub runs in the service: at its interval, going on after a restart where it was, and when a person asks. It
//! runs in a thread of its own, which is there only as long as a scrub is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde::{Deserialize, Serialize};

use super::Dispatcher;
use super::screen::timestamp_of;
use crate::fs::pulse::Pulse;
use crate::plan::schedule::{later, until};
use crate::service::control::Reply;
use crate::service::pair::Pair;
use crate::service::scrub::{Ask, Position, Progress, Report, Scrub, confine, review};
use crate::service::status::{self, DecayedStatus, LastScrub, Scrubbing};
use crate::service::{clock, digests, look};
use crate::tree::doubt::Moment;

/// The facts that outlive the process: when which scrub began and ended, and how far the one has come that runs.
const KEPT: &str = "scrub";
const POSITION: &str = "scrub position";
/// As many files are named one by one.
const NAMED: usize = 100;

/// Scrubs that come by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// From the begin of one to the begin of the next.
    pub every: Duration,
    /// Bytes a second.
    pub rate: u64,
}

pub(super) struct Scrubs {
    plan: Option<Plan>,
    kept: Kept,
    running: Option<Running>,
    /// A person waits for this one until the one that runs has made room.
    waiting: Option<(Ask, Sender<Reply>)>,
    /// Sweeps that had ended when what has decayed was last looked at.
    reviewed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// When the last one began that came by itself, in seconds since 1970.
    began: Option<u64>,
    /// It has not come to its end.
    is_unfinished: bool,
    last: Option<LastScrub>,
}

struct Running {
    ask: Ask,
    /// Who has asked for it.
    reply: Option<Sender<Reply>>,
    pulse: Arc<Pulse>,
    progress: Arc<Progress>,
    began: Moment,
    /// What its earlier parts took.
    before_ms: u64,
    ended: Receiver<Report>,
}

impl Scrubs {
    pub(super) fn restore(pair: &Pair) -> Self {
        let kept = pair.archive.fact(KEPT).and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
        Self { plan: None, kept, running: None, waiting: None, reviewed: 0 }
    }

    pub(super) fn ended(&self) -> Option<&Receiver<Report>> {
        self.running.as_ref().map(|running| &running.ended)
    }

    fn keep(&self, pair: &Pair) {
        if let Ok(kept) = serde_json::to_vec(&self.kept) {
            pair.archive.set_fact(KEPT, &kept);
        }
    }

    /// When the next one is due that comes by itself, in seconds since 1970.
    fn due(&self) -> Option<u64> {
        let plan = self.plan?;
        Some(match self.kept.began {
            Some(_) if self.kept.is_unfinished => 0,
            // A clock that was put back does not put it off for ever.
            Some(began) => began.min(clock::wall()).saturating_add(plan.every.as_secs()),
            None => 0,
        })
    }
}

impl Dispatcher {
    /// Scrubs by itself.
    #[must_use]
    pub fn scrubbing(mut self, plan: Option<Plan>) -> Self {
        self.scrubs.plan = plan;
        self
    }

    /// When there is something to do about scrubs that nothing else announces.
    pub(super) fn scrub_due(&self, now: Moment) -> Option<Moment> {
        let is_free = self.scrubs.running.is_none() && self.guards.misplaced.is_none() && self.last_sweep.is_some();
        let due = self.scrubs.due().filter(|_| is_free)?;
        Some(later(now, Duration::from_secs(due.saturating_sub(clock::wall()))))
    }

    pub(super) fn begin_scrub(&mut self, now: Moment) {
        if self.reviewed_is_behind() {
            self.scrubs.reviewed = self.sweeps_ended;
            // What has gone since is found by the next one.
            let _ = look::aside(self.pair(), review);
        }
        if self.guards.misplaced.is_some() {
            // It must not have the folders open that are waited for.
            self.scrubs.running.iter().for_each(|running| running.pulse.stop());
            return;
        }
        if self.scrubs.running.is_some() {
            return;
        }
        if let Some((ask, reply)) = self.scrubs.waiting.take() {
            return self.start_scrub(ask, Some(reply));
        }
        let (Some(plan), Some(due)) = (self.scrubs.plan, self.scrub_due(now)) else { return };
        if due > now {
            return;
        }
        if !self.scrubs.kept.is_unfinished {
            self.pair().archive.set_fact(POSITION, b"");
            self.scrubs.kept = Kept { began: Some(clock::wall()), is_unfinished: true, ..self.scrubs.kept.clone() };
            self.scrubs.keep(self.pair());
        }
        self.start_scrub(Ask { source: false, repair: false, rate: Some(plan.rate) }, None);
    }

    fn reviewed_is_behind(&self) -> bool {
        self.scrubs.reviewed != self.sweeps_ended
            && self.guards.misplaced.is_none()
            && self.pair().archive.decayed_count() > 0
    }

    fn start_scrub(&mut self, ask: Ask, reply: Option<Sender<Reply>>) {
        let (tell, ended) = bounded(1);
        let pulse = Arc::new(Pulse::new(Arc::new(AtomicBool::new(false))));
        let progress = Arc::<Progress>::default();
        let is_planned = reply.is_none();
        let from = self.pair().archive.fact(POSITION).filter(|_| is_planned);
        let from = from.and_then(|from| Position::decode(&from));
        let before_ms = from.as_ref().map_or(0, |from| from.report.duration_ms);
        let (pair, own_pulse, own_progress) = (Arc::clone(self.pair()), Arc::clone(&pulse), Arc::clone(&progress));
        let work = move || {
            confine(&pair, ask);
            let mut keep = |at: &Position| {
                if is_planned {
                    pair.archive.set_fact(POSITION, &at.encode());
                }
            };
            let scrub = Scrub { pair: &pair, ask, pulse: &own_pulse, progress: &own_progress, from };
            let report = scrub.run(&mut keep);
            // Who hears of the end may want it for itself.
            drop(pair);
            let _ = tell.send(report);
        };
        match std::thread::Builder::new().name("scrub".into()).spawn(work) {
            Ok(_) => {
                let how =
                    if self.scrubs.kept.is_unfinished && is_planned { "Scrubbing" } else { "Scrubbing, as asked" };
                self.pair().log.info(format_args!("{how}: contents are held against what is known of them"));
                let began = clock::now();
                self.scrubs.running = Some(Running { ask, reply, pulse, progress, began, before_ms, ended });
            }
            Err(error) => {
                let reason = format!("there is no thread to be had: {error}");
                self.pair().log.error(format_args!("Not scrubbed: {reason}"));
                match reply {
                    Some(reply) => drop(reply.send(Reply::Failed(reason))),
                    None => self.end_planned(),
                }
            }
        }
    }

    pub(super) fn scrubbed(&mut self, report: Option<Report>) {
        let Some(Running { reply, .. }) = self.scrubs.running.take() else { return };
        if self.pair().archive.is_behind() && self.commit_due.is_none() {
            self.commit_due = Some(clock::now());
        }
        let Some(report) = report else {
            self.pair().log.error("The scrub has ended before its time");
            match reply {
                Some(reply) => drop(reply.send(Reply::Failed("the scrub has ended before its time".into()))),
                None => self.end_planned(),
            }
            return;
        };
        if report.is_complete {
            self.scrubs.kept.last = Some(LastScrub {
                finished: timestamp_of(clock::wall()),
                files: report.files,
                bytes: report.bytes,
                decayed: report.decayed,
                repaired: report.repaired,
                unclear: report.unclear,
            });
            self.scrubs.keep(self.pair());
            self.pair().log.info(format_args!("Scrubbed: {report}"));
        }
        match reply {
            Some(reply) => drop(reply.send(Reply::Scrubbed(Box::new(report)))),
            None if report.is_complete => self.end_planned(),
            // Something else came first: it goes on where it was.
            None => {}
        }
    }

    /// The one that came by itself is over; without an end, the next comes at its time all the same.
    fn end_planned(&mut self) {
        self.scrubs.kept.is_unfinished = false;
        self.scrubs.keep(self.pair());
        self.pair().archive.set_fact(POSITION, b"");
    }

    /// A person wants one now; one that came by itself makes room for it and goes on afterwards.
    pub(super) fn ask_for_scrub(&mut self, ask: Ask, reply: Sender<Reply>) {
        if let Some(reason) = &self.guards.misplaced {
            let _ = reply.send(Reply::Failed(format!("held: {reason}")));
            return;
        }
        match &self.scrubs.running {
            Some(Running { reply: None, pulse, .. }) if self.scrubs.waiting.is_none() => {
                pulse.stop();
                self.scrubs.waiting = Some((ask, reply));
            }
            Some(_) => {
                let _ = reply.send(Reply::Failed(
                    "a scrub that was asked for is running: `driftless status` says how far it has come".into(),
                ));
            }
            None => self.start_scrub(ask, Some(reply)),
        }
    }

    /// Ends the scrub that runs, unless its disk does not answer.
    pub(super) fn stop_scrub<T>(&mut self, limit: &Receiver<T>) {
        let Some(Running { reply, pulse, ended, .. }) = self.scrubs.running.take() else { return };
        pulse.stop();
        select! {
            recv(ended) -> _ => {}
            recv(limit) -> _ => {}
        }
        if let Some(reply) = reply {
            let _ = reply.send(Reply::Failed("the service is stopping".into()));
        }
    }

    /// What is wrong with the contents of files, in a few words.
    pub(super) fn decay(&self) -> Option<String> {
        match self.pair().archive.decayed_count() {
            0 => None,
            1 => Some("a file has decayed".into()),
            files => Some(format!("{files} files have decayed")),
        }
    }

    pub(super) fn scrub_status(&self, now: Moment) -> status::Scrub {
        let pair = self.pair();
        let decayed = pair.archive.decayed();
        let running = self.scrubs.running.as_ref().map(|running| Scrubbing {
            asked: running.reply.is_some() || running.ask.repair,
            running_ms: u64::try_from(until(running.began, now).as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(running.before_ms),
            files: running.progress.files(),
            bytes: running.progress.bytes(),
        });
        status::Scrub {
            running,
            last: self.scrubs.kept.last.clone(),
            next_in_s: self.scrubs.due().map(|due| due.saturating_sub(clock::wall())),
            decayed_files: decayed.len() as u64,
            decayed: decayed
                .iter()
                .take(NAMED)
                .map(|(path, decayed)| DecayedStatus {
                    path: pair.shown_on(decayed.side, path),
                    side: decayed.side.to_string(),
                    reason: digests::words(decayed.damage).into(),
                    found: timestamp_of(decayed.found),
                })
                .collect(),
        }
    }
}
