//! Owns what lies in a staging folder and may be others': what was taken from a name in order to be looked at, or comes out of
//! one by an exchange. It lies under a name that says what it is expected to be, so that after a crash what had just come
//! is told from what was judged, and kept.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{self, AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::put_back::beside;
use super::{STAGE, Stage, Staged};
use crate::fs::root::{kind_of, open_child};
use crate::fs::{remove, scan};
use crate::tree::entry::{Kind, Stamp, Stat};

const MARK: &[u8] = b"taken-";
/// What comes before the name that it had.
const FIELDS: usize = 7;
/// Room is left for what a filesystem without exchange needs (see `put_back::swap`).
const LONGEST: usize = 240;

/// What is known of something in the staging folder by its name there.
struct Taken<'a> {
    /// The program's own, which something was to be exchanged for; 0 if there is none.
    ours: u64,
    kind: u64,
    ino: u64,
    size: u64,
    mtime: (u64, u64),
    name: &'a [u8],
}

/// A name in the staging folder for what comes out of `name`, where `expected` is.
pub(in crate::fs) fn taken_name(number: u64, ours: Option<&Stat>, expected: &Stamp, name: &[u8]) -> Vec<u8> {
    let Stamp { id, kind, size, mtime, .. } = expected;
    let ours = ours.map_or(0, |ours| ours.ino);
    let (sec, nsec, kind) = (mtime.sec as u64, mtime.nsec, *kind as u8);
    let mut taken = MARK.to_vec();
    taken.extend_from_slice(format!("{number}-{ours:x}-{kind:x}-{:x}-{size:x}-{sec:x}-{nsec:x}-", id.ino).as_bytes());
    let room = LONGEST.saturating_sub(taken.len());
    taken.extend_from_slice(&name[..room.min(name.len())]);
    taken
}

impl<'a> Taken<'a> {
    fn parse(staged: &'a [u8]) -> Option<Self> {
        let mut parts = staged.strip_prefix(MARK)?.splitn(FIELDS + 1, |byte| *byte == b'-').skip(1);
        let mut number = || u64::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok();
        let (ours, kind, ino, size) = (number()?, number()?, number()?, number()?);
        let mtime = (number()?, number()?);
        Some(Self { ours, kind, ino, size, mtime, name: parts.next()? })
    }

    /// Whether this is the program's own, or what was judged.
    fn may_go(&self, now: &fs::Stat) -> bool {
        let kind = kind_of(FileType::from_raw_mode(now.st_mode));
        now.st_ino == self.ours
            || (now.st_ino == self.ino
                && kind as u64 == self.kind
                && kind != Kind::Directory
                && u64::try_from(now.st_size) == Ok(self.size)
                && (now.st_mtime as u64, u64::from(now.st_mtime_nsec as u32)) == self.mtime)
    }
}

impl Stage {
    /// Gives what is staged a name that says what it is to be exchanged for.
    ///
    /// # Errors
    /// As of renameat2(2): then it has its former name.
    pub(super) fn mark(&self, staged: &mut Staged, ours: &Stat, expected: &Stamp, name: &[u8]) -> Result<(), Errno> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let marked = taken_name(number, Some(ours), expected, name);
        fs::renameat(staged.folder(), staged.name.as_slice(), staged.folder(), marked.as_slice())?;
        staged.name = marked;
        Ok(())
    }
}

/// Removes the staging folder in a reserved one. What is in it and not the program's is put beside that first, in `top`.
/// Returns the names that it has there.
///
/// # Errors
/// What keeps it from being known, or kept: then the staging folder stays too.
pub(super) fn remove_stage(top: BorrowedFd, reserved: BorrowedFd) -> Result<Vec<Vec<u8>>, Errno> {
    match fs::unlinkat(reserved, STAGE, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Vec::new()),
        // What is wrong with it is said by what comes next.
        Err(_) => {}
    }
    let kept = match open_child(reserved, STAGE) {
        Ok(stage) => keep_others(top, stage.as_fd())?,
        Err(_) => Vec::new(),
    };
    remove::tree(reserved, STAGE).map(|()| kept)
}

