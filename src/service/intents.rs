//! Owns what becomes of the intents of a run that was killed: what has its name is agreed, as it would have been remembered;
//! the rest never happened.

use std::os::fd::AsFd;

use super::agreements::is_half_of;
use crate::fs::archive::{Archive, Changes};
use crate::fs::identity::{born_at, mounting};
use crate::fs::root::Root;
use crate::tree::entry::Seen;
use crate::tree::identity::Side;
use crate::tree::intent::Intent;
use crate::tree::record::Agreed;

/// Looks at what has the names now. To be called before anything that was staged is removed: its inode number must not be
/// used again by then.
pub fn settle(archive: &Archive, roots: (&Root, &Root)) {
    for intent in archive.take_intents() {
        match outcome(&intent, roots) {
            Some(agreed) => drop(archive.remember(intent.folder, Changes::from([(intent.name, agreed)]))),
            None => archive.withdraw(intent.folder, std::iter::once(&*intent.name)),
        }
    }
}

/// Which mountings of their disks the two roots are on; nothing where that cannot be told.
pub fn mountings(source: &Root, replica: &Root) -> Option<String> {
    Some(format!("{} {}", mounting(source.fd())?, mounting(replica.fd())?))
}

fn outcome(intent: &Intent, (source, replica): (&Root, &Root)) -> Option<Option<Agreed>> {
    let root = match intent.side {
        Side::Source => source,
        Side::Replica => replica,
    };
    let folder = root.open_folder(&intent.path).ok()?;
    // By the same path there may be another by now. The one across may be gone, with a name that was given or taken here.
    if !is_half_of(root.stat(folder.as_fd()).ok()?.id(), intent.side, intent.folder) {
        return None;
    }
    match root.look(folder.as_fd(), &intent.name).ok()? {
        Seen::Present(now) => intent.outcome(Some(&now), born_at(folder.as_fd(), &intent.name)),
        Seen::Absent => intent.outcome(None, None),
        Seen::Unknown => None,
    }
}
