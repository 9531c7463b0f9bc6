//! Owns the attributes beyond the contents: owner, mode, times, extended attributes, ACLs. One definition of what is
//! carried over, one of when two sides are equal, one order of setting them. It never decides which side is right.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::tree::entry::{Kind, Stat, Time};

/// Extended attributes by name, ACLs among them (`system.posix_acl_*`).
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What this process may set.
#[derive(Clone, Debug)]
pub struct Rights {
    uid: u32,
    privileged: bool,
    groups: Vec<u32>,
}

impl Rights {
    pub fn of_this_process() -> Self {
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect();
        groups.push(rustix::process::getegid().as_raw());
        let uid = rustix::process::geteuid();
        Self { uid: uid.as_raw(), privileged: uid.is_root(), groups }
    }

    #[cfg(test)]
    pub(super) fn of(uid: u32, groups: &[u32]) -> Self {
        Self { uid, privileged: uid == 0, groups: groups.to_vec() }
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether no mode keeps this process from anything.
    pub fn are_full(&self) -> bool {
        self.privileged
    }

    /// Whether it may give files to this group.
    pub fn may_give_to(&self, gid: u32) -> bool {
        self.privileged || self.groups.contains(&gid)
    }

    /// Whether the owners are equal as far as this process could make them so.
    pub fn same_owner(&self, source: &Stat, replica: &Stat) -> bool {
        (source.uid == replica.uid || !self.privileged) && (source.gid == replica.gid || !self.may_give_to(source.gid))
    }
}

/// The mode that the replica gets: that of the source, without the right to run as somebody whom the file does not belong to.
pub fn wanted_mode(source: &Stat, replica: &Stat) -> u16 {
    let mut mode = source.mode;
    if source.kind == Kind::File {
        if source.uid != replica.uid {
            mode &= !0o4000;
        }
        if source.gid != replica.gid {
            mode &= !0o2000;
        }
    }
    mode
}

/// Whether everything that a stat shows, apart from the size, is as it should be.
pub fn same_stat(source: &Stat, replica: &Stat, rights: &Rights) -> bool {
    source.mtime == replica.mtime && wanted_mode(source, replica) == replica.mode && rights.same_owner(source, replica)
}

/// What the replica's filesystem or this process's rights could not hold. Said once a kind, never an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub owner: bool,
    pub mode: bool,
    pub xattrs: bool,
    pub times: bool,
}

impl Lost {
    pub fn or(self, other: Lost) -> Lost {
        Lost {
            owner: self.owner || other.owner,
            mode: self.mode || other.mode,
            xattrs: self.xattrs || other.xattrs,
            times: self.times || other.times,
        }
    }
}

/// The carried extended attributes of what is open; none where the filesystem has none.
///
/// # Errors
/// As of flistxattr(2) and fgetxattr(2).
pub fn xattrs(fd: BorrowedFd) -> Result<Xattrs, Errno> {
    collect(|buffer| fs::flistxattr(fd, buffer), |name, buffer| fs::fgetxattr(fd, name, buffer))
}

/// Those of the source's open file, less what this process may not set: that is no difference to be mended.
///
/// # Errors
/// As of `xattrs`.
pub fn wanted_xattrs(fd: BorrowedFd, rights: &Rights) -> Result<Xattrs, Errno> {
    let mut wanted = xattrs(fd)?;
    if !rights.privileged {
        wanted.remove(CAPABILITY);
    }
    Ok(wanted)
}

/// All that are carried of an entry that cannot be opened: a link, a FIFO, a device.
///
/// # Errors
/// As of llistxattr(2) and lgetxattr(2).
pub fn xattrs_at(folder: BorrowedFd, name: &[u8]) -> Result<Xattrs, Errno> {
    let path = through_proc(folder, name);
    let path = path.as_slice();
    match collect(|buffer| fs::llistxattr(path, buffer), |name, buffer| fs::lgetxattr(path, name, buffer)) {
        // The path through /proc is longer than the kernel takes, or there is no /proc: what cannot hold user
        // attributes anyway is taken to have none.
        Err(Errno::NAMETOOLONG | Errno::NOENT) => Ok(Xattrs::new()),
        done => done,
    }
}

