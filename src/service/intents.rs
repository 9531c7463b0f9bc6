//! Owns what becomes of the intents of a run that was killed: what has its name is agreed, as it would have been remembered;
//! the rest never happened.

use std::os::fd::AsFd;

use super::agreements::Ids;
use super::agreements::joined;
use crate::fs::archive::{Archive, Changes};
use crate::fs::identity::born_at;
use crate::fs::root::Root;
use crate::tree::identity::Side;
use crate::tree::intent::Intent;
use crate::tree::record::Agreed;

/// Looks at what has the names now. To be called before anything that was staged is removed: its inode number must not be
/// used again by then.
pub fn settle(archive: &Archive, roots: (&Root, &Root)) {
    for intent in archive.take_intents() {
        match came_true(&intent, roots) {
            Some(agreed) => drop(archive.remember(intent.folder, Changes::from([(intent.name, Some(agreed))]))),
            None => archive.withdraw(intent.folder, std::iter::once(&*intent.name)),
        }
    }
}

fn came_true(intent: &Intent, (source, replica): (&Root, &Root)) -> Option<Agreed> {
    let folders = [source.open_folder(&intent.path).ok()?, replica.open_folder(&intent.path).ok()?];
    let ids = [source.stat(folders[0].as_fd()).ok()?.id(), replica.stat(folders[1].as_fd()).ok()?.id()];
    // By the same path there may be others by now.
    if joined(Ids { source: ids[0], replica: Some(ids[1]) }) != Some(intent.folder) {
        return None;
    }
    let (root, folder) = match intent.side {
        Side::Source => (source, &folders[0]),
        Side::Replica => (replica, &folders[1]),
    };
    let now = *root.look(folder.as_fd(), &intent.name).ok()?.stat()?;
    intent.came_true(&now, born_at(folder.as_fd(), &intent.name))
}
