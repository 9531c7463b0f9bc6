//! Owns listing one folder: its names by getdents, a stat for each, sorted. It never descends.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use super::root::{Root, open_file};
use crate::tree::entry::{Kind, Seen};
use crate::tree::listing::Listing;
use crate::tree::path::RelPath;

const BUFFER: usize = 64 << 10;

thread_local! {
    /// A block of this size is dear to have and to give back: the allocator puts all that is free together each time.
    static ENTRIES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lists a folder that was opened for this, once.
///
/// An entry that vanished meanwhile stands as absent, one whose stat failed as unknown: also one that the folder still
/// lists and that is not there when asked for, as on a damaged filesystem.
///
/// # Errors
/// When the folder could not be listed to its end; then nothing is known of any name in it.
pub fn list(root: &Root, folder: BorrowedFd) -> Result<Listing, Errno> {
    list_with(root, folder, &mut || {})
}

/// The same, with a sign of life for each step: a folder may hold millions of names.
///
/// # Errors
/// As of `list`.
pub fn list_with(root: &Root, folder: BorrowedFd, moved: &mut impl FnMut()) -> Result<Listing, Errno> {
    let mut listing = names(folder, moved)?;
    look_at(root, folder, &mut listing, moved)?;
    Ok(listing)
}

/// The names alone, of which nothing is known yet.
///
/// # Errors
/// As of `list`.
pub fn names(folder: BorrowedFd, moved: &mut impl FnMut()) -> Result<Listing, Errno> {
    let mut listing = Listing::default();
    let mut has_room = true;
    each_entry(folder, |name, kind| {
        moved();
        has_room &= listing.push(name, kind == FileType::RegularFile);
    })?;
    if !has_room {
        return Err(Errno::OVERFLOW);
    }
    listing.sort();
    Ok(listing)
}

/// Looks at all that was listed. What is absent then, and stands as unknown, is as `list` says.
///
/// # Errors
/// As of `list`.
pub fn look_at(root: &Root, folder: BorrowedFd, listing: &mut Listing, moved: &mut impl FnMut()) -> Result<(), Errno> {
    fill(root, folder, listing, moved, |name, _| root.look(folder, name).unwrap_or(Seen::Unknown))
}

/// Files that were opened when they were looked at, in the order of their names.
#[derive(Debug, Default)]
pub struct Opened(VecDeque<(Box<[u8]>, OwnedFd)>);

impl Opened {
    /// The file of this name, if it is open. To be asked in the order of the names: what comes before is closed.
    pub fn take(&mut self, name: &[u8]) -> Option<OwnedFd> {
        while self.0.front().is_some_and(|(first, _)| **first < *name) {
            self.0.pop_front();
        }
        let is_next = self.0.front().is_some_and(|(first, _)| **first == *name);
        if is_next { self.0.pop_front().map(|(_, file)| file) } else { None }
    }
}

/// The same, where most files are going to be read: what the folder lists as a file, and `wants` wants, is opened rather
/// than looked at, which saves a look by its name. As many as `most` are open then.
///
/// # Errors
/// As of `list`.
pub fn look_opening(
    root: &Root,
    folder: BorrowedFd,
    listing: &mut Listing,
    moved: &mut impl FnMut(),
    most: usize,
    wants: impl Fn(&[u8]) -> bool,
) -> Result<Opened, Errno> {
    let mut opened = VecDeque::new();
    fill(root, folder, listing, moved, |name, is_file| {
        if is_file && opened.len() < most && wants(name) {
            let file = open_file(folder, name).and_then(|file| Ok((root.stat(file.as_fd())?, file)));
            if let Ok((stat, file)) = file {
                opened.push_back((name.into(), file));
                return Seen::Present(stat);
            }
        }
        root.look(folder, name).unwrap_or(Seen::Unknown)
    })?;
    Ok(Opened(opened))
}

fn fill(
    root: &Root,
    folder: BorrowedFd,
    listing: &mut Listing,
    moved: &mut impl FnMut(),
    mut look: impl FnMut(&[u8], bool) -> Seen,
) -> Result<(), Errno> {
    let mut vanished = BTreeSet::new();
    listing.fill(|name, is_file| {
        moved();
        let seen = look(name, is_file);
        if seen == Seen::Absent {
            vanished.insert(Box::from(name));
        }
        seen
    });
    if !vanished.is_empty() {
        let listed = listed_still(folder, &vanished)?;
        listing.fill_absent(|name| match root.look(folder, name) {
            Ok(Seen::Absent) if !listed.contains(name) => Seen::Absent,
            Ok(seen @ Seen::Present(_)) => seen,
            _ => Seen::Unknown,
        });
    }
    Ok(())
}

/// Which of these names a folder lists that was listed before: one that is not there when it is asked for is gone only
/// if it is not among them.
///
/// # Errors
/// As of `list`.
pub fn listed_still(folder: BorrowedFd, names: &BTreeSet<Box<[u8]>>) -> Result<BTreeSet<Box<[u8]>>, Errno> {
    let mut listed = BTreeSet::new();
    seek(folder, SeekFrom::Start(0))?;
    each_entry(folder, |name, _| listed.extend(names.get(name).cloned()))?;
    Ok(listed)
}

/// Each name of a folder as its list has it, without `.` and `..`, with what the list says of its type.
///
/// # Errors
/// As of getdents64(2).
pub(in crate::fs) fn each_entry(folder: BorrowedFd, mut take: impl FnMut(&[u8], FileType)) -> Result<(), Errno> {
    // Taken out while it is in use: `take` may list another folder.
    let mut buffer = ENTRIES.take();
    buffer.reserve_exact(BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let done = loop {
        match entries.next() {
            Some(Ok(entry)) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    take(name, entry.file_type());
                }
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    ENTRIES.set(buffer);
    done
}

/// The names of the folders in a folder, in no order. What is on the way of being made or removed may be missing.
///
/// # Errors
/// When the folder could not be listed to its end.
pub fn folders(root: &Root, folder: BorrowedFd) -> Result<Vec<Box<[u8]>>, Errno> {
    let (mut names, mut unsure) = (Vec::new(), Vec::<Box<[u8]>>::new());
    each_entry(folder, |name, kind| match kind {
        FileType::Directory => names.push(name.into()),
        // Not every filesystem says it in its lists.
        FileType::Unknown => unsure.push(name.into()),
        _ => {}
    })?;
    unsure.retain(|name| {
        root.look(folder, name).is_ok_and(|seen| seen.stat().is_some_and(|stat| stat.kind == Kind::Directory))
    });
    names.append(&mut unsure);
    Ok(names)
}

/// Whether a folder holds nothing at all.
///
/// # Errors
/// As of `list`.
pub fn is_empty(root: &Root) -> Result<bool, Errno> {
    let folder = root.open_folder(&RelPath::root())?;
    Ok(list(root, folder.as_fd())?.is_empty())
}
