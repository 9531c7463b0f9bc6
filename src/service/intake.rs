//! Owns the way from what was heard to what is in doubt: two lanes, one for what is finished and was quiet before, one
//! through the debouncer for everything else. It never waits for anybody: the watcher's thread calls it.

mod acted;
mod lists;
mod vanished;
mod waiting;
mod written;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::clock;
use super::news::News;
use super::quiet::{Fallen, Quiet};
use crate::fs::watch::Heard;
use crate::plan::schedule::later;
use crate::tree::doubt::{Doubt, Extent, Moment};
use crate::tree::entry::{InodeId, Kind};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use acted::Way;
use vanished::Vanished;
use waiting::{Pending, State};

/// Tells what a path is on the source's disk now, in one look.
pub type Probe = Arc<dyn Fn(&RelPath) -> Option<Found> + Send + Sync>;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    /// The file has several names: this is another one for a file that was there before.
    pub is_linked: bool,
    pub id: InodeId,
}

impl Found {
    fn is_folder(self) -> bool {
        self.kind == Kind::Directory
    }
}

pub struct Intake {
    state: Mutex<State>,
    wake: Sender<()>,
    woken: Receiver<()>,
    probe: Mutex<Probe>,
}

/// More paths than this do not wait: they go into doubt at once, where there is a bound.
const PENDING: usize = 50_000;
/// A debouncer that was not fed for so long is let go.
const REST: Duration = Duration::from_secs(2);

impl Intake {
    pub fn new(debounce: Duration, max_delay: Duration, probe: Probe) -> Arc<Self> {
        let (wake, woken) = bounded(1);
        let (state, probe) = (Mutex::new(State { debounce, max_delay, ..State::default() }), Mutex::new(probe));
        Arc::new(Self { state, wake, woken, probe })
    }

    /// Other times from now on. What waits by the old ones waits no longer.
    pub fn set_delays(&self, debounce: Duration, max_delay: Duration) {
        let mut state = self.lock();
        if (state.debounce, state.max_delay) == (debounce, max_delay) {
            return;
        }
        state.release_all();
        (state.debounce, state.max_delay) = (debounce, max_delay);
        // The one for the old time ends by itself, and finds nothing that waits.
        state.quiet = None;
        drop(state);
        self.wake();
    }

    /// Becomes ready when there is news.
    pub fn woken(&self) -> &Receiver<()> {
        &self.woken
    }

    /// Takes in what the watcher heard. Called in its thread.
    pub fn hear(self: &Arc<Self>, heard: Heard) {
        let now = clock::now();
        if self.is_nothing(&heard) {
            return;
        }
        match heard {
            Heard::Written(path) => self.finished(path, Doubt::contents(now), now),
            Heard::Modified(path) => self.unfinished(path, Doubt::contents(now), now),
            Heard::Attributes(path) => self.unfinished(path, Doubt::attributes(now), now),
            Heard::Removed(path) => self.removed(path, Doubt::subtree(now), now),
            // Should it still be there, then as what it was: nothing says that it was written to.
            Heard::Left(path) => self.removed(path, Doubt { below: true, ..Doubt::attributes(now) }, now),
            Heard::FolderMade(path) => {
                if self.probe(&path).is_none() {
                    self.lock().vanished.note(&path);
                }
                self.finished(path, Doubt::subtree(now), now);
            }
            Heard::Made(path) => match self.probe(&path) {
                None => {
                    self.lock().vanished.note(&path);
                    self.finished(path, Doubt::contents(now), now);
                }
                // It is being written: its closing will say when it is finished.
                Some(Found { kind: Kind::File, is_linked: false, .. }) => {
                    self.unfinished(path, Doubt::contents(now), now);
                }
                Some(Found { is_linked: true, id, .. }) => {
                    self.lock().news.linked.push((path.clone(), id));
                    // Another name changes nothing of the file but its ctime.
                    self.finished(path, Doubt::attributes(now), now);
                }
                Some(_) => self.finished(path, Doubt::contents(now), now),
            },
            Heard::Came(path) => {
                let found = self.probe(&path);
                if found.is_none() {
                    self.lock().vanished.note(&path);
                }
                let below = found.is_none_or(Found::is_folder);
                self.finished(path, Doubt { below, ..Doubt::contents(now) }, now);
            }
            Heard::Renamed { from, to } => self.renamed(from, to, now),
            Heard::Listed(folder) => self.listed(folder, now),
            Heard::Cookie(name) => {
                let mut state = self.lock();
                state.release_all();
                state.news.cookies.push((name, now));
                drop(state);
                self.wake();
            }
            Heard::Root => {
                self.lock().news.is_root_moved = true;
                self.wake();
            }
            Heard::Lost => {
                let mut state = self.lock();
                state.release_all();
                let news = std::mem::take(&mut state.news);
                let oldest = [Some(now), news.lost, news.express.oldest, news.bulk.oldest].into_iter().flatten().min();
                state.vanished = Vanished::default();
                state.news = News { lost: oldest, linked: news.linked, cookies: news.cookies, ..News::default() };
                drop(state);
                self.wake();
            }
        }
    }

