//! Owns one pass, as a straight line: renames, the walk, what has moved unheard, links, removals, folders, disk. Every decision is made in
//! `plan`, every system call in `fs`; here they are joined. A pass knows nothing of when it runs or why.

mod agreeing;
mod both_ways;
mod databases;
mod examine;
mod files;
mod folders;
mod groups;
mod heard;
mod keeping;
mod large;
mod lend;
mod links_across;
mod links_foreseen;
mod make;
mod meeting;
mod met_links;
mod moved;
mod names;
mod problems;
mod publisher;
mod publishing;
mod queue;
mod removals;
mod renames;
mod reserved;

mod specials;
mod survey;
mod take_over;
mod touched;
mod trust;
mod unseen;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustix::io::Errno;

use super::agreements::Ids;
use super::claims::Which;
use super::condition::Condition;
use super::pair::Pair;
use super::report;
use super::restless::Look;
use super::rules::Rules;
use crate::fs::archive::Changes;
use crate::fs::pulse::Pulse;
use crate::fs::volume;
pub use crate::plan::guard::{Brake, Release};
use crate::tree::doubt::{DirtySet, Doubt, Moment};
use crate::tree::entry::{InodeId, Kind, Stat};
use crate::tree::identity::Side;
use crate::tree::operation::{Cause, Conflict, Operation, Problem};
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;
use heard::Heard;
use links_across::Left;
use moved::Moves;
use queue::Queue;
use touched::bring_to_disk;
use unseen::Born;
use walk::Worker;

/// What one pass is asked to do.
#[derive(Debug)]
pub struct Order<'a> {
    pub dirty: &'a DirtySet,
    /// Renames that were heard of, oldest first: hints.
    pub renames: &'a [(RelPath, RelPath)],
    pub brake: Brake,
    /// What asked for the looks at whole folders and trees; of what is named, the doubt says it.
    pub cause: Cause,
    /// When the oldest event was read that asked for it.
    pub oldest: Option<Moment>,
    pub jobs: usize,
    pub lane: Which,
}

/// What came of a pass.
#[derive(Debug, Default)]
pub struct Outcome {
    pub totals: Totals,
    /// Changed while it was looked at: to be looked at again soon.
    pub again: DirtySet,
    pub problems: Vec<Problem>,
    /// Removals that the brake held, and how many entries would go with each.
    pub held: Vec<(RelPath, u64)>,
    pub held_entries: u64,
    /// Removals that the brake let through by itself.
    pub unasked: u64,
    /// What came of files that changed while they were looked at; they are not in `again`.
    pub restless: Vec<(RelPath, Look)>,
    /// What is for the other direction to do, in two-way mode.
    pub across: DirtySet,
    /// What both sides had changed, the last of it.
    pub conflicts: VecDeque<Conflict>,
    /// What of the totals was done in the source.
    pub in_source: Totals,
    /// Nothing can be added to the replica: what is missing is put off.
    pub condition: Option<Condition>,
    /// Of the problems, those that a disk or a limit may make for many paths at once.
    pub common: BTreeSet<RelPath>,
    /// Entries of the replica, where the pass saw them all.
    pub entries: Option<u64>,
    /// The same of the source.
    pub source_entries: Option<u64>,
    /// The source is not in its place any more: nothing was removed.
    pub displaced: bool,
    /// Mounts below the roots that were there and are not: nothing was done at or below them.
    pub gone: BTreeSet<RelPath>,
    pub cancelled: bool,
}

