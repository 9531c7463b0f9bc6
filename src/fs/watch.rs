//! Owns the watches: one a folder of the source, set by the pass before it lists the folder, and the translation of
//! notify's events into what was heard. It does not judge what is heard, and it never walks a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{
    Config, ErrorKind, Event, EventKind, EventKindMask, INotifyWatcher, RecursiveMode, WatchPathConfig, Watcher,
};

use crate::tree::entry::InodeId;
use crate::tree::path::RelPath;

/// What the kernel said, in the tree's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Closed after writing: finished, for now.
    Written(RelPath),
    /// Written to, not closed yet.
    Modified(RelPath),
    Attributes(RelPath),
    /// A file, a link, a special file or another name for a file.
    Made(RelPath),
    FolderMade(RelPath),
    Removed(RelPath),
    /// Renamed to somewhere outside, or its target is not known yet.
    Left(RelPath),
    /// Renamed here from outside, or its origin is not known.
    Came(RelPath),
    Renamed {
        from: RelPath,
        to: RelPath,
    },
    /// A file in the cookie folder was made: all that was queued before has been heard.
    Cookie(String),
    /// The root folder itself was renamed, removed or unmounted.
    Root,
    /// Events were lost.
    Lost,
}

impl Heard {
    /// The paths that it is about.
    pub fn paths(&self) -> [Option<&RelPath>; 2] {
        match self {
            Heard::Written(path)
            | Heard::Modified(path)
            | Heard::Attributes(path)
            | Heard::Made(path)
            | Heard::FolderMade(path)
            | Heard::Removed(path)
            | Heard::Left(path)
            | Heard::Came(path) => [Some(path), None],
            Heard::Renamed { from, to } => [Some(from), Some(to)],
            Heard::Cookie(_) | Heard::Root | Heard::Lost => [None, None],
        }
    }

    /// Whether it is about no path in particular.
    pub fn is_general(&self) -> bool {
        self.paths() == [None, None]
    }
}

/// How a folder came to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    Since,
    /// From now on: what happened in it before was not heard.
    Now,
    /// From now on, but folders moved meanwhile, and the watch may have gone with them: to be asked for once more.
    Unsure,
    /// Not at all: the limit, or a path too long for the kernel.
    Not,
}

/// Why a watch could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NoWatch {
    #[error("the folder is gone")]
    Gone,
    #[error("the limit on inotify watches is reached")]
    Limit,
    #[error("{0}")]
    Other(String),
}

/// The watches of one source.
pub struct Watches {
    watcher: Mutex<INotifyWatcher>,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    cookies: PathBuf,
    known: Mutex<Known>,
    /// Some watches may be ahead of the pass that is to look at their folders.
    is_ahead: AtomicBool,
}

#[derive(Default)]
struct Known {
    folders: BTreeMap<RelPath, Watched>,
    /// Rises when events were lost: watches of before may have ended unheard.
    era: u32,
    without: BTreeSet<RelPath>,
    /// Paths that notify may still have a watch under, for a folder that has moved on: a repeated watch of the same
    /// path would change nothing, so that it has to be taken back first.
    former: BTreeSet<RelPath>,
    /// Rises with each folder that moved.
    moves: u64,
    /// Watched folders whose end was told once.
    told_once: BTreeSet<RelPath>,
    /// The first half of a rename, until the second follows.
    leaving: Option<usize>,
}

const TOLD_ONCE: usize = 10_000;
/// The era of a watch that may have ended already.
const UNSURE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Watched {
    id: InodeId,
    era: u32,
    /// Set ahead of the pass that is to look at the folder: for that one it is not watched yet.
    is_ahead: bool,
}

