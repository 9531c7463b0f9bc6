//! Owns what a path was at a time, found on the replica's disk: which file of today's tree, or of what is kept, it was, and
//! what a folder held. A service may go on working in the replica meanwhile: what it announces is read again before anything
//! counts that was read from its tree. It writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs;
use rustix::io::Errno;

use super::around::Around;
use super::eyes::{Entry, Eyes, Open, Untold, cached, gone_folder, open_folder};
use super::lost::Lost;
use crate::fs::exact::{self, Confirm};
use crate::fs::history::cursor::Cursor;
use crate::fs::history::journal::segment;
use crate::fs::history::reading::Text;
use crate::fs::history::{backward, reading};
use crate::fs::metadata;
use crate::fs::root::Root;
use crate::fs::scan;
use crate::plan::rewind::{Regions, Rewind, Source, Was};
use crate::tree::entry::{Stat, Time};
use crate::tree::exclude::RESERVED;
use crate::tree::history::{Attributes, Event, Line, VERSIONS};
use crate::tree::path::RelPath;

/// What changes all the time is given up after so many tries.
const TRIES: u32 = 200;

/// The names in a folder, and its attributes.
pub type Listed = (Vec<Box<[u8]>>, Attributes);
/// Where something is, and what it is.
pub type Now = (Rc<OwnedFd>, Vec<u8>, Stat);

#[derive(Debug)]
pub struct Past {
    replica: Root,
    versions: Option<Root>,
    journal: OwnedFd,
    path: RelPath,
    at: Time,
    rewind: Rewind,
    lost: Lost,
    /// Of inodes with several names.
    linked: HashMap<(u64, u64), (Time, Attributes)>,
    /// The folders that were opened last: of the tree, and of what is kept.
    open: Open,
    /// Nobody else works in the replica.
    is_still: bool,
    tail: Option<(String, Cursor)>,
    listed: Option<(i64, u64)>,
    /// What was announced since the journal was read: what went or came, and what got other attributes.
    moved: BTreeSet<RelPath>,
    touched: BTreeSet<RelPath>,
    pub around: Around,
}

