//! Owns the look at the journal around a time, before anything is taken back: whether everything is told since then, and
//! what a person would like to hear of the path that was asked for.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::eyes::Untold;
use crate::fs::exact;
use crate::fs::history::ahead::{self, Ahead};
use crate::fs::history::reading::{Damage, Text};
use crate::fs::history::{backward, reading};
use crate::tree::entry::Time;
use crate::tree::history::{Event, Line};
use crate::tree::path::RelPath;

/// What is told of a path around a time.
#[derive(Debug, Default)]
pub struct Around {
    /// When something came to the path first after the time, and when it went last before.
    pub came: Option<Time>,
    pub gone: Option<Time>,
    /// When it was last changed before the time, as far as that is told.
    changed: Option<Time>,
    /// Since when, and up to when, not everything is told.
    thinned: Vec<(Time, Time)>,
    /// From when on anything is.
    begin: Time,
}

impl Around {
    /// Reads the journal backward, until it is known that everything is told since the time.
    ///
    /// # Errors
    /// Why it is not, or not known.
    pub fn of(journal: BorrowedFd, path: &RelPath, at: Time) -> Result<Self, Untold> {
        let is_unknown = |ahead: &Ahead| at <= ahead.last && ahead.until.is_none_or(|until| at > until);
        if let Some(ahead) = ahead::find(journal)?.filter(is_unknown) {
            return Err(Untold::Ahead(ahead.until));
        }
        let mut around = Self::default();
        let (mut since, mut last, mut after) = (None, None, None);
        let mut damage = Damage::default();
        let names = reading::segments(journal)?;
        for name in names.iter().rev() {
            for text in backward::texts(journal, name)? {
                let text = text?;
                let missing = missing(&text, &names);
                if missing.is_some() || damage.is_at(&text) {
                    let from = after.map_or_else(|| written(journal, name), Ok)?;
                    if at < from {
                        return Err(match missing {
                            Some(file) => Untold::Missing(file.clone(), from),
                            None => Untold::Damaged(name.clone(), from),
                        });
                    }
                    // Nothing but a `since` follows a gap, so that all after this one is told.
                    if since.is_none() && after.is_some() {
                        return Self { begin: from, ..around }.unless_to_come(at, last);
                    }
                }
                let Text::Line(line) = text else { continue };
                (last, after) = (last.or(Some(line.at)), Some(line.at));
                match line.event {
                    Event::Gap => return Err(since.map_or(Untold::Gap(line.at), |since| Untold::Before(Some(since)))),
                    Event::Since if line.at <= at => {
                        return Self { begin: line.at, ..around }.unless_to_come(at, last);
                    }
                    Event::Since => since = Some(line.at),
                    Event::Thinned { from, to } => around.thinned.push((from, to)),
                    _ => around.note(&line, path, at),
                }
            }
        }
        Err(Untold::Before(since))
    }

    fn unless_to_come(self, at: Time, last: Option<Time>) -> Result<Self, Untold> {
        let now = jiff::Timestamp::now();
        let now = Time { sec: now.as_second(), nsec: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) };
        if at > now && last.is_none_or(|last| at > last) { Err(Untold::Future) } else { Ok(self) }
    }

    fn note(&mut self, line: &Line, path: &RelPath, at: Time) {
        let other = match &line.event {
            Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => Some(other),
            _ => None,
        };
        let is_near = |touched: &RelPath| touched.is_within(path) || path.is_within(touched);
        if line.at <= at && !line.path.is_root() && (is_near(&line.path) || other.is_some_and(is_near)) {
            self.changed.get_or_insert(line.at);
        }
        let comes = match &line.event {
            Event::Created { .. } => *path == line.path,
            Event::Renamed { to, .. } => path == to,
            _ => false,
        };
        let goes = match &line.event {
            Event::Removed { .. } | Event::Renamed { .. } => *path == line.path,
            _ => false,
        };
        if comes && line.at > at {
            self.came = Some(line.at);
        }
        if goes && line.at <= at && self.gone.is_none() {
            self.gone = Some(line.at);
        }
    }

    /// From when to when what is told of the path is not all that there was, if the time lies in between. Without the first
    /// where nothing is told of that any more.
    pub fn thinned(&self, at: Time) -> Option<(Option<Time>, Time)> {
        let has = |(from, to): (Time, Time), time: Time| from < time && time < to;
        let mut found = *self.thinned.iter().find(|note| has(**note, at))?;
        loop {
            // What a short period has kept of its beginning may have gone with a longer one.
            let near = self.thinned.iter().filter(|note| [found.0, found.1, at].iter().any(|time| has(**note, *time)));
            let next = near.fold(found, |found, (from, to)| (found.0.min(*from), found.1.max(*to)));
            if next == found {
                break;
            }
            found = next;
        }
        let (from, to) = found;
        let is_told = from >= self.begin;
        (!is_told || self.changed.is_some_and(|changed| changed >= from)).then_some((is_told.then_some(from), to))
    }
}

/// The file of the journal that goes before this place of it and is not there.
fn missing<'a>(text: &'a Text, names: &[String]) -> Option<&'a String> {
    match text {
        Text::Line(Line { event: Event::Follows { file }, .. }) => Some(file).filter(|file| !names.contains(file)),
        _ => None,
    }
}

/// When a file of the journal was written last.
fn written(journal: BorrowedFd, name: &str) -> Result<Time, Errno> {
    Ok(exact::look(journal, name.as_bytes())?.mtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_that_are_said_to_be_exact_are() {
        let time = |sec| Time { sec, nsec: 0 };
        let around = |changed: Option<i64>, begin| Around {
            // An hour from 23, of which a day from 0 has taken the first line; another day; an hour by itself.
            thinned: [(230, 235), (0, 231), (1000, 1100), (500, 510)].map(|(from, to)| (time(from), time(to))).into(),
            changed: changed.map(time),
            begin: time(begin),
            ..Around::default()
        };
        let said = |at, changed, begin| {
            let around: Around = around(changed, begin);
            around.thinned(time(at)).map(|(from, to)| (from.map(|from| from.sec), to.sec))
        };
        assert_eq!(said(233, Some(9), -1), Some((Some(0), 235)), "though nothing of that hour is told");
        assert_eq!(said(230, Some(9), -1), Some((Some(0), 235)));
        assert_eq!(said(233, None, -1), None, "it did not change");
        assert_eq!(said(505, Some(499), -1), None);
        assert_eq!(said(505, Some(501), -1), Some((Some(500), 510)));
        assert_eq!(said(233, None, 5), Some((None, 235)), "whether it did is told no more");
        for exact in [0, 235, 300, 500, 510] {
            assert_eq!(said(exact, Some(exact), -1), None, "{exact}");
        }
    }
}
