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
/// numbers, 9p. There the kind of the filesystem has to do. Their change times are not the kernel's either.
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

/// Whether a file's inode and times are what its filesystem makes up, or is told by another program or machine.
pub(super) fn is_borrowed(file: BorrowedFd) -> bool {
    fs::fstatfs(file).is_ok_and(|s| RENUMBERED.contains(&(s.f_type as u64 & 0xffff_ffff)))
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

/// Kinds of filesystems that have a folder of their own in /sys for each that is mounted, by the name of its device.
const TOLD: [&str; 4] = ["ext4", "xfs", "f2fs", "bcachefs"];
const BTRFS: u64 = 0x9123_683e;

/// Which mounting of its filesystem a folder is on: another text once its disk has been away, and may have come back without
/// what was written last. `None` where that cannot be told.
pub fn mounting(folder: BorrowedFd) -> Option<String> {
    let device = fs::fstat(folder).ok()?.st_dev;
    // The numbers of what lies in /sys are not used again.
    let number = |path: &Path| fs::stat(path).ok().map(|stat| stat.st_ino);
    let numbers = match fs::major(device) {
        0 if fs::fstatfs(folder).ok()?.f_type as u64 & 0xffff_ffff == BTRFS => {
            // Its device's name does not lead to it: all of them.
            let all = std::fs::read_dir("/sys/fs/btrfs").ok()?;
            let mut all: Vec<_> = all.filter_map(|entry| number(&entry.ok()?.path())).collect();
            all.sort_unstable();
            all
        }
        // Not a disk of this machine: what it has, it keeps.
        0 => Vec::new(),
        major => {
            let disk = Path::new("/sys/dev/block").join(format!("{major}:{}", fs::minor(device)));
            let name = std::fs::read_link(&disk).ok()?;
            let mounted = TOLD.map(|kind| Path::new("/sys/fs").join(kind).join(name.file_name().unwrap_or_default()));
            mounted.iter().chain([&disk]).filter_map(|path| number(path)).collect()
        }
    };
    Some(format!("{device} {numbers:?}"))
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
