//! Owns what was there at a time and is kept no more, though the journal says where: somebody has removed it by hand. It
//! goes back line by line together with the tree, so that it has the names of that time in the end.

use std::collections::{BTreeSet, HashSet};

use crate::plan::rewind::Disk;
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

#[derive(Debug, Default)]
pub struct Lost {
    paths: BTreeSet<RelPath>,
    void: HashSet<Time>,
}

impl Lost {
    /// Takes back one line, the newest that was not yet. `is_lost`: nothing is left of what was there before it.
    pub fn undo(&mut self, line: &Line, is_lost: bool, disk: &mut impl Disk) {
        if let Event::Void { of } = line.event {
            self.void.insert(of);
        }
        if (self.paths.is_empty() && !is_lost) || self.void.contains(&line.at) {
            return;
        }
        let path = &line.path;
        match &line.event {
            Event::Created { .. } => _ = self.take(path),
            Event::Renamed { to, .. } => {
                let moved = self.take(to);
                self.take(path);
                self.put(moved, to, path);
            }
            Event::Exchanged { with, .. } => {
                let (one, other) = (self.take(path), self.take(with));
                self.put(one, path, with);
                self.put(other, with, path);
            }
            Event::Updated { .. } | Event::Removed { .. } if is_lost => _ = self.paths.insert(path.clone()),
            Event::Updated { kept: Some(kept), .. } | Event::Removed { kept: Some(kept), .. }
                if disk.has_version(kept) =>
            {
                self.paths.remove(path);
            }
            _ => {}
        }
    }

    /// Whether something was there of which nothing is left.
    pub fn has(&self, path: &RelPath) -> bool {
        self.paths.contains(path)
    }

    /// The names of such things in what was a folder.
    pub fn names<'a>(&'a self, folder: &'a RelPath) -> impl Iterator<Item = &'a [u8]> {
        let own = move |path: &'a RelPath| path.split().filter(|(above, _)| above == folder).map(|(_, name)| name);
        self.paths.iter().filter_map(own)
    }

    fn take(&mut self, path: &RelPath) -> Vec<RelPath> {
        let taken: Vec<_> = self.paths.iter().filter(|lost| lost.is_within(path)).cloned().collect();
        self.paths.retain(|lost| !lost.is_within(path));
        taken
    }

    fn put(&mut self, paths: Vec<RelPath>, from: &RelPath, to: &RelPath) {
        self.paths.extend(paths.iter().filter_map(|path| path.moved(from, to)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::rewind::Source;
    use crate::tree::entry::Kind;
    use crate::tree::history::By;

    struct Whole;

    impl Disk for Whole {
        fn has_version(&mut self, _: &RelPath) -> bool {
            true
        }

        fn inode(&mut self, _: &Source) -> Option<(u64, Kind)> {
            None
        }
    }

    #[test]
    fn it_has_the_names_of_the_time() {
        let path = |text: &str| RelPath::new(text.as_bytes()).expect("a path");
        let lost = |lines: &[(&str, bool, Event)]| {
            let mut lost = Lost::default();
            for (number, (at, is_lost, event)) in lines.iter().enumerate().rev() {
                let at = (Time { sec: number as i64, nsec: 0 }, path(at));
                let line = Line { at: at.0, path: at.1, event: event.clone(), by: By::Restore, in_source: false };
                lost.undo(&line, *is_lost, &mut Whole);
            }
            lost.paths.iter().map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned()).collect::<Vec<_>>()
        };
        let created = || Event::Created { kind: Kind::File };
        let removed = || Event::Removed { kind: Kind::File, kept: Some(path("v")), was: None };
        let renamed = |to| Event::Renamed { to: path(to), ino: 1 };
        let exchanged = |with| Event::Exchanged { with: path(with), ino: 1 };
        assert_eq!(lost(&[("a", true, removed())]), ["a"]);
        assert!(lost(&[("a", false, created()), ("a", true, removed())]).is_empty(), "it was not there yet");
        assert!(lost(&[("a", false, removed()), ("a", false, created()), ("a", true, removed())]).is_empty());
        assert_eq!(lost(&[("a", true, removed()), ("a", false, created())]), ["a"]);
        assert_eq!(lost(&[("c", false, renamed("d")), ("d/a", true, removed())]), ["c/a"]);
        assert_eq!(lost(&[("c", false, exchanged("d")), ("d/a", true, removed())]), ["c/a"]);
        let void = Event::Void { of: Time::default() };
        assert!(lost(&[("a", true, removed()), ("a", false, void)]).is_empty());
    }
}
