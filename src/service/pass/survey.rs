//! Owns the look through a folder that is gone from one of two sides which are both worked in, before it goes from the other:
//! what in it is not as it was agreed must not go.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::Pass;
use crate::fs::root::open_child;
use crate::fs::scan;
use crate::plan::two_way::is_unwritten;
use crate::service::agreements::Ids;
use crate::tree::entry::Kind;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// A folder that is looked through.
struct Below {
    path: RelPath,
    ids: Ids,
    /// Where the folder is that holds it.
    above: Option<usize>,
    stays: bool,
}

/// The folders of a tree that goes, and what each was on both sides: by that it is known of each entry, in the moment when
/// it is removed, that it is as agreed.
pub(super) type Going = HashMap<RelPath, Ids>;

/// Looks whether all below a folder of the replica that is gone from the source is as it was agreed: then it may go. Else
/// the folders that stay are noted, which the other direction will make.
///
/// # Errors
/// What keeps it from being known.
pub(super) fn may_go(pass: &Pass, folder: BorrowedFd, path: &RelPath, agreed: &Agreed) -> Result<Option<Going>, Errno> {
    let pair = pass.pair;
    let Some(two_way) = &pair.two_way else { return Ok(Some(Going::new())) };
    let Some((_, name)) = path.split() else { return Ok(None) };
    let ids_of = |agreed: &Agreed| Ids { source: agreed.source.id, replica: Some(agreed.replica.id) };
    let mut folders = vec![Below { path: path.clone(), ids: ids_of(agreed), above: None, stays: false }];
    let mut todo = vec![(0, open_child(folder, name)?)];
    folders[0].stays = pair.replica.stat(todo[0].1.as_fd())?.id() != agreed.replica.id;
    while let Some((at, fd)) = todo.pop() {
        if pass.is_cancelled() {
            return Err(Errno::CANCELED);
        }
        // Before the list: what the other lane removes in between, and forgets, is not new.
        let record = pair.record(folders[at].ids);
        let listing = scan::list_with(&pair.replica, fd.as_fd(), &mut || pass.pulse.beat())?;
        for (name, seen) in listing.iter() {
            let below = folders[at].path.join(name);
            let Some(stat) = seen.stat() else { return Err(Errno::IO) };
            let is_folder = stat.kind == Kind::Directory;
            if pass.skips(&below, is_folder) {
                continue;
            }
            match record.get(name) {
                Some(agreed) if is_folder && stat.id() == agreed.replica.id => {
                    todo.push((folders.len(), open_child(fd.as_fd(), name)?));
                    folders.push(Below { path: below, ids: ids_of(agreed), above: Some(at), stays: false });
                }
                Some(agreed) if agreed.hides_a_write(&agreed.replica) => folders[at].stays = true,
                Some(agreed) if !is_folder && is_unwritten(stat, &agreed.replica) => {}
                _ => folders[at].stays = true,
            }
        }
    }
    // Each comes after the one that holds it.
    for at in (0..folders.len()).rev() {
        let (stays, above) = (folders[at].stays, folders[at].above);
        if let Some(above) = above.filter(|_| stays) {
            folders[above].stays = true;
        }
    }
    if !folders[0].stays {
        return Ok(Some(folders.into_iter().map(|folder| (folder.path, folder.ids)).collect()));
    }
    for folder in folders.into_iter().filter(|folder| folder.stays) {
        let ids = if pair.is_turned() { folder.ids.turned() } else { Some(folder.ids) };
        if let Some(ids) = ids {
            two_way.survivors.insert(folder.path, ids);
        }
    }
    Ok(None)
}
