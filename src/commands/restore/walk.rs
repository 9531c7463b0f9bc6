//! Owns bringing a tree back: one entry after the other, a folder's own attributes when all is in it. What is there already
//! and equal is not touched; what is there and differs, `place` decides about.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs;
use rustix::io::Errno;

use super::decay::Decay;
use super::keep::Keeper;
use super::past::Past;
use super::told::{Done, Told};
use crate::fs::copy::Abilities;
use crate::fs::exact::{self, Manner};
use crate::fs::metadata::{self, CAPABILITY, Rights};
use crate::fs::pulse::Pulse;
use crate::fs::restore::{Lifted, Workshop};
use crate::fs::root::{Root, open_child};
use crate::fs::scan;
use crate::tree::entry::{Kind, Stat};
use crate::tree::exclude::RESERVED;
use crate::tree::history::Attributes;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// So many folders are kept open, of a tree that may be deeper.
const OPEN: usize = 200;

/// How it is brought back.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Others are at work there.
    pub in_place: bool,
    pub force: bool,
    pub dry_run: bool,
    /// A service keeps what is replaced, if its replica has it.
    pub is_served: bool,
}

pub struct Walk<'a> {
    pub(super) past: &'a mut Past,
    pub(super) to: &'a Root,
    pub(super) mode: Mode,
    pub(super) keeper: Option<&'a Keeper>,
    decay: &'a Decay<'a>,
    pub(super) told: &'a mut Told,
    pub(super) rights: Rights,
    pub(super) pulse: &'a Pulse,
    pub(super) workshop: Workshop<'a>,
    /// Folders that are closed to their owner, and get their modes back.
    lifted: Vec<Lifted>,
    abilities: Abilities,
    /// The path in the past, and where it goes.
    way: (RelPath, RelPath),
    /// Where the first name of an inode is, of those that have several.
    pub(super) linked: HashMap<(u64, u64), RelPath>,
    /// What an inode that stays was, of those that have several names there.
    pub(super) stays: HashMap<(u64, u64), (u64, u64)>,
}

struct Frame {
    path: RelPath,
    /// Nothing in a dry run, where it is not there.
    folder: Option<Rc<OwnedFd>>,
    /// Names that are still to come, the last one first.
    names: Vec<Box<[u8]>>,
    attributes: Option<Attributes>,
    is_new: bool,
    /// In place: what is there and was not then.
    others: Vec<Box<[u8]>>,
    /// Something in it is not as it was then.
    differs: bool,
    /// Its time was that of then, before anything came back in it.
    had_time: bool,
}

enum Step {
    Done,
    Differs,
    Enter { is_new: bool },
}

