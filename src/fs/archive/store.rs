//! Owns the store's file: opening it, making it anew where it is damaged, and transactions on it. A damaged file makes the
//! library panic at any call; it is as good as none from then on, and gone at the next start.

use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof, WouldBlock};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use redb::backends::InMemoryBackend;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::digests::DIGESTS;
use super::{FACTS, FOLDERS, NoArchive};
use crate::fs::guarded;

/// Another number, and all that an earlier version wrote is forgotten.
const FORMAT: &[u8] = b"driftless archive 1";
/// A walk reads each record once, and the kernel has the file's pages anyway: a larger one gains a sweep nothing.
const CACHE: usize = 256 << 10;

#[derive(Debug)]
pub struct Store {
    /// `None` only while it is being closed.
    database: Option<Database>,
    path: PathBuf,
    is_broken: AtomicBool,
    /// The records as of the last commit, opened by the first who asked since.
    folders: Mutex<Option<Arc<Folders>>>,
    /// The same of the digests of contents.
    digests: Mutex<Option<Arc<Folders>>>,
}

type Folders = ReadOnlyTable<[u8; 16], &'static [u8]>;

impl Store {
    /// Opens the store at `path`, or makes it; one that is damaged or of another version is made anew.
    ///
    /// # Errors
    /// When there is none and none can be made.
    pub fn open(path: &Path) -> Result<Self, NoArchive> {
        let failed = |error: &dyn std::fmt::Display, is_in_use| NoArchive {
            path: path.into(),
            reason: error.to_string(),
            is_in_use,
        };
        let database = match open(path) {
            Err(error) if is_damage(&error) => match std::fs::remove_file(path) {
                Err(e) if e.kind() != NotFound => return Err(failed(&e, false)),
                _ => open(path).map_err(|e| failed(&e, false))?,
            },
            done => done.map_err(|e| failed(&e, matches!(e, redb::Error::DatabaseAlreadyOpen)))?,
        };
        let (is_broken, folders, digests) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Ok(Self { database: Some(database), path: path.into(), is_broken, folders, digests })
    }

    /// A copy in memory of the store at `path`, which is only read; `None` where there is none that can be used.
    ///
    /// # Errors
    /// Another process works with it, or it cannot be read.
    pub fn copy_of(path: &Path) -> Result<Option<Self>, NoArchive> {
        let failed = |reason: String, is_in_use| NoArchive { path: path.into(), reason, is_in_use };
        let bytes = match read_quietly(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == NotFound => return Ok(None),
            Err(e) => return Err(failed(e.to_string(), e.kind() == WouldBlock)),
        };
        let copy = || {
            let memory = InMemoryBackend::new();
            memory.set_len(bytes.len() as u64)?;
            memory.write(0, &bytes)?;
            prepared(redb::Builder::new().set_cache_size(CACHE).create_with_backend(memory)?)
        };
        let Some(Ok(database)) = guarded::call(copy) else { return Ok(None) };
        // No file is removed if the copy turns out to be damaged.
        let (path, is_broken) = (PathBuf::new(), AtomicBool::new(false));
        let (folders, digests) = (Mutex::default(), Mutex::default());
        Ok(Some(Self { database: Some(database), path, is_broken, folders, digests }))
    }

    /// Where the file is; nowhere for a copy.
    pub fn path(&self) -> Option<&Path> {
        Some(&*self.path).filter(|path| !path.as_os_str().is_empty())
    }

    /// Reads. A damaged store holds nothing.
    pub fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Option<T>) -> Option<T> {
        self.guarded(|database| read(&database.begin_read().ok()?))?
    }

    /// The record under this key, read by `read`. A damaged store holds none.
    pub fn record<T>(&self, key: [u8; 16], read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.guarded(|database| read(opened(&self.folders, FOLDERS, database)?.get(key).ok()??.value()))?
    }

    /// The same of the digests.
    pub fn digest<T>(&self, key: [u8; 16], read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.guarded(|database| read(opened(&self.digests, DIGESTS, database)?.get(key).ok()??.value()))?
    }

    /// What was opened shows the store as it was, and keeps what it shows from being overwritten.
    fn forget_folders(&self) {
        for opened in [&self.folders, &self.digests] {
            opened.lock().unwrap_or_else(|e| e.into_inner()).take();
        }
    }

    /// Writes, as one transaction.
    ///
    /// # Errors
    /// What the library says.
    pub fn write(
        &self,
        write: impl FnOnce(&mut WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        self.forget_folders();
        let all = |database: &Database| {
            let mut transaction = database.begin_write()?;
            write(&mut transaction)?;
            transaction.commit()?;
            Ok(())
        };
        // A broken one costs time at the next start, and nothing before.
        let done = self.guarded(all).unwrap_or(Ok(()));
        self.forget_folders();
        done
    }

    fn guarded<T>(&self, call: impl FnOnce(&Database) -> T) -> Option<T> {
        let database = self.database.as_ref().filter(|_| !self.is_broken.load(Ordering::Relaxed))?;
        let done = guarded::call(|| call(database));
        if done.is_none() && !self.is_broken.swap(true, Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
        done
    }
}

impl Drop for Store {
    /// It writes when it is closed, and may find only then that it is damaged.
    fn drop(&mut self) {
        self.forget_folders();
        if let Some(database) = self.database.take()
            && guarded::call(|| drop(database)).is_none()
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A table as of the last commit.
fn opened(
    known: &Mutex<Option<Arc<Folders>>>,
    definition: TableDefinition<[u8; 16], &'static [u8]>,
    database: &Database,
) -> Option<Arc<Folders>> {
    let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
    if known.is_none() {
        *known = Some(Arc::new(database.begin_read().ok()?.open_table(definition).ok()?));
    }
    known.clone()
}

/// Whether a store could not be opened for what is in its file, and not for what the system or another process does.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::DatabaseAlreadyOpen => false,
        redb::Error::Io(error) => matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof),
        _ => true,
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    guarded::call(|| open_file(path)).unwrap_or_else(|| Err(redb::Error::Corrupted("it cannot be read".into())))
}

/// What a file has that nobody writes meanwhile.
fn read_quietly(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.try_lock_shared()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_file(path: &Path) -> Result<Database, redb::Error> {
    prepared(redb::Builder::new().set_cache_size(CACHE).create(path)?)
}

/// With its tables, if it is of this version.
fn prepared(store: Database) -> Result<Database, redb::Error> {
    let transaction = store.begin_write()?;
    let known = {
        let mut facts = transaction.open_table(FACTS)?;
        transaction.open_table(FOLDERS)?;
        let known = facts.get("format")?.map(|f| f.value() == FORMAT);
        if known.is_none() {
            facts.insert("format", FORMAT)?;
        }
        known
    };
    match known {
        Some(true) => transaction.abort()?,
        Some(false) => return Err(redb::Error::UpgradeRequired(0)),
        None => transaction.commit()?,
    }
    Ok(store)
}
