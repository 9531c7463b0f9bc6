//! Owns what the service says of itself: the present state, since when, and the figures of `status`.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Dispatcher;
use super::held::REMEDY;
use super::lanes::LaneState;
use super::way::Way;
use crate::fs::count;
use crate::plan::schedule::until;
use crate::service::status::{self, Failing, HoldStatus, Kept, Latency, State, Status, Sweep, TwoWay, Watches};
use crate::service::{clock, places};
use crate::tree::doubt::Moment;
use crate::tree::totals::Totals;

/// As many paths are named one by one at most.
const NAMED: usize = 100;

/// The last sweep that came to its end.
pub struct LastSweep(status::LastSweep);

impl LastSweep {
    pub fn now(duration: Duration, totals: Totals) -> Self {
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(status::LastSweep { finished: timestamp(), duration_ms, totals })
    }
}

/// What is known to need a look and has not had it.
pub(super) struct Backlog {
    pub(super) paths: u64,
    pub(super) oldest: Option<Moment>,
    /// The age of the oldest of it.
    pub(super) lag: Duration,
}

/// The state as last shown, and since when it has held.
pub struct StateSince {
    state: State,
    since: String,
}

impl Default for StateSince {
    fn default() -> Self {
        Self { state: State::Starting, since: timestamp() }
    }
}

fn timestamp() -> String {
    shown(&Zoned::now())
}

/// A time in seconds since 1970 as it is shown; one that no calendar has is shown as their beginning.
pub fn timestamp_of(wall: u64) -> String {
    let time = i64::try_from(wall).ok().and_then(|wall| Timestamp::from_second(wall).ok()).unwrap_or_default();
    shown(&time.to_zoned(TimeZone::system()))
}

fn shown(time: &Zoned) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

