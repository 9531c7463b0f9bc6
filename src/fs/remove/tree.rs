//! Owns a folder that is to go with all below it: what it holds, counted once, and the removal of just that, children
//! before parents, by several threads where it is much.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::fs::{AtFlags, FileType, RawDir};
use rustix::io::Errno;

use super::{Below, unlink};
use crate::fs::root::open_child_unmounted;
use crate::tree::entry::Kind;
use crate::tree::path::RelPath;

/// From so many entries on, more than one thread is worth its start.
const WORTH_SHARING: u64 = 500;
/// So many entries of a folder are removed between two signs of life.
const BLOCK: usize = 64;
const BUFFER: usize = 32 << 10;

/// A folder that is to go, and what was found in it: each folder comes before those that it holds.
#[derive(Debug)]
pub struct Tree {
    folders: Vec<Folder>,
    entries: u64,
}

#[derive(Debug)]
struct Folder {
    path: RelPath,
    above: usize,
    below: Vec<usize>,
    /// What is in it and no folder.
    others: Names,
    /// Something in it stays, so that it stays too.
    keeps: bool,
}

/// What has become of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Gone,
    /// As was known before: something in it stays. Or it was stopped.
    Stays,
    /// Something has come that was not counted, and stays.
    Changed,
}

/// Names and what they are, without an allocation for each.
#[derive(Debug, Default)]
struct Names(Vec<u8>);

impl Names {
    fn push(&mut self, name: &[u8], kind: Kind) {
        self.0.push(KINDS.iter().position(|k| *k == kind).unwrap_or_default() as u8);
        self.0.extend_from_slice(name);
        self.0.push(0);
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (kind, after) = rest.split_first()?;
            let end = after.iter().position(|byte| *byte == 0)?;
            rest = &after[end + 1..];
            Some((&after[..end], KINDS.get(usize::from(*kind)).copied()?))
        })
    }
}

const KINDS: [Kind; 7] =
    [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];

impl Tree {
    /// Counts what would go with the folder at `path`, which `parent` holds.
    ///
    /// # Errors
    /// The first folder that cannot be listed; EBUSY for what is mounted there: nothing of it is even listed.
    pub fn survey(parent: BorrowedFd, path: &RelPath, below: &impl Below) -> Result<Self, Errno> {
        let mut tree = Self { folders: Vec::new(), entries: 0 };
        let mut levels = vec![tree.open(parent, path.clone(), 0, below)?];
        while let Some(level) = levels.last_mut() {
            let Some((path, is_sure)) = level.todo.pop() else {
                levels.pop();
                continue;
            };
            let (at, name) = (level.at, path.split().map(|(_, name)| name.to_vec()).unwrap_or_default());
            match tree.open(level.fd.as_fd(), path, at, below) {
                Ok(level) => levels.push(level),
                // The listing did not say what it is.
                Err(Errno::NOTDIR | Errno::LOOP) if !is_sure => tree.folders[at].others.push(&name, Kind::File),
                Err(error) => return Err(error),
            }
        }
        tree.count();
        Ok(tree)
    }

    fn open(&mut self, parent: BorrowedFd, path: RelPath, above: usize, below: &impl Below) -> Result<Level, Errno> {
        let name = path.split().map(|(_, name)| name).unwrap_or_default();
        let fd = open_folder(parent, name)?;
        let mut folder = Folder { path, above, below: Vec::new(), others: Names::default(), keeps: false };
        let mut todo = Vec::new();
        each_entry(&fd, |name, kind| {
            let path = folder.path.join(name);
            match kind {
                _ if !below.goes(&path, kind == Some(Kind::Directory)) => folder.keeps = true,
                Some(Kind::Directory) | None => todo.push((path, kind.is_some())),
                Some(kind) => folder.others.push(name, kind),
            }
        })?;
        let at = self.folders.len();
        if at > 0 {
            self.folders[above].below.push(at);
        }
        self.folders.push(folder);
        Ok(Level { fd, at, todo })
    }