struct Pass<'a> {
    pair: &'a Pair,
    rules: Arc<Rules>,
    dirty: &'a DirtySet,
    pulse: &'a Pulse,
    lane: Which,
    cause: Cause,
    heard: Heard,
    queue: Queue,
    /// What is new may be what is gone elsewhere.
    seeks_moves: bool,
    shared: Mutex<Shared>,
    /// Mounts below the roots that are gone: they and all below them are left alone.
    gone: BTreeSet<RelPath>,
    /// Folders whose lists the renames changed.
    touched_early: HashSet<RelPath>,
    entries: AtomicU64,
    source_entries: AtomicU64,
    /// Folders of which it is said what they were before.
    captured: Mutex<HashSet<RelPath>>,
    /// What a file gets that is made in a folder that is staged; unknown before the first one was.
    born: OnceLock<Born>,
    /// How often what was written could not be brought to disk.
    disk_failures: AtomicU64,
    /// Files of this size and above are put off, for want of room; with 0 everything that adds to the replica is.
    no_room_from: AtomicU64,
}

/// What the workers gather.
#[derive(Default)]
struct Shared {
    outcome: Outcome,
    removals: BTreeMap<RelPath, Stat>,
    replacements: BTreeMap<RelPath, (Stat, Stat)>,
    /// Folders that something else may replace now: what goes with each, and what asked for it.
    replaced: BTreeMap<RelPath, (Vec<(RelPath, Kind)>, Cause)>,
    groups: BTreeMap<InodeId, Group>,
    left: Vec<Left>,
    /// Files of the replica that have got a name by which they are kept.
    kept: HashSet<InodeId>,
    moves: Moves,
    /// Folders of the replica whose lists changed, for the disk; more than a few are not counted.
    touched: BTreeSet<RelPath>,
    touched_many: bool,
}

/// A file with several names that this pass has to do with.
#[derive(Default)]
struct Group {
    /// The name that is dealt with as a file of its own; the others become links to it.
    leader: Option<RelPath>,
    names: BTreeSet<RelPath>,
    /// How many names the source's inode has, in the tree and outside.
    nlink: u32,
    contents_in_doubt: bool,
    /// In a dry run: the leader's file would be made anew.
    is_remade: bool,
}

/// Runs one pass until all in the order has been looked at, or `pulse` says stop.
pub fn run(pair: &Pair, order: &Order, pulse: &Pulse) -> Outcome {
    let mut pass = Pass::new(pair, order.dirty, (order.lane, order.cause), pulse);
    pair.stage.enter();
    if order.dirty.is_everything() && !pair.options.one_file_system {
        // Before it is copied: what vanishes meanwhile has been there.
        pair.places.learn(pair.roots(), &pass.rules.exclude, &pair.archive);
    }
    pass.heard = Heard::of(order);
    pass.gone = pair.places.gone(pair.roots());
    let mut totals = renames::carry_out(&mut pass, order.renames);
    pass.seeks_moves = moved::are_sought(&pass);
    if !order.renames.is_empty() {
        pass.gone = pair.places.gone(pair.roots());
    }
    let pass = pass;
    let seeds: BTreeSet<RelPath> = order.dirty.seeds().into_iter().collect();
    // Their times have to be set again even where nothing in them is in doubt.
    for folder in seeds.union(&pass.touched_early.iter().cloned().collect()).cloned() {
        if !pass.skips_within(&folder, true) {
            pass.queue.push(walk::seed(&pass, folder));
        }
    }
    totals += walk(&pass, order.jobs);
    totals += moved::carry_out(&pass, order.jobs);
    if let Some(watches) = &pair.watches {
        order.renames.iter().for_each(|(from, _)| watches.forget_former(from));
        if order.dirty.is_everything() && !pass.is_cancelled() {
            watches.forget_former(&RelPath::root());
        }
    }
    totals += groups::settle(&pass);
    if !pass.shared().removals.is_empty() {
        // What was moved from one folder to another by copying is on disk before it goes where it was.
        bring_to_disk(&pass);
    }
    let (removed, late) = removals::carry_out(&pass, &order.brake, order.jobs);
    totals += removed;
    if !late.is_empty() && !pass.is_cancelled() {
        late.into_iter().for_each(|task| pass.queue.push(task));
        totals += walk(&pass, 1);
        totals += groups::settle(&pass);
    }
    reserved::leave(&pass, &mut totals);
    bring_to_disk(&pass);
    let sweep = order.dirty.is_everything();
    let cancelled = pass.is_cancelled();
    let entries = pass.entries.load(Ordering::Relaxed);
    let source_entries = pass.source_entries.load(Ordering::Relaxed);
    let gone = pass.gone;
    let mut outcome = pass.shared.into_inner().unwrap_or_else(|e| e.into_inner()).outcome;
    outcome.totals += totals;
    outcome.gone = gone;
    outcome.cancelled = cancelled;
    outcome.totals.problems = outcome.problems.len() as u64;
    if outcome.totals.changes() > 0 {
        // It was noted before, unless something was changed past the place where that is said.
        pair.note_gap();
    }
    if pair.is_turned() {
        outcome.in_source = outcome.totals;
    }
    outcome.entries = (sweep && !cancelled).then_some(entries);
    outcome.source_entries = (sweep && !cancelled).then_some(source_entries);
    outcome
}

