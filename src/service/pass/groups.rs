//! Owns files with several names: one name of each group is dealt with as a file of its own, the others become links
//! to it. Which names belong together is asked of the source's disk, never only of memory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::files::{Job, Stop, failed};
use super::keeping::At;
use super::walk::{Worker, single};
use super::{Group, Pass, both_ways, folders, links_across, links_foreseen};
use crate::fs::archive::Changes;
use crate::fs::identity::born_at;
use crate::fs::stage::{Published, Target};
use crate::fs::trust;
use crate::plan::mirror::{Contents, Step};
use crate::plan::two_way::{Different, Verdict};
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::tree::doubt::{Doubt, Moment};
use crate::tree::entry::{InodeId, Kind, Seen, Stat};
use crate::tree::identity::Side;
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;
use crate::tree::totals::Totals;

/// One name of a group with its folders open.
pub(super) struct Name {
    pub(super) path: RelPath,
    pub(super) folder: RelPath,
    pub(super) name: Box<[u8]>,
    pub(super) ids: Ids,
    pub(super) replica: OwnedFd,
    pub(super) source_stat: Stat,
    seen: Seen,
}

/// What is said once of a side that has no links.
pub(super) const NO_LINKS: &str = "links";

/// Makes the links of all groups that this pass met.
pub fn settle(pass: &Pass) -> Totals {
    let groups = std::mem::take(&mut pass.shared().groups);
    let mut totals = Totals::default();
    let mut touched = BTreeSet::new();
    find_names(pass, &groups);
    for (id, group) in groups {
        pass.pulse.beat();
        if pass.is_cancelled() {
            break;
        }
        if !pass.pair.options.dry_run {
            settle_group(pass, id, group, &mut touched, &mut totals);
        } else {
            links_foreseen::tell(pass, id, &group, &mut totals);
        }
    }
    if pass.pair.two_way.is_some() && !pass.is_cancelled() {
        links_across::follow(pass, &mut touched, &mut totals);
    }
    folders::settle_all(pass, touched, &mut totals);
    totals
}

/// Looks up the names of files that have more of them than are known.
fn find_names(pass: &Pass, groups: &BTreeMap<InodeId, Group>) {
    if pass.dirty.is_everything() {
        return;
    }
    let mut unknown = HashSet::new();
    for (id, group) in groups {
        let mut names: BTreeSet<RelPath> = pass.pair.links().names(*id).into_iter().collect();
        names.extend(group.names.iter().cloned());
        if names.len() < group.nlink as usize {
            unknown.insert(*id);
        }
    }
    note_names(pass, &unknown);
}

/// Notes the names under which the archive knows these inodes of the source.
pub(super) fn note_names(pass: &Pass, inodes: &HashSet<InodeId>) {
    for (id, path) in pass.pair.names_of(inodes) {
        // The archive may remember what is long gone.
        if pass.pair.source.look_at(&path).is_ok_and(|seen| seen.stat().is_some_and(|s| s.id() == id)) {
            pass.pair.links().note(id, &path);
        }
    }
}

