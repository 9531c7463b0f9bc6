//! Owns an exact copy of one entry that is no folder, under a name that nothing has yet: contents and holes, owner, mode,
//! times, extended attributes, ACLs. It is built unseen, and a copy that fails leaves nothing. What is copied, and whether
//! that is right, others decide.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::copy::{self, Abilities, Fault, Reflink};
use super::metadata::{self, CAPABILITY, Lost, Rights, Xattrs};
use super::pulse::Pulse;
use super::root::{self, open_file};
use super::stage::link_open;
use crate::tree::entry::{Kind, Stat};
use crate::tree::history::Attributes;

/// A file that changes while it is read is read so often.
const READINGS: usize = 3;

/// How a copy is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    pub rights: &'a Rights,
    pub abilities: &'a Abilities,
    pub pulse: &'a Pulse,
    /// The copy and its name are on disk when the call returns.
    pub durable: bool,
}

/// Copies the entry `from`, a name in an open folder, to the free name `to`. Its device numbers are the kernel's.
///
/// # Errors
/// As of the calls that it takes: EEXIST where `to` is taken, EISDIR for a folder, EAGAIN for a file that is being written
/// all the time, ECANCELED where `how.pulse` said stop. Then nothing is left at `to`.
pub fn copy(from: (BorrowedFd, &[u8]), to: (BorrowedFd, &[u8]), how: &Manner) -> Result<Lost, Errno> {
    copy_with(from, to, (None, &mut || Ok(())), how).map(|(lost, _)| lost)
}

/// Asked before a copy gets its name, when all that it is made from has been read: with an error it does not get it.
pub type Confirm<'a> = &'a mut dyn FnMut() -> Result<(), Errno>;

/// The same, with other attributes than it has if they are given, and once what was read is confirmed. Returns also what
/// was copied.
///
/// # Errors
/// As of `copy`, and those of the confirmation.
pub fn copy_with(
    (from, name): (BorrowedFd, &[u8]),
    (to, free): (BorrowedFd, &[u8]),
    dress: (Option<&Attributes>, Confirm),
    how: &Manner,
) -> Result<(Lost, Stat), Errno> {
    let stat = look(from, name)?;
    let copied = match stat.kind {
        Kind::Directory => return Err(Errno::ISDIR),
        Kind::File => file((from, name), (to, free), dress, how)?,
        _ => special((from, name, &stat), (to, free), dress, how)?,
    };
    if how.durable {
        fs::fsync(to)?;
    }
    Ok(copied)
}

/// The stat of a name in a folder; the device is the kernel's number.
///
/// # Errors
/// As of fstatat(2).
pub fn look(folder: BorrowedFd, name: &[u8]) -> Result<Stat, Errno> {
    let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Ok(root::converted(&stat, None))
}

/// The same of what is open.
///
/// # Errors
/// As of fstat(2).
pub fn stat(fd: BorrowedFd) -> Result<Stat, Errno> {
    Ok(root::converted(&fs::fstat(fd)?, None))
}

/// Opens a file for reading whose mode keeps its owner from that, too.
///
/// # Errors
/// As of openat(2).
pub fn open(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match open_file(folder, name) {
        Err(Errno::ACCESS) => lifted(folder, name, OFlags::NONBLOCK | OFlags::NOCTTY),
        done => done,
    }
}

/// Opens a folder in a folder whose mode keeps its owner from that, too.
///
/// # Errors
/// As of openat(2).
pub fn open_folder(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match root::open_child(folder, name) {
        Err(Errno::ACCESS) => lifted(folder, name, OFlags::DIRECTORY),
        done => done,
    }
}

/// Gives the owner the right to read for as long as it takes to open it.
fn lifted(folder: BorrowedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let handle = fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let was = fs::fstat(&handle)?;
    let kind = root::kind_of(FileType::from_raw_mode(was.st_mode));
    let more = match kind {
        Kind::File => 0o400,
        Kind::Directory => 0o500,
        _ => return Err(Errno::ACCESS),
    };
    let set = |mode| fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::from_raw_mode(mode & 0o7777));
    set(was.st_mode | more).map_err(|_| Errno::ACCESS)?;
    let opened = fs::openat(folder, name, flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    set(was.st_mode)?;
    let is_same = |fd: &OwnedFd| fs::fstat(fd).is_ok_and(|now| (now.st_dev, now.st_ino) == (was.st_dev, was.st_ino));
    opened.and_then(|fd| if is_same(&fd) { Ok(fd) } else { Err(Errno::AGAIN) })
}

