//! Owns the watches: one a folder of the source, set by the pass before it lists the folder, and the translation of
//! notify's events into what was heard. It does not judge what is heard, and it never walks a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecursiveMode, Watcher};

use super::inotify::{Inotify, Number};
use crate::tree::entry::InodeId;
use crate::tree::path::RelPath;

mod heard;

pub use heard::Heard;

/// How a folder came to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    Since,
    /// From now on: what happened in it before was not heard.
    Now,
    /// Not, since it or a folder above it was moved or removed meanwhile: to be asked for once more.
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
    shared: Arc<Shared>,
}

struct Shared {
    /// Given as soon as there is one: what is heard before that is about nothing that is known.
    inotify: OnceLock<Inotify>,
    /// Who has it is alone in setting and ending watches: what is known agrees with what is set.
    setting: Mutex<()>,
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
    /// Where folders were that have moved on, nobody knows where to yet, with their watches. A watch that is asked for
    /// where such a folder is now is the one that it has.
    former: BTreeMap<RelPath, Number>,
    /// The folder that is being watched in this moment, and whether it was heard meanwhile that it is somewhere else.
    coming: Option<(RelPath, bool)>,
    /// Watched folders that have told their end themselves; what is above them tells it too.
    told_once: BTreeSet<RelPath>,
}

const TOLD_ONCE: usize = 10_000;