/// A path whose folder is a descriptor of this process, for calls that have no form with one.
fn through_proc(folder: BorrowedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat()
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Xattrs, Errno> {
    let mut found = Xattrs::new();
    let names = match grown(&list) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(found),
        Err(error) => return Err(error),
    };
    for name in names.split(|b| *b == 0).filter(|n| is_carried(n)) {
        match grown(&|buffer: &mut [u8]| get(name, buffer)) {
            Ok(value) => {
                found.insert(name.into(), value.into());
            }
            // Removed between the list and now.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Calls with a buffer that grows until the answer fits.
fn grown(call: &dyn Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0u8; 512];
    match call(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut buffer = vec![0; 64 << 10];
    let length = call(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || name == b"security.capability"
        // As xfs shows its ACLs a second time.
        || (name.starts_with(b"trusted.")
            && !name.starts_with(b"trusted.overlay.")
            && !name.starts_with(b"trusted.SGI_"))
}

/// Makes the attributes of the open file or folder those of `source`. `now` is its present stat, `have` are its extended
/// attributes where they are known.
///
/// The order matters: a change of owner clears setuid and capabilities, an ACL changes the mode, and everything
/// changes the times of something.
///
/// # Errors
/// What is neither a missing right nor a missing ability of the filesystem.
pub fn apply(
    fd: BorrowedFd,
    source: &Stat,
    wanted: &Xattrs,
    (now, have): (&Stat, Option<&Xattrs>),
    rights: &Rights,
) -> Result<Lost, Errno> {
    let read;
    let have = match have {
        Some(known) => known,
        None => {
            read = xattrs(fd)?;
            &read
        }
    };
    let mut lost = Lost::default();
    let mut now = *now;
    let had = now;
    if !rights.same_owner(source, &now) {
        lost.owner = !set_owner(|u, g| fs::fchown(fd, u, g), source, &mut now, rights)?;
    }
    let mut lifted = false;
    let acl_changed = match set_xattrs(fd, wanted, have, &mut lost) {
        // Who owns a file that is read-only may give himself the right; the mode is set below.
        Err(Errno::ACCESS) => {
            fs::fchmod(fd, Mode::from_raw_mode(u32::from(had.mode) | 0o200))?;
            lifted = true;
            set_xattrs(fd, wanted, &xattrs(fd)?, &mut lost)?
        }
        done => done?,
    };
    let mode = wanted_mode(source, &now);
    if lifted || mode != had.mode || (had.uid, had.gid) != (now.uid, now.gid) || acl_changed {
        match fs::fchmod(fd, Mode::from_raw_mode(u32::from(mode))) {
            Err(error) if is_inability(error) => lost.mode = true,
            done => done?,
        }
    }
    if let Some(capability) = wanted.get(CAPABILITY) {
        let may = (now.uid, now.gid) == (source.uid, source.gid);
        let set = || fs::fsetxattr(fd, CAPABILITY, capability, XattrFlags::empty());
        match if may { set() } else { Err(Errno::PERM) } {
            Err(error) if is_inability(error) => lost.xattrs = true,
            done => done?,
        }
    }
    match fs::futimens(fd, &times(source.mtime)) {
        Err(error) if is_inability(error) => lost.times = true,
        done => done?,
    }
    Ok(lost)
}

pub const CAPABILITY: &[u8] = b"security.capability";

/// Sets what differs and removes what the source has not. Returns whether an ACL, and so perhaps the mode, changed.
fn set_xattrs(fd: BorrowedFd, wanted: &Xattrs, have: &Xattrs, lost: &mut Lost) -> Result<bool, Errno> {
    let mut acl_changed = false;
    for name in have.keys().filter(|n| !wanted.contains_key(*n)) {
        match fs::fremovexattr(fd, &**name) {
            Err(error) if is_inability(error) => lost.xattrs = true,
            Err(Errno::NODATA) => {}
            done => done?,
        }
        acl_changed |= name.starts_with(b"system.");
    }
    for (name, value) in wanted.iter().filter(|(name, value)| &***name != CAPABILITY && have.get(*name) != Some(*value))
    {
        match fs::fsetxattr(fd, &**name, value, XattrFlags::empty()) {
            Err(error) if is_inability(error) => lost.xattrs = true,
            done => done?,
        }
        acl_changed |= name.starts_with(b"system.");
    }
    Ok(acl_changed)
}

/// Makes the attributes of a link or special file, in a folder that no one else writes to, those of `source`.
///
/// # Errors
/// What is neither a missing right nor a missing ability of the filesystem.
pub fn apply_at(
    folder: BorrowedFd,
    name: &[u8],
    source: &Stat,
    wanted: &Xattrs,
    now: &Stat,
    rights: &Rights,
) -> Result<Lost, Errno> {
    let mut lost = Lost::default();
    let mut now = *now;
    if !rights.same_owner(source, &now) {
        let own = |u, g| fs::chownat(folder, name, u, g, AtFlags::SYMLINK_NOFOLLOW);
        lost.owner = !set_owner(own, source, &mut now, rights)?;
    }
    for (key, value) in wanted {
        match fs::lsetxattr(through_proc(folder, name).as_slice(), &**key, value, XattrFlags::empty()) {
            Err(error) if is_inability(error) => lost.xattrs = true,
            done => done?,
        }
    }
    if source.kind != Kind::Symlink {
        let mode = Mode::from_raw_mode(u32::from(wanted_mode(source, &now)));
        match fs::chmodat(folder, name, mode, AtFlags::empty()) {
            Err(error) if is_inability(error) => lost.mode = true,
            done => done?,
        }
    }
    match fs::utimensat(folder, name, &times(source.mtime), AtFlags::SYMLINK_NOFOLLOW) {
        Err(error) if is_inability(error) => lost.times = true,
        done => done?,
    }
    Ok(lost)
}

/// Whether all of the owner that can be set was set; `now` says what holds afterwards.
fn set_owner(
    own: impl Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    source: &Stat,
    now: &mut Stat,
    rights: &Rights,
) -> Result<bool, Errno> {
    let uid = (rights.privileged && source.uid != now.uid).then(|| Uid::from_raw(source.uid));
    let gid = (source.gid != now.gid && rights.may_give_to(source.gid)).then(|| Gid::from_raw(source.gid));
    match own(uid, gid) {
        Ok(()) => {
            now.uid = uid.map_or(now.uid, |u| u.as_raw());
            now.gid = gid.map_or(now.gid, |g| g.as_raw());
            Ok(true)
        }
        Err(error) if is_inability(error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn is_inability(error: Errno) -> bool {
    matches!(error, Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::OVERFLOW)
}

/// An mtime that is set alone is told as a write of the contents (inotify(7), IN_MODIFY), which where both sides are watched
/// would put the program's own work in doubt; with the access time it is told as what it is.
fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        last_modification: Timespec { tv_sec: mtime.sec, tv_nsec: mtime.nsec as _ },
    }
}

/// Opens a file or folder of the replica to read and set its attributes, lifting for a moment a mode that keeps its
/// owner from doing so. The caller sets the mode afterwards in any case.
///
/// # Errors
/// As of openat(2). EMLINK for a file with several names: whether they are all the replica's is not known here, and the
/// mode is that of all of them.
pub fn open_for_change(folder: BorrowedFd, name: &[u8], kind: Kind) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if kind == Kind::Directory {
        flags |= OFlags::DIRECTORY;
    }
    match fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let handle = fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            if kind == Kind::File && !super::trust::is_only_name(handle.as_fd(), folder, name)? {
                return Err(Errno::MLINK);
            }
            let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
            fs::chmod(&path, Mode::from_raw_mode(0o700))?;
            fs::openat(folder, name, flags, Mode::empty())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_filesystem_s_own_is_not_carried() {
        for carried in ["user.a", "system.posix_acl_access", "security.capability", "trusted.a"] {
            assert!(is_carried(carried.as_bytes()), "{carried}");
        }
        for own in
            ["trusted.overlay.opaque", "trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT", "security.selinux", "user"]
        {
            assert!(!is_carried(own.as_bytes()), "{own}");
        }
    }

    fn stat(uid: u32, gid: u32, mode: u16) -> Stat {
        let kind = Kind::File;
        let (mtime, ctime) = (Time::default(), Time::default());
        Stat { kind, mode, uid, gid, nlink: 1, size: 0, blocks: 0, mtime, ctime, dev: 0, ino: 1, rdev: 0 }
    }

    #[test]
    fn setuid_goes_only_to_files_of_the_same_owner() {
        assert_eq!(wanted_mode(&stat(0, 0, 0o6755), &stat(0, 0, 0)), 0o6755);
        assert_eq!(wanted_mode(&stat(0, 0, 0o6755), &stat(1000, 0, 0)), 0o2755);
        assert_eq!(wanted_mode(&stat(0, 0, 0o6755), &stat(1000, 1000, 0)), 0o755);
        assert_eq!(wanted_mode(&stat(0, 0, 0o1755), &stat(1000, 1000, 0)), 0o1755);
    }

    #[test]
    fn an_owner_that_cannot_be_given_is_no_difference() {
        let user = Rights { uid: 1000, privileged: false, groups: vec![5] };
        assert!(user.same_owner(&stat(0, 0, 0), &stat(1000, 1000, 0)));
        assert!(!user.same_owner(&stat(0, 5, 0), &stat(1000, 1000, 0)));
        let root = Rights { uid: 0, privileged: true, groups: vec![0] };
        assert!(!root.same_owner(&stat(1, 0, 0), &stat(0, 0, 0)));
    }
}
