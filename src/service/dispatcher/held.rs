//! Owns the hold on removals from its beginning to its end, across restarts: what is held, since when, and what a
//! person has released of it. It decides nothing about a removal (see `plan::guard`).

use std::sync::Arc;
use std::time::Duration;

use super::screen::timestamp_of;
use crate::plan::guard::{FREE, Held, Release, WINDOW, Window};
use crate::plan::schedule::until;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::service::pass::Outcome;
use crate::service::report;
use crate::tree::codec::{put, put_bytes, take, take_bytes, take_counted};
use crate::tree::doubt::{DirtySet, Moment};
use crate::tree::path::RelPath;

/// Removals that wait for a person.
#[derive(Default)]
pub struct Hold {
    held: Arc<Held>,
    /// Since when, in seconds since 1970.
    since: u64,
    /// What was held when a person let it go, and when that was, until a pass takes it.
    released: Option<(Moment, Arc<Held>)>,
    /// How many entries the log spoke of last.
    said: u64,
    is_changed: bool,
    /// The next pass judges all of it anew.
    is_anew: bool,
}

/// The names of the facts in the archive.
const HELD: &str = "held";
const RECENT: &str = "removed lately";
/// The removals of the last minute are kept anew after this time, or when they are half as many again.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// The form of the kept bytes. Another one is as good as none.
const FORMAT: &[u8] = b"\x01";
/// What a person can do.
pub const REMEDY: &str = "Run `driftless release` to let them happen, or bring the files back";

impl Hold {
    /// What was held when the service last ran, unless the person allows more by now: then all is judged anew.
    pub fn restore(pair: &Pair) -> Self {
        let kept = pair.fact(HELD).and_then(|bytes| decode(&bytes));
        let Some(kept) = kept.filter(|kept| !kept.held.is_empty() && kept.percent >= pair.rules().max_delete) else {
            return Self::default();
        };
        let entries = kept.held.entries();
        pair.log.warn(format_args!(
            "Held since {}: {}, as before this start. {REMEDY}",
            timestamp_of(kept.since),
            report::removals(pair, entries)
        ));
        Self { held: Arc::new(kept.held), since: kept.since, said: entries, ..Self::default() }
    }

    /// Takes in what came of a pass of the lane that removes. Logs the beginning, the end, and when it has doubled.
    pub fn settle(&mut self, pair: &Pair, dirty: &DirtySet, outcome: &Outcome) {
        if self.held.is_empty() && outcome.held.is_empty() {
            return;
        }
        let mut held = Held::clone(&self.held);
        // Nothing is known of what was not reached, could not be read, or is looked at again at once.
        if !outcome.cancelled && !outcome.displaced {
            let unread = Held::new(outcome.problems.iter().map(|problem| (problem.path.clone(), 0)), 0);
            held.retain(|path| !dirty.covers(path) || outcome.again.covers(path) || unread.covers(path));
            if dirty.is_everything() {
                held.forget_unlisted();
            }
        }
        for (path, entries) in &outcome.held {
            held.insert(path.clone(), *entries);
        }
        if held == *self.held {
            return;
        }
        let begins = self.held.is_empty();
        self.held = Arc::new(held);
        self.is_changed = true;
        let entries = self.held.entries();
        if entries == 0 {
            self.said = 0;
            pair.log.info("No removals are held any more");
            self.keep(pair);
        } else if begins || entries >= self.said.saturating_mul(2) {
            self.said = entries;
            if begins {
                self.since = clock::wall();
            }
            let what = if begins { "more than --max-delete allows at once" } else { "by now" };
            pair.log.warn(format_args!(
                "Held: {}, {what}; everything else was done. {REMEDY}",
                report::removals(pair, entries)
            ));
            self.keep(pair);
        }
    }

    /// A person lets go what is held now. Returns whether anything is.
    pub fn release(&mut self, pair: &Pair, now: Moment) -> bool {
        if self.held.is_empty() {
            return false;
        }
        pair.log.info(format_args!(
            "Released: {} that were held may happen now",
            report::removals(pair, self.held.entries())
        ));
        let since = self.released.as_ref().map_or(now, |(since, _)| *since);
        self.released = Some((since, Arc::clone(&self.held)));
        true
    }

    /// Takes back what a pass was to let go that was never begun.
    pub fn give_back(&mut self, release: Release, now: Moment) {
        if let Release::These(released) = release {
            self.released.get_or_insert((now, released));
        }
    }

    /// A person allows more: the next pass, which has to be a sweep, judges anew all that is held by then.
    pub fn judge_anew(&mut self, pair: &Pair) {
        if !self.held.is_empty() {
            let entries = self.held.entries();
            pair.log.info(format_args!(
                "Judged anew: {} that were held, by the new --max-delete",
                report::removals(pair, entries)
            ));
        }
        (self.is_anew, self.is_changed) = (true, true);
    }

