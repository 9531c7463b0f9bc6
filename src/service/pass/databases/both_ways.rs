//! Owns which way a database goes where both folders are worked in: its files go together, as those of one side. Where both
//! sides have written into it there is one conflict for all of them, and what yields is kept as a database of another name.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, linkat};
use rustix::io::Errno;

use super::{PAGE, Place};
use crate::fs::compare;
use crate::fs::copy;
use crate::fs::root::{Root, open_file};
use crate::plan::database::{MAGIC, Part};
use crate::plan::mirror::{Case, Contents, Step, decide};
use crate::plan::two_way::{Both, Different, Verdict, written};
use crate::service::pass::both_ways::Decided;
use crate::service::pass::files::{Stop, failed};
use crate::service::pass::folders::Node;
use crate::service::pass::keeping::At;
use crate::service::pass::walk::Worker;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;

/// The files whose contents decide. The index is made anew by whoever opens the database.
const PARTS: [Part; 3] = [Part::Database, Part::Log, Part::Journal];

/// Which way the files of a database go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is no database on either side, or nobody has written into it: each file goes by itself.
    Apart,
    Here,
    Back,
    /// Both sides have written into it. `here`: the source's version has the name afterwards.
    Conflict {
        here: bool,
        keeps_both: bool,
    },
}

/// The files on both sides, in the order of `PARTS`.
type Files = [(Option<Stat>, Option<Stat>); 3];

