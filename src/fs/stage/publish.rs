//! Owns the step that gives what is staged its name, if the name still shows what was expected there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, CWD};
use rustix::io::Errno;

use super::put_back::{put_back, swap};
use super::{Keep, Published, Staged};
use crate::fs::metadata;
use crate::fs::remove::make_writable;
use crate::fs::rename;
use crate::fs::root::Root;
use crate::fs::volume::{self, Look};
use crate::tree::entry::{Kind, Seen, Stat};

/// `ours`: what is staged, where others work at the name too.
pub(super) fn publish_named(
    root: &Root,
    staged: &Staged,
    (folder, name): (BorrowedFd, &[u8]),
    (expected, ours): (Option<&Stat>, Option<&Stat>),
    keep: Keep,
) -> Result<Published, Errno> {
    let from = staged.name.as_slice();
    let Some(expected) = expected else {
        let is_done = rename::to_free_name(root, (staged.folder(), from), (folder, name))?;
        return Ok(if is_done { Published::Yes } else { Published::Changed });
    };
    match root.look(folder, name)? {
        Seen::Present(now) if expected.kind == Kind::Directory && now.id() == expected.id() => {
            let done = match exchange(root, staged, (folder, name), (expected, ours)) {
                // A folder goes elsewhere only if its owner may write in it.
                Err(Errno::ACCESS) => {
                    let replaced = metadata::open_for_change(folder, name, Kind::Directory)?;
                    make_writable(replaced.as_fd())?;
                    exchange(root, staged, (folder, name), (expected, ours))?
                }
                done => done?,
            };
            let Some(ours) = ours.filter(|_| done == Published::Yes) else { return Ok(done) };
            match fs::unlinkat(staged.folder(), from, AtFlags::REMOVEDIR) {
                // Something has come into it.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    put_back(root, staged, (folder, name), ours).map(|()| Published::Changed)
                }
                removed => removed.map(|()| Published::Yes),
            }
        }
        Seen::Present(now) if expected.stamp() == now.stamp() => {
            keep()?;
            let is_folder = |seen: Seen| seen.stat().is_some_and(|s| s.kind == Kind::Directory);
            if ours.is_some() || is_folder(root.look(staged.folder(), from)?) {
                if exchange(root, staged, (folder, name), (expected, ours))? == Published::Changed {
                    return Ok(Published::Changed);
                }
                // Under the staged name lies now what was replaced.
                fs::unlinkat(staged.folder(), from, AtFlags::empty())?;
                return Ok(Published::Yes);
            }
            fs::renameat(staged.folder(), from, folder, name).map(|()| Published::Yes)
        }
        _ => Ok(Published::Changed),
    }
}

/// Whether what is staged lies in another project than the folder that it is for.
pub(super) fn is_apart(staged: &Staged, folder: BorrowedFd) -> bool {
    let volumes = volume::of(staged.folder(), Look::Close).and_then(|own| Ok((own, volume::of(folder, Look::Close)?)));
    volumes.is_ok_and(|(own, other)| own != other)
}

/// Puts what is staged in the place of `expected`, which lies under the staged name then.
fn exchange(
    root: &Root,
    staged: &Staged,
    (folder, name): (BorrowedFd, &[u8]),
    (expected, ours): (&Stat, Option<&Stat>),
) -> Result<Published, Errno> {
    match swap(root, staged, (folder, name)) {
        Err(Errno::EXIST) => return Ok(Published::Changed),
        done => done?,
    }
    let is_expected = |now: &Stat| match now.kind {
        Kind::Directory => now.id() == expected.id(),
        _ => now.stamp().same_contents_if_explained(&expected.stamp()),
    };
    if root.look(staged.folder(), &staged.name)?.stat().is_some_and(is_expected) {
        return Ok(Published::Yes);
    }
    // What came there since it was looked at is nobody's to remove: it goes back.
    match ours {
        Some(ours) => put_back(root, staged, (folder, name), ours)?,
        None => swap(root, staged, (folder, name))?,
    }
    Ok(Published::Changed)
}

/// Gives a file without a name its name.
pub(in crate::fs) fn link_open(fd: BorrowedFd, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::linkat(fd, c"", folder, name, AtFlags::EMPTY_PATH) {
        // Older kernels ask for a capability here.
        Err(Errno::NOENT | Errno::PERM) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fs::linkat(CWD, &path, folder, name, AtFlags::SYMLINK_FOLLOW)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::stage::{Stage, Target};
    use crate::tree::path::RelPath;

    #[test]
    fn what_came_in_the_place_of_a_folder_meanwhile_goes_back() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        std::fs::create_dir_all(top.path().join("precious/deep")).expect("made");
        std::fs::create_dir(top.path().join("known")).expect("made");
        let look = |name: &[u8]| *root.look(root.fd(), name).expect("a look").stat().expect("it is there");
        let (precious, known) = (look(b"precious"), look(b"known"));
        let stage = Stage::new();
        let target = Target { folder: root.fd(), path: &RelPath::root() };
        let staged = stage.special(&root, &target, Kind::Symlink, b"nowhere", 0).expect("staged");
        let done = exchange(&root, &staged, (root.fd(), b"precious"), (&known, None)).expect("no error");
        assert_eq!((done, look(b"precious").id()), (Published::Changed, precious.id()));
        let done = exchange(&root, &staged, (root.fd(), b"known"), (&known, None)).expect("no error");
        assert_eq!((done, look(b"known").kind), (Published::Yes, Kind::Symlink));
    }
}
