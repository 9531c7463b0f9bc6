//! Owns renames that nobody heard of: what a sweep finds new in one place is what is gone from another, if it is the same
//! inode. It finds where things were, and renames folders; files are `take_over`'s. What it does not find is made anew.
//!
//! Of a file that stays in its folder, the folder's record tells. Folders, and files that are worth it, are put off until the
//! walk has seen what is gone, if they may have moved: a folder in which nothing was ever agreed is new.

use std::collections::{BTreeMap, HashMap};

use super::queue::Task;
use super::walk::FolderTask;
use super::{Pass, Which, folders, renames, walk};
use crate::service::clock;
use crate::tree::doubt::{Doubt, Extent};
use crate::tree::entry::{InodeId, Kind, Seen, Stat};
use crate::tree::listing::Listing;
use crate::tree::path::RelPath;
use crate::tree::record::{Agreed, Record};
use crate::tree::totals::Totals;

/// Where something was, and what was agreed of it there.
pub type Before = (RelPath, Agreed);

/// What may have moved.
#[derive(Default)]
pub(super) struct Moves {
    /// New in the source, and put off.
    new: BTreeMap<RelPath, InodeId>,
    /// Gone from the source.
    gone: HashMap<InodeId, Before>,
    /// Files that were put off, and where they were.
    known: HashMap<RelPath, Before>,
    /// Folders from which something was taken.
    touched: Vec<RelPath>,
    /// Nothing is put off any more.
    is_over: bool,
}

/// A smaller file is copied sooner than it is found in another folder.
const LARGE: u64 = 1 << 20;
/// More is not put off.
const MOST: usize = 10_000;
/// What was put off is looked at after the walk, and can hold what has moved there.
const ROUNDS: usize = 3;

/// Whether a pass may find what has moved: it sees all that is gone, and something was agreed before.
pub(super) fn are_sought(pass: &Pass) -> bool {
    let pair = pass.pair;
    pass.lane == Which::Bulk
        && pair.two_way.is_none()
        && pass.dirty.is_everything()
        && !pair.options.dry_run
        && pair.source.stat(pair.source.fd()).is_ok_and(|root| pair.archive.has_record(root.id()))
}

/// Of files that are new in a folder, what they were there when it was last looked at, if that is gone.
pub(super) fn within(folder: &RelPath, record: &Record, source: &Listing, new: &[&[u8]]) -> HashMap<Box<[u8]>, Before> {
    let mut ids: HashMap<InodeId, &[u8]> = HashMap::new();
    for name in new {
        if let Some(stat) = source.get(name).stat().filter(|stat| stat.nlink == 1) {
            ids.insert(stat.id(), name);
        }
    }
    let was = |(name, agreed): (&[u8], &Agreed)| {
        let now = *ids.get(&agreed.source.id)?;
        (source.get(name) == Seen::Absent).then(|| (now.into(), (folder.join(name), *agreed)))
    };
    record.iter().filter_map(was).collect()
}

impl Pass<'_> {
    /// Whether something new is to wait until it is known what is gone.
    pub(super) fn puts_off(&self, path: &RelPath, source: &Stat) -> bool {
        let may_have_moved = match source.kind {
            Kind::Directory => self.pair.archive.has_record(source.id()),
            Kind::File => source.nlink == 1 && (source.size >= LARGE || self.pair.decayed_before(source).is_some()),
            _ => false,
        };
        if !may_have_moved {
            return false;
        }
        let mut shared = self.shared();
        let moves = &mut shared.moves;
        let is_put_off = !moves.is_over && moves.new.len() < MOST;
        if is_put_off {
            moves.new.insert(path.clone(), source.id());
        }
        is_put_off
    }

    /// Where a file was that was put off.
    pub(super) fn known_before(&self, path: &RelPath) -> Option<Before> {
        self.shared().moves.known.remove(path)
    }

    /// Notes what the replica has and the source has not.
    pub(super) fn note_gone(&self, path: &RelPath, agreed: Option<&Agreed>) {
        let is_sought = |agreed: &&Agreed| {
            let is_large = agreed.source.kind == Kind::Directory || agreed.source.size >= LARGE;
            is_large || self.pair.archive.decayed_at(path).is_some()
        };
        if let (true, Some(agreed)) = (self.seeks_moves, agreed.filter(is_sought)) {
            let mut shared = self.shared();
            let gone = shared.moves.gone.entry(agreed.source.id).or_insert_with(|| (path.clone(), *agreed));
            // Of a folder that is gone for longer, something may be left that is nobody's to remove.
            if gone.1.source.ctime < agreed.source.ctime {
                *gone = (path.clone(), *agreed);
            }
        }
    }

    /// Notes that something was taken from a folder that this pass is not at work in.
    pub(super) fn took_from(&self, folder: RelPath) {
        self.touched(&folder);
        self.shared().moves.touched.push(folder);
    }

    /// Whether an entry of the replica is to be removed at the end of this pass.
    pub(super) fn is_to_go(&self, path: &RelPath) -> bool {
        self.shared().removals.contains_key(path)
    }
}

/// Looks at what the walk has put off: renames what has moved, and has the rest made.
pub(super) fn carry_out(pass: &Pass, jobs: usize) -> Totals {
    let mut totals = Totals::default();
    for round in 1..=ROUNDS {
        let new = {
            let mut shared = pass.shared();
            shared.moves.is_over = round == ROUNDS;
            std::mem::take(&mut shared.moves.new)
        };
        if new.is_empty() || pass.is_cancelled() {
            break;
        }
        let mut names: BTreeMap<RelPath, BTreeMap<Box<[u8]>, Doubt>> = BTreeMap::new();
        for (to, id) in new {
            pass.pulse.beat();
            let Some((folder, name)) = to.split() else { continue };
            names.entry(folder.clone()).or_default().insert(name.into(), Doubt::subtree(clock::now()));
            let before = pass.shared().moves.gone.remove(&id);
            let Some((from, agreed)) = before else { continue };
            if agreed.source.kind != Kind::Directory {
                pass.shared().moves.known.insert(to, (from, agreed));
            } else if pass.is_to_go(&from) && renames::carry_out_found(pass, &from, &to) {
                totals.renamed += 1;
                let mut shared = pass.shared();
                shared.removals.remove(&from);
                shared.moves.touched.extend(from.split().map(|(folder, _)| folder).into_iter().chain([folder]));
            }
        }
        for (path, names) in names {
            let extent = Extent::Names;
            let task = FolderTask { path, parent: None, extent, names, made: None, attributes_agreed: true };
            pass.queue.push(Task::Folder(task));
        }
        totals += walk(pass, jobs);
    }
    let touched = std::mem::take(&mut pass.shared().moves.touched);
    folders::settle_all(pass, touched, &mut totals);
    totals
}
