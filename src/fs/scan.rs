//! Owns listing one folder: its names by getdents, a stat for each, sorted. It never descends.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::root::Root;
use crate::tree::entry::Seen;
use crate::tree::listing::Listing;
use crate::tree::path::RelPath;

const BUFFER: usize = 64 << 10;

/// Lists a folder that was opened for this, once.
///
/// An entry that vanished meanwhile stands as absent, one whose stat failed as unknown.
///
/// # Errors
/// When the folder could not be listed to its end; then nothing is known of any name in it.
pub fn list(root: &Root, folder: BorrowedFd) -> Result<Listing, Errno> {
    let mut listing = Listing::default();
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !listing.push(name, Seen::Absent) {
            return Err(Errno::OVERFLOW);
        }
    }
    listing.sort();
    listing.fill(|name| root.look(folder, name).unwrap_or(Seen::Unknown));
    Ok(listing)
}

/// Whether a folder holds nothing at all.
///
/// # Errors
/// As of `list`.
pub fn is_empty(root: &Root) -> Result<bool, Errno> {
    let folder = root.open_folder(&RelPath::root())?;
    Ok(list(root, folder.as_fd())?.is_empty())
}
