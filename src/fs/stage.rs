//! Owns building things unseen and publishing them under their name in one step. Staged things lie in the reserved
//! folder, or have no name at all until they are published. It does not decide what is published, nor when.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::remove;
use super::root::{Root, open_child, open_child_unmounted};
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::exclude::RESERVED;

const STAGE: &[u8] = b"stage";
const PRIVATE: Mode = Mode::from_raw_mode(0o700);

/// Where a replica's things are built. The reserved folder is made when it is first needed.
#[derive(Debug)]
pub struct Stage {
    folder: Mutex<Option<std::sync::Arc<OwnedFd>>>,
    next: AtomicU64,
    has_tmpfile: AtomicBool,
    was_made: AtomicBool,
}

/// A file that is being built.
#[derive(Debug)]
pub struct StagedFile {
    fd: OwnedFd,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Nameless,
    Staged(Staged),
    /// Under its own name, in a folder that is staged itself.
    Within(Staged),
}

/// A thing with a name in the staging folder. What is not published must be discarded.
#[derive(Debug)]
pub struct Staged {
    stage: std::sync::Arc<OwnedFd>,
    name: Vec<u8>,
}

/// How a publication ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Yes,
    /// The name does not show what the plan was made from; nothing was done.
    Changed,
}

impl StagedFile {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it is published with its folder.
    pub fn is_within(&self) -> bool {
        matches!(self.place, Place::Within(_))
    }

    /// Its descriptor, for who publishes it with its folder.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl Stage {
    pub fn new() -> Self {
        Self {
            folder: Mutex::new(None),
            next: AtomicU64::new(0),
            has_tmpfile: AtomicBool::new(true),
            was_made: AtomicBool::new(false),
        }
    }

    fn folder(&self, root: &Root) -> Result<std::sync::Arc<OwnedFd>, Errno> {
        let mut folder = self.folder.lock().unwrap_or_else(|e| e.into_inner());
        // Somebody may have removed it; then it is made again.
        if let Some(open) = folder.as_ref().filter(|open| fs::fstat(open).is_ok_and(|s| s.st_nlink > 0)) {
            return Ok(open.clone());
        }
        let reserved = make_folder(root.fd(), RESERVED)?;
        self.was_made.store(true, Ordering::Relaxed);
        // What is built here is to have no ACL but its own.
        let _ = fs::fremovexattr(&reserved, c"system.posix_acl_default");
        let stage = std::sync::Arc::new(make_folder(reserved.as_fd(), STAGE)?);
        *folder = Some(stage.clone());
        Ok(stage)
    }

    /// Whether the reserved folder has come into being since the last time this was asked: the root's times have moved.
    pub fn has_moved_root(&self) -> bool {
        self.was_made.swap(false, Ordering::Relaxed)
    }

