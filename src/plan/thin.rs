//! Owns which lines of a history go when it is thinned out. Pure: it is shown the lines of a stretch of time, oldest first,
//! and says which of them nobody needs to go back to the beginning of any period, nor to any later time of which all is kept.
//!
//! A line tells what was before it, so that the first line of a path within a period says all that there is to say of the
//! period's beginning; where it speaks of attributes alone, so does the first one after it that speaks of the whole entry.
//! What was removed last in a period stays too: nobody else has those contents. So does what came there
//! next; and each coming and going where a folder took the place of a file, or a file that of a folder. A rename leads from one path to others: it
//! stays, and a new period begins for what lies under its two names. But one of what had come within the period, to a
//! name of which a line speaks already, leads nowhere: it is how programs save files, over and over again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::keep::Share;
use crate::tree::entry::{Kind, Time};
use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

/// As many lines are looked at together: of 16 bytes each.
const MOST: usize = 1 << 20;
/// As many renames, or lines that are void, are looked at one by one.
const MANY: usize = 1 << 18;
/// Lines have numbers below this.
const LINES: u32 = 1 << 28;

/// What has to be known of a stretch before it can be thinned out.
#[derive(Debug, Default)]
pub struct Survey {
    hash: RandomState,
    /// The names that renames lead from and to.
    ends: HashSet<u64>,
    void: HashSet<Time>,
    is_too_much: bool,
}

impl Survey {
    /// Whether the survey wants to see lines with this word.
    pub fn wants(word: &[u8]) -> bool {
        matches!(word, b"renamed" | b"void")
    }

    pub fn see(&mut self, line: &Line) {
        if self.ends.len() >= MANY || self.void.len() >= MANY {
            self.is_too_much = true;
            return;
        }
        match &line.event {
            Event::Renamed { to, .. } => {
                let ends = [&line.path, to].map(|path| self.of(path.as_bytes()));
                self.ends.extend(ends);
            }
            Event::Void { of } => {
                self.void.insert(*of);
            }
            _ => {}
        }
    }

    fn of(&self, path: &[u8]) -> u64 {
        self.hash.hash_one(path)
    }
}

/// What happened to a path, in the order in which the numbers sort.
const CREATED: u32 = 0;
const CREATED_FOLDER: u32 = 1;
const UPDATED: u32 = 2;
const METADATA: u32 = 3;
const REMOVED: u32 = 4;
const REMOVED_FOLDER: u32 = 5;
/// A file went to another name, or came from one, by a line that nobody needs.
const WENT: u32 = 6;
const CAME: u32 = 7;

/// A line of a path: the path's hash; since when nothing was renamed there; the line's number, and what happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    path: u64,
    since: u32,
    line: u32,
}

impl Record {
    fn what(self) -> u32 {
        self.line & 7
    }

    fn number(self) -> u32 {
        self.line >> 3
    }
}

/// What is known of a name that a rename leads from or to, since `since`.
#[derive(Clone, Copy)]
struct End {
    since: u32,
    /// Nothing was there before the first line, and a file after it.
    was_absent: bool,
    /// It is a folder, or was.
    is_folder: bool,
}

/// A stretch of a history while it is thinned out.
pub struct Thin<D> {
    survey: Survey,
    drop: D,
    group: Option<(Share, i64)>,
    records: Vec<Record>,
    ends: HashMap<u64, End>,
    /// When something was last renamed to or from a name, or to or from below it, as a count.
    renamed: HashMap<u64, u32>,
    count: u32,
    /// The last thing that began or ended is an end; and its number, if it is in the same file.
    is_ended: bool,
    ended: Option<u32>,
    /// The lines that are void were there.
    voided: HashSet<Time>,
}

impl<D: FnMut(u32)> Thin<D> {
    /// `drop` is told the numbers of the lines that go.
    pub fn new(survey: Survey, drop: D) -> Self {
        Self {
            survey,
            drop,
            group: None,
            records: Vec::new(),
            ends: HashMap::new(),
            renamed: HashMap::new(),
            count: 0,
            is_ended: false,
            ended: None,
            voided: HashSet::new(),
        }
    }

