//! Owns putting what comes back into a folder in which others may be at work: built where nobody looks, and given its name
//! in one step, to a free name or in the place of what is known to be there. What comes back, others decide.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::exact::{self, Confirm, Manner};
use super::metadata::Lost;
use super::remove;
use super::root::{Root, open_child};
use super::scan;
use super::stage::{is_there, keep_others, open_reserved, taken_name};
use crate::tree::entry::{Kind, Stat};
use crate::tree::exclude::RESERVED;
use crate::tree::history::Attributes;

const PREFIX: &[u8] = b"restore-";
/// The own folder is not taken for a leftover so often.
const TRIES: u32 = 100;

/// Where what comes back is built. Its own folder, in the reserved one, is made when it is first needed.
#[derive(Debug)]
pub struct Workshop<'a> {
    root: &'a Root,
    /// Others watch the folder: nothing is to be seen in it that is not done.
    is_watched: bool,
    own: RefCell<Option<Own>>,
}

#[derive(Debug)]
struct Own {
    folder: Rc<OwnedFd>,
    name: Vec<u8>,
    /// There was no reserved folder: the time of the root before it was made, and after.
    made: Option<[Timespec; 2]>,
}

impl<'a> Workshop<'a> {
    pub fn new(root: &'a Root, is_watched: bool) -> Self {
        Self { root, is_watched, own: RefCell::default() }
    }

    /// Copies an entry to a name in `folder`: a free one, or that of what is `expected` there, which goes.
    ///
    /// # Errors
    /// As of `exact::copy_with`; EEXIST where something else is there than expected.
    pub fn copy(
        &self,
        from: (BorrowedFd, &[u8]),
        (folder, name): (BorrowedFd, &[u8]),
        expected: Option<&Stat>,
        (attributes, confirm): (Option<&Attributes>, Confirm),
        how: &Manner,
    ) -> Result<(Lost, Stat), Errno> {
        let is_file = exact::look(from.0, from.1)?.kind == Kind::File;
        if expected.is_none() && (is_file || !self.is_watched) {
            return exact::copy_with(from, (folder, name), (attributes, confirm), how);
        }
        let build = |place: BorrowedFd| {
            let copy = |free: &[u8]| exact::copy_with(from, (place, free), (attributes, &mut *confirm), how);
            exact::fresh(exact::ON_ITS_WAY, copy)
        };
        self.put(build, (folder, name), expected)
    }

    /// Gives an entry of the same folder tree another name.
    ///
    /// # Errors
    /// As of linkat(2); EEXIST where something else is there than expected.
    pub fn link(
        &self,
        (from, old): (BorrowedFd, &[u8]),
        (folder, name): (BorrowedFd, &[u8]),
        expected: Option<&Stat>,
    ) -> Result<(), Errno> {
        if expected.is_none() {
            return fs::linkat(from, old, folder, name, AtFlags::empty());
        }
        let build = |place: BorrowedFd| {
            exact::fresh(exact::ON_ITS_WAY, |free| fs::linkat(from, old, place, free, AtFlags::empty()))
        };
        self.put(build, (folder, name), expected)
    }

    /// Makes an empty folder that nobody else can look into.
    ///
    /// # Errors
    /// As of mkdirat(2); EEXIST where something else is there than expected.
    pub fn folder(&self, (folder, name): (BorrowedFd, &[u8]), expected: Option<&Stat>) -> Result<(), Errno> {
        let private = Mode::from_raw_mode(0o700);
        if expected.is_none() {
            return fs::mkdirat(folder, name, private);
        }
        let build = |place: BorrowedFd| exact::fresh(exact::ON_ITS_WAY, |free| fs::mkdirat(place, free, private));
        self.put(build, (folder, name), expected)
    }

    /// Builds it in the own folder, or beside its place where that lies on another filesystem.
    fn put<T>(
        &self,
        mut build: impl FnMut(BorrowedFd) -> Result<(T, Vec<u8>), Errno>,
        (folder, name): (BorrowedFd, &[u8]),
        expected: Option<&Stat>,
    ) -> Result<T, Errno> {
        let own = self.own()?;
        let is_near = fs::fstat(&own)?.st_dev == fs::fstat(folder)?.st_dev;
        let place = if is_near { own.as_fd() } else { folder };
        let (made, built) = build(place)?;
        let built = match expected.filter(|_| is_near) {
            Some(expected) => marked(place, built, expected, name)?,
            None => built,
        };
        let done = match publish((place, &built), (folder, name), expected) {
            // Another mount, or another project, of the same filesystem.
            Err(Errno::XDEV) if is_near => {
                let _ = remove::tree(place, &built);
                let (made, built) = build(folder)?;
                let done = publish((folder, &built), (folder, name), expected);
                return finish((folder, &built), done, made);
            }
            done => done,
        };
        finish((place, &built), done, made)
    }

