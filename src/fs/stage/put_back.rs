//! Owns the way back of what was taken from a name and is not the program's to remove: what others have put there since it
//! was looked at. Nothing of theirs is lost on it, whatever they do at the name meanwhile.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, RenameFlags};
use rustix::io::Errno;

use super::Staged;
use crate::fs::rename;
use crate::fs::root::Root;
use crate::tree::entry::{Kind, Stat};
use crate::tree::name::with_tail;

/// Who writes at a name without a pause is no match for this often.
const TRIES: u32 = 32;

/// Exchanges what is staged and what has the name.
///
/// # Errors
/// As of renameat2(2).
pub(super) fn swap(root: &Root, staged: &Staged, (folder, name): (BorrowedFd, &[u8])) -> Result<(), Errno> {
    let from = staged.name.as_slice();
    match fs::renameat_with(staged.folder(), from, folder, name, RenameFlags::EXCHANGE) {
        // RACE: without the call the name is missing for a moment, and a crash there leaves it so until the next pass.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let aside = [from, b".old"].concat();
            fs::renameat(folder, name, staged.folder(), aside.as_slice())?;
            let aside = Staged { stage: staged.stage.clone(), name: aside };
            match rename::to_free_name(root, (staged.folder(), from), (folder, name)) {
                Ok(true) => fs::renameat(staged.folder(), aside.name.as_slice(), staged.folder(), from),
                // What was there is put back rather than lost.
                Ok(false) => aside.give_back(root, folder, name).and(Err(Errno::EXIST)),
                Err(error) => aside.give_back(root, folder, name).and(Err(error)),
            }
        }
        done => done,
    }
}

/// Puts what has come out of a name back there, in exchange for `put`, which lies under the staged name then. What others
/// have put in its place meanwhile stays there: it is newer than both.
///
/// # Errors
/// As of renameat2(2): then it still lies under the staged name.
pub(super) fn put_back(
    root: &Root,
    staged: &Staged,
    (folder, name): (BorrowedFd, &[u8]),
    put: &Stat,
) -> Result<(), Errno> {
    let look = || Ok::<_, Errno>(root.look(staged.folder(), &staged.name)?.stat().copied());
    let is_same = |now: &Stat, put: &Stat| match put.kind {
        Kind::Directory => now.id() == put.id(),
        _ => now.stamp().same_contents_if_explained(&put.stamp()),
    };
    let (mut put, mut inside) = (*put, look()?.ok_or(Errno::NOENT)?);
    for _ in 0..TRIES {
        match swap(root, staged, (folder, name)) {
            // They have removed what had the name.
            Err(Errno::NOENT) => {
                if rename::to_free_name(root, (staged.folder(), &staged.name), (folder, name))? {
                    return Ok(());
                }
                continue;
            }
            done => done?,
        }
        let Some(out) = look()? else { return Ok(()) };
        if is_same(&out, &put) {
            return Ok(());
        }
        // Not what was put there: that is theirs, and newer than what has just gone back.
        (put, inside) = (inside, out);
    }
    Err(Errno::BUSY)
}

impl Staged {
    /// Puts an entry back from where it was moved; beside that where its name is taken by now.
    ///
    /// # Errors
    /// As of renameat2(2): then it still lies in the staging folder.
    pub fn give_back(self, root: &Root, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        if rename::to_free_name(root, (self.folder(), &self.name), (folder, name))? {
            return Ok(());
        }
        self.put_beside(root, folder, name)
    }

    /// Puts it under the first free name that is like this one.
    ///
    /// # Errors
    /// As of renameat2(2).
    pub(super) fn put_beside(self, root: &Root, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
        for free in beside(name) {
            if rename::to_free_name(root, (self.folder(), &self.name), (folder, &free))? {
                return Ok(());
            }
        }
        Err(Errno::EXIST)
    }
}

/// Names that are like this one.
pub(super) fn beside(name: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (1..u32::MAX).map(move |n| with_tail(name, format!(".kept-{n}").as_bytes()))
}