fn file(
    (from, name): (BorrowedFd, &[u8]),
    (to, free): (BorrowedFd, &[u8]),
    (attributes, confirm): (Option<&Attributes>, Confirm),
    how: &Manner,
) -> Result<(Lost, Stat), Errno> {
    for _ in 0..READINGS {
        let source = open(from, name)?;
        let before = stat(source.as_fd())?;
        if before.kind != Kind::File {
            return Err(Errno::AGAIN);
        }
        let built = Built::new(to)?;
        let manner = copy::Manner {
            reflink: Reflink::Any,
            old: None,
            helpers: 0,
            durable: how.durable,
            abilities: how.abilities,
        };
        let copied = copy::contents(source.as_fd(), built.fd.as_fd(), &before, manner, how.pulse).map_err(errno)?;
        let own = metadata::xattrs(source.as_fd())?;
        let after = stat(source.as_fd())?;
        if after.stamp() != before.stamp() || copied.bytes != before.size {
            continue;
        }
        let (wanted, xattrs) = wanted(&before, own, attributes, how.rights);
        let lost = metadata::apply(built.fd.as_fd(), &wanted, &xattrs, (&stat(built.fd.as_fd())?, None), how.rights)?;
        if how.durable {
            fs::fsync(&built.fd)?;
        }
        confirm()?;
        built.publish(free)?;
        how.pulse.copied_file();
        return Ok((lost, before));
    }
    Err(Errno::AGAIN)
}

fn special(
    (from, name, source): (BorrowedFd, &[u8], &Stat),
    (to, free): (BorrowedFd, &[u8]),
    (attributes, confirm): (Option<&Attributes>, Confirm),
    how: &Manner,
) -> Result<(Lost, Stat), Errno> {
    let node = |name: &[u8], file_type| fs::mknodat(to, name, file_type, Mode::from_raw_mode(0o600), source.rdev);
    let target = match source.kind {
        Kind::Symlink => fs::readlinkat(from, name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    let staged = fresh(ON_ITS_WAY, |fresh| match source.kind {
        Kind::Symlink => fs::symlinkat(target.as_slice(), to, fresh),
        Kind::Fifo => node(fresh, FileType::Fifo),
        Kind::Socket => node(fresh, FileType::Socket),
        Kind::CharDevice => node(fresh, FileType::CharacterDevice),
        Kind::BlockDevice => node(fresh, FileType::BlockDevice),
        Kind::File | Kind::Directory => Err(Errno::INVAL),
    })?
    .1;
    let staged = Temporary { folder: to, name: Some(staged) };
    let (wanted, xattrs) = wanted(source, metadata::xattrs_at(from, name)?, attributes, how.rights);
    let now = look(to, staged.name())?;
    let lost = metadata::apply_at(to, staged.name(), &wanted, &xattrs, &now, how.rights)?;
    confirm()?;
    staged.publish(free)?;
    how.pulse.copied_file();
    Ok((lost, *source))
}

/// What the copy gets, less what this process may not set.
fn wanted(source: &Stat, own: Xattrs, attributes: Option<&Attributes>, rights: &Rights) -> (Stat, Xattrs) {
    let (stat, mut xattrs) = match attributes {
        Some(Attributes { mode, uid, gid, mtime, xattrs }) => {
            (Stat { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, ..*source }, xattrs.clone())
        }
        None => (*source, own),
    };
    if !rights.are_full() {
        xattrs.remove(CAPABILITY);
    }
    (stat, xattrs)
}

fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::Read(error) | Fault::Write(error) => error,
        Fault::Cancelled => Errno::CANCELED,
    }
}

/// A file on its way to its name.
struct Built<'a> {
    fd: OwnedFd,
    folder: BorrowedFd<'a>,
    /// Where a file cannot be without a name.
    named: Option<Temporary<'a>>,
}

