//! Owns thinning out what is due by its stages: which stretches of the journal are read for that, and the way from the lines
//! to those that go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rustix::io::Errno;

use super::ledger::Segment;
use super::periods::Periods;
use super::work::{Work, now};
use crate::fs::history::thinning::{Step, Sum, decoded, word};
use crate::plan::keep::{Policy, Share};
use crate::plan::thin::{Survey, Thin};
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};

const HOUR: i64 = 3600;

impl Work {
    /// Thins out what is due.
    pub(super) fn thin_out(&mut self, policy: &Policy, step: Step) -> Result<(), Errno> {
        let now = now();
        let mut periods = Periods::new(policy, now);
        // Where what is due begins, with its whole period, and where it ends.
        let mut stretches: Vec<(i64, i64)> = Vec::new();
        for segment in self.ledger.0.values().filter(|segment| segment.is_due(policy, now)) {
            let Some(first) = segment.first else { continue };
            let begin = periods.begin(first);
            match stretches.last_mut() {
                Some((_, end)) if begin <= *end => *end = segment.last.sec + HOUR,
                // One file more: what is void is said to be so soon after it.
                _ => stretches.push((begin, segment.last.sec + HOUR)),
            }
        }
        for (begin, end) in stretches {
            let is_in = |segment: &&Segment| segment.last.sec >= begin && segment.first.is_some_and(|f| f.sec <= end);
            let files = self.ledger.0.iter().filter(|(_, segment)| is_in(segment));
            let files: Vec<(String, u64)> = files.map(|(name, segment)| (name.clone(), segment.read)).collect();
            self.thin_files(&files, &mut periods, step)?;
        }
        for segment in self.ledger.0.values_mut() {
            // What has come in this second is looked at once more.
            segment.thinned = now - 1;
        }
        Ok(())
    }

    fn thin_files(&mut self, files: &[(String, u64)], periods: &mut Periods, step: Step) -> Result<(), Errno> {
        let start = Instant::now();
        let mut survey = Survey::default();
        for (name, size) in files {
            let mut lines = self.thinner.read(name, 0, *size)?;
            while let Some(raw) = lines.line()? {
                if Survey::wants(word(raw))
                    && let Some(line) = decoded(raw)
                {
                    survey.see(&line);
                }
                if !step() {
                    return Err(Errno::CANCELED);
                }
            }
        }
        let (mut number, mut starts) = (0u32, Vec::new());
        let gone = std::cell::RefCell::new(Bits::default());
        let mut thin = Thin::new(survey, |number| gone.borrow_mut().set(number));
        for (name, size) in files {
            starts.push(number);
            let mut is_first = true;
            let mut lines = self.thinner.read(name, 0, *size)?;
            while let Some(raw) = lines.line()? {
                if let Some(line) = decoded(raw) {
                    thin.see(number, &line, periods.group(line.at), !std::mem::take(&mut is_first));
                }
                number = number.saturating_add(1);
                if !step() {
                    return Err(Errno::CANCELED);
                }
            }
        }
        thin.finish();
        let gone = gone.into_inner();
        starts.push(number);
        self.judge(u64::from(number), start, gone.count());
        let mut all = Sum::default();
        // The newest first: what makes a later line needless must not go before it.
        for ((name, _), bounds) in files.iter().zip(starts.windows(2)).rev() {
            let (start, end) = (bounds[0], bounds[1]);
            if (start..end).any(|number| gone.has(number)) {
                let (notes, merged) = self.notes(name, |number| gone.has(start + number), periods, step)?;
                let goes = |number| gone.has(start + number) || merged.contains(&number);
                let (removed, decided) = self.rewrite(name, notes, goes, step)?;
                all = all + removed;
                if let Some(segment) = self.ledger.0.get_mut(name) {
                    (segment.read, segment.size) = (decided, decided);
                }
            }
        }
        self.tell("thinned out", all, false);
        Ok(())
    }

    /// What is written in the place of lines that go: of each period, that something went. Also the numbers of older notes of
    /// the same periods, which go too.
    fn notes(
        &mut self,
        name: &str,
        goes: impl Fn(u32) -> bool,
        periods: &mut Periods,
        step: Step,
    ) -> Result<(BTreeMap<u32, Line>, BTreeSet<u32>), Errno> {
        let Some(size) = self.ledger.0.get(name).map(|segment| segment.read) else { return Err(Errno::NOENT) };
        let mut of_periods: BTreeMap<(Share, i64), Note> = BTreeMap::new();
        let (mut number, mut lines) = (0, self.thinner.read(name, 0, size)?);
        while let Some(raw) = lines.line()? {
            let is_note = word(raw) == b"thinned";
            if (goes(number) || is_note)
                && let Some(line) = decoded(raw)
                && !matches!(line.event, Event::Began | Event::Ended | Event::Void { .. })
            {
                let until = if let Event::Thinned { to, .. } = line.event { to } else { line.at };
                let fresh = Note { number, at: line.at, until, old: Vec::new(), is_new: false };
                let note = of_periods.entry(periods.group(line.at)).or_insert(fresh);
                note.until = note.until.max(until);
                note.is_new |= !is_note;
                note.old.extend(is_note.then_some(number));
            }
            number += 1;
            if !step() {
                return Err(Errno::CANCELED);
            }
        }
        let (mut notes, mut merged) = (BTreeMap::new(), BTreeSet::new());
        for note in of_periods.into_values().filter(|note| note.is_new) {
            let event = Event::Thinned { from: periods.start(note.at), to: note.until };
            notes.insert(note.number, Line::of_journal(note.at, event));
            merged.extend(note.old);
        }
        Ok((notes, merged))
    }
}

/// What is to be noted of a period.
struct Note {
    /// Where the first line stood, and its time.
    number: u32,
    at: Time,
    until: Time,
    /// The lines that have noted it before.
    old: Vec<u32>,
    is_new: bool,
}

/// A bit for each line.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 64);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}
