//! Owns whose story a line of the journal belongs to. The path that is asked for is followed as a place, and what came to
//! it by a rename under the names that it had before, back to where it began. It reads no file.

use std::cmp::Reverse;

use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

/// More former names are not followed: something is renamed to this place without an end.
const MOST: usize = 100_000;

/// A name under which something that later came to the path was known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Former {
    name: RelPath,
    from: Time,
    until: Time,
}

/// What is to be told. It is shown the lines twice: first backward, to learn the names, then forward.
#[derive(Debug)]
pub struct Story {
    path: RelPath,
    /// Those whose beginning is known, latest end first.
    closed: Vec<Former>,
    /// Those that go on further back; after the first reading, those that the second one has come to.
    open: Vec<Former>,
}

impl Story {
    pub fn of(path: RelPath) -> Self {
        Self { path, closed: Vec::new(), open: Vec::new() }
    }

    /// Learns from the next older line.
    pub fn learn(&mut self, line: &Line) {
        if self.path.is_root() {
            return;
        }
        match &line.event {
            Event::Renamed { to, .. } => {
                let moved = |path: &RelPath| path.moved(to, &line.path);
                self.went(line.at, moved, &line.path);
            }
            Event::Exchanged { with, .. } => {
                let moved = |path: &RelPath| path.moved(with, &line.path).or_else(|| path.moved(&line.path, with));
                self.went(line.at, moved, with);
            }
            // There was nothing, or something else.
            Event::Created { .. } | Event::Removed { .. } => self.close(line.at, |name| name.is_within(&line.path)),
            _ => {}
        }
    }

    /// Names changed: before, each was what `moved` says, and nothing that is known was at `left`.
    fn went(&mut self, at: Time, moved: impl Fn(&RelPath) -> Option<RelPath>, left: &RelPath) {
        let before: Vec<_> =
            std::iter::once(&self.path).chain(self.open.iter().map(|former| &former.name)).filter_map(&moved).collect();
        self.close(at, |name| moved(name).is_some() || name.is_within(left));
        for name in before {
            let is_followed = name.is_within(&self.path) || self.open.iter().any(|former| former.name == name);
            if !is_followed && self.open.len() + self.closed.len() < MOST {
                self.open.push(Former { name, from: Time { sec: i64::MIN, nsec: 0 }, until: at });
            }
        }
    }

    fn close(&mut self, at: Time, is_over: impl Fn(&RelPath) -> bool) {
        for mut former in self.open.extract_if(.., |former| is_over(&former.name)) {
            former.from = at;
            self.closed.push(former);
        }
    }

    /// The first reading is over.
    pub fn turn(&mut self) {
        self.closed.append(&mut self.open);
        // The earliest is taken from the end.
        self.closed.sort_by_key(|former| Reverse(former.from));
    }

    /// Whether the next younger line belongs to the story.
    pub fn has(&mut self, line: &Line) -> bool {
        if self.path.is_root() {
            return true;
        }
        while let Some(next) = self.closed.pop_if(|former| former.from <= line.at) {
            self.open.push(next);
        }
        self.open.retain(|former| former.until >= line.at);
        touches(line, &self.path) || self.open.iter().any(|former| touches(line, &former.name))
    }
}

/// Whether a line tells of what is at a path, or below it.
fn touches(line: &Line, path: &RelPath) -> bool {
    let is_either = |other: &RelPath| other.is_within(path) || path.is_within(other);
    match &line.event {
        Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => {
            is_either(&line.path) || is_either(other)
        }
        _ => line.path.is_within(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Kind;
    use crate::tree::history::By;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path")
    }

    /// `+a` is created, `-a` is removed, `~a` updated, `a>b` renamed, `a=b` exchanged.
    fn line((at, text): (usize, &str)) -> Line {
        let of = |name| (path(name), Kind::File);
        let (path, event) = match text.split_at(1) {
            ("+", name) => (path(name), Event::Created { kind: of(name).1 }),
            ("-", name) => (path(name), Event::Removed { kind: Kind::File, kept: None, was: None }),
            ("~", name) => (path(name), Event::Updated { kind: Kind::File, kept: None }),
            _ => match text.split_once('>') {
                Some((from, to)) => (path(from), Event::Renamed { to: path(to), ino: 1 }),
                None => {
                    let (one, with) = text.split_once('=').expect("one of these");
                    (path(one), Event::Exchanged { with: path(with), ino: 1 })
                }
            },
        };
        Line { at: Time { sec: at as i64, nsec: 0 }, path, event, by: By::Restore, in_source: false }
    }

    fn story(of: &str, lines: &str) -> String {
        let texts: Vec<&str> = lines.split(' ').collect();
        let lines: Vec<Line> = texts.iter().copied().enumerate().map(line).collect();
        let mut story = Story::of(path(of));
        lines.iter().rev().for_each(|line| story.learn(line));
        story.turn();
        let told = texts.iter().zip(&lines).filter(|(_, line)| story.has(line));
        told.map(|(text, _)| *text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_story_goes_on_under_former_names() {
        let table = [
            ("a", "+a +b ~a ~b -a", "+a ~a -a"),
            ("b", "+a ~a +x a>b ~b ~x", "+a ~a a>b ~b"),
            ("c", "+a ~a a>b ~b b>c ~c", "+a ~a a>b ~b b>c ~c"),
            // Another that has had the name since is not meant.
            ("b", "+a a>b +a ~a ~b", "+a a>b ~b"),
            // One that had the former name before is not meant, either.
            ("b", "+a ~a -a +a a>b", "+a a>b"),
            // The place is followed, too: what was saved by a rename, again and again.
            ("f", "+t t>f -f +t t>f ~f", "+t t>f -f +t t>f ~f"),
            // In a folder that was renamed, or that another one was made in.
            ("d/a", "+c +c/a +c/b c>d ~d/a ~d/b", "+c/a c>d ~d/a"),
            ("d", "+c +c/a c>d ~d/a +e", "+c +c/a c>d ~d/a"),
            ("d/a", "+x x>c/a c>d", "+x x>c/a c>d"),
            ("e/d/a", "+c/a c>d d>e/d ~e/d/a", "+c/a c>d d>e/d ~e/d/a"),
            ("a", "+a a>b ~b", "+a a>b"),
            ("a", "+a +b ~a a=b ~a ~b", "+a +b ~a a=b ~a"),
            ("", "+a ~b", "+a ~b"),
            ("ab", "+a +ab/c a>b", "+ab/c"),
        ];
        for (of, lines, told) in table {
            assert_eq!(story(of, lines), told, "{of} of {lines}");
        }
    }
}
