//! Owns the look at one file: both sides' contents against what is known of them, and what is remembered afterwards.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::Found;
use super::walk::Walk;
use crate::fs::copy::Fault;
use crate::fs::digest::{FromDisk, shows_writes};
use crate::fs::root::open_file;
use crate::plan::decay::{Finding, Read, Verdict, judge, verdict};
use crate::service::agreements::Ids;
use crate::service::pair::Pair;
use crate::service::pass::describe;
use crate::service::{clock, digests};
use crate::tree::digest::{Damage, Decayed, Digest, Md5, Seal, SealState};
use crate::tree::entry::{Kind, Stat};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;

/// What the clock of the times may stand still for.
const GRAIN: Duration = Duration::from_millis(20);

/// Why it is not clear where other contents come from.
const TOUCHED: &str = "other contents than were recorded, and its attributes have been changed since: it has decayed, or somebody \
                       has written to it and put its time back";
const UNSHOWN: &str = "other contents than were recorded, and its filesystem does not show each write in a file's times: it has \
                       decayed, or somebody has written to it";
const UNRECORDED: &str = "other contents than were recorded of the other side, and nothing was recorded of this one";
const UNTOLD: &str = "both sides were the same, their times are as they were, and they differ: one has decayed, or was written to \
                      in a way that has moved no time (through a mapping, or in the moment in which they became the same)";

/// Where a file is.
pub(super) struct Place<'a> {
    pub(super) folder: &'a RelPath,
    pub(super) path: &'a RelPath,
    pub(super) name: &'a [u8],
    pub(super) source: &'a OwnedFd,
    pub(super) replica: &'a OwnedFd,
    pub(super) ids: Ids,
}

impl Place<'_> {
    pub(super) fn folder_on(&self, side: Side) -> &OwnedFd {
        if side == Side::Source { self.source } else { self.replica }
    }
}

/// One side's file, as it was before it was read.
struct Opened {
    /// Why it could not be opened, if so.
    file: Result<FromDisk, Errno>,
    stat: Stat,
    /// A write while it is read could leave the same times.
    is_racy: bool,
}

impl Opened {
    fn state(&self, side: Side, known: &Digest, pair: &Pair) -> SealState {
        match &self.file {
            Ok(file) => pair.proven(known, side, (file.fd(), &self.stat)),
            Err(_) => known.state(side, &self.stat),
        }
    }

    fn is_direct(&self) -> bool {
        self.file.as_ref().is_ok_and(FromDisk::is_direct)
    }
}

/// What reading one side's file came to.
enum Contents {
    Md5(Md5),
    /// The disk gave an error.
    Failed(Errno),
}

/// Why there is nothing to say of a file.
enum Stop {
    /// It was changed or removed meanwhile.
    Changed,
    Cancelled,
    Failed(Side, Errno),
}

