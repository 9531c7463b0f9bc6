//! Owns a folder with so many names that one worker would be long at it: they are cut into slices, which the workers take
//! like folders. What the names of a slice come to is done before the next one, so that memory holds little but the names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustix::io::Errno;

use super::databases::InDoubt;
use super::folders::{Node, complete};
use super::queue::Task;
use super::walk::{Found, Worker};
use crate::fs::root::Root;
use crate::fs::scan;
use crate::tree::doubt::{Doubt, Extent};
use crate::tree::entry::{Seen, Stat};
use crate::tree::listing::{Listing, merge_names, parts};
use crate::tree::record::Record;

/// A folder with no more names than this is dealt with by one worker.
pub(super) const MANY: usize = 2_048;
/// As many names are dealt with at a time.
const SLICE: usize = 256;

/// A folder with many names.
pub struct Large {
    /// What each side lists; where names alone are in doubt, these stand in the source's.
    source: Listing,
    replica: Listing,
    extent: Extent,
    names: BTreeMap<Box<[u8]>, Doubt>,
    record: OnceLock<Record>,
    left: AtomicUsize,
    rest: Mutex<Rest>,
}

/// A part of it.
pub struct Slice {
    large: Arc<Large>,
    source: Range<usize>,
    replica: Range<usize>,
}

/// What can be dealt with only when all slices have been looked at.
#[derive(Default)]
struct Rest {
    databases: BTreeMap<Box<[u8]>, InDoubt>,
    /// Listed, and not there when they were looked at.
    vanished: BTreeSet<Box<[u8]>>,
}

impl Large {
    /// Names alone that are in doubt.
    pub(super) fn of_names(names: BTreeMap<Box<[u8]>, Doubt>) -> Result<Self, Errno> {
        let mut source = Listing::default();
        if !names.keys().all(|name| source.push(name, false)) {
            return Err(Errno::OVERFLOW);
        }
        Ok(Self::new((source, Listing::default()), Extent::Names, names))
    }