/// Removes the program's own things from the replica, and sets the times of the folders once more that they were in.
pub fn close(pair: &Pair) {
    if !pair.options.dry_run {
        reserved::settle_apart(pair, pair.stage.close(&pair.replica));
    }
}

fn walk(pass: &Pass, jobs: usize) -> Totals {
    let is_small = pass.queue.is_small();
    let helpers = if is_small { 0 } else { jobs.saturating_sub(1) };
    std::thread::scope(|scope| {
        let publisher = if is_small { None } else { publisher::start(scope, pass) };
        let (hand_over, publishing) = publisher.unzip();
        let threads: Vec<_> = (0..helpers)
            .filter_map(|_| {
                let worker = Worker { hand_over: hand_over.clone(), ..Worker::new(pass) };
                std::thread::Builder::new().name("worker".into()).spawn_scoped(scope, || worker.work()).ok()
            })
            .collect();
        let mut totals = Worker { hand_over, ..Worker::new(pass) }.work();
        for thread in threads.into_iter().chain(publishing) {
            // A worker that panicked has poisoned nothing: its folders stay in doubt until the next sweep.
            totals += thread.join().unwrap_or_default();
        }
        totals
    })
}

impl<'a> Pass<'a> {
    fn new(pair: &'a Pair, dirty: &'a DirtySet, (lane, cause): (Which, Cause), pulse: &'a Pulse) -> Self {
        Self {
            pair,
            rules: pair.rules(),
            dirty,
            pulse,
            lane,
            cause,
            heard: Heard::default(),
            queue: Queue::default(),
            seeks_moves: false,
            shared: Mutex::default(),
            gone: BTreeSet::new(),
            touched_early: HashSet::new(),
            entries: AtomicU64::new(0),
            source_entries: AtomicU64::new(0),
            captured: Mutex::default(),
            born: OnceLock::new(),
            disk_failures: AtomicU64::new(0),
            no_room_from: AtomicU64::new(u64::MAX),
        }
    }

    /// How many threads a worker may take to help it read a large file. Two together read as fast as memory gives.
    fn readers(&self) -> usize {
        usize::from(self.rules.jobs > 1)
    }

    /// Whether this entry is left alone by the rules, or because what was mounted there is gone.
    fn is_excluded(&self, path: &RelPath, is_folder: bool) -> bool {
        self.rules.exclude.skips(path, is_folder) || self.gone.contains(path)
    }

    /// Whether this entry is left alone. Its folders are not asked about.
    fn skips(&self, path: &RelPath, is_folder: bool) -> bool {
        let is_reserved = |root| volume::is_reserved(root, path);
        self.is_excluded(path, is_folder)
            || is_reserved(&self.pair.replica)
            || (self.pair.two_way.is_some() && is_reserved(&self.pair.source))
    }

    /// Whether this entry, or a folder above it, is left alone.
    fn skips_within(&self, path: &RelPath, is_folder: bool) -> bool {
        self.rules.exclude.skips_within(path, is_folder)
            || self.gone.iter().any(|mount| path.is_within(mount))
            || volume::is_within_reserved(&self.pair.replica, path)
            || (self.pair.two_way.is_some() && volume::is_within_reserved(&self.pair.source, path))
    }

