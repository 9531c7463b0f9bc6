//! Owns what a pass takes away: after all else, judged together, and only what the disk still shows to be gone from
//! the source. Also folders in whose place the source has something else: their contents count as removals.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::files::Job;
use super::queue::Task;
use super::{Brake, Pass, both_ways, folders, place_of, walk};
use crate::fs::archive::Changes;
use crate::fs::remove::{self, End, Tree};
use crate::fs::root::Root;
use crate::plan::guard::Verdict;
use crate::plan::mirror::Step;
use crate::service::{clock, report};
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
    what: What,
    cause: Cause,
}

enum What {
    /// It holds nothing.
    Entry,
    Folder(Tree),
}

impl Removal {
    /// Entries that go with it, itself among them.
    fn entries(&self) -> u64 {
        match &self.what {
            What::Entry => 1,
            What::Folder(tree) => tree.entries(),
        }
    }

    /// The same one by one.
    fn listed(&self) -> Vec<(RelPath, Kind)> {
        match &self.what {
            What::Entry => vec![(self.path.clone(), self.replica.kind)],
            What::Folder(tree) => tree.listed(),
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
            Some(source) => late.extend(replacement(pass, removal, &source)),
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
    // The threads share the folders; where one holds most of what goes, they share what is in it.
    let is_most = |removals: &[Removal]| !pass.pair.options.dry_run && entries(removals) > all / 2;
    let (one, many): (Vec<_>, Vec<_>) = by_folder.into_iter().partition(|(_, removals)| is_most(removals));
    let helpers = if all < WORTH_SHARING || pass.pair.options.dry_run { 0 } else { jobs.saturating_sub(1) };
    let done = Mutex::new((Vec::new(), 0));
    let work = |todo: &Mutex<std::vec::IntoIter<(RelPath, Vec<Removal>)>>, jobs: usize| {
        while !pass.is_cancelled() {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((folder, removals)) = next else { return };
            let removed = remove_in(pass, &folder, removals, jobs);
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
        match may_go_across(pass, &mut replicas, &path, &replica, replaced_by.as_ref()) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                pass.again(&path, Doubt::subtree(clock::now()));
                continue;
            }
            Err(_) if pass.is_cancelled() => return Vec::new(),
            Err(error) => {
                pass.failed(&path, "cannot be looked through, so it is left alone", error);
                continue;
            }
        }
        let cause = pass.asked(&path);
        match survey(pass, &mut replicas, &path, &replica) {
            Ok(What::Folder(tree)) if tree.stays() && replaced_by.is_some() => {
                pass.problem(&path, "cannot be replaced: the folder holds excluded entries".into());
            }
            Ok(What::Folder(tree)) if tree.entries() == 0 => {}
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

/// Whether an entry may go as far as the other side of a pair is concerned that is worked in on both.
fn may_go_across(
    pass: &Pass,
    replicas: &mut Last,
    path: &RelPath,
    replica: &Stat,
    replaced_by: Option<&Stat>,
) -> Result<bool, Errno> {
    if pass.pair.two_way.is_none() || replica.kind != Kind::Directory {
        return Ok(true);
    }
    let (Some((ids, name)), Some((parent, _))) = (place_of(pass.pair, path), path.split()) else { return Ok(false) };
    let Some(agreed) = pass.pair.agreed(ids, &name) else { return Ok(replaced_by.is_some()) };
    if both_ways::may_go(pass, replicas.folder(&parent)?, path, &agreed)? {
        return Ok(true);
    }
    match replaced_by {
        // Something else has its name on the source, and what is new in it is not to be lost.
        Some(source) => both_ways::move_aside(pass, replicas.folder(&parent)?, path, source, replica)?,
        None => pass.across(path),
    }
    Ok(false)
}

/// What would go with an entry.
fn survey(pass: &Pass, replicas: &mut Last, path: &RelPath, replica: &Stat) -> Result<What, Errno> {
    if replica.kind != Kind::Directory {
        return Ok(What::Entry);
    }
    let Some((parent, _)) = path.split() else { return Err(Errno::NOENT) };
    let going = Going { pass, cause: pass.cause, removed: AtomicU64::new(0) };
    Tree::survey(replicas.folder(&parent)?, path, &going).map(What::Folder)
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

/// A removal under way, and how many entries are gone by it.
struct Going<'a> {
    pass: &'a Pass<'a>,
    cause: Cause,
    removed: AtomicU64,
}

impl remove::Below for Going<'_> {
    fn goes(&self, path: &RelPath, is_folder: bool) -> bool {
        self.pass.pulse.beat();
        // Not the reserved folder of a subvolume: it goes with that.
        !self.pass.is_excluded(path, is_folder)
    }

    fn removed(&self, folder: &RelPath, entries: &[(&[u8], Kind)]) {
        self.pass.pulse.beat();
        self.removed.fetch_add(entries.len() as u64, Ordering::Relaxed);
        self.pass.report_removals(folder, entries, self.cause);
    }

    fn is_stopped(&self) -> bool {
        self.pass.is_cancelled()
    }
}

/// Removes entries of one folder. Returns how many are gone; in a dry run, how many would be.
fn remove_in(pass: &Pass, folder: &RelPath, removals: Vec<Removal>, jobs: usize) -> u64 {
    let pair = pass.pair;
    let mut all = 0;
    if pair.options.dry_run {
        for removal in removals {
            for (path, kind) in &removal.listed() {
                pass.report_removal(Operation::removal_of(*kind), path, removal.cause);
            }
            all += removal.entries();
        }
        return all;
    }
    let replica = match pair.replica.open_folder(folder) {
        Ok(replica) => replica,
        Err(error) => {
            pass.failed(folder, "cannot open the folder", error);
            return all;
        }
    };
    let ids = pair.source.open_folder(folder).and_then(|fd| pair.ids(fd.as_fd(), Some(replica.as_fd())));
    let mut forgotten = Changes::new();
    for removal in removals {
        let Some((_, name)) = removal.path.split() else { continue };
        if pass.is_cancelled() {
            break;
        }
        if !pair.claims.subtree(&removal.path) {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            continue;
        }
        let going = Going { pass, cause: removal.cause, removed: AtomicU64::new(0) };
        let result = remove_one(&going, replica.as_fd(), folder, name, &removal, jobs);
        pair.claims.release_subtree(&removal.path);
        let removed = going.removed.into_inner();
        all += removed;
        if removal.cause != Cause::Release {
            pass.shared().outcome.unasked += removed;
        }
        match result {
            Ok(true) => {
                forgotten.insert(name.into(), None);
            }
            Ok(false) => {}
            Err(error) => pass.failed(&removal.path, "cannot be removed", error),
        }
    }
    if let Ok(ids) = ids {
        pair.remember(ids, forgotten);
    }
    all
}

/// Whether nobody has written to it since.
fn is_as_judged(now: &Stat, judged: &Stat) -> bool {
    now.kind == Kind::Directory || now.stamp() == judged.stamp()
}

/// Returns whether the entry is gone.
fn remove_one(
    going: &Going,
    replica: BorrowedFd,
    folder: &RelPath,
    name: &[u8],
    removal: &Removal,
    jobs: usize,
) -> Result<bool, Errno> {
    let pass = going.pass;
    // Somebody else's work in the replica in this moment is not what was judged.
    match pass.pair.replica.look(replica, name)? {
        Seen::Present(now) if pass.pair.two_way.is_some() && !is_as_judged(&now, &removal.replica) => {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            return Ok(false);
        }
        Seen::Present(now) if now.id() == removal.replica.id() && now.kind == removal.replica.kind => {}
        Seen::Absent => return Ok(true),
        _ => {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            return Ok(false);
        }
    }
    let What::Folder(tree) = &removal.what else {
        remove::unlink(replica, name, AtFlags::empty())?;
        remove::Below::removed(going, folder, &[(name, removal.replica.kind)]);
        pass.name_removed(&removal.path, &removal.replica);
        return Ok(true);
    };
    match tree.remove(replica, going, jobs)? {
        End::Gone => Ok(true),
        End::Stays => Ok(false),
        // What came meanwhile has not been judged.
        End::Changed => {
            pass.again(&removal.path, Doubt::subtree(clock::now()));
            Ok(false)
        }
    }
}
