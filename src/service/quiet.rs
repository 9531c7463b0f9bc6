//! Owns asking notify's debouncer when a path has fallen quiet. It is fed by hand, one kind of event only, so that it
//! neither drops nor reorders anything; and it is there only while it has something to do, since its thread ticks.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{Config, Event, EventHandler, EventKind, RecursiveMode, Watcher, WatcherKind};
use notify_debouncer_full::{DebounceEventResult, Debouncer, NoCache, new_debouncer_opt};

use crate::tree::path::RelPath;

/// A debouncer at work.
pub struct Quiet {
    feed: Box<dyn EventHandler>,
    /// Its thread ends with it.
    _debouncer: Debouncer<Feed, NoCache>,
}

/// What was fed, and then not again for the timeout.
#[derive(Debug, PartialEq, Eq)]
pub struct Fallen {
    pub paths: Vec<RelPath>,
    /// No path was removed either.
    pub removals: bool,
}

/// Stands for all removals together; below a tree there is no such path.
const REMOVALS: &str = "/";

impl Quiet {
    /// Starts one. `fallen_quiet` is called in its thread.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn start(
        timeout: Duration,
        mut fallen_quiet: impl FnMut(Fallen) + Send + 'static,
    ) -> Result<Self, notify::Error> {
        let handler = move |result: DebounceEventResult| {
            let events = result.unwrap_or_default();
            let path = |p: PathBuf| RelPath::new(&p.into_os_string().into_vec());
            let fed = || events.iter().flat_map(|e| &e.event.paths);
            let removals = fed().any(|fed| fed == Path::new(REMOVALS));
            let mut paths: Vec<RelPath> = fed().cloned().filter_map(path).collect();
            paths.sort_unstable();
            paths.dedup();
            fallen_quiet(Fallen { paths, removals });
        };
        let debouncer = new_debouncer_opt(timeout, None, handler, NoCache::new(), Config::default())?;
        let feed = FEED.take().ok_or_else(|| notify::Error::generic("the debouncer took no feed"))?;
        Ok(Self { feed, _debouncer: debouncer })
    }

    /// Says that something was heard of `path` now.
    pub fn heard(&mut self, path: &RelPath) {
        self.feed(OsStr::from_bytes(path.as_bytes()));
    }

    /// Says that something was removed now, whatever it is.
    pub fn heard_removal(&mut self) {
        self.feed(OsStr::new(REMOVALS));
    }

    fn feed(&mut self, path: &OsStr) {
        let path = PathBuf::from(path);
        self.feed.handle_event(Ok(Event::new(EventKind::Modify(ModifyKind::Any)).add_path(path)));
    }
}

thread_local! {
    /// How the debouncer's own handler gets out of the watcher that the debouncer makes for itself.
    static FEED: RefCell<Option<Box<dyn EventHandler>>> = const { RefCell::new(None) };
}

/// The watcher that the debouncer believes to have: it watches nothing.
struct Feed;

impl Watcher for Feed {
    fn new<F: EventHandler>(handler: F, _: Config) -> notify::Result<Self> {
        FEED.set(Some(Box::new(handler)));
        Ok(Self)
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> WatcherKind {
        WatcherKind::NullWatcher
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_path_is_reported_once_it_is_quiet_and_not_before() {
        let (tx, rx) = crossbeam_channel::unbounded();
        let timeout = Duration::from_millis(40);
        let mut quiet = Quiet::start(timeout, move |fallen| drop(tx.send(fallen))).expect("a debouncer");
        let path = RelPath::new(b"a/\xff").expect("a valid path");
        let start = Instant::now();
        quiet.heard(&path);
        let reported = rx.recv_timeout(Duration::from_secs(10)).expect("a report");
        assert_eq!(reported, Fallen { paths: vec![path], removals: false });
        assert!(start.elapsed() >= timeout);
        quiet.heard_removal();
        let reported = rx.recv_timeout(Duration::from_secs(10)).expect("a report");
        assert_eq!(reported, Fallen { paths: vec![], removals: true });
    }
}
