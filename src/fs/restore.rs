//! Owns putting what comes back into a folder in which others may be at work: built where nobody looks, and given its name
//! in one step, to a free name or in the place of what is known to be there. What comes back, others decide.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::exact::{self, Confirm, Manner};
use super::metadata::Lost;
use super::remove;
use super::root::{Root, open_child};
use super::stage::open_reserved;
use crate::tree::entry::{Kind, Stat};
use crate::tree::exclude::RESERVED;
use crate::tree::history::Attributes;

const PREFIX: &[u8] = b"restore-";

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
        let reserved = open_reserved(self.root.fd())?;
        let made = if is_new { Some([before, mtime(self.root.fd())?]) } else { None };
        let make = |name: &[u8]| fs::mkdirat(&reserved, name, Mode::from_raw_mode(0o700));
        let name = exact::fresh(PREFIX, make)?.1;
        let folder = Rc::new(open_child(reserved.as_fd(), &name)?);
        *own = Some(Own { folder: folder.clone(), name, made });
        Ok(folder)
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
            // That it was there is nothing that happened in the tree.
            let last_modification = if now == after { before } else { now };
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let _ = fs::futimens(self.root.fd(), &Timestamps { last_access, last_modification });
        }
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
