//! Owns what a pass takes away: after all else, judged together, and only what the disk still shows to be gone from
//! the source. Also folders in whose place the source has something else: their contents count as removals.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::files::Job;
use super::queue::Task;
use super::{Brake, Pass, folders, walk};
use crate::fs::archive::Changes;
use crate::fs::{remove, scan};
use crate::plan::guard::{Verdict, judge};
use crate::plan::mirror::Step;
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

/// What is to go: a whole entry, or a folder that something else replaces.
struct Removal {
    path: RelPath,
    replica: Stat,
    /// What the source has there instead.
    replaced_by: Option<Stat>,
    /// Entries that go with it.
    entries: u64,
}

/// Carries out the removals that the brake lets through. Returns also what has to be made where folders were.
pub fn carry_out(pass: &Pass, brake: &Brake) -> (Totals, Vec<Task>) {
    let mut totals = Totals::default();
    let removals = confirmed(pass);
    if removals.is_empty() || pass.is_cancelled() {
        return (totals, Vec::new());
    }
    // It may have been filled since.
    let is_missed = pass.pair.is_emptied && !brake.released && scan::is_empty(&pass.pair.source).unwrap_or(true);
    if is_missed || !pass.pair.source.is_in_place() {
        pass.shared().outcome.displaced = true;
        return (totals, Vec::new());
    }
    let entries: u64 = removals.iter().map(|r| r.entries).sum();
    let known = brake.entries.unwrap_or_else(|| pass.entries.load(std::sync::atomic::Ordering::Relaxed));
    let limit = pass.pair.options.max_delete;
    if !brake.released && judge(entries, brake.recent, known.max(entries), limit) == Verdict::Hold {
        let mut shared = pass.shared();
        shared.outcome.held = removals.into_iter().map(|r| r.path).collect();
        shared.outcome.held_entries = entries;
        return (totals, Vec::new());
    }
    let mut late = Vec::new();
    let mut by_folder: BTreeMap<RelPath, Vec<Removal>> = BTreeMap::new();
    for removal in removals {
        let Some((parent, _)) = removal.path.split() else { continue };
        match removal.replaced_by {
            Some(source) => {
                let Some((_, name)) = removal.path.split() else { continue };
                if source.is_linked() {
                    let mut shared = pass.shared();
                    let group = shared.groups.entry(source.id()).or_default();
                    group.names.insert(removal.path.clone());
                    group.nlink = source.nlink;
                    group.leader.get_or_insert_with(|| removal.path.clone());
                }
                let (step, replica) = (Step::Replace, Some(removal.replica));
                let job = Job { name: name.into(), step, source, replica, contents_in_doubt: true };
                match walk::single(pass, &parent, job) {
                    Ok(task) => {
                        totals.removed += removal.entries;
                        pass.pair.report(Operation::DirectoryRemoved, &removal.path);
                        late.push(task);
                    }
                    Err(error) => pass.failed(&removal.path, "cannot open the folder", error),
                }
            }
            None => by_folder.entry(parent).or_default().push(removal),
        }
    }
    let mut touched = BTreeSet::new();
    for (folder, removals) in by_folder {
        if pass.is_cancelled() {
            break;
        }
        if remove_in(pass, &folder, removals, &mut totals) {
            touched.insert(folder);
        }
    }
    folders::settle_all(pass, touched, &mut totals);
    (totals, late)
}

/// What is still to go, now that all else is done, with what would go with it.
fn confirmed(pass: &Pass) -> Vec<Removal> {
    let pair = pass.pair;
    let (removals, replacements) = {
        let mut shared = pass.shared();
        (std::mem::take(&mut shared.removals), std::mem::take(&mut shared.replacements))
    };
    let removals = removals.into_iter().map(|(path, replica)| (path, replica, None));
    let replacements = replacements.into_iter().map(|(path, (source, replica))| (path, replica, Some(source)));
    let mut out: Vec<Removal> = Vec::new();
    for (path, replica, replaced_by) in removals.chain(replacements) {
        if out.last().is_some_and(|last| path.is_within(&last.path)) {
            continue;
        }
        match (pair.source.look_at(&path), &replaced_by) {
            (Ok(Seen::Absent), None) => {}
            (Ok(Seen::Present(now)), Some(source)) if now.id() == source.id() => {}
            (Ok(_), _) => {
                pass.again(&path, Doubt::subtree(clock::now()));
                continue;
            }
            (Err(error), _) => {
                pass.failed(&path, "cannot be looked at, so it is left alone", error);
                continue;
            }
        }
        match count(pass, &path, &replica) {
            Ok((_, true)) if replaced_by.is_some() => {
                pass.problem(&path, "cannot be replaced: the folder holds excluded entries".into());
            }
            Ok((0, _)) => {}
            Ok((entries, _)) => out.push(Removal { path, replica, replaced_by, entries }),
            Err(Errno::NOENT) => {}
            // Something else is there by now.
            Err(Errno::NOTDIR | Errno::LOOP) => pass.again(&path, Doubt::subtree(clock::now())),
            Err(error) => pass.failed(&path, "cannot list the folder that is to go", error),
        }
    }
    out
}

