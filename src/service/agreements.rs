//! Owns the way to what was agreed of a folder, whichever side a pass takes for its source. In two-way mode there is one
//! record for both directions, and it is for these two folders alone: one that was made anew has agreed to nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::pair::Pair;
use crate::fs::archive::{Changes, NoArchive, ROOT};
use crate::fs::disk;
use crate::fs::root::Root;
use crate::tree::doubt::Moment;
use crate::tree::entry::{InodeId, Stamp, Time};
use crate::tree::identity::Side;
use crate::tree::intent::Intent;
use crate::tree::path::RelPath;
use crate::tree::record::{Agreed, Record};

/// As many agreements wait at most where a commit has to wait for both disks.
const FAR_BEHIND: usize = 32_768;

/// How a pair is kept equal whose folders are both worked in.
#[derive(Clone, Debug)]
pub struct TwoWay {
    /// Which of the two folders passes take for their source.
    pub source_is: Side,
    pub survivors: Arc<Survivors>,
}

/// Folders that are gone from one side and stay for the sake of what is new in them on the other: what they were on both.
#[derive(Debug, Default)]
pub struct Survivors(Mutex<HashMap<RelPath, Ids>>);

impl Survivors {
    /// `ids` as the pair's own directions have them.
    pub fn insert(&self, path: RelPath, ids: Ids) {
        self.lock().insert(path, ids);
    }

    pub fn has(&self, path: &RelPath) -> bool {
        self.lock().contains_key(path)
    }

    pub fn take(&self, path: &RelPath) -> Option<Ids> {
        self.lock().remove(path)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelPath, Ids>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One folder as it is on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub source: InodeId,
    /// Not asked for where only one side is worked in.
    pub replica: Option<InodeId>,
}

impl Ids {
    /// What holds the root's own entry.
    pub const ABOVE_ROOT: Self = Self { source: ROOT, replica: Some(ROOT) };

    /// The same from the other side.
    pub fn turned(self) -> Option<Self> {
        Some(Self { source: self.replica?, replica: Some(self.source) })
    }
}

impl Pair {
    pub fn record(&self, folder: Ids) -> Record {
        self.key(folder).map(|key| self.archive.record(key)).map(|record| self.oriented(record)).unwrap_or_default()
    }

    pub fn record_of<T>(&self, folder: Ids, names: &BTreeMap<Box<[u8]>, T>) -> Record {
        let record = self.key(folder).map(|key| self.archive.record_of(key, names));
        record.map(|record| self.oriented(record)).unwrap_or_default()
    }

    /// Whether anything was agreed in a folder, as far as is known without reading what.
    pub fn has_record(&self, folder: Ids) -> bool {
        self.key(folder).is_some_and(|key| self.archive.has_record(key))
    }

    pub fn agreed(&self, folder: Ids, name: &[u8]) -> Option<Agreed> {
        let agreed = self.archive.agreed(self.key(folder)?, name)?;
        Some(if self.is_turned() { agreed.turned() } else { agreed })
    }

    /// Returns whether it is time to commit.
    pub fn remember(&self, folder: Ids, mut changes: Changes) -> bool {
        let Some(key) = self.key(folder) else { return false };
        let on_trust = if self.two_way.is_some() { to_be_proven(&changes) } else { Changes::new() };
        if self.is_turned() {
            changes.values_mut().for_each(|change| *change = change.map(Agreed::turned));
        }
        let is_behind = self.archive.remember(key, changes);
        if !on_trust.is_empty() {
            self.note(folder, on_trust);
        }
        // There, each commit waits for both disks.
        is_behind && (self.two_way.is_none() || self.archive.waiting() >= FAR_BEHIND)
    }

    /// Writes down what has just been made equal, and is remembered later: it must not be new if the process is killed before.
    pub fn note(&self, folder: Ids, mut made: Changes) {
        let Some(key) = self.key(folder).filter(|_| self.two_way.is_some()) else { return };
        if self.is_turned() {
            made.values_mut().for_each(|change| *change = change.map(Agreed::turned));
        }
        self.archive.note(key, made);
    }

    /// Writes down what is about to be given names in a folder, with when each was made: it must be known if the process is
    /// killed before it is noted.
    pub fn intend<'a>(
        &self,
        (folder, path): (Ids, &RelPath),
        made: impl Iterator<Item = (&'a [u8], Option<Time>, Agreed)>,
    ) {
        let Some(key) = self.key(folder).filter(|_| self.two_way.is_some()) else { return };
        let intents: Vec<_> = made
            .map(|(name, born, agreed)| Intent {
                folder: key,
                path: path.clone(),
                name: name.into(),
                side: self.written_side(),
                born,
                agreed: if self.is_turned() { agreed.turned() } else { agreed },
                goes: false,
            })
            .collect();
        self.archive.intend(&intents);
    }

    /// Forgets what was agreed of an entry that is about to be removed, for as long as it is not known to be still there.
    pub fn intend_removal(&self, (folder, path): (Ids, &RelPath), name: &[u8], agreed: Agreed) {
        let Some(key) = self.key(folder).filter(|_| self.two_way.is_some()) else { return };
        let (path, name) = (path.clone(), name.into());
        let agreed = if self.is_turned() { agreed.turned() } else { agreed };
        let side = self.written_side();
        self.archive.intend_removal(Intent { folder: key, path, name, side, born: None, agreed, goes: true });
    }

