//! Owns the watch over the lanes: whether a pass that runs still moves. It asks for no time of its own while none runs,
//! and decides nothing about a pass that does not move.

use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::Moment;

/// A lane as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Sign {
    pub is_running: bool,
    /// Its signs of life so far.
    pub beats: u64,
}

/// What is new since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There has been no sign of life for the whole period.
    Stands,
    MovesAgain,
}

#[derive(Debug)]
pub struct Vigil {
    period: Duration,
    looked: Moment,
    lanes: [Seen; 2],
    /// Since when a pass has not moved, in seconds since 1970.
    stands: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    is_running: bool,
    beats: u64,
    /// When it was seen to move last, by both clocks.
    moved: Moment,
    wall: u64,
}

impl Vigil {
    /// A pass without a sign of life for this long is said not to move.
    pub fn new(period: Duration) -> Self {
        Self { period, looked: Moment::default(), lanes: Default::default(), stands: None }
    }

    /// Since when a pass has not moved, in seconds since 1970, if one does not.
    pub fn stands(&self) -> Option<u64> {
        self.stands
    }

    /// When to look again, while a pass runs.
    pub fn deadline(&self) -> Option<Moment> {
        let running = self.lanes.iter().filter(|lane| lane.is_running);
        let due = running.map(|lane| later(lane.moved, self.period)).min()?;
        // One that moves again is to be seen soon.
        Some(if self.stands.is_some() { later(self.looked, self.period / 8) } else { due })
    }

    /// Looks at both lanes; `wall` is now in seconds since 1970.
    pub fn look(&mut self, now: Moment, wall: u64, signs: [Sign; 2]) -> Option<Change> {
        self.looked = now;
        let mut stands: Option<u64> = None;
        for (seen, sign) in self.lanes.iter_mut().zip(signs) {
            if !(seen.is_running && sign.is_running && seen.beats == sign.beats) {
                *seen = Seen { is_running: sign.is_running, beats: sign.beats, moved: now, wall };
            } else if now >= later(seen.moved, self.period) {
                stands = Some(stands.map_or(seen.wall, |since| since.min(seen.wall)));
            }
        }
        match (std::mem::replace(&mut self.stands, stands), stands) {
            (None, Some(_)) => Some(Change::Stands),
            (Some(_), None) => Some(Change::MovesAgain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> Moment {
        Moment(second * SECOND)
    }

    fn sign(beats: Option<u64>) -> Sign {
        Sign { is_running: beats.is_some(), beats: beats.unwrap_or_default() }
    }

    fn look(vigil: &mut Vigil, second: u64, lanes: [Option<u64>; 2]) -> Option<Change> {
        vigil.look(at(second), 1000 + second, lanes.map(sign))
    }

    #[test]
    fn a_pass_stands_after_the_whole_period_without_a_sign_and_moves_with_the_next_one() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        assert_eq!(look(&mut vigil, 0, [None, Some(1)]), None);
        assert_eq!(vigil.deadline(), Some(at(60)));
        assert_eq!(look(&mut vigil, 20, [None, Some(2)]), None);
        assert_eq!(look(&mut vigil, 79, [None, Some(2)]), None);
        assert_eq!(look(&mut vigil, 80, [None, Some(2)]), Some(Change::Stands));
        assert_eq!(vigil.stands(), Some(1020));
        assert_eq!(look(&mut vigil, 90, [None, Some(2)]), None, "said once");
        assert_eq!(look(&mut vigil, 91, [None, Some(3)]), Some(Change::MovesAgain));
        assert_eq!(vigil.stands(), None);
    }

    #[test]
    fn passes_that_come_and_go_in_one_lane_do_not_hide_that_the_other_stands() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        for second in 0..60 {
            let express = (second % 2 == 0).then_some(second);
            assert_eq!(look(&mut vigil, second, [express, Some(7)]), None);
        }
        assert_eq!(look(&mut vigil, 60, [Some(60), Some(7)]), Some(Change::Stands));
        assert_eq!(look(&mut vigil, 61, [None, None]), Some(Change::MovesAgain), "it has ended");
    }

    #[test]
    fn nothing_is_due_while_no_pass_runs_and_a_pass_that_begins_has_its_time() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        assert_eq!(look(&mut vigil, 0, [None, None]), None);
        assert_eq!(vigil.deadline(), None);
        assert_eq!(look(&mut vigil, 500, [Some(0), None]), None);
        assert_eq!(look(&mut vigil, 501, [Some(0), None]), None);
        assert_eq!(vigil.deadline(), Some(at(560)));
    }
}
