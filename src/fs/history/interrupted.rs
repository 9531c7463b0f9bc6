//! Owns the look at what an interrupted run has announced last: what was not made is no part of the history. Once others
//! have worked on, the disk does not show it any more.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::{backward, reading};
use crate::fs::root::Root;
use crate::tree::entry::{Seen, Time};
use crate::tree::exclude::RESERVED;
use crate::tree::history::{Event, Line, VERSIONS};
use crate::tree::path::RelPath;

/// Nobody has so many changes under way.
const LAST: usize = 4_096;

/// What the last run has announced and not made, if it was interrupted.
///
/// # Errors
/// As of reading the journal.
pub(super) fn unmade(folder: &OwnedFd, (source, replica): (&Root, &Root)) -> Result<Vec<(Time, RelPath)>, Errno> {
    let mut unmade = Vec::new();
    let (mut void, mut later): (HashSet<Time>, Vec<RelPath>) = (HashSet::new(), Vec::new());
    for line in last_lines(folder)? {
        match &line.event {
            Event::Ended | Event::Gap => break,
            Event::Void { of } => {
                void.insert(*of);
            }
            _ => {}
        }
        let (paths, root) = (touched(&line), if line.in_source { source } else { replica });
        if void.contains(&line.at) || paths.is_empty() {
            continue;
        }
        let is_near = |a: &RelPath, b: &RelPath| a.is_within(b) || b.is_within(a);
        // What came later has gone by what was made.
        let is_last = || !later.iter().any(|path| paths.iter().any(|touched| is_near(path, touched)));
        if !may_be_made(&line, root, replica) && is_last() {
            unmade.push((line.at, line.path));
        } else {
            later.extend(paths);
        }
    }
    Ok(unmade)
}

/// The paths at which something else is after what a line announces.
fn touched(line: &Line) -> Vec<RelPath> {
    match &line.event {
        Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => {
            vec![line.path.clone(), other.clone()]
        }
        Event::Updated { .. } | Event::Removed { .. } | Event::Created { .. } => vec![line.path.clone()],
        _ => Vec::new(),
    }
}

fn may_be_made(line: &Line, root: &Root, replica: &Root) -> bool {
    match &line.event {
        Event::Renamed { ino, .. } | Event::Exchanged { ino, .. } => {
            !root.look_at(&line.path).is_ok_and(|seen| seen.stat().is_some_and(|stat| stat.ino == *ino))
        }
        // What was there and was to go before it is there still, or nothing is.
        Event::Created { kind } => root.look_at(&line.path).map_or(true, |seen| match seen {
            Seen::Present(stat) => stat.kind == *kind,
            seen => seen == Seen::Unknown,
        }),
        Event::Updated { kept: Some(version), .. } | Event::Removed { kept: Some(version), .. } => {
            let versions = RelPath::root().join(RESERVED).join(VERSIONS);
            version.moved(&RelPath::root(), &versions).is_none_or(|at| replica.look_at(&at) != Ok(Seen::Absent))
        }
        _ => true,
    }
}

/// The last lines, newest first.
fn last_lines(folder: &OwnedFd) -> Result<Vec<Line>, Errno> {
    let mut last: Vec<Line> = Vec::new();
    for name in reading::segments(folder.as_fd())?.iter().rev() {
        last.extend(backward::lines(folder.as_fd(), name)?.take(LAST - last.len()));
        if last.len() >= LAST {
            break;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fs::history::History;
    use crate::tree::entry::Kind;
    use crate::tree::history::By;
    use crate::tree::operation::Cause;

    const BY: By = By::Cause(Cause::Sweep);

    #[test]
    fn what_was_announced_and_not_made_is_void() {
        let top = tempfile::tempdir().expect("a folder");
        let at = |path: &str| top.path().join(path);
        let path = |text: &str| RelPath::new(text.as_bytes()).expect("a path");
        fs::write(at("file"), "it has not become a folder").expect("written");
        fs::write(at("gone"), "it has gone").expect("written");
        fs::write(at("moved"), "it has moved").expect("written");
        fs::create_dir(at("made")).expect("made");
        let root = Root::open(top.path()).expect("a root");
        let ino = |path: &RelPath| root.look_at(path).expect("a look").stat().map_or(0, |stat| stat.ino);
        let history = History::open(&root, &root).expect("a history");
        let removed = |kept| Event::Removed { kind: Kind::File, kept: Some(kept), was: None };
        let created = |kind| Event::Created { kind };
        let (_, gone) = history.say_kept(&path("gone"), removed, (BY, false));
        history.take(&gone, root.fd(), b"gone").expect("kept");
        history.say(&path("made"), created(Kind::Directory), BY, false);
        history.say(&path("moved"), Event::Renamed { to: path("to"), ino: ino(&path("moved")) }, BY, false);
        fs::rename(at("moved"), at("to")).expect("renamed");
        let unmade = [
            history.say(&path("to"), Event::Renamed { to: path("on"), ino: ino(&path("to")) }, BY, false),
            history.say_kept(&path("file"), removed, (BY, false)).0,
            history.say(&path("file"), created(Kind::Directory), BY, false),
            history.say(&path("file/in"), created(Kind::File), BY, false),
        ];
        // It ends here, by a kill.
        history.put(false).expect("written");
        drop(history);
        let void = || {
            let folder = reading::folder(&root).expect("a journal");
            let lines = last_lines(&folder).expect("lines").into_iter();
            let of = |line: Line| if let Event::Void { of } = line.event { Some(of) } else { None };
            lines.rev().filter_map(of).collect::<HashSet<_>>()
        };
        drop(History::open(&root, &root).expect("again"));
        assert_eq!(void(), HashSet::from(unmade));
        // Nothing of it is said twice, and nothing else.
        History::open(&root, &root).expect("again").close();
        assert_eq!(void(), HashSet::from(unmade));
    }
}
