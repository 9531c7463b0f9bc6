//! Owns carrying out renames that were heard of, and those of folders that `moved` has found: only where the disk and the
//! archive both show that the replica's entry is the one that moved. Whatever does not fit is left to the walk, which copies
//! and removes instead.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{RenameFlags, renameat, renameat_with};
use rustix::io::Errno;

use super::Pass;
use super::agreeing::as_made;
use super::keeping::At;
use crate::fs::archive::Changes;
use crate::fs::compare::same_contents;
use crate::fs::root::{open_child, open_file};
use crate::fs::{identity, rename, scan};
use crate::service::agreements::Ids;
use crate::service::claims::{Claims, Which};
use crate::service::clock;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;
use crate::tree::totals::Totals;

/// One end of a rename: the folders of both sides that hold it.
struct End {
    source: OwnedFd,
    ids: Ids,
    replica: OwnedFd,
    folder: RelPath,
    name: Box<[u8]>,
}

/// Renames in the replica what was renamed in the source.
pub fn carry_out(pass: &mut Pass, renames: &[(RelPath, RelPath)]) -> Totals {
    let mut totals = Totals::default();
    for (from, to) in renames {
        pass.pulse.beat();
        if pass.pair.options.dry_run || pass.is_cancelled() {
            continue;
        }
        if claimed(pass, from, to, How::Heard) {
            totals.renamed += 1;
            pass.touched_early.extend([from, to].into_iter().filter_map(|path| path.split()).map(|(folder, _)| folder));
        }
    }
    totals
}

/// How a rename is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Heard,
    /// By an inode that is in another place than before, and may be another one with its number.
    Found,
}

/// Renames a folder in the replica that was found in another place. Returns whether that was done.
pub fn carry_out_found(pass: &Pass, from: &RelPath, to: &RelPath) -> bool {
    claimed(pass, from, to, How::Found)
}

fn claimed(pass: &Pass, from: &RelPath, to: &RelPath, how: How) -> bool {
    let claims = &pass.pair.claims;
    if !claim(claims, from) {
        return false;
    }
    let mut is_done = false;
    if claim(claims, to) {
        // Whatever goes wrong here, the walk makes good.
        is_done = carry_out_one(pass, from, to, how) == Ok(true);
        claims.release_subtree(to);
    }
    claims.release_subtree(from);
    is_done
}

/// The other lane may have a look at the path in this moment, which is over at once.
fn claim(claims: &Claims, path: &RelPath) -> bool {
    (0..20).any(|tries| {
        if tries > 0 {
            clock::wait(Duration::from_micros(200));
        }
        claims.subtree(path)
    })
}