fn settle_group(pass: &Pass, id: InodeId, group: Group, touched: &mut BTreeSet<RelPath>, totals: &mut Totals) {
    let pair = pass.pair;
    let mut paths = group.names.clone();
    paths.extend(pair.links().names(id));
    let excluded = |path: &RelPath| pass.skips_within(path, false);
    let open = |path: &RelPath| match open_name(pass, id, path) {
        Ok(name) => name,
        // Whether it is a name of the file is not known then.
        Err(error) => {
            pass.failed(path, "cannot open the folder", error);
            None
        }
    };
    let mut names: Vec<Name> = paths.iter().filter(|path| !excluded(path)).filter_map(open).collect();
    pair.links().set_names(id, names.iter().map(|n| n.path.clone()));
    let mut leader = known_leader(pass, &group, &names, totals);
    if leader.is_none() && group.leader.is_none() {
        if let Some((lender, agreed, before)) = links_across::lender(pass, &names) {
            let others = names.iter().filter(|name| name.path != lender.path);
            let linked = link_all(pass, (lender, before.id()), others, touched, totals);
            pair.links().set(id, before.id());
            return links_across::share_agreement(pass, (lender, agreed, before), &linked);
        }
        leader = made_leader(pass, &group, &names, totals);
    }
    let Some((leader, agreed)) = leader else {
        for name in names.iter().filter(|n| group.names.contains(&n.path)) {
            pass.again(&name.path, Doubt::contents(clock::now()));
        }
        return;
    };
    let Some(at) = names.iter().position(|n| n.path == leader) else { return };
    let first = names.remove(at);
    let look = |name: &Name| pair.replica.look(name.replica.as_fd(), &name.name).unwrap_or(Seen::Unknown);
    let Some(inode) = look(&first).stat().map(|s| s.id()) else {
        return pass.again(&first.path, Doubt::contents(clock::now()));
    };
    let linked = link_all(pass, (&first, inode), names.iter(), touched, totals);
    let Some(now) = look(&first).stat().copied() else { return };
    let all = linked.into_iter().chain([&first]);
    if now.id() != inode || !now.stamp().same_contents_if_explained(&agreed.replica) {
        // Somebody else was at work in the replica: what is there now was not agreed.
        return all.for_each(|name| pass.again(&name.path, Doubt::contents(clock::now())));
    }
    pair.links().set(id, inode);
    if pair.two_way.is_some() {
        pair.links_back().set(inode, id);
        // Another name may have brought attributes to the source since the leader was read.
        if pair.source.look_at(&first.path).is_ok_and(|seen| seen.stat().is_none_or(|s| s.stamp() != agreed.source)) {
            pass.again(&first.path, Doubt::contents(clock::now()));
        }
    }
    for name in all {
        if pair.two_way.is_some() {
            pair.links_back().note(inode, &name.path);
        }
        let agreed = Agreed { replica: now.stamp(), ..agreed };
        pass.remember(&name.folder, name.ids, Changes::from([(name.name.clone(), Some(agreed))]));
    }
}

/// Makes names links to the leader, which is this inode. Returns those that are names of it.
fn link_all<'a>(
    pass: &Pass,
    (leader, inode): (&Name, InodeId),
    names: impl Iterator<Item = &'a Name>,
    touched: &mut BTreeSet<RelPath>,
    totals: &mut Totals,
) -> Vec<&'a Name> {
    let mut linked = Vec::new();
    for name in names {
        // Only now: each link moves the ctime of the names that the old inode still has.
        let seen = pass.pair.replica.look(name.replica.as_fd(), &name.name).unwrap_or(Seen::Unknown);
        if seen.stat().is_some_and(|s| s.id() == inode) {
            linked.push(name);
            continue;
        }
        if !links_across::is_to_be_linked(pass, name, seen) {
            pass.again(&name.path, Doubt::contents(clock::now()));
            continue;
        }
        match link(pass, leader, name, seen) {
            Ok(true) => {
                pass.replaced(&name.path, seen.stat(), Kind::File);
                let new = seen.stat().is_none_or(|old| old.kind != Kind::File);
                pass.report(if new { Operation::LinkCreated } else { Operation::LinkUpdated }, &name.path);
                totals.links += 1;
                touched.insert(name.folder.clone());
                if let Some(old) = seen.stat() {
                    pass.left(&name.path, old, inode);
                }
                linked.push(name);
            }
            Ok(false) => {}
            Err(stop) => Worker::new(pass).stopped(&name.path, stop),
        }
    }
    linked
}

/// What is agreed of a name, if the replica is as it was agreed, and the source's contents are.
fn agreed_of(pass: &Pass, names: &[Name], path: &RelPath) -> Option<Agreed> {
    let name = names.iter().find(|n| n.path == *path)?;
    let agreed = pass.pair.agreed(name.ids, &name.name)?;
    let now = pass.pair.replica.look(name.replica.as_fd(), &name.name).ok()?;
    // In two-way mode a leader has to be sure.
    let is_sure = !agreed.racy || pass.pair.two_way.is_none();
    let holds = is_sure && now.stat().is_some_and(|s| s.stamp() == agreed.replica);
    (holds && agreed.source.same_contents_if_explained(&name.source_stat.stamp())).then_some(agreed)
}

