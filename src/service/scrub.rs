//! Owns a scrub: the files of both folders read whole, at a pace, and held against what is known of their contents. What
//! that means is decided in `plan::decay`; when a scrub runs is the dispatcher's, or the command's, affair.

mod file;
mod pace;
mod position;
mod repair;
mod report;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::pair::Pair;
use crate::fs::pulse::Pulse;
use crate::fs::sandbox;
use crate::fs::stage::Stage;
use crate::tree::entry::Seen;
use crate::tree::identity::Side;

pub use position::Position;
pub use report::{Found, Report};

/// What is asked of a scrub, as it is on the control socket's wire too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The source is read as well, not only where the replica leaves a question.
    #[serde(default)]
    pub source: bool,
    /// What has decayed is replaced by the other side's, where that is good.
    #[serde(default)]
    pub repair: bool,
    /// Bytes a second; as fast as it goes where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// How far a scrub has come.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of files that were read on either side.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts from what earlier parts of the same scrub have come to.
    fn go_on(&self, report: &Report) {
        self.files.store(report.files, Ordering::Relaxed);
        self.bytes.store(report.bytes, Ordering::Relaxed);
    }

    fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One scrub.
pub struct Scrub<'a> {
    /// The pair as the person knows it.
    pub pair: &'a Pair,
    pub ask: Ask,
    pub pulse: &'a Pulse,
    pub progress: &'a Arc<Progress>,
    /// How far an earlier part of this scrub has come.
    pub from: Option<Position>,
}

/// Confines this thread to the folders that a scrub needs.
pub fn confine(pair: &Pair, ask: Ask) {
    let (source, replica) = pair.roots();
    // What cannot be had is said by the passes.
    if ask.repair {
        sandbox::confine(&[], &[source, replica]);
    } else {
        sandbox::confine(&[source, replica], &[]);
    }
}

impl Scrub<'_> {
    /// Runs to the end, or until the pulse says stop. `keep` is told how far it has come, from time to time and at the end.
    pub fn run(&self, keep: &mut dyn FnMut(&Position)) -> Report {
        let stage = if self.pair.two_way.is_some() { Stage::shared() } else { Stage::new() };
        let report = walk::run(self, &stage, keep);
        let mtime = repair::mtime(&self.pair.source, self.pair.source.fd());
        if let (Some(mtime), false) = (mtime, stage.close(&self.pair.source).is_empty()) {
            repair::set_mtime(self.pair.source.fd(), mtime);
        }
        let archive = &self.pair.archive;
        if report.is_complete {
            archive.forget_gone_digests();
        }
        review(self.pair);
        // What is lost is recorded again.
        let _ = archive.commit_digests(true);
        report
    }
}

/// Forgets of what has decayed what has been changed or removed since.
pub fn review(pair: &Pair) {
    let (source, replica) = pair.roots();
    for (path, decayed) in pair.archive.decayed() {
        let (root, other) = if decayed.side == Side::Source { (source, replica) } else { (replica, source) };
        match root.look_at(&path) {
            Ok(Seen::Present(stat)) if decayed.is_of(&stat) => {}
            // It may be under another name, and what is there on the other side the good one.
            Ok(Seen::Absent) if other.look_at(&path) != Ok(Seen::Absent) => {}
            Ok(Seen::Present(_) | Seen::Absent) => {
                pair.archive.set_decayed(&path, None);
            }
            // Nobody knows.
            Ok(Seen::Unknown) | Err(_) => {}
        }
    }
}
