//! Owns putting a decayed file right: its contents from the other side, its attributes its own, published in one step if
//! nobody has touched it meanwhile.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, fsync, futimens};
use rustix::io::Errno;

use super::file::Place;
use super::walk::Walk;
use crate::fs::archive::Changes;
use crate::fs::copy::{self, Fault, Manner, Reflink};
use crate::fs::root::{Root, open_file};
use crate::fs::stage::{self as staging, Published, StagedFile, Target};
use crate::fs::{compare, metadata};
use crate::service::pass::describe;
use crate::service::{clock, digests};
use crate::tree::digest::{Digest, Seal, SealState};
use crate::tree::entry::{Stat, Time};
use crate::tree::identity::Side;
use crate::tree::record::Agreed;

impl Walk<'_> {
    fn root(&self, side: Side) -> &Root {
        if side == Side::Source { &self.scrub.pair.source } else { &self.scrub.pair.replica }
    }

    /// Replaces the `bad` side's file, which showed this stat when it was read, by one with the other's contents. Says why
    /// where that cannot be.
    pub(super) fn repair(
        &self,
        place: &Place,
        (side, bad): (Side, &Stat),
        good: &Stat,
        known: &Digest,
    ) -> Result<(), String> {
        let pair = self.scrub.pair;
        if bad.is_linked() {
            return Err(
                "it has several names, which a new file would not have: copy the other side's contents into it".into(),
            );
        }
        let failed = |what: &'static str| move |error: Errno| format!("{what}: {}", describe(error));
        let folder = place.folder_on(side).as_fd();
        // Nothing is read past the cache here: what is read is held against the digest.
        let open = |side| open_file(place.folder_on(side).as_fd(), place.name).map_err(failed("cannot be opened"));
        let (from, old) = (open(side.other())?, open(side)?);
        let is_as_it_was = |side: Side, file: BorrowedFd, stat: &Stat| {
            self.root(side).stat(file).is_ok_and(|now| now.stamp() == stat.stamp())
        };
        if !is_as_it_was(side.other(), from.as_fd(), good) || !is_as_it_was(side, old.as_fd(), bad) {
            return Err("it was changed meanwhile".into());
        }
        let stage = if side == Side::Source { self.stage } else { &pair.stage };
        let target = Target { folder, path: place.folder };
        let (root, top) = (self.root(side), self.root(side).fd());
        let times = [(folder, mtime(root, folder)), (top, mtime(root, top))];
        let staged = stage.file(self.root(side), &target, false).map_err(failed("cannot create a file"))?;
        if let Err(reason) = self.fill(&staged, (from.as_fd(), good), (old.as_fd(), bad), known) {
            staged.discard(self.root(side));
            return Err(reason);
        }
        let published = stage.publish_file(self.root(side), staged, folder, place.name, (Some(bad), &staging::nothing));
        let (published, file) = published.map_err(failed("cannot publish the copy"))?;
        for (folder, mtime) in times {
            if let Some(mtime) = mtime {
                set_mtime(folder, mtime);
            }
        }
        if published == Published::Changed {
            return Err("it was changed meanwhile".into());
        }
        let new = self.root(side).stat(file.as_fd()).map_err(failed("cannot read the attributes"))?;
        self.remember(place, side, (bad, &new), good, known);
        Ok(())
    }

    fn fill(
        &self,
        staged: &StagedFile,
        (from, good): (BorrowedFd, &Stat),
        (old, bad): (BorrowedFd, &Stat),
        known: &Digest,
    ) -> Result<(), String> {
        let (pair, pulse) = (self.scrub.pair, self.scrub.pulse);
        let failed = |what: &'static str| move |error: Errno| format!("{what}: {}", describe(error));
        let fault = |fault: Fault| match fault {
            Fault::Read(error) => failed("cannot read the other side")(error),
            Fault::Write(error) => failed("cannot write")(error),
            Fault::Cancelled => "stopped".into(),
        };
        let abilities = &pair.abilities;
        let manner = Manner { reflink: Reflink::Large, old: None, helpers: 0, durable: true, abilities };
        copy::contents(from, staged.fd(), good, manner, pulse).map_err(fault)?;
        if compare::md5(staged.fd(), pulse).map_err(fault)? != known.md5 {
            return Err("what was copied is not what was recorded".into());
        }
        let own = metadata::xattrs(old).map_err(failed("cannot read the extended attributes"))?;
        let now = pair.replica.stat(staged.fd()).map_err(failed("cannot read the attributes"))?;
        metadata::apply(staged.fd(), bad, &own, (&now, None), &pair.rights)
            .map_err(failed("cannot set the attributes"))?;
        fsync(staged.fd()).map_err(failed("cannot be brought to disk"))
    }

    /// Takes the new file for the one that it has replaced: nothing about it has changed but its inode.
    fn remember(&self, place: &Place, side: Side, (bad, new): (&Stat, &Stat), good: &Stat, known: &Digest) {
        let pair = self.scrub.pair;
        if let Some(agreed) = pair.agreed(place.ids, place.name) {
            let is_source = side == Side::Source;
            let (was, other) =
                if is_source { (agreed.source, agreed.replica) } else { (agreed.replica, agreed.source) };
            if was == bad.stamp() && other == good.stamp() {
                let (source, replica) = if is_source { (new.stamp(), other) } else { (other, new.stamp()) };
                // A write that comes now could leave the same times.
                let racy = agreed.racy || (is_source && clock::is_racy(new.ctime));
                let agreed = Agreed { source, replica, racy, made: None, ..agreed };
                pair.remember(place.ids, Changes::from([(place.name.into(), Some(agreed))]));
            }
        }
        let (source, replica) = if side == Side::Source { (new, good) } else { (good, new) };
        let keeps = |side, stat: &Stat| known.state(side, stat) != SealState::Broken;
        let seal = |of: Side, stat: &Stat| {
            if of == side { digests::seal(stat) } else { keeps(of, stat).then(|| Seal::of(stat)) }
        };
        let digest = Digest { source: seal(Side::Source, source), replica: seal(Side::Replica, replica), ..*known };
        if side == Side::Source {
            pair.archive.set_digest(bad.id(), None);
        }
        pair.archive.set_digest(source.id(), Some(digest));
    }
}

pub(super) fn mtime(root: &Root, folder: BorrowedFd) -> Option<Time> {
    root.stat(folder).ok().map(|stat| stat.mtime)
}

/// Puts back the time of a folder in which nothing has changed but a file's inode.
pub(super) fn set_mtime(folder: BorrowedFd, mtime: Time) {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let mtime = Timespec { tv_sec: mtime.sec, tv_nsec: i64::from(mtime.nsec) };
    // It costs a line about attributes in the next sweep, and no more.
    let _ = futimens(folder, &Timestamps { last_access: omit, last_modification: mtime });
}
