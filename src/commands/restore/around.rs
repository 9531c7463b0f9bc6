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
    /// Since when, and up to when, not everything is told, where the time lies in between.
    thinned: Vec<(Time, Time)>,
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
                        return around.unless_to_come(at, last);
                    }
                }
                let Text::Line(line) = text else { continue };
                (last, after) = (last.or(Some(line.at)), Some(line.at));
                match line.event {
                    Event::Gap => return Err(since.map_or(Untold::Gap(line.at), |since| Untold::Before(Some(since)))),
                    Event::Since if line.at <= at => return around.unless_to_come(at, last),
                    Event::Since => since = Some(line.at),
                    Event::Thinned { from, to } if from < at && at < to => around.thinned.push((from, to)),
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

    /// From when to when what is told of the path is not all that there was, if the time lies in between.
    pub fn thinned(&self) -> Option<(Time, Time)> {
        let is_concerned = |(from, _): &&(Time, Time)| self.changed.is_some_and(|changed| changed >= *from);
        let all = self.thinned.iter().filter(is_concerned);
        all.copied().reduce(|(from, to), other| (from.min(other.0), to.max(other.1)))
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
