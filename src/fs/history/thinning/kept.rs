//! Owns what is kept while it is counted and removed: files by their paths below the folder of versions, through folders
//! that are opened name by name.
//!
//! A file with several names takes no room of its own here as long as one of them is elsewhere. Once all are kept, it
//! takes what it takes, once. So these are counted by their inodes.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::fs::root::open_child;
use crate::tree::path::RelPath;

/// So many are looked at once more.
const FRESH: usize = 4096;

/// A file that has, or had, more than one name.
#[derive(Debug)]
struct Linked {
    /// Those that are kept.
    names: u32,
    /// All of them, when it was looked at last.
    all: u32,
    bytes: u64,
}

impl Linked {
    fn is_kept_alone(&self) -> bool {
        self.names >= self.all
    }
}

/// What went with a name that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// The room that there is more now, in bytes.
    pub freed: u64,
    /// So much of it was counted when the name was.
    pub counted: u64,
}

/// What a name that is kept takes, in bytes, and whether it is one of several.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub bytes: u64,
    pub is_linked: bool,
}

/// The folder of versions, and the last folder in it that was opened: what goes together lies together.
#[derive(Debug)]
pub struct Kept {
    versions: OwnedFd,
    open: Option<(RelPath, OwnedFd)>,
    /// Something was removed from it.
    is_thinner: bool,
    /// By the number of the inode.
    linked: HashMap<u64, Linked>,
    /// Those that were counted last: of what is just being kept, the other name is about to go.
    fresh: Vec<(u64, RelPath)>,
}

impl Kept {
    pub fn new(versions: OwnedFd) -> Self {
        Self { versions, open: None, is_thinner: false, linked: HashMap::new(), fresh: Vec::new() }
    }

    pub fn folder(&self) -> BorrowedFd<'_> {
        self.versions.as_fd()
    }

    /// Counts a version; nothing where it is not there.
    pub fn count(&mut self, kept: &RelPath) -> Option<Counted> {
        let stat = self.look(kept)?;
        let (ino, all, bytes) = (stat.st_ino, links(&stat), room(&stat));
        if all < 2 {
            self.linked.remove(&ino);
            return Some(Counted { bytes, is_linked: false });
        }
        let linked = self.linked.entry(ino).or_insert(Linked { names: 0, all, bytes });
        (linked.names, linked.all, linked.bytes) = (linked.names + 1, all, bytes);
        if self.fresh.len() < FRESH {
            self.fresh.push((ino, kept.clone()));
        }
        Some(Counted { bytes: 0, is_linked: true })
    }

    /// Looks once more at what was counted last, where it had names elsewhere.
    pub fn look_again(&mut self) {
        for (ino, kept) in std::mem::take(&mut self.fresh) {
            let stat = self.look(&kept).filter(|stat| stat.st_ino == ino);
            if let (Some(stat), Some(linked)) = (stat, self.linked.get_mut(&ino)) {
                linked.all = links(&stat);
            }
        }
    }

    /// The room that is taken by those of several names which are all kept, in bytes.
    pub fn linked(&self) -> u64 {
        self.linked.values().filter(|linked| linked.is_kept_alone()).map(|linked| linked.bytes).sum()
    }

    /// Nothing is counted any more.
    pub fn forget(&mut self) {
        self.linked.clear();
        self.fresh.clear();
    }

    /// The room that there would be, in bytes, for what was counted, with all its names; nothing where it is not there.
    pub fn measure(&mut self, kept: &RelPath) -> Option<u64> {
        let stat = self.look(kept)?;
        Some(match self.linked.get(&stat.st_ino) {
            Some(linked) if linked.is_kept_alone() => linked.bytes / u64::from(linked.names.max(1)),
            _ if links(&stat) > 1 => 0,
            _ => room(&stat),
        })
    }

    /// Removes a version; nothing where it is not there.
    pub fn remove(&mut self, kept: &RelPath) -> Option<Gone> {
        let stat = self.look(kept)?;
        let (folder, name) = kept.split()?;
        let open = self.open(&folder).ok()?;
        fs::unlinkat(open, name, AtFlags::empty()).ok()?;
        self.is_thinner = true;
        let freed = if links(&stat) > 1 { 0 } else { room(&stat) };
        let Some(linked) = self.linked.get_mut(&stat.st_ino) else { return Some(Gone { freed, counted: freed }) };
        linked.names = linked.names.saturating_sub(1);
        linked.all = links(&stat).saturating_sub(1);
        if linked.names == 0 {
            self.linked.remove(&stat.st_ino);
        }
        Some(Gone { freed, counted: 0 })
    }

    fn look(&mut self, kept: &RelPath) -> Option<fs::Stat> {
        let (folder, name) = kept.split()?;
        let open = self.open(&folder).ok()?;
        fs::statat(open, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT).ok()
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

/// What a file takes on disk, in bytes.
fn room(stat: &fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// How many names a file has.
fn links(stat: &fs::Stat) -> u32 {
    u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)
}
