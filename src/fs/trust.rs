//! Owns what has to hold before an entry of the replica that was there before is changed where it is, or written into.
//! Other users may be able to write in the replica: an inode under one of its names need not be the replica's, nor does
//! a folder need to be the one that the program has made. It decides nothing, and it sets nothing but what closes.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use super::metadata::{CAPABILITY, Rights, Xattrs, is_inability, wanted_mode};
use crate::tree::entry::{Kind, Stat};

/// Whether making the attributes equal would give whoever runs the file the rights of its owner, its group or its
/// capabilities, which it has not got so far. That is for contents that the program has just written itself: in an
/// inode that was there before, somebody may still write through a descriptor or a mapping.
pub fn empowers(source: &Stat, replica: &Stat, wanted: &Xattrs, have: &Xattrs, rights: &Rights) -> bool {
    let moves = !rights.same_owner(source, replica);
    let uid = if rights.are_full() { source.uid } else { replica.uid };
    let gid = if rights.may_give_to(source.gid) { source.gid } else { replica.gid };
    let bits = wanted_mode(source, &Stat { uid, gid, ..*replica }) & 0o6000;
    let capability = wanted.get(CAPABILITY).filter(|_| rights.are_full());
    source.kind == Kind::File
        && ((bits != 0 && (moves || bits & !replica.mode != 0))
            || (capability.is_some() && (moves || capability != have.get(CAPABILITY))))
}

/// Takes back what `empowers` is about, from contents that are not for certain those that it belongs to.
///
/// # Errors
/// As of fchmod(2).
pub fn disempower(fd: BorrowedFd) -> Result<(), Errno> {
    let mode = fs::fstat(fd)?.st_mode & 0o7777;
    if mode & 0o6000 != 0 {
        fs::fchmod(fd, Mode::from_raw_mode(mode & 0o1777))?;
    }
    match fs::fremovexattr(fd, CAPABILITY) {
        Err(Errno::NODATA) => Ok(()),
        Err(error) if is_inability(error) => Ok(()),
        done => done,
    }
}

/// Whether a replica's file belongs to somebody whom the source's does not belong to, and who may have it open for
/// writing, so that changing its owner would vouch for what he writes.
pub fn is_foreign(source: &Stat, replica: &Stat, rights: &Rights) -> bool {
    rights.are_full() && replica.uid != source.uid && replica.uid != rights.uid()
}

/// Makes a replica's folder no more open than the source's before anything is written into it: who could write above
/// it may have put a folder of his own there, and its attributes are set last. Returns whether that changed it.
///
/// # Errors
/// What is neither a missing right nor a missing ability of the filesystem.
pub fn close_off(fd: BorrowedFd, source: &Stat, rights: &Rights) -> Result<bool, Errno> {
    let before = fs::fstat(fd)?;
    let (foreign, other_group, open) = openness(&before, source, rights);
    if !foreign && !other_group && !open {
        return Ok(false);
    }
    let mode = (before.st_mode & 0o7777) as u16;
    if foreign || other_group {
        let uid = foreign.then(|| Uid::from_raw(source.uid));
        let gid = rights.may_give_to(source.gid).then(|| Gid::from_raw(source.gid));
        match fs::fchown(fd, uid, gid) {
            Err(error) if is_inability(error) => {}
            done => done?,
        }
    }
    let closed = (mode & source.mode & 0o077) | (mode & 0o7000) | 0o700;
    match fs::fchmod(fd, Mode::from_raw_mode(u32::from(closed))) {
        Err(error) if is_inability(error) => {}
        done => done?,
    }
    let after = fs::fstat(fd)?;
    Ok((after.st_uid, after.st_gid, after.st_mode) != (before.st_uid, before.st_gid, before.st_mode))
}

/// Whether `close_off` would change the folder.
pub fn is_more_open(fd: BorrowedFd, source: &Stat, rights: &Rights) -> bool {
    fs::fstat(fd).is_ok_and(|now| {
        let (foreign, other_group, open) = openness(&now, source, rights);
        foreign || other_group || open
    })
}