    fn count(&mut self) {
        for at in (0..self.folders.len()).rev() {
            let folder = &mut self.folders[at];
            folder.others.0.shrink_to_fit();
            self.entries += folder.others.iter().count() as u64 + u64::from(!folder.keeps);
            if folder.keeps {
                let above = folder.above;
                self.folders[above].keeps = true;
            }
        }
    }

    /// Entries that go.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether something in it stays, and with it the folder itself.
    pub fn stays(&self) -> bool {
        self.folders.first().is_some_and(|folder| folder.keeps)
    }

    /// All that goes, what a folder holds before the folder.
    pub fn listed(&self) -> Vec<(RelPath, Kind)> {
        let mut listed = Vec::new();
        for folder in self.folders.iter().rev() {
            listed.extend(folder.others.iter().map(|(name, kind)| (folder.path.join(name), kind)));
            listed.extend((!folder.keeps).then(|| (folder.path.clone(), Kind::Directory)));
        }
        listed
    }

    /// Removes what was counted, with as many threads as `jobs` where it is much. Nothing there any more is no error.
    ///
    /// # Errors
    /// The first failure; what was removed by then is gone.
    pub fn remove(&self, parent: BorrowedFd, below: &impl Below, jobs: usize) -> Result<End, Errno> {
        let is_much = self.entries >= WORTH_SHARING && self.folders.len() > 1;
        let helpers = if is_much { jobs.saturating_sub(1) } else { 0 };
        let work = Work {
            tree: self,
            parent,
            below,
            state: Mutex::new(State { todo: vec![0], busy: 0, end: None }),
            woken: Condvar::new(),
            open: self.folders.iter().map(Open::new).collect(),
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Without more threads it takes longer.
                let _ = std::thread::Builder::new().name("removal".into()).spawn_scoped(scope, || work.run());
            }
            work.run();
        });
        let state = work.state.into_inner().unwrap_or_else(|e| e.into_inner());
        state.end.unwrap_or(Ok(End::Changed))
    }
}

/// A folder being counted.
struct Level {
    fd: OwnedFd,
    at: usize,
    /// Folders in it, and what may be one.
    todo: Vec<(RelPath, bool)>,
}

/// One removal.
struct Work<'a, B> {
    tree: &'a Tree,
    parent: BorrowedFd<'a>,
    below: &'a B,
    state: Mutex<State>,
    woken: Condvar,
    open: Vec<Open>,
}

struct State {
    /// Folders whose parents are open. The last one is taken first, so that few are open at a time.
    todo: Vec<usize>,
    busy: usize,
    /// All is done, or something keeps the rest from being done.
    end: Option<Result<End, Errno>>,
}

/// A folder that is being emptied.
struct Open {
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Its folders that are not done, and itself.
    pending: AtomicUsize,
    /// Something is in it that was not counted.
    is_changed: AtomicBool,
}

impl Open {
    fn new(folder: &Folder) -> Self {
        let pending = AtomicUsize::new(folder.below.len() + 1);
        Self { fd: Mutex::default(), pending, is_changed: AtomicBool::new(false) }
    }

    fn fd(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.fd.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn change(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
    }
}

impl<B: Below> Work<'_, B> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Empties folders until none is left, one fails, or it is stopped.
    fn run(&self) {
        let mut state = self.state();
        while state.end.is_none() {
            let Some(at) = state.todo.pop() else {
                if state.busy == 0 {
                    return;
                }
                state = self.woken.wait(state).unwrap_or_else(|e| e.into_inner());
                continue;
            };
            state.busy += 1;
            drop(state);
            let result = self.empty(at);
            state = self.state();
            state.busy -= 1;
            match result {
                Ok(None) => {}
                Ok(Some(end)) => state.end = state.end.or(Some(Ok(end))),
                Err(error) => state.end = Some(Err(error)),
            }
            if state.end.is_some() || state.busy == 0 {
                self.woken.notify_all();
            }
        }
    }

