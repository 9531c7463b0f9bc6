//! Owns one reading of a database's files: the looks before and after, and the copies in between.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Member, Place};
use crate::fs::copy::{self, Manner, Reflink};
use crate::fs::root::open_file;
use crate::fs::share::Share;
use crate::fs::stage::{StagedFile, Target};
use crate::plan::database::{HEAD, Locked, Look, Part, Sight, Verdict, judge};
use crate::plan::mirror::Step;
use crate::service::clock;
use crate::service::pass::files::{Stop, failed, fault};
use crate::service::pass::walk::Worker;
use crate::tree::doubt::Moment;
use crate::tree::entry::Stat;

/// A transaction in work is waited for so long at each try.
const TRANSACTION: Duration = Duration::from_millis(5);
/// A journal that has not changed for so long may be one that a program left when it died.
const LEFT_BEHIND: i128 = 1_000_000_000;

/// Smaller files are copied as a whole, within a moment.
const WORTH_PATCHING: u64 = 64 << 20;

/// What was read of a file.
pub(super) struct Copy {
    pub(super) part: Part,
    pub(super) from: OwnedFd,
    pub(super) stat: Stat,
    pub(super) file: StagedFile,
}

/// One reading of all files.
pub(super) struct Snapshot {
    pub(super) looked: Moment,
    pub(super) before: Look,
    pub(super) after: Look,
    pub(super) verdict: Verdict,
    pub(super) copies: Vec<Copy>,
}

impl Snapshot {
    pub(super) fn is_in_transaction(&self) -> bool {
        let journal = self.before.journal.as_ref().filter(|_| self.before.is_hot());
        journal.is_some_and(|journal| clock::since(journal.stamp.ctime) < LEFT_BEHIND)
    }
}

impl Worker<'_> {
    /// Looks, reads what is to be copied, and looks again. Nothing where the files are being exchanged meanwhile.
    pub(super) fn read(
        &self,
        place: &Place,
        members: &[Member],
        share: Option<&Share>,
    ) -> Result<Option<Snapshot>, Stop> {
        let Some(database) = open(place, place.base)? else { return Ok(None) };
        // Who prepares a transaction at any moment of the reading has found the database whole.
        let was_reserved = share.is_some_and(Share::is_reserved);
        let looked = clock::now();
        let before = match share {
            None => self.look_between_transactions(place, database.as_fd())?,
            Some(_) => self.look(place, database.as_fd(), Sequence::DatabaseFirst)?,
        };
        let mut copies = Vec::new();
        let mut is_whole = true;
        for member in members {
            let Some(sight) = before.of(member.part) else { continue };
            if member.step == Step::Nothing && member.source.is_some_and(|s| s.stamp() == sight.stamp) {
                continue;
            }
            match self.copy_member(place, member, sight, share, &mut copies) {
                Ok(done) => is_whole &= done,
                Err(stop) => {
                    self.discard(copies);
                    return Err(stop);
                }
            }
        }
        let after = match self.look(place, database.as_fd(), Sequence::DatabaseLast) {
            Ok(after) if is_whole && (share.is_some() || self.is_told_by_clock(&database, &before)) => after,
            Ok(_) => {
                self.discard(copies);
                return Ok(None);
            }
            Err(stop) => {
                self.discard(copies);
                return Err(stop);
            }
        };
        let locked = match share {
            None => Locked::Nothing,
            Some(share) => Locked::Shared { reserved: was_reserved || share.is_reserved() },
        };
        let verdict = judge(&before, &after, locked);
        Ok(Some(Snapshot { looked, before, after, verdict, copies }))
    }

    /// Returns whether the file is the one that was seen.
    fn copy_member(
        &self,
        place: &Place,
        member: &Member,
        sight: &Sight,
        share: Option<&Share>,
        copies: &mut Vec<Copy>,
    ) -> Result<bool, Stop> {
        let pair = self.pass.pair;
        let folder = place.node.replica().map_err(failed("cannot open the folder"))?;
        let Some(from) = open(place, &member.name)? else { return Ok(false) };
        let stat = pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
        if stat.id() != sight.stamp.id {
            return Ok(false);
        }
        let file = self.stage_file(&Target { folder, path: &place.node.path }, member.replica.is_none())?;
        self.pass.wanted(&stat);
        // Reading the old version too makes the window longer, and writers would have to wait for it.
        let expected = member.replica.as_ref().filter(|_| share.is_none() && stat.size >= WORTH_PATCHING);
        let old = self.old_version(folder, &member.name, expected, None, &stat);
        let durable = pair.options.durable;
        let (reflink, helpers) = (Reflink::Large, self.pass.readers());
        let manner = Manner { reflink, old: old.as_ref(), helpers, durable, abilities: &pair.abilities };
        let done = copy::contents(from.as_fd(), file.fd(), &stat, manner, self.pass.pulse);
        copies.push(Copy { part: member.part, from, stat, file });
        done.map_err(fault).map(|_| true)
    }

    /// Whether a change of the database during the reading would have moved its ctime, as far as its clock goes.
    fn is_told_by_clock(&self, database: &OwnedFd, before: &Look) -> bool {
        let abilities = &self.pass.pair.abilities;
        let is_fine =
            self.pass.pair.source.stat(database.as_fd()).is_ok_and(|s| abilities.has_fine_times(database.as_fd(), &s));
        is_fine || !clock::is_racy(before.database.stamp.ctime)
    }

    /// The first look. A transaction that is writing is waited for, if it is short.
    fn look_between_transactions(&self, place: &Place, database: BorrowedFd) -> Result<Look, Stop> {
        let start = Instant::now();
        loop {
            let look = self.look(place, database, Sequence::DatabaseFirst)?;
            if !look.is_hot() || start.elapsed() > TRANSACTION {
                return Ok(look);
            }
            std::thread::yield_now();
        }
    }

    fn look(&self, place: &Place, database: BorrowedFd, sequence: Sequence) -> Result<Look, Stop> {
        let sight = |file: BorrowedFd| {
            let stat = self.pass.pair.source.stat(file).map_err(failed("cannot read the attributes"))?;
            let head = copy::head(file, HEAD).map_err(failed("cannot read the source"))?;
            Ok::<_, Stop>(Sight { stamp: stat.stamp(), head })
        };
        let beside = |part: Part| open(place, &part.name(place.base))?.map(|file| sight(file.as_fd())).transpose();
        match sequence {
            Sequence::DatabaseFirst => {
                let database = sight(database)?;
                Ok(Look { database, log: beside(Part::Log)?, journal: beside(Part::Journal)? })
            }
            Sequence::DatabaseLast => {
                let (log, journal) = (beside(Part::Log)?, beside(Part::Journal)?);
                // The name may lead to another file by now.
                let database = beside(Part::Database)?.ok_or(Stop::Changed)?;
                Ok(Look { database, log, journal })
            }
        }
    }
}

/// Which file is looked at first: what is seen of the others in between holds for the whole window.
#[derive(Clone, Copy)]
enum Sequence {
    DatabaseFirst,
    DatabaseLast,
}

fn open(place: &Place, name: &[u8]) -> Result<Option<OwnedFd>, Stop> {
    match open_file(place.node.source.as_fd(), name) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => Ok(None),
        done => done.map(Some).map_err(failed("cannot open the source file")),
    }
}