/// The name that the others become links to, and what is agreed of it.
fn known_leader(pass: &Pass, group: &Group, names: &[Name], totals: &mut Totals) -> Option<(RelPath, Agreed)> {
    let pair = pass.pair;
    let agreed_of = |path: &RelPath| agreed_of(pass, names, path);
    if let Some(leader) = &group.leader {
        let agreed = agreed_of(leader)?;
        if agreed.provisional && group.contents_in_doubt {
            // Of the leader nothing was heard but attributes; of another name more, and it is the same file.
            let name = names.iter().find(|n| n.path == *leader)?;
            examine(pass, name, Contents::Compare, totals)?;
            return agreed_of(leader).map(|agreed| (leader.clone(), agreed));
        }
        return Some((leader.clone(), agreed));
    }
    // A further name for a file that the replica has: it tells why the ctime moved, so that no more than the
    // attributes need a look, unless something was heard of the contents.
    let is_other = |name: &&Name| pair.two_way.is_some() || !group.names.contains(&name.path);
    let known = names.iter().filter(is_other).filter(|name| agreed_of(&name.path).is_some());
    for name in known {
        // What is on trust is not kept by a single sync, and in two-way mode the archive must not be behind for long.
        let is_certain_only = pair.two_way.is_some() && pair.watches.is_none();
        let in_doubt = group.contents_in_doubt || is_certain_only || pair.lost() > Moment::default();
        examine(pass, name, if in_doubt { Contents::Compare } else { Contents::Explained }, totals)?;
        if let Some(agreed) = agreed_of(&name.path) {
            return Some((name.path.clone(), agreed));
        }
    }
    None
}

/// Where none can be trusted, the first one is made as a file of its own.
fn made_leader(pass: &Pass, group: &Group, names: &[Name], totals: &mut Totals) -> Option<(RelPath, Agreed)> {
    let first = names.iter().find(|n| group.names.contains(&n.path))?;
    let (step, replica) = match first.seen {
        seen if !links_across::is_to_be_linked(pass, first, seen) => return None,
        Seen::Present(stat) if stat.kind == Kind::Directory => return None,
        Seen::Present(stat) => (Step::Update, Some(stat)),
        Seen::Absent => (Step::Create, None),
        Seen::Unknown => return None,
    };
    let job = Job::new(&first.name, step, &first.source_stat, replica);
    pass.queue.push(single(pass, &first.folder, job).ok()?);
    *totals += Worker::new(pass).work();
    agreed_of(pass, names, &first.path).map(|agreed| (first.path.clone(), agreed))
}

/// Looks closely at one name, and makes it equal.
fn examine(pass: &Pass, name: &Name, contents: Contents, totals: &mut Totals) -> Option<()> {
    let seen = pass.pair.replica.look(name.replica.as_fd(), &name.name).ok()?;
    let different = match both_ways::verdict(pass, name.ids, &name.name, (&name.source_stat, seen)) {
        _ if pass.pair.two_way.is_none() => None,
        Verdict::Compare(different) => Some(different),
        Verdict::Nothing | Verdict::Take(Side::Source) => Some(Different::Take(Side::Source)),
        _ => return None,
    };
    let (name, folder, source) = (name.name.clone(), &name.folder, name.source_stat);
    let job = Job { different, ..Job::new(&name, Step::Examine(contents), &source, seen.stat().copied()) };
    pass.queue.push(single(pass, folder, job).ok()?);
    *totals += Worker::new(pass).work();
    Some(())
}

/// Opens the folders of a name; nothing if it is no name of the file any more, or has no place in the replica yet.
fn open_name(pass: &Pass, id: InodeId, path: &RelPath) -> Result<Option<Name>, Errno> {
    let pair = pass.pair;
    let Some((folder, name)) = path.split() else { return Ok(None) };
    let is_gone = |error| matches!(error, Errno::NOENT | Errno::NOTDIR);
    let source = match pair.source.open_folder(&folder) {
        Err(error) if is_gone(error) => return Ok(None),
        done => done?,
    };
    let stat = match pair.source.look(source.as_fd(), name)? {
        Seen::Present(stat) if stat.id() == id => stat,
        _ => return Ok(None),
    };
    let folder_stat = pair.source.stat(source.as_fd())?;
    let replica = match pair.replica.open_folder(&folder) {
        Err(error) if is_gone(error) => return Ok(None),
        done => done?,
    };
    pass.say_closing(&replica, &folder, &folder_stat)?;
    if !pair.options.dry_run && pair.two_way.is_none() && trust::close_off(replica.as_fd(), &folder_stat, &pair.rights)?
    {
        pass.again(&folder, Doubt::attributes(clock::now()));
    }
    let seen = pair.replica.look(replica.as_fd(), name).unwrap_or(Seen::Unknown);
    let ids = pair.ids(source.as_fd(), Some(replica.as_fd()))?;
    Ok(Some(Name { path: path.clone(), folder, name: name.into(), ids, replica, source_stat: stat, seen }))
}

