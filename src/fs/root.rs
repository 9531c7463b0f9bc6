//! Owns the only ways from a tree path to a system call: beneath a root's descriptor, never through a symbolic link.
//! It opens and stats; it does not list, copy or remove.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::tree::entry::{Kind, Seen, Stat, Time};
use crate::tree::path::RelPath;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The kernel takes paths below 4,096 bytes; longer ones are walked in parts.
const PART: usize = 4000;

/// One side of a pair.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    path: PathBuf,
    /// Where it is named by its filesystem: that name.
    name: Option<PathBuf>,
    dev: u64,
    ino: u64,
    /// The number of the mount that it was opened on, where the kernel tells: the same disk mounted again is another.
    mount: Option<u64>,
    has_openat2: AtomicBool,
    missing: bool,
}

impl Root {
    /// Opens a root. Links in `path` itself are followed: it is the user's.
    ///
    /// # Errors
    /// As of open(2); ENOTDIR for what is no folder.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let folder = fs::openat(CWD, path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())?;
        Self::of(folder, path.to_path_buf())
    }

    fn of(folder: OwnedFd, path: PathBuf) -> Result<Self, Errno> {
        let stat = fs::fstat(&folder)?;
        let has_openat2 = AtomicBool::new(true);
        let mount = mount_of(&folder, Path::new(""), AtFlags::EMPTY_PATH);
        Ok(Self { folder, path, name: None, dev: stat.st_dev, ino: stat.st_ino, mount, has_openat2, missing: false })
    }

    /// A folder of the tree as a root of its own.
    ///
    /// # Errors
    /// As of `open_folder`.
    pub fn below(&self, path: &RelPath) -> Result<Self, Errno> {
        Self::of(self.open_folder(path)?, path.to_path(&self.path))
    }

    /// A root that does not exist, or not yet: there is nothing in it, and nothing can be opened.
    ///
    /// # Errors
    /// As of open(2), for the file system's root.
    pub fn missing(path: &Path) -> Result<Self, Errno> {
        let nowhere = Self::open(Path::new("/"))?;
        Ok(Self { path: path.to_path_buf(), missing: true, ..nowhere })
    }

    /// The same, as what a person calls by this name: its path, or what `tree::tag` reads.
    pub fn named(self, name: &Path) -> Self {
        let name = (name != self.path).then(|| name.to_path_buf());
        Self { name, ..self }
    }

    /// What a person calls it, wherever it is now.
    pub fn name(&self) -> &Path {
        self.name.as_deref().unwrap_or(&self.path)
    }

    /// The number of the mount that it is on, where the kernel tells.
    pub fn mount(&self) -> Option<u64> {
        self.mount
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Whether there is no such folder, so that nothing in it can be opened.
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device of the root folder, as the kernel numbers it now.
    pub fn device(&self) -> u64 {
        self.dev
    }

    pub fn inode(&self) -> u64 {
        self.ino
    }

    /// Whether the path that this was opened by still leads to the same folder.
    pub fn is_in_place(&self) -> bool {
        let is_same = |s: fs::Stat| s.st_dev == self.dev && s.st_ino == self.ino;
        !self.missing
            && fs::statat(CWD, &self.path, AtFlags::empty()).is_ok_and(is_same)
            && mount_of(CWD, &self.path, AtFlags::empty()) == self.mount
    }

    /// Opens a folder of the tree for listing.
    ///
    /// # Errors
    /// As of openat2(2): ELOOP or ENOTDIR where a link or something else stands in the way.
    pub fn open_folder(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        if self.missing {
            return Err(Errno::NOENT);
        }
        let mut at: Option<OwnedFd> = None;
        let mut rest = path.as_bytes();
        while !rest.is_empty() {
            let (part, after) = first_part(rest);
            at = Some(self.open_below(at.as_ref().map_or(self.folder.as_fd(), |at| at.as_fd()), part)?);
            rest = after;
        }
        at.map_or_else(|| fs::openat(&self.folder, c".", FOLDER, Mode::empty()), Ok)
    }

    fn open_below(&self, at: BorrowedFd, part: &[u8]) -> Result<OwnedFd, Errno> {
        if self.has_openat2.load(Ordering::Relaxed) {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match fs::openat2(at, part, FOLDER, Mode::empty(), beneath) {
                // EPERM: a sandbox that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2.store(false, Ordering::Relaxed),
                // A rename during the walk; the walk by names cannot be disturbed by one.
                Err(Errno::AGAIN) => {}
                done => return done,
            }
        }
        let mut folder: Option<OwnedFd> = None;
        for name in part.split(|b| *b == b'/') {
            folder = Some(open_child(folder.as_ref().map_or(at, |f| f.as_fd()), name)?);
        }
        folder.ok_or(Errno::INVAL)
    }

    /// Looks at the entry of this name in `folder`.
    pub fn look(&self, folder: BorrowedFd, name: &[u8]) -> Result<Seen, Errno> {
        match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Ok(Seen::Present(self.convert(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Seen::Absent),
            Err(error) => Err(error),
        }
    }

    /// Whether a folder that is open is at this path in the tree.
    pub fn is_at(&self, folder: BorrowedFd, path: &RelPath) -> bool {
        let id = |folder: BorrowedFd| self.stat(folder).map(|stat| stat.id()).ok();
        self.open_folder(path).is_ok_and(|there| id(there.as_fd()).is_some_and(|there| Some(there) == id(folder)))
    }

    /// Looks at an entry by its path; absent if a folder above it is. ELOOP, a link in the way, is no answer.
    pub fn look_at(&self, path: &RelPath) -> Result<Seen, Errno> {
        let Some((parent, name)) = path.split() else {
            return Ok(Seen::Present(self.stat(self.fd())?));
        };
        match self.open_folder(&parent) {
            Ok(folder) => self.look(folder.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Seen::Absent),
            Err(error) => Err(error),
        }
    }

    /// The stat of what is open.
    pub fn stat(&self, fd: BorrowedFd) -> Result<Stat, Errno> {
        Ok(self.convert(&fs::fstat(fd)?))
    }

    fn convert(&self, stat: &fs::Stat) -> Stat {
        converted(stat, Some(self.dev))
    }
}

/// A stat in the words of the tree, whose root lies on the device `own`.
pub(in crate::fs) fn converted(stat: &fs::Stat, own: Option<u64>) -> Stat {
    Stat {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        mtime: Time { sec: stat.st_mtime, nsec: stat.st_mtime_nsec as u32 },
        ctime: Time { sec: stat.st_ctime, nsec: stat.st_ctime_nsec as u32 },
        dev: if Some(stat.st_dev) == own { 0 } else { stat.st_dev },
        ino: stat.st_ino,
        rdev: stat.st_rdev,
    }
}

fn mount_of(at: impl AsFd, path: &Path, flags: AtFlags) -> Option<u64> {
    let stat = fs::statx(at, path, flags, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id)
}

/// Opens a folder in a folder; never through a link.
///
/// # Errors
/// As of openat(2).
pub fn open_child(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(folder, name, FOLDER, Mode::empty())
}

/// Opens a folder in a folder, unless something is mounted there.
///
/// # Errors
/// As of openat2(2); EBUSY for a mount point, as of rmdir(2).
pub fn open_child_unmounted(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match fs::openat2(folder, name, FOLDER, Mode::empty(), beneath) {
        Err(Errno::XDEV) => Err(Errno::BUSY),
        // Without the call, or in a sandbox that does not know it, the device has to tell.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {
            let child = open_child(folder, name)?;
            let is_same = fs::fstat(&child)?.st_dev == fs::fstat(folder)?.st_dev;
            if is_same { Ok(child) } else { Err(Errno::BUSY) }
        }
        done => done,
    }
}

/// Opens a file in a folder for reading; never through a link, never waiting on a FIFO, without marking it as read
/// where that is allowed.
///
/// RACE: a FIFO or a device that took the file's place since it was looked at is opened for a moment, and nothing is
/// read from it.
///
/// # Errors
/// As of openat(2).
pub fn open_file(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match fs::openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(folder, name, flags, Mode::empty()),
        done => done,
    }
}

/// As many whole names as fit into one call, and the rest.
fn first_part(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PART {
        return (path, b"");
    }
    // A name has at most 255 bytes, so that there is a border within the part.
    match path[..PART].iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

pub(in crate::fs) fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}
