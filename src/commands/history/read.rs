//! Owns going through a journal: only the files that the time asked for is in, first backward, to learn what happened in
//! truth and under which names, then forward, to tell it. Memory holds what was void and the names, never the lines.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::story::Story;
use crate::fs::history::reading::{Damage, Text};
use crate::fs::history::{backward, journal, reading};
use crate::fs::root::Root;
use crate::service::pass::describe;
use crate::tree::entry::{Seen, Time};
use crate::tree::exclude::RESERVED;
use crate::tree::history::{Event, Line, VERSIONS};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// From when to when, both included.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub since: Option<Time>,
    pub until: Option<Time>,
}

/// A line that belongs to the story, with what is there of what it speaks of.
pub struct Told<'a> {
    pub line: &'a Line,
    /// What was lost lies there still, below the replica's root.
    pub kept: Option<&'a RelPath>,
}

/// What of a journal is not told.
#[derive(Debug, Default)]
pub struct Unread {
    /// What could not be read, in sentences.
    pub failed: Vec<String>,
    /// How many lines are damaged, and in which files.
    pub damaged: u64,
    pub damaged_in: BTreeSet<String>,
}

/// Tells `story` to `tell`, oldest line first, until that returns an error. Returns what could not be read.
///
/// # Errors
/// There is no journal, or it cannot be listed; or that of `tell`.
pub fn tell(
    replica: &Root,
    window: Window,
    story: &mut Story,
    mut tell: impl FnMut(&Told) -> Result<(), Failed>,
) -> Result<Unread, Failed> {
    let folder = reading::folder(replica).map_err(Failed::Journal)?;
    let all = reading::segments(folder.as_fd()).map_err(Failed::Journal)?;
    let mut names = all.clone();
    if let Some(since) = window.since {
        names.retain(|name| *name >= journal::segment(since));
    }
    let mut unread = Unread::default();
    let known = learn(folder.as_fd(), (&names, &all), window, story, &mut unread);
    story.turn();
    if let Some(until) = window.until {
        names.retain(|name| *name <= journal::segment(until));
    }
    let versions = RelPath::root().join(RESERVED).join(VERSIONS);
    for name in &names {
        let Ok(lines) = reading::lines(folder.as_fd(), name) else { continue };
        for line in lines {
            let is_outside =
                window.since.is_some_and(|since| line.at < since) || known.last.is_none_or(|last| line.at > last);
            let is_void = matches!(line.event, Event::Void { .. }) || known.void.contains(&line.at);
            if is_outside || is_void || line.event.is_note() || !(is_mark(&line.event) || story.has(&line)) {
                continue;
            }
            let kept =
                line.event.kept().and_then(|kept| RelPath::new(&[versions.as_bytes(), b"/", kept.as_bytes()].concat()));
            let kept = kept.filter(|kept| !matches!(replica.look_at(kept), Ok(Seen::Absent)));
            // It was announced by a run that was interrupted, or that is just about to do it.
            if line.event.kept().is_some() && kept.is_none() && known.is_announced_alone(line.at) {
                continue;
            }
            tell(&Told { line: &line, kept: kept.as_ref() })?;
        }
    }
    Ok(unread)
}

/// Whether it concerns the journal itself.
pub fn is_mark(event: &Event) -> bool {
    matches!(event, Event::Since | Event::Gap | Event::Began | Event::Ended)
}

/// Why nothing, or no more, is told.
#[derive(Debug)]
pub enum Failed {
    Journal(Errno),
    Output(std::io::Error),
}

/// What was said so many nanoseconds before a run was interrupted may not have been done any more.
const LAST: i128 = 60_000_000_000;

/// What one knows of a line only from later ones.
#[derive(Default)]
struct Known {
    void: HashSet<Time>,
    /// The last line of each run of the program, and whether the run came to its end.
    runs: BTreeMap<Time, bool>,
    /// No later line is told.
    last: Option<Time>,
}

impl Known {
    fn is_announced_alone(&self, at: Time) -> bool {
        let run = self.runs.range(at..).next();
        run.is_some_and(|(last, has_ended)| !has_ended && last.since(at) <= LAST)
    }
}

fn learn(
    folder: BorrowedFd,
    (names, all): (&[String], &[String]),
    window: Window,
    story: &mut Story,
    unread: &mut Unread,
) -> Known {
    let mut known = Known { last: window.until, ..Known::default() };
    let mut is_run_known = false;
    let mut damage = Damage::default();
    for name in names.iter().rev() {
        let failed = |error| format!("{} of the journal cannot be read: {}", quoted(name.as_bytes()), describe(error));
        let texts = match backward::texts(folder, name) {
            Ok(texts) => texts,
            // Who thins out has removed it.
            Err(Errno::NOENT) => continue,
            Err(error) => {
                unread.failed.push(failed(error));
                continue;
            }
        };
        for text in texts {
            let text = match text {
                Ok(text) => text,
                Err(error) => {
                    unread.failed.push(failed(error));
                    break;
                }
            };
            if let Text::Line(Line { event: Event::Follows { file }, .. }) = &text
                && !all.contains(file)
            {
                unread.failed.push(format!("{} of the journal is missing", quoted(file.as_bytes())));
            }
            if damage.is_at(&text) {
                unread.damaged += 1;
                unread.damaged_in.insert(name.clone());
            }
            let Text::Line(line) = text else { continue };
            if line.event.is_note() {
                continue;
            }
            if window.since.is_some_and(|since| line.at < since) {
                break;
            }
            known.last.get_or_insert(line.at);
            // Nobody runs where the journal begins or breaks off.
            if !is_run_known && !matches!(line.event, Event::Since | Event::Gap) {
                known.runs.insert(line.at, line.event == Event::Ended);
                is_run_known = true;
            }
            match line.event {
                Event::Began => is_run_known = false,
                Event::Void { of } => _ = known.void.insert(of),
                _ if known.void.contains(&line.at) => {}
                _ => story.learn(&line),
            }
        }
    }
    known
}