impl<'a> Walk<'a> {
    pub fn new(
        (past, to): (&'a mut Past, &'a Root),
        way: (RelPath, RelPath),
        mode: Mode,
        (keeper, decay): (Option<&'a Keeper>, &'a Decay<'a>),
        (told, pulse): (&'a mut Told, &'a Pulse),
    ) -> Self {
        let workshop = Workshop::new(to, mode.in_place);
        let (rights, abilities) = (Rights::of_this_process(), Abilities::default());
        let (lifted, linked, stays) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { past, to, mode, keeper, decay, told, rights, pulse, workshop, lifted, abilities, way, linked, stays }
    }

    /// Brings all of it back. What fails is told, and the rest goes on.
    ///
    /// # Errors
    /// What makes going on useless: ECANCELED, ENOSPC and the like.
    pub fn run(&mut self, kind: Kind) -> Result<(), Errno> {
        let (top, to) = self.way.clone();
        let mut frames = Vec::new();
        if self.mode.dry_run && !self.mode.in_place {
            if kind != Kind::Directory {
                return self.entry(&top, None, b"").map(|_| ());
            }
            frames.push(self.enter(top, None, true, None)?);
        } else if to.is_root() {
            let folder = self.to.open_folder(&to)?;
            frames.push(self.enter(top, Some(Rc::new(folder)), !self.mode.in_place, None)?);
        } else {
            self.begin(&top, &to, &mut frames)?;
        }
        while let Some(frame) = frames.last_mut() {
            if self.pulse.is_stopped() {
                return Err(Errno::CANCELED);
            }
            let Some(name) = frame.names.pop() else {
                self.leave(&mut frames)?;
                continue;
            };
            let path = frame.path.join(&name);
            let (folder, only) = (frame.folder.clone(), self.way_to(&path));
            let name_there = self.there(&path).split().map(|(_, name)| name.to_vec()).unwrap_or_default();
            let done = self.entry(&path, folder.as_deref().map(AsFd::as_fd), &name_there);
            let done = done.and_then(|step| match step {
                Step::Done => Ok(None),
                Step::Differs => Ok(Some(None)),
                Step::Enter { is_new } => {
                    let open = |folder: &Rc<OwnedFd>| match open_child(folder.as_fd(), &name_there) {
                        // A dry run has replaced nothing.
                        Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) if self.mode.dry_run => Ok(None),
                        done => done.map(|folder| Some(Rc::new(folder))),
                    };
                    let open = folder.as_ref().map(open).transpose()?.flatten();
                    self.enter(path.clone(), open, is_new, only).map(|frame| Some(Some(frame)))
                }
            });
            match done {
                Ok(None) => {}
                Ok(Some(None)) => frame.differs = true,
                Ok(Some(Some(entered))) => {
                    frames.push(entered);
                    if let Some(far) = frames.len().checked_sub(OPEN).and_then(|far| frames.get_mut(far)) {
                        far.folder = None;
                    }
                }
                Err(error) => {
                    frame.differs = true;
                    self.failed(&path, error)?;
                }
            }
        }
        Ok(())
    }

    /// The folders above are made where they are gone, too.
    fn begin(&mut self, top: &RelPath, to: &RelPath, frames: &mut Vec<Frame>) -> Result<(), Errno> {
        let mut above = (to.clone(), top.clone());
        loop {
            let name = above.1.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
            above = match (above.0.split(), above.1.split()) {
                (Some((to, _)), Some((top, _))) => (to, top),
                // DEST has another name than what was the root.
                (Some((to, _)), None) => (to, RelPath::root()),
                (None, _) => return Err(Errno::NOENT),
            };
            match self.to.open_folder(&above.0) {
                // What is no folder now makes way, or not, when it is met.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if self.mode.in_place => {}
                folder => {
                    frames.push(Frame {
                        path: above.1,
                        folder: Some(Rc::new(folder?)),
                        names: vec![name.into()],
                        attributes: None,
                        is_new: false,
                        others: Vec::new(),
                        differs: true,
                        had_time: false,
                    });
                    return Ok(());
                }
            }
        }
    }

    /// The one name that is wanted in a folder above what is to come back.
    fn way_to(&self, path: &RelPath) -> Option<Box<[u8]>> {
        let top = &self.way.0;
        let is_above = top.is_within(path) && top != path;
        is_above.then(|| top.components().nth(path.depth()).map(Into::into)).flatten()
    }

    /// Where something that was at a path goes.
    pub(super) fn there(&self, path: &RelPath) -> RelPath {
        path.moved(&self.way.0, &self.way.1).unwrap_or_else(|| path.clone())
    }