    /// Makes something under a name that nothing has, not even what an interrupted run left and nobody could remove.
    fn fresh<T>(&self, make: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), Errno> {
        loop {
            let name = self.next.fetch_add(1, Ordering::Relaxed).to_string().into_bytes();
            match make(&name) {
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (made, name)),
            }
        }
    }

    /// An empty file for a name in `target` that does not exist (`new`), or does.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn file(&self, root: &Root, target: BorrowedFd, new: bool) -> Result<StagedFile, Errno> {
        if new && self.has_tmpfile.load(Ordering::Relaxed) {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match fs::openat(target, c".", flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => return Ok(StagedFile { fd, place: Place::Nameless }),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                    self.has_tmpfile.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        let stage = self.folder(root)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (fd, name) = self.fresh(|name| fs::openat(&stage, name, flags, Mode::from_raw_mode(0o600)))?;
        Ok(StagedFile { fd, place: Place::Staged(Staged { stage, name }) })
    }

    /// An empty file named `name` in a folder that is staged itself: it is published with the folder. It gets `mode`, less
    /// what the process's mask takes away.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn file_within(&self, folder: &std::sync::Arc<OwnedFd>, name: &[u8], mode: u16) -> Result<StagedFile, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(folder, name, flags, Mode::from_raw_mode(u32::from(mode)))?;
        Ok(StagedFile { fd, place: Place::Within(Staged { stage: folder.clone(), name: name.into() }) })
    }

    /// A link, FIFO, socket or device, with the default attributes.
    ///
    /// # Errors
    /// As of symlinkat(2) and mknodat(2).
    pub fn special(&self, root: &Root, kind: Kind, target: &[u8], rdev: u64) -> Result<Staged, Errno> {
        let stage = self.folder(root)?;
        let node = |name: &[u8], file_type| fs::mknodat(&stage, name, file_type, Mode::from_raw_mode(0o600), rdev);
        let ((), name) = self.fresh(|name| match kind {
            Kind::Symlink => fs::symlinkat(target, &stage, name),
            Kind::Directory => fs::mkdirat(&stage, name, PRIVATE),
            Kind::Fifo => node(name, FileType::Fifo),
            Kind::Socket => node(name, FileType::Socket),
            Kind::CharDevice => node(name, FileType::CharacterDevice),
            Kind::BlockDevice => node(name, FileType::BlockDevice),
            Kind::File => node(name, FileType::RegularFile),
        })?;
        Ok(Staged { stage, name })
    }

    /// Another name for `name` in `folder`, staged.
    ///
    /// # Errors
    /// As of linkat(2).
    pub fn link(&self, root: &Root, folder: BorrowedFd, name: &[u8]) -> Result<Staged, Errno> {
        let stage = self.folder(root)?;
        let ((), name) = self.fresh(|fresh| fs::linkat(folder, name, &stage, fresh, AtFlags::empty()))?;
        Ok(Staged { stage, name })
    }

    /// Publishes a file as `name` in `folder`, where the plan was made from `expected`.
    ///
    /// # Errors
    /// As of linkat(2) and renameat2(2).
    pub fn publish_file(
        &self,
        root: &Root,
        file: StagedFile,
        folder: BorrowedFd,
        name: &[u8],
        expected: Option<&Stat>,
    ) -> Result<(Published, OwnedFd), Errno> {
        let published = match file.place {
            Place::Staged(staged) => self.publish(root, staged, folder, name, expected)?,
            Place::Nameless if expected.is_none() => match link_open(file.fd.as_fd(), folder, name) {
                Ok(()) => Published::Yes,
                Err(Errno::EXIST) => Published::Changed,
                Err(error) => return Err(error),
            },
            Place::Nameless | Place::Within(_) => return Err(Errno::INVAL),
        };
        Ok((published, file.fd))
    }

    /// Publishes a staged thing as `name` in `folder`, where the plan was made from `expected`.
    ///
    /// RACE: what is at the name is looked at and then replaced; somebody who writes there in between loses that write.
    ///
    /// # Errors
    /// As of renameat2(2). The staged thing is gone in any case.
    pub fn publish(
        &self,
        root: &Root,
        staged: Staged,
        folder: BorrowedFd,
        name: &[u8],
        expected: Option<&Stat>,
    ) -> Result<Published, Errno> {
        let result = publish_named(root, &staged, folder, name, expected);
        if !matches!(result, Ok(Published::Yes)) || expected.is_some_and(|e| e.kind == Kind::Directory) {
            staged.discard(root);
        }
        result
    }

    /// Removes what an earlier run left, if anything.
    ///
    /// # Errors
    /// As of unlinkat(2).
    pub fn clear_leftovers(&self, root: &Root) -> Result<bool, Errno> {
        match open_child(root.fd(), RESERVED) {
            Ok(reserved) => {
                remove::tree(reserved.as_fd(), STAGE)?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the staging folder, and the reserved folder if nothing else is in it. Returns whether the root changed.
    pub fn close(&self, root: &Root) -> bool {
        self.folder.lock().unwrap_or_else(|e| e.into_inner()).take();
        let Ok(reserved) = open_child(root.fd(), RESERVED) else {
            return false;
        };
        let _ = remove::tree(reserved.as_fd(), STAGE);
        fs::unlinkat(root.fd(), RESERVED, AtFlags::REMOVEDIR).is_ok()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Staged {
    pub fn folder(&self) -> BorrowedFd<'_> {
        (*self.stage).as_fd()
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Removes it, unpublished. Failures are left for the next start's cleaning.
    pub fn discard(self, root: &Root) {
        if let Ok(Seen::Present(_)) = root.look(self.folder(), &self.name) {
            let _ = remove::tree(self.folder(), &self.name);
        }
    }
}

impl StagedFile {
    pub fn discard(self, root: &Root) {
        match self.place {
            Place::Nameless => {}
            Place::Staged(staged) | Place::Within(staged) => staged.discard(root),
        }
    }
}

fn publish_named(
    root: &Root,
    staged: &Staged,
    folder: BorrowedFd,
    name: &[u8],
    expected: Option<&Stat>,
) -> Result<Published, Errno> {
    let from = staged.name.as_slice();
    match (expected, root.look(folder, name)?) {
        (None, Seen::Absent) => match fs::renameat_with(staged.folder(), from, folder, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(Published::Changed),
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::renameat(staged.folder(), from, folder, name).map(|()| Published::Yes)
            }
            done => done.map(|()| Published::Yes),
        },
        (Some(expected), Seen::Present(now)) if expected.kind == Kind::Directory && now.id() == expected.id() => {
            exchange(root, staged, folder, name, expected)
        }
        (Some(expected), Seen::Present(now)) if expected.stamp() == now.stamp() => {
            let becomes_folder = root.look(staged.folder(), from)?.stat().is_some_and(|s| s.kind == Kind::Directory);
            if becomes_folder {
                if exchange(root, staged, folder, name, expected)? == Published::Changed {
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

/// Puts what is staged in the place of `expected`, which lies under the staged name then.
fn exchange(
    root: &Root,
    staged: &Staged,
    folder: BorrowedFd,
    name: &[u8],
    expected: &Stat,
) -> Result<Published, Errno> {
    let from = staged.name.as_slice();
    match fs::renameat_with(staged.folder(), from, folder, name, RenameFlags::EXCHANGE) {
        // RACE: without the call the name is missing for a moment, and a crash there leaves it so until the next pass.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let aside = [from, b".old"].concat();
            fs::renameat(folder, name, staged.folder(), aside.as_slice())?;
            if let Err(error) = fs::renameat(staged.folder(), from, folder, name) {
                // What was there is put back rather than lost.
                fs::renameat(staged.folder(), aside.as_slice(), folder, name)?;
                return Err(error);
            }
            fs::renameat(staged.folder(), aside.as_slice(), staged.folder(), from)?;
        }
        done => done?,
    }
    // What came there since it was looked at is nobody's to remove: it goes back.
    if root.look(staged.folder(), from)?.stat().map(Stat::id) != Some(expected.id()) {
        fs::renameat_with(staged.folder(), from, folder, name, RenameFlags::EXCHANGE)?;
        return Ok(Published::Changed);
    }
    Ok(Published::Yes)
}

/// Gives a file without a name its name.
fn link_open(fd: BorrowedFd, folder: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match fs::linkat(fd, c"", folder, name, AtFlags::EMPTY_PATH) {
        // Older kernels ask for a capability here.
        Err(Errno::NOENT | Errno::PERM) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fs::linkat(CWD, &path, folder, name, AtFlags::SYMLINK_FOLLOW)
        }
        done => done,
    }
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

    #[test]
    fn what_came_in_the_place_of_a_folder_meanwhile_goes_back() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        std::fs::create_dir_all(top.path().join("precious/deep")).expect("made");
        std::fs::create_dir(top.path().join("known")).expect("made");
        let look = |name: &[u8]| *root.look(root.fd(), name).expect("a look").stat().expect("it is there");
        let (precious, known) = (look(b"precious"), look(b"known"));
        let stage = Stage::new();
        let staged = stage.special(&root, Kind::Symlink, b"nowhere", 0).expect("staged");
        let done = exchange(&root, &staged, root.fd(), b"precious", &known).expect("no error");
        assert_eq!((done, look(b"precious").id()), (Published::Changed, precious.id()));
        let done = exchange(&root, &staged, root.fd(), b"known", &known).expect("no error");
        assert_eq!((done, look(b"known").kind), (Published::Yes, Kind::Symlink));
    }
}
