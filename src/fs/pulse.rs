//! Owns what leads into long work and out of it while it runs: whether it is to go on, and how far it has come. It knows
//! nothing of what the work is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by all threads of the work; counts from the start of the program.
#[derive(Debug, Default)]
pub struct Pulse {
    stop: Arc<AtomicBool>,
    beats: AtomicU64,
    entries: AtomicU64,
    listed_bytes: AtomicU64,
    wanted_files: AtomicU64,
    wanted_bytes: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// How far the work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Signs of life: they rise as long as anything moves, and mean nothing else.
    pub beats: u64,
    /// Entries that were listed in the source.
    pub entries: u64,
    /// Bytes that the files among them take up.
    pub listed_bytes: u64,
    /// Files that were found to need a copy, and the bytes in them: what is missing of them, and nothing else of what was
    /// listed, is still to be done.
    pub wanted_files: u64,
    pub wanted_bytes: u64,
    /// Files that were copied or updated.
    pub files: u64,
    /// Bytes that were copied into them, some perhaps for a copy that was thrown away.
    pub bytes: u64,
}

impl Pulse {
    /// Work that ends early when `stop` is set.
    pub fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Asks the work to end early.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A sign of life.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub fn listed(&self, entries: u64, bytes: u64) {
        self.beat();
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.listed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file is to be copied.
    pub fn wanted(&self, bytes: u64) {
        self.wanted_files.fetch_add(1, Ordering::Relaxed);
        self.wanted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn copied_file(&self) {
        self.beat();
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub fn copied_bytes(&self, bytes: u64) {
        self.beat();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn progress(&self) -> Progress {
        Progress {
            beats: self.beats.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            listed_bytes: self.listed_bytes.load(Ordering::Relaxed),
            wanted_files: self.wanted_files.load(Ordering::Relaxed),
            wanted_bytes: self.wanted_bytes.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
