//! Owns the process's two clocks: the monotonic one that orders looks and events, and the wall clock with its grain.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::tree::doubt::Moment;
use crate::tree::entry::Time;

/// The kernel stamps ctimes from a clock that may move in steps of up to 10 ms; twice that is safe.
const GRAIN: i128 = 20_000_000;
/// Where a filesystem keeps whole seconds, or every other one, as FAT does.
const COARSE: i128 = 2_000_000_000;

/// Now, on the process's own clock.
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
}

/// Waits for all of this time. Not `park_timeout`: a wake-up from a channel that came too late to be needed ends that at
/// once, and what is told apart by its time afterwards is not.
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Now by the wall clock, in seconds since 1970: for people, and for what outlives the process.
pub fn wall() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Whether a change at this moment could get the same ctime once more.
pub fn is_racy(ctime: Time) -> bool {
    since(ctime) < grain(ctime)
}

fn grain(ctime: Time) -> i128 {
    if is_coarse(ctime) { COARSE } else { GRAIN }
}

/// Whether this looks like the time of a filesystem that keeps whole seconds. Elsewhere one can end like that by chance: it is
/// doubted for longer than it need be.
pub fn is_coarse(ctime: Time) -> bool {
    ctime.nsec == 0
}

/// Nanoseconds from a change to now.
pub fn since(ctime: Time) -> i128 {
    let now = clock_gettime(ClockId::Realtime);
    let now = Time { sec: now.tv_sec, nsec: now.tv_nsec as u32 };
    now.since(ctime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_whole_seconds_is_doubted_until_the_next_one_is_certain() {
        let second = clock_gettime(ClockId::Realtime).tv_sec;
        assert!(!is_racy(Time { sec: second - 3, nsec: 0 }));
        // Written at its begin and once more at its end.
        let (first, last) = (Time { sec: 7, nsec: 0 }, Time { sec: 7, nsec: 999_999_999 });
        assert!(last.since(first) < grain(first));
        assert!(grain(Time { nsec: 1, ..first }) < 1_000_000_000);
    }

    #[test]
    fn a_wake_up_from_elsewhere_does_not_shorten_a_wait() {
        std::thread::current().unpark();
        let start = Instant::now();
        wait(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
