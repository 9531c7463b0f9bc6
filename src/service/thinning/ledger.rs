//! Owns what is known of the journal's files while it is thinned out: when their lines are of, and what these keep. All of
//! it is found again by reading.

use std::collections::BTreeMap;

use crate::fs::history::thinning::{Counted, Sum};
use crate::plan::keep::{Policy, Share};
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};

/// A file of the journal.
#[derive(Clone, Debug)]
pub struct Segment {
    /// As far as it was read, and as large as it is.
    pub read: u64,
    pub size: u64,
    /// What its lines keep.
    pub sum: Sum,
    /// Some of it may be files with several names.
    pub has_linked: bool,
    /// The times of the first and the last line that tells of a change or a run.
    pub first: Option<Time>,
    pub last: Time,
    /// What was last said of whether everything is told from then on.
    pub told: Option<(Time, bool)>,
    /// What had come of age by this moment, in seconds since 1970, is thinned out.
    pub thinned: i64,
}

impl Default for Segment {
    fn default() -> Self {
        let (sum, last) = (Sum::default(), Time::default());
        Self { read: 0, size: 0, sum, has_linked: false, first: None, last, told: None, thinned: i64::MIN }
    }
}

impl Segment {
    /// Takes in a line, with what it keeps.
    pub fn add(&mut self, line: &Line, kept: Option<Counted>) {
        match line.event {
            Event::Since => self.told = Some((line.at, true)),
            Event::Gap => self.told = Some((line.at, false)),
            Event::Follows { .. } => {}
            _ => {
                self.first.get_or_insert(line.at);
            }
        }
        self.last = self.last.max(line.at);
        if let Some(kept) = kept {
            self.sum.count += 1;
            self.sum.bytes += kept.bytes;
            self.has_linked |= kept.is_linked;
        }
    }

    pub fn less(&mut self, gone: Sum) {
        self.sum.count = self.sum.count.saturating_sub(gone.count);
        self.sum.bytes = self.sum.bytes.saturating_sub(gone.bytes);
    }

    /// When one of its lines may next go by its age, without being too old: a moment that may have gone by, or never.
    pub fn due(&self, policy: &Policy) -> Option<i64> {
        let first = self.first?.sec;
        let ages = edges(policy).filter(|age| self.last.sec.saturating_add(*age) > self.thinned);
        ages.map(|age| first.saturating_add(age)).min()
    }

    /// Whether one of its lines may go now.
    pub fn is_due(&self, policy: &Policy, now: i64) -> bool {
        self.first.is_some_and(|first| {
            edges(policy)
                .any(|age| first.sec.saturating_add(age) <= now && self.last.sec.saturating_add(age) > self.thinned)
        })
    }
}

/// The ages at which less is kept than before, in seconds.
fn edges(policy: &Policy) -> impl Iterator<Item = i64> {
    let mut from = 0;
    policy.stages().iter().filter_map(move |stage| {
        let start = std::mem::replace(&mut from, seconds(stage.until));
        // What is just so old in whole seconds is not older.
        let start = if start > 0 { start.saturating_add(1) } else { 0 };
        (stage.share != Share::All).then_some(start)
    })
}

pub fn seconds(age: std::time::Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}

/// All files, by their names, which sort as their times do.
#[derive(Debug, Default)]
pub struct Ledger(pub BTreeMap<String, Segment>);

impl Ledger {
    pub fn sum(&self) -> Sum {
        self.0.values().fold(Sum::default(), |all, one| all + one.sum)
    }

    pub fn journal(&self) -> u64 {
        self.0.values().map(|segment| segment.size).sum()
    }

    /// From when on everything is told.
    pub fn since(&self) -> Option<Time> {
        let (at, is_told) = self.0.values().rev().find_map(|segment| segment.told)?;
        is_told.then_some(at)
    }

    /// The oldest line that tells of anything.
    pub fn oldest(&self) -> Option<Time> {
        self.0.values().find_map(|segment| segment.first)
    }
}
