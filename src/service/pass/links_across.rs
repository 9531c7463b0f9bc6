//! Owns what two-way mode adds to files with several names: names of both sides are noted for both directions, a new
//! name shares what was agreed of its file, and names that the replica has given to a file go with it to its new version.

use std::os::fd::{AsFd, BorrowedFd};

use super::files::{Stop, failed};
use super::groups::Name;
use super::keeping::At;
use super::walk::Worker;
use super::{Pass, both_ways, lend, place_of};
use crate::fs::archive::Changes;
use crate::fs::stage::{Published, Target};
use crate::plan::links::{lends_agreement, was_joined};
use crate::plan::two_way::{Verdict, is_unwritten};
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{InodeId, Kind, Seen, Stat};
use crate::tree::identity::Side;
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;
use crate::tree::totals::Totals;

/// A name of the replica that was one of a file's and is now another file, which this pass has put there.
pub(super) struct Left {
    path: RelPath,
    /// What it was.
    old: Stat,
    new: InodeId,
}

impl Pass<'_> {
    /// Notes on sight which names are names of the same file, for both directions: the one that goes back may be asked about
    /// one name alone.
    pub(super) fn note_names_of_both(&self, path: &RelPath, source: Seen, replica: Seen) {
        let linked = |seen: Seen| seen.stat().filter(|stat| stat.is_linked()).map(Stat::id);
        if let Some(id) = linked(source) {
            self.pair.links().note(id, path);
        }
        if let Some(id) = linked(replica) {
            self.pair.links_back().note(id, path);
        }
    }

    /// Whether all names that the replica gives to an inode are, as far as is known, names of one file of the source. Names
    /// that are not are joined by the other direction.
    pub(super) fn note_links_back(&self, path: &RelPath, source: &Stat, replica: &Stat) {
        if !replica.is_linked() {
            return;
        }
        let fits = {
            let mut back = self.pair.links_back();
            back.note(replica.id(), path);
            back.stands_for(replica.id(), source.id())
        };
        if !fits && !self.pair.said.has(super::groups::NO_LINKS) {
            let doubt = Doubt::attributes(clock::now()).asked_by(self.asked(path));
            self.shared().outcome.across.insert(path, doubt);
        }
    }

    /// What was agreed of a name that is new on both sides: what was agreed of the file, if it is a name of one file on
    /// each that was agreed under another. An agreement may have been interrupted after the link was made.
    pub(super) fn agreed_of_file(&self, path: &RelPath, source: Seen, replica: Seen) -> Option<Agreed> {
        let (source, replica) = (source.stat()?, replica.stat()?);
        if !source.is_linked() || !replica.is_linked() {
            return None;
        }
        let names = self.pair.links().names(source.id());
        names.into_iter().filter(|name| name != path).find_map(|name| {
            let (ids, name) = place_of(self.pair, &name)?;
            let agreed = self.pair.agreed(ids, &name)?;
            let is_of_it = agreed.source.id == source.id() && agreed.replica.id == replica.id();
            (is_of_it && !agreed.racy).then_some(agreed)
        })
    }

    /// Notes that a name of a linked file of the replica is another file now, by this pass.
    pub(super) fn left(&self, path: &RelPath, old: &Stat, new: InodeId) {
        let is_linked = old.kind == Kind::File && old.is_linked() && old.id() != new;
        if self.pair.two_way.is_none() || !is_linked {
            return;
        }
        // The other name is one by which the version that yielded is kept.
        if self.shared().kept.contains(&old.id()) {
            return self.restamp_left(path, old);
        }
        self.restamp_left(path, old);
        // Written to, it is a version of its own, which those names go on having.
        let agreed = place_of(self.pair, path).and_then(|(ids, name)| self.pair.agreed(ids, &name));
        if agreed.is_some_and(|agreed| agreed.replica.id == old.id() && is_unwritten(old, &agreed.replica)) {
            self.shared().left.push(Left { path: path.clone(), old: *old, new });
        }
    }
}