    fn enter(
        &mut self,
        path: RelPath,
        folder: Option<Rc<OwnedFd>>,
        is_new: bool,
        only: Option<Box<[u8]>>,
    ) -> Result<Frame, Errno> {
        let (mut names, attributes) = self.past.list(&path)?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut others = Vec::new();
        if let (Some(folder), false, None) = (&folder, is_new || !self.mode.in_place, &only) {
            let again = exact::open_folder(folder.as_fd(), b".")?;
            let there = scan::names(again.as_fd(), &mut || {})?;
            let is_other = |name: &[u8]| {
                names.binary_search_by(|known| name.cmp(known)).is_err() && !(path.is_root() && name == RESERVED)
            };
            others = there.iter().map(|(name, _)| name).filter(|name| is_other(name)).map(Into::into).collect();
        }
        if let Some(only) = only {
            names = vec![only];
        }
        let time = folder.as_ref().map(|folder| exact::stat(folder.as_fd())).transpose()?.map(|stat| stat.mtime);
        let had_time = !is_new && time == Some(attributes.mtime);
        Ok(Frame { path, folder, names, attributes: Some(attributes), is_new, others, differs: false, had_time })
    }

    /// A folder is as full as it gets.
    fn leave(&mut self, frames: &mut Vec<Frame>) -> Result<(), Errno> {
        let Some(mut frame) = frames.pop() else { return Ok(()) };
        let done = self.finish(&mut frame);
        if let Some(above) = frames.last_mut() {
            if above.folder.is_none() && (self.mode.in_place || !self.mode.dry_run) {
                above.folder = match self.to.open_folder(&self.there(&above.path)) {
                    // A dry run has made nothing.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if self.mode.dry_run => None,
                    folder => Some(Rc::new(folder?)),
                };
            }
            above.differs |= done.is_err();
        }
        match done {
            Err(error) => self.failed(&frame.path, error),
            Ok(()) => Ok(()),
        }
    }

    /// Something is about to change in a folder.
    pub(super) fn lift(&mut self, folder: Option<BorrowedFd>) {
        if let Some(folder) = folder.filter(|_| !self.mode.dry_run) {
            self.lifted.extend(Lifted::new(folder));
        }
    }

    /// No more is.
    pub(super) fn lower(&mut self, folder: BorrowedFd) {
        if !self.lifted.is_empty() {
            self.lifted.retain(|lifted| !lifted.is_of(folder));
        }
    }

    fn finish(&mut self, frame: &mut Frame) -> Result<(), Errno> {
        let others = self.finish_others(frame);
        if let Some(folder) = &frame.folder {
            self.lower(folder.as_fd());
        }
        others?;
        let Some(attributes) = &frame.attributes else { return Ok(()) };
        let Some(folder) = &frame.folder else { return Ok(()) };
        let folder = folder.as_fd();
        let now = exact::stat(folder)?;
        let wanted = stat_of(&now, attributes);
        let mut xattrs = attributes.xattrs.clone();
        if !self.rights.are_full() {
            xattrs.remove(CAPABILITY);
        }
        if !frame.is_new && !self.mode.force {
            // Its time is no difference: it moves with whatever is made in it.
            let alike = metadata::same_stat(&Stat { mtime: now.mtime, ..wanted }, &now, &self.rights)
                && metadata::xattrs(folder)? == xattrs;
            if !alike {
                self.told.left(&frame.path, "its attributes are others than they were then; --force sets them");
            }
            if !alike || frame.differs {
                if frame.had_time && now.mtime != wanted.mtime && !self.mode.dry_run {
                    let (wanted, own) = (Stat { mtime: wanted.mtime, ..now }, metadata::xattrs(folder)?);
                    let lost = metadata::apply(folder, &wanted, &own, (&now, Some(&own)), &self.rights)?;
                    self.told.lost(lost, &frame.path);
                }
                return Ok(());
            }
        }
        if self.mode.dry_run {
            return Ok(());
        }
        if self.mode.in_place {
            fs::fsync(folder)?;
        }
        let lost = metadata::apply(folder, &wanted, &xattrs, (&now, None), &self.rights)?;
        self.told.lost(lost, &frame.path);
        Ok(())
    }

