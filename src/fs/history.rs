//! Owns what the reserved folder keeps of the past: the journal, and what was lost, each under a name that a person finds.
//! It keeps and tells what it is asked to; what is worth keeping, and for how long, others decide.

pub mod ahead;
pub mod backward;
pub mod cursor;
pub mod gap;
mod interrupted;
pub mod journal;
pub mod reading;
pub mod thinning;
mod zone;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::{self, AtFlags, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::root::{Root, open_child};
use super::stage::{is_there, open_reserved};
use crate::tree::entry::Time;
use crate::tree::exclude::RESERVED;
use crate::tree::history::{By, Event, JOURNAL, Line, VERSIONS, version_name};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use ahead::Ahead;
use journal::Journal;
pub use zone::{local_zone, shown, shown_time};

const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// Nobody removes a folder so often that has just been made.
const TRIES: usize = 1_000;
/// As many folders are kept open.
const OPEN: usize = 64;

/// The history of a replica, while it is written.
#[derive(Debug)]
pub struct History {
    journal: Mutex<Journal>,
    /// Of the replica, in which the folder of versions is made anew if somebody removes it.
    root: OwnedFd,
    versions: Mutex<Arc<OwnedFd>>,
    folders: Mutex<HashMap<RelPath, Arc<OwnedFd>>>,
    ahead: Option<Ahead>,
}

/// Where something is going to be kept. Nothing is there yet.
#[derive(Debug)]
pub struct Slot {
    /// Below the folder of versions.
    pub path: RelPath,
}

impl History {
    /// Opens the history of a replica; it begins here if there is none.
    ///
    /// # Errors
    /// As of mkdirat(2) and openat(2).
    pub fn open(source: &Root, replica: &Root) -> Result<Self, Errno> {
        let before = fs::fstat(replica.fd())?;
        let is_new = open_child(replica.fd(), RESERVED).is_err();
        let reserved = open_reserved(replica.fd())?;
        if is_new {
            // That it has come is nothing that happened in the replica.
            restore_times(replica.fd(), &before)?;
        }
        let folder = open_or_make(reserved.as_fd(), JOURNAL)?;
        let unmade = interrupted::unmade(&folder, (source, replica))?;
        let ahead = ahead::find(folder.as_fd())?;
        let journal = Mutex::new(Journal::open(replica.fd(), &folder)?);
        let versions = Mutex::new(Arc::new(open_or_make(reserved.as_fd(), VERSIONS)?));
        let root = rustix::io::fcntl_dupfd_cloexec(replica.fd(), 0)?;
        let history = Self { journal, root, versions, folders: Mutex::default(), ahead };
        for (of, path) in unmade {
            history.say(&path, Event::Void { of }, By::Cause(Cause::Sweep), false);
        }
        history.put(false).map(|()| history)
    }