    /// Whether this is said of what no look could find: of a file that has no name (`O_TMPFILE`), which the kernel calls by
    /// its number, as it does those that a pass builds in a folder that is followed too.
    fn is_nothing(&self, heard: &Heard) -> bool {
        match heard {
            Heard::Written(path) | Heard::Modified(path) | Heard::Attributes(path) => {
                path.split().is_some_and(|(_, name)| is_number(name)) && self.probe(path).is_none()
            }
            _ => false,
        }
    }

    fn listed(&self, folder: RelPath, now: Moment) {
        let mut state = self.lock();
        if state.lists.len() >= PENDING {
            state.release_lists();
        }
        if state.lists.note(folder, now) {
            drop(state);
            // Whoever waits has a deadline now.
            self.wake();
        }
    }

    fn renamed(self: &Arc<Self>, from: RelPath, to: RelPath, now: Moment) {
        let found = self.probe(&to);
        let below = found.is_none_or(Found::is_folder);
        let doubt = Doubt { below, ..Doubt::attributes(now) };
        let mut state = self.lock();
        if state.vanished.names.remove(&from) {
            match found {
                None => state.vanished.note(&to),
                Some(Found { is_linked: true, id, .. }) => state.news.linked.push((to.clone(), id)),
                Some(_) => {}
            }
        }
        // What was heard of the old name holds for the new one.
        let doubt = state.pending.get(&from).map_or(doubt, |p| Doubt { below, ..p.doubt }.or(doubt));
        // Of a folder, the ctimes of the files within tell what was not remembered.
        let contents = doubt.contents || !below && state.written.may_be(&from);
        let doubt = Doubt { contents, ..doubt };
        for within in state.written.renamed(&from, &to, now) {
            state.news.bulk.insert(&within, Doubt::contents(now), now);
        }
        let debounce = state.debounce;
        state.acted.note(&to, now, debounce);
        let lane = if below { &mut state.news.bulk } else { &mut state.news.express };
        // Two renames of the same thing are one; there and back is an exchange, and two.
        let origin = lane.renames.iter().rposition(|(first, last)| *last == from && *first != to);
        let origin = origin.map_or(from, |at| lane.renames.remove(at).0);
        lane.renames.push((origin, to.clone()));
        lane.insert(&to, doubt, now);
        drop(state);
        self.wake();
    }

    fn finished(self: &Arc<Self>, path: RelPath, doubt: Doubt, now: Moment) {
        let mut state = self.lock();
        let debounce = state.debounce;
        let way = state.acted.way(&path, now, debounce);
        if way == Way::Waits {
            drop(state);
            return self.unfinished(path, doubt, now);
        }
        state.written.heard(&path, doubt, now);
        if way == Way::Bulk {
            state.release_unfinished(&path);
        }
        let is_express = way == Way::Express && !doubt.below;
        let lane = if is_express { &mut state.news.express } else { &mut state.news.bulk };
        lane.insert(&path, doubt, now);
        drop(state);
        self.wake();
    }

    fn removed(self: &Arc<Self>, path: RelPath, doubt: Doubt, now: Moment) {
        self.waits(path, doubt, now, true);
    }

    fn unfinished(self: &Arc<Self>, path: RelPath, doubt: Doubt, now: Moment) {
        self.waits(path, doubt, now, false);
    }

    fn waits(self: &Arc<Self>, path: RelPath, doubt: Doubt, now: Moment, is_removal: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        state.written.heard(&path, doubt, now);
        if state.debounce.is_zero() {
            state.news.bulk.insert(&path, doubt, now);
            return self.wake();
        }
        if state.pending.len() >= PENDING {
            state.release_all();
            self.wake();
        }
        // Those that go with their folder leave their age to it.
        let is_first_removal = state.removals.count == 0;
        if is_removal {
            state.forget_removals_in(&path);
        }
        let rarely = later(Moment::default(), state.debounce / 8).0;
        let mut is_first = false;
        let pending = state.pending.entry(path.clone()).or_insert_with(|| {
            is_first = true;
            if !is_removal {
                state.by_age.push_back((now, path.clone()));
            }
            Pending { first: now, last: now, fed: Moment::default(), doubt, is_removal: false, is_plain: true }
        });
        pending.last = pending.last.max(now);
        pending.doubt = pending.doubt.or(doubt);
        pending.is_plain &= is_removal;
        let removals = &mut state.removals;
        if is_removal && !pending.is_removal {
            pending.is_removal = true;
            removals.first = if is_first_removal { pending.first } else { removals.first.min(pending.first) };
            is_first = is_first_removal;
            removals.count += 1;
        }
        let fed = if pending.is_removal {
            removals.last = removals.last.max(now);
            &mut removals.fed
        } else {
            &mut pending.fed
        };
        if is_first || now.0.saturating_sub(fed.0) >= rarely {
            *fed = now;
            let path = (!pending.is_removal).then_some(&path);
            let first = state.quiet.is_none();
            self.feed(state, path, now);
            if first {
                // Whoever waits has a deadline now.
                self.wake();
            }
        }
    }

