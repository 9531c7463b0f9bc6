//! Owns removing: one entry, or a folder with all that is below it, and counting beforehand what that would be.
//! It decides nothing: who calls it has asked the guard.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Access, AtFlags, FileType, Mode, RawDir};
use rustix::io::Errno;

use super::root::open_child_unmounted;
use crate::tree::entry::Kind;

/// What lies below a folder, as removal sees it: called for each entry with the names that lead to it; says whether it goes.
pub type Goes<'a> = dyn FnMut(&[Box<[u8]>], bool) -> bool + 'a;
/// Called after each removal with the names that lead to it, from the folder's own on.
pub type Removed<'a> = dyn FnMut(&[Box<[u8]>], Kind) + 'a;

/// Removes everything at `name`, whatever it is; nothing there is no error.
///
/// # Errors
/// The first failure.
pub fn tree(parent: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => match folder(parent, name, &mut |_, _| true, &mut |_, _| {}) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

struct Level {
    fd: OwnedFd,
    todo: Vec<(Box<[u8]>, Option<Kind>)>,
    /// Something in it stays, so that it stays too.
    keeps: bool,
}

/// Removes the folder `name` and all below it for which `goes` says so. Returns whether the folder itself is gone;
/// it is not when something below it stays.
///
/// # Errors
/// The first failure; what was removed by then is gone.
pub fn folder(parent: BorrowedFd, name: &[u8], goes: &mut Goes, removed: &mut Removed) -> Result<bool, Errno> {
    let mut path: Vec<Box<[u8]>> = vec![name.into()];
    let mut levels = vec![open_level(parent, name)?];
    while let Some(level) = levels.last_mut() {
        if let Some((entry, kind)) = level.todo.pop() {
            path.push(entry);
            let entry: &[u8] = path.last().map_or(&[], |n| n);
            if !goes(&path, kind == Some(Kind::Directory)) {
                level.keeps = true;
                path.pop();
                continue;
            }
            if kind != Some(Kind::Directory) {
                match unlink(level.fd.as_fd(), entry, AtFlags::empty()) {
                    Ok(()) => removed(&path, kind.unwrap_or(Kind::File)),
                    Err(Errno::NOENT) => {}
                    // The listing did not say what it is.
                    Err(Errno::ISDIR) => {
                        let below = open_level(level.fd.as_fd(), entry)?;
                        levels.push(below);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                path.pop();
            } else {
                let below = open_level(level.fd.as_fd(), entry)?;
                levels.push(below);
            }
            continue;
        }
        let keeps = level.keeps;
        levels.pop();
        let Some(own) = path.last() else { break };
        let above = levels.last().map_or(parent, |l| l.fd.as_fd());
        if keeps {
            if let Some(level) = levels.last_mut() {
                level.keeps = true;
            }
        } else {
            match unlink(above, own, AtFlags::REMOVEDIR) {
                Ok(()) => removed(&path, Kind::Directory),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        path.pop();
        if levels.is_empty() {
            return Ok(!keeps);
        }
    }
    Ok(true)
}

/// Calls `seen` for each entry that `folder` would remove, in the same order. Returns whether the folder itself is one.
///
/// # Errors
/// The first folder that cannot be listed.
pub fn survey(parent: BorrowedFd, name: &[u8], goes: &mut Goes, seen: &mut Removed) -> Result<bool, Errno> {
    let mut path: Vec<Box<[u8]>> = vec![name.into()];
    let mut levels = vec![open_level(parent, name)?];
    while let Some(level) = levels.last_mut() {
        let Some((entry, kind)) = level.todo.pop() else {
            let keeps = level.keeps;
            levels.pop();
            match levels.last_mut() {
                _ if !keeps => seen(&path, Kind::Directory),
                Some(above) => above.keeps = true,
                None => return Ok(false),
            }
            path.pop();
            continue;
        };
        path.push(entry);
        if !goes(&path, kind == Some(Kind::Directory)) {
            level.keeps = true;
            path.pop();
            continue;
        }
        if matches!(kind, Some(Kind::Directory) | None) {
            match open_level(level.fd.as_fd(), path.last().map_or(&[], |n| n)) {
                Ok(below) => {
                    levels.push(below);
                    continue;
                }
                // The listing did not say what it is.
                Err(Errno::NOTDIR | Errno::LOOP) if kind.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        seen(&path, kind.unwrap_or(Kind::File));
        path.pop();
    }
    Ok(true)
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
    if fs::accessat(folder, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_err() {
        let _ = make_writable(folder);
    }
}

/// Opens a folder that is to go. What is mounted in it is not the tree's to empty: nothing of that is even listed.
fn open_level(parent: BorrowedFd, name: &[u8]) -> Result<Level, Errno> {
    let fd = match open_child_unmounted(parent, name) {
        Err(Errno::ACCESS) => {
            super::metadata::open_for_change(parent, name, Kind::Directory)?;
            open_child_unmounted(parent, name)?
        }
        done => done?,
    };
    let mut todo = Vec::new();
    let mut buffer: Vec<u8> = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            todo.push((name.into(), kind_of(entry.file_type())));
        }
    }
    Ok(Level { fd, todo, keeps: false })
}

fn kind_of(file_type: FileType) -> Option<Kind> {
    Some(match file_type {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Unknown => return None,
    })
}