    /// All that is listed.
    pub(super) fn new(sides: (Listing, Listing), extent: Extent, names: BTreeMap<Box<[u8]>, Doubt>) -> Self {
        let (source, replica) = sides;
        let (record, left, rest) = (OnceLock::new(), AtomicUsize::new(0), Mutex::default());
        Self { source, replica, extent, names, record, left, rest }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Worker<'_> {
    /// Leaves a large folder to all workers.
    pub(super) fn share_out(&self, node: &Arc<Node>, large: Large) {
        if large.extent != Extent::Names {
            self.take_over_record(node);
            let record = large.record.get_or_init(|| self.pass.pair.record(node.ids));
            // What is on neither side any more.
            for (name, _) in record.iter().filter(|(name, _)| !name.is_empty()) {
                if !large.source.has(name) && !large.replica.has(name) {
                    node.change(name, None);
                }
            }
        }
        let slices = parts(&large.source, &large.replica, SLICE);
        large.left.store(slices.len(), Ordering::Relaxed);
        let large = Arc::new(large);
        // The last is taken first.
        for (source, replica) in slices.into_iter().rev() {
            node.hold();
            self.pass.queue.push(Task::Slice(node.clone(), Slice { large: large.clone(), source, replica }));
        }
    }

    pub(super) fn slice(&mut self, node: Arc<Node>, slice: Slice) {
        let large = slice.large.clone();
        let mut found = Found::default();
        if !self.pass.is_cancelled() {
            match large.extent {
                Extent::Names => self.look_at_named(&node, &slice, &mut found),
                _ => self.look_at_listed(&node, &slice, &mut found),
            }
        }
        self.deal_with(&node, &large, found);
        if large.left.fetch_sub(1, Ordering::AcqRel) == 1 && !self.pass.is_cancelled() {
            self.end_large(&node, &large);
        }
        complete(self.pass, node, &mut self.totals);
    }

    fn look_at_named(&mut self, node: &Arc<Node>, slice: &Slice, found: &mut Found) {
        let large = &slice.large;
        for name in large.source.names(slice.source.clone()) {
            self.pass.pulse.beat();
            if let Some(doubt) = large.names.get(name) {
                self.look_at_name(node, name, *doubt, (&large.record, &large.names), found);
            }
        }
    }

    fn look_at_listed(&mut self, node: &Arc<Node>, slice: &Slice, found: &mut Found) {
        let large = &slice.large;
        let (mut entries, mut bytes) = (0, 0u64);
        let sides = ((&large.source, slice.source.clone()), (&large.replica, slice.replica.clone()));
        for (name, in_source, in_replica) in merge_names(sides.0, sides.1) {
            self.pass.pulse.beat();
            let (source, replica) = self.look_at_both(node, name, (in_source, in_replica));
            if (in_source && source == Seen::Absent) || (in_replica && replica == Seen::Absent) {
                large.rest().vanished.insert(name.into());
                continue;
            }
            entries += u64::from(in_source);
            bytes = bytes.saturating_add(source.stat().map_or(0, Stat::stored));
            self.decide_listed(node, large, (name, source, replica), found);
        }
        self.pass.pulse.listed(entries, bytes);
    }

    fn decide_listed(&mut self, node: &Arc<Node>, large: &Large, known: (&[u8], Seen, Seen), found: &mut Found) {
        let doubt = large.names.get(known.0).copied();
        let record = large.record.get_or_init(|| self.pass.pair.record(node.ids));
        self.decide_name(node, known, record.get(known.0), doubt, large.extent, found);
    }

    fn look_at_both(&self, node: &Node, name: &[u8], (in_source, in_replica): (bool, bool)) -> (Seen, Seen) {
        let pair = self.pass.pair;
        let look = |root: &Root, folder, is_listed| match is_listed {
            true => root.look(folder, name).unwrap_or(Seen::Unknown),
            false => Seen::Absent,
        };
        let source = look(&pair.source, node.source.as_fd(), in_source);
        let replica = node.replica.as_ref().map(|folder| look(&pair.replica, folder.as_fd(), in_replica));
        (source, replica.unwrap_or(Seen::Absent))
    }

    /// Does what was found, but for what another slice may add to.
    fn deal_with(&mut self, node: &Arc<Node>, large: &Large, found: Found) {
        for (base, in_doubt) in found.databases {
            large.rest().databases.entry(base).or_default().extend(in_doubt);
        }
        for job in found.jobs {
            if !self.pass.is_cancelled() {
                self.pass.pulse.beat();
                self.job(node, job);
            }
        }
    }

    /// All slices have been looked at.
    fn end_large(&mut self, node: &Arc<Node>, large: &Large) {
        let vanished = std::mem::take(&mut large.rest().vanished);
        if !vanished.is_empty() {
            let mut found = Found::default();
            match self.look_at_vanished(node, large, &vanished, &mut found) {
                Ok(()) => self.deal_with(node, large, found),
                Err(error) => self.pass.failed(&node.path, "cannot list the folder", error),
            }
        }
        for (base, in_doubt) in std::mem::take(&mut large.rest().databases) {
            node.hold();
            self.pass.queue.push(Task::Database(node.clone(), base, in_doubt));
        }
    }

    /// What is gone by now is absent; what its folder still lists, and has not, is unknown, as on a damaged filesystem.
    fn look_at_vanished(
        &mut self,
        node: &Arc<Node>,
        large: &Large,
        vanished: &BTreeSet<Box<[u8]>>,
        found: &mut Found,
    ) -> Result<(), Errno> {
        let in_source = scan::listed_still(node.source.as_fd(), vanished)?;
        let in_replica = match &node.replica {
            Some(folder) => scan::listed_still(folder.as_fd(), vanished)?,
            None => BTreeSet::new(),
        };
        let known = |seen: Seen, is_listed| if is_listed && seen == Seen::Absent { Seen::Unknown } else { seen };
        for name in vanished {
            let (source, replica) = self.look_at_both(node, name, (true, true));
            let (source, replica) =
                (known(source, in_source.contains(name)), known(replica, in_replica.contains(name)));
            self.decide_listed(node, large, (name, source, replica), found);
        }
        Ok(())
    }
}
