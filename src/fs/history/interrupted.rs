//! Owns the look at what an interrupted run has announced last: a rename that was not made is no part of the history. Of
//! what else was announced and not made, the line itself shows it: nothing is kept where it says.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::reading;
use crate::fs::root::Root;
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

/// Nobody has so many changes under way.
const LAST: usize = 4_096;

/// The renames that the last run has announced and not made, if it was interrupted.
///
/// # Errors
/// As of reading the journal.
pub(super) fn unmade(folder: &OwnedFd, (source, replica): (&Root, &Root)) -> Result<Vec<(Time, RelPath)>, Errno> {
    let mut unmade = Vec::new();
    let (mut void, mut later): (HashSet<Time>, Vec<RelPath>) = (HashSet::new(), Vec::new());
    for line in last_lines(folder)? {
        let (other, ino) = match &line.event {
            Event::Ended | Event::Gap => break,
            Event::Void { of } => {
                void.insert(*of);
                continue;
            }
            Event::Renamed { to: other, ino } | Event::Exchanged { with: other, ino } => (other, *ino),
            Event::Updated { .. } | Event::Removed { .. } | Event::Created { .. } => {
                later.push(line.path);
                continue;
            }
            _ => continue,
        };
        if void.contains(&line.at) {
            continue;
        }
        let root = if line.in_source { source } else { replica };
        let is_near = |a: &RelPath, b: &RelPath| a.is_within(b) || b.is_within(a);
        // What came later has gone by what was made.
        let is_last = !later.iter().any(|path| is_near(path, &line.path) || is_near(path, other));
        let is_there = || root.look_at(&line.path).is_ok_and(|seen| seen.stat().is_some_and(|stat| stat.ino == ino));
        if is_last && is_there() {
            unmade.push((line.at, line.path));
        } else {
            later.extend([line.path, other.clone()]);
        }
    }
    Ok(unmade)
}

/// The last lines, newest first.
fn last_lines(folder: &OwnedFd) -> Result<Vec<Line>, Errno> {
    let mut last: Vec<Line> = Vec::new();
    for name in reading::segments(folder.as_fd())?.iter().rev() {
        let lines: Vec<Line> = reading::lines(folder.as_fd(), name)?.collect();
        last.extend(lines.into_iter().rev().take(LAST - last.len()));
        if last.len() >= LAST {
            break;
        }
    }
    Ok(last)
}
