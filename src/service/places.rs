//! Owns the identity guards: which folders the two roots and the mounts below them were, as the archive remembers it, and
//! whether they still are. What follows from that is the dispatcher's and the pass's affair.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::pass::describe;
use crate::fs::archive::Archive;
use crate::fs::mounts::Table;
use crate::fs::root::Root;
use crate::fs::{identity, scan};
use crate::tree::exclude::Exclude;
use crate::tree::identity::{Memory, Mount, Place, Side};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use crate::tree::tag::Tag;

/// Why nothing can be done with the pair at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// There is no such folder.
    Gone(Side, PathBuf),
    /// There is one, but another than before.
    Other(Side, PathBuf),
    /// Somebody else writes to the replica.
    Locked(PathBuf, Option<u32>),
    /// It is there, but cannot be used.
    Unusable(PathBuf, String),
}

/// What a person can do about it, where it is not enough to wait: with a service, and with `sync`.
pub const REMEDY: &str =
    "It goes on by itself when that is back; if the change is meant, run `driftless release --accept-root`";
pub const REMEDY_OF_SYNC: &str = "If the change is meant, run it once with --accept-root";

impl Misplaced {
    /// What is wrong with the first of the roots that is not where it was opened, if one is not. This asks both disks, and
    /// waits for one that does not answer.
    pub fn find(source: &Root, replica: &Root) -> Option<Self> {
        let roots = [(Side::Source, source), (Side::Replica, replica)];
        let (side, root) = roots.into_iter().find(|(_, root)| !root.is_in_place())?;
        let path = root.path();
        // What is named by its filesystem is looked for elsewhere, too.
        if root.name() != path {
            return Some(Misplaced::Gone(side, root.name().into()));
        }
        Some(if path.exists() { Misplaced::Other(side, path.into()) } else { Misplaced::Gone(side, path.into()) })
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::ffi::OsStrExt;
        let shown = |path: &Path| quoted(path.as_os_str().as_bytes());
        match self {
            Misplaced::Gone(side, path) if Tag::is(path) => {
                write!(f, "the {side} folder {} is not there: is its filesystem mounted?", shown(path))
            }
            Misplaced::Gone(side, path) => write!(f, "the {side} folder {} is not there.", shown(path)),
            Misplaced::Other(side, path) => {
                write!(f, "the {side} folder {} is another folder than before: is its disk mounted?", shown(path))
            }
            Misplaced::Locked(path, Some(pid)) => {
                write!(f, "the replica {} is being written by process {pid}.", shown(path))
            }
            Misplaced::Locked(path, None) => {
                write!(f, "the replica {} is being written by another process.", shown(path))
            }
            Misplaced::Unusable(path, reason) => write!(f, "{} cannot be used: {reason}.", shown(path)),
        }
    }
}

/// What is remembered of one pair's folders.
#[derive(Debug)]
pub struct Places {
    /// Nobody asks a disk while having this: a disk that does not answer keeps those waiting who asked it, and no others.
    memory: Mutex<Memory>,
    mounts: Table,
}

/// The name of the fact in the archive.
const FACT: &str = "places";
/// More mounts below the roots are not remembered: something makes them in masses, and they are nobody's disks.
const MOUNTS: usize = 1_000;

impl Places {
    pub fn restore(archive: &Archive) -> Self {
        let memory = archive.fact(FACT).and_then(|bytes| Memory::decode(&bytes)).unwrap_or_default();
        Self { memory: Mutex::new(memory), mounts: Table::open() }
    }

    /// Forgets everything: a person has said that what is there now is meant.
    pub fn forget(&self) {
        *self.memory() = Memory::default();
    }