/// Makes `name` a link to the leader. Returns whether it is one now.
fn link(pass: &Pass, leader: &Name, name: &Name, seen: Seen) -> Result<bool, Stop> {
    let pair = pass.pair;
    let expected = match seen {
        // It is replaced after the brake has been asked; then the group is settled once more.
        Seen::Present(stat) if stat.kind == Kind::Directory => return Ok(false),
        Seen::Present(stat) => Some(stat),
        Seen::Absent => None,
        Seen::Unknown => return Err(Stop::Changed),
    };
    // Neither lane may be about to publish something else there, nor may the source's name be gone since it was seen.
    if !pass.claim(&name.path) {
        return Err(Stop::Changed);
    }
    let linked = link_claimed(pass, leader, name, expected);
    pass.release(&name.path);
    match linked {
        Err(Stop::Failed(_, Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::XDEV)) => {
            if pair.said.first(NO_LINKS) {
                let shown = pair.shown(&name.path);
                pair.log.warn(format_args!(
                    "The {} cannot hold hard links: {shown} is the first that becomes a file of its own; this is not said again",
                    pair.written_side()
                ));
            }
            if !is_as_agreed(pass, name, expected) {
                copy_instead(pass, name, expected);
            }
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

fn link_claimed(pass: &Pass, leader: &Name, name: &Name, expected: Option<Stat>) -> Result<(), Stop> {
    let pair = pass.pair;
    match pair.source.look_at(&name.path) {
        Ok(Seen::Present(now)) if now.id() == name.source_stat.id() => {}
        _ => return Err(Stop::Changed),
    }
    let target = Target { folder: name.replica.as_fd(), path: &name.folder };
    let staged = pair
        .stage
        .link(&pair.replica, &target, leader.replica.as_fd(), &leader.name)
        .map_err(failed("cannot create the link"))?;
    if pair.two_way.is_some()
        && let Ok(Seen::Present(linked)) = pair.replica.look(staged.folder(), staged.name())
    {
        let (source, replica) = (name.source_stat.stamp(), linked.stamp());
        let (looked, born) = (clock::now(), born_at(staged.folder(), staged.name()));
        let agreed = Agreed { source, replica, racy: true, looked, provisional: false, made: None, base: None };
        pair.intend((name.ids, &name.folder), std::iter::once((&*name.name, born, agreed)));
    }
    let worker = Worker::new(pass);
    let published =
        worker.publish_staged(staged, At::new(name.replica.as_fd(), &name.path), Kind::File, expected.as_ref());
    if !matches!(published, Ok(Published::Yes)) {
        pass.withdraw(name.ids, &name.name);
    }
    match published? {
        Published::Yes => Ok(()),
        Published::Changed => Err(Stop::Changed),
    }
}

/// Whether a file of its own is already what it has to be.
fn is_as_agreed(pass: &Pass, name: &Name, replica: Option<Stat>) -> bool {
    let agreed = pass.pair.agreed(name.ids, &name.name);
    agreed.zip(replica).is_some_and(|(agreed, replica)| agreed.holds(&name.source_stat.stamp(), &replica.stamp()))
}

/// Where there are no links, each name is a file of its own.
fn copy_instead(pass: &Pass, name: &Name, replica: Option<Stat>) {
    let step = if replica.is_some() { Step::Update } else { Step::Create };
    let job = Job::new(&name.name, step, &name.source_stat, replica);
    match single(pass, &name.folder, job) {
        Ok(task) => {
            pass.queue.push(task);
            Worker::new(pass).work();
        }
        Err(error) => pass.failed(&name.path, "cannot open the folder", error),
    }
}