fn count(pass: &Pass, path: &RelPath, replica: &Stat) -> Result<(u64, bool), Errno> {
    let Some((parent, name)) = path.split() else { return Ok((0, false)) };
    if replica.kind != Kind::Directory {
        return Ok((1, false));
    }
    let folder = pass.pair.replica.open_folder(&parent)?;
    let (entries, stays) =
        remove::count(folder.as_fd(), name, &mut |names, is_folder| goes(pass, &parent, names, is_folder))?;
    // What holds something excluded stays, and so do the folders above it.
    Ok((if stays && entries == 1 { 0 } else { entries }, stays))
}

fn goes(pass: &Pass, parent: &RelPath, names: &[Box<[u8]>], is_folder: bool) -> bool {
    let path = names.iter().fold(parent.clone(), |path, name| path.join(name));
    !pass.pair.exclude.skips(&path, is_folder)
}

/// Removes entries of one folder. Returns whether the folder's list changed.
fn remove_in(pass: &Pass, folder: &RelPath, removals: Vec<Removal>, totals: &mut Totals) -> bool {
    let pair = pass.pair;
    if pair.options.dry_run {
        for removal in removals {
            pair.report(Operation::removal_of(removal.replica.kind), &removal.path);
            totals.removed += removal.entries;
        }
        return false;
    }
    let replica = match pair.replica.open_folder(folder) {
        Ok(replica) => replica,
        Err(error) => {
            pass.failed(folder, "cannot open the folder", error);
            return false;
        }
    };
    let id = pair.source.open_folder(folder).and_then(|fd| pair.source.stat(fd.as_fd())).map(|s| s.id());
    let mut forgotten = Changes::new();
    let mut changed = false;
    for removal in removals {
        let Some((_, name)) = removal.path.split() else { continue };
        if !pair.claims.subtree(&removal.path) {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            continue;
        }
        let before = totals.removed;
        let result = remove_one(pass, replica.as_fd(), folder, name, &removal, totals);
        pair.claims.release_subtree(&removal.path);
        changed |= totals.removed > before;
        match result {
            Ok(true) => {
                forgotten.insert(name.into(), None);
            }
            Ok(false) => {}
            Err(error) => pass.failed(&removal.path, "cannot be removed", error),
        }
    }
    if let Ok(id) = id {
        pair.archive.remember(id, forgotten);
    }
    changed
}

/// Returns whether the entry is gone.
fn remove_one(
    pass: &Pass,
    replica: std::os::fd::BorrowedFd,
    folder: &RelPath,
    name: &[u8],
    removal: &Removal,
    totals: &mut Totals,
) -> Result<bool, Errno> {
    let pair = pass.pair;
    // Somebody else's work in the replica in this moment is not what was judged.
    match pair.replica.look(replica, name)? {
        Seen::Present(now) if now.id() == removal.replica.id() && now.kind == removal.replica.kind => {}
        Seen::Absent => return Ok(true),
        _ => {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            return Ok(false);
        }
    }
    if removal.replica.kind != Kind::Directory {
        remove::unlink(replica, name, AtFlags::empty())?;
        pair.report(Operation::removal_of(removal.replica.kind), &removal.path);
        totals.removed += 1;
        pass.name_removed(&removal.path, &removal.replica);
        return Ok(true);
    }
    remove::folder(replica, name, &mut |names, is_folder| goes(pass, folder, names, is_folder), &mut |names, kind| {
        let path = names.iter().fold(folder.clone(), |path, name| path.join(name));
        pair.report(Operation::removal_of(kind), &path);
        totals.removed += 1;
    })
}
