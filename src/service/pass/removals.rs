//! Owns what a pass takes away: after all else, judged together, and only what the disk still shows to be gone from
//! the source. Also folders in whose place the source has something else: their contents count as removals.

mod announced;
mod deed;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::io::Errno;

use super::files::Job;
use super::queue::Task;
use super::{Brake, Pass, both_ways, folders, place_of, survey, walk};
use crate::fs::remove::{End, Tree};
use crate::fs::root::Root;
use crate::plan::guard::Verdict;
use crate::plan::mirror::Step;
use crate::service::{clock, report};
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;
use announced::{Announced, Before};
use deed::{Going, empty, remove_in};

/// What is to go: a whole entry, or a folder that something else replaces.
struct Removal {
    path: RelPath,
    replica: Stat,
    /// What the source has there instead.
    replaced_by: Option<Stat>,
    what: What,
    cause: Cause,
}

enum What {
    /// It holds nothing.
    Entry,
    /// Where both sides are worked in, with what it takes to know that nothing in it is new.
    Folder(Tree, Option<survey::Going>, Before),
}

impl Removal {
    /// Entries that go with it, itself among them.
    fn entries(&self) -> u64 {
        match &self.what {
            What::Entry => 1,
            What::Folder(tree, ..) => tree.entries(),
        }
    }

    fn known(&self) -> Option<&survey::Going> {
        match &self.what {
            What::Folder(_, known, _) => known.as_ref(),
            What::Entry => None,
        }
    }

    /// What its folders were, where that is told.
    fn before(&self) -> &Before {
        static NONE: LazyLock<Before> = LazyLock::new(Before::new);
        match &self.what {
            What::Folder(_, _, before) => before,
            What::Entry => &NONE,
        }
    }

    /// The same one by one.
    fn listed(&self) -> Vec<(RelPath, Kind)> {
        match &self.what {
            What::Entry => vec![(self.path.clone(), self.replica.kind)],
            What::Folder(tree, ..) => tree.listed(),
        }
    }
}

/// From so many entries on, more than one thread is worth its start.
const WORTH_SHARING: u64 = 500;

/// Carries out the removals that the brake lets through, with as many threads as `jobs` where there are many. Returns
/// also what has to be made where folders were.
pub fn carry_out(pass: &Pass, brake: &Brake, jobs: usize) -> (Totals, Vec<Task>) {
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
            Some(source) => late.extend(replacement(pass, removal, &source, (jobs, &mut totals))),
            None => by_folder.entry(parent).or_default().push(removal),
        }
    }
    let touched = shared_out(pass, by_folder, jobs, &mut totals);
    folders::settle_all(pass, touched, &mut totals);
    (totals, late)
}

/// Removes what goes, folder by folder. Returns the folders whose lists changed.
fn shared_out(
    pass: &Pass,
    by_folder: BTreeMap<RelPath, Vec<Removal>>,
    jobs: usize,
    totals: &mut Totals,
) -> Vec<RelPath> {
    let entries = |removals: &[Removal]| removals.iter().map(Removal::entries).sum::<u64>();
    let all: u64 = by_folder.values().map(|removals| entries(removals)).sum();
    let announced = match Announced::new(pass, &by_folder) {
        Ok(announced) => announced,
        Err(error) => {
            for folder in by_folder.keys() {
                pass.failed(folder, "cannot write the journal", error);
            }
            return Vec::new();
        }
    };
    // The threads share the folders; where one holds most of what goes, they share what is in it.
    let is_most = |removals: &[Removal]| !pass.pair.options.dry_run && entries(removals) > all / 2;
    let (one, many): (Vec<_>, Vec<_>) = by_folder.into_iter().partition(|(_, removals)| is_most(removals));
    let helpers = if all < WORTH_SHARING || pass.pair.options.dry_run { 0 } else { jobs.saturating_sub(1) };
    let done = Mutex::new((Vec::new(), 0));
    let work = |todo: &Mutex<std::vec::IntoIter<(RelPath, Vec<Removal>)>>, jobs: usize| {
        while !pass.is_cancelled() {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((folder, removals)) = next else { return };
            let removed = remove_in(pass, &folder, removals, (jobs, &announced));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.1 += removed;
            if removed > 0 {
                done.0.push(folder);
            }
        }
    };
    work(&Mutex::new(one.into_iter()), helpers + 1);
    let helpers = helpers.min(many.len().saturating_sub(1));
    let many = Mutex::new(many.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // Without more threads it takes longer.
            let _ = std::thread::Builder::new().name("removal".into()).spawn_scoped(scope, || work(&many, 1));
        }
        work(&many, 1);
    });
    announced.unsay(pass);
    let (touched, removed) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.removed += removed;
    // In a dry run nothing was.
    if pass.pair.options.dry_run { Vec::new() } else { touched }
}

/// Asks the brake, notes what it holds, and returns the others.
fn let_through(pass: &Pass, brake: &Brake, removals: Vec<Removal>) -> Vec<Removal> {
    let found: u64 = removals.iter().map(Removal::entries).sum();
    let known = brake.entries.unwrap_or_else(|| pass.entries.load(Ordering::Relaxed));
    let asked: Vec<(&RelPath, u64)> = removals.iter().map(|r| (&r.path, r.entries())).collect();
    let verdicts = brake.sort(&asked, known.max(found), pass.rules.max_delete);
    let is_emptied = both_ways::is_emptied(pass, removals.len());
    report::emptied(pass.pair, is_emptied);
    let mut go = Vec::new();
    for (mut removal, verdict) in removals.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Go if !is_emptied => {}
            Verdict::Released => removal.cause = Cause::Release,
            Verdict::Go | Verdict::Hold => {
                let mut shared = pass.shared();
                shared.outcome.held_entries += removal.entries();
                let entries = removal.entries();
                shared.outcome.held.push((removal.path, entries));
                continue;
            }
        }
        go.push(removal);
    }
    go
}

