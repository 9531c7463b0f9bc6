//! Owns what the archive keeps of files' contents: their digests, and which files were found to have decayed. Digests are
//! kept by the inode of the source's file, so that a rename keeps them and all names of a file share one. They are a record
//! and nothing goes by their being there: damage or loss of the store costs them, and nothing else.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use redb::{Durability, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Archive, FOLDERS, NoArchive, folder_of, key, no_archive};
use crate::tree::digest::{Decayed, Digest};
use crate::tree::entry::{InodeId, Stat};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::record::Record;

pub(super) const DIGESTS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("digests");
const DECAYED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("decayed");
/// As many digests wait at most before they are written.
const PENDING: usize = 4_096;
/// As many files that have decayed are remembered: who has more of them needs another disk, and not a longer list.
const REMEMBERED: usize = 10_000;
/// As many digests are held against the records at a time.
const AT_A_TIME: usize = 65_536;

/// What is not in the store yet.
#[derive(Debug, Default)]
pub struct Digests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<InodeId, Option<Digest>>,
    /// Once somebody has asked.
    decayed: Option<BTreeMap<RelPath, Decayed>>,
}

impl Archive {
    /// What is known of the contents of the source's file with this inode.
    pub fn digest(&self, source: InodeId) -> Option<Digest> {
        if let Some(digest) = self.digests().waiting.get(&source) {
            return *digest;
        }
        self.store.as_ref()?.digest(key(source), Digest::decode)
    }

    /// Remembers a digest; `None` forgets. What is lost before it is committed is recorded again.
    pub fn set_digest(&self, source: InodeId, digest: Option<Digest>) {
        let is_many = {
            let mut state = self.digests();
            state.waiting.insert(source, digest);
            state.waiting.len() >= PENDING
        };
        if is_many {
            // What cannot be written is lost, which costs a reading.
            let _ = self.commit_digests(false);
            let mut state = self.digests();
            if state.waiting.len() >= PENDING {
                state.waiting.clear();
            }
        }
    }

    /// Writes the digests that wait.
    ///
    /// # Errors
    /// What the store says.
    pub fn commit_digests(&self, durable: bool) -> Result<(), NoArchive> {
        let waiting = self.digests().waiting.clone();
        if waiting.is_empty() || self.store.is_none() {
            return Ok(());
        }
        let mut sorted: Vec<_> = waiting.iter().collect();
        sorted.sort_unstable_by_key(|(source, _)| **source);
        self.write(|transaction| {
            transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
            let mut table = transaction.open_table(DIGESTS)?;
            for (source, digest) in sorted {
                match digest {
                    Some(digest) => table.insert(key(*source), digest.encode().as_slice())?,
                    None => table.remove(key(*source))?,
                };
            }
            Ok(())
        })
        .map_err(no_archive)?;
        let mut state = self.digests();
        for (source, written) in waiting {
            if let Entry::Occupied(now) = state.waiting.entry(source)
                && *now.get() == written
            {
                now.remove();
            }
        }
        Ok(())
    }

    /// Whether digests wait to be written.
    pub(super) fn has_waiting_digests(&self) -> bool {
        self.store.is_some() && !self.digests().waiting.is_empty()
    }

    /// How many digests are in the store.
    pub fn digest_count(&self) -> u64 {
        self.read(|transaction| transaction.open_table(DIGESTS).ok()?.len().ok()).unwrap_or(0)
    }

    /// Forgets the digests of all files of the source of which nothing is agreed any more: they are gone. It reads all that
    /// was agreed, more than once where there are very many digests. Returns how many went.
    pub fn forget_gone_digests(&self) -> usize {
        let _ = self.commit_digests(false);
        let (mut from, mut forgotten) = ([0; 16], 0);
        loop {
            let part = self.read(|transaction| {
                let table = transaction.open_table(DIGESTS).ok()?;
                let rows = table.range(from..).ok()?.take(AT_A_TIME);
                rows.map(|row| Some(row.ok()?.0.value())).collect::<Option<Vec<[u8; 16]>>>()
            });
            let Some(part) = part else { return forgotten };
            let Some(last) = part.last().copied() else { return forgotten };
            let Some(gone) = self.unagreed(&part) else { return forgotten };
            forgotten += gone.len();
            for key in gone {
                self.set_digest(folder_of(key), None);
            }
            match u128::from_be_bytes(last).checked_add(1).filter(|_| part.len() == AT_A_TIME) {
                Some(next) => from = next.to_be_bytes(),
                None => return forgotten,
            }
        }
    }

