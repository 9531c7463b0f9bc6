//! Owns what the service manager is told, in the protocol of sd_notify(3), and when: readiness, one line of status, signs
//! of life. Where there is no manager nothing is sent and nothing is ever due. It knows nothing of the work; the
//! dispatcher says what there is to say.

mod wire;

use std::time::Duration;

use sd_notify::NotifyState;

use super::log::Log;
use crate::plan::schedule::later;
use crate::tree::doubt::Moment;
use crate::tree::quote::escaped;
use wire::Wire;

/// The status is sent at most this often.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// While a start takes long, more time is asked for this often, and this much.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY: Duration = Duration::from_secs(60);
/// The manager does not take messages of 4,096 bytes and above.
const LONGEST: usize = 1_000;

pub struct Manager {
    is_there: bool,
    /// Half of the time that may pass between two signs of life.
    half: Option<Duration>,
    feed_due: Moment,
    is_fed: bool,
    is_ready: bool,
    status: String,
    /// From when on the status may be sent again.
    pause_ends: Moment,
    /// When to look whether the status has changed, where nothing else will make anybody look.
    look_due: Option<Moment>,
    extend_due: Moment,
    /// How far the start had come when more time was asked for last.
    extended_at: Option<u64>,
    wire: Option<Wire>,
    log: Log,
}

impl Manager {
    /// The manager that started this process, if one did and wants to hear of it.
    pub fn of_this_process(log: &Log) -> Self {
        let is_given = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        let wire = is_given.then(|| Wire::start(log.clone())).transpose().unwrap_or_else(|error| {
            log.warn(format_args!("The service manager cannot be told anything: {error}"));
            None
        });
        let is_there = wire.is_some();
        let granted = sd_notify::watchdog_enabled().filter(|granted| is_there && !granted.is_zero());
        Self {
            is_there,
            half: granted.map(|granted| granted / 2),
            feed_due: Moment::default(),
            is_fed: true,
            is_ready: false,
            status: String::new(),
            pause_ends: Moment::default(),
            look_due: None,
            extend_due: Moment::default(),
            extended_at: None,
            wire,
            log: log.clone(),
        }
    }

    pub fn is_there(&self) -> bool {
        self.is_there
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// How often signs of life are given, where the manager wants them.
    pub fn half(&self) -> Option<Duration> {
        self.half
    }

    /// When there is something to send, or to look for, that nothing else announces.
    pub fn deadline(&self) -> Option<Moment> {
        let feed = self.half.is_some() && self.is_fed;
        feed.then_some(self.feed_due).into_iter().chain(self.look_due).min()
    }

    /// Whether the status is to be looked at now.
    pub fn is_listening(&self, now: Moment) -> bool {
        self.is_there && self.pause_ends <= now
    }

    /// The service does what it is for from now on.
    pub fn ready(&mut self, status: &str) {
        self.is_ready = true;
        self.status = short(status);
        self.send(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
    }

    /// Tells the status if it is another one than before. `again` says when it may change by itself.
    pub fn status(&mut self, now: Moment, status: &str, again: Option<Duration>) {
        let status = short(status);
        self.look_due = again.map(|wait| later(now, wait.max(STATUS_PAUSE)));
        if status == self.status {
            // While much goes on, finding out what to say is not for nothing either.
            let next = later(now, STATUS_PAUSE);
            if self.look_due.is_some_and(|due| due <= next) {
                self.pause_ends = next;
            }
            return;
        }
        self.status = status;
        self.pause_ends = later(now, STATUS_PAUSE);
        // What changes within the pause is told after it.
        self.look_due = Some(self.look_due.map_or(self.pause_ends, |due| due.min(self.pause_ends)));
        self.send(&[NotifyState::Status(&self.status)]);
    }

    /// Asks for more time for the start, as long as that comes on: `steps` says how far.
    pub fn still_starting(&mut self, now: Moment, steps: u64) {
        if now >= self.extend_due && self.extended_at != Some(steps) {
            self.extended_at = Some(steps);
            self.extend_due = later(now, EXTEND_EVERY);
            self.send(&[NotifyState::ExtendTimeoutUsec(EXTEND_BY.as_micros() as u32)]);
        }
    }

    /// Gives a sign of life where one is due and the work moves.
    pub fn feed(&mut self, now: Moment, moves: bool) {
        let Some(half) = self.half.filter(|_| now >= self.feed_due) else { return };
        self.is_fed = moves;
        if moves {
            self.feed_due = later(now, half);
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// Before the configuration is read again. A service that is not ready yet has no state to come back to.
    pub fn reloading(&mut self) {
        if self.is_ready && self.is_there {
            // Later versions want both in one message.
            match NotifyState::monotonic_usec_now() {
                Ok(now) => self.send(&[NotifyState::Reloading, now]),
                Err(error) => self.log.debug(format_args!("No monotonic clock: {error}")),
            }
        }
    }

    /// After it.
    pub fn reloaded(&mut self, status: &str) {
        if self.is_ready {
            self.ready(status);
        }
    }

    pub fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        self.wire.iter_mut().for_each(Wire::finish);
    }

    fn send(&self, message: &[NotifyState]) {
        if self.wire.as_ref().is_some_and(|wire| !wire.send(message)) {
            self.log.debug("The service manager does not read what it is told");
        }
    }
}

/// A text on one line that fits into a message.
fn short(text: &str) -> String {
    let line = escaped(text);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stays_on_one_line_and_fits_into_a_message() {
        assert_eq!(short("in sync"), "in sync");
        assert!(!short("a\nREADY=1").contains('\n'));
        let long = short(&"ü".repeat(5_000));
        assert!(long.ends_with('…') && long.len() < 4_000, "{}", long.len());
    }
}
