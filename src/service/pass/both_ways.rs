//! Owns what two-way mode adds to a pass. A pass goes one way all the same: what is for the other way is noted for the
//! pass that goes there. Here it is asked which way a name goes, and conflicts are resolved.

use std::os::fd::{AsFd, BorrowedFd};

use jiff::Timestamp;
use rustix::fs::{AtFlags, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use super::files::{Job, Stop, failed};
use super::folders::Node;
use super::keeping::At;
use super::walk::Worker;
use super::{Pass, place_of};
use crate::fs::archive::Changes;
use crate::fs::history::local_zone;
use crate::fs::root::{Root, open_child};
use crate::fs::scan;
use crate::plan::conflict::{Resolution, conflict_name, is_conflict_of, resolve};
use crate::plan::mirror::{Case, Compare, Contents, Step, decide};
use crate::plan::two_way::{Both, Different, Verdict, is_unwritten, reconcile};
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat, Time};
use crate::tree::identity::Side;
use crate::tree::listing::Listing;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// What a pass does about one name.
pub(super) struct Decided {
    pub(super) step: Step,
    /// What it means if the contents are found to differ; in two-way mode, where that is not known.
    pub(super) different: Option<Different>,
    /// It goes with the other files of a database.
    pub(super) in_database: bool,
    /// What the replica has by now, where a conflict was resolved.
    pub(super) replica: Option<Seen>,
}

impl Pass<'_> {
    /// Leaves a path to the pass that goes the other way.
    pub(super) fn across(&self, path: &RelPath) {
        let doubt = Doubt::subtree(clock::now()).heard_first(self.heard.first(self.dirty, path));
        self.shared().outcome.across.insert(path, doubt.asked_by(self.asked(path)));
    }

    /// How a conflict between the two ends, and whether the replica's version keeps the name.
    pub(super) fn resolution(&self, source: &Stat, replica: &Stat) -> (Resolution, bool) {
        let (source, replica) = if self.pair.is_turned() { (replica, source) } else { (source, replica) };
        let resolution = resolve(self.rules.policy, source, replica);
        (resolution, resolution.winner == self.pair.written_side())
    }
}

