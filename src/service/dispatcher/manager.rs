//! Owns what the dispatcher tells the service manager, and whether it may say that the work moves.

use std::time::Duration;

use super::Dispatcher;
use super::screen::{Backlog, timestamp_of};
use super::way::Way;
use crate::service::ahead::Ahead;
use crate::service::clock;
use crate::service::manager::Manager;
use crate::service::pair::Pair;
use crate::service::status::{State, Sweep};
use crate::service::vigil::{Change, Sign, Standstill, Vigil, What};
use crate::tree::doubt::Moment;
use crate::tree::totals::Bytes;

/// Without a sign of life for this long, a pass or a look at the folders is said not to move.
const STANDS: Duration = Duration::from_secs(60);
/// What takes less time than this is not worth a word.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// What the dispatcher keeps for it.
pub(super) struct Told {
    pub(super) manager: Manager,
    pub(super) vigil: Vigil,
    /// Sets the watches while a manager waits for them.
    pub(super) ahead: Option<Ahead>,
}

impl Told {
    pub(super) fn new(pair: &Pair) -> Self {
        let manager = Manager::of_this_process(&pair.log);
        let stands = manager.half().map_or(STANDS, |half| STANDS.min(half / 2));
        Self { manager, vigil: Vigil::new(stands), ahead: None }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.manager.deadline().into_iter().chain(self.vigil.deadline()).min()
    }
}

impl Dispatcher {
    /// Has the watches set by a thread of their own where somebody waits for them.
    pub(super) fn place_watches(&mut self) {
        if !self.told.manager.is_there() || self.guards.misplaced.is_some() {
            return;
        }
        match Ahead::start(self.pair().clone()) {
            Ok(ahead) => self.told.ahead = Some(ahead),
            // The first pass sets them, too.
            Err(error) => self.pair().log.debug(format_args!("No thread for the watches: {error}")),
        }
    }

    /// Looks after what may wait for a disk, and tells the service manager what is new.
    pub(super) fn tell(&mut self, now: Moment) {
        self.look_after_work(now);
        if self.guards.misplaced.is_some() {
            self.told.ahead = None;
        }
        self.told.manager.feed(now, self.told.vigil.stands().is_none());
        if !self.told.manager.is_ready() && self.told.manager.is_there() {
            if self.told.ahead.is_none() || self.last_sweep.is_some() {
                self.told.ahead = None;
                let (status, _) = self.words(now);
                self.told.manager.ready(&status);
            } else {
                let steps = self.watched().0;
                self.told.manager.still_starting(now, steps);
            }
        }
        if self.told.manager.is_listening(now) {
            let (status, again) = self.words(now);
            self.told.manager.status(now, &status, again);
        }
    }

    /// Around what a reload does.
    pub(super) fn tell_reloaded(&mut self) {
        let (status, _) = self.words(clock::now());
        self.told.manager.reloaded(&status);
    }

    fn look_after_work(&mut self, now: Moment) {
        let sign =
            |lane: &super::LaneState| Sign { is_running: lane.running.is_some(), beats: lane.lane.progress().beats };
        let look = Sign { is_running: self.guards.look.is_some(), beats: self.guards.looks };
        // The lanes of both ways work in turns.
        let both = |lane: fn(&Way) -> &super::LaneState| {
            let signs = self.ways.iter().map(|way| sign(lane(way)));
            signs.reduce(|a, b| Sign { is_running: a.is_running || b.is_running, beats: a.beats.wrapping_add(b.beats) })
        };
        let none = Sign { is_running: false, beats: 0 };
        let (express, bulk) = (both(|way| &way.express), both(|way| &way.bulk));
        let signs = [express.unwrap_or(none), bulk.unwrap_or(none), look];
        match self.told.vigil.look(now, clock::wall(), signs) {
            Some(Change::Stands(Standstill { since, what })) => {
                let words = match what {
                    What::Pass => "A pass has not moved since",
                    What::Look => "A look at the two folders has not ended since",
                };
                self.pair().log.warn(format_args!("{words} {}: does a disk not answer?", timestamp_of(since)));
            }
            Some(Change::MovesAgain(What::Pass)) => self.pair().log.info("The pass moves again"),
            Some(Change::MovesAgain(What::Look)) => self.pair().log.info("The look at the two folders has ended"),
            None => {}
        }
    }

    /// Why the state is degraded, if work does not move.
    pub(super) fn standstill(&self) -> Option<String> {
        let Standstill { since, what } = self.told.vigil.stands()?;
        let words = match what {
            What::Pass => "a pass has not moved since",
            What::Look => "a look at the two folders has not ended since",
        };
        Some(format!("{words} {}", timestamp_of(since)))
    }

    /// The status in one line, and when it changes by itself, if it does.
    fn words(&mut self, now: Moment) -> (String, Option<Duration>) {
        let (state, reason) = self.state();
        let Backlog { paths, oldest, lag } = self.backlog(now);
        let sweep = self.sweep(now);
        let (folders, unwatched) = self.watched();
        let watched = match unwatched {
            0 => format!("{} watched", count(folders, "folder")),
            more => format!("{} watched, {more} not", count(folders, "folder")),
        };
        let ways = if self.ways.len() > 1 { ", both ways" } else { "" };
        let conflicts = match self.totals.conflicts {
            0 => String::new(),
            conflicts => format!("; {} since the start", count(conflicts, "conflict")),
        };
        let watched = format!("{watched}{ways}{conflicts}");
        let reason = reason.unwrap_or_default();
        let mut words = match state {
            State::Held => {
                let remedy = self.holds().into_iter().next().map(|hold| format!(" {}", hold.remedy));
                let end = if reason.ends_with(['.', '?']) { "" } else { "." };
                format!("held: {reason}{end}{}", remedy.unwrap_or_default())
            }
            State::Degraded => format!("degraded: {reason}; {watched}"),
            State::Starting | State::Sweeping => {
                let name = if self.last_sweep.is_none() { "first pass" } else { "sweep" };
                format!("{name}: {}; {watched}", sweep.as_ref().map_or_else(|| "begins".into(), looked_at))
            }
            State::Stopping => "stopping".into(),
            State::InSync | State::Busy if lag < WORTH_SAYING => format!("in sync, {watched}"),
            State::InSync | State::Busy => format!("busy; {watched}"),
        };
        let coarse = if lag >= Duration::from_secs(60) { 60 } else { 1 };
        if lag >= WORTH_SAYING && sweep.is_none() && state != State::Held {
            let lag = Duration::from_secs(lag.as_secs() / coarse * coarse);
            words += &format!("; {} pending for {}", count(paths.max(1), "path"), humantime::format_duration(lag));
        }
        let is_moving = oldest.is_some() || sweep.is_some() || !self.told.manager.is_ready();
        let again = if sweep.is_some() { 1 } else { coarse };
        (words, is_moving.then(|| Duration::from_secs(again)))
    }
}

/// How far a sweep has come.
fn looked_at(sweep: &Sweep) -> String {
    // What is known is the last sweep's number, which may be less by now.
    let looked = match (sweep.expected, sweep.entries) {
        (Some(all), entries) => format!("{entries} of about {} entries looked at", all.max(entries)),
        (None, 1) => "1 entry looked at".into(),
        (None, entries) => format!("{entries} entries looked at"),
    };
    format!("{looked}, {} copied ({})", count(sweep.files, "file"), Bytes(sweep.bytes))
}

fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