    /// Runs `call` with the folder that holds this one.
    fn in_parent<T>(&self, at: usize, call: impl FnOnce(BorrowedFd, &[u8]) -> Result<T, Errno>) -> Result<T, Errno> {
        let folder = &self.tree.folders[at];
        let name = folder.path.split().map(|(_, name)| name).unwrap_or_default();
        if at == 0 {
            return call(self.parent, name);
        }
        let above = self.open[folder.above].fd().clone().ok_or(Errno::BADF)?;
        call(above.as_fd(), name)
    }

    /// Removes what is in a folder, and the folder when nothing is left in it. Returns what has become of all if that was
    /// the last one.
    fn empty(&self, at: usize) -> Result<Option<End>, Errno> {
        if self.below.is_stopped() {
            return Ok(Some(End::Stays));
        }
        let (folder, open) = (&self.tree.folders[at], &self.open[at]);
        let fd = match self.in_parent(at, open_folder) {
            Ok(fd) => Arc::new(fd),
            // Gone, or something else, with all that was in it.
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) if at > 0 => {
                if error != Errno::NOENT {
                    self.open[folder.above].change();
                }
                return self.complete(folder.above);
            }
            Err(error) => return Err(error),
        };
        let mut others = folder.others.iter().peekable();
        loop {
            let mut done = Vec::new();
            let result = others.by_ref().take(BLOCK).try_for_each(|(name, kind)| {
                match unlink(fd.as_fd(), name, AtFlags::empty()) {
                    Ok(()) => done.push((name, kind)),
                    Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR) => open.change(),
                    Err(error) => return Err(error),
                }
                Ok(())
            });
            self.below.removed(&folder.path, &done);
            result?;
            if others.peek().is_none() {
                break;
            }
            if self.below.is_stopped() {
                return Ok(Some(End::Stays));
            }
        }
        *open.fd() = Some(fd);
        if !folder.below.is_empty() {
            self.state().todo.extend(&folder.below);
            self.woken.notify_all();
        }
        self.complete(at)
    }

    /// Ends one thing in a folder; with the last one the folder goes too, and so on upwards.
    fn complete(&self, mut at: usize) -> Result<Option<End>, Errno> {
        loop {
            let (folder, open) = (&self.tree.folders[at], &self.open[at]);
            if open.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Ok(None);
            }
            let fd = open.fd().take();
            if !folder.keeps && !open.is_changed.load(Ordering::Relaxed) {
                match self.in_parent(at, |parent, name| unlink(parent, name, AtFlags::REMOVEDIR)) {
                    Ok(()) => {
                        let (parent, name) = folder.path.split().unwrap_or_default();
                        self.below.removed(&parent, &[(name, Kind::Directory)]);
                    }
                    Err(Errno::NOENT) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST) if self.has_others(folder, fd.as_deref()) => open.change(),
                    Err(error) => return Err(error),
                }
            }
            let is_changed = open.is_changed.load(Ordering::Relaxed);
            if at == 0 {
                let left = if folder.keeps { End::Stays } else { End::Gone };
                return Ok(Some(if is_changed { End::Changed } else { left }));
            }
            at = folder.above;
            if is_changed {
                self.open[at].change();
            }
        }
    }

    /// Whether a folder holds something that was not counted. What was, and is still there, no further try would remove.
    fn has_others(&self, folder: &Folder, fd: Option<&OwnedFd>) -> bool {
        let name_of = |at: &usize| self.tree.folders[*at].path.split().map(|(_, name)| name);
        let counted: HashSet<&[u8]> =
            folder.others.iter().map(|(name, _)| name).chain(folder.below.iter().filter_map(name_of)).collect();
        let mut others = false;
        let listed = fd.map(|fd| each_entry(fd, |name, _| others |= !counted.contains(name)));
        others && listed.is_some_and(|result| result.is_ok())
    }
}

