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
use crate::fs::remove;
use crate::plan::guard::Verdict;
use crate::plan::mirror::Step;
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::{Cause, Operation};
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
    /// The same one by one, where they are not removed one by one.
    listed: Vec<(RelPath, Kind)>,
    cause: Cause,
}

/// Carries out the removals that the brake lets through. Returns also what has to be made where folders were.
pub fn carry_out(pass: &Pass, brake: &Brake) -> (Totals, Vec<Task>) {
    let mut totals = Totals::default();
    let removals = confirmed(pass);
    if removals.is_empty() || pass.is_cancelled() {
        return (totals, Vec::new());
    }
    if pass.is_displaced() {
        pass.shared().outcome.displaced = true;
        return (totals, Vec::new());
    }
    let mut late = Vec::new();
    let mut by_folder: BTreeMap<RelPath, Vec<Removal>> = BTreeMap::new();
    for removal in let_through(pass, brake, removals) {
        let Some((parent, _)) = removal.path.split() else { continue };
        match removal.replaced_by {
            Some(source) => late.extend(replacement(pass, removal, &source)),
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

/// Asks the brake, notes what it holds, and returns the others.
fn let_through(pass: &Pass, brake: &Brake, removals: Vec<Removal>) -> Vec<Removal> {
    let found: u64 = removals.iter().map(|r| r.entries).sum();
    let known = brake.entries.unwrap_or_else(|| pass.entries.load(std::sync::atomic::Ordering::Relaxed));
    let asked: Vec<(&RelPath, u64)> = removals.iter().map(|r| (&r.path, r.entries)).collect();
    let verdicts = brake.sort(&asked, known.max(found), pass.rules.max_delete);
    let mut go = Vec::new();
    for (mut removal, verdict) in removals.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Go => {}
            Verdict::Released => removal.cause = Cause::Release,
            Verdict::Hold => {
                let mut shared = pass.shared();
                shared.outcome.held_entries += removal.entries;
                shared.outcome.held.push((removal.path, removal.entries));
                continue;
            }
        }
        go.push(removal);
    }
    go
}

/// The task that puts the source's entry in the place of a folder.
fn replacement(pass: &Pass, removal: Removal, source: &Stat) -> Option<Task> {
    let (parent, name) = removal.path.split()?;
    if source.is_linked() {
        let mut shared = pass.shared();
        let group = shared.groups.entry(source.id()).or_default();
        group.names.insert(removal.path.clone());
        group.nlink = source.nlink;
        group.leader.get_or_insert_with(|| removal.path.clone());
    }
    let (step, replica) = (Step::Replace, Some(removal.replica));
    let job = Job::new(name, step, source, replica);
    match walk::single(pass, &parent, job) {
        Ok(task) => {
            // They are gone when it is done.
            pass.shared().replaced.insert(removal.path, (removal.listed, removal.cause));
            Some(task)
        }
        Err(error) => {
            pass.failed(&removal.path, "cannot open the folder", error);
            None
        }
    }
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
        let is_listed = replaced_by.is_some() || pair.options.dry_run;
        match survey(pass, &path, &replica, is_listed) {
            Ok(found) if found.stays && replaced_by.is_some() => {
                pass.problem(&path, "cannot be replaced: the folder holds excluded entries".into());
            }
            Ok(Found { entries: 0, .. }) => {}
            Ok(Found { entries, listed, .. }) => {
                let cause = pass.asked(&path);
                out.push(Removal { path, replica, replaced_by, entries, listed, cause });
            }
            Err(Errno::NOENT) => {}
            // Something else is there by now.
            Err(Errno::NOTDIR | Errno::LOOP) => pass.again(&path, Doubt::subtree(clock::now())),
            Err(error) => pass.failed(&path, "cannot list the folder that is to go", error),
        }
    }
    out
}

/// What would go with an entry.
struct Found {
    entries: u64,
    listed: Vec<(RelPath, Kind)>,
    /// It holds something excluded, and stays with it.
    stays: bool,
}

fn survey(pass: &Pass, path: &RelPath, replica: &Stat, is_listed: bool) -> Result<Found, Errno> {
    let mut found = Found { entries: 0, listed: Vec::new(), stays: false };
    let Some((parent, name)) = path.split() else { return Ok(found) };
    if replica.kind != Kind::Directory {
        found.entries = 1;
        found.listed.extend(is_listed.then(|| (path.clone(), replica.kind)));
        return Ok(found);
    }
    let folder = pass.pair.replica.open_folder(&parent)?;
    let goes = &mut |names: &[Box<[u8]>], is_folder: bool| goes(pass, &parent, names, is_folder);
    let is_gone = remove::survey(folder.as_fd(), name, goes, &mut |names, kind| {
        found.entries += 1;
        found.listed.extend(is_listed.then(|| (below(&parent, names), kind)));
    })?;
    found.stays = !is_gone;
    Ok(found)
}

fn below(folder: &RelPath, names: &[Box<[u8]>]) -> RelPath {
    names.iter().fold(folder.clone(), |path, name| path.join(name))
}

fn goes(pass: &Pass, parent: &RelPath, names: &[Box<[u8]>], is_folder: bool) -> bool {
    let path = below(parent, names);
    pass.pulse.beat();
    // Not the reserved folder of a subvolume: it goes with that.
    !pass.is_excluded(&path, is_folder)
}

/// Removes entries of one folder. Returns whether the folder's list changed.
fn remove_in(pass: &Pass, folder: &RelPath, removals: Vec<Removal>, totals: &mut Totals) -> bool {
    let pair = pass.pair;
    if pair.options.dry_run {
        for removal in removals {
            for (path, kind) in &removal.listed {
                pass.report_removal(Operation::removal_of(*kind), path, removal.cause);
            }
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
        let is_unasked = removal.cause != Cause::Release;
        let result = remove_one(pass, replica.as_fd(), folder, name, &removal, totals);
        pair.claims.release_subtree(&removal.path);
        changed |= totals.removed > before;
        if is_unasked {
            pass.shared().outcome.unasked += totals.removed - before;
        }
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
        pass.report_removal(Operation::removal_of(removal.replica.kind), &removal.path, removal.cause);
        totals.removed += 1;
        pass.name_removed(&removal.path, &removal.replica);
        return Ok(true);
    }
    remove::folder(replica, name, &mut |names, is_folder| goes(pass, folder, names, is_folder), &mut |names, kind| {
        pass.report_removal(Operation::removal_of(kind), &below(folder, names), removal.cause);
        totals.removed += 1;
    })
}
