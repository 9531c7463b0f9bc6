//! Owns the way of a scrub through both folders, one folder at a time: its files, and then the folders in it, each in the
//! order of the names. So the last file that was dealt with says where to go on.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::file::Place;
use super::pace::Pace;
use super::{Found, Position, Report, Scrub};
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
    /// Where an earlier part has ended.
    after: Option<Mark>,
    begun: Instant,
    kept: Instant,
    /// How far this has come, where that is not kept yet.
    done: Option<Position>,
}

pub(super) fn run(scrub: &Scrub, stage: &Stage, keep: &mut dyn FnMut(&Position)) -> Report {
    let (pace, rules) = (Pace::new(scrub.ask.rate), scrub.pair.rules());
    // What the parts before this one came to belongs to the same scrub.
    let report = scrub.from.as_ref().map(|from| from.report.clone()).unwrap_or_default();
    scrub.progress.go_on(&report);
    let before = Duration::from_millis(report.duration_ms);
    let after = scrub.from.as_ref().map(|from| Mark::of(&from.after));
    let begun = Instant::now().checked_sub(before).unwrap_or_else(Instant::now);
    let mut walk = Walk {
        scrub,
        stage,
        pace,
        report,
        linked: HashSet::new(),
        rules,
        after,
        begun,
        kept: Instant::now(),
        done: None,
    };
    walk.folders(keep);
    let is_complete = !scrub.pulse.is_stopped();
    if let Some(done) = walk.done.take().filter(|_| !is_complete) {
        keep(&done);
    }
    Report { is_complete, found: std::mem::take(&mut walk.report.found), ..walk.numbers() }
}

/// The last file that was dealt with.
pub(super) struct Mark {
    folder: RelPath,
    file: RelPath,
}

impl Mark {
    fn of(file: &RelPath) -> Self {
        Self { folder: file.split().map_or_else(RelPath::root, |(folder, _)| folder), file: file.clone() }
    }

    /// Whether this file comes no later than it on the way.
    fn is_past_file(&self, folder: &RelPath, file: &RelPath) -> bool {
        *folder < self.folder || (*folder == self.folder && *file <= self.file)
    }

    /// Whether all below this folder does.
    fn is_past_folder(&self, folder: &RelPath) -> bool {
        *folder < self.folder && !self.folder.is_within(folder)
    }
}

impl Walk<'_> {
    fn folders(&mut self, keep: &mut dyn FnMut(&Position)) {
        let mut waiting = vec![RelPath::root()];
        while let Some(path) = waiting.pop() {
            let mut below = match self.folder(&path, keep) {
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
            below.retain(|folder| self.after.as_ref().is_none_or(|after| !after.is_past_folder(folder)));
            waiting.extend(below.into_iter().rev());
        }
    }

    /// Reads the files of a folder. Returns the folders in it.
    fn folder(&mut self, path: &RelPath, keep: &mut dyn FnMut(&Position)) -> Result<Vec<RelPath>, Errno> {
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
                Kind::File if self.after.as_ref().is_some_and(|after| after.is_past_file(path, &whole)) => {}
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
                    let done = Position { after: whole, report: self.numbers() };
                    if self.kept.elapsed() >= KEEP {
                        keep(&done);
                        self.kept = Instant::now();
                        self.done = None;
                    } else {
                        self.done = Some(done);
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

    fn numbers(&self) -> Report {
        let (progress, duration) = (self.scrub.progress, self.begun.elapsed().as_millis());
        let duration_ms = u64::try_from(duration).unwrap_or(u64::MAX);
        Report { duration_ms, files: progress.files(), bytes: progress.bytes(), ..self.report.numbers() }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The files below a folder, each with its folder, in the order of the walk.
    fn files_below(folder: &RelPath, depth: usize, files: &mut Vec<(RelPath, RelPath)>) {
        let names: [&[u8]; 4] = [b"a", b"a.b", b"m", b"z"];
        files.extend(names.map(|name| (folder.clone(), folder.join(name))));
        for name in names.into_iter().filter(|_| depth > 0) {
            files_below(&folder.join(&[name, b"-"].concat()), depth - 1, files);
        }
    }

    #[test]
    fn past_a_mark_is_what_the_walk_has_come_to_before_it_and_nothing_else() {
        let mut files = Vec::new();
        files_below(&RelPath::root(), 2, &mut files);
        for (at, (_, file)) in files.iter().enumerate() {
            let mark = Mark::of(file);
            let left = |(folder, file): &&(RelPath, RelPath)| !mark.is_past_file(folder, file);
            let left: Vec<_> = files.iter().filter(left).collect();
            assert_eq!(left, files.iter().skip(at + 1).collect::<Vec<_>>(), "{file:?}");
            for (folder, _) in &files {
                let is_past = left.iter().all(|(of, _)| !of.is_within(folder));
                assert!(!mark.is_past_folder(folder) || is_past, "{file:?} {folder:?}");
                assert!(
                    mark.is_past_folder(folder) || !is_past || mark.folder.is_within(folder),
                    "{file:?} {folder:?}"
                );
            }
        }
    }
}