impl Past {
    /// Reads the journal back to a time. `is_still`: the caller has the replica's lock.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn read(replica: Root, path: RelPath, at: Time, is_still: bool) -> Result<Self, Untold> {
        let journal = match reading::folder(&replica) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Untold::Never),
            done => done?,
        };
        let around = Around::of(journal.as_fd(), &path, at)?;
        let kept = RelPath::new(&[RESERVED, b"/", VERSIONS].concat()).unwrap_or_default();
        let versions = replica.below(&kept).ok();
        let mut past = Self {
            replica,
            versions,
            journal,
            path,
            at,
            rewind: Rewind::new(Regions::all()),
            lost: Lost::default(),
            linked: HashMap::new(),
            open: [None, None],
            is_still,
            tail: None,
            listed: None,
            moved: BTreeSet::new(),
            touched: BTreeSet::new(),
            around,
        };
        past.load(false)?;
        Ok(past)
    }

    /// Whether something was at this path of which nothing is kept any more.
    pub fn is_lost(&self, path: &RelPath) -> bool {
        self.lost.has(path)
    }

    pub fn replica(&self) -> &Root {
        &self.replica
    }

    /// Whether the replica has anything at this path now.
    ///
    /// # Errors
    /// As of fstatat(2).
    pub fn has_path(&mut self, path: &RelPath) -> Result<bool, Errno> {
        self.open = [None, None];
        match self.look_at(&Source::Current(path.clone())) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes back from what is there now. `whole`: also by what the journal tells of other paths.
    fn load(&mut self, whole: bool) -> Result<(), Errno> {
        (self.moved, self.touched, self.open, self.tail, self.listed) = Default::default();
        if let Ok(stat) = fs::fstat(&self.journal) {
            self.listed = Some((stat.st_mtime, stat.st_mtime_nsec));
        }
        let names = reading::segments(self.journal.as_fd())?;
        let first = segment(self.at);
        let names: Vec<&String> = names.iter().filter(|name| **name >= first).collect();
        let mut regions = if whole { Regions::all() } else { Regions::of(self.path.clone()) };
        let mut last = self.at;
        for name in &names {
            let mut cursor = Cursor::open(self.journal.as_fd(), name)?;
            while let Some(line) = cursor.line()? {
                if line.at > self.at {
                    regions.follow(&line);
                    last = last.max(line.at);
                }
            }
            self.tail = Some(((*name).clone(), cursor));
        }
        let (mut rewind, mut lost) = (Rewind::new(regions), Lost::default());
        let (replica, versions) = (&self.replica, self.versions.as_ref());
        let mut eyes = Eyes { replica, versions, open: &mut self.open };
        for name in names.iter().rev() {
            for text in backward::texts(self.journal.as_fd(), name)? {
                if let Text::Line(line) = text?
                    && line.at > self.at
                    && line.at <= last
                {
                    let (missing, awaited) = (rewind.missing(), rewind.awaited().len());
                    rewind.undo(&line, &mut eyes);
                    let is_lost =
                        rewind.missing() > missing || (rewind.awaited().len() > awaited && eyes.is_gone(&line));
                    lost.undo(&line, is_lost, &mut eyes);
                }
            }
        }
        self.linked.clear();
        for (source, (at, attributes)) in rewind.all_attributes() {
            let Ok(stat) = eyes.look(source) else { continue };
            if stat.is_linked() {
                let first = self.linked.entry((stat.dev, stat.ino)).or_insert_with(|| (*at, attributes.clone()));
                if *at < first.0 {
                    *first = (*at, attributes.clone());
                }
            }
        }
        (self.rewind, self.lost) = (rewind, lost);
        Ok(())
    }

    fn again(&mut self, tries: &mut u32) -> Result<(), Errno> {
        *tries += 1;
        if *tries > TRIES {
            return Err(Errno::AGAIN);
        }
        if *tries > 5 {
            // What is announced is on its way.
            std::thread::sleep(Duration::from_millis(20));
        }
        self.load(self.rewind.is_whole())
    }

    /// Reads what was announced since.
    fn refresh(&mut self) -> Result<(), Errno> {
        if self.is_still {
            return Ok(());
        }
        loop {
            let mut lines = Vec::new();
            if let Some((_, tail)) = &mut self.tail {
                while let Some(line) = tail.line()? {
                    lines.push(line);
                }
            }
            lines.iter().for_each(|line| self.note(line));
            let stat = fs::fstat(&self.journal)?;
            let listed = Some((stat.st_mtime, stat.st_mtime_nsec));
            if listed == self.listed {
                return Ok(());
            }
            let own = self.tail.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
            match reading::segments(self.journal.as_fd())?
                .into_iter()
                .find(|name| *name > own && *name >= segment(self.at))
            {
                Some(next) => {
                    let cursor = Cursor::open(self.journal.as_fd(), &next)?;
                    self.tail = Some((next, cursor));
                }
                None => self.listed = listed,
            }
        }
    }

    fn note(&mut self, line: &Line) {
        match &line.event {
            Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => {
                self.moved.extend([line.path.clone(), other.clone()]);
            }
            Event::Metadata { .. } => drop(self.touched.insert(line.path.clone())),
            Event::Created { .. } | Event::Updated { .. } | Event::Removed { .. } => {
                self.moved.insert(line.path.clone());
            }
            _ => {}
        }
    }

    /// Whether something has been announced by now of what lies there, or directly in it, since the journal was read.
    fn is_stale(&mut self, source: &Source) -> Result<bool, Errno> {
        if self.is_still {
            return Ok(false);
        }
        self.refresh()?;
        let awaited = self.rewind.awaited().to_vec();
        let (replica, versions) = (&self.replica, self.versions.as_ref());
        let mut eyes = Eyes { replica, versions, open: &mut [None, None] };
        if awaited.iter().any(|source| eyes.look(source).is_ok()) {
            return Ok(true);
        }
        let Source::Current(path) = source else { return Ok(false) };
        if self.moved.is_empty() && self.touched.is_empty() {
            return Ok(false);
        }
        let below = self.moved.range(path.clone()..).take_while(|moved| moved.is_within(path));
        let is_within = below.into_iter().any(|moved| moved.split().is_some_and(|(parent, _)| parent == *path));
        Ok(is_within || self.touched.contains(path) || path.and_above().any(|path| self.moved.contains(&path)))
    }

    fn look_at(&mut self, source: &Source) -> Result<Stat, Errno> {
        let (replica, versions) = (&self.replica, self.versions.as_ref());
        Eyes { replica, versions, open: &mut self.open }.look(source)
    }

    /// The open folder of an entry, and its name there.
    fn place(&mut self, source: &Source) -> Result<(Rc<OwnedFd>, Vec<u8>), Errno> {
        let (root, path, at) = match source {
            Source::Current(path) => (&self.replica, path, 0),
            Source::Version(path) => (self.versions.as_ref().ok_or(Errno::NOENT)?, path, 1),
        };
        let (parent, name) = path.split().ok_or(Errno::ISDIR)?;
        Ok((cached(root, &mut self.open[at], &parent)?, name.to_vec()))
    }

    /// What was this path? Nothing if nothing was there.
    ///
    /// # Errors
    /// As of fstatat(2) and of reading the journal; EAGAIN where everything changes all the time.
    pub fn look(&mut self, path: &RelPath) -> Result<Option<Entry>, Errno> {
        let mut tries = 0;
        loop {
            let source = match self.rewind.was(path) {
                Was::Absent => return Ok(None),
                Was::Folder(attributes) => return Ok(Some(gone_folder(attributes))),
                Was::At(source) => source,
            };
            match self.look_at(&source) {
                Ok(stat) if stat.is_linked() && !self.rewind.is_whole() => self.load(true)?,
                Ok(stat) => {
                    // It may have got its second name since: then it is told under its own.
                    let linked = self.linked.get(&(stat.dev, stat.ino)).filter(|_| stat.is_linked());
                    let known = linked.or_else(|| self.rewind.attributes(&source));
                    let attributes = known.map(|(_, attributes)| attributes.clone());
                    return Ok(Some(Entry { source: Some(source), kind: stat.kind, stat: Some(stat), attributes }));
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let is_lost = matches!(source, Source::Version(_)) || self.is_stale(&source)?;
                    // What was announced before the journal was read may have been done since.
                    if (is_lost && tries < TRIES) || (!self.is_still && tries < 2) {
                        self.again(&mut tries)?;
                    } else if self.rewind.names(path).any(|(_, is_there)| is_there) {
                        return Ok(Some(gone_folder(None)));
                    } else {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The names in what was a folder, in no order, and the attributes that it had.
    ///
    /// # Errors
    /// As of `look`, and as of getdents(2).
    pub fn list(&mut self, path: &RelPath) -> Result<Listed, Errno> {
        let mut tries = 0;
        loop {
            let Some(entry) = self.look(path)? else { return Err(Errno::NOENT) };
            let mut names: BTreeMap<Box<[u8]>, bool> = BTreeMap::new();
            let mut attributes = entry.attributes.unwrap_or_default();
            if let Some(source) = entry.source {
                let had = self.rewind.attributes(&source).map(|(_, attributes)| attributes.clone());
                let read = self.list_now(&source, &mut names);
                let is_gone = matches!(read, Err(Errno::NOENT | Errno::NOTDIR));
                if self.is_stale(&source)? || (is_gone && !self.is_still) {
                    self.again(&mut tries)?;
                    continue;
                }
                let now = read?;
                attributes = had.unwrap_or(now);
            }
            names.extend(self.rewind.names(path).map(|(name, is_there)| (name.into(), is_there)));
            names.extend(self.lost.names(path).map(|name| (name.into(), true)));
            let there = names.into_iter().filter(|(_, is_there)| *is_there);
            return Ok((there.map(|(name, _)| name).collect(), attributes));
        }
    }

    fn list_now(&mut self, source: &Source, names: &mut BTreeMap<Box<[u8]>, bool>) -> Result<Attributes, Errno> {
        let Source::Current(path) = source else { return Err(Errno::NOTDIR) };
        let folder = open_folder(&self.replica, path)?;
        let listing = scan::names(folder.as_fd(), &mut || {})?;
        let own = |name: &[u8]| path.is_root() && name == RESERVED;
        names.extend(listing.iter().filter(|(name, _)| !own(name)).map(|(name, _)| (name.into(), true)));
        Ok(Attributes::of(&exact::stat(folder.as_fd())?, metadata::xattrs(folder.as_fd())?))
    }

    /// Has something that was no folder put somewhere: `put` is given where it lies, what it had then if that was something
    /// else, and what is to be asked before it counts.
    ///
    /// # Errors
    /// Those of `put` and of `look`; ENOENT where nothing was there.
    pub fn with<T>(
        &mut self,
        path: &RelPath,
        mut put: impl FnMut(&Entry, (BorrowedFd, &[u8]), Confirm) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut tries = 0;
        loop {
            let entry = self.look(path)?.ok_or(Errno::NOENT)?;
            let source = entry.source.clone().ok_or(Errno::ISDIR)?;
            let done = self.place(&source).and_then(|(folder, name)| {
                let mut confirm = || if self.is_stale(&source)? { Err(Errno::AGAIN) } else { Ok(()) };
                put(&entry, (folder.as_fd(), &name), &mut confirm)
            });
            match done {
                Err(Errno::AGAIN) => self.again(&mut tries)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::STALE) if !self.is_still && tries < TRIES => {
                    self.again(&mut tries)?;
                }
                done => return done,
            }
        }
    }

    /// What the replica has at this path now: its folder, its name there, and what it is.
    ///
    /// # Errors
    /// As of fstatat(2).
    pub fn now(&mut self, path: &RelPath) -> Result<Option<Now>, Errno> {
        self.open = [None, None];
        let look = |(folder, name): (Rc<OwnedFd>, Vec<u8>)| {
            let stat = exact::look(folder.as_fd(), &name)?;
            Ok(Some((folder, name, stat)))
        };
        match self.place(&Source::Current(path.clone())).and_then(look) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            done => done,
        }
    }
}