fn carry_out_one(pass: &Pass, from: &RelPath, to: &RelPath, how: How) -> Result<bool, Errno> {
    let pair = pass.pair;
    let (Some(old), Some(new)) = (end(pass, from)?, end(pass, to)?) else { return Ok(false) };
    let Seen::Present(moved) = pair.source.look(new.source.as_fd(), &new.name)? else { return Ok(false) };
    let is_folder = moved.kind == Kind::Directory;
    // The other lane may be at work in the folder, by its old path.
    if is_folder && pass.lane == Which::Express {
        return Ok(false);
    }
    if pass.skips_within(from, is_folder) || pass.skips_within(to, is_folder) {
        return Ok(false);
    }
    let there_now = pair.source.look(old.source.as_fd(), &old.name)?;
    if there_now == Seen::Unknown || there_now.stat().is_some_and(|s| s.id() == moved.id()) {
        return Ok(false);
    }
    let Some(agreed) = pair.agreed(old.ids, &old.name) else { return Ok(false) };
    let Seen::Present(replica) = pair.replica.look(old.replica.as_fd(), &old.name)? else { return Ok(false) };
    let untouched = match replica.kind {
        Kind::Directory => replica.id() == agreed.replica.id,
        _ => replica.stamp() == agreed.replica,
    };
    if !untouched || !is_same(pass, &agreed, &moved, (&new, &old)) {
        return Ok(false);
    }
    if how == How::Found && !(is_folder && has_lived_on(&new, &agreed, &moved)? && !has_mounts(pass, from)) {
        return Ok(false);
    }
    if is_folder && !is_left_alone_alike(pass, &old, from, to)? {
        return Ok(false);
    }
    let target = pair.replica.look(new.replica.as_fd(), &new.name)?;
    if target.stat().is_some_and(|there| there.kind == Kind::Directory) && pass.lane == Which::Express {
        // It would get another path in an exchange.
        return Ok(false);
    }
    let agreed_there = pair.agreed(new.ids, &new.name);
    let swapped = agreed_there.filter(|a| there_now.stat().is_some_and(|s| s.id() == a.source.id));
    if swapped.is_some_and(|a| !there_now.stat().is_some_and(|s| is_same(pass, &a, s, (&old, &new)))) {
        return Ok(false);
    }
    if pair.two_way.is_some() && target != Seen::Absent {
        // What has the name there may be new.
        return Ok(false);
    }
    let (names, flags) = ((&*old.name, &*new.name), rename_flags(&target, swapped, &moved));
    let Some(flags) = flags else { return Ok(false) };
    let (from_folder, to_folder) = (old.replica.as_fd(), new.replica.as_fd());
    if pair.two_way.is_some() {
        // There, nothing has the name.
        let agreed = if is_folder { as_made(&moved, &replica) } else { agreed };
        let born = identity::born_at(from_folder, names.0);
        pair.intend((new.ids, &new.folder), std::iter::once((names.1, born, agreed)));
    }
    let is_exchange = flags == RenameFlags::EXCHANGE;
    let said = pass.say_rename(
        (At::new(from_folder, from), At::new(to_folder, to)),
        replica.id(),
        (is_exchange, target.stat().filter(|_| flags.is_empty())),
    )?;
    let kept = pass.put_said().and_then(|()| pass.keep(&said, to_folder, names.1));
    if let Err(error) = kept {
        pass.unsay(said);
        return Err(error);
    }
    let renamed = if flags.is_empty() {
        renameat(from_folder, names.0, to_folder, names.1).map(|()| true)
    } else if is_exchange {
        renameat_with(from_folder, names.0, to_folder, names.1, flags).map(|()| true)
    } else {
        rename::to_free_name(&pair.replica, (from_folder, names.0), (to_folder, names.1))
    };
    if renamed != Ok(true) {
        pass.unsay(said);
        pass.withdraw(new.ids, names.1);
        return renamed;
    }
    if is_folder {
        pair.places.moved(from, to, &pair.archive);
    }
    remember(pass, (&old, &new), (agreed, &moved), agreed_there.filter(|_| is_exchange))?;
    if replica.is_linked() {
        pass.restamp_links(&replica, to);
    }
    for end in [&old, &new] {
        pass.touched(&end.folder);
    }
    let (shown_from, shown_to) = (pair.shown(from), pair.shown(to));
    pair.report_with(Operation::Renamed, format!("{shown_from} -> {shown_to}"));
    pair.archive.rename_decayed(from, to);
    pass.arrived(to);
    Ok(true)
}

/// Whether the source's entry is what was agreed, and with that what the replica's entry holds. A file that was written to
/// since must not lend its new name an older, perhaps unfinished version of itself: it is copied instead.
fn is_same(pass: &Pass, agreed: &Agreed, now: &Stat, (in_source, in_replica): (&End, &End)) -> bool {
    if agreed.source.id != now.id() || agreed.source.kind != now.kind {
        return false;
    }
    if now.kind != Kind::File {
        return true;
    }
    if !now.stamp().same_contents_if_explained(&agreed.source) {
        return false;
    }
    // Written within the clock's grain, perhaps: such files are small.
    !agreed.racy || {
        let from = open_file(in_source.source.as_fd(), &in_source.name);
        let to = open_file(in_replica.replica.as_fd(), &in_replica.name);
        from.is_ok_and(|from| {
            to.is_ok_and(|to| same_contents(from.as_fd(), to.as_fd(), false, pass.pulse).unwrap_or(false))
        })
    }
}

/// Whether a folder of this inode number is the one that was agreed, and not one that was made since that one was removed.
fn has_lived_on(end: &End, agreed: &Agreed, now: &Stat) -> Result<bool, Errno> {
    let identity = identity::of(open_child(end.source.as_fd(), &end.name)?.as_fd())?;
    let is_numbered_for_good = identity.inode == now.ino;
    Ok(is_numbered_for_good
        && match identity.born {
            Some(born) => born < agreed.source.ctime || (born == agreed.source.ctime && !agreed.racy),
            None => now.mtime == agreed.source.mtime,
        })
}

