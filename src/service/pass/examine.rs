//! Owns the close look at a file that may be equal: its contents, its attributes, and making these so; and what a copy
//! can take over from the replica's file where they are not.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::files::{Claim, Job, Reading, Stop, failed, fault};
use super::folders::Node;
use super::publishing::Proof;
use super::walk::Worker;
use crate::fs::archive::Changes;
use crate::fs::compare;
use crate::fs::copy::Fault;
use crate::fs::metadata::{self, Xattrs};
use crate::fs::patch::{Old, Same};
use crate::fs::root::open_file;
use crate::plan::decay::Spread;
use crate::plan::links::{goes_back, was};
use crate::plan::mirror::{Compare, Contents};
use crate::service::clock;
use crate::service::restless::Look;
use crate::tree::digest::Md5;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// From this size on, what has changed in a file is sought and written into a reflink of the old version.
const WORTH_PATCHING: u64 = 1 << 20;

/// The replica's file is not equal, or must not be changed where it is.
pub(super) struct Differs {
    replica: Stat,
    /// As far as both were read.
    same: Option<Same>,
    /// Whether its contents do.
    contents: bool,
}

impl Worker<'_> {
    /// Looks closely at a file that may be equal; makes it so where it is not.
    pub(super) fn examine(
        &mut self,
        node: &Arc<Node>,
        path: &RelPath,
        job: &Job,
        contents: Contents,
    ) -> Result<Claim, Stop> {
        match self.compare(node, path, job, contents)? {
            Some(Differs { replica, same, contents }) => {
                let expected =
                    if contents { self.settle_difference(node, path, job, replica)? } else { Some(Some(replica)) };
                let Some(expected) = expected else { return Ok(Claim::Free) };
                self.pass.wanted(&job.source);
                let same = same.filter(|_| expected.is_some_and(|now| now.ctime == replica.ctime));
                self.copy(node, path, job, expected, same)
            }
            None => Ok(Claim::Free),
        }
    }

    /// Looks closely at a file that may be equal. Returns the replica's if its contents are not; else it is equal now.
    pub(super) fn compare(
        &mut self,
        node: &Arc<Node>,
        path: &RelPath,
        job: &Job,
        contents: Contents,
    ) -> Result<Option<Differs>, Stop> {
        let pair = self.pass.pair;
        let (from, reading) = self.open_source(node, job)?;
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let to = match open_file(folder, &job.name) {
            Err(Errno::ACCESS) if !pair.options.dry_run => {
                self.pass.note_gap();
                metadata::open_for_change(folder, &job.name, Kind::File)
            }
            done => done,
        };
        let to = match to {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(Stop::Changed),
            // It has names that nobody knows.
            Err(Errno::MLINK) => {
                return Ok(job.replica.map(|replica| Differs { replica, same: None, contents: false }));
            }
            done => done.map_err(failed("cannot open the replica's file"))?,
        };
        let replica = pair.replica.stat(to.as_fd()).map_err(failed("cannot read the attributes"))?;
        if Some(replica.id()) != job.replica.map(|r| r.id()) || replica.kind != Kind::File {
            return Err(Stop::Changed);
        }
        let is_written = |now: &Stat, then: &Stat| !now.stamp().same_contents_if_explained(&then.stamp());
        if pair.two_way.is_some() && job.replica.is_some_and(|then| is_written(&replica, &then)) {
            // What was decided was decided of what it was.
            return Err(Stop::Changed);
        }
        if pair.two_way.is_some()
            && contents == Contents::Compare
            && self.difference(from.as_fd(), to.as_fd(), &reading, &replica)?.is_some()
        {
            let both = [(from.as_fd(), &reading.source), (to.as_fd(), &replica)];
            return Ok(match self.spread(path, both)? {
                Spread::Refuse => None,
                Spread::Copy => Some(Differs { replica, same: None, contents: true }),
                // Nobody has written to it: there is no other version that could keep the name.
                Spread::Repair => Some(Differs { replica, same: None, contents: false }),
            });
        }
        let agreed = pair.two_way.as_ref().and_then(|_| pair.agreed(node.ids, &job.name));
        if contents == Contents::Compare && goes_back(&reading.source, &replica, was(agreed.as_ref())) {
            self.pass.across(path);
            return Ok(None);
        }
        let lent = [(from.as_fd(), &reading.source), (to.as_fd(), &replica)];
        let source = self.lend_attributes(path, lent, agreed.as_ref()).map_err(|error| match error {
            Errno::AGAIN => Stop::Changed,
            error => failed("cannot set the attributes")(error),
        })?;
        let reading = Reading { source, ..reading };
        if job.parts {
            return Ok(Some(Differs { replica, same: None, contents: false }));
        }
        let both = [(from.as_fd(), &reading.source), (to.as_fd(), &replica)];
        if !self.may_change(path, folder, both, contents)? {
            return Ok(Some(Differs { replica, same: None, contents: false }));
        }
        // Within the grain of its ctime, a write to either would not be noticed.
        let is_settled = !reading.racy && !clock::is_racy(replica.ctime);
        if contents == Contents::Compare
            && pair.two_way.is_none()
            && let Some(up_to) = self.difference(from.as_fd(), to.as_fd(), &reading, &replica)?
        {
            if self.spread(path, [(from.as_fd(), &reading.source), (to.as_fd(), &replica)])? == Spread::Refuse {
                return Ok(None);
            }
            let same = Same { source: reading.source.stamp(), replica: replica.stamp(), up_to };
            return Ok(Some(Differs { replica, same: is_settled.then_some(same), contents: true }));
        }
        let md5 =
            if contents == Contents::Compare { self.hash_if_wanted(from.as_fd(), &reading, &replica)? } else { None };
        let wanted = metadata::wanted_xattrs(from.as_fd(), &pair.rights)
            .map_err(failed("cannot read the extended attributes"))?;
        let reading = Reading { extended: self.pass.hash_of(&wanted), md5, ..reading };
        let after = pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
        if after.stamp() != reading.source.stamp() {
            if contents == Contents::Explained {
                return Err(Stop::Changed);
            }
            // The replica's file is one whole version, and it was just found here.
            self.pass.looked(path, Look::Taken);
            return Ok(None);
        }
        let stat = |to: BorrowedFd| pair.replica.stat(to).map_err(failed("cannot read the attributes"));
        if pair.two_way.is_some() && stat(to.as_fd())?.stamp() != replica.stamp() {
            // Somebody has written to it since: its new time must not be hidden.
            return Err(Stop::Changed);
        }
        let had_mtime = (replica.mtime, job.source.mtime);
        let replica = self.set_attributes(path, to.as_fd(), &reading.source, &wanted, replica)?;
        if pair.two_way.is_some()
            && contents == Contents::Compare
            && had_mtime != (reading.source.mtime, reading.source.mtime)
            && let Some(replica) = &replica
            && self.difference(from.as_fd(), to.as_fd(), &reading, replica)?.is_some()
        {
            let is_source = pair.source.stat(from.as_fd()).is_ok_and(|now| now.stamp() != reading.source.stamp());
            if let Some(agreed) = agreed.filter(|_| is_source) {
                // Only that one was written; the replica's has nothing new but what was set here.
                let agreed = Agreed { replica: replica.stamp(), ..agreed };
                pair.remember(node.ids, Changes::from([(job.name.clone(), Some(agreed))]));
            }
            // Written in the moment when its time was set, which hides that.
            return Err(Stop::Changed);
        }
        if let Some(replica) = replica {
            let proof = if contents == Contents::Explained { Proof::Explained } else { Proof::Compared };
            self.agree(node, path, &job.name, &reading, &replica, proof);
        }
        Ok(None)
    }

    /// Whether the source's contents, which differ, take the place of the replica's. Decay does not; it is a problem of the
    /// path until it is put right.
    pub(super) fn spread(&self, path: &RelPath, both: [(BorrowedFd, &Stat); 2]) -> Result<Spread, Stop> {
        let pass = self.pass;
        let spread = pass.pair.spread(path, both, pass.pulse).map_err(fault)?;
        if spread == Spread::Refuse {
            self.refused(path);
        }
        Ok(spread)
    }

    fn refused(&self, path: &RelPath) {
        let side = self.pass.pair.written_side().other();
        self.pass.problem(path, format!("its contents in the {side} have decayed, and are not copied"));
    }

    /// Whether what is new under this name is known to have decayed, and its good contents are there under its former one. Then
    /// these stay.
    pub(super) fn is_good_elsewhere(&self, path: &RelPath, source: &Stat) -> bool {
        let pair = self.pass.pair;
        let Some(before) = pair.decayed_before(source).filter(|before| before != path) else { return false };
        let is_there = matches!(pair.replica.look_at(&before), Ok(Seen::Present(_)));
        if is_there {
            self.pass.shared().removals.remove(&before);
            self.refused(path);
        }
        is_there
    }

    /// The MD5 of contents that were found the same on both sides, where all contents are looked at and this one's is not
    /// known: what was just read is in memory.
    fn hash_if_wanted(&self, from: BorrowedFd, reading: &Reading, replica: &Stat) -> Result<Option<Md5>, Stop> {
        let pass = self.pass;
        if pass.rules.compare != Compare::Contents || !pass.pair.lacks_digest(&reading.source, replica) {
            return Ok(None);
        }
        compare::md5(from, pass.pulse).map(Some).map_err(fault)
    }

    /// Up to where both hold the same for certain; nothing if they are the same.
    fn difference(
        &self,
        from: BorrowedFd,
        to: BorrowedFd,
        reading: &Reading,
        replica: &Stat,
    ) -> Result<Option<u64>, Stop> {
        let pulse = self.pass.pulse;
        if reading.source.size != replica.size {
            return Ok(Some(0));
        }
        let sparse = reading.source.is_sparse() && replica.is_sparse();
        match compare::difference(from, to, Some(replica.size), sparse, self.pass.readers(), pulse) {
            // Its disk has lost it: it is no version that anybody could want to keep.
            Err(Fault::Write(Errno::IO)) if self.pass.pair.two_way.is_none() => Ok(Some(0)),
            // Nothing was written.
            Err(Fault::Write(error)) => Err(Stop::Failed("cannot read the replica", error)),
            done => done.map_err(fault),
        }
    }

    /// The replica's version of a file that is large enough to be changed rather than copied.
    pub(super) fn old_version(
        &self,
        folder: BorrowedFd,
        name: &[u8],
        expected: Option<&Stat>,
        same: Option<Same>,
        source: &Stat,
    ) -> Option<Old<'_>> {
        let expected = expected.filter(|old| old.size.min(source.size) >= WORTH_PATCHING)?;
        // Within the grain of its ctime, a write to it would not be noticed.
        if clock::is_racy(expected.ctime) {
            return None;
        }
        Old::open(&self.pass.pair.replica, folder, name, expected, same)
    }

    /// Makes the attributes equal. Returns the stat afterwards, nothing in a dry run.
    pub(super) fn set_attributes(
        &mut self,
        path: &RelPath,
        to: BorrowedFd,
        source: &Stat,
        wanted: &Xattrs,
        replica: Stat,
    ) -> Result<Option<Stat>, Stop> {
        let pair = self.pass.pair;
        let have = metadata::xattrs(to).map_err(failed("cannot read the extended attributes"))?;
        if metadata::same_stat(source, &replica, &pair.rights) && have == *wanted {
            return Ok((!pair.options.dry_run).then_some(replica));
        }
        if !pair.options.dry_run {
            let said = self.pass.say_metadata(path, &replica, &have, pair.is_turned());
            self.pass.put_said().map_err(failed("cannot write the journal"))?;
            let lost = metadata::apply(to, source, wanted, (&replica, Some(&have)), &pair.rights);
            if lost.is_err() {
                self.pass.unsay(said);
            }
            let lost = lost.map_err(failed("cannot set the attributes"))?;
            pair.report_lost(lost, path);
        }
        self.pass.report(Operation::MetadataUpdated, path);
        self.totals.metadata += 1;
        if pair.options.dry_run {
            return Ok(None);
        }
        let now = pair.replica.stat(to).map_err(failed("cannot read the attributes"))?;
        let is_written = now.size != replica.size || ![source.mtime, replica.mtime].contains(&now.mtime);
        if pair.two_way.is_some() && replica.kind == Kind::File && is_written {
            // Since the attributes were read.
            return Err(Stop::Changed);
        }
        self.pass.clear_of_writes(to, now).map(Some).map_err(failed("cannot set the attributes"))
    }
}
