//! Owns looking at where something of the past lies today, in the replica's tree or among what is kept; and why it cannot be
//! told. It changes nothing, but for a moment the mode of what is closed to its owner.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use crate::fs::exact;
use crate::fs::metadata::Rights;
use crate::fs::root::Root;
use crate::plan::rewind::{Disk, Source};
use crate::tree::entry::{Kind, Stat, Time};
use crate::tree::history::{Attributes, Event, Line};
use crate::tree::path::RelPath;

/// What a run that goes on has announced, it has done after so many nanoseconds.
const DONE: i128 = 600 * 1_000_000_000;

/// Why the past cannot be told.
#[derive(Debug)]
pub enum Untold {
    /// There is no journal.
    Never,
    /// Everything is told from then on, if at all.
    Before(Option<Time>),
    /// Since then, changes were made of which nothing is told.
    Gap(Time),
    /// The history has times that are still to come: after this one it is not known what was when, if all is up to it.
    Ahead(Option<Time>),
    /// A file of the journal is damaged; from then on everything is told.
    Damaged(String, Time),
    /// A file of the journal is missing; from then on everything is told.
    Missing(String, Time),
    /// It is still to come.
    Future,
    Failed(Errno),
}

impl From<Errno> for Untold {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// What something was.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Nothing of a folder that is gone.
    pub source: Option<Source>,
    pub kind: Kind,
    /// What it has now, where it lies.
    pub stat: Option<Stat>,
    /// What it had then, if that was something else.
    pub attributes: Option<Attributes>,
}

/// A folder that was opened last.
pub type Opened = Option<(RelPath, Rc<OwnedFd>)>;
/// One of the tree, and one of what is kept.
pub type Open = [Opened; 2];

pub struct Eyes<'a> {
    pub replica: &'a Root,
    pub versions: Option<&'a Root>,
    pub open: &'a mut Open,
}

impl Eyes<'_> {
    /// The stat of what lies there.
    ///
    /// # Errors
    /// As of fstatat(2).
    pub fn look(&mut self, source: &Source) -> Result<Stat, Errno> {
        let (root, path, at) = match source {
            Source::Current(path) => (self.replica, path, 0),
            Source::Version(path) => (self.versions.ok_or(Errno::NOENT)?, path, 1),
        };
        let Some((parent, name)) = path.split() else { return exact::stat(root.fd()) };
        let folder = cached(root, &mut self.open[at], &parent).map_err(|error| match error {
            // A link is no folder.
            Errno::LOOP => Errno::NOTDIR,
            error => error,
        })?;
        exact::look(folder.as_fd(), name)
    }
}

impl Eyes<'_> {
    /// Whether a removal whose version is not there is long done.
    pub fn is_gone(&mut self, line: &Line) -> bool {
        let now = Time { sec: jiff::Timestamp::now().as_second(), nsec: 0 };
        matches!(line.event, Event::Removed { .. })
            && now.since(line.at) > DONE
            && matches!(self.look(&Source::Current(line.path.clone())), Err(Errno::NOENT | Errno::NOTDIR))
    }
}

impl Disk for Eyes<'_> {
    fn has_version(&mut self, version: &RelPath) -> bool {
        self.look(&Source::Version(version.clone())).is_ok()
    }

    fn inode(&mut self, source: &Source) -> Option<(u64, Kind)> {
        self.look(source).ok().map(|stat| (stat.ino, stat.kind))
    }
}

/// Opens a folder, if it is not the one that was opened last.
///
/// # Errors
/// As of `open_folder`.
pub fn cached(root: &Root, last: &mut Opened, path: &RelPath) -> Result<Rc<OwnedFd>, Errno> {
    if let Some((_, folder)) = last.as_ref().filter(|(known, _)| known == path) {
        return Ok(folder.clone());
    }
    let folder = Rc::new(open_folder(root, path)?);
    *last = Some((path.clone(), folder.clone()));
    Ok(folder)
}

/// Opens a folder, also below one that its owner may not look into.
///
/// # Errors
/// As of openat(2).
pub fn open_folder(root: &Root, path: &RelPath) -> Result<OwnedFd, Errno> {
    match root.open_folder(path) {
        Err(Errno::ACCESS) => {
            let mut at = root.open_folder(&RelPath::root())?;
            for name in path.components() {
                at = exact::open_folder(at.as_fd(), name)?;
            }
            Ok(at)
        }
        done => done,
    }
}

/// What nothing tells of such a folder is for its owner alone.
pub fn gone_folder(attributes: Option<&Attributes>) -> Entry {
    let rights = Rights::of_this_process();
    let own = || Attributes {
        mode: 0o700,
        uid: rights.uid(),
        gid: rustix::process::getegid().as_raw(),
        ..Attributes::default()
    };
    let attributes = Some(attributes.cloned().unwrap_or_else(own));
    Entry { source: None, kind: Kind::Directory, stat: None, attributes }
}
