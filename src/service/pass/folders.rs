//! Owns a folder in the making: both sides open, what was found out about its entries, and its end, when all below it
//! is done and its own attributes are set.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::lend::{base_of, hash, lend};
use super::meeting::is_changed;
use super::{Pass, place_of};
use crate::fs::archive::Changes;
use crate::fs::stage::Target;
use crate::fs::{metadata, trust};
use crate::service::agreements::Ids;
use crate::service::claims::Which;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{InodeId, Stat};
use crate::tree::history::Attributes;
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;
use crate::tree::totals::Totals;

/// So many agreements do not wait for the end of their folder: it may hold millions, and the other lane may ask.
const MANY: usize = 256;

/// A folder that is being worked on.
pub struct Node {
    pub path: RelPath,
    pub source: OwnedFd,
    /// `None` in a dry run, where the folder does not exist yet.
    pub replica: Option<Arc<OwnedFd>>,
    pub id: InodeId,
    pub ids: Ids,
    pub parent: Option<Arc<Node>>,
    /// Made by this pass.
    pub fresh: bool,
    pub attributes_agreed: bool,
    /// What happened in it before was not heard, and may have been after its attributes were read.
    just_watched: bool,
    /// The replica's before anything was done in it, and what was agreed by then; in two-way mode, where it was there.
    found: Option<(Stat, Option<Agreed>)>,
    touched: AtomicBool,
    abandoned: AtomicBool,
    pending: AtomicUsize,
    changes: Mutex<Changes>,
}

impl Node {
    pub fn new(
        path: RelPath,
        (source, ids): (OwnedFd, Ids),
        replica: Option<OwnedFd>,
        parent: Option<Arc<Node>>,
    ) -> Self {
        Self {
            path,
            source,
            replica: replica.map(Arc::new),
            id: ids.source,
            ids,
            parent,
            fresh: false,
            attributes_agreed: false,
            just_watched: false,
            found: None,
            touched: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            pending: AtomicUsize::new(1),
            changes: Mutex::default(),
        }
    }

    /// The same, made by this pass or not, with attributes that are agreed or not.
    pub fn with(self, fresh: bool, attributes_agreed: bool) -> Self {
        Self { fresh, attributes_agreed, ..self }
    }

    /// The same, followed from now on, or before.
    pub fn just_watched(self, just_watched: bool) -> Self {
        Self { just_watched, ..self }
    }

    /// The same, with the attributes that the replica's has before anything is done in it.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn with_found(self, pair: &Pair) -> Result<Self, Errno> {
        let Some(replica) = self.replica.as_ref().filter(|_| !self.fresh) else { return Ok(self) };
        let found = {
            // Both of one moment: who sets the attributes has his turn until that is agreed.
            let _turn = pair.turn(&self.path);
            let agreed = self.place(pair).and_then(|(ids, name)| pair.agreed(ids, &name));
            (pair.replica.stat(replica.as_fd())?, agreed)
        };
        Ok(Self { found: Some(found), ..self })
    }

    /// What the replica's was before anything was done in it: with the attributes that were set since, and with what is
    /// agreed by now, if another pass has had it agreed meanwhile.
    fn before(&self, now: &Stat, agreed: Option<&Agreed>) -> Option<Stat> {
        let (found, was_agreed) = self.found.as_ref()?;
        let mut before = *found;
        let is_news = |agreed: &&Agreed| was_agreed.as_ref() != Some(agreed) && !is_changed(&agreed.replica);
        if let Some(agreed) = agreed.filter(is_news) {
            (before.mode, before.mtime, before.ctime) =
                (agreed.replica.mode, agreed.replica.mtime, agreed.replica.ctime);
            (before.uid, before.gid) = agreed.base.map_or((now.uid, now.gid), |base| (base.uid, base.gid));
        }
        if attributes(now) == attributes(&before) {
            return Some(before);
        }
        Some(Stat { mtime: before.mtime, ..*now })
    }

    /// The folder that holds it, and its name there.
    fn place(&self, pair: &Pair) -> Option<(Ids, Vec<u8>)> {
        match &self.parent {
            Some(parent) => self.path.split().map(|(_, name)| (parent.ids, name.to_vec())),
            None => place_of(pair, &self.path),
        }
    }

    /// The replica's folder, or the error that a folder that is not there gives.
    pub fn replica(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.replica.as_ref().map(|fd| fd.as_fd()).ok_or(Errno::NOENT)
    }

    /// The same, for what is built for it.
    pub fn target(&self) -> Result<Target<'_>, Errno> {
        Ok(Target { folder: self.replica()?, path: &self.path })
    }

    pub fn change(&self, name: &[u8], change: Option<Agreed>) {
        self.changes().insert(name.into(), change);
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// One more thing that has to end before the folder does.
    pub fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// The list of the replica's folder has changed, and with it the folder's times.
    pub fn touch(&self, pass: &Pass) {
        if !self.touched.swap(true, Ordering::Relaxed) {
            pass.touched(&self.path);
        }
    }

    /// Whether the folder still is where it was opened, for the lane beside the one that deals with folders: that one
    /// may have dealt with its renaming already. Asked under a claim or a turn, what follows is seen by the other lane.
    pub fn is_in_place(&self, pass: &Pass) -> bool {
        pass.lane == Which::Bulk
            || pass.pair.source.look_at(&self.path).is_ok_and(|seen| seen.stat().is_some_and(|s| s.id() == self.id))
    }

    /// Something came and went in the source's folder that left nothing but other times.
    fn stat_moved(&self, pass: &Pass) -> bool {
        let is_to_be_asked = self.attributes_agreed && (self.parent.is_none() || self.just_watched);
        let (Some(replica), true) = (&self.replica, is_to_be_asked) else { return false };
        let pair = pass.pair;
        match (pair.source.stat(self.source.as_fd()), pair.replica.stat(replica.as_fd())) {
            (Ok(source), Ok(replica)) => !metadata::same_stat(&source, &replica, &pair.rights),
            _ => true,
        }
    }

    /// What was built for it has been thrown away: nothing of it is agreed.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire) || self.parent.as_ref().is_some_and(|parent| parent.is_abandoned())
    }

    fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }
}

