//! Owns what leads into long work and out of it while it runs: whether it is to go on, and how far it has come. It knows
//! nothing of what the work is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by all threads of the work; counts from the start of the program.
#[derive(Debug, Default)]
pub struct Pulse {
    stop: Arc<AtomicBool>,
    /// What this is a part of: it counts the same once more.
    whole: Option<Arc<Pulse>>,
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

    /// A part of some work, so that its own signs of life can be told from those of the rest. It ends with the whole.
    pub fn part_of(whole: &Arc<Pulse>) -> Self {
        Self { stop: Arc::clone(&whole.stop), whole: Some(Arc::clone(whole)), ..Self::default() }
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
        self.each(|pulse| &pulse.beats, 1);
    }

    pub fn listed(&self, entries: u64, bytes: u64) {
        self.beat();
        self.each(|pulse| &pulse.entries, entries);
        self.each(|pulse| &pulse.listed_bytes, bytes);
    }

    /// A file is to be copied.
    pub fn wanted(&self, bytes: u64) {
        self.each(|pulse| &pulse.wanted_files, 1);
        self.each(|pulse| &pulse.wanted_bytes, bytes);
    }

    pub fn copied_file(&self) {
        self.beat();
        self.each(|pulse| &pulse.files, 1);
    }

    pub fn copied_bytes(&self, bytes: u64) {
        self.beat();
        self.each(|pulse| &pulse.bytes, bytes);
    }

    fn each(&self, counter: impl Fn(&Pulse) -> &AtomicU64, by: u64) {
        counter(self).fetch_add(by, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            counter(whole).fetch_add(by, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_for_the_whole_and_stops_with_it_but_does_not_count_for_another_part() {
        let whole = Arc::new(Pulse::default());
        let (one, other) = (Pulse::part_of(&whole), Pulse::part_of(&whole));
        one.listed(3, 7);
        one.copied_bytes(5);
        other.copied_file();
        let of_one = Progress { beats: 2, entries: 3, listed_bytes: 7, bytes: 5, ..Progress::default() };
        assert_eq!(one.progress(), of_one);
        assert_eq!(other.progress(), Progress { beats: 1, files: 1, ..Progress::default() });
        assert_eq!(whole.progress(), Progress { beats: 3, files: 1, ..of_one });
        whole.stop();
        assert!(one.is_stopped() && other.is_stopped());
    }
}