impl Pass<'_> {
    /// What is expected at a name. Where this pass has given the file one more name, to keep it, its ctime has moved: of
    /// several names that conflict, each would find the last one changed.
    pub(super) fn refreshed(&self, folder: BorrowedFd, name: &[u8], expected: Option<Stat>) -> Option<Stat> {
        let kept = expected.filter(|old| self.shared().kept.contains(&old.id()));
        let now = kept.and_then(|_| self.pair.replica.look(folder, name).ok()?.stat().copied());
        let is_it = |now: &Stat| {
            let as_expected = |old: Stat| now.mode == old.mode && now.stamp().same_contents_if_explained(&old.stamp());
            expected.is_some_and(as_expected)
        };
        now.filter(is_it).or(expected)
    }

    /// Takes the ctime that a file of the replica has since it lost a name over into what was agreed of its other names. The
    /// change was the program's own. Whether they still belong together as in the source is looked at.
    fn restamp_left(&self, but: &RelPath, before: &Stat) {
        let pair = self.pair;
        let names = pair.links_back().names(before.id());
        for path in names.into_iter().filter(|path| path != but) {
            let (Some((ids, name)), Ok(Seen::Present(now))) = (place_of(pair, &path), pair.replica.look_at(&path))
            else {
                continue;
            };
            if now.id() != before.id() {
                continue;
            }
            self.again(&path, Doubt::attributes(clock::now()));
            let is_ours = now.mode == before.mode && now.stamp().same_contents_if_explained(&before.stamp());
            if let Some(agreed) = pair.agreed(ids, &name).filter(|agreed| is_ours && agreed.replica == before.stamp()) {
                let agreed = Agreed { replica: now.stamp(), ..agreed };
                pair.remember(ids, Changes::from([(name.into(), Some(agreed))]));
            }
        }
    }
}

/// A name whose agreement a new name can share, with the replica's file as it is now.
pub(super) fn lender<'a>(pass: &Pass, names: &'a [Name]) -> Option<(&'a Name, Agreed, Stat)> {
    pass.pair.two_way.as_ref()?;
    names.iter().find_map(|name| {
        let agreed = pass.pair.agreed(name.ids, &name.name).filter(|agreed| !agreed.racy)?;
        let now = *pass.pair.replica.look(name.replica.as_fd(), &name.name).ok()?.stat()?;
        lends_agreement(&name.source_stat, &now, &agreed).then_some((name, agreed, now))
    })
}

/// Remembers that new names of a file share what was agreed of it. The links have moved the ctime of the replica's file,
/// which was `before` them.
pub(super) fn share_agreement(pass: &Pass, (lender, agreed, before): (&Name, Agreed, Stat), linked: &[&Name]) {
    let Ok(Seen::Present(now)) = pass.pair.replica.look(lender.replica.as_fd(), &lender.name) else { return };
    let is_ours = now.id() == before.id() && before.stamp() == agreed.replica;
    let is_link = now.mode == before.mode && now.stamp().same_contents_if_explained(&before.stamp());
    let agreed = if is_ours && is_link { Agreed { replica: now.stamp(), ..agreed } } else { agreed };
    for name in linked.iter().copied().chain([lender]) {
        pass.remember(&name.folder, name.ids, Changes::from([(name.name.clone(), Some(agreed))]));
        pass.again(&name.path, Doubt::attributes(clock::now()));
    }
}

