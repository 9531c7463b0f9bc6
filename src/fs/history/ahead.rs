//! Owns telling whether a history has lines of times that are still to come: it was written by a clock that was ahead, or
//! this one is behind. Later lines go on from the last time, whatever the clock says by then, so that of what was done
//! since then it is known in which order, and not when.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::{backward, reading};
use crate::tree::entry::Time;

/// So many seconds are nothing: clocks are set by as much all the time.
const SLACK: i64 = 1;

/// What is known of a history with such lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// When the last line was written whose time has come: up to then all is known. Nothing is where there is no such line.
    pub until: Option<Time>,
    /// Of the last line of all.
    pub last: Time,
}

/// Nothing where all times have come.
///
/// # Errors
/// As of reading the journal.
pub fn find(folder: BorrowedFd) -> Result<Option<Ahead>, Errno> {
    let mut last = None;
    for name in reading::segments(folder)?.iter().rev() {
        let lines = match backward::lines(folder, name) {
            // Who thins out has removed it.
            Err(Errno::NOENT) => continue,
            done => done?,
        };
        for line in lines {
            // Asked for each time: a service may be at work.
            if line.at <= soon() {
                return Ok(last.map(|last| Ahead { until: Some(line.at), last }));
            }
            last.get_or_insert(line.at);
        }
    }
    Ok(last.map(|last| Ahead { until: None, last }))
}

/// What is later than that is ahead.
fn soon() -> Time {
    let now = now();
    Time { sec: now.sec.saturating_add(SLACK), ..now }
}

pub(super) fn now() -> Time {
    let now = clock_gettime(ClockId::Realtime);
    Time { sec: now.tv_sec, nsec: u32::try_from(now.tv_nsec).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::fs::history::journal::segment;
    use crate::tree::history::{By, Event, Line};
    use crate::tree::path::RelPath;

    #[test]
    fn what_is_still_to_come_is_told_from_what_is_just_written() {
        let top = tempfile::tempdir().expect("a folder");
        let folder = std::fs::File::open(top.path()).expect("open");
        let write = |seconds: i64| {
            use std::io::Write;
            let now = now();
            let at = Time { sec: now.sec + seconds, ..now };
            let mut text = Vec::new();
            Line { at, path: RelPath::root(), event: Event::Began, by: By::Restore, in_source: false }
                .encode(&mut text);
            let file = std::fs::File::options().create(true).append(true).open(top.path().join(segment(at)));
            file.expect("a file").write_all(&text).expect("written");
            at
        };
        let found = || find(folder.as_fd()).expect("read");
        assert_eq!(found(), None);
        let first = write(100_000);
        assert_eq!(found(), Some(Ahead { until: None, last: first }));
        let until = write(-100_000);
        assert_eq!(found(), Some(Ahead { until: Some(until), last: first }));
        let until = write(0);
        let last = write(200_000);
        assert_eq!(found(), Some(Ahead { until: Some(until), last }));
        for ahead in [first, last] {
            std::fs::remove_file(top.path().join(segment(ahead))).expect("removed");
        }
        assert_eq!(found(), None);
    }
}
