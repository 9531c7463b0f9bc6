//! Owns the removal of one entry where others work too: it is moved to where nobody else comes, looked at there, and removed
//! only if it is what was judged. What is not goes back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::unlink;
use crate::fs::root::Root;
use crate::fs::stage::{Stage, Target};
use crate::tree::entry::{Kind, Seen, Stamp};
use crate::tree::path::RelPath;

/// What has become of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Yes,
    Absent,
    /// It is not what was judged, and stays.
    Changed,
}

/// Gives what is to go another name where it is kept, if it is.
pub type Keep<'a> = &'a dyn Fn(BorrowedFd, &[u8]) -> Result<(), Errno>;

/// A folder from which entries are removed that others may be writing to in this moment.
pub struct Judged<'a> {
    root: &'a Root,
    stage: &'a Stage,
    path: RelPath,
    /// Where they are looked at once more. There is none where nothing can be made, as on a full disk.
    place: Option<Arc<OwnedFd>>,
}

impl<'a> Judged<'a> {
    pub fn new(root: &'a Root, stage: &'a Stage, target: &Target) -> Self {
        Self { root, stage, path: target.path.clone(), place: stage.place(root, target).ok() }
    }

    /// Where the folder is.
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// Removes an entry that is no folder if it holds what it did when it had this stamp. Where it is kept it is so before:
    /// what lies where it is looked at goes with that, if this is interrupted.
    ///
    /// RACE: a process that has opened the file for writing before, and writes after the last look, loses that, as it does
    /// whoever removes the file. After a crash between the move and the return of what has just come, that is at the top of
    /// its filesystem, as `Stage` puts it there.
    ///
    /// # Errors
    /// Those of `keep`, and as of renameat2(2) and unlinkat(2).
    pub fn remove(&self, folder: BorrowedFd, name: &[u8], judged: &Stamp, keep: Keep) -> Result<Removed, Errno> {
        let is_judged = |seen: Seen| {
            let now = seen.stat().filter(|now| now.kind != Kind::Directory);
            now.is_some_and(|now| now.stamp().same_contents_if_explained(judged))
        };
        match self.root.look(folder, name)? {
            Seen::Absent => return Ok(Removed::Absent),
            seen if !is_judged(seen) => return Ok(Removed::Changed),
            _ => {}
        }
        match keep(folder, name) {
            Err(Errno::NOENT) => return Ok(Removed::Absent),
            done => done?,
        }
        let parked = self.place.as_ref().and_then(|place| match self.stage.park(place, folder, name, judged) {
            Err(Errno::NOENT) => Some(Err(Errno::NOENT)),
            // It has just been looked at, which has to do.
            parked => parked.ok().map(Ok),
        });
        let parked = match parked {
            None => return unlink(folder, name, AtFlags::empty()).map(|()| Removed::Yes),
            Some(Err(_)) => return Ok(Removed::Absent),
            Some(Ok(parked)) => parked,
        };
        // In a folder that others have moved away by now, even out of the tree, it is theirs.
        if is_judged(self.root.look(parked.folder(), parked.name())?) && self.root.is_at(folder, &self.path) {
            rustix::fs::unlinkat(parked.folder().as_fd(), parked.name(), AtFlags::empty())?;
            return Ok(Removed::Yes);
        }
        parked.give_back(self.root, folder, name).map(|()| Removed::Changed)
    }
}
