//! Owns one look at the history: what has come is counted; what is too old, or too much, goes, oldest first; what is due
//! is thinned out; and what no line names is looked for where something was interrupted.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::ledger::{Ledger, seconds};
use super::{OFTEN, SELDOM};
use crate::fs::history::History;
use crate::fs::history::thinning::{Rewrite, Step, Sum, Thinner, decoded, orphans};
use crate::plan::keep::{Keep, Policy};
use crate::service::clock;
use crate::service::pass::describe;
use crate::service::room::{Figures, Keeping, Need, lacking};
use crate::service::rules::InForce;
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};
use crate::tree::totals::Bytes;

/// What is to become room is made by this part more than it must be, so that it is not made line by line.
const MORE: u64 = 16;
/// It is hurried with if at least one line of so many goes.
const WORTH: u64 = 4;
/// What no line names is looked for this often, in seconds, if anything happens at all.
const DAY: i64 = 24 * 3600;

/// Where a line for the log goes.
pub type Teller = Box<dyn Fn(bool, String) + Send>;

/// The thread's own.
pub struct Work {
    pub(super) thinner: Thinner,
    history: Arc<History>,
    in_force: Arc<InForce>,
    pub(super) keeping: Arc<Keeping>,
    /// Says what was done; whether it is more than what was to be expected.
    teller: Teller,
    pub(super) ledger: Ledger,
    /// The policy by which the ledger's files are thinned out.
    policy: Policy,
    /// When everything was last looked through for what no line names.
    walked: i64,
    is_unclean: bool,
    failed: Option<Errno>,
    /// Lines that were read in this look to find those that go, and lines that went.
    judged: u64,
    dropped: u64,
    /// How long it was read for that.
    reading: Duration,
    hurry: Arc<AtomicBool>,
}

impl Work {
    pub fn new(
        (thinner, history): (Thinner, Arc<History>),
        in_force: Arc<InForce>,
        keeping: Arc<Keeping>,
        teller: Teller,
    ) -> Self {
        Self {
            thinner,
            history,
            in_force,
            keeping,
            teller,
            ledger: Ledger::default(),
            policy: Policy::default(),
            walked: now(),
            is_unclean: false,
            failed: None,
            judged: 0,
            dropped: 0,
            reading: Duration::ZERO,
            hurry: Arc::default(),
        }
    }

    /// The same with this history.
    #[cfg(test)]
    pub fn with(self, history: Arc<History>) -> Self {
        Self { history, ..self }
    }

    /// Writes each file anew as it is.
    #[cfg(test)]
    pub fn rewrite_all(&mut self) {
        let names: Vec<String> = self.ledger.0.keys().cloned().collect();
        for name in names {
            let (_, decided) = self.rewrite(&name, BTreeMap::new(), |_| false, &mut || true).expect("done");
            if let Some(segment) = self.ledger.0.get_mut(&name) {
                (segment.read, segment.size) = (decided, decided);
            }
        }
    }

    fn keep(&self) -> Keep {
        self.in_force.now().keep.clone()
    }

    pub fn has_bounds(&self) -> bool {
        let keep = self.keep();
        keep.max.is_some() || keep.free.is_some()
    }

    /// How far apart looks are.
    pub fn spacing(&self) -> Duration {
        (self.keep().policy.first() / 10).clamp(OFTEN, SELDOM)
    }

    /// How long until something is due; never, where nothing is kept that could go.
    pub fn due(&self) -> Option<Duration> {
        let (policy, now) = (self.keep().policy, now());
        let old = self.ledger.oldest().map(|oldest| oldest.sec.saturating_add(seconds(policy.horizon())));
        let due = self.ledger.0.values().filter_map(|segment| segment.due(&policy)).chain(old).min()?;
        // A line is too old only when its second is over.
        Some(Duration::from_secs(u64::try_from(due + 1 - now).unwrap_or_default()))
    }

    /// For how long the last look has read lines that stay: it will be in vain the next time as well.
    pub fn in_vain(&self) -> Duration {
        let stay = self.judged.saturating_sub(self.dropped);
        self.reading.mul_f64(stay as f64 / self.judged.max(1) as f64)
    }

