//! Owns which folders of a tree lie together, so that things can be renamed and linked from one to another, where such a
//! part of the tree begins, and that the reserved folder there is nobody's. It moves nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, IFlags, StatxFlags};
use rustix::io::Errno;

use super::root::Root;
use crate::tree::exclude::RESERVED;
use crate::tree::path::RelPath;

/// STATX_SUBVOL of linux/stat.h: set since Linux 6.10, where the filesystem has subvolumes.
const SUBVOLUME: StatxFlags = StatxFlags::from_bits_retain(0x8000);

/// A filesystem as it is mounted in one place: even one and the same, mounted twice, refuses renames in between. A
/// subvolume of btrfs has a device number of its own, one of bcachefs a number only. Of the projects that quotas are set
/// for, which take nothing from outside, the number is not asked: one that lies directly in another is not told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    device: u64,
    /// Older kernels than 5.8 do not tell; a bind mount then looks like what it shows.
    mount: Option<u64>,
    subvolume: Option<u64>,
    is_project: bool,
}

/// How closely is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Projects are not looked for, which are rare and cost one more call.
    Rough,
    Close,
}

/// The volume that an open folder lies on.
///
/// # Errors
/// As of statx(2).
pub fn of(folder: BorrowedFd, look: Look) -> Result<Volume, Errno> {
    // Who does not know the flag has no projects.
    let inherits = || fs::ioctl_getflags(folder).is_ok_and(|flags| flags.contains(IFlags::PROJECT_INHERIT));
    let is_project = look == Look::Close && inherits();
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match fs::statx(folder, c"", flags, StatxFlags::MNT_ID | SUBVOLUME) {
        Ok(stat) => {
            let told = StatxFlags::from_bits_retain(stat.stx_mask);
            Ok(Volume {
                device: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                mount: told.contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id),
                subvolume: told.contains(SUBVOLUME).then_some(stat.stx_subvol),
                is_project,
            })
        }
        // EPERM: a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            Ok(Volume { device: fs::fstat(folder)?.st_dev, mount: None, subvolume: None, is_project })
        }
        Err(error) => Err(error),
    }
}

/// The uppermost folder above `path`, or this itself, from which on all lies on `volume`, which was found by `look`.
///
/// # Errors
/// As of openat2(2); ENOENT where `path` leads to another volume by now.
pub fn top(root: &Root, path: &RelPath, (volume, look): (Volume, Look)) -> Result<(OwnedFd, RelPath), Errno> {
    let mut top = (root.open_folder(path)?, path.clone());
    if of(top.0.as_fd(), look)? != volume {
        return Err(Errno::NOENT);
    }
    while let Some((parent, _)) = top.1.split() {
        let above = root.open_folder(&parent)?;
        if of(above.as_fd(), look)? != volume {
            break;
        }
        top = (above, parent);
    }
    Ok(top)
}

/// Whether this is the reserved folder of a filesystem that is mounted inside the replica. That of the replica's root is
/// known by its path alone.
pub fn is_reserved(replica: &Root, path: &RelPath) -> bool {
    // Asked of each entry, of which hardly any has the name.
    if !path.as_bytes().ends_with(RESERVED) || replica.is_missing() {
        return false;
    }
    let Some((parent, RESERVED)) = path.split() else { return false };
    let Some((above, _)) = parent.split() else { return false };
    let volume = |path| replica.open_folder(path).and_then(|folder| of(folder.as_fd(), Look::Close));
    match (volume(&parent), volume(&above)) {
        (Ok(own), Ok(above)) => own != above,
        // There is no such folder: nothing can be reserved in it.
        (Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP), _) => false,
        // Nobody can tell, so that it is left alone.
        _ => true,
    }
}

/// Whether this, or a folder above it, is such a reserved folder.
pub fn is_within_reserved(replica: &Root, path: &RelPath) -> bool {
    path.components().any(|name| name == RESERVED) && path.and_above().any(|path| is_reserved(replica, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn on_one_filesystem_the_root_is_the_top_and_nothing_else_is_reserved() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("a/b/.driftless/stage")).expect("made");
        let root = Root::open(folder.path()).expect("a root");
        let volume = of(root.fd(), Look::Close).expect("a volume");
        let (_, found) = top(&root, &path("a/b"), (volume, Look::Close)).expect("a top");
        assert!(found.is_root());
        assert!(!is_within_reserved(&root, &path("a/b/.driftless/stage")));
        assert!(!is_within_reserved(&root, &path("nowhere/.driftless")));
    }

    #[test]
    fn a_path_that_leads_elsewhere_has_no_top() {
        let (proc, dev) = (Root::open(std::path::Path::new("/proc")), Root::open(std::path::Path::new("/dev")));
        let (Ok(proc), Ok(dev)) = (proc, dev) else { return };
        let volume = of(proc.fd(), Look::Rough).expect("a volume");
        assert_eq!(top(&dev, &RelPath::root(), (volume, Look::Rough)).err(), Some(Errno::NOENT));
    }
}
