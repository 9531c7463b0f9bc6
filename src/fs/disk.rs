//! Owns bringing files to disk: one by one, or together with their whole filesystem. It does not decide when, and never
//! tries twice: what a failed call has not written may be gone from memory too, and a second call would not tell.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs;
use rustix::io::Errno;

use super::root::Root;
use crate::tree::path::RelPath;

/// Up to this many files are brought to disk one by one, more with their whole filesystem. In milliseconds on a virtual
/// disk, new files of 4 KiB (of 256 KiB):
///
/// ```text
/// files         1          2          4          8         16         32
/// ext4  fsync   1.1 (1.0)  1.8 (2.3)  3.5 (4.7)  7.0 (8)   14 (16)    28 (41)
///       syncfs  1.2 (1.3)  1.2 (2.2)  1.3 (2.2)  1.6 (3.3)  2.1 (5.3)  2.6 (12)
/// xfs   fsync   0.6 (1.5)  1.6 (2.4)  2.7 (4.7)  4.8 (9.4)  10 (18)    23 (32)
///       syncfs  0.8 (1.5)  0.7 (1.7)  0.6 (2.3)  0.8 (3.4)  1.3 (5.3)  2.2 (7.0)
/// ```
///
/// syncfs also has to write what other programs have left in memory: two files are still cheaper alone than that may be.
pub const ONE_BY_ONE: usize = 2;

/// Filesystems whose syncfs hands what is in memory over to somebody else, who is not told to bring it to disk: FUSE,
/// SMB in its three numbers, 9p.
const HANDED_OVER: [u64; 5] = [0x6573_5546, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];

/// The replica's disk, as one thread sees it. The kernel tells of a failed write once for each time that the folder was
/// opened: threads that shared one descriptor would hide each other's failures. It is to be opened before what it is
/// asked for is written.
#[derive(Debug)]
pub struct Disk {
    whole: OwnedFd,
    takes_all: bool,
    /// The replica's own, where files may lie on others too, which are mounted inside it.
    device: Option<u64>,
}

/// Brings all of a root to disk, and what is mounted below it in these places.
///
/// # Errors
/// As of syncfs(2).
pub fn bring_all(root: &Root, mounts: &[RelPath]) -> Result<(), Errno> {
    let bring = |disk: BorrowedFd| match fs::syncfs(disk) {
        Err(Errno::NOSYS) => {
            fs::sync();
            Ok(())
        }
        done => done,
    };
    // One that is not there has nothing to be told.
    let mut mounts = mounts.iter().filter_map(|path| root.open_folder(path).ok());
    bring(root.fd()).and_then(|()| mounts.try_for_each(|mount| bring(mount.as_fd())))
}

impl Disk {
    /// `has_mounts`: other filesystems may be mounted inside the replica.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn open(replica: &Root, has_mounts: bool) -> Result<Self, Errno> {
        let whole = replica.open_folder(&RelPath::root())?;
        // The numbers are of 32 bits, whatever the type that holds them.
        let known = |s: fs::StatFs| !HANDED_OVER.contains(&(s.f_type as u64 & 0xffff_ffff));
        let takes_all = fs::fstatfs(&whole).is_ok_and(known);
        Ok(Self { whole, takes_all, device: has_mounts.then(|| replica.device()) })
    }

    /// Whether all that was written can be brought to disk without naming it.
    pub fn takes_all(&self) -> bool {
        self.takes_all
    }

    /// Brings these files to disk with all of their attributes; a file that is not open any more by `None`, which only a disk
    /// that takes all can do.
    ///
    /// # Errors
    /// As of fsync(2) and syncfs(2): then none of the files can be relied on. ENOSYS where there is nothing but fsync and not
    /// all files are open.
    pub fn bring(&self, files: &[Option<BorrowedFd>]) -> Result<(), Errno> {
        let are_open = files.iter().all(Option::is_some);
        if self.takes_all && (files.len() > ONE_BY_ONE || !are_open) {
            match fs::syncfs(&self.whole) {
                // A sandbox that does not know the call.
                Err(Errno::NOSYS) if are_open => {}
                Ok(()) => return files.iter().flatten().try_for_each(|file| self.bring_elsewhere(*file)),
                Err(error) => return Err(error),
            }
        }
        files.iter().try_for_each(|file| file.map_or(Err(Errno::NOSYS), fs::fsync))
    }

    /// Brings a file to disk that lies on another one.
    fn bring_elsewhere(&self, file: BorrowedFd) -> Result<(), Errno> {
        match self.device {
            Some(device) if fs::fstat(file)?.st_dev != device => fs::fsync(file),
            _ => Ok(()),
        }
    }
}
