//! Owns a back end for notify on Linux: watches of single folders, set in the caller's thread, and notify's events made of
//! what the kernel tells. Each event and each end of a watch costs the same however many watches there are. It does not
//! descend, and it does not judge where a folder is that was renamed: who watches says so.

mod table;

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, Flag, MetadataKind, ModifyKind, RemoveKind};
use notify::event::{EventKind, RenameMode};
use notify::{Config, Error, ErrorKind, Event, EventHandler, RecursiveMode, Watcher, WatcherKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use table::Table;

/// What is heard of a folder's entries; not that they are read, or the program would hear itself.
const ENTRIES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE);
const FOLDERS_ALONE: WatchFlags = WatchFlags::ONLYDIR.union(WatchFlags::DONT_FOLLOW);
/// In bytes; room for some thousand events of usual names.
const BUFFER: usize = 64 << 10;

/// The watches of one inotify instance, and the thread that reads what it tells.
#[derive(Debug)]
pub struct Inotify {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    instance: OwnedFd,
    stop: OwnedFd,
    table: Mutex<Table>,
}

/// The number of a watch. It belongs to a folder, and goes with it where it is renamed to.
pub type Number = i32;

impl Inotify {
    /// Watches a folder; also by this path, where it is watched by another already.
    ///
    /// # Errors
    /// `PathNotFound` where there is no such folder, `MaxFilesWatch` at the limit, else as of inotify_add_watch(2).
    pub fn place(&self, folder: &Path) -> notify::Result<Number> {
        self.add(folder, ENTRIES)
    }

    /// The same, and hears also when the folder itself is renamed, of which nothing above it tells.
    ///
    /// # Errors
    /// As of `place`.
    pub fn place_top(&self, folder: &Path) -> notify::Result<Number> {
        self.add(folder, ENTRIES.union(WatchFlags::MOVE_SELF))
    }

    fn add(&self, folder: &Path, flags: WatchFlags) -> notify::Result<Number> {
        self.shared.table().begin();
        // Not under the lock: a disk that does not answer must not keep those waiting who only listen.
        let set = inotify::add_watch(&self.shared.instance, folder, flags.union(FOLDERS_ALONE));
        let is_there = self.shared.table().finish(set.ok(), folder);
        match set {
            Ok(number) if is_there => Ok(number),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                Err(Error::new(ErrorKind::PathNotFound).add_path(folder.into()))
            }
            Err(Errno::NOSPC) => Err(Error::new(ErrorKind::MaxFilesWatch).add_path(folder.into())),
            Err(error) => Err(Error::io(error.into()).add_path(folder.into())),
        }
    }

    /// The folder is not there any more, wherever it may be. Its watch stays, unheard, until a path is given for it by
    /// `place`, or it is ended by `end_lost`.
    pub fn lose(&self, number: Number, folder: &Path) {
        self.shared.table().take(number, folder);
    }

    /// Ends a watch that no path is known of.
    pub fn end_lost(&self, number: Number) {
        let mut table = self.shared.table();
        if table.drop_lost(number) {
            // Already gone where the folder is.
            let _ = inotify::remove_watch(&self.shared.instance, number);
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.shared.table().len()
    }

    /// Ends the watch of a folder, unless it is watched by another path too.
    pub fn end(&self, number: Number, folder: &Path) {
        self.lose(number, folder);
        self.end_lost(number);
    }
}

impl Watcher for Inotify {
    /// Of the configuration nothing is taken: links are not followed, and what is heard is fixed.
    fn new<F: EventHandler>(handler: F, _: Config) -> notify::Result<Self> {
        let instance = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io)?;
        let shared = Arc::new(Shared { instance, stop, table: Mutex::default() });
        let read = Arc::clone(&shared);
        let read = move || Listener { shared: &read, handler, leaving: None }.run();
        std::thread::Builder::new().name("inotify".into()).spawn(read).map_err(Error::io)?;
        Ok(Self { shared })
    }

    fn watch(&mut self, path: &Path, recursive_mode: RecursiveMode) -> notify::Result<()> {
        match recursive_mode {
            RecursiveMode::NonRecursive => self.place_top(path).map(drop),
            RecursiveMode::Recursive => Err(Error::generic("this back end does not descend")),
        }
    }

    /// Looks through all watches: who knows the number ends it by that.
    fn unwatch(&mut self, path: &Path) -> notify::Result<()> {
        let number = self.shared.table().number_of(path);
        let number = number.ok_or_else(|| Error::new(ErrorKind::WatchNotFound).add_path(path.into()))?;
        self.end(number, path);
        Ok(())
    }

    fn kind() -> WatcherKind {
        WatcherKind::Inotify
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        // The descriptor of the instance is closed by the thread, at its end.
        let _ = rustix::io::write(&self.shared.stop, &1u64.to_ne_bytes());
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What runs in the thread.
struct Listener<'a, F> {
    shared: &'a Shared,
    handler: F,
    /// The first half of a rename, until the next event.
    leaving: Option<(u32, PathBuf)>,
}