impl Worker<'_> {
    /// Decides for a name that may be one of a database's; nothing where it is none. `Some(None)`: it is for the other
    /// direction.
    pub(in crate::service::pass) fn decide_database(
        &self,
        node: &Node,
        path: &RelPath,
        case: &Case,
        verdict: Verdict,
    ) -> Option<Option<Decided>> {
        let idle = [Verdict::Nothing, Verdict::Forget, Verdict::LeaveAlone];
        if self.pass.pair.options.dry_run || idle.contains(&verdict) || matches!(verdict, Verdict::Folder { .. }) {
            return None;
        }
        let (_, name) = path.split()?;
        let (base, part) = Part::of(name);
        if part == Part::Database && ![case.source, case.replica].iter().any(|seen| seen.stat().is_some_and(is_base)) {
            return None;
        }
        let here = |different| {
            let is_on_both = case.source.stat().is_some() && case.replica.stat().is_some();
            let step = if is_on_both { Step::Examine(Contents::Compare) } else { decide(case) };
            Some(Some(Decided { step, different: Some(different), in_database: true, replica: None }))
        };
        match self.way_of(node, base) {
            Ok(Way::Apart) if part == Part::Index && matches!(verdict, Verdict::Compare(_)) => {
                // What two have made of it is nothing to be kept.
                let (source, replica) = (case.source.stat()?, case.replica.stat()?);
                let newer = if source.mtime >= replica.mtime { Side::Source } else { Side::Replica };
                if newer == Side::Replica {
                    self.pass.across(path);
                    return Some(None);
                }
                let (step, different) = (decide(case), Some(Different::Take(newer)));
                Some(Some(Decided { step, different, in_database: false, replica: None }))
            }
            Ok(Way::Apart) => None,
            Ok(Way::Here) => here(Different::Take(Side::Source)),
            Ok(Way::Conflict { here: true, .. }) => here(Different::Conflict),
            Ok(Way::Back | Way::Conflict { here: false, .. }) => {
                for part in Part::ALL {
                    self.pass.across(&node.path.join(&part.name(base)));
                }
                Some(None)
            }
            Err(_) => None,
        }
    }

    /// Which way the files of a database go, by what both sides have of them now.
    pub(super) fn way_of(&self, node: &Node, base: &[u8]) -> Result<Way, Errno> {
        let pair = self.pass.pair;
        let (source, replica) = (node.source.as_fd(), node.replica()?);
        let mut files = Files::default();
        let (mut by_source, mut by_replica, mut in_doubt) = (false, false, false);
        for (part, files) in PARTS.into_iter().zip(&mut files) {
            let name = part.name(base);
            let (here, there) = (pair.source.look(source, &name)?, pair.replica.look(replica, &name)?);
            let is_plain = |seen: Seen| seen.stat().is_none_or(|s| s.kind == Kind::File && !s.is_linked());
            let is_known = here != Seen::Unknown && there != Seen::Unknown;
            if !is_known || !is_plain(here) || !is_plain(there) || self.pass.skips(&node.path.join(&name), false) {
                return Ok(Way::Apart);
            }
            let agreed = pair.agreed(node.ids, &name);
            let both = Both { source: here, replica: there, agreed: agreed.as_ref(), doubted: (false, false) };
            let (of_source, of_replica) = written(&both);
            by_source |= of_source;
            by_replica |= of_replica;
            in_doubt |= agreed.is_some_and(|agreed| agreed.racy);
            *files = (here.stat().copied(), there.stat().copied());
        }
        let is_database = |root: &Root, folder: BorrowedFd, stat: &Option<Stat>| {
            let head = || copy::head(open_file(folder, base)?.as_fd(), MAGIC.len());
            !root.is_missing() && stat.as_ref().is_some_and(is_base) && head().is_ok_and(|head| head == MAGIC)
        };
        let is_here = is_database(&pair.source, source, &files[0].0);
        let is_there = is_database(&pair.replica, replica, &files[0].1);
        Ok(match (is_here, is_there) {
            (false, false) => Way::Apart,
            _ if !by_source && !by_replica && !in_doubt => Way::Apart,
            // What is gone from one side and written on the other comes back whole.
            (true, false) if files[0].1.is_none() => {
                if by_source {
                    Way::Here
                } else {
                    Way::Apart
                }
            }
            (false, true) if files[0].0.is_none() => {
                if by_replica {
                    Way::Back
                } else {
                    Way::Apart
                }
            }
            (true, true) if by_source && by_replica => {
                if self.are_equal(base, (source, replica), &files)? {
                    Way::Apart
                } else {
                    self.conflict_over(&files)
                }
            }
            (true, true) if by_source => Way::Here,
            (true, true) if by_replica => Way::Back,
            _ => Way::Apart,
        })
    }

    fn conflict_over(&self, files: &Files) -> Way {
        let newest = |all: [Option<Stat>; 3]| all.into_iter().flatten().max_by_key(|stat| (stat.mtime, stat.ctime));
        let (source, replica) = (newest(files.map(|f| f.0)), newest(files.map(|f| f.1)));
        let (Some(source), Some(replica)) = (source, replica) else { return Way::Apart };
        let (resolution, stays) = self.pass.resolution(&source, &replica);
        Way::Conflict { here: !stays, keeps_both: resolution.keeps_both }
    }

    fn are_equal(
        &self,
        base: &[u8],
        (source, replica): (BorrowedFd, BorrowedFd),
        files: &Files,
    ) -> Result<bool, Errno> {
        for (part, (here, there)) in PARTS.into_iter().zip(files) {
            let (here, there) = match (here, there) {
                (None, None) => continue,
                (Some(here), Some(there)) if here.size == there.size => (here, there),
                _ => return Ok(false),
            };
            let name = part.name(base);
            let (from, to) = (open_file(source, &name)?, open_file(replica, &name)?);
            let sparse = here.is_sparse() && there.is_sparse();
            let same = compare::same_contents(from.as_fd(), to.as_fd(), sparse, self.pass.pulse);
            if !same.map_err(|_| Errno::IO)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes sure, before the database is taken, that it still goes this way. Returns whether something yields that is kept.
    pub(super) fn make_way(&self, place: &Place) -> Result<bool, Stop> {
        let pair = self.pass.pair;
        let Some(two_way) = &pair.two_way else { return Ok(false) };
        match self.way_of(place.node, place.base).map_err(failed("cannot be looked at"))? {
            Way::Here => Ok(false),
            Way::Conflict { here: true, keeps_both: false } => {
                self.pass.conflict(&place.node.path.join(place.base), two_way.source_is, None);
                Ok(false)
            }
            Way::Conflict { here: true, keeps_both: true } => self.keep_aside(place).map(|()| true),
            _ => Err(Stop::Changed),
        }
    }

    /// Gives the replica's files the names of another database, by which they belong together still.
    fn keep_aside(&self, place: &Place) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let Some(two_way) = &pair.two_way else { return Ok(()) };
        let unkept = failed("cannot keep the other version");
        let folder = place.node.replica().map_err(failed("cannot open the folder"))?;
        let look = |name: &[u8]| pair.replica.look(folder, name).map_err(failed("cannot be looked at"));
        let Some(database) = look(place.base)?.stat().copied() else { return Err(Stop::Changed) };
        let kept = self.kept_name(place.node, place.base, &database, pair.written_side())?;
        // The database last: it is what an interrupted pass is known by.
        for part in [Part::Journal, Part::Log, Part::Database] {
            let (name, kept) = (part.name(place.base), part.name(&kept));
            let Some(before) = look(&name)?.stat().copied() else { continue };
            let path = place.node.path.join(&kept);
            let said = self.pass.say_arrival(At::new(folder, &path), Kind::File, None).map_err(&unkept)?;
            self.pass.put_said().map_err(&unkept)?;
            let linked = linkat(folder, &*name, folder, &*kept, AtFlags::empty());
            if linked.is_err() {
                self.pass.unsay(said);
            }
            match linked {
                Err(Errno::EXIST) => {}
                done => done.map_err(&unkept)?,
            }
            if look(&kept)?.stat().is_none_or(|now| now.id() != before.id()) {
                return Err(Stop::Changed);
            }
            self.pass.across(&place.node.path.join(&kept));
        }
        place.node.touch(self.pass);
        let (path, kept) = (place.node.path.join(place.base), place.node.path.join(&kept));
        self.pass.conflict(&path, two_way.source_is, Some(&kept));
        Ok(())
    }
}

fn is_base(stat: &Stat) -> bool {
    stat.kind == Kind::File && !stat.is_linked() && stat.size >= PAGE && stat.size.is_multiple_of(PAGE)
}
