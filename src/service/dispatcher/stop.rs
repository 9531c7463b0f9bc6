//! Owns the end of the service: in time, whatever the disks do.

use std::time::Duration;

use crossbeam_channel::select;

use super::Dispatcher;
use super::way::Way;
use crate::plan::schedule::until;
use crate::service::status::{State, Status};
use crate::service::{clock, look, pass, report};

/// A stop may take this long.
const STOP: Duration = Duration::from_secs(4);
/// And what is thinned out is put down within this time.
const THINNING: Duration = Duration::from_millis(500);

impl Dispatcher {
    pub(super) fn stop(mut self) -> Status {
        self.told.manager.stopping();
        self.told.ahead = None;
        self.pulse.stop();
        let limit = crossbeam_channel::after(STOP);
        if let Some(thinning) = self.thinning.take() {
            thinning.stop(THINNING);
        }
        self.stop_scrub(&limit);
        while self.lanes().any(|lane| lane.running.is_some()) {
            select! {
                recv(self.done) -> finished => match finished {
                    Ok(finished) => self.finished(finished),
                    Err(_) => break,
                },
                recv(limit) -> _ => {
                    self.pair().log.warn("A pass does not end, perhaps because a disk does not answer: it is left to the next start");
                    break;
                }
            }
        }
        let ended = self.lanes().all(|lane| lane.running.is_none());
        if ended && self.guards.misplaced.is_none() {
            let close = |way: &Way| {
                let closed = look::aside(&way.pair, pass::close);
                closed.is_ok_and(|closed| select! { recv(closed) -> _ => true, recv(limit) -> _ => false })
            };
            if !self.ways.iter().all(close) {
                self.pair()
                    .log
                    .warn("The replica does not answer: what the program has in it is left to the next start");
            }
        }
        self.keep_facts();
        if let Err(reason) = self.pair().commit(clock::now(), true) {
            self.pair().log.warn(format_args!("{reason}; the next sweep compares everything"));
        }
        if ended {
            self.pair().end();
        }
        let up = until(self.began, clock::now());
        let sides = report::sides(self.pair(), &self.totals, &self.in_source());
        self.pair().log.info(format_args!("Stopped: {} in {:.3} s{sides}", self.totals, up.as_secs_f64()));
        let last = Status { state: State::Stopping, reason: None, ..self.status() };
        if ended {
            for lane in self.ways.into_iter().flat_map(|way| [way.express.lane, way.bulk.lane]) {
                let _ = lane.close().join();
            }
        }
        last
    }
}