    fn own(&self) -> Result<Rc<OwnedFd>, Errno> {
        let mut own = self.own.borrow_mut();
        if let Some(own) = &*own {
            return Ok(own.folder.clone());
        }
        let is_new = open_child(self.root.fd(), RESERVED).is_err();
        let before = mtime(self.root.fd())?;
        // Who clears leftovers away may have been faster.
        let mut made = Err(Errno::NOENT);
        for _ in 0..TRIES {
            made = Self::make_own(self.root);
            if !matches!(made, Err(Errno::NOENT)) {
                break;
            }
        }
        let (folder, name) = made?;
        let made = if is_new { Some([before, mtime(self.root.fd())?]) } else { None };
        let folder = Rc::new(folder);
        *own = Some(Own { folder: folder.clone(), name, made });
        Ok(folder)
    }

    /// It is locked for as long as it is open: what is not locked is nobody's any more.
    fn make_own(root: &Root) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let reserved = open_reserved(root.fd())?;
        let make = |name: &[u8]| fs::mkdirat(&reserved, name, Mode::from_raw_mode(0o700));
        let name = exact::fresh(PREFIX, make)?.1;
        let folder = open_child(reserved.as_fd(), &name)?;
        match fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(Errno::NOENT),
            // Where nothing can be locked, nothing is cleared away.
            _ if !is_there(&folder) => return Err(Errno::NOENT),
            _ => {}
        }
        Ok((folder, name))
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        if let Ok(reserved) = open_child(self.root.fd(), RESERVED) {
            let _ = remove::tree(reserved.as_fd(), &own.name);
        }
        // Somebody else may use it by now.
        if let (Some([before, after]), Ok(now)) = (own.made, mtime(self.root.fd()))
            && fs::unlinkat(self.root.fd(), RESERVED, AtFlags::REMOVEDIR).is_ok()
        {
            set_mtime(self.root.fd(), if now == after { before } else { now });
        }
    }
}

/// Removes what restores that were interrupted have left in a folder, and the reserved folder if nothing else is in it. What
/// others had just put in the place of what was replaced is kept, at the top. Returns its names, if anything was left.
///
/// # Errors
/// As of unlinkat(2) and renameat2(2).
pub fn clear_leftovers(root: &Root) -> Result<Option<Vec<Vec<u8>>>, Errno> {
    let reserved = match open_child(root.fd(), RESERVED) {
        // What else has that name is not the program's.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(None),
        reserved => reserved?,
    };
    let mut names = Vec::new();
    scan::each_entry(reserved.as_fd(), |name, _| {
        if name.starts_with(PREFIX) {
            names.push(name.to_vec());
        }
    })?;
    let mut kept = None;
    for name in names {
        let folder = match open_child(reserved.as_fd(), &name) {
            Err(Errno::NOENT) => continue,
            folder => folder?,
        };
        // One that is at work has it locked.
        if fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        kept.get_or_insert_with(Vec::new).extend(keep_others(root.fd(), folder.as_fd())?);
        remove::tree(reserved.as_fd(), &name)?;
    }
    let before = mtime(root.fd())?;
    if kept.is_some() && fs::unlinkat(root.fd(), RESERVED, AtFlags::REMOVEDIR).is_ok() {
        set_mtime(root.fd(), before);
    }
    Ok(kept)
}

/// Gives what is built a name by which it is told from what it is exchanged for, and that from what others put there.
fn marked(place: BorrowedFd, built: Vec<u8>, expected: &Stat, name: &[u8]) -> Result<Vec<u8>, Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let ours = exact::look(place, &built)?;
    let marked = taken_name(NEXT.fetch_add(1, Ordering::Relaxed), Some(&ours), &expected.stamp(), name);
    fs::renameat(place, built.as_slice(), place, marked.as_slice())?;
    Ok(marked)
}

/// That something of the program's own came or went is nothing that happened in the tree.
fn set_mtime(folder: BorrowedFd, last_modification: Timespec) {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let _ = fs::futimens(folder, &Timestamps { last_access, last_modification });
}

/// A folder in which its owner may not write, and does for a while. It gets its mode back when this goes.
#[derive(Debug)]
pub struct Lifted {
    folder: OwnedFd,
    was: fs::Stat,
}