    /// What was intended of these names has not been done.
    pub fn withdraw<'a>(&self, folder: Ids, names: impl Iterator<Item = &'a [u8]>) {
        if let Some(key) = self.key(folder).filter(|_| self.two_way.is_some()) {
            self.archive.withdraw(key, names);
        }
    }

    /// Forgets what was agreed where one of the roots is not the folder that it was agreed with: what it lacks is not removed
    /// from the other. With one direction, what was agreed proves itself.
    pub fn forget_others(&self, (source, replica): (&Root, &Root)) {
        let is_new = |(side, root)| self.places.is_new(side, root);
        let has_new = [(Side::Source, source), (Side::Replica, replica)].into_iter().any(is_new);
        if self.two_way.is_some()
            && has_new
            && let Err(reason) = self.archive.forget()
        {
            self.log.warn(format_args!("{reason}"));
        }
    }

    /// Writes what is agreed. Where both folders are worked in, both have it on disk by then: what only one of them had after
    /// a power cut would look as if it had been changed, or removed, on the other.
    ///
    /// # Errors
    /// What a disk, or the store, says.
    pub fn commit(&self, now: Moment, durable: bool) -> Result<(), NoArchive> {
        if self.two_way.is_none() || !self.options.durable {
            return self.archive.commit(now, durable);
        }
        self.archive.commit_after(now, durable, || {
            let (source, replica) = self.roots();
            for (side, root) in [(Side::Source, source), (Side::Replica, replica)] {
                disk::bring_all(root, &self.places.mounts_in(side))?;
            }
            Ok(())
        })
    }

    /// Ends the run cleanly, with all that it did on disk where nothing was brought there before.
    pub fn end(&self) {
        let is_unsynced = self.two_way.is_some() && !self.options.durable;
        let (source, replica) = self.roots();
        let is_safe = |(side, root): (Side, &Root)| disk::bring_all(root, &self.places.mounts_in(side)).is_ok();
        if !is_unsynced || [(Side::Source, source), (Side::Replica, replica)].into_iter().all(is_safe) {
            self.archive.end();
        }
        if let Some(history) = &self.history {
            history.close();
        }
    }

    /// Under which paths these inodes of the source were last agreed, as far as their folders are watched. It reads all.
    pub fn names_of(&self, inodes: &HashSet<InodeId>) -> Vec<(InodeId, RelPath)> {
        let Some(watches) = self.watches.as_ref().filter(|_| !inodes.is_empty()) else { return Vec::new() };
        let side = self.written_side().other();
        let found = self.archive.find(inodes, side);
        let in_folders = |paths: &dyn Fn(InodeId) -> Option<RelPath>| {
            found.iter().filter_map(|(id, folder, name)| Some((*id, paths(*folder)?.join(name)))).collect()
        };
        if self.two_way.is_none() {
            let folders = watches.find(|id| id, &found.iter().map(|(_, folder, _)| *folder).collect());
            return in_folders(&|key| folders.get(&key).cloned());
        }
        // Each half of a key is of one side's folder.
        let own_half = |key: InodeId| if side == Side::Source { key.dev } else { key.ino };
        let folders = watches.find(half, &found.iter().map(|(_, folder, _)| own_half(*folder)).collect());
        in_folders(&|key| folders.get(&own_half(key)).cloned())
    }

    /// What the two sides of an open folder are.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn ids(&self, source: BorrowedFd, replica: Option<BorrowedFd>) -> Result<Ids, Errno> {
        let source = self.source.stat(source)?.id();
        let replica = replica.filter(|_| self.two_way.is_some());
        Ok(Ids { source, replica: replica.map(|fd| self.replica.stat(fd)).transpose()?.map(|stat| stat.id()) })
    }

    fn oriented(&self, record: Record) -> Record {
        if self.is_turned() { record.turned() } else { record }
    }

    /// Whether passes take the replica for their source.
    pub fn is_turned(&self) -> bool {
        self.two_way.as_ref().is_some_and(|two_way| two_way.source_is == Side::Replica)
    }

    fn key(&self, folder: Ids) -> Option<InodeId> {
        match &self.two_way {
            None => Some(folder.source),
            Some(TwoWay { source_is: Side::Source, .. }) => joined(folder),
            Some(_) => joined(folder.turned()?),
        }
    }
}

/// What was agreed on trust, as it is taken after a crash: as if the source's attributes had been changed since, so that the
/// contents are compared, and the source's are taken where they differ.
fn to_be_proven(changes: &Changes) -> Changes {
    let unproven = |agreed: &Agreed| {
        let source = Stamp { ctime: Time::default(), ..agreed.source };
        Agreed { source, provisional: false, ..*agreed }
    };
    let on_trust = changes.iter().filter_map(|(name, change)| Some((name, change.as_ref().filter(|a| a.provisional)?)));
    on_trust.map(|(name, agreed)| (name.clone(), Some(unproven(agreed)))).collect()
}

/// One key for two folders. Numbers of inodes are small enough, and those of devices mostly 0, that no two get the same.
fn joined(folder: Ids) -> Option<InodeId> {
    let replica = folder.replica?;
    if folder.source == ROOT {
        return Some(ROOT);
    }
    Some(InodeId { dev: half(folder.source), ino: half(replica) })
}

/// Whether a folder of one side is one of the two that a key is of.
pub(super) fn is_half_of(folder: InodeId, side: Side, key: InodeId) -> bool {
    half(folder) == if side == Side::Source { key.dev } else { key.ino }
}

fn half(id: InodeId) -> u64 {
    id.ino ^ id.dev.rotate_left(32)
}