    /// Whether the source, or a mount below one of the roots, has gone since the pass began.
    fn is_displaced(&self) -> bool {
        !self.pair.source.is_in_place() || self.pair.places.gone(self.pair.roots()) != self.gone
    }

    /// Notes for whoever looks on that a file is to be copied.
    fn wanted(&self, source: &Stat) {
        self.pulse.wanted(if self.pair.options.dry_run { 0 } else { source.stored() });
    }

    /// Claims an entry for this pass's lane.
    fn claim(&self, path: &RelPath) -> bool {
        self.pair.claims.entry(path, self.lane)
    }

    fn release(&self, path: &RelPath) {
        self.pair.claims.release_entry(path, self.lane);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn is_cancelled(&self) -> bool {
        self.pulse.is_stopped()
    }

    /// Puts a path back into doubt, for what asked for it this time.
    fn again(&self, path: &RelPath, doubt: Doubt) {
        let doubt = doubt.heard_first(self.heard.first(self.dirty, path)).asked_by(self.asked(path));
        self.shared().outcome.again.insert(path, doubt);
    }

    /// Logs and counts that both sides have changed something.
    fn conflict(&self, path: &RelPath, winner: Side, kept: Option<&RelPath>) {
        let conflict = Conflict { path: path.clone(), winner, kept: kept.cloned() };
        report::conflict(self.pair, &conflict);
        let mut shared = self.shared();
        shared.outcome.totals.conflicts += 1;
        report::note_conflict(&mut shared.outcome.conflicts, conflict);
    }

    /// What asked for the look at a path.
    fn asked(&self, path: &RelPath) -> Cause {
        self.dirty.asked(path).unwrap_or(self.cause)
    }

    /// Logs and counts that the entry of another kind is gone in whose place one of kind `now` has come, with all that
    /// it held.
    fn replaced(&self, path: &RelPath, old: Option<&Stat>, now: Kind) {
        let Some(old) = old.filter(|old| old.kind != now) else { return };
        let mut shared = self.shared();
        let judged = shared.replaced.remove(path);
        let is_unasked = judged.as_ref().is_some_and(|(_, cause)| *cause != Cause::Release);
        let (gone, cause) = judged.unwrap_or_else(|| (vec![(path.clone(), old.kind)], self.asked(path)));
        shared.outcome.totals.removed += gone.len() as u64;
        if is_unasked {
            shared.outcome.unasked += gone.len() as u64;
        }
        drop(shared);
        for (path, kind) in gone {
            self.pair.report_removal(Operation::removal_of(kind), &path, cause);
        }
    }

    /// Remembers what is agreed now in a folder, less what was taken on trust from events when events had been lost:
    /// that is looked at again. Returns whether it is time to commit.
    fn remember(&self, folder: &RelPath, ids: Ids, mut changes: Changes) -> bool {
        let lost = self.pair.lost();
        changes.retain(|name, change| {
            let is_hollow = change.is_some_and(|a| a.provisional && a.looked <= lost);
            if is_hollow {
                self.again(&folder.join(name), Doubt::contents(super::clock::now()));
            }
            !is_hollow
        });
        self.pair.remember(ids, changes)
    }
}

/// What the system says of an error, in its words.
pub fn describe(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_string(),
        None => text,
    }
}

/// The folder that holds `path`'s entry, and its name there.
fn place_of(pair: &Pair, path: &RelPath) -> Option<(Ids, Vec<u8>)> {
    let Some((parent, name)) = path.split() else { return Some((Ids::ABOVE_ROOT, Vec::new())) };
    let source = pair.source.open_folder(&parent).ok()?;
    let replica = pair.replica.open_folder(&parent).ok();
    Some((pair.ids(source.as_fd(), replica.as_ref().map(AsFd::as_fd)).ok()?, name.to_vec()))
}