    /// Feeds the debouncer with a path, or with a removal.
    fn feed(self: &Arc<Self>, state: &mut State, path: Option<&RelPath>, now: Moment) {
        if state.quiet.is_none() {
            let intake = Arc::downgrade(self);
            let timeout = state.debounce.max(Duration::from_millis(4));
            let started = Quiet::start(timeout, move |fallen| {
                if let Some(intake) = intake.upgrade() {
                    intake.fell_quiet(&fallen);
                }
            });
            // Without one, the longest delay is what everything gets.
            state.quiet = started.ok();
        }
        state.fed = now;
        match (&mut state.quiet, path) {
            (Some(quiet), Some(path)) => quiet.heard(path),
            (Some(quiet), None) => quiet.heard_removal(),
            (None, _) => {}
        }
    }

    /// Called in the debouncer's thread.
    fn fell_quiet(self: &Arc<Self>, fallen: &Fallen) {
        let now = clock::now();
        let mut state = self.lock();
        let debounce = state.debounce;
        for path in &fallen.paths {
            let Some(pending) = state.pending.get_mut(path).filter(|pending| !pending.is_removal) else { continue };
            if now < later(pending.last, debounce) {
                // Not every event was passed on to the debouncer.
                pending.fed = now;
                self.feed(&mut state, Some(path), now);
            } else {
                state.release(path);
            }
        }
        if fallen.removals && state.removals.count > 0 {
            if now < later(state.removals.last, debounce) {
                state.removals.fed = now;
                self.feed(&mut state, None, now);
            } else {
                state.release_removals();
            }
        }
        drop(state);
        self.wake();
    }

    /// Takes all news, and what has waited too long. `oldest`: when the oldest event was read of those that were taken before
    /// and are not dealt with, apart from those about what fails.
    pub fn take(&self, now: Moment, oldest: Option<Moment>, is_failing: impl Fn(&RelPath) -> bool) -> News {
        let mut state = self.lock();
        let max_delay = state.max_delay;
        while let Some((first, path)) = state.by_age.front() {
            let (first, path) = (*first, path.clone());
            let stale = state.pending.get(&path).is_none_or(|p| p.first != first);
            if !stale && now < later(first, max_delay) {
                break;
            }
            state.by_age.pop_front();
            if !stale && state.pending.get(&path).is_some_and(|p| p.is_removal) {
                state.release_removals();
            } else if !stale {
                state.release(&path);
            }
        }
        if state.removals.count > 0 && now >= later(state.removals.first, max_delay) {
            state.release_removals();
        }
        let debounce = state.debounce.min(max_delay);
        while let Some((since, folder)) = state.lists.take_due(now, debounce) {
            state.news.bulk.insert_extent(folder, Extent::Names, Cause::Event, since);
        }
        if state.quiet.is_some() && state.pending.is_empty() && now >= later(state.fed, REST) {
            state.quiet = None;
        }
        let state = &mut *state;
        let oldest = state.oldest().into_iter().chain(oldest).min();
        state.written.forget(oldest, now, is_failing);
        std::mem::take(&mut state.news)
    }

    /// When `take` has to be called again even if nothing wakes anybody.
    pub fn deadline(&self) -> Option<Moment> {
        let state = self.lock();
        let oldest = state.by_age.front().map(|(first, _)| later(*first, state.max_delay));
        let removals = (state.removals.count > 0).then(|| later(state.removals.first, state.max_delay));
        let rest = state.quiet.is_some().then(|| later(state.fed, REST));
        let lists = state.lists.oldest().map(|since| later(since, state.debounce.min(state.max_delay)));
        [oldest, removals, rest, lists].into_iter().flatten().min()
    }

    /// Paths that wait to fall quiet, and since when the oldest does.
    pub fn waiting(&self) -> (u64, Option<Moment>) {
        let state = self.lock();
        let removals = (state.removals.count > 0).then_some(state.removals.first);
        let since = state.pending.values().map(|p| p.first).chain(removals).chain(state.lists.oldest()).min();
        ((state.pending.len() + state.lists.len()) as u64, since)
    }

    /// Looks at the disk in another way from now on.
    pub fn look_with(&self, probe: Probe) {
        *self.probe.lock().unwrap_or_else(|e| e.into_inner()) = probe;
    }

    fn probe(&self, path: &RelPath) -> Option<Found> {
        // A disk that does not answer must not keep the one waiting who gives another probe.
        let probe = Arc::clone(&self.probe.lock().unwrap_or_else(|e| e.into_inner()));
        probe(path)
    }

    /// Whether names were made that nobody could look at, since the last time this was asked.
    pub fn take_vanished(&self) -> bool {
        let vanished = std::mem::take(&mut self.lock().vanished);
        vanished.is_full || !vanished.names.is_empty()
    }

    fn wake(&self) {
        // Full means that somebody will look anyway.
        let _ = self.wake.try_send(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// As the kernel writes the number of an inode in the place of a name.
fn is_number(name: &[u8]) -> bool {
    name.strip_prefix(b"#").is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests;
