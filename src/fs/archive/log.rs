//! Owns the log of what was agreed since the last commit, which outlives a process that is killed: two files beside the
//! store's, in each of which the first entry says what it belongs to. A commit begins the other one, and empties the first
//! when it is done. What has not been remembered by then goes along.
//!
//! It is the kernel that keeps it: nothing is brought to disk, and after the machine has gone down, or one of the disks has
//! been away, none of it counts. Then either side may lack what was agreed, and what one side has lost would be removed from
//! the other.

pub mod entry;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Changes;
use crate::tree::codec::{put, put_bytes, take, take_counted};
use crate::tree::entry::InodeId;
use crate::tree::intent::Intent;
use entry::{Entry, put_agreed, put_intent, put_summed, put_withdrawn, take_entry, take_summed};

const FORMAT: &[u8] = b"driftless agreements 2";

/// Which log it is: what another start of the machine, or another store, has left is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongs {
    pub boot: String,
    /// Which mountings of both disks it speaks of; nothing where that cannot be told.
    pub disks: String,
    pub store: Vec<u8>,
}

#[derive(Debug)]
pub struct Log {
    files: [File; 2],
    /// How much of each file is whole.
    lengths: [u64; 2],
    current: usize,
    generation: u64,
    belongs: Belongs,
    /// What is noted and not remembered yet, so that no commit has it.
    noted: HashMap<InodeId, Changes>,
    /// What is intended and neither noted, remembered nor withdrawn yet, as it is written.
    intended: HashMap<InodeId, BTreeMap<Box<[u8]>, Vec<u8>>>,
}

fn paths(store: &Path) -> [PathBuf; 2] {
    ["log0", "log1"].map(|extension| store.with_extension(extension))
}

/// What a log beside the store has, the oldest first; it is only read.
pub fn read(store: &Path, belongs: &Belongs) -> Vec<Entry> {
    let read = |path: &PathBuf| std::fs::read(path).ok().and_then(|bytes| parse(&bytes, belongs));
    in_order(paths(store).each_ref().map(read)).0
}

impl Log {
    /// Opens the log beside the store, or makes it, with what it has, the oldest first.
    ///
    /// # Errors
    /// As of open(2), read(2) and ftruncate(2).
    pub fn open(store: &Path, belongs: Belongs) -> std::io::Result<(Self, Vec<Entry>)> {
        let [first, second] = paths(store);
        let open = |path| OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let mut files = [open(first)?, open(second)?];
        let mut parsed = [None, None];
        for (file, parsed) in files.iter_mut().zip(&mut parsed) {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            *parsed = parse(&bytes, &belongs);
            // What is torn would hide what comes after it.
            file.set_len(parsed.as_ref().map_or(0, |parsed| parsed.length))?;
        }
        let lengths = parsed.each_ref().map(|parsed| parsed.as_ref().map_or(0, |parsed| parsed.length));
        let (entries, current, generation) = in_order(parsed);
        Ok((
            Self { files, lengths, current, generation, belongs, noted: HashMap::new(), intended: HashMap::new() },
            entries,
        ))
    }

    /// Writes down what is about to be given a name.
    pub fn intend(&mut self, intents: &[Intent]) {
        let mut out = Vec::new();
        for intent in intents {
            let mut entry = Vec::new();
            put_intent(&mut entry, intent);
            out.extend_from_slice(&entry);
            self.intended.entry(intent.folder).or_default().insert(intent.name.clone(), entry);
        }
        self.append(&out);
    }

