//! Owns what a scrub has found, as data, and in the words of its last line.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tree::totals::Bytes;

/// As many findings are listed one by one.
const LISTED: usize = 1_000;

/// What came of a scrub; also its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// It came to its end.
    pub is_complete: bool,
    pub duration_ms: u64,
    /// Files that both sides have and that were read.
    pub files: u64,
    /// Bytes that were read, on both sides.
    pub bytes: u64,
    /// Of them, those whose contents were recorded for the first time, or anew after an edit.
    pub recorded: u64,
    /// Of these, those recorded of the replica alone, because the source had other contents at that time.
    pub recorded_alone: u64,
    /// Files that somebody was changing, or whose change was not in the replica yet.
    pub changing: u64,
    /// Files that have decayed, on either side, those that were repaired among them.
    pub decayed: u64,
    pub repaired: u64,
    /// Files with other contents than were recorded, and nothing that proves decay.
    pub unclear: u64,
    /// Files and folders that could not be read.
    pub failed: u64,
    /// What was found, the first thousand.
    pub found: Vec<Found>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Quoted as in the log.
    pub path: String,
    /// `source` or `replica`: whose file it is.
    pub side: String,
    /// `repaired`, `decayed`, `alone`, `lost`, `unclear` or `failed`.
    pub what: String,
    pub reason: String,
}

impl Report {
    pub(super) fn note(&mut self, found: Found) {
        if self.found.len() < LISTED {
            self.found.push(found);
        }
    }

    /// The numbers alone.
    #[must_use]
    pub(super) fn numbers(&self) -> Self {
        let Self { is_complete, duration_ms, files, bytes, recorded, .. } = *self;
        let Self { recorded_alone, changing, decayed, repaired, unclear, failed, .. } = *self;
        Self {
            is_complete,
            duration_ms,
            files,
            bytes,
            recorded,
            recorded_alone,
            changing,
            decayed,
            repaired,
            unclear,
            failed,
            found: Vec::new(),
        }
    }

    /// Whether a person has nothing to do.
    pub fn is_clean(&self) -> bool {
        self.is_complete && self.decayed == self.repaired && self.unclear == 0 && self.failed == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        write!(f, "{} {files}, {} read in {:.3} s", self.files, Bytes(self.bytes), self.duration_ms as f64 / 1000.0)?;
        if self.decayed == 0 {
            write!(f, ": nothing has decayed")?;
        } else {
            write!(f, ": {} decayed, {} repaired", self.decayed, self.repaired)?;
        }
        let rest = [
            (self.unclear, "unclear"),
            (self.failed, "could not be read"),
            (self.recorded, "recorded"),
            (self.recorded_alone, "of the replica alone"),
            (self.changing, "being changed"),
        ];
        for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        if !self.is_complete {
            write!(f, "; stopped before its end")?;
        }
        Ok(())
    }
}
