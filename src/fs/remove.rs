//! Owns removing: one entry, or a folder with all that is below it, and counting beforehand what that would be. What was
//! counted is what goes: an entry that came later is left, and its folder with it. It decides nothing: who calls it has
//! asked the guard.

mod judged;
mod tree;

use std::os::fd::BorrowedFd;

use rustix::fs::{self, Access, AtFlags, Mode};
use rustix::io::Errno;

use crate::tree::entry::Kind;
use crate::tree::path::RelPath;
pub use judged::{Judged, Removed};
pub use tree::{End, Tree};

/// What removal asks and tells of the entries below a folder, from each of its threads.
pub trait Below: Sync {
    /// What has to be known of a folder to remove what is in it.
    type Folder;

    /// A folder was counted, with all that is in it.
    fn counted(&self, _: &RelPath, _: BorrowedFd) {}
    /// A folder is about to be emptied. `None` where it is not one that was judged, and stays.
    fn enter(&self, path: &RelPath, folder: BorrowedFd) -> Option<Self::Folder>;
    /// These are about to be removed from it.
    ///
    /// # Errors
    /// What keeps them from it.
    fn going(&self, _: &RelPath, _: BorrowedFd, _: &[(&[u8], Kind)]) -> Result<(), Errno> {
        Ok(())
    }
    /// Removes an entry that is no folder; returns false if it is not what was judged, and stays.
    ///
    /// # Errors
    /// As of unlinkat(2).
    fn take(&self, known: &Self::Folder, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno>;
    /// A folder in which nothing is left is about to go from where it is; `is_below` the uppermost one.
    fn leave(&self, _: &RelPath, _: BorrowedFd, _is_below: bool) {}
    /// Whether an entry goes. Asked while counting.
    fn goes(&self, path: &RelPath, is_folder: bool) -> bool;
    /// These entries of a folder are gone.
    fn removed(&self, folder: &RelPath, entries: &[(&[u8], Kind)]);
    /// Whether to leave the rest where it is.
    fn is_stopped(&self) -> bool;
    /// Whether others work there too: a folder is then looked at once more before it goes.
    fn is_shared(&self) -> bool {
        false
    }
}

/// Everything goes, and nobody wants to know.
struct Everything;

impl Below for Everything {
    type Folder = ();

    fn enter(&self, _: &RelPath, _: BorrowedFd) -> Option<()> {
        Some(())
    }

    fn take(&self, (): &(), folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        unlink(folder, name, AtFlags::empty()).map(|()| true)
    }

    fn goes(&self, _: &RelPath, _: bool) -> bool {
        true
    }

    fn removed(&self, _: &RelPath, _: &[(&[u8], Kind)]) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

/// Removes everything at `name`, whatever it is; nothing there is no error.
///
/// # Errors
/// The first failure.
pub fn tree(parent: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let path = RelPath::new(name).ok_or(Errno::INVAL)?;
            match Tree::survey(parent, &path, &Everything).and_then(|tree| tree.remove(parent, &Everything, 1)) {
                Ok(End::Gone) | Err(Errno::NOENT) => Ok(()),
                Ok(_) => Err(Errno::NOTEMPTY),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Removes one entry, lifting for a moment a mode of its folder that keeps the folder's owner from doing so.
///
/// # Errors
/// As of unlinkat(2).
pub fn unlink(folder: BorrowedFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    match fs::unlinkat(folder, name, flags) {
        Err(Errno::ACCESS) => {
            make_writable(folder)?;
            fs::unlinkat(folder, name, flags)
        }
        done => done,
    }
}

/// Gives a folder's owner the right to change what it lists. The caller sets the mode again later.
///
/// # Errors
/// EACCES where the folder is not the process's own.
pub fn make_writable(folder: BorrowedFd) -> Result<(), Errno> {
    let mode = fs::fstat(folder)?.st_mode & 0o7777;
    if mode & 0o700 == 0o700 {
        return Err(Errno::ACCESS);
    }
    fs::fchmod(folder, Mode::from_raw_mode(mode | 0o700)).map_err(|_| Errno::ACCESS)
}

/// The same, where it is needed at all. Where it cannot be done, what is tried next says why.
pub fn ensure_writable(folder: BorrowedFd) {
    if !is_writable(folder) {
        let _ = make_writable(folder);
    }
}

/// Whether this process may work in a folder.
pub fn is_writable(folder: BorrowedFd) -> bool {
    fs::accessat(folder, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}