impl Dispatcher {
    pub(super) fn status(&mut self) -> Status {
        let now = clock::now();
        self.note_state();
        let (state, reason) = self.state();
        let Backlog { paths, lag, .. } = self.backlog(now);
        let (folders, unwatched) = self.watched();
        Status {
            state,
            reason,
            since: self.shown.since.clone(),
            pid: std::process::id(),
            source: self.pair().source.path().to_string_lossy().into_owned(),
            replica: self.pair().replica.path().to_string_lossy().into_owned(),
            pending: paths,
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            watches: Watches { folders, unwatched, limit: count::watch_limit() },
            totals: self.totals,
            last_sweep: self.last_sweep.as_ref().map(|s| s.0.clone()),
            next_sweep_in_s: (self.sweeps.due() != Moment(u64::MAX)).then(|| until(now, self.sweeps.due()).as_secs()),
            holds: self.holds(),
            failing: self.ways.iter().flat_map(|way| way.failing(now)).take(NAMED).collect(),
            uncertain: self.ways.iter().flat_map(Way::uncertain).take(NAMED).collect(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: timestamp_of(self.started),
            latency: Latency::of(&self.pair().latency.reading()),
            sweeps: self.sweeps_ended,
            sweep: self.sweep(now),
            failing_paths: self.failing(),
            two_way: self.two_way(),
            scrub: self.scrub_status(now),
            kept: self.kept(),
            uncertain_files: self.ways.iter().map(|way| way.pair.restless.uncertain_count() as u64).sum(),
        }
    }

    /// What was done in the source since the start.
    pub(super) fn in_source(&self) -> Totals {
        self.ways.get(1).map(|back| back.totals).unwrap_or_default()
    }

    /// What there is to say of a pair whose folders are both worked in.
    fn two_way(&self) -> Option<TwoWay> {
        self.pair().two_way.as_ref()?;
        Some(TwoWay {
            conflict: self.pair().rules().policy.to_string(),
            in_replica: self.ways[0].totals,
            in_source: self.in_source(),
            conflicts: self.totals.conflicts,
            last_conflicts: self.conflicts.iter().cloned().collect(),
        })
    }

    /// What is kept of what was lost, as far as it has been counted: no disk is asked for it.
    fn kept(&self) -> Option<Kept> {
        let keep = self.pair().rules().keep.clone();
        if keep.policy.is_off() {
            return None;
        }
        let figures = self.pair().keeping.figures();
        let since = figures.and_then(|figures| u64::try_from(figures.since?).ok());
        Some(Kept {
            policy: keep.policy.to_string(),
            max_bytes: keep.max,
            free: keep.free.map(|room| room.to_string()),
            versions: figures.map(|figures| figures.versions),
            bytes: figures.map(|figures| figures.bytes),
            journal_bytes: figures.map(|figures| figures.journal),
            since: since.map(timestamp_of),
        })
    }

    pub(super) fn backlog(&self, now: Moment) -> Backlog {
        let news: Vec<_> = self.ways.iter().map(|way| way.intake.waiting()).collect();
        let in_doubt: usize = self.lanes().map(|l| l.waiting.dirty.len() + l.soon.dirty.len()).sum();
        let running = self.lanes().filter(|l| self.knows_of(l).is_some()).count();
        let known = self.lanes().flat_map(|l| [l.waiting.oldest, l.soon.oldest, self.knows_of(l)]);
        let restless = self.ways.iter().map(|way| way.pair.restless.oldest());
        let oldest = known.chain(restless).chain(news.iter().map(|(_, since)| *since)).flatten().min();
        let lag = oldest.map_or(Duration::ZERO, |oldest| until(oldest, now));
        let waiting: u64 = news.iter().map(|(waiting, _)| waiting).sum();
        Backlog { paths: waiting + (in_doubt + running) as u64, oldest, lag }
    }

    /// Folders that have a watch, and those that have none.
    pub(super) fn watched(&self) -> (u64, u64) {
        let counts = self.ways.iter().filter_map(|way| way.pair.watches.as_ref()).map(|watches| watches.count());
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }

    fn failing(&self) -> u64 {
        self.ways.iter().map(|way| way.ledger.len() as u64).sum()
    }

    /// Since when it is known that what a lane does now is needed. Of a sweep, nothing is known.
    fn knows_of(&self, lane: &LaneState) -> Option<Moment> {
        let is_plain_sweep = lane.is_sweep && self.sweep_began.is_some_and(|(began, _)| lane.running == Some(began));
        lane.running.filter(|_| !is_plain_sweep)
    }

    /// How far the sweep has come that runs.
    pub(super) fn sweep(&self, now: Moment) -> Option<Sweep> {
        let (began, before) = self.sweep_began?;
        let far = self.ways[0].bulk.lane.progress();
        Some(Sweep {
            running_ms: u64::try_from(until(began, now).as_millis()).unwrap_or(u64::MAX),
            entries: far.entries.saturating_sub(before.entries),
            expected: self.ways[0].entries.filter(|entries| *entries > 0),
            files: far.files.saturating_sub(before.files),
            bytes: far.bytes.saturating_sub(before.bytes),
        })
    }

    /// Keeps since when the present state has held.
    pub(super) fn note_state(&mut self) {
        let (state, _) = self.state();
        if state != self.shown.state {
            self.shown = StateSince { state, since: timestamp() };
        }
    }

    pub(super) fn state(&self) -> (State, Option<String>) {
        if let Some(reason) = &self.guards.misplaced {
            return (State::Held, Some(reason.to_string()));
        }
        if !self.guards.gone.is_empty() {
            return (State::Held, Some("a mount below the folders is gone".into()));
        }
        if self.ways.iter().any(|way| !way.hold.is_empty()) {
            return (State::Held, Some("more removals than --max-delete allows at once".into()));
        }
        if let Some(reason) = self.standstill().or_else(|| self.ways.iter().find_map(|way| way.trouble.reason())) {
            return (State::Degraded, Some(reason));
        }
        if self.last_sweep.is_none() || self.ways.iter().any(|way| way.bulk.is_sweep || way.has_to_sweep) {
            return (State::Sweeping, None);
        }
        if let Some(way) = self.ways.iter().find(|way| !way.ledger.is_empty()) {
            let failing = usize::try_from(self.failing()).unwrap_or(usize::MAX);
            return (State::Degraded, Some(way.trouble.failing(failing)));
        }
        if let Some(reason) = self.decay() {
            return (State::Degraded, Some(reason));
        }
        if self.watched().1 > 0 {
            return (State::Degraded, Some("some folders have no watch".into()));
        }
        if self.oldest().is_some() || self.ways.iter().any(|way| way.intake.waiting().0 > 0) {
            return (State::Busy, None);
        }
        (State::InSync, None)
    }

    pub(super) fn holds(&self) -> Vec<HoldStatus> {
        let mut holds = Vec::new();
        let gone = |path| format!("what was mounted at {} is gone", self.pair().shown_source(path));
        let reasons = self.guards.misplaced.iter().map(|reason| reason.to_string());
        for reason in reasons.chain(self.guards.gone.iter().map(gone)) {
            holds.push(HoldStatus { reason, remedy: places::REMEDY.into(), removals: 0, since: None, side: None });
        }
        for way in self.ways.iter().filter(|way| !way.hold.is_empty()) {
            holds.push(HoldStatus {
                reason: "more removals than --max-delete allows at once".into(),
                remedy: REMEDY.into(),
                removals: way.hold.entries(),
                since: Some(timestamp_of(way.hold.since())),
                side: way.pair.two_way.is_some().then(|| way.pair.written_side().to_string()),
            });
        }
        holds
    }
}

impl Way {
    fn failing(&self, now: Moment) -> impl Iterator<Item = Failing> {
        self.ledger.iter().take(NAMED).map(move |(path, failed)| {
            let next = if failed.due == Moment(u64::MAX) { 0 } else { until(now, failed.due).as_secs() };
            Failing {
                path: self.pair.shown(path),
                reason: failed.reason.clone(),
                tries: failed.tries,
                first_failure: timestamp_of(failed.first),
                last_failure: timestamp_of(failed.last),
                next_try: timestamp_of(clock::wall().saturating_add(next)),
                next_try_in_s: next,
            }
        })
    }

    fn uncertain(&self) -> Vec<String> {
        self.pair.restless.uncertain(NAMED).iter().map(|path| self.pair.shown(path)).collect()
    }
}