/// Whether what is left alone in the replica's folder still is by its new path, and nothing else. What no pattern covers any
/// more would be removed.
fn is_left_alone_alike(pass: &Pass, old: &End, from: &RelPath, to: &RelPath) -> Result<bool, Errno> {
    if !pass.rules.exclude.goes_by_place() {
        return Ok(true);
    }
    let replica = &pass.pair.replica;
    let mut folders = vec![(from.clone(), open_child(old.replica.as_fd(), &old.name)?)];
    while let Some((folder, fd)) = folders.pop() {
        for (name, seen) in scan::list_with(replica, fd.as_fd(), &mut || pass.pulse.beat())?.iter() {
            let is_folder = seen.stat().is_some_and(|stat| stat.kind == Kind::Directory);
            let path = folder.join(name);
            let is_left_alone = pass.is_excluded(&path, is_folder);
            if path.moved(from, to).is_none_or(|moved| pass.is_excluded(&moved, is_folder) != is_left_alone) {
                return Ok(false);
            }
            if is_folder && !is_left_alone {
                folders.push((path, open_child(fd.as_fd(), name)?));
            }
        }
    }
    Ok(true)
}

/// Whether something is mounted in a folder, or was: then it is not known what has moved, and where.
fn has_mounts(pass: &Pass, folder: &RelPath) -> bool {
    pass.gone.iter().chain(&pass.pair.places.mounts_in(pass.pair.written_side())).any(|mount| mount.is_within(folder))
}

/// How the rename has to be done so that nothing is lost that the source still has; `None` where a rename will not do.
fn rename_flags(target: &Seen, swapped: Option<Agreed>, moved: &Stat) -> Option<RenameFlags> {
    match (target, swapped) {
        (Seen::Absent, _) => Some(RenameFlags::NOREPLACE),
        (Seen::Present(target), Some(agreed)) if agreed.replica.id == target.id() => Some(RenameFlags::EXCHANGE),
        (Seen::Present(target), None) if target.kind != Kind::Directory && moved.kind != Kind::Directory => {
            Some(RenameFlags::empty())
        }
        _ => None,
    }
}

fn end(pass: &Pass, path: &RelPath) -> Result<Option<End>, Errno> {
    let Some((folder, name)) = path.split() else { return Ok(None) };
    let source = pass.pair.source.open_folder(&folder)?;
    let replica = pass.pair.replica.open_folder(&folder)?;
    let ids = pass.pair.ids(source.as_fd(), Some(replica.as_fd()))?;
    Ok(Some(End { source, ids, replica, name: name.into(), folder }))
}

/// What was agreed moves along, with the replica's new ctime: the rename is the program's own.
fn remember(
    pass: &Pass,
    (old, new): (&End, &End),
    (agreed, moved): (Agreed, &Stat),
    back: Option<Agreed>,
) -> Result<(), Errno> {
    let pair = pass.pair;
    let restamped = |end: &End, agreed: Agreed| -> Result<Option<Agreed>, Errno> {
        let Seen::Present(now) = pass.pair.replica.look(end.replica.as_fd(), &end.name)? else { return Ok(None) };
        // A folder's times may be in the middle of being set: they are looked at again. In the source it may have been moved
        // on by now, and what is agreed is agreed of that one.
        if now.kind == Kind::Directory {
            let is_it = pair.two_way.is_some() && now.id() == agreed.replica.id && moved.id() == agreed.source.id;
            return Ok(is_it.then(|| as_made(moved, &now)));
        }
        // What was written to in this moment, or has come there since, is not what was agreed.
        let is_moved = now.stamp().same_contents_if_explained(&agreed.replica);
        Ok(Some(if is_moved { Agreed { replica: now.stamp(), ..agreed } } else { agreed }))
    };
    pair.remember(new.ids, Changes::from([(new.name.clone(), restamped(new, agreed)?)]));
    let back = match back {
        Some(agreed) => restamped(old, agreed)?,
        None => None,
    };
    pair.remember(old.ids, Changes::from([(old.name.clone(), back)]));
    Ok(())
}