/// The task that puts the source's entry in the place of a folder.
fn replacement(pass: &Pass, mut removal: Removal, source: &Stat, (jobs, totals): (usize, &mut Totals)) -> Option<Task> {
    let path = removal.path.clone();
    let (parent, name) = path.split()?;
    if (pass.pair.two_way.is_some() || pass.keeps()) && !pass.pair.options.dry_run {
        match empty(pass, &removal, source, jobs) {
            Ok((End::Gone, removed)) => totals.removed += removed,
            Ok((end, removed)) => {
                totals.removed += removed;
                if end == End::Changed {
                    pass.again(&path, Doubt::subtree(clock::now()));
                }
                return None;
            }
            Err(error) => {
                pass.failed(&path, "cannot be replaced", error);
                return None;
            }
        }
        // The rest has been told.
        removal.what = What::Entry;
    }
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
            let listed = removal.listed();
            pass.shared().replaced.insert(removal.path, (listed, removal.cause));
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
    let (mut sources, mut replicas) = (Last::of(&pair.source), Last::of(&pair.replica));
    for (path, replica, replaced_by) in removals.chain(replacements) {
        if out.last().is_some_and(|last| path.is_within(&last.path)) {
            continue;
        }
        if pass.is_cancelled() {
            return Vec::new();
        }
        match (sources.look_at(&path), &replaced_by) {
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
        let going = match may_go_across(pass, &mut replicas, &path, &replica, replaced_by.as_ref()) {
            Ok(Some(going)) => going,
            Ok(None) => continue,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                pass.again(&path, Doubt::subtree(clock::now()));
                continue;
            }
            Err(_) if pass.is_cancelled() => return Vec::new(),
            Err(error) => {
                pass.failed(&path, "cannot be looked through, so it is left alone", error);
                continue;
            }
        };
        let cause = pass.asked(&path);
        match counted(pass, &mut replicas, &path, &replica, going) {
            Ok(What::Folder(tree, ..)) if tree.stays() && replaced_by.is_some() => {
                pass.problem(&path, "cannot be replaced: the folder holds excluded entries".into());
            }
            Ok(What::Folder(tree, ..)) if tree.entries() == 0 => {}
            Ok(what) => out.push(Removal { path, replica, replaced_by, what, cause }),
            Err(Errno::NOENT) => {}
            // Something else is there by now.
            Err(Errno::NOTDIR | Errno::LOOP) => pass.again(&path, Doubt::subtree(clock::now())),
            Err(_) if pass.is_cancelled() => return Vec::new(),
            Err(error) => pass.failed(&path, "cannot list the folder that is to go", error),
        }
    }
    out
}

/// What is known to be as agreed.
type Known = Option<survey::Going>;

/// Whether an entry may go as far as the other side of a pair is concerned that is worked in on both: nothing if not.
fn may_go_across(
    pass: &Pass,
    replicas: &mut Last,
    path: &RelPath,
    replica: &Stat,
    replaced_by: Option<&Stat>,
) -> Result<Option<Known>, Errno> {
    if pass.pair.two_way.is_none() || replica.kind != Kind::Directory {
        return Ok(Some(None));
    }
    let (Some((ids, name)), Some((parent, _))) = (place_of(pass.pair, path), path.split()) else { return Ok(None) };
    let Some(agreed) = pass.pair.agreed(ids, &name) else { return Ok(replaced_by.map(|_| None)) };
    if let Some(going) = survey::may_go(pass, replicas.folder(&parent)?, path, &agreed)? {
        return Ok(Some(Some(going)));
    }
    match replaced_by {
        // Something else has its name on the source, and what is new in it is not to be lost.
        Some(source) => both_ways::move_aside(pass, replicas.folder(&parent)?, path, source, replica)?,
        None => pass.across(path),
    }
    Ok(None)
}

/// What would go with an entry.
fn counted(pass: &Pass, replicas: &mut Last, path: &RelPath, replica: &Stat, known: Known) -> Result<What, Errno> {
    if replica.kind != Kind::Directory {
        return Ok(What::Entry);
    }
    let Some((parent, _)) = path.split() else { return Err(Errno::NOENT) };
    let going = Going::new(pass, pass.cause, None);
    let tree = Tree::survey(replicas.folder(&parent)?, path, &going)?;
    Ok(What::Folder(tree, known, going.before()))
}

/// The folder that was asked for last: what comes after it in order is mostly in the same one.
struct Last<'a> {
    root: &'a Root,
    last: Option<(RelPath, Result<OwnedFd, Errno>)>,
}

impl<'a> Last<'a> {
    fn of(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    fn folder(&mut self, path: &RelPath) -> Result<BorrowedFd<'_>, Errno> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = None;
        }
        let (_, folder) = self.last.get_or_insert_with(|| (path.clone(), self.root.open_folder(path)));
        folder.as_ref().map(|fd| fd.as_fd()).map_err(|error| *error)
    }

    /// As `Root::look_at`.
    fn look_at(&mut self, path: &RelPath) -> Result<Seen, Errno> {
        let Some((parent, name)) = path.split() else { return self.root.look_at(path) };
        let root = self.root;
        match self.folder(&parent) {
            Ok(folder) => root.look(folder, name),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Seen::Absent),
            Err(error) => Err(error),
        }
    }
}