impl Walk<'_> {
    pub(super) fn file(&mut self, place: &Place) {
        match self.look(place) {
            Ok(()) => self.scrub.progress.file(),
            Err(Stop::Changed) => self.report.changing += 1,
            Err(Stop::Cancelled) => {}
            Err(Stop::Failed(side, error)) => {
                self.failed(place.path, side, &format!("cannot be read: {}", describe(error)));
            }
        }
    }

    fn look(&mut self, place: &Place) -> Result<(), Stop> {
        let pair = self.scrub.pair;
        let mut replica = self.open(Side::Replica, place)?;
        let mut source = match self.open(Side::Source, place) {
            // The replica's may be told by what was recorded alone.
            Err(Stop::Failed(_, error)) => self.unopened(Side::Source, place, error)?,
            done => done?,
        };
        let known = pair.digest(&source.stat, Some(&replica.stat));
        let state =
            |side, opened: &Opened| match known.map_or(SealState::None, |known| opened.state(side, &known, pair)) {
                SealState::None if self.is_written(place, side, &opened.stat) => SealState::Broken,
                state => state,
            };
        let states = (state(Side::Source, &source), state(Side::Replica, &replica));
        let of_replica = self.read(Side::Replica, place, &mut replica)?;
        let is_known = known.is_some_and(|known| has(&of_replica, &known.md5))
            && matches!(states.1, SealState::Whole | SealState::Touched);
        let is_alike = source.stat.size == replica.stat.size;
        // Of a source whose attributes were changed, nobody could tell later that it has decayed.
        let is_question = !is_known || (states.0 == SealState::Touched && source.file.is_ok());
        let is_asked = self.scrub.ask.source || is_question;
        let of_source = if is_alike && is_asked {
            match self.read(Side::Source, place, &mut source) {
                Err(Stop::Failed(side, error)) if known.is_some() => {
                    self.failed(place.path, side, &format!("cannot be read: {}", describe(error)));
                    None
                }
                done => Some(done?),
            }
        } else {
            None
        };
        let md5 = match (&of_source, &of_replica) {
            (Some(Contents::Md5(one)), Contents::Md5(other)) if one == other => Some(*one),
            _ => None,
        };
        // Whatever was known: both have the same, and at least one of them is as somebody has written it.
        let is_news = known.is_none_or(|known| md5.is_some_and(|md5| md5 != known.md5))
            && !matches!(states, (SealState::Whole, _) | (_, SealState::Whole));
        let Some(known) = known.filter(|_| !is_news) else {
            return self.record(place, (&source, of_source), (&replica, of_replica), md5);
        };
        let read = |contents: &Contents| match contents {
            Contents::Failed(_) => Read::Failed,
            contents if has(contents, &known.md5) => Read::Equal,
            Contents::Md5(_) => Read::Differs,
        };
        let on_source = of_source.as_ref().map(|contents| judge(states.0, read(contents)));
        let on_replica = judge(states.1, read(&of_replica));
        self.conclude(place, verdict(on_source, Some(on_replica)), (&source, &replica), &known)?;
        if on_replica == Finding::Same && on_source.is_none_or(|found| found == Finding::Same) {
            let of = |side, opened: &Opened, was_read: bool| {
                if was_read { Some(Seal::of(&opened.stat)) } else { known.seal(side) }
            };
            let source_seal = of(Side::Source, &source, of_source.is_some());
            let sealed = Digest { source: source_seal, replica: of(Side::Replica, &replica, true), ..known };
            if sealed != known && !replica.is_racy && !source.is_racy {
                pair.archive.set_digest(source.stat.id(), Some(Digest { checked: clock::wall(), ..sealed }));
            }
        }
        Ok(())
    }

    fn open(&self, side: Side, place: &Place) -> Result<Opened, Stop> {
        let pair = self.scrub.pair;
        let root = if side == Side::Source { &pair.source } else { &pair.replica };
        let file = match open_file(place.folder_on(side).as_fd(), place.name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Stop::Changed),
            done => done.map_err(|error| Stop::Failed(side, error))?,
        };
        let mut stat = root.stat(file.as_fd()).map_err(|error| Stop::Failed(side, error))?;
        if clock::is_racy(stat.ctime) {
            // A write in this moment could leave the same times.
            clock::wait(GRAIN);
            stat = root.stat(file.as_fd()).map_err(|error| Stop::Failed(side, error))?;
        }
        if stat.kind != Kind::File {
            return Err(Stop::Changed);
        }
        Ok(Opened { file: Ok(FromDisk::new(file)), stat, is_racy: clock::is_racy(stat.ctime) })
    }

    /// What can be had of a file that cannot be opened.
    fn unopened(&self, side: Side, place: &Place, error: Errno) -> Result<Opened, Stop> {
        let pair = self.scrub.pair;
        let root = if side == Side::Source { &pair.source } else { &pair.replica };
        let seen = root.look(place.folder_on(side).as_fd(), place.name).map_err(|_| Stop::Failed(side, error))?;
        match seen.stat().filter(|stat| stat.kind == Kind::File) {
            Some(stat) => Ok(Opened { file: Err(error), stat: *stat, is_racy: clock::is_racy(stat.ctime) }),
            None => Err(Stop::Changed),
        }
    }

    /// Whether a side's file was written to since both sides were the same.
    fn is_written(&self, place: &Place, side: Side, stat: &Stat) -> bool {
        self.scrub.pair.agreed(place.ids, place.name).is_some_and(|agreed| {
            let agreed = if side == Side::Source { agreed.source } else { agreed.replica };
            !stat.stamp().same_contents_if_explained(&agreed)
        })
    }

    /// Reads a file that is the same before and after.
    fn read(&mut self, side: Side, place: &Place, opened: &mut Opened) -> Result<Contents, Stop> {
        let (scrub, pace) = (self.scrub, &mut self.pace);
        let root = if side == Side::Source { &scrub.pair.source } else { &scrub.pair.replica };
        let paced = |read: usize| {
            scrub.progress.read(read as u64);
            pace.read(read, scrub.pulse);
        };
        let file = opened.file.as_mut().map_err(|error| Stop::Failed(side, *error))?;
        let contents = match file.md5(scrub.pulse, paced) {
            Ok((md5, size)) if size == opened.stat.size => Contents::Md5(md5),
            Ok(_) => return Err(Stop::Changed),
            Err(Fault::Cancelled) => return Err(Stop::Cancelled),
            Err(Fault::Read(error @ Errno::IO) | Fault::Write(error @ Errno::IO)) => Contents::Failed(error),
            Err(Fault::Read(error) | Fault::Write(error)) => return Err(Stop::Failed(side, error)),
        };
        let now = root.stat(file.fd()).map_err(|error| Stop::Failed(side, error))?;
        if now.stamp() != opened.stat.stamp() || !self.is_still_there(side, place, &now) {
            return Err(Stop::Changed);
        }
        Ok(contents)
    }

    fn is_still_there(&self, side: Side, place: &Place, stat: &Stat) -> bool {
        let pair = self.scrub.pair;
        let root = if side == Side::Source { &pair.source } else { &pair.replica };
        let now = root.look(place.folder_on(side).as_fd(), place.name);
        now.is_ok_and(|seen| seen.stat().is_some_and(|now| now.stamp() == stat.stamp()))
    }

    /// Records a file of which nothing is known that counts.
    fn record(
        &mut self,
        place: &Place,
        (source, of_source): (&Opened, Option<Contents>),
        (replica, of_replica): (&Opened, Contents),
        md5: Option<Md5>,
    ) -> Result<(), Stop> {
        let pair = self.scrub.pair;
        let failed = |side, contents: &Contents| match contents {
            Contents::Failed(error) => Some(Stop::Failed(side, *error)),
            Contents::Md5(_) => None,
        };
        let stop = failed(Side::Replica, &of_replica)
            .or_else(|| of_source.as_ref().and_then(|contents| failed(Side::Source, contents)));
        if let Some(stop) = stop {
            return Err(stop);
        }
        // A write that comes now could leave the same times.
        if source.is_racy || replica.is_racy {
            return Err(Stop::Changed);
        }
        if let Some(md5) = md5 {
            pair.archive.set_decayed(place.path, None);
            if source.is_direct() && replica.is_direct() {
                pair.set_digest(md5, &source.stat, Some(&replica.stat));
            } else {
                pair.record_digest(md5, &source.stat, &replica.stat);
            }
            self.report.recorded += 1;
            return Ok(());
        }
        let agreed = pair.agreed(place.ids, place.name);
        if of_source.is_some() && agreed.is_some_and(|agreed| agreed.holds(&source.stat.stamp(), &replica.stat.stamp()))
        {
            self.unclear(place, Side::Replica, UNTOLD);
            return Ok(());
        }
        if let Contents::Md5(md5) = of_replica {
            // A change that is not in the replica yet, or held, or failing: what the replica has is worth keeping too.
            let (size, seal) = (replica.stat.size, Some(Seal::of(&replica.stat)));
            let digest = Digest { md5, size, source: None, replica: seal, checked: clock::wall() };
            pair.archive.set_digest(source.stat.id(), Some(digest));
            self.report.recorded += 1;
            self.report.recorded_alone += 1;
        }
        Ok(())
    }

    /// Says what was found, and puts it right where that is asked for and possible.
    fn conclude(
        &mut self,
        place: &Place,
        verdict: Verdict,
        (source, replica): (&Opened, &Opened),
        known: &Digest,
    ) -> Result<(), Stop> {
        let pair = self.scrub.pair;
        let of = |side| if side == Side::Source { &source.stat } else { &replica.stat };
        match verdict {
            Verdict::Good => {
                pair.archive.set_decayed(place.path, None);
                Ok(())
            }
            Verdict::Edited => Err(Stop::Changed),
            Verdict::Unclear(side) => {
                let opened = if side == Side::Source { source } else { replica };
                let reason = match known.state(side, &opened.stat) {
                    SealState::None => UNRECORDED,
                    _ if opened.file.as_ref().is_ok_and(|file| !shows_writes(file.fd())) => UNSHOWN,
                    _ => TOUCHED,
                };
                self.unclear(place, side, reason);
                Ok(())
            }
            Verdict::Decayed(side, Damage::Repairable) if self.scrub.ask.repair => {
                match self.repair(place, (side, of(side)), of(side.other()), known) {
                    Ok(()) => {
                        self.repaired(place, side);
                        Ok(())
                    }
                    Err(reason) => {
                        let shown = pair.shown_on(side, place.path);
                        pair.log.error(format_args!("Not repaired: {shown} in the {side}: {reason}"));
                        self.decayed(place, (side, Damage::Repairable), of(side));
                        Ok(())
                    }
                }
            }
            Verdict::Decayed(side, damage) => {
                self.decayed(place, (side, damage), of(side));
                Ok(())
            }
        }
    }

    fn unclear(&mut self, place: &Place, side: Side, reason: &str) {
        let pair = self.scrub.pair;
        let shown = pair.shown_on(side, place.path);
        pair.log.warn(format_args!("Unclear: {shown} in the {side}: {reason}"));
        // What was taken for decay before can be something else.
        pair.archive.set_decayed(place.path, None);
        self.report.unclear += 1;
        let (side, what) = (side.to_string(), "unclear".into());
        self.report.note(Found { path: shown, side, what, reason: reason.into() });
    }

    fn repaired(&mut self, place: &Place, side: Side) {
        let pair = self.scrub.pair;
        let shown = pair.shown_on(side, place.path);
        let reason = format!("its contents are the {}'s again, as they were recorded", side.other());
        pair.log.info(format_args!("Repaired: {shown} in the {side}: {reason}"));
        pair.archive.set_decayed(place.path, None);
        self.report.decayed += 1;
        self.report.repaired += 1;
        self.report.note(Found { path: shown, side: side.to_string(), what: "repaired".into(), reason });
    }

    fn decayed(&mut self, place: &Place, (side, damage): (Side, Damage), stat: &Stat) {
        let pair = self.scrub.pair;
        let decayed = Decayed { side, damage, found: clock::wall(), seal: Seal::of(stat), size: stat.size };
        // Who scrubs wants to hear of all that is there.
        pair.note_decayed(place.path, decayed, true);
        self.report.decayed += 1;
        let what = match damage {
            Damage::Repairable => "decayed",
            Damage::Alone => "alone",
            Damage::Lost => "lost",
        };
        let path = pair.shown_on(side, place.path);
        self.report.note(Found {
            path,
            side: side.to_string(),
            what: what.into(),
            reason: digests::words(damage).into(),
        });
    }
}

fn has(contents: &Contents, md5: &Md5) -> bool {
    matches!(contents, Contents::Md5(found) if found == md5)
}
