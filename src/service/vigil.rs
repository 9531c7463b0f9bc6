//! Owns the watch over all that may wait for a disk, the lanes and the looks at the roots: whether what runs still moves.
//! It asks for no time of its own while nothing runs, and decides nothing about what does not move.

use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::Moment;

/// What may not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Pass,
    /// At the roots, from outside of a pass.
    Look,
}

/// In the order of the signs that `look` is given: both lanes, and the look.
const WATCHED: [What; 3] = [What::Pass, What::Pass, What::Look];

/// Something does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// Since when, in seconds since 1970.
    pub since: u64,
    pub what: What,
}

/// What is watched, as it is now.
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
    Stands(Standstill),
    MovesAgain(What),
}

#[derive(Debug)]
pub struct Vigil {
    period: Duration,
    looked: Moment,
    seen: [Seen; WATCHED.len()],
    stands: Option<Standstill>,
    /// What was said to stand, whatever else does by now: of that it is said that it moves again.
    said: Option<What>,
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
    /// What gives no sign of life for this long is said not to move.
    pub fn new(period: Duration) -> Self {
        Self { period, looked: Moment::default(), seen: Default::default(), stands: None, said: None }
    }

    /// What has not moved for longest, a pass before a look.
    pub fn stands(&self) -> Option<Standstill> {
        self.stands
    }

    /// When to look again, while anything runs.
    pub fn deadline(&self) -> Option<Moment> {
        let running = self.seen.iter().filter(|lane| lane.is_running);
        let due = running.map(|lane| later(lane.moved, self.period)).min()?;
        // One that moves again is to be seen soon.
        Some(if self.stands.is_some() { later(self.looked, self.period / 8) } else { due })
    }

    /// Looks at both lanes and the look; `wall` is now in seconds since 1970.
    pub fn look(&mut self, now: Moment, wall: u64, signs: [Sign; WATCHED.len()]) -> Option<Change> {
        self.looked = now;
        let mut stands: Option<Standstill> = None;
        for ((seen, sign), what) in self.seen.iter_mut().zip(signs).zip(WATCHED) {
            if !(seen.is_running && sign.is_running && seen.beats == sign.beats) {
                *seen = Seen { is_running: sign.is_running, beats: sign.beats, moved: now, wall };
            } else if now >= later(seen.moved, self.period) {
                let here = Standstill { since: seen.wall, what };
                stands = stands.filter(|other| what == What::Look || other.since <= seen.wall).or(Some(here));
            }
        }
        match (std::mem::replace(&mut self.stands, stands), stands) {
            (None, Some(stands)) => {
                self.said = Some(stands.what);
                Some(Change::Stands(stands))
            }
            (Some(_), None) => self.said.take().map(Change::MovesAgain),
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
        vigil.look(at(second), 1000 + second, [sign(lanes[0]), sign(lanes[1]), sign(None)])
    }

    fn stands(since: u64, what: What) -> Option<Change> {
        Some(Change::Stands(Standstill { since, what }))
    }

    #[test]
    fn a_pass_stands_after_the_whole_period_without_a_sign_and_moves_with_the_next_one() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        assert_eq!(look(&mut vigil, 0, [None, Some(1)]), None);
        assert_eq!(vigil.deadline(), Some(at(60)));
        assert_eq!(look(&mut vigil, 20, [None, Some(2)]), None);
        assert_eq!(look(&mut vigil, 79, [None, Some(2)]), None);
        assert_eq!(look(&mut vigil, 80, [None, Some(2)]), stands(1020, What::Pass));
        assert_eq!(vigil.stands(), Some(Standstill { since: 1020, what: What::Pass }));
        assert_eq!(look(&mut vigil, 90, [None, Some(2)]), None, "said once");
        assert_eq!(look(&mut vigil, 91, [None, Some(3)]), Some(Change::MovesAgain(What::Pass)));
        assert_eq!(vigil.stands(), None);
    }

    #[test]
    fn passes_that_come_and_go_in_one_lane_do_not_hide_that_the_other_stands() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        for second in 0..60 {
            let express = (second % 2 == 0).then_some(second);
            assert_eq!(look(&mut vigil, second, [express, Some(7)]), None);
        }
        assert_eq!(look(&mut vigil, 60, [Some(60), Some(7)]), stands(1000, What::Pass));
        assert_eq!(look(&mut vigil, 61, [None, None]), Some(Change::MovesAgain(What::Pass)), "it has ended");
    }

    #[test]
    fn a_look_that_does_not_come_back_stands_and_a_pass_that_does_is_what_is_spoken_of() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        let mut look = |second: u64, pass: Option<u64>, looks: Option<u64>| {
            let change = vigil.look(at(second), 1000 + second, [sign(None), sign(pass), sign(looks)]);
            (change, vigil.stands())
        };
        assert_eq!(look(0, None, Some(1)), (None, None));
        let stood = Standstill { since: 1000, what: What::Look };
        assert_eq!(look(60, Some(1), Some(1)), (Some(Change::Stands(stood)), Some(stood)));
        let pass = Standstill { since: 1060, what: What::Pass };
        assert_eq!(look(120, Some(1), Some(1)), (None, Some(pass)), "said once");
        assert_eq!(look(121, Some(2), Some(1)), (None, Some(stood)), "the look does not move yet");
        assert_eq!(look(122, Some(2), Some(2)), (Some(Change::MovesAgain(What::Look)), None), "it is another look");
    }

    #[test]
    fn what_was_said_to_stand_is_what_moves_again() {
        let mut vigil = Vigil::new(Duration::from_secs(60));
        let mut look = |second: u64, pass: Option<u64>, looks: Option<u64>| {
            vigil.look(at(second), 1000 + second, [sign(None), sign(pass), sign(looks)])
        };
        look(0, Some(1), None);
        assert_eq!(look(60, Some(1), Some(1)), stands(1000, What::Pass));
        assert_eq!(look(120, Some(2), Some(1)), None, "now it is the look");
        assert_eq!(look(121, Some(3), None), Some(Change::MovesAgain(What::Pass)));
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