impl Lifted {
    /// Nothing where that is not needed, or cannot be done: what is tried next says why.
    pub fn new(folder: BorrowedFd) -> Option<Self> {
        if remove::is_writable(folder) {
            return None;
        }
        let was = fs::fstat(folder).ok()?;
        let own = rustix::io::fcntl_dupfd_cloexec(folder, 0).ok()?;
        remove::make_writable(folder).ok().map(|()| Self { folder: own, was })
    }

    pub fn is_of(&self, folder: BorrowedFd) -> bool {
        fs::fstat(folder).is_ok_and(|now| (now.st_dev, now.st_ino) == (self.was.st_dev, self.was.st_ino))
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        let _ = fs::fchmod(&self.folder, Mode::from_raw_mode(self.was.st_mode & 0o7777));
    }
}

fn mtime(folder: BorrowedFd) -> Result<Timespec, Errno> {
    let stat = fs::fstat(folder)?;
    Ok(Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ })
}

/// Gives what is built its name. What was there lies under the other one then.
fn publish(
    (place, built): (BorrowedFd, &[u8]),
    (folder, name): (BorrowedFd, &[u8]),
    expected: Option<&Stat>,
) -> Result<(), Errno> {
    let Some(expected) = expected else {
        return match fs::renameat_with(place, built, folder, name, RenameFlags::NOREPLACE) {
            // RACE: on such a filesystem what comes there after the look is replaced.
            Err(Errno::INVAL | Errno::NOSYS) => match exact::look(folder, name) {
                Err(Errno::NOENT) => fs::renameat(place, built, folder, name),
                Ok(_) => Err(Errno::EXIST),
                Err(error) => Err(error),
            },
            done => done,
        };
    };
    let is_expected = |now: Stat| now.id() == expected.id() && now.mtime == expected.mtime && now.size == expected.size;
    if !exact::look(folder, name).is_ok_and(is_expected) {
        return Err(Errno::EXIST);
    }
    match fs::renameat_with(place, built, folder, name, RenameFlags::EXCHANGE) {
        // RACE: on such a filesystem what comes there after the look is replaced.
        Err(Errno::INVAL | Errno::NOSYS) if expected.kind != Kind::Directory => {
            fs::renameat(place, built, folder, name)
        }
        Err(error) => Err(error),
        Ok(()) if exact::look(place, built).is_ok_and(is_expected) => Ok(()),
        Ok(()) => {
            fs::renameat_with(place, built, folder, name, RenameFlags::EXCHANGE)?;
            Err(Errno::EXIST)
        }
    }
}

fn finish<T>((place, built): (BorrowedFd, &[u8]), done: Result<(), Errno>, made: T) -> Result<T, Errno> {
    // What was built and is not wanted, or what was there before; nothing, where that has its name.
    if let Err(Errno::ISDIR | Errno::PERM) = fs::unlinkat(place, built, AtFlags::empty()) {
        let _ = fs::unlinkat(place, built, AtFlags::REMOVEDIR);
    }
    done.map(|()| made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn listed(folder: &Path) -> Vec<String> {
        let listed = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("listed").file_name());
        let mut names: Vec<String> = listed.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_go_and_what_is_in_use_or_another_s_stays() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        assert_eq!(clear_leftovers(&root), Ok(None));
        std::fs::write(top.path().join("a"), "old").expect("written");
        let workshop = Workshop::new(&root, true);
        let own = workshop.own().expect("made");
        let reserved = top.path().join(".driftless");
        assert_eq!((clear_leftovers(&root), listed(&reserved).len()), (Ok(None), 1), "it is in use");
        // One is killed when it has exchanged a file, just when others had put another one there.
        let left = reserved.join("restore-4000000-0");
        std::fs::create_dir(&left).expect("made");
        std::fs::write(left.join("new"), "new").expect("written");
        let place = open_child(open_child(root.fd(), RESERVED).expect("open").as_fd(), b"restore-4000000-0");
        let place = place.expect("open");
        let expected = exact::look(root.fd(), b"a").expect("it is there");
        let marked = marked(place.as_fd(), b"new".to_vec(), &expected, b"a").expect("marked");
        let marked = left.join(String::from_utf8(marked).expect("text"));
        std::fs::rename(&marked, left.join("was")).expect("renamed");
        std::fs::write(&marked, "another's").expect("written");
        assert_eq!(clear_leftovers(&root), Ok(Some(vec![b"a.kept-1".to_vec()])));
        assert_eq!(std::fs::read_to_string(top.path().join("a.kept-1")).expect("kept"), "another's");
        assert_eq!(listed(&reserved).len(), 1);
        std::fs::remove_file(top.path().join("a.kept-1")).expect("removed");
        drop((own, workshop));
        assert_eq!(listed(top.path()), ["a"]);
    }
}
