//! Owns a folder that is to go with all below it: what it holds, counted once, and the removal of just that, children
//! before parents, by several threads where it is much.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Below;
use crate::fs::root::{kind_of, open_child_unmounted};
use crate::fs::scan;
use crate::tree::entry::Kind;
use crate::tree::path::RelPath;

mod work;

use work::Work;

/// From so many entries on, more than one thread is worth its start.
const WORTH_SHARING: u64 = 500;

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
        below.counted(&folder.path, fd.as_fd());
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
        Work::new(self, (parent, false), below).share(self.helpers(jobs))
    }

    /// The same, but for the folder itself, which is empty then if this returns `Gone`.
    ///
    /// # Errors
    /// As of `remove`.
    pub fn empty(&self, parent: BorrowedFd, below: &impl Below, jobs: usize) -> Result<End, Errno> {
        Work::new(self, (parent, true), below).share(self.helpers(jobs))
    }

    fn helpers(&self, jobs: usize) -> usize {
        let is_much = self.entries >= WORTH_SHARING && self.folders.len() > 1;
        if is_much { jobs.saturating_sub(1) } else { 0 }
    }
}

/// A folder being counted.
struct Level {
    fd: OwnedFd,
    at: usize,
    /// Folders in it, and what may be one.
    todo: Vec<(RelPath, bool)>,
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

/// Of a type that the list does not tell, nothing.
fn each_entry(folder: &OwnedFd, mut take: impl FnMut(&[u8], Option<Kind>)) -> Result<(), Errno> {
    scan::each_entry(folder.as_fd(), |name, file_type| {
        take(name, (file_type != FileType::Unknown).then(|| kind_of(file_type)));
    })
}

#[cfg(test)]
mod tests {
    use super::super::Everything;
    use super::*;
    use std::fs;

    struct AllBut(&'static str);

    impl Below for AllBut {
        type Folder = ();

        fn enter(&self, _: &RelPath, _: BorrowedFd) -> Option<()> {
            Some(())
        }

        fn take(&self, (): &(), folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
            Everything.take(&(), folder, name)
        }

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
            let (top, fd, path) = filled();
            let tree = Tree::survey(fd.as_fd(), &path, &Everything).expect("a survey");
            assert_eq!(tree.empty(fd.as_fd(), &Everything, jobs), Ok(End::Gone));
            assert_eq!(fs::read_dir(top.path().join("t")).expect("it stays").count(), 0);
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