    /// Those of these inodes of the source, which are sorted, that no record has.
    fn unagreed(&self, inodes: &[[u8; 16]]) -> Option<Vec<[u8; 16]>> {
        let (mut is_agreed, mut is_any) = (vec![false; inodes.len()], false);
        let mut note = |source: InodeId| {
            is_any = true;
            if let Ok(at) = inodes.binary_search(&key(source)) {
                is_agreed[at] = true;
            }
        };
        {
            let recent = self.recent();
            let changes = recent.leaving.iter().flat_map(|leaving| leaving.values()).chain(recent.folders.values());
            changes.flat_map(|changes| changes.values().flatten()).for_each(|agreed| note(agreed.source.id));
        }
        self.read(|transaction| {
            let table = transaction.open_table(FOLDERS).ok()?;
            for row in table.iter().ok()? {
                let (_, bytes) = row.ok()?;
                Record::decode(bytes.value())?.iter().for_each(|(_, agreed)| note(agreed.source.id));
            }
            Some(())
        })?;
        // Where nothing was ever agreed, nobody knows what is gone.
        is_agreed.iter_mut().for_each(|agreed| *agreed |= !is_any);
        Some(inodes.iter().zip(is_agreed).filter(|(_, is_agreed)| !is_agreed).map(|(inode, _)| *inode).collect())
    }

    /// The files that were found to have decayed and are neither repaired nor changed, as far as it is known.
    pub fn decayed(&self) -> Vec<(RelPath, Decayed)> {
        self.with_decayed(|known| known.iter().map(|(path, decayed)| (path.clone(), *decayed)).collect())
    }

    pub fn decayed_count(&self) -> usize {
        self.with_decayed(|known| known.len())
    }

    pub fn decayed_at(&self, path: &RelPath) -> Option<Decayed> {
        self.with_decayed(|known| known.get(path).copied())
    }

    /// Under which name this side's file was found to have decayed, whatever its name is by now.
    pub fn decayed_as(&self, side: Side, stat: &Stat) -> Option<RelPath> {
        let is_it = |decayed: &Decayed| decayed.side == side && decayed.is_of(stat);
        self.with_decayed(|known| known.iter().find(|(_, decayed)| is_it(decayed)).map(|(path, _)| path.clone()))
    }

    /// Takes over what has decayed at or below a path that was renamed.
    pub fn rename_decayed(&self, from: &RelPath, to: &RelPath) {
        for (path, decayed) in self.decayed() {
            if let Some(moved) = path.moved(from, to) {
                self.set_decayed(&moved, Some(decayed));
                self.set_decayed(&path, None);
            }
        }
    }

    /// Remembers at once that a file has decayed, over restarts too; `None`: that it has not any more. Returns whether that is
    /// news.
    pub fn set_decayed(&self, path: &RelPath, decayed: Option<Decayed>) -> bool {
        let is_new = self.with_decayed(|known| match decayed {
            Some(_) if known.len() >= REMEMBERED && !known.contains_key(path) => false,
            Some(decayed) => known.insert(path.clone(), decayed) != Some(decayed),
            None => known.remove(path).is_some(),
        });
        if is_new {
            // Lost, it is found again.
            let _ = self.write(|transaction| {
                let mut table = transaction.open_table(DECAYED)?;
                match decayed {
                    Some(decayed) => table.insert(path.as_bytes(), decayed.encode().as_slice())?,
                    None => table.remove(path.as_bytes())?,
                };
                Ok(())
            });
        }
        is_new
    }

