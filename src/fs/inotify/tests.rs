//! Owns the proof of what the back end tells, against the kernel itself.

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

struct Place {
    top: tempfile::TempDir,
    watches: Inotify,
    told: Receiver<notify::Result<Event>>,
}

impl Place {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a folder");
        fs::create_dir(top.path().join("end")).expect("made");
        let (tell, told) = channel();
        let mut watches = Inotify::new(move |event| drop(tell.send(event)), Config::default()).expect("a watcher");
        watches.watch(&top.path().join("end"), RecursiveMode::NonRecursive).expect("a watch");
        Self { top, watches, told }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn folder(&self, name: &str) -> Number {
        fs::create_dir(self.path(name)).expect("made");
        self.watches.place(&self.path(name)).expect("a watch")
    }

    /// All that is told of what was done until now: the kinds, and the paths below the top.
    fn told(&self) -> Vec<(EventKind, Vec<String>)> {
        fs::create_dir(self.path("end/now")).expect("made");
        fs::remove_dir(self.path("end/now")).expect("removed");
        let next = || self.told.recv_timeout(Duration::from_secs(60)).expect("an event").expect("no error");
        let is_end = |event: &Event| matches!(event.kind, EventKind::Remove(_)) && event.paths[0].ends_with("end/now");
        let shown = |path: PathBuf| path.strip_prefix(self.top.path()).expect("below").to_string_lossy().into_owned();
        std::iter::repeat_with(next)
            .take_while(|event| !is_end(event))
            .filter(|event| !event.paths[0].ends_with("end/now"))
            .map(|event| (event.kind, event.paths.into_iter().map(shown).collect()))
            .collect()
    }
}

fn said(kind: EventKind, paths: &[&str]) -> (EventKind, Vec<String>) {
    (kind, paths.iter().map(|path| (*path).into()).collect())
}

fn renamed(mode: RenameMode) -> EventKind {
    EventKind::Modify(ModifyKind::Name(mode))
}

#[test]
fn each_kind_of_work_is_told_with_its_path() {
    let place = Place::new();
    place.folder("a");
    fs::write(place.path("a/f"), "x").expect("written");
    fs::rename(place.path("a/f"), place.path("a/g")).expect("renamed");
    fs::remove_file(place.path("a/g")).expect("removed");
    fs::create_dir(place.path("a/b")).expect("made");
    let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    assert_eq!(
        place.told(),
        [
            said(EventKind::Create(CreateKind::File), &["a/f"]),
            said(written, &["a/f"]),
            said(close, &["a/f"]),
            said(renamed(RenameMode::From), &["a/f"]),
            said(renamed(RenameMode::Both), &["a/f", "a/g"]),
            said(EventKind::Remove(RemoveKind::File), &["a/g"]),
            said(EventKind::Create(CreateKind::Folder), &["a/b"]),
        ]
    );
}

#[test]
fn half_a_rename_is_told_as_what_it_is() {
    let place = Place::new();
    place.folder("a");
    fs::create_dir(place.path("unwatched")).expect("made");
    fs::write(place.path("unwatched/f"), "x").expect("written");
    fs::rename(place.path("unwatched/f"), place.path("a/f")).expect("renamed");
    fs::rename(place.path("a/f"), place.path("unwatched/f")).expect("renamed");
    assert_eq!(place.told(), [said(renamed(RenameMode::To), &["a/f"]), said(renamed(RenameMode::From), &["a/f"])]);
}

#[test]
fn watch_of_a_renamed_folder_is_silent_until_its_path_is_given_and_is_the_same_one() {
    let place = Place::new();
    let number = place.folder("a");
    fs::rename(place.path("a"), place.path("b")).expect("renamed");
    place.watches.lose(number, &place.path("a"));
    fs::create_dir(place.path("b/unheard")).expect("made");
    assert_eq!(place.told(), []);
    assert_eq!(place.watches.place(&place.path("b")).expect("a watch"), number);
    // It has a path again, so that this is too late.
    place.watches.end_lost(number);
    fs::create_dir(place.path("b/heard")).expect("made");
    assert_eq!(place.told(), [said(EventKind::Create(CreateKind::Folder), &["b/heard"])]);
    place.watches.lose(number, &place.path("b"));
    place.watches.end_lost(number);
    assert_eq!(place.watches.count(), 1, "nothing but the end");
}

#[test]
fn watch_ends_with_its_folder_and_is_told_once() {
    let place = Place::new();
    place.folder("a");
    place.folder("a/b");
    place.told();
    fs::remove_dir(place.path("a/b")).expect("removed");
    let (own, parents) = (EventKind::Remove(RemoveKind::Other), EventKind::Remove(RemoveKind::Folder));
    assert_eq!(place.told(), [said(own, &["a/b"]), said(parents, &["a/b"])]);
    assert_eq!(place.watches.count(), 2);
    // The same name is another folder, with a watch of its own.
    let again = place.folder("a/b");
    place.watches.end(again, &place.path("a/b"));
    assert_eq!(place.told(), [said(EventKind::Create(CreateKind::Folder), &["a/b"])], "what was taken back is silent");
}

#[test]
fn folder_that_is_watched_by_two_paths_tells_both() {
    let place = Place::new();
    let number = place.folder("a");
    let other = place.path("a/../a");
    assert_eq!(place.watches.place(&other).expect("a watch"), number);
    fs::create_dir(place.path("a/b")).expect("made");
    let made = EventKind::Create(CreateKind::Folder);
    assert_eq!(place.told(), [said(made, &["a/b"]), said(made, &["a/../a/b"])]);
    place.watches.end(number, &other);
    fs::remove_dir(place.path("a/b")).expect("removed");
    assert_eq!(place.told(), [said(EventKind::Remove(RemoveKind::Folder), &["a/b"])]);
}

#[test]
fn only_folders_are_watched_and_by_no_link() {
    let mut place = Place::new();
    fs::write(place.path("file"), "x").expect("written");
    std::os::unix::fs::symlink("end", place.path("link")).expect("made");
    for name in ["nothing", "file", "link"] {
        let error = place.watches.place(&place.path(name)).expect_err("no watch");
        assert!(matches!(error.kind, ErrorKind::PathNotFound), "{name}: {error:?}");
    }
    let (path, end) = (place.path("nothing"), place.path("end"));
    assert!(matches!(place.watches.unwatch(&path).map_err(|e| e.kind), Err(ErrorKind::WatchNotFound)));
    place.watches.watch(&end, RecursiveMode::Recursive).expect_err("it does not descend");
    place.watches.unwatch(&end).expect("ended");
    assert_eq!(place.watches.count(), 0);
}

#[test]
fn watch_that_ended_before_its_number_was_known_is_none() {
    let (mut table, path) = (Table::default(), Path::new("/a"));
    table.begin();
    assert!(table.end(1).is_empty());
    assert!(!table.finish(Some(1), path));
    table.begin();
    assert!(table.finish(Some(1), path), "a number that is given anew");
    assert_eq!(table.end(1), [path.into()]);
}
