//! Owns the removal of what was counted: threads that share the folders of one tree, children before parents. It removes
//! nothing that was not counted.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::{End, Folder, Tree, each_entry, open_folder};
use crate::fs::remove::{Below, unlink};
use crate::tree::entry::Kind;

/// So many entries of a folder are removed between two signs of life.
const BLOCK: usize = 64;

/// One removal.
pub struct Work<'a, B> {
    tree: &'a Tree,
    parent: BorrowedFd<'a>,
    /// The uppermost folder is emptied, and not removed.
    keeps_top: bool,
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

impl<'a, B: Below> Work<'a, B> {
    pub fn new(tree: &'a Tree, (parent, keeps_top): (BorrowedFd<'a>, bool), below: &'a B) -> Self {
        Self {
            tree,
            parent,
            keeps_top,
            below,
            state: Mutex::new(State { todo: vec![0], busy: 0, end: None }),
            woken: Condvar::new(),
            open: tree.folders.iter().map(Open::new).collect(),
        }
    }

    /// Removes all with the help of so many threads.
    ///
    /// # Errors
    /// The first failure; what was removed by then is gone.
    pub fn share(self, helpers: usize) -> Result<End, Errno> {
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Without more threads it takes longer.
                let _ = std::thread::Builder::new().name("removal".into()).spawn_scoped(scope, || self.run());
            }
            self.run();
        });
        let state = self.state.into_inner().unwrap_or_else(|e| e.into_inner());
        state.end.unwrap_or(Ok(End::Changed))
    }

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
        let Some(known) = self.below.enter(&folder.path, fd.as_fd()) else {
            if at == 0 {
                return Ok(Some(End::Changed));
            }
            self.open[folder.above].change();
            return self.complete(folder.above);
        };
        let mut others = folder.others.iter().peekable();
        loop {
            let mut done = Vec::new();
            let block: Vec<_> = others.by_ref().take(BLOCK).collect();
            if !block.is_empty() {
                self.below.going(&folder.path, fd.as_fd(), &block)?;
            }
            let result = block.into_iter().try_for_each(|(name, kind)| {
                match self.below.take(&known, fd.as_fd(), name) {
                    Ok(true) => done.push((name, kind)),
                    Ok(false) => open.change(),
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
            let stays = folder.keeps || (at == 0 && self.keeps_top);
            if !stays && !open.is_changed.load(Ordering::Relaxed) {
                let remove = |parent: BorrowedFd, name: &[u8]| {
                    self.below.leave(&folder.path, parent, at > 0);
                    match fd.as_deref().filter(|_| self.below.is_shared()) {
                        Some(fd) if !is_at(fd, parent, name)? => Err(Errno::NOTDIR),
                        _ => unlink(parent, name, AtFlags::REMOVEDIR),
                    }
                };
                match self.in_parent(at, remove) {
                    Ok(()) => {
                        let (parent, name) = folder.path.split().unwrap_or_default();
                        self.below.removed(&parent, &[(name, Kind::Directory)]);
                    }
                    Err(Errno::NOENT) => {}
                    // Something else has the name.
                    Err(Errno::NOTDIR) if self.below.is_shared() => open.change(),
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

/// Whether a folder that is open still has this name.
fn is_at(fd: &OwnedFd, parent: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
    let (own, now) = (fs::fstat(fd)?, fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?);
    Ok((own.st_dev, own.st_ino) == (now.st_dev, now.st_ino))
}
