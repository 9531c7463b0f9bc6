//! Owns finding what is kept and named by no line, as an interruption leaves it: a walk over all that is kept. It is slow
//! and rare. What came after it began it does not touch: before anything is removed, the journal is asked once more.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::{Step, Sum, Thinner, decoded, going_on};
use crate::fs::history::History;
use crate::fs::root::open_child;
use crate::fs::scan;
use crate::tree::path::RelPath;

/// As many are removed together.
const TOGETHER: usize = 4096;

/// Removes what is kept without a line, and empty folders. Returns what was removed.
///
/// # Errors
/// As of the calls on files; ECANCELED where `step` said no.
pub fn remove(thinner: &mut Thinner, history: &History, step: Step) -> Result<Sum, Errno> {
    let hash = RandomState::new();
    let current = history.journal().current();
    // A hash of each name: eight bytes, however long it is.
    let mut named = Vec::new();
    let segments = thinner.segments()?;
    for (name, size) in &segments {
        each_kept(thinner, (name, *size), step, &mut |kept| named.push(hash.hash_one(kept.as_bytes())))?;
    }
    named.sort_unstable();
    let (mut folders, mut found, mut gone) = (vec![RelPath::root()], Vec::new(), Sum::default());
    while let Some(folder) = folders.pop() {
        let Ok(open) = open_all(thinner, &folder) else { continue };
        let mut is_empty = true;
        let mut is_going_on = true;
        scan::each_entry(open.as_fd(), |name, kind| {
            is_empty = false;
            let path = folder.join(name);
            if is_folder(&open, name, kind) {
                folders.push(path);
            } else if named.binary_search(&hash.hash_one(path.as_bytes())).is_err() {
                found.push(path);
            }
            is_going_on &= step();
        })?;
        if !is_going_on {
            return Err(Errno::CANCELED);
        }
        if let (true, Some((parent, name))) = (is_empty, folder.split())
            && let Ok(parent) = open_all(thinner, &parent)
        {
            // Who is about to put something into it makes it anew.
            let _ = fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
        }
        if found.len() >= TOGETHER || folders.is_empty() {
            let new = named_since(thinner, &hash, &current, step)?;
            for path in found.drain(..).filter(|path| new.binary_search(&hash.hash_one(path.as_bytes())).is_err()) {
                if let Some(one) = thinner.kept.remove(&path) {
                    gone.add(one);
                }
                going_on(step)?;
            }
            thinner.kept.remove_empty();
        }
    }
    thinner.unmark();
    Ok(gone)
}

/// What lines name that came since this file of the journal was begun. A line is written before what it names is there.
fn named_since(thinner: &Thinner, hash: &RandomState, since: &str, step: Step) -> Result<Vec<u64>, Errno> {
    let mut named = Vec::new();
    for (name, size) in thinner.segments()?.iter().filter(|(name, _)| name.as_str() >= since) {
        each_kept(thinner, (name, *size), step, &mut |kept| {
            named.push(hash.hash_one(kept.as_bytes()));
        })?;
    }
    named.sort_unstable();
    Ok(named)
}

fn each_kept(
    thinner: &Thinner,
    (name, size): (&str, u64),
    step: Step,
    found: &mut dyn FnMut(&RelPath),
) -> Result<(), Errno> {
    let mut lines = thinner.read(name, 0, size)?;
    while let Some(raw) = lines.line()? {
        if let Some(kept) = decoded(raw).as_ref().and_then(|line| line.event.kept()) {
            found(kept);
        }
        going_on(step)?;
    }
    Ok(())
}

fn is_folder(folder: &OwnedFd, name: &[u8], kind: FileType) -> bool {
    match kind {
        FileType::Unknown => fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        kind => kind == FileType::Directory,
    }
}

fn open_all(thinner: &Thinner, path: &RelPath) -> Result<OwnedFd, Errno> {
    let flags = super::super::FOLDER;
    let mut at = fs::openat(thinner.kept.folder(), c".", flags, Mode::empty())?;
    for name in path.components() {
        at = open_child(at.as_fd(), name)?;
    }
    Ok(at)
}