#[derive(Clone, Copy)]
struct Watched {
    id: InodeId,
    number: Number,
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
            inotify: OnceLock::new(),
            setting: Mutex::default(),
            root: root.into(),
            cookies: cookies.into(),
            known: Mutex::default(),
            is_ahead: AtomicBool::new(false),
        });
        // Not the other way round as well, or neither would ever end.
        let listener = Arc::downgrade(&shared);
        let handler = move |event: notify::Result<Event>| {
            let Some(shared) = listener.upgrade() else { return };
            match event {
                Ok(event) => shared.translate(event, &mut |heard| {
                    if !shared.is_early(&heard) {
                        hear(heard);
                    }
                }),
                Err(_) => {
                    shared.lock().era += 1;
                    hear(Heard::Lost);
                }
            }
        };
        let mut inotify = Inotify::new(handler, Config::default())?;
        inotify.watch(cookies, RecursiveMode::NonRecursive)?;
        let _ = shared.inotify.set(inotify);
        Ok(Self { shared })
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
        let _alone = self.shared.alone();
        let Some(inotify) = self.shared.inotify.get() else { return Err(NoWatch::Gone) };
        let mut known = self.shared.lock();
        let era = known.era;
        if let Some(watched) = known.folders.get_mut(path).filter(|watched| watched.id == id && watched.era == era) {
            let was_ahead = watched.is_ahead;
            watched.is_ahead &= is_ahead;
            return Ok(if was_ahead { Watching::Now } else { Watching::Since });
        }
        known.coming = Some((path.clone(), false));
        // A disk that does not answer must not keep those waiting who only ask what is known.
        drop(known);
        let full = path.to_path(&self.shared.root);
        let result = if path.is_root() { inotify.place_top(&full) } else { inotify.place(&full) };
        let mut known = self.shared.lock();
        let has_moved = known.coming.take().is_some_and(|(_, has_moved)| has_moved);
        let before = known.folders.remove(path);
        if let Some(watched) = before
            && result.as_ref().ok() != Some(&watched.number)
        {
            inotify.end(watched.number, &full);
        }
        match result {
            Ok(number) if has_moved => {
                inotify.end(number, &full);
                Ok(Watching::Unsure)
            }
            Ok(number) => {
                known.without.remove(path);
                known.folders.insert(path.clone(), Watched { id, number, era, is_ahead });
                Ok(Watching::Now)
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
        let _alone = self.shared.alone();
        let gone = self.shared.lock().take(path);
        for (path, watched) in gone {
            self.shared.end(watched.number, &path);
        }
        self.end_former(path);
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

    /// Ends what is left of the watches of a folder that was renamed, when it was looked at where it is now: that has taken
    /// over those that it found. What is watched by the same paths since stays.
    pub fn forget_former(&self, path: &RelPath) {
        let _alone = self.shared.alone();
        self.end_former(path);
    }

    fn end_former(&self, path: &RelPath) {
        let gone = take_within(&mut self.shared.lock().former, path);
        let Some(inotify) = self.shared.inotify.get() else { return };
        for (_, number) in gone {
            inotify.end_lost(number);
        }
    }

    /// Where the watched folders are whose identities have these keys.
    pub fn find<K: Eq + Hash>(&self, key: impl Fn(InodeId) -> K, wanted: &HashSet<K>) -> HashMap<K, RelPath> {
        let known = self.shared.lock();
        let keyed = known.folders.iter().map(|(path, watched)| (key(watched.id), path));
        keyed.filter(|(key, _)| wanted.contains(key)).map(|(key, path)| (key, path.clone())).collect()
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

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.setting.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn end(&self, number: Number, path: &RelPath) {
        if let Some(inotify) = self.inotify.get() {
            inotify.end(number, &path.to_path(&self.root));
        }
    }

    /// Takes out a folder that is not there any more, and all below it. What becomes of their watches is not known yet.
    fn lose(&self, known: &mut Known, path: &RelPath) -> Vec<(RelPath, Watched)> {
        if let Some((coming, has_moved)) = &mut known.coming {
            *has_moved |= coming.is_within(path);
        }
        let gone = known.take(path);
        if let Some(inotify) = self.inotify.get() {
            for (path, watched) in &gone {
                inotify.lose(watched.number, &path.to_path(&self.root));
            }
        }
        gone
    }

    /// The folder is somewhere else now, and all below it.
    fn retire(&self, known: &mut Known, path: &RelPath) {
        for (path, watched) in self.lose(known, path) {
            if let (Some(before), Some(inotify)) = (known.former.insert(path, watched.number), self.inotify.get()) {
                inotify.end_lost(before);
            }
        }
    }

    /// The folder was removed. Returns whether it was never watched.
    fn ended(&self, path: &RelPath, kind: RemoveKind) -> bool {
        let mut known = self.lock();
        let gone = self.lose(&mut known, path);
        let is_known = !gone.is_empty();
        if kind == RemoveKind::Folder {
            return !is_known && !known.told_once.remove(path);
        }
        if known.told_once.len() > TOLD_ONCE {
            known.told_once.clear();
        }
        known.told_once.extend(gone.into_iter().map(|(path, _)| path));
        false
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
                self.retire(&mut self.lock(), &path);
                Heard::FolderMade(path)
            }
            EventKind::Create(_) => Heard::Made(path),
            EventKind::Modify(ModifyKind::Metadata(_)) => Heard::Attributes(path),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                let Some(to) = paths.next().and_then(|to| RelPath::below(&self.root, to)) else {
                    return hear(Heard::Left(path));
                };
                self.retire(&mut self.lock(), &to);
                Heard::Renamed { from: path, to }
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                self.retire(&mut self.lock(), &path);
                Heard::Came(path)
            }
            // A watched folder says itself that it moved; its parent has said so already, and from where.
            EventKind::Modify(ModifyKind::Name(_)) if tracker.is_none() && path.is_root() => Heard::Root,
            EventKind::Modify(ModifyKind::Name(_)) if tracker.is_none() => return,
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.retire(&mut self.lock(), &path);
                Heard::Left(path)
            }
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => Heard::Modified(path),
            EventKind::Remove(kind) => {
                // Its watch ended with it, and another folder of the same inode number may follow.
                if kind != RemoveKind::File && self.ended(&path, kind) {
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
    fn take(&mut self, path: &RelPath) -> Vec<(RelPath, Watched)> {
        let without: Vec<RelPath> =
            self.without.range(path.clone()..).take_while(|p| p.is_within(path)).cloned().collect();
        for path in &without {
            self.without.remove(path);
        }
        take_within(&mut self.folders, path)
    }
}

fn take_within<T>(map: &mut BTreeMap<RelPath, T>, folder: &RelPath) -> Vec<(RelPath, T)> {
    let within: Vec<RelPath> =
        map.range(folder.clone()..).map(|(path, _)| path).take_while(|p| p.is_within(folder)).cloned().collect();
    within.into_iter().filter_map(|path| map.remove(&path).map(|value| (path, value))).collect()
}

fn is_gone(kind: &ErrorKind) -> bool {
    use std::io::ErrorKind as Io;
    match kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), Io::NotFound | Io::NotADirectory),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