/// Opens a folder that is to go. What is mounted in it is not the tree's to empty.
fn open_folder(parent: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match open_child_unmounted(parent, name) {
        Err(Errno::ACCESS) => {
            crate::fs::metadata::open_for_change(parent, name, Kind::Directory)?;
            open_child_unmounted(parent, name)
        }
        done => done,
    }
}

fn each_entry(folder: &OwnedFd, mut take: impl FnMut(&[u8], Option<Kind>)) -> Result<(), Errno> {
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            take(name, kind_of(entry.file_type()));
        }
    }
    Ok(())
}

fn kind_of(file_type: FileType) -> Option<Kind> {
    Some(match file_type {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Everything;
    use super::*;
    use std::fs;

    struct AllBut(&'static str);

    impl Below for AllBut {
        fn goes(&self, path: &RelPath, _: bool) -> bool {
            path.as_bytes() != self.0.as_bytes()
        }

        fn removed(&self, _: &RelPath, _: &[(&[u8], Kind)]) {}

        fn is_stopped(&self) -> bool {
            false
        }
    }

    /// A folder `t` with 30 folders of 30 files each, opened from above.
    fn filled() -> (tempfile::TempDir, OwnedFd, RelPath) {
        let top = tempfile::tempdir().expect("a folder");
        for i in 0..900 {
            let folder = top.path().join(format!("t/{}/{}", i % 3, i % 30));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(i.to_string()), "x").expect("a file");
        }
        let fd = OwnedFd::from(fs::File::open(top.path()).expect("opened"));
        (top, fd, RelPath::new(b"t").expect("a valid path"))
    }

    #[test]
    fn what_was_counted_goes_whatever_the_number_of_threads() {
        for jobs in [1, 4] {
            let (top, fd, path) = filled();
            let tree = Tree::survey(fd.as_fd(), &path, &Everything).expect("a survey");
            assert_eq!((tree.entries(), tree.listed().len()), (900 + 30 + 3 + 1, 934));
            assert_eq!(tree.listed().last(), Some(&(path, Kind::Directory)));
            assert_eq!(tree.remove(fd.as_fd(), &Everything, jobs), Ok(End::Gone));
            assert_eq!(fs::read_dir(top.path()).expect("a list").count(), 0);
        }
    }

    #[test]
    fn what_came_after_the_count_stays_with_its_folders() {
        for jobs in [1, 4] {
            let (top, fd, path) = filled();
            let tree = Tree::survey(fd.as_fd(), &path, &Everything).expect("a survey");
            fs::write(top.path().join("t/1/4/new"), "x").expect("a file");
            fs::remove_dir_all(top.path().join("t/2/2")).expect("removed");
            fs::remove_file(top.path().join("t/0/3/33")).expect("removed");
            fs::create_dir(top.path().join("t/0/3/33")).expect("a folder");
            assert_eq!(tree.remove(fd.as_fd(), &Everything, jobs), Ok(End::Changed));
            let left = Tree::survey(fd.as_fd(), &path, &Everything).expect("a survey");
            let mut left: Vec<_> = left.listed().into_iter().map(|(path, _)| path).collect();
            left.sort();
            let expected = ["t", "t/0", "t/0/3", "t/0/3/33", "t/1", "t/1/4", "t/1/4/new"];
            assert_eq!(left, expected.map(|path| RelPath::new(path.as_bytes()).expect("a valid path")));
        }
    }

    #[test]
    fn what_is_left_alone_keeps_its_folders() {
        let (top, fd, path) = filled();
        let below = AllBut("t/1/4/4");
        let tree = Tree::survey(fd.as_fd(), &path, &below).expect("a survey");
        assert!(tree.stays());
        assert_eq!(tree.entries(), 934 - 4);
        assert_eq!(tree.remove(fd.as_fd(), &below, 2), Ok(End::Stays));
        assert!(top.path().join("t/1/4/4").exists());
        assert_eq!(fs::read_dir(top.path().join("t")).expect("a list").count(), 1);
    }
}
