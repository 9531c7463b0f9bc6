//! Owns the proof that a watch set ahead of the pass changes nothing for the pass, and that watches follow folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

struct Place {
    top: tempfile::TempDir,
    watches: Watches,
    heard: Receiver<Heard>,
}

impl Place {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a folder");
        for folder in ["source/in/deep", "cookies", "elsewhere"] {
            fs::create_dir_all(top.path().join(folder)).expect("made");
        }
        let (tell, heard) = channel();
        let hear = move |heard| drop(tell.send(heard));
        let watches = Watches::start(&top.path().join("source"), &top.path().join("cookies"), hear).expect("watches");
        Self { top, watches, heard }
    }

    fn id(&self, text: &str) -> (RelPath, InodeId) {
        let path = path(text);
        let stat = fs::metadata(path.to_path(&self.top.path().join("source"))).expect("there");
        (path, InodeId { dev: 0, ino: stat.ino() })
    }

    fn ensure(&self, text: &str) -> Watching {
        let (path, id) = self.id(text);
        self.watches.ensure(&path, id).expect("a watch")
    }

    /// Watches that the kernel has for the source, whether a path is known of them or not.
    fn set(&self) -> usize {
        // One is for the cookies.
        self.watches.shared.inotify.get().expect("a back end").count() - 1
    }

    fn rename(&self, from: &str, to: &str) {
        let at = |name: &str| self.top.path().join(name);
        fs::rename(at(from), at(to)).expect("renamed");
    }

    fn write(&self, name: &str) {
        fs::write(self.top.path().join("source").join(name), "x").expect("written");
    }

    /// What is heard until a cookie comes back.
    fn heard(&self) -> Vec<Heard> {
        fs::write(self.top.path().join("cookies/c"), "").expect("written");
        fs::remove_file(self.top.path().join("cookies/c")).expect("removed");
        let next = || self.heard.recv_timeout(Duration::from_secs(60)).expect("a cookie");
        std::iter::repeat_with(next).take_while(|heard| !matches!(heard, Heard::Cookie(_))).collect()
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a path")
}

#[test]
fn a_watch_that_was_set_ahead_is_new_to_the_pass_and_heard_from_then_on() {
    let place = Place::new();
    let (root, in_it) = (place.id(""), place.id("in"));
    place.watches.place_ahead(&root.0, root.1).expect("a watch");
    place.watches.place_ahead(&in_it.0, in_it.1).expect("a watch");
    assert!(!place.watches.has(&root.0, root.1), "a pass has to look at it still");
    assert_eq!(place.watches.count(), (2, 0));
    place.write("early");
    assert_eq!(place.heard(), []);
    assert_eq!(place.watches.ensure(&root.0, root.1).expect("a watch"), Watching::Now);
    assert_eq!(place.watches.ensure(&root.0, root.1).expect("a watch"), Watching::Since);
    // Who sets it ahead comes late here, and changes nothing.
    place.watches.place_ahead(&root.0, root.1).expect("a watch");
    assert!(place.watches.has(&root.0, root.1));
    place.write("late");
    place.write("in/early");
    let heard = place.heard();
    assert!(heard.contains(&Heard::Written(path("late"))), "{heard:?}");
    assert!(!heard.iter().any(|heard| heard.paths()[0] == Some(&path("in/early"))), "{heard:?}");
    place.watches.all_seen();
    place.write("in/late");
    assert!(place.heard().contains(&Heard::Written(path("in/late"))));
}

#[test]
fn watches_below_a_renamed_folder_are_taken_over_where_it_is_now() {
    let place = Place::new();
    for name in ["", "in", "in/deep"] {
        assert_eq!(place.ensure(name), Watching::Now);
    }
    place.rename("source/in", "source/out");
    let renamed = Heard::Renamed { from: path("in"), to: path("out") };
    assert_eq!(place.heard(), [Heard::Left(path("in")), renamed]);
    assert_eq!((place.watches.count(), place.set()), ((1, 0), 3), "nobody has looked where they are");
    place.write("out/deep/unheard");
    assert_eq!(place.heard(), []);
    assert_eq!(place.ensure("out"), Watching::Now);
    assert_eq!(place.ensure("out/deep"), Watching::Now);
    place.watches.forget_former(&path("in"));
    assert_eq!((place.watches.count(), place.set()), ((3, 0), 3));
    assert_eq!(place.ensure("out/deep"), Watching::Since);
    place.write("out/deep/heard");
    assert!(place.heard().contains(&Heard::Written(path("out/deep/heard"))));
}

#[test]
fn watches_below_a_folder_that_left_end_when_it_is_forgotten() {
    let place = Place::new();
    for name in ["", "in", "in/deep"] {
        place.ensure(name);
    }
    place.rename("source/in", "elsewhere/in");
    assert_eq!(place.heard(), [Heard::Left(path("in"))]);
    place.watches.forget(&path("in"));
    assert_eq!((place.watches.count(), place.set()), ((1, 0), 1));
    // Back again, it is new.
    place.rename("elsewhere/in", "source/in");
    assert_eq!(place.heard(), [Heard::Came(path("in"))]);
    assert_eq!(place.ensure("in/deep"), Watching::Now);
}

#[test]
fn removed_folder_tells_so_and_its_name_is_free_for_another() {
    let place = Place::new();
    for name in ["", "in", "in/deep"] {
        place.ensure(name);
    }
    fs::remove_dir(place.top.path().join("source/in/deep")).expect("removed");
    let removed = Heard::Removed(path("in/deep"));
    assert_eq!(place.heard(), [removed.clone(), removed.clone()], "by itself, and by what is above it");
    assert_eq!((place.watches.count(), place.set()), ((2, 0), 2));
    fs::create_dir(place.top.path().join("source/in/deep")).expect("made");
    fs::remove_dir(place.top.path().join("source/in/deep")).expect("removed");
    let made = Heard::FolderMade(path("in/deep"));
    assert_eq!(place.heard(), [made.clone(), made, removed], "nothing that happened in it was heard");
}
