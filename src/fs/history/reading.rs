//! Owns reading a history, of a service that runs or of a disk without one: its files in order, and their lines. What is
//! torn or damaged is passed over.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::root::{Root, open_child};
use crate::fs::scan;
use crate::tree::exclude::RESERVED;
use crate::tree::history::{JOURNAL, Line, VERSIONS};

/// No line is longer: extended attributes have at most 64 KiB in all, and a byte is written as four.
pub(super) const LONGEST: u64 = 1 << 20;

/// Opens the folder of the journal of a replica.
///
/// # Errors
/// As of openat(2): ENOENT where there is no history.
pub fn folder(replica: &Root) -> Result<OwnedFd, Errno> {
    open_child(open_child(replica.fd(), RESERVED)?.as_fd(), JOURNAL)
}

/// Opens the folder of what is kept.
///
/// # Errors
/// As of openat(2).
pub fn versions(replica: &Root) -> Result<OwnedFd, Errno> {
    open_child(open_child(replica.fd(), RESERVED)?.as_fd(), VERSIONS)
}

/// The names of the journal's files, oldest first.
///
/// # Errors
/// As of getdents(2).
pub fn segments(folder: BorrowedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    // What is open has been listed before, and would begin at its end.
    let again = open_child(folder, b".")?;
    scan::each_entry(again.as_fd(), |name, _| {
        if let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_segment(name)) {
            names.push(name.to_string());
        }
    })?;
    // The names sort as their times do, as long as years have four digits.
    names.sort_unstable();
    Ok(names)
}

fn is_segment(name: &str) -> bool {
    name.len() == 13 && name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'T'))
}

/// The lines of one of the journal's files, in the order in which they were written.
///
/// # Errors
/// As of openat(2).
pub fn lines(folder: BorrowedFd, segment: &str) -> Result<impl Iterator<Item = Line> + use<>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(folder, segment, flags, Mode::empty())?;
    let mut reader = BufReader::with_capacity(64 << 10, std::fs::File::from(file));
    let mut text = Vec::new();
    Ok(std::iter::from_fn(move || {
        loop {
            text.clear();
            let read = std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut text);
            if !matches!(read, Ok(1..)) {
                return None;
            }
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            if let Some(line) = Line::decode(&text) {
                return Some(line);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::history::History;
    use crate::fs::history::gap::Gap;
    use crate::tree::entry::Kind;
    use crate::tree::history::{By, Event};
    use crate::tree::operation::Cause;
    use crate::tree::path::RelPath;

    const BY: By = By::Cause(Cause::Event);

    fn all(root: &Root) -> Vec<Line> {
        let folder = folder(root).expect("a journal");
        let names = segments(folder.as_fd()).expect("its files");
        names.iter().flat_map(|name| lines(folder.as_fd(), name).expect("its lines")).collect()
    }

    fn words(root: &Root) -> Vec<Event> {
        all(root).into_iter().map(|line| line.event).collect()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path")
    }

    #[test]
    fn what_is_said_is_read_again_and_times_rise() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        assert!(Gap::of(&root).expect("a look").is_none());
        let history = History::open(&root, &root).expect("a history");
        let created = Event::Created { kind: Kind::File };
        for n in 0..100 {
            history.say(&path(&format!("a/{n}")), created.clone(), BY, false);
        }
        assert_eq!(words(&root), [Event::Since, Event::Began], "what was not put is in memory");
        history.put(true).expect("on disk");
        let lines = all(&root);
        assert_eq!(lines.len(), 102);
        assert!(lines.windows(2).all(|two| two[0].at < two[1].at));
        history.close();
        drop(history);
        History::open(&root, &root).expect("again").close();
        assert_eq!(words(&root)[102..], [Event::Ended, Event::Began, Event::Ended]);
        let gap = Gap::of(&root).expect("a look").expect("a history");
        assert_eq!(words(&root).len(), 105, "nothing was changed by now");
        gap.note().expect("said");
        gap.note().expect("said once");
        let again = Gap::of(&root).expect("a look").expect("a history");
        again.note().expect("it is said by the run before");
        History::open(&root, &root).expect("again");
        assert_eq!(words(&root)[105..], [Event::Gap, Event::Since, Event::Began]);
    }

    #[test]
    fn half_a_line_spoils_no_other() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        drop(History::open(&root, &root).expect("a history"));
        let names = segments(folder(&root).expect("a journal").as_fd()).expect("its files");
        let file = top.path().join(".driftless/journal").join(names.last().expect("one"));
        let mut text = std::fs::read(&file).expect("read");
        text.extend_from_slice(b"12.000000000\tcreated\tha");
        std::fs::write(&file, text).expect("written");
        History::open(&root, &root).expect("again");
        assert_eq!(words(&root), [Event::Since, Event::Began, Event::Began]);
    }

    #[test]
    fn what_is_lost_lies_where_it_is_said() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        std::fs::create_dir(top.path().join("d")).expect("made");
        std::fs::write(top.path().join("d/a.txt"), "old").expect("written");
        let history = History::open(&root, &root).expect("a history");
        let folder = root.open_folder(&path("d")).expect("open");
        let said = |kept| Event::Removed { kind: Kind::File, kept: Some(kept), was: None };
        let (_, linked) = history.say_kept(&path("d/a.txt"), said, (BY, false));
        history.link(&linked, folder.as_fd(), b"a.txt").expect("linked");
        let (_, taken) = history.say_kept(&path("d/a.txt"), said, (BY, false));
        // An empty folder may be removed at any moment.
        history.drop_kept(&linked);
        std::fs::remove_dir(top.path().join(".driftless/versions/d")).expect("empty");
        history.take(&taken, folder.as_fd(), b"a.txt").expect("moved");
        let kept = taken.path.to_path(&top.path().join(".driftless/versions"));
        assert_eq!(std::fs::read_to_string(kept).expect("kept"), "old");
        assert!(!top.path().join("d/a.txt").exists() && taken.path != linked.path);
    }

    #[test]
    fn a_history_that_somebody_removes_begins_once_more() {
        let top = tempfile::tempdir().expect("a folder");
        let root = Root::open(top.path()).expect("a root");
        let history = History::open(&root, &root).expect("a history");
        let said = |kept| Event::Removed { kind: Kind::File, kept: Some(kept), was: None };
        for round in 0..2 {
            std::fs::write(top.path().join("a"), "old").expect("written");
            let (_, slot) = history.say_kept(&path("a"), said, (BY, false));
            history.put(true).expect("on disk");
            history.take(&slot, root.fd(), b"a").expect("kept");
            assert_eq!(words(&root)[..2], [Event::Since, Event::Began], "round {round}");
            assert_eq!(words(&root).len(), 3, "round {round}");
            let times: Vec<_> = all(&root).iter().map(|line| line.at).collect();
            assert!(times.is_sorted() && times[2].since(times[0]) < 1_000_000_000, "round {round}: {times:?}");
            assert!(slot.path.to_path(&top.path().join(".driftless/versions")).exists(), "round {round}");
            std::fs::remove_dir_all(top.path().join(".driftless")).expect("removed");
        }
    }
}
