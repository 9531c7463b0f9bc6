//! Owns giving an entry a name that nothing has yet.

use std::os::fd::BorrowedFd;

use rustix::fs::{RenameFlags, renameat, renameat_with};
use rustix::io::Errno;

use super::root::Root;
use crate::tree::entry::Seen;

/// Renames an entry of `root`, if nothing has the new name. Returns whether it was done.
///
/// RACE: where the kernel or the filesystem cannot promise that, what comes there after the look is replaced.
///
/// # Errors
/// As of renameat2(2).
pub fn to_free_name(
    root: &Root,
    (from_folder, from): (BorrowedFd, &[u8]),
    (folder, name): (BorrowedFd, &[u8]),
) -> Result<bool, Errno> {
    match renameat_with(from_folder, from, folder, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => match root.look(folder, name)? {
            Seen::Absent => renameat(from_folder, from, folder, name).map(|()| true),
            _ => Ok(false),
        },
        done => done.map(|()| true),
    }
}