/// Puts what lies in a folder under such a name, and is not the program's, beside what it was taken from, in `top`. Returns
/// the names that it has there.
///
/// # Errors
/// What keeps it from being known, or kept.
pub(in crate::fs) fn keep_others(top: BorrowedFd, stage: BorrowedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let (mut names, mut kept) = (Vec::new(), Vec::new());
    scan::each_entry(stage, |name, _| names.push(name.to_vec()))?;
    for staged in names {
        let Some(taken) = Taken::parse(&staged) else { continue };
        let now = fs::statat(stage, &*staged, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_empty = || fs::unlinkat(stage, &*staged, AtFlags::REMOVEDIR).is_ok();
        let is_folder = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
        // A folder is exchanged when it is empty; what is in it by then is new.
        if taken.may_go(&now) || (is_folder && now.st_ino == taken.ino && is_empty()) {
            continue;
        }
        for free in beside(taken.name) {
            match fs::renameat_with(stage, &*staged, top, &*free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL | Errno::NOSYS) if fs::statat(top, &*free, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {}
                done => {
                    match done {
                        Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(stage, &*staged, top, &*free)?,
                        done => done?,
                    }
                    kept.push(free);
                    break;
                }
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::root::Root;
    use crate::fs::stage::Target;
    use crate::tree::path::RelPath;

    #[test]
    fn a_name_says_what_is_expected_whatever_it_was() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::write(top.path().join("a"), "x").expect("written");
        let root = Root::open(top.path()).expect("a root");
        let stat = *root.look(root.fd(), b"a").expect("a look").stat().expect("it is there");
        let now = fs::statat(root.fd(), "a", AtFlags::empty()).expect("its stat");
        for name in [b"a-b-".as_slice(), b"-", &[b'l'; 255]] {
            let taken = taken_name(7, None, &stat.stamp(), name);
            let taken = Taken::parse(&taken).expect("one of its own");
            assert!(name.starts_with(taken.name) && taken.may_go(&now));
        }
        let mut other = stat.stamp();
        other.mtime.nsec ^= 1;
        assert!(!Taken::parse(&taken_name(7, None, &other, b"a")).expect("one").may_go(&now));
        assert!(Taken::parse(&taken_name(7, Some(&stat), &other, b"a")).expect("one").may_go(&now));
        assert!(Taken::parse(b"12").is_none() && Taken::parse(b"taken-1-2").is_none());
    }

    #[test]
    fn what_a_crash_leaves_is_kept_if_it_is_not_what_was_judged() {
        let top = tempfile::tempdir().expect("a folder");
        for name in ["judged", "new"] {
            std::fs::write(top.path().join(name), name).expect("written");
        }
        std::fs::create_dir_all(top.path().join("filled/in")).expect("made");
        std::fs::create_dir(top.path().join("empty")).expect("made");
        let root = Root::open(top.path()).expect("a root");
        let look = |name: &str| *root.look(root.fd(), name.as_bytes()).expect("a look").stat().expect("it is there");
        let stage = Stage::shared();
        let place = stage.place(&root, &Target { folder: root.fd(), path: &RelPath::root() }).expect("a place");
        let park = |name: &str, judged: &str| {
            let stamp = look(judged).stamp();
            stage.park(&place, root.fd(), name.as_bytes(), &stamp).expect("parked");
        };
        std::fs::write(top.path().join("other"), "").expect("written");
        park("new", "other");
        park("judged", "judged");
        park("filled", "filled");
        park("empty", "empty");
        let reserved = open_child(root.fd(), b".driftless").expect("it is there");
        let mut kept = remove_stage(root.fd(), reserved.as_fd()).expect("removed");
        kept.sort();
        assert_eq!(kept, [b"filled.kept-1".to_vec(), b"new.kept-1".to_vec()]);
        assert_eq!(std::fs::read_to_string(top.path().join("new.kept-1")).expect("kept"), "new");
        assert!(top.path().join("filled.kept-1/in").is_dir() && !top.path().join("judged").exists());
        assert!(!top.path().join(".driftless/stage").exists());
    }
}