/// Has names follow that the replica alone has given to files which this pass has replaced, where no other name keeps the
/// old version.
pub(super) fn follow(pass: &Pass, touched: &mut impl Extend<RelPath>, totals: &mut Totals) {
    let left = std::mem::take(&mut pass.shared().left);
    for Left { path, old, new } in left {
        let names = pass.pair.links_back().names(old.id());
        let is_name = |name: &RelPath| {
            let seen = pass.pair.replica.look_at(name).ok();
            seen.and_then(|seen| seen.stat().copied()).filter(|now| now.id() == old.id())
        };
        let is_left = |(name, _): &(RelPath, Stat)| !pass.is_to_go(name);
        let all: Vec<_> = names.into_iter().filter_map(|name| is_name(&name).map(|now| (name, now))).collect();
        let stay: Vec<_> = all.iter().filter(|name| is_left(name)).cloned().collect();
        // A name that nobody knows of may be one that keeps the file.
        let Some((_, now)) = stay.first() else { continue };
        if now.nlink as usize != all.len() || !stay.iter().all(|(name, now)| follows(pass, name, now)) {
            continue;
        }
        for (name, now) in stay {
            match follow_one(pass, (&path, new), &name, &now) {
                Ok(true) => {
                    touched.extend(name.split().map(|(folder, _)| folder));
                    pass.report(Operation::LinkUpdated, &name);
                    pass.across(&name);
                    totals.links += 1;
                }
                Ok(false) => {}
                Err(stop) => Worker::new(pass).stopped(&name, stop),
            }
        }
    }
}

/// Whether a name was given to its file by the replica alone.
fn follows(pass: &Pass, path: &RelPath, replica: &Stat) -> bool {
    let Some((ids, name)) = place_of(pass.pair, path) else { return false };
    let agreed = pass.pair.agreed(ids, &name);
    let Ok(source) = pass.pair.source.look_at(path) else { return false };
    let is_theirs = match (source, agreed) {
        (Seen::Absent, agreed) => agreed.is_none(),
        (Seen::Present(source), Some(agreed)) => is_unwritten(&source, &agreed.source),
        _ => false,
    };
    is_theirs && !pass.skips_within(path, false) && was_joined(replica, agreed.as_ref())
}

fn follow_one(
    pass: &Pass,
    (leader, inode): (&RelPath, InodeId),
    path: &RelPath,
    expected: &Stat,
) -> Result<bool, Stop> {
    let pair = pass.pair;
    if !pass.claim(path) {
        return Err(Stop::Changed);
    }
    let linked = (|| {
        let unopened = failed("cannot open the folder");
        let (Some((parent, _)), Some((from, first))) = (path.split(), leader.split()) else { return Ok(false) };
        let folder = pair.replica.open_folder(&parent).map_err(&unopened)?;
        let from = pair.replica.open_folder(&from).map_err(&unopened)?;
        let target = Target { folder: folder.as_fd(), path: &parent };
        let Ok(staged) = pair.stage.link(&pair.replica, &target, from.as_fd(), first) else { return Ok(false) };
        let is_it = pair
            .replica
            .look(staged.folder(), staged.name())
            .is_ok_and(|seen| seen.stat().is_some_and(|now| now.id() == inode));
        if !is_it {
            staged.discard(&pair.replica);
            return Ok(false);
        }
        let published =
            Worker::new(pass).publish_staged(staged, At::new(folder.as_fd(), path), Kind::File, Some(expected))?;
        Ok(published == Published::Yes)
    })();
    pass.release(path);
    linked
}

/// Whether a name of a group is to become a link to the leader, with nothing in the replica to be lost by that. What the
/// replica has newer of the attributes is brought to the source first.
pub(super) fn is_to_be_linked(pass: &Pass, name: &Name, seen: Seen) -> bool {
    if pass.pair.two_way.is_none() {
        return true;
    }
    let is_unwritten = || {
        let agreed = pass.pair.agreed(name.ids, &name.name);
        agreed.zip(seen.stat()).is_some_and(|(agreed, now)| is_unwritten(now, &agreed.replica))
    };
    match both_ways::verdict(pass, name.ids, &name.name, (&name.source_stat, seen)) {
        Verdict::Nothing | Verdict::Take(Side::Source) => true,
        Verdict::Merge(Side::Source) | Verdict::Compare(_) if is_unwritten() => {
            let lent = lend::lend_at(pass, name, seen);
            if lent == Ok(true) {
                // The leader has yet to get them.
                pass.again(&name.path, Doubt::contents(clock::now()));
            }
            lent.is_ok()
        }
        _ => false,
    }
}
