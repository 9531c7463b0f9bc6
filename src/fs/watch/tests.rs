//! Owns the proof that a watch set ahead of the pass changes nothing for the pass.

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
        for folder in ["source/in", "cookies"] {
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