    /// What was known of times that were still to come when it was opened.
    pub fn ahead(&self) -> Option<Ahead> {
        self.ahead
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The folder of what is kept.
    fn versions(&self) -> Result<Arc<OwnedFd>, Errno> {
        let mut versions = self.versions.lock().unwrap_or_else(|e| e.into_inner());
        if !is_there(&versions) {
            *versions = Arc::new(open_or_make(open_reserved(self.root.as_fd())?.as_fd(), VERSIONS)?);
        }
        Ok(versions.clone())
    }

    /// Puts a line into the journal, in memory until `put`. Returns its time, which no other line has.
    pub fn say(&self, path: &RelPath, event: Event, by: By, in_source: bool) -> Time {
        self.journal().say(|at| Line { at, path: path.clone(), event, by, in_source })
    }

    /// The same of a line that tells where something is kept.
    pub fn say_kept(
        &self,
        path: &RelPath,
        event: impl FnOnce(RelPath) -> Event,
        (by, in_source): (By, bool),
    ) -> (Time, Slot) {
        let mut kept = RelPath::root();
        let at = self.journal().say(|at| {
            let (folder, name) = path.split().unwrap_or_default();
            kept = folder.join(&version_name(name, &shown(at), 0));
            Line { at, path: path.clone(), event: event(kept.clone()), by, in_source }
        });
        (at, Slot { path: kept })
    }

    /// Writes what was said, and brings it to disk if that is asked for.
    ///
    /// # Errors
    /// As of write(2) and fdatasync(2): what was said may be lost.
    pub fn put(&self, durable: bool) -> Result<(), Errno> {
        self.journal().put(durable)
    }

    /// Runs `call` with the open folder in which a slot lies, which is made if it is missing. Who thins out may remove it
    /// at any moment while it is empty.
    fn in_slot<T>(&self, slot: &Slot, call: impl Fn(BorrowedFd, &[u8]) -> Result<T, Errno>) -> Result<T, Errno> {
        let (path, name) = slot.path.split().ok_or(Errno::INVAL)?;
        for _ in 0..TRIES {
            let folder = match self.folder(&path) {
                Err(Errno::NOENT) => continue,
                done => done?,
            };
            match call(folder.as_fd(), name) {
                Err(Errno::NOENT) if !is_there(&folder) => {}
                done => return done,
            }
        }
        // Not ENOENT, which would say that what is to be kept is gone.
        Err(Errno::BUSY)
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<RelPath, Arc<OwnedFd>>> {
        self.folders.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn folder(&self, path: &RelPath) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(open) = self.opened().get(path).filter(|open| is_there(open)) {
            return Ok(open.clone());
        }
        let mut at = fs::openat(&*self.versions()?, c".", FOLDER, Mode::empty())?;
        for name in path.components() {
            at = open_or_make(at.as_fd(), name)?;
        }
        let (mut all, at) = (self.opened(), Arc::new(at));
        if all.len() >= OPEN {
            all.clear();
        }
        all.insert(path.clone(), at.clone());
        Ok(at)
    }

    /// Gives an entry another name where it is kept: it stays where it is, too.
    ///
    /// # Errors
    /// As of linkat(2).
    pub fn link(&self, slot: &Slot, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        self.in_slot(slot, |to, kept| fs::linkat(folder, name, to, kept, AtFlags::empty()))
    }

    /// Moves an entry to where it is kept.
    ///
    /// # Errors
    /// As of renameat2(2).
    pub fn take(&self, slot: &Slot, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        self.in_slot(slot, |to, kept| match fs::renameat_with(folder, name, to, kept, RenameFlags::NOREPLACE) {
            // Nothing else has a name with this time.
            Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(folder, name, to, kept),
            done => done,
        })
    }

    /// Has something made where it is kept.
    ///
    /// # Errors
    /// Those of `make`, and as of mkdirat(2).
    pub fn make(&self, slot: &Slot, make: impl Fn(BorrowedFd, &[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
        self.in_slot(slot, make)
    }

    /// Removes what is kept there: it was not lost.
    pub fn drop_kept(&self, slot: &Slot) {
        // If it stays, a name too many is kept until it is too old.
        let _ = self.in_slot(slot, |folder, name| fs::unlinkat(folder, name, AtFlags::empty()));
    }

    /// Notes that this run ends, with all that was said written.
    pub fn close(&self) {
        self.say(&RelPath::root(), Event::Ended, By::Cause(Cause::Sweep), false);
        // Without it the next run looks at the last lines more closely.
        let _ = self.put(false);
    }
}

const FOLDER: fs::OFlags =
    fs::OFlags::RDONLY.union(fs::OFlags::DIRECTORY).union(fs::OFlags::NOFOLLOW).union(fs::OFlags::CLOEXEC);

fn restore_times(folder: BorrowedFd, before: &fs::Stat) -> Result<(), Errno> {
    let last_modification = Timespec { tv_sec: before.st_mtime, tv_nsec: before.st_mtime_nsec as _ };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    fs::futimens(folder, &Timestamps { last_access, last_modification })
}

fn open_or_make(parent: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match open_child(parent, name) {
        Err(Errno::NOENT) => match fs::mkdirat(parent, name, PRIVATE) {
            Ok(()) | Err(Errno::EXIST) => open_child(parent, name),
            Err(error) => Err(error),
        },
        done => done,
    }
}
