//! Owns the reserved folder and the staging folder in it: their making, so that nobody else can write there, and their
//! removal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::taken::remove_stage;
use super::{PRIVATE, STAGE};
use crate::fs::root::{open_child, open_child_unmounted};
use crate::tree::exclude::RESERVED;
use crate::tree::history::JOURNAL;

/// Opens the reserved folder of a folder; it is made if it is missing.
///
/// # Errors
/// As of mkdirat(2) and openat(2).
pub fn open_reserved(top: BorrowedFd) -> Result<OwnedFd, Errno> {
    let reserved = make_folder(top, RESERVED)?;
    // What is built here is to have no ACL but its own.
    let _ = fs::fremovexattr(&reserved, c"system.posix_acl_default");
    Ok(reserved)
}

/// Whether a reserved folder holds a history.
pub(super) fn holds_history(reserved: BorrowedFd) -> bool {
    open_child(reserved, JOURNAL).is_ok()
}

/// Opens the staging folder in it, made likewise.
pub(super) fn open_stage(top: BorrowedFd) -> Result<OwnedFd, Errno> {
    make_folder(open_reserved(top)?.as_fd(), STAGE)
}

/// Removes the staging folder, but for what is in it and others', and the reserved folder if nothing else is in it. Returns
/// whether that is gone.
pub(super) fn remove_reserved(top: BorrowedFd) -> bool {
    let Ok(reserved) = open_child(top, RESERVED) else {
        return false;
    };
    let _ = remove_stage(top, reserved.as_fd());
    fs::unlinkat(top, RESERVED, AtFlags::REMOVEDIR).is_ok()
}

/// Whether what is open has not been removed.
pub fn is_there(open: &OwnedFd) -> bool {
    fs::fstat(open).is_ok_and(|stat| stat.st_nlink > 0)
}

/// Opens a folder of the program's own, made if it is missing. One that somebody else has made, or opened to others, is
/// taken over first: who may write where things are built could have any of them published.
fn make_folder(parent: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match fs::mkdirat(parent, name, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let folder = open_child_unmounted(parent, name)?;
    let now = fs::fstat(&folder)?;
    let owner = rustix::process::geteuid();
    if now.st_uid != owner.as_raw() {
        fs::fchown(&folder, Some(owner), None)?;
    }
    if now.st_uid != owner.as_raw() || now.st_mode & 0o077 != 0 {
        fs::fchmod(&folder, PRIVATE)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::root::Root;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_folder_that_was_opened_to_others_is_closed_before_it_is_used() {
        let top = tempfile::tempdir().expect("a folder");
        let reserved = top.path().join(".driftless");
        std::fs::create_dir(&reserved).expect("made");
        std::fs::set_permissions(&reserved, std::fs::Permissions::from_mode(0o777)).expect("a mode");
        let root = Root::open(top.path()).expect("a root");
        make_folder(root.fd(), RESERVED).expect("taken over");
        assert_eq!(std::fs::metadata(&reserved).expect("its stat").mode() & 0o7777, 0o700);
    }
}
