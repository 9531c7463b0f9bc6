//! Owns what is remembered between passes: one record a folder in an embedded store, and in front of it what has been
//! agreed since the last commit. It is a cache that proves itself: lost or damaged, it costs one slow sweep. Records
//! are kept by the identity of the source's folder, so that a renamed tree keeps all of its records.

mod digests;
mod log;
mod recent;
mod since;
mod store;
mod young;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::SystemTime;

use redb::{Durability, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use rustix::io::Errno;

use crate::tree::doubt::Moment;
use crate::tree::entry::InodeId;
use crate::tree::identity::Side;
use crate::tree::intent::Intent;
use crate::tree::record::{Agreed, Record};
use log::Log;
use recent::Recent;
use store::Store;

const FOLDERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("folders");
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");
/// As many entries are kept in memory before they are written; a quarter of a kilobyte each, and what they leave behind
/// when they go lies between what stays.
const PENDING: usize = 1_024;
/// After this time no event can be on its way any more that says otherwise.
const PROVISIONAL: u64 = 60_000_000_000;
/// The boot and the time of the last commit.
const WRITTEN: &str = "written";

/// The record that holds the root folder's own entry, under the empty name.
pub const ROOT: InodeId = InodeId { dev: u64::MAX, ino: 0 };

/// New agreements in one folder, by name; `None` forgets.
pub type Changes = BTreeMap<Box<[u8]>, Option<Agreed>>;

/// The store of one pair.
#[derive(Debug)]
pub struct Archive {
    store: Option<Store>,
    recent: Mutex<Recent>,
    /// In two-way mode, what a crash must not make forgotten. Taken after `recent`, where both are.
    log: Mutex<Option<Log>>,
    /// What the log had of intents when it was opened.
    intents: Mutex<Vec<Intent>>,
    /// What is known of contents.
    digests: digests::Digests,
    /// Held by who commits.
    turn: Mutex<()>,
    /// Names in the largest record of the last commit.
    largest: AtomicUsize,
    /// Which start of the machine this is.
    boot: String,
}

/// Why there is no store: everything still works, each first sweep compares everything.
#[derive(Debug, thiserror::Error)]
#[error("no archive at '{}': {reason}", path.display())]
pub struct NoArchive {
    path: PathBuf,
    reason: String,
    /// Another process works with it.
    pub is_in_use: bool,
}

impl Archive {
    /// One that forgets at the end of the process.
    pub fn in_memory() -> Self {
        Self {
            store: None,
            recent: Mutex::default(),
            log: Mutex::default(),
            intents: Mutex::default(),
            digests: digests::Digests::default(),
            turn: Mutex::default(),
            largest: AtomicUsize::new(0),
            boot: String::new(),
        }
    }

    /// Opens the store at `path`, or makes it; one that is damaged or of another version is made anew.
    ///
    /// # Errors
    /// When there is none and none can be made.
    pub fn open(path: &Path) -> Result<Self, NoArchive> {
        let store = Store::open(path)?;
        // Without an answer, each start counts as one of the machine.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { store: Some(store), boot: boot.trim().into(), ..Self::in_memory() })
    }

    /// What the store at `path` holds, with nothing ever written to it: changes are forgotten at the end of the process.
    ///
    /// # Errors
    /// Another process works with it, or it cannot be read.
    pub fn copy_of(path: &Path, disks: Option<String>) -> Result<Self, NoArchive> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let archive = Self { store: Store::copy_of(path)?, boot: boot.trim().into(), ..Self::in_memory() };
        if let Some(belongs) = archive.belongs(disks) {
            archive.take_in(log::read(path, &belongs));
        }
        Ok(archive)
    }

    /// What was agreed in a folder, by the identity of the source's folder.
    pub fn record(&self, folder: InodeId) -> Record {
        // In this order: what leaves meanwhile is in the store by then.
        let recent = self.recent().of(folder);
        let mut record = self.stored(folder).unwrap_or_default();
        for changes in recent.iter().filter(|changes| !changes.is_empty()) {
            record.merge(changes.iter().map(|(name, change)| (&**name, *change)));
        }
        record
    }

    /// Whether something was agreed in a folder, as far as is known without reading what.
    pub fn has_record(&self, folder: InodeId) -> bool {
        let is_recent = self.recent().has(folder);
        let stored = |store: &Store| store.record(key(folder), |bytes| Some(!bytes.is_empty()));
        is_recent || self.store.as_ref().and_then(stored).unwrap_or(false)
    }

    /// What was agreed of some names of a folder, for a cost that grows little with what else is in it.
    pub fn record_of<T>(&self, folder: InodeId, names: &BTreeMap<Box<[u8]>, T>) -> Record {
        // In this order, as above.
        let recent = self.recent().of_names(folder, names);
        let stored = self.store.as_ref().and_then(|store| {
            store.record(key(folder), |bytes| Record::decode_some(bytes, |name| names.contains_key(name)))
        });
        let mut record = stored.unwrap_or_default();
        record.merge(recent.iter().map(|(name, change)| (&**name, *change)));
        record
    }

    /// What was agreed of one name.
    pub fn agreed(&self, folder: InodeId, name: &[u8]) -> Option<Agreed> {
        let recent = self.recent().of(folder);
        if let Some(change) = recent.iter().rev().find_map(|changes| changes.get(name)) {
            return *change;
        }
        self.stored(folder)?.get(name).copied()
    }

    fn stored(&self, folder: InodeId) -> Option<Record> {
        self.store.as_ref()?.record(key(folder), Record::decode)
    }

    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Option<T>) -> Option<T> {
        self.store.as_ref()?.read(read)
    }

    fn write(&self, write: impl FnOnce(&mut WriteTransaction) -> Result<(), redb::Error>) -> Result<(), redb::Error> {
        self.store.as_ref().map_or(Ok(()), |store| store.write(write))
    }

    /// Where in the tree these inodes of one side were last agreed: for each, its folder and its name. It reads all.
    pub fn find(&self, inodes: &HashSet<InodeId>, side: Side) -> Vec<(InodeId, InodeId, Box<[u8]>)> {
        let mut found = Vec::new();
        let mut note = |folder: InodeId, name: &[u8], agreed: &Agreed| {
            let id = if side == Side::Source { agreed.source.id } else { agreed.replica.id };
            if inodes.contains(&id) {
                found.push((id, folder, name.into()));
            }
        };
        {
            let recent = self.recent();
            for (folder, changes) in recent.leaving.iter().flat_map(|leaving| leaving.iter()).chain(&recent.folders) {
                for (name, agreed) in changes.iter().filter_map(|(n, c)| Some((n, c.as_ref()?))) {
                    note(*folder, name, agreed);
                }
            }
        }
        // A store that cannot be read finds nothing, which costs a copy.
        self.read(|transaction| {
            let table = transaction.open_table(FOLDERS).ok()?;
            for row in table.iter().ok()? {
                let (key, bytes) = row.ok()?;
                let folder = folder_of(key.value());
                for (name, agreed) in Record::decode(bytes.value())?.iter() {
                    note(folder, name, agreed);
                }
            }
            Some(())
        });
        found
    }

    /// Remembers what a pass found or made. Returns whether it is time to commit.
    pub fn remember(&self, folder: InodeId, changes: Changes) -> bool {
        if changes.is_empty() {
            return false;
        }
        let mut recent = self.recent();
        if let Some(log) = &mut *self.log() {
            log.remember(folder, &changes);
        }
        recent.take(folder, changes);
        // A commit writes all of a folder's record: what is written in the end is then twice what there is.
        recent.entries >= PENDING.max(self.largest.load(Ordering::Relaxed))
    }

    /// Forgets what was taken on trust from events, because events were lost.
    pub fn distrust(&self) {
        let mut recent = self.recent();
        recent.is_distrusted = recent.leaving.is_some();
        if recent.provisional == 0 {
            return;
        }
        recent.provisional = 0;
        for changes in recent.folders.values_mut() {
            changes.retain(|_, change| !change.is_some_and(|a| a.provisional));
        }
        recent.entries = recent.folders.values().map(|c| c.len()).sum();
    }

    /// Whether anything waits to be committed.
    pub fn is_behind(&self) -> bool {
        self.has_waiting_digests() || (self.store.is_some() && self.recent().entries > 0)
    }

    /// Writes what is remembered, less what is still on trust at `now`. The caller has brought the replica to disk before.
    /// Nobody who remembers or asks meanwhile has to wait. Where another one commits already, `durable` waits for him, and
    /// others leave it to him.
    ///
    /// # Errors
    /// What the store says; nothing is lost but time.
    pub fn commit(&self, now: Moment, durable: bool) -> Result<(), NoArchive> {
        self.commit_after(now, durable, || Ok(()))
    }

    /// The same; `to_disk` brings to disk what is spoken of before it is written. What is remembered meanwhile waits for the
    /// next commit.
    ///
    /// # Errors
    /// Also what `to_disk` says: then nothing is written, and all of it waits.
    pub fn commit_after(
        &self,
        now: Moment,
        durable: bool,
        to_disk: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), NoArchive> {
        let _turn = match self.turn.try_lock() {
            Err(TryLockError::WouldBlock) if durable => self.turn.lock().unwrap_or_else(|e| e.into_inner()),
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Ok(turn) => turn,
        };
        self.commit_digests(durable)?;
        let taken = {
            let mut recent = self.recent();
            if self.store.is_none() || recent.entries == 0 {
                return Ok(());
            }
            // Without being brought to disk, a transaction is gone if the process is killed.
            if let (true, Some(log)) = (durable, &mut *self.log()) {
                log.commit_begins();
            }
            let taken = Arc::new(std::mem::take(&mut recent.folders));
            *recent = Recent { leaving: Some(taken.clone()), ..Recent::default() };
            taken
        };
        if let Err(error) = to_disk() {
            let mut recent = self.recent();
            recent.leaving = None;
            recent.is_distrusted = false;
            for (folder, changes) in taken.iter() {
                recent.put_back(*folder, changes.clone());
            }
            let path = PathBuf::from("archive");
            return Err(NoArchive { path, reason: error.to_string(), is_in_use: false });
        }
        let mut folders: Vec<_> = taken.iter().collect();
        folders.sort_unstable_by_key(|(folder, _)| **folder);
        let mut largest = 0;
        let result = self.write(|transaction| {
            transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
            {
                let mut table = transaction.open_table(FOLDERS)?;
                for (folder, changes) in folders {
                    let ready = changes.iter().filter(|(_, change)| !is_on_trust(change, now));
                    let mut ready = ready.map(|(name, change)| (&**name, *change)).peekable();
                    if ready.peek().is_none() {
                        continue;
                    }
                    let ready: Vec<_> = ready.collect();
                    let merged = |bytes: &[u8]| Record::merged(bytes, ready.iter().copied());
                    let merged =
                        table.get(key(*folder))?.and_then(|bytes| merged(bytes.value())).or_else(|| merged(&[]));
                    let (record, len) = merged.unwrap_or_default();
                    largest = largest.max(len);
                    put(&mut table, key(*folder), &record)?;
                }
                let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let written = format!("{} {}", self.boot, time.as_secs());
                transaction.open_table(FACTS)?.insert(WRITTEN, written.as_bytes())?;
            }
            Ok(())
        });
        self.largest.store(largest, Ordering::Relaxed);
        let mut recent = self.recent();
        recent.leaving = None;
        if !std::mem::take(&mut recent.is_distrusted) {
            for (folder, changes) in taken.iter() {
                let stay = changes.iter().filter(|(_, change)| is_on_trust(change, now));
                let stay: Changes = stay.map(|(name, change)| (name.clone(), *change)).collect();
                if !stay.is_empty() {
                    recent.put_back(*folder, stay);
                }
            }
        }
        if let (true, true, Some(log)) = (durable, result.is_ok(), &mut *self.log()) {
            log.committed();
        }
        result.map_err(no_archive)
    }

    /// How many entries wait to be committed.
    pub fn waiting(&self) -> usize {
        self.recent().entries
    }

    /// Forgets all that was ever agreed: the folders are not those that it was about.
    ///
    /// # Errors
    /// What the store says.
    pub fn forget(&self) -> Result<(), NoArchive> {
        *self.recent() = Recent::default();
        self.intents().clear();
        if let Some(log) = &mut *self.log() {
            log.clear();
        }
        let forget = |transaction: &mut WriteTransaction| {
            transaction.delete_table(FOLDERS)?;
            transaction.open_table(FOLDERS)?;
            Ok(())
        };
        self.write(forget).map_err(no_archive)
    }

    /// A small fact kept beside the records.
    pub fn fact(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|transaction| {
            let table = transaction.open_table(FACTS).ok()?;
            table.get(name).ok()?.map(|value| value.value().to_vec())
        })
    }

    /// Keeps a small fact; one that is kept already costs no write.
    pub fn set_fact(&self, name: &str, value: &[u8]) {
        if self.fact(name).as_deref() == Some(value) {
            return;
        }
        // Lost, it is found again by the next sweep.
        let _ = self.write(|transaction| {
            transaction.open_table(FACTS)?.insert(name, value)?;
            Ok(())
        });
    }

    fn remove_fact(&self, name: &str) {
        if self.fact(name).is_none() {
            return;
        }
        // Left there, it costs a comparison.
        let _ = self.write(|transaction| {
            transaction.open_table(FACTS)?.remove(name)?;
            Ok(())
        });
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn intents(&self) -> MutexGuard<'_, Vec<Intent>> {
        self.intents.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn no_archive(error: redb::Error) -> NoArchive {
    NoArchive { path: PathBuf::from("archive"), reason: error.to_string(), is_in_use: false }
}

fn put(table: &mut Table<[u8; 16], &[u8]>, key: [u8; 16], record: &[u8]) -> Result<(), redb::Error> {
    if record.is_empty() {
        table.remove(key)?;
    } else {
        table.insert(key, record)?;
    }
    Ok(())
}

fn is_on_trust(change: &Option<Agreed>, now: Moment) -> bool {
    change.is_some_and(|a| a.provisional && now.0.saturating_sub(a.looked.0) < PROVISIONAL)
}

fn key(folder: InodeId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&folder.dev.to_be_bytes());
    key[8..].copy_from_slice(&folder.ino.to_be_bytes());
    key
}

fn folder_of(key: [u8; 16]) -> InodeId {
    let half = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    InodeId { dev: half(&key[..8]), ino: half(&key[8..]) }
}

#[cfg(test)]
mod tests;
