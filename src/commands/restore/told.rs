//! Owns what a restore says: a line for each entry where that is wanted, what was left alone, and the sum of it.

use std::io::{self, Write};

use rustix::io::Errno;

use crate::commands::status::words::{counted, number};
use crate::fs::history::shown_time;
use crate::fs::metadata::Lost;
use crate::service::pass::describe;
use crate::tree::entry::{Kind, Time};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use crate::tree::totals::Bytes;

/// What came back.
#[derive(Clone, Copy, Debug)]
pub enum Done {
    File(u64),
    Folder,
    Link,
    Special,
    /// Another name of a file that has come back.
    Name,
}

impl Done {
    pub fn of(kind: Kind, bytes: u64) -> Self {
        match kind {
            Kind::File => Self::File(bytes),
            Kind::Directory => Self::Folder,
            Kind::Symlink => Self::Link,
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => Self::Special,
        }
    }
}

#[derive(Debug, Default)]
pub struct Told {
    dry_run: bool,
    /// 0 is normal, -1 quiet, 1 verbose.
    verbosity: i8,
    files: u64,
    folders: u64,
    links: u64,
    specials: u64,
    names: u64,
    bytes: u64,
    same: u64,
    replaced: u64,
    removed: u64,
    left: u64,
    unknown: u64,
    failed: u64,
    lost: Lost,
}

impl Told {
    pub fn new(dry_run: bool, verbosity: i8) -> Self {
        Self { dry_run, verbosity, ..Self::default() }
    }

    pub fn done(&mut self, path: &RelPath, done: Done, replaced: bool) {
        match done {
            Done::File(bytes) => {
                self.files += 1;
                self.bytes += bytes;
            }
            Done::Folder => self.folders += 1,
            Done::Link => self.links += 1,
            Done::Special => self.specials += 1,
            Done::Name => self.names += 1,
        }
        self.replaced += u64::from(replaced);
        let words = match (self.dry_run, replaced) {
            (true, false) => "Would restore",
            (true, true) => "Would replace",
            (false, false) => "Restored",
            (false, true) => "Replaced",
        };
        self.say_entry(words, path);
    }

    pub fn removed(&mut self, path: &RelPath) {
        self.removed += 1;
        self.say_entry(if self.dry_run { "Would remove" } else { "Removed" }, path);
    }

    fn say_entry(&self, words: &str, path: &RelPath) {
        if self.verbosity > 0 || (self.dry_run && self.verbosity == 0) {
            say(&format!("{words}: {}", name(path)));
        }
    }

    pub fn same(&mut self) {
        self.same += 1;
    }

    /// Something stays as it is.
    pub fn left(&mut self, path: &RelPath, why: &str) {
        self.left += 1;
        if self.verbosity >= 0 {
            say(&format!("Left alone: {}: {why}", name(path)));
        }
    }

    /// Something stays of which nobody knows whether it was there then.
    pub fn unknown(&mut self, path: &RelPath) {
        self.unknown += 1;
        if self.verbosity > 0 {
            say(&format!("Not touched: {}: the replica does not have it", name(path)));
        }
    }

    pub fn failed(&mut self, path: &RelPath, error: Errno) {
        self.failed += 1;
        let why = match error {
            Errno::AGAIN => "it changes all the time".into(),
            Errno::EXIST => "something else has come there meanwhile".into(),
            Errno::NOENT => "it has gone meanwhile".into(),
            error => describe(error),
        };
        let _ = writeln!(io::stderr(), "driftless: cannot restore {}: {why}", name(path));
    }

    /// It was there, and nothing is left of it.
    pub fn gone(&mut self, path: &RelPath) {
        self.failed += 1;
        let _ = writeln!(io::stderr(), "driftless: cannot restore {}: what was kept of it is gone", name(path));
    }

    /// It is there still, with contents that nobody has written.
    pub fn decayed(&mut self, path: &RelPath) {
        self.failed += 1;
        let _ = writeln!(
            io::stderr(),
            "driftless: cannot restore {}: its contents in the replica have decayed",
            name(path)
        );
    }

    /// What could not be set: said once a kind.
    pub fn lost(&mut self, lost: Lost, path: &RelPath) {
        let before = self.lost;
        self.lost = before.or(lost);
        let kinds = [
            (lost.owner && !before.owner, "the owner"),
            (lost.mode && !before.mode, "the mode"),
            (lost.xattrs && !before.xattrs, "the extended attributes"),
            (lost.times && !before.times, "the times"),
        ];
        for (_, what) in kinds.iter().filter(|(is_new, _)| *is_new) {
            let _ = writeln!(io::stderr(), "driftless: {what} could not be set, as of {}", name(path));
        }
    }

    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.failed == 0
    }

    /// The sum: what came back, as it was when.
    pub fn sum(&self, path: &RelPath, when: &str) {
        if self.verbosity < 0 {
            return;
        }
        let words = if self.dry_run { "Would restore" } else { "Restored" };
        let is_new = [
            (self.files, "file", "files"),
            (self.folders, "folder", "folders"),
            (self.links, "link", "links"),
            (self.specials, "special file", "special files"),
            (self.names, "further name", "further names"),
        ];
        let mut parts: Vec<String> =
            is_new.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| counted(*n, one, many)).collect();
        if parts.is_empty() {
            parts.push("nothing".into());
        }
        if self.bytes > 0 {
            parts.push(Bytes(self.bytes).to_string());
        }
        let more = [
            (self.replaced, "replaced"),
            (self.removed, "removed"),
            (self.same, "as it was already"),
            (self.left, "left alone"),
            (self.unknown, "unknown to the replica"),
            (self.failed, "failed"),
        ];
        let more = more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", number(*n)));
        parts.extend(more);
        say(&format!("{words} {} as it was on {when}: {}", name(path), parts.join(", ")));
    }
}

/// Says that the time lies where not all is kept, and which times around it do not.
pub fn thinned(at: Time, (from, to): (Option<Time>, Time)) {
    let (at, to) = (shown_time(at), shown_time(to));
    let text = match from.map(shown_time) {
        Some(from) => format!(
            "between {from} and {to}: what changed there before {at} comes back as it was a little later; {from} and {to} are \
             exact"
        ),
        None => format!("before {to}: what changed before {at} may come back as it was later; {to} is exact"),
    };
    let _ = writeln!(io::stderr(), "driftless: not everything is kept of what changed {text}");
}

/// The path as it is shown.
pub fn name(path: &RelPath) -> String {
    if path.is_root() { "everything".into() } else { quoted(path.as_bytes()) }
}

fn say(text: &str) {
    // A closed pipe is no failure of ours.
    let _ = writeln!(io::stdout(), "{text}");
}