impl Watches {
    /// Starts watching nothing yet but the cookie folder. `hear` is called in the watcher's own thread and must not
    /// wait for anything that calls back into this.
    ///
    /// # Errors
    /// When there is no inotify instance to be had, or the cookie folder cannot be watched.
    pub fn start(
        root: &Path,
        cookies: &Path,
        mut hear: impl FnMut(Heard) + Send + 'static,
    ) -> Result<Self, notify::Error> {
        let shared = Arc::new(Shared {
            root: root.into(),
            cookies: cookies.into(),
            known: Mutex::default(),
            is_ahead: AtomicBool::new(false),
        });
        let config = Config::default()
            .with_follow_symlinks(false)
            .with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE);
        let listener = shared.clone();
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => listener.translate(event, &mut |heard| {
                if !listener.is_early(&heard) {
                    hear(heard);
                }
            }),
            Err(_) => {
                listener.lock().era += 1;
                hear(Heard::Lost);
            }
        };
        let mut watcher = INotifyWatcher::new(handler, config)?;
        watcher.watch_with(cookies, plain())?;
        Ok(Self { watcher: Mutex::new(watcher), shared })
    }

    /// Watches a folder unless it is watched already.
    ///
    /// # Errors
    /// Why it is not watched. It is kept in mind as such until it is.
    pub fn ensure(&self, path: &RelPath, id: InodeId) -> Result<Watching, NoWatch> {
        if self.has(path, id) {
            return Ok(Watching::Since);
        }
        self.set(path, id, false)
    }

    /// Watches a folder ahead of the pass that is to look at it. To that one the watch is new, so that it looks at all of
    /// the folder; what is done in it until then is not heard, because it will be seen.
    ///
    /// # Errors
    /// As of `ensure`.
    pub fn place_ahead(&self, path: &RelPath, id: InodeId) -> Result<(), NoWatch> {
        self.shared.is_ahead.store(true, Ordering::SeqCst);
        self.set(path, id, true).map(drop)
    }

    /// A pass has looked at everything: whatever is done now is heard.
    pub fn all_seen(&self) {
        self.shared.is_ahead.store(false, Ordering::SeqCst);
    }

    fn set(&self, path: &RelPath, id: InodeId, is_ahead: bool) -> Result<Watching, NoWatch> {
        // Who has the watcher's lock is alone in setting and ending watches: what is known agrees with what is set.
        let mut watcher = self.watcher.lock().unwrap_or_else(|e| e.into_inner());
        let (stale, era, moves) = {
            let mut known = self.shared.lock();
            let was_former = known.former.remove(path);
            let (era, moves) = (known.era, known.moves);
            match known.folders.get_mut(path) {
                Some(watched) if watched.id == id && watched.era == era => {
                    let was_ahead = watched.is_ahead;
                    watched.is_ahead &= is_ahead;
                    return Ok(if was_ahead { Watching::Now } else { Watching::Since });
                }
                watched => (watched.is_some() || was_former, era, moves),
            }
        };
        let full = path.to_path(&self.shared.root);
        if stale {
            let _ = watcher.unwatch(&full);
        }
        let result = watcher.watch_with(&full, plain());
        let mut known = self.shared.lock();
        known.folders.remove(path);
        match result {
            Ok(()) => {
                known.without.remove(path);
                let is_sure = known.moves == moves;
                let era = if is_sure { era } else { UNSURE };
                known.folders.insert(path.clone(), Watched { id, era, is_ahead });
                Ok(if is_sure { Watching::Now } else { Watching::Unsure })
            }
            Err(error) if is_gone(&error.kind) => Err(NoWatch::Gone),
            Err(error) => {
                known.without.insert(path.clone());
                Err(match error.kind {
                    ErrorKind::MaxFilesWatch => NoWatch::Limit,
                    _ => NoWatch::Other(error.to_string()),
                })
            }
        }
    }

    /// Whether this folder is watched, with this identity.
    pub fn has(&self, path: &RelPath, id: InodeId) -> bool {
        let known = self.shared.lock();
        known.folders.get(path).is_some_and(|w| w.id == id && w.era == known.era && !w.is_ahead)
    }

    /// Ends the watches of a folder and all below it: it is gone, or excluded.
    pub fn forget(&self, path: &RelPath) {
        self.end(path, |known, path| known.take(path));
    }

    /// The same, where there may well be none: then nobody waits for the watcher.
    pub fn forget_if_known(&self, path: &RelPath) {
        let is_known = {
            let known = self.shared.lock();
            [
                known.folders.range(path.clone()..).next().map(|(path, _)| path),
                known.without.range(path.clone()..).next(),
            ]
            .into_iter()
            .flatten()
            .any(|first| first.is_within(path))
        };
        if is_known {
            self.forget(path);
        }
    }

    /// Ends what is left of the watches of a folder that was renamed. What is watched by the same paths since stays.
    pub fn forget_former(&self, path: &RelPath) {
        self.end(path, |_, _| Vec::new());
    }

    fn end(&self, path: &RelPath, take: impl Fn(&mut Known, &RelPath) -> Vec<RelPath>) {
        let mut watcher = self.watcher.lock().unwrap_or_else(|e| e.into_inner());
        let gone = {
            let mut known = self.shared.lock();
            let mut gone = take(&mut known, path);
            let former = within(known.former.range(path.clone()..), path);
            for path in &former {
                known.former.remove(path);
            }
            gone.extend(former);
            gone
        };
        for path in gone {
            // Already gone where the folder is.
            let _ = watcher.unwatch(&path.to_path(&self.shared.root));
        }
    }

    /// Where the watched folders of these identities are.
    pub fn find(&self, folders: &HashSet<InodeId>) -> HashMap<InodeId, RelPath> {
        let known = self.shared.lock();
        let wanted = known.folders.iter().filter(|(_, watched)| folders.contains(&watched.id));
        wanted.map(|(path, watched)| (watched.id, path.clone())).collect()
    }

    /// Folders watched, and folders for which there is no watch.
    pub fn count(&self) -> (u64, u64) {
        let known = self.shared.lock();
        (known.folders.len() as u64, known.without.len() as u64)
    }

    /// The folders for which there is no watch: they have to be looked at from time to time.
    pub fn without(&self) -> Vec<RelPath> {
        self.shared.lock().without.iter().cloned().collect()
    }

    /// The folder in which a new file comes back as `Heard::Cookie`, after all that happened before.
    pub fn cookie_folder(&self) -> &Path {
        &self.shared.cookies
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether this is about folders alone that a pass has yet to look at.
    fn is_early(&self, heard: &Heard) -> bool {
        if heard.is_general() || !self.is_ahead.load(Ordering::SeqCst) {
            return false;
        }
        let known = self.lock();
        let is_ahead = |path: &RelPath| {
            let folder = path.split().map_or_else(RelPath::root, |(folder, _)| folder);
            known.folders.get(&folder).is_some_and(|watched| watched.is_ahead)
        };
        heard.paths().into_iter().flatten().all(is_ahead)
    }

    fn translate(&self, event: Event, hear: &mut dyn FnMut(Heard)) {
        if event.need_rescan() {
            self.lock().era += 1;
            return hear(Heard::Lost);
        }
        let mut paths = event.paths.iter();
        let Some(first) = paths.next() else { return };
        if let Ok(cookie) = first.strip_prefix(&self.cookies) {
            if matches!(event.kind, EventKind::Create(_)) {
                hear(Heard::Cookie(cookie.to_string_lossy().into_owned()));
            }
            return;
        }
        // What does not lie below the root plainly was not asked for.
        let Some(path) = RelPath::below(&self.root, first) else { return };
        let tracker = event.attrs.tracker();
        let heard = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Heard::Written(path),
            EventKind::Access(_) => return,
            EventKind::Create(CreateKind::Folder) => {
                self.lock().retire(&path);
                Heard::FolderMade(path)
            }
            EventKind::Create(_) => Heard::Made(path),
            EventKind::Modify(ModifyKind::Metadata(_)) => Heard::Attributes(path),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                let Some(to) = paths.next().and_then(|to| RelPath::below(&self.root, to)) else {
                    return hear(Heard::Left(path));
                };
                Heard::Renamed { from: path, to }
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                let mut known = self.lock();
                known.retire(&path);
                // Both halves together follow at once.
                if known.leaving.take().is_some_and(|cookie| Some(cookie) == tracker) {
                    return;
                }
                Heard::Came(path)
            }
            // A watched folder says itself that it moved; its parent has said so already, and from where.
            EventKind::Modify(ModifyKind::Name(_)) if tracker.is_none() && path.is_root() => Heard::Root,
            EventKind::Modify(ModifyKind::Name(_)) if tracker.is_none() => return,
            EventKind::Modify(ModifyKind::Name(_)) => {
                let mut known = self.lock();
                // notify drops the watch of this path, whichever folder is there by now.
                known.moves += 1;
                known.retire(&path);
                known.leaving = tracker;
                Heard::Left(path)
            }
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => Heard::Modified(path),
            EventKind::Remove(kind) => {
                // Its watch ended with it, and another folder of the same inode number may follow.
                if kind != RemoveKind::File && self.lock().ended(&path) {
                    // Nothing that happened in it was heard.
                    hear(Heard::FolderMade(path.clone()));
                }
                if path.is_root() {
                    return hear(Heard::Root);
                }
                Heard::Removed(path)
            }
        };
        hear(heard);
    }
}