    /// What the next pass has to go by, and what it may do once.
    pub fn take_release(&mut self) -> (Arc<Held>, Release) {
        if std::mem::take(&mut self.is_anew) {
            (self.held, self.said) = (Arc::default(), 0);
        }
        match self.released.take() {
            Some((_, released)) => (Arc::new(self.held.without(&released)), Release::These(released)),
            None => (Arc::clone(&self.held), Release::Nothing),
        }
    }

    /// What was released and no pass has taken yet, and since when.
    pub fn released(&self) -> Option<(Moment, &Held)> {
        self.released.as_ref().map(|(since, held)| (*since, held.as_ref()))
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn entries(&self) -> u64 {
        self.held.entries()
    }

    pub fn since(&self) -> u64 {
        self.since
    }

    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.held.iter().map(|(path, _)| path)
    }

    /// Whether more has come or gone than was kept.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Keeps it for the next start.
    pub fn keep(&mut self, pair: &Pair) {
        if std::mem::take(&mut self.is_changed) {
            let bytes = if self.held.is_empty() || self.is_anew {
                Vec::new()
            } else {
                encode(&self.held, self.since, pair.rules().max_delete)
            };
            pair.set_fact(HELD, &bytes);
        }
    }
}

struct Kept {
    held: Held,
    since: u64,
    percent: f64,
}

fn encode(held: &Held, since: u64, percent: f64) -> Vec<u8> {
    let mut out = FORMAT.to_vec();
    for number in [since, percent.to_bits(), held.unlisted()] {
        put(&mut out, number);
    }
    for (path, entries) in held.iter() {
        put_bytes(&mut out, path.as_bytes());
        put(&mut out, entries);
    }
    out
}

/// `None` for bytes that no `encode` wrote.
fn decode(mut bytes: &[u8]) -> Option<Kept> {
    if take_bytes(&mut bytes, FORMAT.len())? != FORMAT {
        return None;
    }
    let (since, percent, unlisted) = (take(&mut bytes)?, f64::from_bits(take(&mut bytes)?), take(&mut bytes)?);
    let mut paths = Vec::new();
    while !bytes.is_empty() {
        paths.push((RelPath::new(take_counted(&mut bytes)?)?, take(&mut bytes)?));
    }
    Some(Kept { held: Held::new(paths, unlisted), since, percent })
}

/// The removals of the last minute. They outlive the process, or a service that is started again and again would remove
/// its share each time.
pub struct Recent {
    window: Window,
    /// How many were kept last, and when.
    kept: (u64, Moment),
}

impl Recent {
    /// Those before this start count as if they had just happened.
    pub fn restore(pair: &Pair, now: Moment) -> Self {
        let kept = pair.fact(RECENT).and_then(|bytes| {
            let mut bytes = bytes.as_slice();
            Some((take(&mut bytes)?, take(&mut bytes)?))
        });
        let mut window = Window::default();
        if let Some((at, removed)) = kept
            && clock::wall().saturating_sub(at) < WINDOW.as_secs()
        {
            window.add(now, removed);
        }
        Self { window, kept: (0, now) }
    }

    pub fn sum(&mut self, now: Moment) -> u64 {
        self.window.sum(now)
    }

    /// Counts what was removed unasked. As few as never need asking are not worth a write, nor is each single one more.
    pub fn add(&mut self, pair: &Pair, now: Moment, removed: u64) {
        if removed == 0 {
            return;
        }
        self.window.add(now, removed);
        let sum = self.window.sum(now);
        let (kept, at) = self.kept;
        if sum > FREE && (sum >= kept.saturating_add(kept / 2) || until(at, now) >= KEPT_FOR) {
            self.kept = (sum, now);
            let mut bytes = Vec::new();
            put(&mut bytes, clock::wall());
            put(&mut bytes, sum);
            pair.set_fact(RECENT, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), is_ours in any::<bool>()) {
            let bytes = if is_ours { [FORMAT, &bytes].concat() } else { bytes };
            if let Some(kept) = decode(&bytes) {
                prop_assert!(kept.held.iter().count() <= bytes.len());
            }
        }

        #[test]
        fn decoding_undoes_encoding(
            paths in prop::collection::btree_map("[a-c\u{e4}]{1,3}(/[a-c ]{1,3}){0,2}", any::<u32>(), 0..8),
            since in any::<u64>(), percent in 0.0..100.0, unlisted in any::<u32>(),
        ) {
            let path = |text: &String| RelPath::new(text.as_bytes()).expect("a valid path");
            let held = Held::new(paths.iter().map(|(p, n)| (path(p), u64::from(*n))), u64::from(unlisted));
            let kept = decode(&encode(&held, since, percent)).expect("our own");
            prop_assert_eq!((kept.held, kept.since, kept.percent), (held, since, percent));
        }
    }
}
