//! Owns asking the disk which folder this is (see `tree::identity`).

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::tree::entry::Time;
use crate::tree::identity::Identity;

/// Filesystems whose number in statfs(2) is made from the UUID on the disk; of others it is the device's, or nothing.
const WITH_VOLUME: [u64; 2] = [0xef53, 0x9123_683e];

/// Filesystems that may number their inodes anew at each mount, or as they are met: FAT, exFAT, FUSE, SMB in its three
/// numbers, 9p. There the kind of the filesystem has to do.
const RENUMBERED: [u64; 7] = [0x4d44, 0x2011_bab0, 0x6573_5546, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];

/// # Errors
/// As of fstat(2) and fstatfs(2).
pub fn of(folder: BorrowedFd) -> Result<Identity, Errno> {
    // The numbers are of 32 bits, whatever the type that holds them.
    let filesystem = fs::fstatfs(folder)?.f_type as u64 & 0xffff_ffff;
    let volume = WITH_VOLUME.contains(&filesystem).then(|| fs::fstatvfs(folder).map(|s| s.f_fsid)).transpose()?;
    let inode = if RENUMBERED.contains(&filesystem) { 0 } else { fs::fstat(folder)?.st_ino };
    Ok(Identity { inode, born: born(folder), filesystem, volume })
}

/// # Errors
/// As of open(2), besides.
pub fn of_path(path: &Path) -> Result<Identity, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = fs::openat(CWD, path, flags, Mode::empty())?;
    of(std::os::fd::AsFd::as_fd(&folder))
}

/// The folder that this one lies in, if both are on one filesystem and nothing is mounted here: a folder of the same
/// filesystem can be mounted as well, and be taken away.
pub fn above(folder: BorrowedFd, path: &Path) -> Option<Identity> {
    let parent = path.parent()?;
    let device = |stat: fs::Stat| stat.st_dev;
    let is_inside = fs::fstat(folder).map(device) == fs::stat(parent).map(device);
    (is_inside && !is_mounted(folder)).then(|| of_path(parent).ok()).flatten()
}

/// Whether this is where a mount begins; older kernels do not tell.
fn is_mounted(folder: BorrowedFd) -> bool {
    let stat = fs::statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// When it was made; not every filesystem keeps that, and not every kernel tells.
pub fn born(thing: BorrowedFd) -> Option<Time> {
    told(fs::statx(thing, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?)
}

/// The same of what has this name in a folder; a link is not followed.
pub fn born_at(folder: BorrowedFd, name: &[u8]) -> Option<Time> {
    told(fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?)
}

fn told(stat: fs::Statx) -> Option<Time> {
    let is_told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    is_told.then_some(Time { sec: stat.stx_btime.tv_sec, nsec: stat.stx_btime.tv_nsec })
}