/// Ends one thing in a folder; with the last one the folder ends too, and so on upwards.
pub fn complete(pass: &Pass, node: Arc<Node>, totals: &mut Totals) {
    let mut node = node;
    remember_many(pass, &node);
    while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
        finish(pass, &node, totals);
        match node.parent.clone() {
            Some(parent) => node = parent,
            None => return,
        }
    }
}

fn remember_many(pass: &Pass, node: &Node) {
    let changes = {
        let mut changes = node.changes();
        if changes.len() < MANY {
            return;
        }
        std::mem::take(&mut *changes)
    };
    if !pass.pair.options.dry_run && pass.remember(&node.path, node.ids, changes) {
        // Only time is lost with it.
        let _ = pass.pair.commit(clock::now(), false);
    }
}

fn finish(pass: &Pass, node: &Node, totals: &mut Totals) {
    let pair = pass.pair;
    let changes = std::mem::take(&mut *node.changes());
    if node.is_abandoned() {
        return;
    }
    let mut behind = !pair.options.dry_run && pass.remember(&node.path, node.ids, changes);
    let own = node.is_touched() || pass.touched_early.contains(&node.path) || node.stat_moved(pass);
    if (own || node.fresh || !node.attributes_agreed) && !pass.is_cancelled() {
        // What is told of a folder is told by its path, which the other lane may be about to change.
        let is_told = pass.keeps() && pass.lane == Which::Express;
        if is_told && !pass.claim(&node.path) {
            return pass.again(&node.path, Doubt::subtree(clock::now()));
        }
        behind |= settle_in_turn(pass, node, own, totals);
        if is_told {
            pass.release(&node.path);
        }
    }
    if behind {
        // Only time is lost with it.
        let _ = pair.commit(clock::now(), false);
    }
}

/// Returns whether what was agreed waits to be committed.
fn settle_in_turn(pass: &Pass, node: &Node, own: bool, totals: &mut Totals) -> bool {
    let pair = pass.pair;
    // The other lane may have to do with this folder too: who reads the source last sets the attributes last.
    let _turn = pair.turn(&node.path);
    if !node.is_in_place(pass) {
        pass.again(&node.path, Doubt::subtree(clock::now()));
        return false;
    }
    // Before anything is set: by the same path there may be another one afterwards.
    let place = node.place(pair);
    let agreed = place.as_ref().filter(|_| node.found.is_some()).and_then(|(ids, name)| pair.agreed(*ids, name));
    match settle(pass, node, (own, agreed), totals) {
        Ok(Some(agreed)) => {
            place.is_some_and(|(ids, name)| pair.remember(ids, Changes::from([(name.into(), Some(agreed))])))
        }
        Ok(None) => false,
        Err(error) => {
            pass.failed(&node.path, "cannot set the attributes of the folder", error);
            false
        }
    }
}

