//! Owns which period a line lies in, by local time, and where the stretches begin that are thinned out together.

use jiff::Timestamp;

use super::ledger::seconds;
use crate::fs::history::local_zone;
use crate::plan::keep::{Policy, Share};
use crate::tree::entry::Time;

/// Local time is at one distance from UTC for so many seconds at least.
const STEADY: i64 = 900;

/// Ages and periods as of one moment.
#[derive(Debug)]
pub struct Periods {
    policy: Policy,
    now: i64,
    /// The distance from UTC that was last asked for.
    offset: Option<(i64, i64)>,
}

impl Periods {
    pub fn new(policy: &Policy, now: i64) -> Self {
        Self { policy: policy.clone(), now, offset: None }
    }

    /// What is kept of the age of this moment, and the period that it lies in.
    pub fn group(&mut self, at: Time) -> (Share, i64) {
        let age = std::time::Duration::from_secs(u64::try_from(self.now - at.sec).unwrap_or_default());
        // What is older than all stages goes anyway.
        let share = self.policy.share(age).or(self.policy.stages().last().map(|stage| stage.share));
        match share.unwrap_or(Share::All) {
            Share::All => (Share::All, 0),
            share => (share, share.period(self.local(at.sec))),
        }
    }

    fn local(&mut self, at: i64) -> i64 {
        let step = at.div_euclid(STEADY);
        let offset = match self.offset {
            Some((known, offset)) if known == step => offset,
            _ => {
                let time = Timestamp::new(at, 0).unwrap_or_default();
                let offset = i64::from(local_zone().to_offset(time).seconds());
                self.offset = Some((step, offset));
                offset
            }
        };
        at + offset
    }

    /// The beginning of the period that this moment lies in, where not all of its age is kept.
    pub fn start(&mut self, at: Time) -> Time {
        let (share, period) = self.group(at);
        let (mut before, mut within) = (at.sec - share.length() - 1, at.sec);
        while within - before > 1 {
            let middle = before.midpoint(within);
            let is_within = share.period(self.local(middle)) >= period;
            *if is_within { &mut within } else { &mut before } = middle;
        }
        Time { sec: within, nsec: 0 }
    }

    /// No later than the beginning of the period that this moment lies in.
    pub fn begin(&mut self, at: Time) -> i64 {
        let (share, _) = self.group(at);
        at.sec - share.length().min(seconds(self.policy.horizon()))
    }
}
