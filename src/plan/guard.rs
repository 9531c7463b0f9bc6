//! Owns the brake on mass deletion: whether the removals of one pass go through or are held. Pure arithmetic; the
//! service counts, remembers the last minute, and tells the person.

use std::time::Duration;

use crate::tree::doubt::Moment;

/// Fewer removals than this never need asking.
pub const FREE: u64 = 50;
/// Passes within this time are judged together.
pub const WINDOW: Duration = Duration::from_secs(60);

/// What becomes of a pass's removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    Hold,
}

/// The removals of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Window {
    recent: Vec<(Moment, u64)>,
}

impl Window {
    pub fn add(&mut self, now: Moment, removed: u64) {
        self.forget(now);
        if removed > 0 {
            self.recent.push((now, removed));
        }
    }

    pub fn sum(&mut self, now: Moment) -> u64 {
        self.forget(now);
        self.recent.iter().map(|(_, n)| n).sum()
    }

    fn forget(&mut self, now: Moment) {
        let span = WINDOW.as_nanos() as u64;
        self.recent.retain(|(at, _)| now.0.saturating_sub(at.0) < span);
    }
}

/// Judges `removals` more in a replica that held `entries` before this pass and lost `recent` in the last minute.
/// `percent` is the share of the entries that may go unasked.
pub fn judge(removals: u64, recent: u64, entries: u64, percent: f64) -> Verdict {
    let (gone, before) = (removals.saturating_add(recent), entries.saturating_add(recent));
    let too_many = gone > FREE && gone as f64 * 100.0 > before as f64 * percent;
    if removals > 0 && too_many { Verdict::Hold } else { Verdict::Go }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fifty_may_always_go_and_more_only_within_the_share() {
        for (removals, recent, entries, percent, expected) in [
            (50, 0, 50, 50.0, Verdict::Go),
            (51, 0, 51, 50.0, Verdict::Hold),
            (51, 0, 102, 50.0, Verdict::Go),
            (51, 0, 101, 50.0, Verdict::Hold),
            (30, 30, 70, 50.0, Verdict::Hold),
            (1, 60, 60, 50.0, Verdict::Hold),
            (0, 60, 1, 50.0, Verdict::Go),
            (1000, 0, 1000, 100.0, Verdict::Go),
            (51, 0, 1_000_000, 0.0, Verdict::Hold),
        ] {
            assert_eq!(judge(removals, recent, entries, percent), expected, "{removals} {recent} {entries} {percent}");
        }
    }

    #[test]
    fn a_minute_later_removals_are_forgotten() {
        let mut window = Window::default();
        let second = 1_000_000_000;
        window.add(Moment(0), 10);
        window.add(Moment(30 * second), 5);
        assert_eq!(window.sum(Moment(59 * second)), 15);
        assert_eq!(window.sum(Moment(60 * second)), 5);
        assert_eq!(window.sum(Moment(91 * second)), 0);
    }

    proptest! {
        #[test]
        fn more_removals_never_turn_hold_into_go(r in 0u64..500, more in 0u64..500, recent in 0u64..100, entries in 0u64..1000, percent in 0.0..100.0) {
            if judge(r, recent, entries, percent) == Verdict::Hold {
                prop_assert_eq!(judge(r + more, recent, entries, percent), Verdict::Hold);
            }
        }
    }
}