    /// Withdraws what was intended.
    pub fn withdraw<'a>(&mut self, folder: InodeId, names: impl Iterator<Item = &'a [u8]>) {
        let mut out = Vec::new();
        for name in names {
            self.settle(folder, name);
            put_withdrawn(&mut out, folder, name);
        }
        self.append(&out);
    }

    /// Nothing is intended of the name any more.
    fn settle(&mut self, folder: InodeId, name: &[u8]) {
        if let Some(names) = self.intended.get_mut(&folder) {
            names.remove(name);
            if names.is_empty() {
                self.intended.remove(&folder);
            }
        }
    }

    /// Writes down what is made and will be remembered later.
    pub fn note(&mut self, folder: InodeId, made: Changes) {
        made.keys().for_each(|name| self.settle(folder, name));
        let mut out = Vec::new();
        let noted = self.noted.entry(folder).or_default();
        for (name, change) in made {
            if noted.get(&name) != Some(&change) {
                put_agreed(&mut out, folder, &name, &change);
                noted.insert(name, change);
            }
        }
        self.append(&out);
    }

    /// Writes down what is remembered, unless that was noted.
    pub fn remember(&mut self, folder: InodeId, changes: &Changes) {
        changes.keys().for_each(|name| self.settle(folder, name));
        let mut out = Vec::new();
        let mut noted = self.noted.get_mut(&folder);
        for (name, change) in changes {
            let is_noted = noted.as_mut().and_then(|noted| noted.remove(name)).is_some_and(|known| known == *change);
            // What is on trust is not to outlive the process.
            if !is_noted && !change.is_some_and(|agreed| agreed.provisional) {
                put_agreed(&mut out, folder, name, change);
            }
        }
        if noted.is_some_and(|noted| noted.is_empty()) {
            self.noted.remove(&folder);
        }
        self.append(&out);
    }

    /// A commit takes all that is remembered. Where an earlier one has failed, both files wait for this one.
    pub fn commit_begins(&mut self) {
        let other = 1 - self.current;
        if self.lengths[other] > 0 {
            return;
        }
        self.current = other;
        self.generation += 1;
        let mut out = Vec::new();
        for (folder, changes) in &self.noted {
            changes.iter().for_each(|(name, change)| put_agreed(&mut out, *folder, name, change));
        }
        self.intended.values().flat_map(BTreeMap::values).for_each(|entry| out.extend_from_slice(entry));
        self.append(&out);
    }

    /// The store has, for good, what was remembered when the commit began.
    pub fn committed(&mut self) {
        self.empty(1 - self.current);
    }

    /// Nothing is agreed any more.
    pub fn clear(&mut self) {
        self.noted.clear();
        self.intended.clear();
        (0..2).for_each(|which| self.empty(which));
    }

    /// Whether it speaks of these mountings of both disks.
    pub fn is_of(&self, disks: &str) -> bool {
        self.belongs.disks == disks
    }

    /// The same of other mountings, of which nothing is agreed yet.
    pub fn begin_again(&mut self, disks: String) {
        self.clear();
        self.belongs.disks = disks;
    }

    fn empty(&mut self, which: usize) {
        // Left there, it is read as what it is: older than the store.
        if self.lengths[which] > 0 && self.files[which].set_len(0).is_ok() {
            self.lengths[which] = 0;
        }
    }

    /// A log that cannot be written costs a comparison after a crash.
    fn append(&mut self, entries: &[u8]) {
        if entries.is_empty() {
            return;
        }
        let (at, is_new) = (self.current, self.lengths[self.current] == 0);
        let mut out = Vec::new();
        if is_new {
            put_summed(&mut out, &head(&self.belongs, self.generation));
        }
        out.extend_from_slice(entries);
        match self.files[at].write_all(&out) {
            Ok(()) => self.lengths[at] += out.len() as u64,
            Err(_) => drop(self.files[at].set_len(self.lengths[at])),
        }
    }
}

/// What one file has.
struct Parsed {
    generation: u64,
    entries: Vec<Entry>,
    /// Bytes that are whole.
    length: u64,
}

/// The entries of both files, which of the files is the newer one, and its number.
fn in_order(parsed: [Option<Parsed>; 2]) -> (Vec<Entry>, usize, u64) {
    let generation = |parsed: &Option<Parsed>| parsed.as_ref().map_or(0, |parsed| parsed.generation);
    let current = usize::from(generation(&parsed[1]) > generation(&parsed[0]));
    let newest = generation(&parsed[current]).max(1);
    let [first, second] = parsed.map(|parsed| parsed.map(|parsed| parsed.entries).unwrap_or_default());
    let (old, new) = if current == 1 { (first, second) } else { (second, first) };
    (old.into_iter().chain(new).collect(), current, newest)
}

/// `None` for what does not belong here.
fn parse(mut bytes: &[u8], belongs: &Belongs) -> Option<Parsed> {
    let all = bytes.len();
    let mut first = take_summed(&mut bytes)?;
    let is_ours = take_counted(&mut first)? == FORMAT
        && !belongs.boot.is_empty()
        && take_counted(&mut first)? == belongs.boot.as_bytes()
        && !belongs.disks.is_empty()
        && take_counted(&mut first)? == belongs.disks.as_bytes()
        && take_counted(&mut first)? == belongs.store;
    let generation = take(&mut first).filter(|_| is_ours)?;
    let (mut entries, mut length) = (Vec::new(), all - bytes.len());
    while let Some(entry) = take_summed(&mut bytes).and_then(take_entry) {
        entries.push(entry);
        length = all - bytes.len();
    }
    Some(Parsed { generation, entries, length: length as u64 })
}

fn head(belongs: &Belongs, generation: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, FORMAT);
    put_bytes(&mut out, belongs.boot.as_bytes());
    put_bytes(&mut out, belongs.disks.as_bytes());
    put_bytes(&mut out, &belongs.store);
    put(&mut out, generation);
    out
}

#[cfg(test)]
mod tests {
    use super::super::Archive;
    use super::super::tests::{FOLDER, agreed, one};
    use super::*;
    use crate::tree::identity::Side;
    use crate::tree::path::RelPath;
    use proptest::prelude::*;

    fn ours() -> Belongs {
        Belongs { boot: "this".into(), disks: "both".into(), store: b"store".to_vec() }
    }

    fn open(store: &Path) -> (Log, Vec<Entry>) {
        Log::open(store, ours()).expect("a log")
    }

