//! Owns reading a history, of a service that runs or of a disk without one: its files in order, and their lines. It tells
//! what a power cut has torn, which nobody misses, from what is damaged; who reads no more than lines passes over both.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::root::{Root, open_child};
use crate::fs::scan;
use crate::tree::exclude::RESERVED;
use crate::tree::history::{Event, JOURNAL, Line, VERSIONS};

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

/// What stands in one place of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Line(Line),
    /// The beginning of a line, with nothing after it or with zeros. So a power cut leaves the last line of a run.
    Torn,
    Damaged,
}

impl Text {
    /// What the bytes of a line say, without its end. Nothing where there are none.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match Line::decode(bytes) {
            Some(line) => Some(Self::Line(line)),
            None if bytes.is_empty() => None,
            None if is_torn(bytes) => Some(Self::Torn),
            None => Some(Self::Damaged),
        }
    }

    pub(super) fn line(self) -> Option<Line> {
        match self {
            Self::Line(line) => Some(line),
            Self::Torn | Self::Damaged => None,
        }
    }
}

fn is_torn(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let text = &bytes[..end];
    // A line begins with its time, and has no controls.
    let is_beginning = text.first().is_none_or(|first| first.is_ascii_digit() || *first == b'-')
        && text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    // No field but the sum is so long without a key.
    let is_whole =
        text.split(|byte| *byte == b'\t').skip(3).last().is_some_and(|last| last.len() == 16 && !last.contains(&b'='));
    is_beginning && !(is_whole && end == bytes.len())
}

/// Looks for damage while a journal is read backward, all files of it.
#[derive(Debug, Default)]
pub struct Damage {
    /// What was read last belongs to a run that went on there.
    is_amid: bool,
}

impl Damage {
    /// Whether something was lost here. What is torn is no loss where its run has come to an end: nothing that such a line
    /// announces is made before the line is whole.
    pub fn is_at(&mut self, text: &Text) -> bool {
        let is_end = matches!(text, Text::Line(Line { event: Event::Began | Event::Gap | Event::Since, .. }));
        match (text, std::mem::replace(&mut self.is_amid, !is_end)) {
            (Text::Line(_), _) => false,
            (Text::Torn, is_amid) => is_amid,
            (Text::Damaged, _) => true,
        }
    }
}

/// The lines of one of the journal's files, in the order in which they were written, as far as they can be read.
///
/// # Errors
/// As of openat(2).
pub fn lines(folder: BorrowedFd, segment: &str) -> Result<impl Iterator<Item = Line> + use<>, Errno> {
    Ok(texts(folder, segment)?.map_while(Result::ok).filter_map(Text::line))
}

/// What stands in one of the journal's files, in the order in which it was written. It ends with the first error.
///
/// # Errors
/// As of openat(2), and each as of read(2).
pub fn texts(folder: BorrowedFd, segment: &str) -> Result<impl Iterator<Item = Result<Text, Errno>> + use<>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(folder, segment, flags, Mode::empty())?;
    let mut reader = BufReader::with_capacity(64 << 10, std::fs::File::from(file));
    let (mut bytes, mut is_over) = (Vec::new(), false);
    Ok(std::iter::from_fn(move || {
        while !is_over {
            bytes.clear();
            match std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut bytes) {
                Ok(0) => is_over = true,
                Ok(_) => {
                    if bytes.last() == Some(&b'\n') {
                        bytes.pop();
                    }
                    if let Some(text) = Text::of(&bytes) {
                        return Some(Ok(text));
                    }
                }
                Err(error) => {
                    is_over = true;
                    return Some(Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
            }
        }
        None
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::history::gap::Gap;
    use crate::fs::history::{History, backward};
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
    fn what_is_torn_is_told_from_what_is_damaged() {
        let line = |path: &str, event| {
            let at = crate::tree::entry::Time { sec: 1_795_255_200, nsec: 0 };
            let mut text = Vec::new();
            Line { at, path: self::path(path), event, by: BY, in_source: false }.encode(&mut text);
            text.pop();
            text
        };
        let attributes = crate::tree::history::Attributes {
            xattrs: [(b"user.a-name".as_slice().into(), b"value".as_slice().into())].into(),
            ..Default::default()
        };
        let removed = Event::Removed { kind: Kind::File, kept: Some(path("d/a~2026-11-21")), was: Some(attributes) };
        let whole = line("a path that is as long/as a sum is now", removed);
        assert_eq!(Text::of(b""), None);
        for end in 1..whole.len() {
            let zeros = |count| [&whole[..end], &vec![0; count]].concat();
            assert_eq!((Text::of(&zeros(0)), Text::of(&zeros(9))), (Some(Text::Torn), Some(Text::Torn)), "{end}");
        }
        assert_eq!(Text::of(&[0; 9]), Some(Text::Torn));
        for at in 0..whole.len() - 17 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert_eq!(Text::of(&flipped), Some(Text::Damaged), "{at}");
        }
        for damaged in [&whole[whole.len() / 2..], b"nonsense", b"\0\xff", &[&whole[..9], b"\0", &whole].concat()] {
            assert_eq!(Text::of(damaged), Some(Text::Damaged), "{}", String::from_utf8_lossy(damaged));
        }
        // Only where a run ends nothing is lost by half a line.
        let created = || Text::of(&line("a", Event::Created { kind: Kind::File })).expect("a line");
        let began = || Text::of(&line("a", Event::Began)).expect("a line");
        let mut damage = Damage::default();
        let newest_first =
            [Text::Torn, created(), began(), Text::Torn, Text::Torn, began(), Text::Damaged, began(), created()];
        let found: Vec<bool> = newest_first.iter().map(|text| damage.is_at(text)).collect();
        assert_eq!(found, [false, false, false, false, true, false, true, false, false]);
    }

    #[test]
    fn an_error_is_no_end() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(top.path().join("2026-01-01T00")).expect("made");
        let folder = std::fs::File::open(top.path()).expect("open");
        let forward: Vec<_> = texts(folder.as_fd(), "2026-01-01T00").expect("open").collect();
        let backward: Vec<_> = backward::texts(folder.as_fd(), "2026-01-01T00").expect("open").collect();
        assert_eq!((forward, backward), (vec![Err(Errno::ISDIR)], vec![Err(Errno::ISDIR)]));
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
