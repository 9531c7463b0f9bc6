//! Owns noting that a history misses what comes: once for as long as a replica is worked in without it, right before the
//! first change of which nothing is told. Where nothing is changed nothing is noted, and all goes on where it was.

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::journal::Journal;
use super::reading;
use crate::fs::root::Root;

/// The history of a replica in which changes may come of which nothing is told.
#[derive(Debug)]
pub struct Gap {
    root: OwnedFd,
    folder: OwnedFd,
    is_noted: AtomicBool,
    turn: Mutex<()>,
}

impl Gap {
    /// Where the replica has a history.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn of(replica: &Root) -> Result<Option<Self>, Errno> {
        let folder = match reading::folder(replica) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            done => done?,
        };
        let root = rustix::io::fcntl_dupfd_cloexec(replica.fd(), 0)?;
        Ok(Some(Self { root, folder, is_noted: AtomicBool::new(false), turn: Mutex::default() }))
    }

    /// Whether there is nothing more to note.
    pub fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::SeqCst)
    }

    /// Has it on disk that the history misses what comes. Nobody may go on before it is.
    ///
    /// # Errors
    /// As of write(2) and fdatasync(2): the next change asks for it once more.
    pub fn note(&self) -> Result<(), Errno> {
        if self.is_noted() {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        if !self.is_noted() {
            Journal::interrupt(&self.root, &self.folder)?;
            self.is_noted.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}