impl<F: EventHandler> Listener<'_, F> {
    fn run(&mut self) {
        let shared = self.shared;
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
        loop {
            let mut wait = [&shared.instance, &shared.stop].map(|fd| PollFd::new(fd, PollFlags::IN));
            match poll(&mut wait, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return self.handler.handle_event(Err(io(error))),
            }
            if !wait[1].revents().is_empty() {
                return;
            }
            match self.read(buffer.spare_capacity_mut()) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return self.handler.handle_event(Err(io(error))),
            }
        }
    }

    /// Reads what is there, as far as the buffer has room.
    fn read(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Errno> {
        let shared = self.shared;
        let mut reader = Reader::new(&shared.instance, buffer);
        loop {
            self.hear(&reader.next()?);
            if reader.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, event: &inotify::Event) {
        let (told, number) = (event.events(), event.wd());
        if told.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.tell(Event::new(EventKind::Other).set_flag(Flag::Rescan));
        }
        if told.contains(ReadFlags::IGNORED) {
            // The watch has ended: with its folder, unless it was taken back, and is not in the table.
            let folders = self.shared.table().end(number);
            for folder in folders {
                self.tell(Event::new(EventKind::Remove(RemoveKind::Other)).add_path(folder.into()));
            }
            return;
        }
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let mut leaving = self.leaving.take().filter(|(cookie, _)| *cookie == event.cookie());
        let paths = self.shared.table().paths(number, name);
        for path in paths {
            let from = if told.contains(ReadFlags::MOVED_TO) { leaving.take().map(|(_, from)| from) } else { None };
            let Some(kind) = kind(told, from.is_some()) else { continue };
            if told.contains(ReadFlags::MOVED_FROM) {
                self.leaving = Some((event.cookie(), path.clone()));
            }
            let mut said = from.into_iter().fold(Event::new(kind), Event::add_path).add_path(path);
            if told.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO) {
                said = said.set_tracker(event.cookie() as usize);
            }
            self.tell(said);
        }
    }

    fn tell(&mut self, event: Event) {
        self.handler.handle_event(Ok(event));
    }
}

/// In notify's words; the kernel tells one thing an event. A rename of which both halves are known is told once.
fn kind(told: ReadFlags, both: bool) -> Option<EventKind> {
    let is_folder = told.contains(ReadFlags::ISDIR);
    let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
    Some(match told {
        _ if told.contains(ReadFlags::CLOSE_WRITE) => EventKind::Access(AccessKind::Close(AccessMode::Write)),
        _ if told.contains(ReadFlags::MODIFY) => EventKind::Modify(ModifyKind::Data(DataChange::Any)),
        _ if told.contains(ReadFlags::ATTRIB) => EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
        _ if told.contains(ReadFlags::CREATE) && is_folder => EventKind::Create(CreateKind::Folder),
        _ if told.contains(ReadFlags::CREATE) => EventKind::Create(CreateKind::File),
        _ if told.contains(ReadFlags::DELETE) && is_folder => EventKind::Remove(RemoveKind::Folder),
        _ if told.contains(ReadFlags::DELETE) => EventKind::Remove(RemoveKind::File),
        _ if told.contains(ReadFlags::MOVED_TO) && both => renamed(RenameMode::Both),
        _ if told.contains(ReadFlags::MOVED_TO) => renamed(RenameMode::To),
        // A folder says of itself that it moved, without a tracker.
        _ if told.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVE_SELF) => renamed(RenameMode::From),
        _ => return None,
    })
}

fn io(error: Errno) -> Error {
    Error::io(error.into())
}

#[cfg(test)]
mod tests;