impl<'a> Built<'a> {
    fn new(folder: BorrowedFd<'a>) -> Result<Self, Errno> {
        let private = Mode::from_raw_mode(0o600);
        match fs::openat(folder, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, private) {
            Ok(fd) => return Ok(Self { fd, folder, named: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (fd, name) = fresh(ON_ITS_WAY, |name| fs::openat(folder, name, flags, private))?;
        Ok(Self { fd, folder, named: Some(Temporary { folder, name: Some(name) }) })
    }

    fn publish(self, free: &[u8]) -> Result<(), Errno> {
        match self.named {
            None => link_open(self.fd.as_fd(), self.folder, free),
            Some(named) => named.publish(free),
        }
    }
}

/// A name that goes again if nothing comes of it.
struct Temporary<'a> {
    folder: BorrowedFd<'a>,
    name: Option<Vec<u8>>,
}

impl Temporary<'_> {
    fn name(&self) -> &[u8] {
        self.name.as_deref().unwrap_or_default()
    }

    fn publish(mut self, free: &[u8]) -> Result<(), Errno> {
        match fs::renameat_with(self.folder, self.name(), self.folder, free, RenameFlags::NOREPLACE) {
            // RACE: on such a filesystem what comes there after the look is replaced.
            Err(Errno::INVAL | Errno::NOSYS) => match look(self.folder, free) {
                Err(Errno::NOENT) => fs::renameat(self.folder, self.name(), self.folder, free)?,
                Ok(_) => return Err(Errno::EXIST),
                Err(error) => return Err(error),
            },
            done => done?,
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is found by its name.
            let _ = fs::unlinkat(self.folder, name.as_slice(), AtFlags::empty());
        }
    }
}

/// What is on its way has a name that begins like this, where it needs one.
pub const ON_ITS_WAY: &[u8] = b".driftless-new-";

/// Makes something under a name that nothing has.
pub(super) fn fresh<T>(prefix: &[u8], mut make: impl FnMut(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = rustix::process::getpid().as_raw_nonzero();
        let name = [prefix, format!("{own}-{number}").as_bytes()].concat();
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (made, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

    use super::*;

    fn open_top(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).expect("a folder").into()
    }

    fn try_copy(top: &std::path::Path, to: &str, attributes: Option<&Attributes>) -> Result<Stat, Errno> {
        let (rights, abilities, pulse) = (Rights::of_this_process(), Abilities::default(), Pulse::default());
        let how = Manner { rights: &rights, abilities: &abilities, pulse: &pulse, durable: true };
        let folder = open_top(top);
        let names = ((folder.as_fd(), b"from".as_slice()), (folder.as_fd(), to.as_bytes()));
        let done = copy_with(names.0, names.1, (attributes, &mut || Ok(())), &how);
        done.map(|(lost, stat)| {
            assert_eq!(lost, Lost::default());
            stat
        })
    }

    #[test]
    fn a_file_comes_with_its_holes_and_attributes_also_unreadable() {
        let top = tempfile::tempdir().expect("a folder");
        let from = top.path().join("from");
        let file = fs::File::create(&from).expect("made");
        file.write_all_at(b"end", 5 << 20).expect("written");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1, 23)).expect("a time");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1200)).expect("a mode");
        let stat = try_copy(top.path(), "to", None).expect("copied");
        let (old, new) = (fs::metadata(&from).expect("there"), fs::metadata(top.path().join("to")).expect("there"));
        assert_eq!((new.mode(), new.len()), (old.mode(), old.len()));
        assert_eq!((old.mode() & 0o7777, new.mtime(), new.mtime_nsec()), (0o1200, 1, 23));
        assert!(new.blocks() <= 64 && stat.ino == old.ino(), "{}", new.blocks());
        assert_eq!(try_copy(top.path(), "to", None), Err(Errno::EXIST));
        let attributes = Attributes { mode: 0o640, ..Attributes::of(&stat, Xattrs::new()) };
        try_copy(top.path(), "other", Some(&attributes)).expect("copied");
        assert_eq!(fs::metadata(top.path().join("other")).expect("there").mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(top.path()).expect("listed").count(), 3, "nothing else is left");
    }

    #[test]
    fn what_is_no_file_is_made_again_and_a_failure_leaves_nothing() {
        let top = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("no\u{e9}where", top.path().join("from")).expect("a link");
        try_copy(top.path(), "link", None).expect("copied");
        assert_eq!(fs::read_link(top.path().join("link")).expect("a link"), std::path::Path::new("no\u{e9}where"));
        let time = |name: &str| fs::symlink_metadata(top.path().join(name)).expect("there").modified().expect("a time");
        assert_eq!(time("link"), time("from"));
        assert_eq!(try_copy(top.path(), "link", None), Err(Errno::EXIST));
        fs::remove_file(top.path().join("from")).expect("removed");
        fs::create_dir(top.path().join("from")).expect("made");
        assert_eq!(try_copy(top.path(), "folder", None), Err(Errno::ISDIR));
        assert_eq!(try_copy(top.path(), &"x".repeat(256), None), Err(Errno::ISDIR));
        assert_eq!(fs::read_dir(top.path()).expect("listed").count(), 2, "nothing else is left");
    }
}