impl Worker<'_> {
    /// Decides one name; nothing where it is for the other direction.
    pub(super) fn decide_both(&mut self, node: &Node, path: &RelPath, case: &Case) -> Option<Decided> {
        let pair = self.pass.pair;
        let Some(two_way) = &pair.two_way else {
            return Some(Decided { step: decide(case), different: None, in_database: true, replica: None });
        };
        self.pass.note_names_of_both(path, case.source, case.replica);
        let of_file =
            if case.agreed.is_none() { self.pass.agreed_of_file(path, case.source, case.replica) } else { None };
        let case = &Case { agreed: case.agreed.or(of_file.as_ref()), ..*case };
        let only = |step| Some(Decided { step, different: None, in_database: false, replica: None });
        // What this program has made shows each write, and what was heard of it since is mostly of its making.
        let hides = |agreed: &Agreed| agreed.made != Some(Side::Source);
        let heard = case.doubt.is_some_and(|d| d.contents && case.agreed.is_some_and(|a| d.at > a.looked && hides(a)));
        // Of two sides of which one has moved, that one was written, and the other was not.
        let is_as_agreed = case.source.stat().zip(case.replica.stat()).zip(case.agreed);
        let is_as_agreed =
            is_as_agreed.is_some_and(|((source, replica), a)| a.holds(&source.stamp(), &replica.stamp()));
        let all = case.compare == Compare::Contents && case.doubt.is_none() && is_as_agreed;
        let both =
            Both { source: case.source, replica: case.replica, agreed: case.agreed, doubted: (heard || all, all) };
        let verdict = reconcile(&both);
        if let Some(decided) = self.decide_database(node, path, case, verdict) {
            return decided;
        }
        match verdict {
            Verdict::Nothing => only(Step::Nothing),
            Verdict::Forget => only(Step::Forget),
            Verdict::LeaveAlone => only(Step::LeaveAlone),
            Verdict::Folder { attributes_agreed } => {
                // What was set in the instant in which they were agreed shows in no stamp.
                let is_named = case.doubt.is_some_and(|d| case.agreed.is_some_and(|a| d.at > a.looked));
                only(Step::Folder { attributes_agreed: attributes_agreed && !is_named })
            }
            // It is the owner that differs, which no stamp shows.
            Verdict::Take(Side::Source) if is_as_agreed => only(Step::Examine(Contents::Compare)),
            Verdict::Take(Side::Source) => only(decide(case)),
            Verdict::Merge(Side::Source) => {
                self.lend_attributes_at(node, path, case);
                only(Step::Update)
            }
            Verdict::Remove(Side::Replica) if self.is_good_of_decayed(path) => only(Step::LeaveAlone),
            Verdict::Remove(Side::Replica) => only(Step::Remove),
            Verdict::Remove(Side::Source) if two_way.survivors.has(path) => only(Step::Create),
            Verdict::Take(Side::Replica) | Verdict::Remove(Side::Source) | Verdict::Merge(Side::Replica) => {
                self.pass.across(path);
                None
            }
            Verdict::Compare(different) => {
                Some(Decided { different: Some(different), ..only(Step::Examine(Contents::Compare))? })
            }
            Verdict::Conflict => self.conflict_of_kinds(node, path, &both),
        }
    }

    /// Whether the other side's file that is gone had decayed: it may be there under another name, and nothing but this has
    /// its contents.
    fn is_good_of_decayed(&self, path: &RelPath) -> bool {
        let pair = self.pass.pair;
        let other = pair.written_side().other();
        let is_good = pair.archive.decayed_at(path).is_some_and(|decayed| decayed.side == other);
        if is_good {
            let reason =
                format!("it had decayed in the {other}, where it is no more: remove it here, too, if it is to go");
            self.pass.problem(path, reason);
        }
        is_good
    }

    /// Two different kinds have one name, and both are new.
    fn conflict_of_kinds(&mut self, node: &Node, path: &RelPath, both: &Both) -> Option<Decided> {
        let (Some(source), Some(replica)) = (both.source.stat(), both.replica.stat()) else { return None };
        let claimed = self.pass.claim(path);
        if !claimed || !self.is_conflict_of_kinds_still(node, path, both) {
            if claimed {
                self.pass.release(path);
            }
            self.pass.again(path, Doubt::subtree(clock::now()));
            return None;
        }
        let yielded = self.yields(node, path, source, replica);
        self.pass.release(path);
        let decided =
            |step, replica| Some(Decided { step, different: None, in_database: false, replica: Some(replica) });
        match yielded {
            Ok(None) => None,
            // The link has moved its ctime.
            Ok(Some(Yielded::Kept(now))) => decided(Step::Replace, Seen::Present(now)),
            Ok(Some(Yielded::Moved)) => decided(Step::Create, Seen::Absent),
            Err(stop) => {
                self.stopped(path, stop);
                None
            }
        }
    }

    /// Before the name was claimed, another pass may have put one of the two there, and have it agreed.
    fn is_conflict_of_kinds_still(&self, node: &Node, path: &RelPath, both: &Both) -> bool {
        let (pair, Some((_, name))) = (self.pass.pair, path.split()) else { return false };
        let is_so = |root: &Root, folder: Result<BorrowedFd, Errno>, seen: &Seen| {
            let now = folder.and_then(|folder| root.look(folder, name));
            now.is_ok_and(|now| now.stat().map(Stat::stamp) == seen.stat().map(Stat::stamp))
        };
        let agreed = pair.agreed(node.ids, name);
        is_so(&pair.source, Ok(node.source.as_fd()), &both.source)
            && is_so(&pair.replica, node.replica(), &both.replica)
            && reconcile(&Both { agreed: agreed.as_ref().or(both.agreed), ..*both }) == Verdict::Conflict
    }

    /// What is to be done about contents that were found to differ. Returns the replica's stat where the source's are to
    /// take its place, `Some(None)` where there is nothing in the place any more, and nothing where it is for the other
    /// direction.
    pub(super) fn settle_difference(
        &mut self,
        node: &Node,
        path: &RelPath,
        job: &Job,
        replica: Stat,
    ) -> Result<Option<Option<Stat>>, Stop> {
        match job.different {
            None | Some(Different::Take(Side::Source)) => Ok(Some(Some(replica))),
            Some(Different::Take(Side::Replica)) => {
                self.pass.across(path);
                Ok(None)
            }
            // Since the name was looked at, another pass may have made both equal, and one been saved again.
            Some(Different::Conflict) if !self.is_conflict_still(node, job, &replica) => Err(Stop::Changed),
            Some(Different::Conflict) => Ok(match self.yields(node, path, &job.source, &replica)? {
                None => None,
                Some(Yielded::Kept(now)) => Some(Some(now)),
                Some(Yielded::Moved) => Some(None),
            }),
        }
    }

    fn is_conflict_still(&self, node: &Node, job: &Job, replica: &Stat) -> bool {
        let pair = self.pass.pair;
        let Some(agreed) = pair.agreed(node.ids, &job.name) else { return true };
        if agreed.holds(&job.source.stamp(), &replica.stamp()) {
            // Nothing shows it, and all are compared.
            return true;
        }
        // At least what was doubted before.
        let doubted = (job.contents_in_doubt, false);
        let (source, replica) = (Seen::Present(job.source), Seen::Present(*replica));
        let verdict = reconcile(&Both { source, replica, agreed: Some(&agreed), doubted });
        matches!(verdict, Verdict::Compare(Different::Conflict) | Verdict::Conflict)
    }

    /// Resolves a conflict as far as the replica's version is to yield. Nothing where the source's is.
    fn yields(&mut self, node: &Node, path: &RelPath, source: &Stat, replica: &Stat) -> Result<Option<Yielded>, Stop> {
        let pair = self.pass.pair;
        if pair.two_way.is_none() {
            return Ok(Some(Yielded::Kept(*replica)));
        }
        let (resolution, stays) = self.pass.resolution(source, replica);
        if stays {
            self.pass.across(path);
            return Ok(None);
        }
        let loser = pair.written_side();
        if !resolution.keeps_both {
            self.pass.conflict(path, resolution.winner, None);
            return Ok(Some(Yielded::Kept(*replica)));
        }
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let Some((parent, name)) = path.split() else { return Err(Stop::Changed) };
        let kept = self.kept_name(node, name, replica, loser)?;
        if pair.options.dry_run {
            self.pass.conflict(path, resolution.winner, Some(&parent.join(&kept)));
            let is_folder = replica.kind == Kind::Directory;
            return Ok(Some(if is_folder { Yielded::Moved } else { Yielded::Kept(*replica) }));
        }
        let yielded = put_aside(self.pass, At::new(folder, path), &parent.join(&kept), replica)
            .map_err(failed("cannot keep the other version"))?;
        node.touch(self.pass);
        if let Yielded::Kept(now) = &yielded {
            self.pass.shared().kept.insert(now.id());
        }
        let kept = parent.join(&kept);
        self.pass.conflict(path, resolution.winner, Some(&kept));
        self.pass.across(&kept);
        Ok(Some(yielded))
    }

    /// Whether what the replica has under another name is not about to be replaced or removed itself.
    fn stays(&self, node: &Node, name: &[u8], replica: &Stat) -> bool {
        let pair = self.pass.pair;
        let Ok(source) = pair.source.look(node.source.as_fd(), name) else { return false };
        match (source.stat(), pair.agreed(node.ids, name)) {
            (None, None) => source == Seen::Absent,
            // It has gone across, and only that is not remembered.
            (Some(source), None) => (source.size, source.mtime) == (replica.size, replica.mtime),
            (Some(source), Some(agreed)) => {
                is_unwritten(source, &agreed.source) && is_unwritten(replica, &agreed.replica)
            }
            (None, Some(_)) => false,
        }
    }

    /// Under which name the replica's version is kept: that which an interrupted pass has given it, or a new one.
    pub(super) fn kept_name(&self, node: &Node, name: &[u8], replica: &Stat, loser: Side) -> Result<Vec<u8>, Stop> {
        let pair = self.pass.pair;
        let unread = failed("cannot list the folder");
        let folder = node.replica().map_err(&unread)?;
        let beat = &mut || self.pass.pulse.beat();
        // What is open has been listed before, and would begin at its end.
        let again = open_child(folder, b".").map_err(&unread)?;
        let theirs = scan::list_with(&pair.replica, again.as_fd(), beat).map_err(&unread)?;
        let again = theirs.iter().find(|(other, seen)| {
            let is_it = is_conflict_of(other, name) && seen.stat().is_some_and(|s| s.id() == replica.id());
            is_it && self.stays(node, other, replica)
        });
        if let Some((known, _)) = again {
            return Ok(known.to_vec());
        }
        let is_taken = |name: &[u8]| {
            theirs.get(name) != Seen::Absent || pair.source.look(node.source.as_fd(), name) != Ok(Seen::Absent)
        };
        Ok(conflict_name(name, &shown(replica.mtime), loser, is_taken))
    }
}

