//! Owns building things unseen and publishing them under their name in one step. Staged things lie in the reserved
//! folder of the filesystem that they are for, or have no name at all until they are published. It does not decide what
//! is published, nor when.

mod folder;
mod nested;
mod publish;
mod put_back;
mod taken;

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::remove;
use super::root::{Root, open_child};
use super::volume::{self, Look, Volume};
use crate::tree::entry::{Kind, Seen, Stamp, Stat};
use crate::tree::exclude::RESERVED;
use crate::tree::path::RelPath;
use folder::holds_history;
pub use folder::{is_there, open_reserved};
use folder::{open_stage, remove_reserved};
use nested::Nested;
pub(in crate::fs) use publish::link_open;
use publish::{is_apart, publish_named};
use taken::remove_stage;
pub(in crate::fs) use taken::{keep_others, taken_name};

const STAGE: &[u8] = b"stage";
const PRIVATE: Mode = Mode::from_raw_mode(0o700);

/// Where a replica's things are built. A reserved folder is made when it is first needed.
#[derive(Debug, Default)]
pub struct Stage {
    /// Where the root lies, by a rough look and by a close one.
    own: [OnceLock<Volume>; 2],
    /// Others work in the replica: what has a name at the very moment of its replacement is looked at once more.
    others_write: bool,
    /// There are projects in the replica.
    has_projects: AtomicBool,
    /// Folders that are filled cannot be published.
    no_unseen: AtomicBool,
    folder: Mutex<Option<Arc<OwnedFd>>>,
    nested: Nested,
    next: AtomicU64,
    /// Where files without a name cannot be had.
    no_tmpfile: Mutex<HashSet<Volume>>,
    /// Whether that is anywhere.
    lacks_tmpfile: AtomicBool,
    was_made: AtomicBool,
}

/// The folder of the replica that something is built for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub folder: BorrowedFd<'a>,
    /// Its path, to find the top of a filesystem that is mounted inside the replica. It is not relied on.
    pub path: &'a RelPath,
}

/// Keeps what is about to be replaced. It is called when that is known to be what was expected.
pub type Keep<'a> = &'a dyn Fn() -> Result<(), Errno>;