    fn names(store: &Path) -> Vec<String> {
        let name = |entry: &Entry| {
            let (sign, name) = match entry {
                Entry::Agreed(_, name, Some(_)) => ("", name),
                Entry::Agreed(_, name, None) => ("-", name),
                Entry::Intent(intent) => ("?", &intent.name),
                Entry::Withdrawn(_, name) => ("!", name),
            };
            format!("{sign}{}", String::from_utf8_lossy(name))
        };
        let entries: Vec<_> = open(store).1.iter().map(name).collect();
        assert_eq!(entries, read(store, &ours()).iter().map(name).collect::<Vec<_>>());
        entries
    }

    #[test]
    fn what_was_noted_and_remembered_is_there_after_a_crash_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("a.redb");
        let (mut log, entries) = open(&store);
        assert!(entries.is_empty());
        log.note(FOLDER, one(b"a", Some(agreed(1, false))));
        log.note(FOLDER, one(b"a", Some(agreed(1, false))));
        log.remember(FOLDER, &one(b"a", Some(agreed(1, false))));
        log.remember(FOLDER, &one(b"b", Some(agreed(2, false))));
        log.remember(FOLDER, &one(b"trusted", Some(agreed(3, true))));
        log.remember(FOLDER, &one(b"a", None));
        assert_eq!(names(&store), ["a", "b", "-a"]);
        let second = open(&store).1.swap_remove(1);
        assert!(matches!(second, Entry::Agreed(_, _, Some(known)) if known.source == agreed(2, false).source));
    }

    #[test]
    fn an_intent_stays_until_something_is_known_of_its_name_or_it_is_withdrawn() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("a.redb");
        let (mut log, _) = open(&store);
        let intent = |name: &[u8]| Intent {
            folder: FOLDER,
            path: RelPath::root(),
            name: name.into(),
            side: Side::Replica,
            born: None,
            agreed: agreed(1, false),
            goes: false,
        };
        log.intend(&[intent(b"open"), intent(b"done"), intent(b"failed"), intent(b"noted")]);
        log.remember(FOLDER, &one(b"done", Some(agreed(1, false))));
        log.note(FOLDER, one(b"noted", Some(agreed(1, false))));
        log.withdraw(FOLDER, [b"failed".as_slice()].into_iter());
        assert_eq!(names(&store), ["?open", "?done", "?failed", "?noted", "done", "noted", "!failed"]);
        let archive = Archive::in_memory();
        archive.take_in(open(&store).1);
        let open = archive.take_intents();
        assert_eq!(open.iter().map(|intent| &*intent.name).collect::<Vec<_>>(), [b"open"]);
        // A commit takes along what is open.
        log.commit_begins();
        log.committed();
        assert_eq!(names(&store), ["noted", "?open"]);
        log.clear();
        log.commit_begins();
        assert!(names(&store).is_empty());
    }

    #[test]
    fn a_commit_keeps_what_is_remembered_after_it_began_and_a_failed_one_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("a.redb");
        let (mut log, _) = open(&store);
        log.note(FOLDER, one(b"early", Some(agreed(1, false))));
        log.remember(FOLDER, &one(b"a", Some(agreed(1, false))));
        log.commit_begins();
        log.remember(FOLDER, &one(b"b", Some(agreed(1, false))));
        assert_eq!(names(&store), ["early", "a", "early", "b"]);
        // It failed, and the next one does not.
        log.commit_begins();
        log.remember(FOLDER, &one(b"c", Some(agreed(1, false))));
        log.committed();
        assert_eq!(names(&store), ["early", "b", "c"]);
        log.remember(FOLDER, &one(b"early", Some(agreed(1, false))));
        log.commit_begins();
        log.committed();
        assert!(names(&store).is_empty());
    }

    #[test]
    fn another_start_of_the_machine_or_another_store_reads_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("a.redb");
        open(&store).0.remember(FOLDER, &one(b"a", Some(agreed(1, false))));
        let others = [
            Belongs { boot: "another".into(), ..ours() },
            Belongs { boot: String::new(), ..ours() },
            Belongs { disks: "mounted again".into(), ..ours() },
            Belongs { disks: String::new(), ..ours() },
            Belongs { store: b"new".to_vec(), ..ours() },
        ];
        for other in &others {
            assert!(read(&store, other).is_empty());
        }
        assert!(Log::open(&store, others[0].clone()).expect("a log").1.is_empty());
        assert!(names(&store).is_empty());
    }

    #[test]
    fn what_comes_after_a_torn_end_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("a.redb");
        let (mut log, _) = open(&store);
        log.remember(FOLDER, &one(b"a", Some(agreed(1, false))));
        log.remember(FOLDER, &one(b"b", Some(agreed(1, false))));
        log.files[0].set_len(log.lengths[0] - 3).expect("cut");
        open(&store).0.remember(FOLDER, &one(b"c", Some(agreed(1, false))));
        assert_eq!(names(&store), ["a", "c"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), keep in 0usize..400) {
            let mut all = Vec::new();
            put_summed(&mut all, &head(&ours(), 3));
            put_agreed(&mut all, FOLDER, b"a", &Some(agreed(1, false)));
            all.truncate(keep);
            all.extend_from_slice(&bytes);
            let _ = parse(&all, &ours());
            let _ = parse(&bytes, &ours());
        }
    }
}