/// What became of the version that yields.
pub(super) enum Yielded {
    /// It still has the name too.
    Kept(Stat),
    Moved,
}

/// Gives an entry another name, and lets it keep its own where it can have both.
fn put_aside(pass: &Pass, at: At, kept_path: &RelPath, replica: &Stat) -> Result<Yielded, Errno> {
    let (pair, folder) = (pass.pair, at.folder);
    let (Some((_, name)), Some((_, kept))) = (at.path.split(), kept_path.split()) else { return Err(Errno::INVAL) };
    if replica.kind != Kind::Directory {
        let said = pass.say_arrival(At::new(folder, kept_path), replica.kind, None)?;
        pass.put_said()?;
        let linked = linkat(folder, name, folder, kept, AtFlags::empty());
        if linked.is_err() {
            pass.unsay(said);
        }
        match linked {
            // It was kept by a pass that was interrupted, or there are no links.
            Err(Errno::EXIST | Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {}
            done => done?,
        }
        let look = |name: &[u8]| pair.replica.look(folder, name);
        let (now, copy) = (look(name)?, look(kept)?);
        if let (Some(now), Some(copy)) = (now.stat(), copy.stat())
            && now.id() == copy.id()
            && now.id() == replica.id()
        {
            return Ok(Yielded::Kept(*now));
        }
    }
    rename_aside(pass, at, kept_path, replica).map(|()| Yielded::Moved)
}

/// Gives an entry a name that nothing has.
fn rename_aside(pass: &Pass, at: At, to: &RelPath, replica: &Stat) -> Result<(), Errno> {
    let (Some((_, name)), Some((_, free))) = (at.path.split(), to.split()) else { return Err(Errno::INVAL) };
    let said = pass.say_rename((at, At::new(at.folder, to)), replica.id(), (false, None))?;
    pass.put_said()?;
    renameat_with(at.folder, name, at.folder, free, RenameFlags::NOREPLACE).inspect_err(|_| pass.unsay(said))
}

/// When a version was last written, as its name says it.
fn shown(time: Time) -> String {
    let time = Timestamp::new(time.sec, 0).unwrap_or_default();
    time.to_zoned(local_zone().clone()).strftime("%Y%m%d-%H%M%S").to_string()
}

/// Resolves the conflict between what is new in a folder and what has its name on the source.
///
/// # Errors
/// As of renameat2(2).
pub(super) fn move_aside(
    pass: &Pass,
    folder: BorrowedFd,
    path: &RelPath,
    source: &Stat,
    replica: &Stat,
) -> Result<(), Errno> {
    let pair = pass.pair;
    let Some((parent, name)) = path.split() else { return Ok(()) };
    let (resolution, stays) = pass.resolution(source, replica);
    if stays {
        // Nothing is agreed any more, so that the other direction comes to the same.
        forget(pass, path);
        pass.across(path);
        return Ok(());
    }
    let is_taken = |name: &[u8]| {
        let seen = pair.replica.look(folder, name);
        seen != Ok(Seen::Absent) || pair.source.look_at(&parent.join(name)) != Ok(Seen::Absent)
    };
    let kept = conflict_name(name, &shown(replica.mtime), pair.written_side(), is_taken);
    if pair.options.dry_run {
        pass.conflict(path, resolution.winner, Some(&parent.join(&kept)));
        return Ok(());
    }
    let kept = parent.join(&kept);
    rename_aside(pass, At::new(folder, path), &kept, replica)?;
    pass.conflict(path, resolution.winner, Some(&kept));
    pass.across(&kept);
    pass.again(path, Doubt::subtree(clock::now()));
    Ok(())
}

fn forget(pass: &Pass, path: &RelPath) {
    if let Some((ids, name)) = place_of(pass.pair, path) {
        pass.pair.remember(ids, Changes::from([(name.into(), None)]));
    }
}

/// Whether the source holds nothing at all any more, though more than one thing is to go: that is a disk that has lost what it
/// held, or a folder that was put in the place of another, more likely than work.
pub(super) fn is_emptied(pass: &Pass, removals: usize) -> bool {
    let pair = pass.pair;
    if pair.two_way.is_none() || removals < 2 {
        return false;
    }
    let is_nothing = |listing: Listing| {
        let skips = |name: &[u8]| pass.skips(&RelPath::root().join(name), true);
        listing.names(0..listing.len()).all(skips)
    };
    pair.source
        .open_folder(&RelPath::root())
        .and_then(|root| scan::names(root.as_fd(), &mut || pass.pulse.beat()))
        .is_ok_and(is_nothing)
}

/// Which way a name goes that is looked at once more, outside the walk.
pub(super) fn verdict(pass: &Pass, ids: Ids, name: &[u8], (source, replica): (&Stat, Seen)) -> Verdict {
    let agreed = pass.pair.agreed(ids, name);
    reconcile(&Both { source: Seen::Present(*source), replica, agreed: agreed.as_ref(), doubted: (false, false) })
}

impl Worker<'_> {
    /// Takes over what was agreed of a folder that is made once more, for what is still to go from it.
    pub(super) fn take_over_record(&self, node: &Node) {
        let pair = self.pass.pair;
        let Some(two_way) = pair.two_way.as_ref().filter(|_| node.fresh) else { return };
        let Some(ids) = two_way.survivors.take(&node.path) else { return };
        let Some(ids) = (if pair.is_turned() { ids.turned() } else { Some(ids) }) else { return };
        let changes: Changes = pair.record(ids).iter().map(|(name, agreed)| (name.into(), Some(*agreed))).collect();
        pair.remember(node.ids, changes);
    }
}