/// Keeps nothing.
pub fn nothing() -> Result<(), Errno> {
    Ok(())
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
    stage: Arc<OwnedFd>,
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
        Self::default()
    }

    /// One for a folder in which others work too.
    pub fn shared() -> Self {
        Self { others_write: true, ..Self::default() }
    }

    /// A pass begins.
    pub fn enter(&self) {
        self.nested.enter();
    }

    /// A pass has ended, and discarded or published all that it had staged. Returns the folders whose lists have changed and
    /// changed back: those in which staging folders were that nobody needs any more.
    pub fn leave(&self) -> Vec<RelPath> {
        self.nested.leave()
    }

    /// Takes over what an interrupted run has left at the top of a filesystem that is mounted inside the replica, so that
    /// it goes when the passes end. Returns whether something was found there that is not in use.
    pub fn adopt(&self, root: &Root, target: &Target) -> bool {
        // What is neither empty nor holds a staging folder is not the program's.
        let is_left = open_child(target.folder, RESERVED).is_ok_and(|reserved| {
            open_child(reserved.as_fd(), STAGE).is_ok()
                || fs::unlinkat(target.folder, RESERVED, AtFlags::REMOVEDIR).is_ok()
        });
        is_left
            && self.nested_of(root, target, Look::Close).is_ok_and(|nested| {
                nested.is_some_and(|at| self.nested.folder(root, at, target).is_ok_and(|(_, is_new)| is_new))
            })
    }

    /// The volume of `target`, if it is not that of the root.
    fn nested_of(&self, root: &Root, target: &Target, look: Look) -> Result<Option<(Volume, Look)>, Errno> {
        let own = &self.own[usize::from(look == Look::Close)];
        let own = match own.get() {
            Some(own) => *own,
            None => volume::of(root.fd(), look).map(|found| *own.get_or_init(|| found))?,
        };
        let volume = volume::of(target.folder, look)?;
        Ok((volume != own).then_some((volume, look)))
    }

    fn look(&self) -> Look {
        if self.has_projects.load(Ordering::Relaxed) { Look::Close } else { Look::Rough }
    }

    /// The staging folder from which things can be published in `target`.
    ///
    /// # Errors
    /// As of mkdirat(2), where it has to be made.
    pub fn place(&self, root: &Root, target: &Target) -> Result<Arc<OwnedFd>, Errno> {
        match self.nested_of(root, target, self.look())? {
            None => self.folder(root),
            Some(at) => self.nested.folder(root, at, target).map(|(folder, _)| folder),
        }
    }

    fn folder(&self, root: &Root) -> Result<Arc<OwnedFd>, Errno> {
        let mut folder = self.folder.lock().unwrap_or_else(|e| e.into_inner());
        // Somebody may have removed it; then it is made again.
        if let Some(open) = folder.as_ref().filter(|open| is_there(open)) {
            return Ok(open.clone());
        }
        let made = open_stage(root.fd());
        // Not before: a pass that ends in this moment would set the root's times too early.
        self.was_made.store(true, Ordering::Release);
        let stage = Arc::new(made?);
        *folder = Some(stage.clone());
        Ok(stage)
    }

    /// Whether the reserved folder has come into being since the last time this was asked: the root's times have moved.
    pub fn has_moved_root(&self) -> bool {
        self.was_made.swap(false, Ordering::AcqRel)
    }

    /// Makes something under a name that nothing has, not even what an interrupted run left and nobody could remove.
    fn fresh<T>(&self, make: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), Errno> {
        self.fresh_as(|number| number.to_string().into_bytes(), make)
    }

    fn fresh_as<T>(
        &self,
        name_of: impl Fn(u64) -> Vec<u8>,
        make: impl Fn(&[u8]) -> Result<T, Errno>,
    ) -> Result<(T, Vec<u8>), Errno> {
        loop {
            let name = name_of(self.next.fetch_add(1, Ordering::Relaxed));
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
    pub fn file(&self, root: &Root, target: &Target, new: bool) -> Result<StagedFile, Errno> {
        if new && self.may_be_nameless(target)? {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match fs::openat(target.folder, c".", flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => return Ok(StagedFile { fd, place: Place::Nameless }),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                    self.no_tmpfile
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .insert(volume::of(target.folder, Look::Rough)?);
                    self.lacks_tmpfile.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        let stage = self.place(root, target)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (fd, name) = self.fresh(|name| fs::openat(&stage, name, flags, Mode::from_raw_mode(0o600)))?;
        Ok(StagedFile { fd, place: Place::Staged(Staged { stage, name }) })
    }

    fn may_be_nameless(&self, target: &Target) -> Result<bool, Errno> {
        if !self.lacks_tmpfile.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let volume = volume::of(target.folder, Look::Rough)?;
        Ok(!self.no_tmpfile.lock().unwrap_or_else(|e| e.into_inner()).contains(&volume))
    }

    /// An empty file named `name` in a folder that is staged itself: it is published with the folder. It gets `mode`, less
    /// what the process's mask takes away.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn file_within(&self, folder: &Arc<OwnedFd>, name: &[u8], mode: u16) -> Result<StagedFile, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(folder, name, flags, Mode::from_raw_mode(u32::from(mode)))?;
        Ok(StagedFile { fd, place: Place::Within(Staged { stage: folder.clone(), name: name.into() }) })
    }

    /// Whether a folder that is filled before it is published can be published in `target`, as far as is known.
    pub fn may_build_unseen(&self, root: &Root, target: &Target) -> bool {
        self.builds_unseen() && self.nested_of(root, target, self.look()).is_ok_and(|nested| nested.is_none())
    }

    /// Whether nothing is known that keeps folders from being filled before they are published.
    pub fn builds_unseen(&self) -> bool {
        !self.no_unseen.load(Ordering::Relaxed)
    }

    /// It was found that it cannot.
    pub fn build_in_place(&self) {
        self.no_unseen.store(true, Ordering::Relaxed);
    }

    /// A folder that is filled before it is published, on the root's own filesystem.
    ///
    /// # Errors
    /// As of mkdirat(2).
    pub fn unseen(&self, root: &Root) -> Result<Staged, Errno> {
        self.make(self.folder(root)?, Kind::Directory, b"", 0)
    }

    /// A folder, link, FIFO, socket or device for `target`, with the default attributes. A link leads to `content`.
    ///
    /// # Errors
    /// As of mkdirat(2), symlinkat(2) and mknodat(2).
    pub fn special(
        &self,
        root: &Root,
        target: &Target,
        kind: Kind,
        content: &[u8],
        rdev: u64,
    ) -> Result<Staged, Errno> {
        self.make(self.place(root, target)?, kind, content, rdev)
    }

    fn make(&self, stage: Arc<OwnedFd>, kind: Kind, content: &[u8], rdev: u64) -> Result<Staged, Errno> {
        let node = |name: &[u8], file_type| fs::mknodat(&stage, name, file_type, Mode::from_raw_mode(0o600), rdev);
        let ((), name) = self.fresh(|name| match kind {
            Kind::Symlink => fs::symlinkat(content, &stage, name),
            Kind::Directory => fs::mkdirat(&stage, name, PRIVATE),
            Kind::Fifo => node(name, FileType::Fifo),
            Kind::Socket => node(name, FileType::Socket),
            Kind::CharDevice => node(name, FileType::CharacterDevice),
            Kind::BlockDevice => node(name, FileType::BlockDevice),
            Kind::File => node(name, FileType::RegularFile),
        })?;
        Ok(Staged { stage, name })
    }

    /// Another name for `name` in `folder`, staged for `target`.
    ///
    /// # Errors
    /// As of linkat(2): EXDEV where the two lie on different filesystems.
    pub fn link(&self, root: &Root, target: &Target, folder: BorrowedFd, name: &[u8]) -> Result<Staged, Errno> {
        let stage = self.place(root, target)?;
        let ((), name) = self.fresh(|fresh| fs::linkat(folder, name, &stage, fresh, AtFlags::empty()))?;
        Ok(Staged { stage, name })
    }

    /// Moves an entry out of the tree, into a staging folder, to where nobody else comes. It must not be discarded. After a
    /// crash it is kept, unless it is what has been judged.
    ///
    /// # Errors
    /// As of renameat2(2).
    pub fn park(&self, place: &Arc<OwnedFd>, folder: BorrowedFd, name: &[u8], judged: &Stamp) -> Result<Staged, Errno> {
        let as_taken = |number| taken_name(number, None, judged, name);
        let move_here = |free: &[u8]| fs::renameat_with(folder, name, place, free, RenameFlags::NOREPLACE);
        let ((), name) = self.fresh_as(as_taken, move_here)?;
        Ok(Staged { stage: place.clone(), name })
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
        (expected, keep): (Option<&Stat>, Keep),
    ) -> Result<(Published, OwnedFd), Errno> {
        let published = match file.place {
            Place::Staged(staged) => self.publish(root, staged, folder, name, (expected, keep))?,
            Place::Nameless if expected.is_none() => match link_open(file.fd.as_fd(), folder, name) {
                Ok(()) => Published::Yes,
                Err(Errno::EXIST) => Published::Changed,
                Err(error) => return Err(error),
            },
            Place::Nameless | Place::Within(_) => return Err(Errno::INVAL),
        };
        Ok((published, file.fd))
    }

    /// Publishes a staged thing as `name` in `folder`, where the plan was made from `expected`. Where others write too, a
    /// folder is replaced only if it is empty.
    ///
    /// RACE: where nobody else is known to write, what is at the name is looked at and then replaced; somebody who writes
    /// there in between loses that write.
    ///
    /// # Errors
    /// As of renameat2(2). The staged thing is gone in any case.
    pub fn publish(
        &self,
        root: &Root,
        mut staged: Staged,
        folder: BorrowedFd,
        name: &[u8],
        (expected, keep): (Option<&Stat>, Keep),
    ) -> Result<Published, Errno> {
        let mut ours = None;
        if let Some(expected) = expected.filter(|_| self.others_write) {
            ours = root.look(staged.folder(), &staged.name)?.stat().copied();
            if let Some(ours) = &ours
                && let Err(error) = self.mark(&mut staged, ours, &expected.stamp(), name)
            {
                staged.discard(root);
                return Err(error);
            }
        }
        let mut result = publish_named(root, &staged, (folder, name), (expected, ours.as_ref()), keep);
        if result == Err(Errno::XDEV) && is_apart(&staged, folder) {
            // Staged before that was known. From now on it is looked for.
            self.has_projects.store(true, Ordering::Relaxed);
            result = Ok(Published::Changed);
        }
        if let (Some(ours), Err(_)) = (&ours, &result)
            && root.look(staged.folder(), &staged.name)?.stat().is_some_and(|now| now.id() != ours.id())
        {
            // It could not be put back.
            staged.put_beside(root, folder, name)?;
        } else if !matches!(result, Ok(Published::Yes)) || expected.is_some_and(|e| e.kind == Kind::Directory) {
            staged.discard(root);
        }
        result
    }

    /// Removes what an earlier run left, if anything. Returns the names, at the top, of what was in it and others'.
    ///
    /// # Errors
    /// As of unlinkat(2) and renameat2(2).
    pub fn clear_leftovers(&self, root: &Root) -> Result<Option<Vec<Vec<u8>>>, Errno> {
        match open_child(root.fd(), RESERVED) {
            // What is kept there is no leftover.
            Ok(reserved) if open_child(reserved.as_fd(), STAGE).is_err() && holds_history(reserved.as_fd()) => Ok(None),
            Ok(reserved) => remove_stage(root.fd(), reserved.as_fd()).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the staging folders, and the reserved ones in which nothing else is. Returns the folders whose lists have
    /// changed by that.
    pub fn close(&self, root: &Root) -> Vec<RelPath> {
        self.folder.lock().unwrap_or_else(|e| e.into_inner()).take();
        let mut changed = self.nested.remove(|| true);
        if remove_reserved(root.fd()) {
            changed.push(RelPath::root());
        }
        changed
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
