//! Owns the way of a scrub through both folders, one folder at a time, each before what is below it, in the order of the
//! names: so that the last file that was dealt with says where to go on.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::file::Place;
use super::pace::Pace;
use super::{Found, Report, Scrub};
use crate::fs::scan;
use crate::fs::stage::Stage;
use crate::fs::volume;
use crate::service::pass::describe;
use crate::service::rules::Rules;
use crate::tree::entry::{InodeId, Kind, Seen};
use crate::tree::identity::Side;
use crate::tree::listing::{Listing, merge};
use crate::tree::path::RelPath;

/// How often it is kept how far it has come.
const KEEP: Duration = Duration::from_secs(10);
/// Of so many files with several names it is known that they were read; beyond, they are read under each name.
const LINKED: usize = 100_000;

/// A scrub that runs.
pub(super) struct Walk<'a> {
    pub(super) scrub: &'a Scrub<'a>,
    pub(super) stage: &'a Stage,
    pub(super) pace: Pace,
    pub(super) report: Report,
    /// Files with several names that were read.
    pub(super) linked: HashSet<InodeId>,
    rules: std::sync::Arc<Rules>,
}

pub(super) fn run(scrub: &Scrub, stage: &Stage, keep: &mut dyn FnMut(&RelPath)) -> Report {
    let begun = Instant::now();
    let (pace, rules) = (Pace::new(scrub.ask.rate), scrub.pair.rules());
    let mut walk = Walk { scrub, stage, pace, report: Report::default(), linked: HashSet::new(), rules };
    walk.folders(keep);
    let mut report = walk.report;
    report.is_complete = !scrub.pulse.is_stopped();
    report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.files = scrub.progress.files();
    report.bytes = scrub.progress.bytes();
    report
}

impl Walk<'_> {
    fn folders(&mut self, keep: &mut dyn FnMut(&RelPath)) {
        let mut waiting = vec![RelPath::root()];
        let mut kept = Instant::now();
        while let Some(path) = waiting.pop() {
            let mut below = match self.folder(&path, &mut kept, keep) {
                Ok(below) => below,
                // It is not there any more, or not yet.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Vec::new(),
                Err(error) => {
                    self.failed(&path, Side::Replica, &format!("the folder cannot be read: {}", describe(error)));
                    Vec::new()
                }
            };
            if self.scrub.pulse.is_stopped() {
                return;
            }
            // All below those before was dealt with.
            below.retain(|folder| {
                self.scrub.after.as_ref().is_none_or(|after| folder > after || after.is_within(folder))
            });
            waiting.extend(below.into_iter().rev());
        }
    }

    /// Reads the files of a folder. Returns the folders in it.
    fn folder(
        &mut self,
        path: &RelPath,
        kept: &mut Instant,
        keep: &mut dyn FnMut(&RelPath),
    ) -> Result<Vec<RelPath>, Errno> {
        let scrub = self.scrub;
        let (source, replica) = (scrub.pair.source.open_folder(path)?, scrub.pair.replica.open_folder(path)?);
        let (in_source, in_replica) = self.list((&source, &replica))?;
        let device = scrub.pair.replica.stat(replica.as_fd())?.dev;
        let ids = scrub.pair.ids(source.as_fd(), Some(replica.as_fd()))?;
        let mut below = Vec::new();
        for (name, here, there) in merge(&in_source, &in_replica) {
            let (Seen::Present(here), Seen::Present(there)) = (here, there) else { continue };
            let whole = path.join(name);
            if here.kind != there.kind || self.is_left_alone(&whole, there.kind == Kind::Directory) {
                continue;
            }
            match there.kind {
                Kind::Directory if scrub.pair.options.one_file_system && there.dev != device => {}
                Kind::Directory => below.push(whole),
                Kind::File if scrub.after.as_ref().is_some_and(|after| whole <= *after) => {}
                Kind::File if there.is_linked() && self.linked.contains(&there.id()) => {}
                Kind::File => {
                    let place = Place { folder: path, path: &whole, name, source: &source, replica: &replica, ids };
                    self.file(&place);
                    if scrub.pulse.is_stopped() {
                        return Ok(below);
                    }
                    if there.is_linked() && self.linked.len() < LINKED {
                        self.linked.insert(there.id());
                    }
                    if kept.elapsed() >= KEEP {
                        keep(&whole);
                        *kept = Instant::now();
                    }
                }
                _ => {}
            }
        }
        Ok(below)
    }

    fn list(&self, (source, replica): (&OwnedFd, &OwnedFd)) -> Result<(Listing, Listing), Errno> {
        let (pair, beat) = (self.scrub.pair, &mut || self.scrub.pulse.beat());
        let in_source = scan::list_with(&pair.source, source.as_fd(), beat)?;
        Ok((in_source, scan::list_with(&pair.replica, replica.as_fd(), beat)?))
    }

    fn is_left_alone(&self, path: &RelPath, is_folder: bool) -> bool {
        let pair = self.scrub.pair;
        self.rules.exclude.skips(path, is_folder)
            || (is_folder && (volume::is_reserved(&pair.replica, path) || volume::is_reserved(&pair.source, path)))
    }

    /// Notes that something could not be read.
    pub(super) fn failed(&mut self, path: &RelPath, side: Side, reason: &str) {
        let shown = self.scrub.pair.shown_on(side, path);
        self.scrub.pair.log.error(format_args!("Failed: {shown}: {reason}"));
        self.report.failed += 1;
        let (side, what) = (side.to_string(), "failed".into());
        self.report.note(Found { path: shown, side, what, reason: reason.into() });
    }
}
