//! Owns when things are due: the sweeps, and the next try of what failed. It takes `now` and reads no clock.

use std::time::Duration;

use crate::tree::doubt::Moment;
use crate::tree::operation::Cause;

/// The first pause after a failure; each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
pub const LAST_PAUSE: Duration = Duration::from_secs(60);

/// `at` and then `by`, without ever wrapping.
pub fn later(at: Moment, by: Duration) -> Moment {
    Moment(at.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// How long from `now` to `at`; nothing if it is past.
pub fn until(now: Moment, at: Moment) -> Duration {
    Duration::from_nanos(at.0.saturating_sub(now.0))
}

/// The pause before try number `tries` + 1, after `tries` failures.
pub fn pause(tries: u32) -> Duration {
    let factor = 1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LAST_PAUSE)
}

/// How many failures the pause after one more counts, after `before` of them. What an event spoke of is not what failed
/// before: its pauses begin anew.
pub fn failures(before: u32, asked: Option<Cause>) -> u32 {
    if asked == Some(Cause::Event) { 1 } else { before.saturating_add(1) }
}

/// When the next sweep is due: counted from the end of the last, so that sweeps never pile up, and never put off by events.
#[derive(Clone, Copy, Debug)]
pub struct Sweeps {
    interval: Duration,
    due: Moment,
}

impl Sweeps {
    /// The first one is due at once.
    pub fn new(interval: Duration) -> Self {
        Self { interval, due: Moment::default() }
    }

    pub fn due(&self) -> Moment {
        self.due
    }

    pub fn is_due(&self, now: Moment) -> bool {
        now >= self.due
    }

    pub fn ask(&mut self) {
        self.due = Moment::default();
    }

    /// Called when one begins: nothing is due while it runs.
    pub fn begun(&mut self) {
        self.due = Moment(u64::MAX);
    }

    /// Another interval, from the end of the last sweep on. What was asked for stays due.
    pub fn set_interval(&mut self, interval: Duration) {
        let is_timed = self.due != Moment::default() && self.due != Moment(u64::MAX);
        if is_timed {
            let ended = self.due.0.saturating_sub(later(Moment::default(), self.interval).0);
            self.due = later(Moment(ended), interval);
        }
        self.interval = interval;
    }

    /// Called when one has ended. One that was asked for meanwhile stays due.
    pub fn ended(&mut self, now: Moment) {
        if self.due == Moment(u64::MAX) {
            self.due = later(now, self.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_pause_grows_to_a_minute_and_stays_there() {
        let pauses: Vec<u64> = (1..=10).map(|tries| pause(tries).as_millis() as u64).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        assert_eq!(pause(u32::MAX), LAST_PAUSE);
    }

    #[test]
    fn pauses_grow_with_each_failure_and_begin_anew_with_an_event() {
        let mut count = 0;
        let mut fail = |asked| {
            count = failures(count, asked);
            pause(count).as_millis()
        };
        let tries = [None, Some(Cause::Retry), Some(Cause::Retry), Some(Cause::Sweep), Some(Cause::Event), None];
        assert_eq!(tries.map(&mut fail), [500, 1000, 2000, 4000, 500, 1000]);
        assert_eq!(failures(u32::MAX, None), u32::MAX);
    }

    #[test]
    fn a_sweep_asked_for_during_a_sweep_follows_it() {
        let mut sweeps = Sweeps::new(Duration::from_secs(10));
        assert!(sweeps.is_due(Moment(0)));
        sweeps.begun();
        assert!(!sweeps.is_due(Moment(5 * SECOND)));
        sweeps.ask();
        sweeps.ended(Moment(6 * SECOND));
        assert!(sweeps.is_due(Moment(6 * SECOND)));
    }

    #[test]
    fn another_interval_counts_from_the_end_of_the_last_sweep() {
        let mut sweeps = Sweeps::new(Duration::from_secs(10));
        sweeps.set_interval(Duration::from_secs(20));
        assert!(sweeps.is_due(Moment(0)), "the first one is due all the same");
        sweeps.begun();
        sweeps.set_interval(Duration::from_secs(30));
        assert!(!sweeps.is_due(Moment(5 * SECOND)), "it runs");
        sweeps.ended(Moment(6 * SECOND));
        assert_eq!(sweeps.due(), Moment(36 * SECOND));
        sweeps.set_interval(Duration::from_secs(3));
        assert_eq!(sweeps.due(), Moment(9 * SECOND));
        sweeps.set_interval(Duration::from_secs(60));
        assert_eq!(sweeps.due(), Moment(66 * SECOND));
    }

    proptest! {
        #[test]
        fn a_sweep_is_never_put_off_beyond_the_interval(interval in 1u64..1000, end in 0u64..1000) {
            let mut sweeps = Sweeps::new(Duration::from_secs(interval));
            sweeps.begun();
            sweeps.ended(Moment(end * SECOND));
            prop_assert!(!sweeps.is_due(Moment((end + interval) * SECOND - 1)));
            prop_assert!(sweeps.is_due(Moment((end + interval) * SECOND)));
        }
    }
}