/// Whether a folder belongs to somebody else, or to a group that may do something in it, or is open to more than the source's.
fn openness(folder: &fs::Stat, source: &Stat, rights: &Rights) -> (bool, bool, bool) {
    let (uid, gid, mode) = (folder.st_uid, folder.st_gid, (folder.st_mode & 0o7777) as u16);
    let foreign = rights.are_full() && uid != source.uid && uid != rights.uid();
    let other_group = gid != source.gid && rights.may_give_to(source.gid) && mode & 0o070 != 0;
    (foreign, other_group, mode & !source.mode & 0o077 != 0)
}

/// Whether what is open has no other name than this one. Asked by the name and after it was opened: an inode that had
/// its only name here at one moment since is the replica's, whatever links are made to it later.
///
/// # Errors
/// As of fstatat(2).
pub fn is_only_name(open: BorrowedFd, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
    let open = fs::fstat(open)?;
    let named = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Ok((named.st_dev, named.st_ino, named.st_nlink) == (open.st_dev, open.st_ino, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Time;

    fn stat(uid: u32, mode: u16) -> Stat {
        let (mtime, ctime) = (Time::default(), Time::default());
        let kind = Kind::File;
        Stat { kind, mode, uid, gid: 0, nlink: 1, size: 0, blocks: 0, mtime, ctime, dev: 0, ino: 1, rdev: 0 }
    }

    fn with_capability() -> Xattrs {
        Xattrs::from([(CAPABILITY.into(), b"value".as_slice().into())])
    }

    #[test]
    fn rights_of_the_owner_are_granted_where_they_were_not_held_before() {
        let (root, none) = (Rights::of(0, &[0]), Xattrs::new());
        let empowers = |source: &Stat, replica: &Stat| empowers(source, replica, &none, &none, &root);
        assert!(empowers(&stat(0, 0o4755), &stat(0, 0o755)));
        assert!(empowers(&stat(0, 0o2755), &stat(0, 0o4755)));
        assert!(empowers(&stat(0, 0o4755), &stat(7, 0o4755)), "the owner is another one so far");
        assert!(!empowers(&stat(0, 0o4755), &stat(0, 0o4711)));
        assert!(!empowers(&stat(0, 0o1755), &stat(7, 0o755)));
    }

    #[test]
    fn a_folder_is_closed_as_far_as_the_sources_is() {
        use std::os::fd::AsFd;
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let rights = Rights::of_this_process();
        let after = |source: u16, replica: u32| {
            let top = tempfile::tempdir().expect("a folder");
            std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(replica)).expect("a mode");
            let file = std::fs::File::open(top.path()).expect("opened");
            let own = file.metadata().expect("its stat");
            let source = Stat { kind: Kind::Directory, gid: own.gid(), ..stat(own.uid(), source) };
            let closed = close_off(file.as_fd(), &source, &rights).expect("closed");
            (closed, file.metadata().expect("its stat").mode() & 0o7777)
        };
        assert_eq!(after(0o700, 0o777), (true, 0o700));
        assert_eq!(after(0o750, 0o3757), (true, 0o3750));
        assert_eq!(after(0o711, 0o755), (true, 0o711));
        assert_eq!(after(0o755, 0o700), (false, 0o700), "it is opened when all is in it");
        assert_eq!(after(0o555, 0o755), (false, 0o755), "its owner has to write into it");
    }

    #[test]
    fn what_cannot_be_set_is_not_granted() {
        let (user, none) = (Rights::of(7, &[0]), Xattrs::new());
        assert!(!empowers(&stat(0, 0o4755), &stat(7, 0o755), &none, &none, &user), "it would be another owner's");
        assert!(empowers(&stat(7, 0o4755), &stat(7, 0o755), &none, &none, &user));
        assert!(!empowers(&stat(7, 0o755), &stat(7, 0o755), &with_capability(), &none, &user));
    }

    #[test]
    fn capabilities_are_granted_where_they_differ() {
        let (root, none, some) = (Rights::of(0, &[0]), Xattrs::new(), with_capability());
        assert!(empowers(&stat(0, 0o755), &stat(0, 0o755), &some, &none, &root));
        assert!(!empowers(&stat(0, 0o755), &stat(0, 0o644), &some, &some, &root));
        assert!(!empowers(&stat(0, 0o755), &stat(0, 0o755), &none, &some, &root));
    }
}
