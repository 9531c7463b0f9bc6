//! Owns what a pass tells the history: each change is said before it is made, with what was there, and what would be lost
//! is kept. Where there is no history, nothing of it costs anything; where there is one and nothing is kept, it is told
//! before the first change that it misses what comes.
//!
//! A folder's own attributes are said when a pass is about to change its list for the first time: what comes after,
//! whether it ends or is interrupted, can be taken back to that.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::MutexGuard;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::meeting::is_changed;
use super::{Pass, place_of};
use crate::fs::exact;
use crate::fs::history::{History, Slot};
use crate::fs::metadata::{self, Xattrs};
use crate::fs::remove;
use crate::fs::trust;
use crate::tree::entry::{InodeId, Kind, Stat, Time};
use crate::tree::history::{Attributes, By, Event};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// What was said of a change that is about to be made.
#[derive(Debug, Default)]
#[must_use]
pub struct Said {
    lines: Vec<(Time, RelPath)>,
    slot: Option<Slot>,
}

/// An entry of the folder that is written to.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) path: &'a RelPath,
}

impl<'a> At<'a> {
    pub(super) fn new(folder: BorrowedFd<'a>, path: &'a RelPath) -> Self {
        Self { folder, path }
    }
}

impl Pass<'_> {
    fn history(&self) -> Option<&History> {
        self.pair.history.as_deref().filter(|_| !self.pair.options.dry_run)
    }

    /// Whether what is lost is kept.
    pub(super) fn keeps(&self) -> bool {
        self.history().is_some()
    }

    fn by(&self, path: &RelPath) -> By {
        By::Cause(self.asked(path))
    }

    /// Says that something of kind `now` comes to a place where `old` is.
    pub(super) fn say_arrival(&self, at: At, now: Kind, old: Option<&Stat>) -> Result<Said, Errno> {
        let Some(history) = self.history() else { return Ok(Said::default()) };
        if old.is_none() && self.comes_back(at.path) {
            return Ok(Said::default());
        }
        self.say_list_changes(at)?;
        let (path, by, side) = (at.path, self.by(at.path), self.pair.is_turned());
        let mut said = match old {
            None => Said::default(),
            Some(old) if old.kind == Kind::Directory || now == Kind::Directory => self.say_removal(at, old)?,
            Some(old) => {
                let updated = |kept| Event::Updated { kind: old.kind, kept: Some(kept) };
                let (time, slot) = history.say_kept(path, updated, (by, side));
                return Ok(Said { lines: vec![(time, path.clone())], slot: Some(slot) });
            }
        };
        if now == Kind::Directory {
            self.captured().insert(path.clone());
        }
        said.lines.push((history.say(path, Event::Created { kind: now }, by, side), path.clone()));
        Ok(said)
    }

    /// Whether one side has removed what the other one still has, and has worked in: it is nothing new.
    fn comes_back(&self, path: &RelPath) -> bool {
        let pair = self.pair;
        pair.two_way.is_some() && place_of(pair, path).is_some_and(|(ids, name)| pair.agreed(ids, &name).is_some())
    }

    /// Says that an entry goes; a folder when nothing is in it any more.
    fn say_removal(&self, at: At, old: &Stat) -> Result<Said, Errno> {
        self.say_list_changes(at)?;
        if old.kind != Kind::Directory {
            return Ok(self.say_gone(at.path, old.kind, self.asked(at.path)));
        }
        let name = at.path.split().map(|(_, name)| name).unwrap_or_default();
        let was = Attributes::of(old, metadata::xattrs_at(at.folder, name)?);
        Ok(self.say_folder_goes(at.path, Some(was), self.asked(at.path)))
    }

    /// Says that an entry goes that is no folder.
    pub(super) fn say_gone(&self, path: &RelPath, kind: Kind, cause: Cause) -> Said {
        let Some(history) = self.history() else { return Said::default() };
        let removed = |kept| Event::Removed { kind, kept: Some(kept), was: None };
        let (time, slot) = history.say_kept(path, removed, (By::Cause(cause), self.pair.is_turned()));
        Said { lines: vec![(time, path.clone())], slot: Some(slot) }
    }

    /// Says that a folder goes, and which attributes it had before anything went from it, if they are known.
    pub(super) fn say_folder_goes(&self, path: &RelPath, was: Option<Attributes>, cause: Cause) -> Said {
        let Some(history) = self.history() else { return Said::default() };
        let event = Event::Removed { kind: Kind::Directory, kept: None, was };
        let time = history.say(path, event, By::Cause(cause), self.pair.is_turned());
        Said { lines: vec![(time, path.clone())], slot: None }
    }

    /// What a folder has beyond its contents, where that is told.
    pub(super) fn attributes(&self, folder: BorrowedFd) -> Option<Attributes> {
        self.history()?;
        Some(Attributes::of(&self.pair.replica.stat(folder).ok()?, metadata::xattrs(folder).ok()?))
    }

    /// Says what a folder was before anything was done in it, once a pass.
    pub(super) fn say_was(&self, path: &RelPath, was: &Attributes) {
        let Some(history) = self.history().filter(|_| self.captured().insert(path.clone())) else { return };
        let event = Event::Metadata { was: was.clone(), quiet: true };
        history.say(path, event, self.by(path), self.pair.is_turned());
    }

    /// Removes an entry that is no folder, to where it is kept if it is.
    pub(super) fn remove_kept(&self, at: At, old: &Stat) -> Result<(), Errno> {
        let Some((_, name)) = at.path.split() else { return Err(Errno::INVAL) };
        if !self.keeps() {
            self.note_gap();
            return remove::unlink(at.folder, name, AtFlags::empty());
        }
        let said = self.say_removal(at, old)?;
        let done = self.put_said().and_then(|()| self.take_away(&said, at.folder, name));
        if !matches!(done, Ok(true)) {
            self.unsay(said);
        }
        done.map(|_| ())
    }

    /// Says that an entry gets another path: one at which nothing is, or that of the entry that gets its path. What is to
    /// be replaced there, `target`, goes before.
    pub(super) fn say_rename(
        &self,
        (from, to): (At, At),
        ino: InodeId,
        (is_exchange, target): (bool, Option<&Stat>),
    ) -> Result<Said, Errno> {
        let Some(history) = self.history() else { return Ok(Said::default()) };
        self.say_list_changes(from)?;
        self.say_list_changes(to)?;
        let mut said = match target {
            Some(target) => self.say_removal(to, target)?,
            None => Said::default(),
        };
        let (by, side, other, ino) = (self.by(to.path), self.pair.is_turned(), to.path.clone(), ino.ino);
        let event = if is_exchange { Event::Exchanged { with: other, ino } } else { Event::Renamed { to: other, ino } };
        said.lines.push((history.say(from.path, event, by, side), from.path.clone()));
        Ok(said)
    }

    /// Says that an entry gets other attributes than these.
    pub(super) fn say_metadata(&self, path: &RelPath, stat: &Stat, xattrs: &Xattrs, in_source: bool) -> Said {
        let Some(history) = self.history() else { return Said::default() };
        let was = Attributes::of(stat, xattrs.clone());
        let time = history.say(path, Event::Metadata { was, quiet: false }, self.by(path), in_source);
        Said { lines: vec![(time, path.clone())], slot: None }
    }

    /// Says what a folder is before anything is done in it, once a pass.
    pub(super) fn say_before(&self, folder: BorrowedFd, path: &RelPath) -> Result<(), Errno> {
        let stat = self.as_agreed(path, &self.pair.replica.stat(folder)?);
        self.say_was(path, &Attributes::of(&stat, metadata::xattrs(folder)?));
        Ok(())
    }

    /// A folder with the times and the mode that were agreed, where both sides are worked in: who works in it, and what is
    /// staged there, has made other times of it since.
    pub(super) fn as_agreed(&self, path: &RelPath, now: &Stat) -> Stat {
        let place = self.pair.two_way.as_ref().and_then(|_| place_of(self.pair, path));
        let agreed = place.and_then(|(ids, name)| self.pair.agreed(ids, &name));
        let says =
            |agreed: &Agreed| agreed.replica.id == now.id() && !agreed.provisional && !is_changed(&agreed.replica);
        match agreed.filter(says) {
            Some(agreed) => Stat { mode: agreed.replica.mode, mtime: agreed.replica.mtime, ..*now },
            None => *now,
        }
    }

    pub(super) fn say_list_changes(&self, at: At) -> Result<(), Errno> {
        let Some((parent, _)) = at.path.split() else { return Ok(()) };
        if self.has_said(&parent) { Ok(()) } else { self.say_before(at.folder, &parent) }
    }

    /// Whether the attributes that a folder had before this pass are said.
    pub(super) fn has_said(&self, folder: &RelPath) -> bool {
        !self.keeps() || self.captured().contains(folder)
    }

    /// Lifts a mode of a folder that keeps its owner from working in it, which is said before.
    pub(super) fn open_up(&self, folder: BorrowedFd, path: &RelPath) -> Result<(), Errno> {
        if !remove::is_writable(folder) {
            self.note_gap();
            if !self.has_said(path) {
                self.say_before(folder, path)?;
                self.put_said()?;
            }
            // Where it cannot be done, what is tried next says why.
            let _ = remove::make_writable(folder);
        }
        Ok(())
    }

    /// Says what a folder is that is about to be made less open, which nothing may do before it is written.
    pub(super) fn say_closing(&self, replica: &impl AsFd, path: &RelPath, source: &Stat) -> Result<(), Errno> {
        let is_asked = (self.keeps() || self.pair.awaits_gap()) && self.pair.two_way.is_none();
        if !is_asked || !trust::is_more_open(replica.as_fd(), source, &self.pair.rights) {
            return Ok(());
        }
        if !self.keeps() {
            self.note_gap();
            return Ok(());
        }
        self.say_before(replica.as_fd(), path)?;
        self.put_said()
    }

    /// A folder that this pass has made had no attributes before.
    pub(super) fn made_anew(&self, folder: &RelPath) {
        if self.keeps() {
            self.captured().insert(folder.clone());
        }
    }

    /// Writes what was said, and brings it to disk where contents are: nothing may be done of it before. All that a pass
    /// changes comes by here, also where nothing is kept.
    pub(super) fn put_said(&self) -> Result<(), Errno> {
        match self.history() {
            Some(history) => history.put(self.pair.options.durable),
            None => {
                self.note_gap();
                Ok(())
            }
        }
    }

    /// The same of a change about which nothing is said, or has been before: only a history that is not gone on with is
    /// told.
    pub(super) fn note_gap(&self) {
        if !self.pair.options.dry_run {
            self.pair.note_gap();
        }
    }

    /// Takes back what was said of a change that was not made.
    pub(super) fn unsay(&self, said: Said) {
        let Some(history) = self.history() else { return };
        for (of, path) in &said.lines {
            history.say(path, Event::Void { of: *of }, self.by(path), self.pair.is_turned());
        }
        if let Some(slot) = &said.slot {
            history.drop_kept(slot);
        }
    }

    /// Keeps what is about to be replaced; it stays where it is, too.
    pub(super) fn keep(&self, said: &Said, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        let (Some(history), Some(slot)) = (self.history(), &said.slot) else { return Ok(()) };
        match history.link(slot, folder, name) {
            Err(error) if is_no_link(error) => self.keep_copy(history, slot, folder, name),
            done => done,
        }
    }

    /// Keeps what is removed: it goes from where it is. Returns false where nothing is kept, and nothing was done.
    pub(super) fn take_away(&self, said: &Said, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        let (Some(history), Some(slot)) = (self.history(), &said.slot) else { return Ok(false) };
        let done = match history.take(slot, folder, name) {
            Err(Errno::ACCESS) => {
                remove::make_writable(folder)?;
                history.take(slot, folder, name)
            }
            done => done,
        };
        match done {
            Err(Errno::XDEV) => {
                self.keep_copy(history, slot, folder, name)?;
                remove::unlink(folder, name, AtFlags::empty()).map(|()| true)
            }
            done => done.map(|()| true),
        }
    }

    fn keep_copy(&self, history: &History, slot: &Slot, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        let pair = self.pair;
        let manner = exact::Manner {
            rights: &pair.rights,
            abilities: &pair.abilities,
            pulse: self.pulse,
            durable: pair.options.durable,
        };
        history.make(slot, |to, kept| {
            exact::copy((folder, name), (to, kept), &manner).map(|lost| {
                pair.report_lost(lost, &slot.path);
            })
        })
    }

    fn captured(&self) -> MutexGuard<'_, HashSet<RelPath>> {
        self.captured.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Another filesystem, or one without links; a link too many; or a file that others own.
fn is_no_link(error: Errno) -> bool {
    matches!(error, Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS)
}