    fn with_decayed<T>(&self, work: impl FnOnce(&mut BTreeMap<RelPath, Decayed>) -> T) -> T {
        let mut state = self.digests();
        if state.decayed.is_none() {
            let stored = self.read(|transaction| {
                let mut known = BTreeMap::new();
                for row in transaction.open_table(DECAYED).ok()?.iter().ok()? {
                    let (path, decayed) = row.ok()?;
                    if let (Some(path), Some(decayed)) = (RelPath::new(path.value()), Decayed::decode(decayed.value()))
                    {
                        known.insert(path, decayed);
                    }
                }
                Some(known)
            });
            state.decayed = Some(stored.unwrap_or_default());
        }
        work(state.decayed.get_or_insert_default())
    }

    fn digests(&self) -> MutexGuard<'_, State> {
        self.digests.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FOLDER, agreed, one};
    use super::*;
    use crate::tree::digest::{Damage, Seal};
    use crate::tree::doubt::Moment;
    use crate::tree::entry::Time;
    use crate::tree::identity::Side;

    fn id(ino: u64) -> InodeId {
        InodeId { dev: 0, ino }
    }

    fn seal(ino: u64) -> Seal {
        Seal { id: id(ino), mtime: Time { sec: 1, nsec: 2 }, ctime: Time { sec: 3, nsec: 4 } }
    }

    fn digest(ino: u64) -> Digest {
        Digest { md5: [ino as u8; 16], size: ino, source: Some(seal(ino)), replica: None, checked: 7 }
    }

    #[test]
    fn digests_outlive_the_process_and_those_of_files_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.redb");
        let archive = Archive::open(&path).expect("a store");
        assert_eq!((archive.digest(id(1)), archive.digest_count()), (None, 0));
        for ino in 1..=3 {
            archive.set_digest(id(ino), Some(digest(ino)));
        }
        assert_eq!(archive.digest(id(2)), Some(digest(2)), "before it is written");
        archive.remember(FOLDER, one(b"a", Some(agreed(1, false))));
        archive.commit(Moment(6), true).expect("a commit");
        archive.remember(FOLDER, one(b"c", Some(agreed(3, false))));
        drop(archive);
        let archive = Archive::open(&path).expect("a store");
        assert_eq!((archive.digest(id(2)), archive.digest_count()), (Some(digest(2)), 3));
        archive.remember(FOLDER, one(b"c", Some(agreed(3, false))));
        assert_eq!(archive.forget_gone_digests(), 1, "agreed in the store, agreed and not committed, neither");
        let known = [1, 2, 3].map(|ino| archive.digest(id(ino)).is_some());
        assert_eq!(known, [true, false, true]);
        archive.set_digest(id(1), None);
        archive.commit(Moment(6), true).expect("a commit");
        assert_eq!((archive.digest(id(1)), archive.digest_count()), (None, 1));
    }

    #[test]
    fn more_digests_than_wait_at_a_time_are_all_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = Archive::open(&folder.path().join("a.redb")).expect("a store");
        let many = PENDING as u64 * 2 + 10;
        (0..many).for_each(|ino| archive.set_digest(id(ino), Some(digest(ino))));
        assert_eq!(archive.forget_gone_digests(), 0, "nothing was ever agreed");
        archive.remember(FOLDER, one(b"a", Some(agreed(many, false))));
        assert!(archive.digests().waiting.len() < PENDING);
        assert!((0..many).all(|ino| archive.digest(id(ino)) == Some(digest(ino))));
        assert_eq!(archive.forget_gone_digests() as u64, many);
    }

    #[test]
    fn what_has_decayed_is_remembered_until_it_is_said_that_it_has_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.redb");
        let file = RelPath::new(b"folder/file").expect("a path");
        let decayed = Decayed { side: Side::Replica, damage: Damage::Repairable, found: 5, seal: seal(9), size: 3 };
        let archive = Archive::open(&path).expect("a store");
        assert!(archive.set_decayed(&file, Some(decayed)));
        assert!(!archive.set_decayed(&file, Some(decayed)), "that is known");
        drop(archive);
        let archive = Archive::open(&path).expect("a store");
        assert_eq!(archive.decayed(), [(file.clone(), decayed)]);
        assert!(archive.set_decayed(&file, None) && !archive.set_decayed(&file, None));
        drop(archive);
        assert!(Archive::open(&path).expect("a store").decayed().is_empty());
        let none = Archive::in_memory();
        assert!(none.set_decayed(&file, Some(decayed)) && none.decayed_at(&file) == Some(decayed));
    }
}
