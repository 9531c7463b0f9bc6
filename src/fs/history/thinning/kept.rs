//! Owns what is kept while it is counted and removed: files by their paths below the folder of versions, through folders
//! that are opened name by name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::fs::root::open_child;
use crate::tree::path::RelPath;

/// The folder of versions, and the last folder in it that was opened: what goes together lies together.
#[derive(Debug)]
pub struct Kept {
    versions: OwnedFd,
    open: Option<(RelPath, OwnedFd)>,
    /// Something was removed from it.
    is_thinner: bool,
}

impl Kept {
    pub fn new(versions: OwnedFd) -> Self {
        Self { versions, open: None, is_thinner: false }
    }

    pub fn folder(&self) -> BorrowedFd<'_> {
        self.versions.as_fd()
    }

    /// The room that a version takes on disk; nothing where it is not there.
    pub fn measure(&mut self, kept: &RelPath) -> Option<u64> {
        let (folder, name) = kept.split()?;
        let open = self.open(&folder).ok()?;
        let stat = fs::statat(open, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
        Some(room(&stat))
    }

    /// Removes a version, and returns the room that it took; nothing where it is not there.
    pub fn remove(&mut self, kept: &RelPath) -> Option<u64> {
        let (folder, name) = kept.split()?;
        let open = self.open(&folder).ok()?;
        let stat = fs::statat(open, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()?;
        fs::unlinkat(open, name, AtFlags::empty()).ok()?;
        self.is_thinner = true;
        Some(room(&stat))
    }

    fn open(&mut self, folder: &RelPath) -> Result<BorrowedFd<'_>, Errno> {
        if self.open.as_ref().is_none_or(|(open, _)| open != folder) {
            self.remove_empty();
            let mut at: Option<OwnedFd> = None;
            for name in folder.components() {
                at = Some(open_child(at.as_ref().map_or(self.versions.as_fd(), |at| at.as_fd()), name)?);
            }
            self.open = match at {
                Some(at) => Some((folder.clone(), at)),
                None => return Ok(self.versions.as_fd()),
            };
        }
        Ok(self.open.as_ref().map_or(self.versions.as_fd(), |(_, open)| open.as_fd()))
    }

    /// Closes the folder that is open, and removes it if it is empty, and those above it.
    pub fn remove_empty(&mut self) {
        let Some((folder, _)) = self.open.take().filter(|_| std::mem::take(&mut self.is_thinner)) else { return };
        for folder in folder.and_above() {
            let Some((parent, name)) = folder.split() else { return };
            let Ok(above) = open_all(self.versions.as_fd(), &parent) else { return };
            // Most often it is not.
            if fs::unlinkat(above.as_ref().map_or(self.versions.as_fd(), |a| a.as_fd()), name, AtFlags::REMOVEDIR)
                .is_err()
            {
                return;
            }
        }
    }
}

/// Opens a folder below another one, name by name; nothing for that one itself.
fn open_all(top: BorrowedFd, folder: &RelPath) -> Result<Option<OwnedFd>, Errno> {
    let mut at: Option<OwnedFd> = None;
    for name in folder.components() {
        at = Some(open_child(at.as_ref().map_or(top, |at| at.as_fd()), name)?);
    }
    Ok(at)
}

/// What an entry takes on disk. One that has other names takes nothing: what it has stays without it.
pub fn room(stat: &fs::Stat) -> u64 {
    if stat.st_nlink > 1 { 0 } else { u64::try_from(stat.st_blocks).unwrap_or(0) * 512 }
}