/// Makes the attributes of the replica's folder those of the source's. `own`: its times differ by the program's doing.
fn settle(
    pass: &Pass,
    node: &Node,
    (own, agreed): (bool, Option<Agreed>),
    totals: &mut Totals,
) -> Result<Option<Agreed>, Errno> {
    let pair = pass.pair;
    let looked = clock::now();
    let mut source = pair.source.stat(node.source.as_fd())?;
    let mut seen = None;
    if let (Some(fd), false) = (&node.replica, pair.options.dry_run) {
        let now = pair.replica.stat(fd.as_fd())?;
        if let Some(before) = node.before(&now, agreed.as_ref()) {
            let both = [(node.source.as_fd(), &source), (fd.as_fd(), &before)];
            source = lend(pass, &node.path, both, agreed.as_ref())?;
            seen = Some(now);
        }
    }
    let racy = clock::is_racy(source.ctime);
    let Some(replica_fd) = &node.replica else { return Ok(None) };
    let replica_fd = replica_fd.as_fd();
    let wanted = metadata::xattrs(node.source.as_fd())?;
    let is_one_state = || pair.source.stat(node.source.as_fd()).is_ok_and(|now| now.stamp() == source.stamp());
    let extended = (pair.two_way.is_some() && is_one_state()).then(|| hash(&wanted));
    let mut replica = pair.replica.stat(replica_fd)?;
    if seen.is_some_and(|seen| attributes(&seen) != attributes(&replica)) {
        // Somebody is setting them, and must not lose that.
        pass.again(&node.path, Doubt::attributes(clock::now()));
        return Ok(None);
    }
    let stat_differs = !metadata::same_stat(&source, &replica, &pair.rights);
    let have = metadata::xattrs(replica_fd)?;
    let xattrs_differ = have != wanted;
    if stat_differs || xattrs_differ {
        let as_if_times_were_equal = Stat { mtime: source.mtime, ..replica };
        let only_times = metadata::same_stat(&source, &as_if_times_were_equal, &pair.rights) && !xattrs_differ;
        let expected = node.fresh || (own && only_times);
        if pair.options.dry_run {
            if !expected {
                pass.report(Operation::MetadataUpdated, &node.path);
                totals.metadata += 1;
            }
            return Ok(None);
        }
        if !pass.has_said(&node.path) {
            pass.say_was(&node.path, &Attributes::of(&pass.as_agreed(&node.path, &replica), have.clone()));
            pass.put_said()?;
        }
        pass.note_gap();
        let lost = metadata::apply(replica_fd, &source, &wanted, (&replica, Some(&have)), &pair.rights)?;
        pair.report_lost(lost, &node.path);
        if !expected {
            pass.report(Operation::MetadataUpdated, &node.path);
            totals.metadata += 1;
        }
        replica = pair.replica.stat(replica_fd)?;
    }
    let agreed = Agreed {
        source: source.stamp(),
        replica: replica.stamp(),
        racy,
        looked,
        provisional: false,
        made: None,
        base: extended.and_then(|extended| base_of(pair, (&source, &replica), extended)),
    };
    Ok(Some(agreed))
}

/// What nothing changes but who sets it.
fn attributes(stat: &Stat) -> (u16, u32, u32) {
    (stat.mode, stat.uid, stat.gid)
}

/// Opens a folder that exists on both sides, outside the walk.
///
/// # Errors
/// As of openat2(2) for the side that cannot be opened.
pub fn open(pass: &Pass, path: &RelPath) -> Result<Arc<Node>, Errno> {
    let source = pass.pair.source.open_folder(path)?;
    let stat = pass.pair.source.stat(source.as_fd())?;
    let replica = pass.pair.replica.open_folder(path)?;
    pass.say_closing(&replica, path, &stat)?;
    let is_closed = !pass.pair.options.dry_run
        && pass.pair.two_way.is_none()
        && trust::close_off(replica.as_fd(), &stat, &pass.pair.rights)?;
    let ids = pass.pair.ids(source.as_fd(), Some(replica.as_fd()))?;
    Ok(Arc::new(Node::new(path.clone(), (source, ids), Some(replica), None).with(false, !is_closed)))
}

/// Sets the attributes of folders whose lists were changed outside the walk, the deepest first.
pub fn settle_all(pass: &Pass, folders: impl IntoIterator<Item = RelPath>, totals: &mut Totals) {
    let mut folders: Vec<RelPath> = folders.into_iter().collect();
    folders.sort_unstable_by(|a, b| b.cmp(a));
    folders.dedup();
    for path in folders {
        pass.pulse.beat();
        match open(pass, &path) {
            Ok(node) => {
                node.touch(pass);
                complete(pass, node, totals);
            }
            // Gone meanwhile, with its attributes.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => {
                pass.failed(&path, "cannot open the folder", error);
                pass.again(&path, Doubt::attributes(clock::now()));
            }
        }
    }
}