impl Known {
    /// Takes out a folder and all below it.
    fn take(&mut self, path: &RelPath) -> Vec<RelPath> {
        let gone = within(self.folders.range(path.clone()..).map(|(p, _)| p), path);
        for path in &gone {
            self.folders.remove(path);
        }
        for path in within(self.without.range(path.clone()..), path) {
            self.without.remove(&path);
        }
        gone
    }

    /// Takes out a folder that was removed. Returns whether it was never watched. Its parent and the folder itself both
    /// tell of its end.
    fn ended(&mut self, path: &RelPath) -> bool {
        let gone = self.take(path);
        if !gone.is_empty() {
            if self.told_once.len() > TOLD_ONCE {
                self.told_once.clear();
            }
            self.told_once.extend(gone);
            return false;
        }
        !self.told_once.remove(path)
    }

    /// Takes out a folder that is somewhere else now, and all below it.
    fn retire(&mut self, path: &RelPath) {
        let gone = self.take(path);
        self.former.extend(gone);
    }
}

fn within<'a>(paths: impl Iterator<Item = &'a RelPath>, folder: &RelPath) -> Vec<RelPath> {
    paths.take_while(|p| p.is_within(folder)).cloned().collect()
}

fn is_gone(kind: &ErrorKind) -> bool {
    use std::io::ErrorKind as Io;
    match kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), Io::NotFound | Io::NotADirectory),
        _ => false,
    }
}

fn plain() -> WatchPathConfig {
    WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(false)
}

#[cfg(test)]
mod tests;