    /// Whether the roots, just opened, are the folders that they were, as far as anything is remembered.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, source: &Root, replica: &Root, both_ways: bool) -> Result<(), Misplaced> {
        for (side, root) in [(Side::Source, source), (Side::Replica, replica)] {
            if root.is_missing() {
                return Err(Misplaced::Gone(side, root.path().into()));
            }
            let found = identity::of(root.fd()).map_err(|e| Misplaced::Unusable(root.path().into(), describe(e)))?;
            let is_other = self.memory().root(side).is_some_and(|known| !known.identity.is_same(found));
            // In an empty folder that is written to there is nothing to lose.
            let is_written = side == Side::Replica || both_ways;
            let is_fresh = || {
                is_written && self.no_disk_is_missing(side, root) && scan::is_empty(root).is_ok_and(|empty| empty)
                    || both_ways && self.is_fresh_disk(side, root)
            };
            if is_other && !is_fresh() {
                return Err(Misplaced::Other(side, root.path().into()));
            }
        }
        Ok(())
    }

    /// Whether an empty disk is mounted where a root was one before. Where both sides are worked in, what an empty one lacks
    /// is brought there, and nothing is removed for it.
    fn is_fresh_disk(&self, side: Side, root: &Root) -> bool {
        let was_disk = self.memory().root(side).is_some_and(|known| known.above.is_none());
        // What mkfs makes is nobody's.
        let is_nothing = |name: &[u8]| name == b"lost+found";
        was_disk
            && root.path().parent().is_some()
            && identity::above(root.fd(), root.path()).is_none()
            && scan::names(root.fd(), &mut || {}).is_ok_and(|names| names.names(0..names.len()).all(is_nothing))
    }

    /// Whether anything is remembered of this side.
    pub fn is_known(&self, side: Side) -> bool {
        self.memory().root(side).is_some()
    }

    /// Whether a root is not the folder that is remembered, so that nothing was agreed with it; also where none is.
    pub fn is_new(&self, side: Side, root: &Root) -> bool {
        let known = self.memory().root(side).map(|known| known.identity);
        known.is_none_or(|known| !identity::of(root.fd()).is_ok_and(|found| known.is_same(found)))
    }

    /// Whether a folder that is written to and is not what it was, or not there, was no disk's and lay in a folder that is still there: then
    /// somebody has taken it away, and a new one may be made.
    pub fn no_disk_is_missing(&self, side: Side, root: &Root) -> bool {
        if Tag::is(root.path()) {
            return false;
        }
        let known = self.memory().root(side);
        known.is_none_or(|known| {
            let above = root.path().parent().and_then(|parent| identity::of_path(parent).ok());
            known.above.zip(above).is_some_and(|(known, above)| known.is_same(above))
        })
    }

    /// Remembers the roots as they are.
    pub fn remember(&self, source: &Root, replica: &Root, archive: &Archive) {
        let place = |root: &Root| {
            let identity = identity::of(root.fd()).ok()?;
            Some(Place { identity, above: identity::above(root.fd(), root.path()) })
        };
        let places = (place(source), place(replica));
        let mut memory = self.memory();
        (memory.source, memory.replica) = places;
        archive.set_fact(FACT, &memory.encode());
    }

    /// Remembers also what is mounted below the roots now. A mount that was there and is gone stays remembered.
    pub fn learn(&self, (source, replica): (&Root, &Root), exclude: &Exclude, archive: &Archive) {
        let known = self.memory().mounts.clone();
        let mut new = Vec::new();
        for (side, root) in [(Side::Source, source), (Side::Replica, replica)] {
            for point in self.mounted(root) {
                let Some(path) = RelPath::below(root.path(), &point) else { continue };
                let is_known = known.iter().any(|m| m.side == side && m.path == path);
                if is_known || known.len() + new.len() >= MOUNTS || exclude.skips_within(&path, true) {
                    continue;
                }
                if let Ok(identity) = identity::of_path(&point) {
                    new.push(Mount { side, path, identity });
                }
            }
        }
        if !new.is_empty() {
            let mut memory = self.memory();
            memory.mounts.extend(new);
            archive.set_fact(FACT, &memory.encode());
        }
    }

    /// A folder of the source was renamed, and with it what is mounted in it.
    pub fn moved(&self, from: &RelPath, to: &RelPath, archive: &Archive) {
        let mut memory = self.memory();
        let mut is_changed = false;
        for mount in &mut memory.mounts {
            // There and back is an exchange.
            if let Some(path) = mount.path.moved(from, to).or_else(|| mount.path.moved(to, from)) {
                mount.path = path;
                is_changed = true;
            }
        }
        if is_changed {
            archive.set_fact(FACT, &memory.encode());
        }
    }

    /// The mounts below the roots that were there and are not. What lies there now is not what belongs there.
    pub fn gone(&self, (source, replica): (&Root, &Root)) -> BTreeSet<RelPath> {
        let known = self.memory().mounts.clone();
        if known.is_empty() {
            return BTreeSet::new();
        }
        let (Some(of_source), Some(of_replica)) = (self.mounts.below(source.path()), self.mounts.below(replica.path()))
        else {
            return known.into_iter().map(|mount| mount.path).collect();
        };
        let is_gone = |mount: &&Mount| {
            let (root, present) = match mount.side {
                Side::Source => (source, &of_source),
                Side::Replica => (replica, &of_replica),
            };
            let point = mount.path.to_path(root.path());
            !present.contains(&point) || !identity::of_path(&point).is_ok_and(|found| found.is_same(mount.identity))
        };
        known.iter().filter(is_gone).map(|mount| mount.path.clone()).collect()
    }

    /// Where something was mounted inside a root when the last sweep began, or before.
    pub fn mounts_in(&self, side: Side) -> Vec<RelPath> {
        let memory = self.memory();
        memory.mounts.iter().filter(|mount| mount.side == side).map(|mount| mount.path.clone()).collect()
    }

    pub fn has_mounts_in(&self, side: Side) -> bool {
        self.memory().mounts.iter().any(|mount| mount.side == side)
    }

    /// Whatever is mounted below a root now, as far as that can be told.
    pub fn mounted(&self, root: &Root) -> BTreeSet<PathBuf> {
        self.mounts.below(root.path()).unwrap_or_default()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|e| e.into_inner())
    }
}