    /// Shows the next line. `group` is what is kept of its age and the period that it lies in; `is_same_file`: it lies in the
    /// same file as the one before.
    pub fn see(&mut self, number: u32, line: &Line, group: (Share, i64), is_same_file: bool) {
        if !is_same_file {
            self.ended = None;
        }
        if self.group != Some(group) {
            self.settle();
            self.group = Some(group);
        }
        if group.0 == Share::All || self.survey.is_too_much || number >= LINES || line.event.is_note() {
            return;
        }
        if self.survey.void.contains(&line.at) {
            self.voided.insert(line.at);
            (self.drop)(number);
            return;
        }
        let what = match &line.event {
            Event::Created { kind: Kind::Directory } => CREATED_FOLDER,
            Event::Created { .. } => CREATED,
            Event::Updated { .. } => UPDATED,
            Event::Metadata { .. } => METADATA,
            Event::Removed { kind: Kind::Directory, .. } => REMOVED_FOLDER,
            Event::Removed { .. } => REMOVED,
            Event::Renamed { to, .. } => return self.renamed(number, &line.path, to),
            Event::Exchanged { with, .. } => return self.leads_on(&line.path, with),
            Event::Void { of } => {
                // It goes after the line that it speaks of, and not before.
                if !self.voided.contains(of) {
                    (self.drop)(number);
                }
                return;
            }
            Event::Ended => {
                (self.is_ended, self.ended) = (true, Some(number));
                return;
            }
            Event::Began => return self.began(number),
            Event::Since | Event::Gap => return self.settle(),
            Event::Thinned { .. } | Event::Follows { .. } => return,
        };
        let (hash, since) = self.place(&line.path);
        if self.survey.ends.contains(&hash) {
            let is_folder = matches!(what, CREATED_FOLDER | REMOVED_FOLDER);
            match self.ends.get_mut(&hash).filter(|end| end.since == since) {
                Some(end) => end.is_folder |= is_folder,
                None if what == METADATA => {}
                None => drop(self.ends.insert(hash, End { since, was_absent: what == CREATED, is_folder })),
            }
        }
        self.put(hash, since, number, what);
    }

    /// To be called when all lines have been shown.
    pub fn finish(mut self) {
        self.settle();
    }

    fn put(&mut self, path: u64, since: u32, number: u32, what: u32) {
        if self.records.len() >= MOST {
            self.settle();
        }
        self.records.push(Record { path, since, line: number << 3 | what });
    }

    /// A path's hash, and since when neither it nor what is above it was renamed. What is above it is known to hold something.
    fn place(&mut self, path: &RelPath) -> (u64, u32) {
        let bytes = path.as_bytes();
        let hash = self.survey.of(bytes);
        let mut since = self.renamed.get(&hash).copied().unwrap_or_default();
        if self.survey.ends.is_empty() && self.renamed.is_empty() {
            return (hash, since);
        }
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = self.survey.of(&bytes[..at]);
            since = since.max(self.renamed.get(&above).copied().unwrap_or_default());
            if let Some(end) = self.ends.get_mut(&above) {
                end.is_folder = true;
            }
        }
        (hash, since)
    }

    fn renamed(&mut self, number: u32, from: &RelPath, to: &RelPath) {
        let ((went, since), (came, came_since)) = (self.place(from), self.place(to));
        let known = |path: u64, since: u32| self.ends.get(&path).copied().filter(|end| end.since == since);
        let is_new = known(went, since).is_some_and(|end| end.was_absent && !end.is_folder);
        if is_new && known(came, came_since).is_some() {
            (self.drop)(number);
            self.put(went, since, number, WENT);
            self.put(came, came_since, number, CAME);
        } else {
            self.leads_on(from, to);
        }
    }

    /// From here on, what lies under these two names is another thing than before.
    fn leads_on(&mut self, one: &RelPath, other: &RelPath) {
        self.count += 1;
        for path in [one, other] {
            self.place(path);
            let hash = self.survey.of(path.as_bytes());
            self.renamed.insert(hash, self.count);
        }
        if self.renamed.len() >= MANY {
            self.settle();
        }
    }

    fn began(&mut self, number: u32) {
        if let Some(ended) = self.ended.take() {
            (self.drop)(ended);
            (self.drop)(number);
        }
        if !std::mem::take(&mut self.is_ended) {
            // What the last lines announce may not have happened.
            self.settle();
        }
    }

    /// Decides on what has been seen: a period, or as much of it as is looked at together.
    fn settle(&mut self) {
        self.ends.clear();
        self.renamed.clear();
        self.records.sort_unstable();
        let records = std::mem::take(&mut self.records);
        for of_path in records.chunk_by(|one, other| (one.path, one.since) == (other.path, other.since)) {
            self.thin_out(of_path);
        }
        self.records = records;
        self.records.clear();
    }

    fn thin_out(&mut self, lines: &[Record]) {
        let last = |what| lines.iter().rposition(|line| line.what() == what);
        let (file, folder) = (last(REMOVED), last(REMOVED_FOLDER));
        let first = lines.iter().position(|line| line.what() != METADATA);
        // Where a folder took the place of a file, or a file that of a folder, one is not told from the other without the lines
        // between.
        let has = |kinds: &[u32]| lines.iter().any(|line| kinds.contains(&line.what()));
        let changes_kind = has(&[CREATED_FOLDER, REMOVED_FOLDER]) && has(&[CREATED, UPDATED, REMOVED, WENT, CAME]);
        let is_told = |at: usize, line: &Record| match line.what() {
            // What came after what was removed last is not that.
            CREATED | CREATED_FOLDER => changes_kind || [file, folder].contains(&at.checked_sub(1)),
            REMOVED | REMOVED_FOLDER => changes_kind,
            _ => false,
        };
        let is_passing = lines.first().is_some_and(|line| line.what() == CREATED)
            && lines.last().is_some_and(|line| line.what() == WENT)
            && (file, folder) == (None, None);
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.what() < WENT) {
            let is_kept = at == 0 || [first, file, folder].contains(&Some(at)) || is_told(at, line);
            if is_passing || !is_kept {
                (self.drop)(line.number());
            }
        }
    }
}

#[cfg(test)]
mod tests;
