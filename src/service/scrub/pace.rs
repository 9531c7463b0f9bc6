//! Owns the pace of a scrub: a wait after each part that was read, so that over a second no more is read than is allowed.

use std::time::{Duration, Instant};

use crate::fs::pulse::Pulse;
use crate::service::clock;

/// A stop is heard after this time at most.
const STEP: Duration = Duration::from_millis(100);
/// A pause shorter than this is put off: it would be a wake-up for nothing.
const WORTH_A_PAUSE: Duration = Duration::from_millis(40);
/// What was not read in time is not made up for, but for this much.
const ARREARS: Duration = Duration::from_millis(250);

pub struct Pace {
    /// Bytes a second.
    rate: Option<u64>,
    /// When all that was read so far may have been read.
    due: Instant,
}

impl Pace {
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), due: Instant::now() }
    }

    /// Waits after so many bytes were read.
    pub fn read(&mut self, bytes: usize, pulse: &Pulse) {
        let Some(wait) = self.wait_after(bytes, Instant::now()) else { return };
        let until = Instant::now() + wait;
        while !pulse.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            clock::wait(left.min(STEP));
            pulse.beat();
        }
    }

    /// How long to wait after so many bytes were read.
    fn wait_after(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let rate = self.rate?;
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        let earliest = now.checked_sub(ARREARS).unwrap_or(now);
        self.due = self.due.max(earliest).checked_add(takes).unwrap_or(self.due);
        Some(self.due.saturating_duration_since(now)).filter(|wait| *wait >= WORTH_A_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_no_more_is_read_than_is_allowed() {
        let start = Instant::now();
        let mut pace = Pace { rate: Some(1_000_000), due: start };
        let (mut now, mut read) = (start, 0usize);
        while now < start + Duration::from_secs(10) {
            read += 10_000;
            now += Duration::from_millis(1);
            now += pace.wait_after(10_000, now).unwrap_or_default();
        }
        assert!((9_900_000..=10_400_000).contains(&read), "{read}");
        // After an hour without a byte it does not read an hour's share at once.
        now += Duration::from_secs(3600);
        let burst = (0..100).take_while(|_| pace.wait_after(10_000, now).is_none()).count();
        assert!(burst <= 30, "{burst}");
    }

    #[test]
    fn without_a_rate_nobody_waits_and_a_stop_ends_a_wait() {
        let pulse = Pulse::default();
        Pace::new(None).read(usize::MAX, &pulse);
        pulse.stop();
        Pace::new(Some(1)).read(1 << 30, &pulse);
    }
}