    fn finish_others(&mut self, frame: &mut Frame) -> Result<(), Errno> {
        if let Some(folder) = &frame.folder {
            for name in std::mem::take(&mut frame.others) {
                frame.differs |= !self.remove_other(&frame.path.join(&name), folder.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &RelPath, folder: Option<BorrowedFd>, name: &[u8]) -> Result<Step, Errno> {
        if self.past.is_lost(path) {
            self.told.gone(path);
            return Ok(Step::Differs);
        }
        let Some(was) = self.past.look(path)? else { return Ok(Step::Done) };
        let now = match folder.map(|folder| exact::look(folder, name)) {
            None | Some(Err(Errno::NOENT)) => None,
            Some(now) => Some(now?),
        };
        if was.kind == Kind::Directory {
            return self.folder(path, (folder, name), now.as_ref());
        }
        if let (Some(folder), Some(now)) = (folder, &now)
            && self.is_same(path, (folder, name), now)?
            && self.is_linked_alike(&was, path, now)?
        {
            self.told.same();
            return Ok(Step::Done);
        }
        if self.decay.has(&was) {
            self.told.decayed(path);
            return Ok(Step::Differs);
        }
        if let Some(now) = &now
            && !self.may_replace(path, (folder, name), now)?
        {
            return Ok(Step::Differs);
        }
        self.lift(folder);
        let replaced = now.as_ref().filter(|now| now.kind != Kind::Directory);
        let bytes = was.stat.map_or(0, |stat| stat.size);
        if let Some(first) = self.is_named(&was, path) {
            if let (Some(folder), false) = (folder, self.mode.dry_run) {
                let (parent, first) = first.split().ok_or(Errno::ISDIR)?;
                let from = self.to.open_folder(&parent)?;
                self.workshop.link((from.as_fd(), first), (folder, name), replaced)?;
            }
            self.told.done(path, Done::Name, now.is_some());
            return Ok(Step::Done);
        }
        if let (Some(folder), false) = (folder, self.mode.dry_run) {
            let manner = Manner {
                rights: &self.rights,
                abilities: &self.abilities,
                pulse: self.pulse,
                durable: self.mode.in_place,
            };
            let workshop = &self.workshop;
            let copied = self.past.with(path, |was, from, confirm| {
                workshop.copy(from, (folder, name), replaced, (was.attributes.as_ref(), confirm), &manner)
            });
            self.told.lost(copied?.0, path);
        }
        self.told.done(path, Done::of(was.kind, bytes), now.is_some());
        Ok(Step::Done)
    }

    fn folder(
        &mut self,
        path: &RelPath,
        (folder, name): (Option<BorrowedFd>, &[u8]),
        now: Option<&Stat>,
    ) -> Result<Step, Errno> {
        if now.is_some_and(|now| now.kind == Kind::Directory) {
            return Ok(Step::Enter { is_new: false });
        }
        if let Some(now) = now {
            if !self.mode.force && self.way_to(path).is_some() {
                let why = format!("{} is no folder now; --force replaces it", quoted(path.as_bytes()));
                self.told.left(&self.way.0, &why);
                return Ok(Step::Differs);
            }
            if !self.may_replace(path, (folder, name), now)? {
                return Ok(Step::Differs);
            }
        }
        self.lift(folder);
        if let (Some(folder), false) = (folder, self.mode.dry_run) {
            self.workshop.folder((folder, name), now)?;
        }
        self.told.done(path, Done::Folder, now.is_some());
        Ok(Step::Enter { is_new: true })
    }

    fn failed(&mut self, path: &RelPath, error: Errno) -> Result<(), Errno> {
        match error {
            Errno::CANCELED | Errno::NOSPC | Errno::DQUOT | Errno::ROFS => Err(error),
            error => {
                self.told.failed(path, error);
                Ok(())
            }
        }
    }
}

/// The stat that something with these attributes has.
pub(super) fn stat_of(now: &Stat, attributes: &Attributes) -> Stat {
    let Attributes { mode, uid, gid, mtime, .. } = attributes;
    Stat { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, ..*now }
}