    /// Set while much of what was looked at goes: it must not come faster than that.
    pub fn hurry(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.hurry)
    }

    /// Notes that so many lines were read to find those that go.
    pub(super) fn judge(&mut self, read: u64, since: Instant, go: u64) {
        self.judged += read;
        self.dropped += go;
        self.reading += since.elapsed();
        self.hurry.store(self.dropped * WORTH >= self.judged, Ordering::Relaxed);
    }

    /// Says what went wrong, once.
    pub fn report(&mut self, result: Result<(), Errno>) {
        let error = result.err().filter(|error| *error != Errno::CANCELED);
        if let Some(error) = error
            && self.failed != Some(error)
        {
            (self.teller)(false, format!("What is kept could not be thinned out: {}", describe(error)));
        }
        self.failed = error;
    }

    /// One look, and what follows from it.
    ///
    /// # Errors
    /// As of the calls on files; ECANCELED where `step` said no. All is as it must be then.
    pub fn pass(&mut self, step: Step) -> Result<(), Errno> {
        let keep = self.keep();
        (self.judged, self.dropped, self.reading) = (0, 0, Duration::ZERO);
        self.hurry.store(false, Ordering::Relaxed);
        self.refresh(step)?;
        self.publish();
        let limit = now().saturating_sub(seconds(keep.policy.horizon()));
        if !keep.policy.is_off() && self.ledger.oldest().is_some_and(|oldest| oldest.sec < limit) {
            let gone = self.drop_before(Time { sec: limit - 1, nsec: 999_999_999 }, step)?;
            self.tell("too old", gone, false);
        }
        let taken = self.taken() + self.ledger.journal();
        if let Some(max) = keep.max.filter(|max| taken > *max) {
            let bytes = taken - (max - max / MORE);
            let gone = self.give_up(Need { bytes, count: 0 }, step)?;
            self.tell("more than --keep-max", gone, false);
        }
        if let Some(room) = keep.free
            && let Ok(disk) = rustix::fs::fstatvfs(self.thinner.as_fd())
        {
            let need = lacking(&disk, room, None);
            if self.could(need) {
                let gone = self.give_up(need, step)?;
                self.tell("room on the disk", gone, true);
            }
        }
        if self.policy != keep.policy {
            self.ledger.0.values_mut().for_each(|segment| segment.thinned = i64::MIN);
            self.policy = keep.policy.clone();
        }
        self.thin_out(&keep.policy, step)?;
        let is_due = now() - self.walked > DAY;
        if self.is_unclean || is_due || self.thinner.is_marked() {
            let gone = orphans::remove(&mut self.thinner, &self.history, step)?;
            self.tell("named by no line", gone, false);
            (self.is_unclean, self.walked) = (false, now());
            // What is counted may have drifted.
            if is_due {
                self.forget();
                self.refresh(step)?;
            }
        }
        self.publish();
        Ok(())
    }

    /// Makes room, if what is kept can: nothing goes in vain. Returns whether anything went.
    ///
    /// # Errors
    /// As of `pass`.
    pub fn make_room(&mut self, need: Need, step: Step) -> Result<bool, Errno> {
        self.refresh(step)?;
        if !self.could(need) {
            return Ok(false);
        }
        let gone = self.give_up(need, step)?;
        self.tell("room on the disk", gone, true);
        self.publish();
        Ok(gone.count > 0)
    }

    /// Whether something is needed, and all that is kept would be enough for it.
    fn could(&self, need: Need) -> bool {
        !need.is_none() && self.ledger.sum().count > 0 && need.bytes <= self.taken()
    }

    /// What all that is kept takes on disk, in bytes.
    fn taken(&self) -> u64 {
        self.ledger.sum().bytes + self.thinner.linked()
    }

    pub(super) fn tell(&self, why: &str, gone: Sum, is_early: bool) {
        if gone.count == 0 {
            return;
        }
        let versions = if gone.count == 1 { "version" } else { "versions" };
        let text = format!("No longer kept: {} {versions}, {} ({why})", gone.count, Bytes(gone.freed()));
        (self.teller)(is_early, text);
    }

    fn publish(&self) {
        let sum = self.ledger.sum();
        self.keeping.set_figures(Figures {
            versions: sum.count,
            bytes: self.taken(),
            journal: self.ledger.journal(),
            // Not before: at the beginning of that second less was told.
            since: self.ledger.since().map(|since| since.sec + i64::from(since.nsec > 0)),
        });
    }

    pub(super) fn forget(&mut self) {
        self.ledger = Ledger::default();
        self.thinner.forget();
    }

    /// Reads what has come to the journal.
    fn refresh(&mut self, step: Step) -> Result<(), Errno> {
        let there = self.thinner.segments()?;
        let is_as_read = |(name, size): &(String, u64)| self.ledger.0.get(name).is_none_or(|s| s.read <= *size);
        if !there.iter().all(is_as_read) {
            // Somebody else writes there.
            self.forget();
        }
        let is_first = self.ledger.0.is_empty();
        self.ledger.0.retain(|name, _| there.iter().any(|(there, _)| there == name));
        self.thinner.look_again();
        let mut is_ended = true;
        for (name, size) in there {
            let segment = self.ledger.0.entry(name.clone()).or_default();
            let mut lines = self.thinner.read(&name, segment.read, size)?;
            segment.size = size;
            while let Some(raw) = lines.line()? {
                if !raw.ends_with(b"\n") {
                    // It is being written.
                    break;
                }
                segment.read += raw.len() as u64;
                if let Some(line) = decoded(raw) {
                    match line.event {
                        // The last beginning is the one that counts.
                        Event::Began if is_first => self.is_unclean = !std::mem::take(&mut is_ended),
                        Event::Ended => is_ended = true,
                        _ => {}
                    }
                    let kept = self.thinner.count(&line);
                    segment.add(&line, kept);
                }
                if !step() {
                    return Err(Errno::CANCELED);
                }
            }
        }
        Ok(())
    }

    /// Lets the oldest go until that is enough.
    fn give_up(&mut self, need: Need, step: Step) -> Result<Sum, Errno> {
        match self.cut(need, step)? {
            Some(cut) => self.drop_before(cut, step),
            None => Ok(Sum::default()),
        }
    }

    /// Up to which line the oldest have to go for that.
    fn cut(&mut self, need: Need, step: Step) -> Result<Option<Time>, Errno> {
        let (mut left, mut cut) = (need, None);
        for (name, segment) in &self.ledger.0 {
            let room = segment.sum.bytes + segment.size;
            if room <= left.bytes && !segment.has_linked {
                left.bytes -= room;
                left.count = left.count.saturating_sub(segment.sum.count);
                cut = segment.first.map(|_| segment.last).or(cut);
                if left.is_none() {
                    return Ok(cut);
                }
                continue;
            }
            let mut lines = self.thinner.read(name, 0, segment.read)?;
            while let Some(raw) = lines.line()? {
                let Some(line) = decoded(raw) else { continue };
                let bytes = self.thinner.measure(&line);
                left.bytes = left.bytes.saturating_sub(bytes.unwrap_or_default() + raw.len() as u64);
                left.count = left.count.saturating_sub(u64::from(bytes.is_some()));
                cut = Some(line.at);
                if left.is_none() {
                    return Ok(cut);
                }
                if !step() {
                    return Err(Errno::CANCELED);
                }
            }
        }
        Ok(cut)
    }

    /// Lets all lines go that are no later than this, with what they keep. First it is said, and on disk, that what is told
    /// begins later now.
    fn drop_before(&mut self, cut: Time, step: Step) -> Result<Sum, Errno> {
        let names: Vec<String> = self.ledger.0.keys().cloned().collect();
        let is_left = |name: &&String| self.ledger.0.get(*name).is_some_and(|segment| segment.last > cut);
        let Some(edge) = names.iter().find(is_left).or(names.last()).cloned() else { return Ok(Sum::default()) };
        let older: Vec<&String> = names.iter().take_while(|name| **name < edge).collect();
        let (mut told, mut last) = (None, Time::default());
        for segment in older.iter().filter_map(|name| self.ledger.0.get(*name)) {
            (told, last) = (segment.told.or(told), segment.last.max(last));
        }
        let Some(segment) = self.ledger.0.get(&edge).cloned() else { return Ok(Sum::default()) };
        let (start, mut read) = (Instant::now(), 0);
        let (mut count, mut is_change, mut first, mut left) = (0, false, None, None);
        let mut lines = self.thinner.read(&edge, 0, segment.read)?;
        let mut is_behind = false;
        while let Some(raw) = lines.line()? {
            let line = decoded(raw);
            let is_follows = line.as_ref().is_some_and(|line| matches!(line.event, Event::Follows { .. }));
            is_behind |= line.as_ref().is_some_and(|line| line.at > cut && !is_follows);
            match line.map(|line| (line.at, line.event)) {
                // What it names goes, too.
                Some((_, Event::Follows { .. })) => {}
                Some((at, event @ (Event::Since | Event::Gap))) if is_behind => {
                    left = Some((at, event == Event::Since))
                }
                Some((at, event @ (Event::Since | Event::Gap))) => {
                    (told, last) = (Some((at, event == Event::Since)), last.max(at));
                }
                Some((at, _)) if is_behind => first = first.or(Some(at)),
                Some((at, _)) => (is_change, last) = (true, last.max(at)),
                None => {}
            }
            count += u32::from(!is_behind);
            read += 1;
            if !step() {
                return Err(Errno::CANCELED);
            }
        }
        self.judge(read, start, u64::from(count));
        let mut gone = Sum::default();
        if is_change || !older.is_empty() {
            let is_told = told.is_none_or(|(_, is_told)| is_told);
            let event = if is_told { Event::Since } else { Event::Gap };
            let first_line = Line::of_journal(last, event);
            let (removed, decided) =
                self.rewrite(&edge, BTreeMap::from([(0, first_line)]), |number| number < count, step)?;
            gone = removed;
            if let Some(segment) = self.ledger.0.get_mut(&edge) {
                (segment.first, segment.told) = (first, left.or(Some((last, is_told))));
                (segment.read, segment.size) = (decided, decided);
            }
        }
        for name in older {
            let removed = self.thinner.remove(name, step)?;
            self.ledger.0.remove(name);
            gone = gone + removed;
        }
        Ok(gone)
    }

    pub(super) fn rewrite(
        &mut self,
        name: &str,
        new: BTreeMap<u32, Line>,
        goes: impl Fn(u32) -> bool,
        step: Step,
    ) -> Result<(Sum, u64), Errno> {
        let Some(segment) = self.ledger.0.get_mut(name) else { return Err(Errno::NOENT) };
        let is_current = self.history.journal().current().as_str() <= name;
        let order = Rewrite { name, is_current, upto: segment.read, new, goes };
        let (gone, decided) = self.thinner.rewrite(&self.history, &order, step)?;
        segment.less(gone);
        Ok((gone, decided))
    }
}

pub(super) fn now() -> i64 {
    i64::try_from(clock::wall()).unwrap_or(i64::MAX)
}
