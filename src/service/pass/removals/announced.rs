//! Owns what is said of removals before they are made, in one piece for many: a line and a place for each entry that goes, and
//! what the folders were that go, or from which something goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::{Removal, What};
use crate::fs::remove::Tree;
use crate::service::pass::Pass;
use crate::service::pass::keeping::Said;
use crate::tree::entry::Kind;
use crate::tree::history::Attributes;
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

/// What folders were before anything went from them, where that is told.
pub(super) type Before = HashMap<RelPath, Attributes>;

/// What is said of entries that are about to go.
pub(super) type SaidOf = HashMap<RelPath, Said>;

/// So many entries are said to go in one piece; of a larger tree, folder by folder.
const AT_ONCE: u64 = 20_000;

/// What is said of removals that are about to be made, by their paths.
#[derive(Default)]
pub(super) struct Announced(Mutex<HashMap<RelPath, SaidOf>>);

impl Announced {
    /// Says what goes from these folders, as far as it is not too much for one piece.
    ///
    /// # Errors
    /// As of writing the journal.
    pub(super) fn new(pass: &Pass, by_folder: &BTreeMap<RelPath, Vec<Removal>>) -> Result<Self, Errno> {
        if !pass.keeps() {
            return Ok(Self::default());
        }
        let (mut all, mut room) = (HashMap::new(), AT_ONCE);
        for (path, removals) in by_folder {
            let Ok(folder) = pass.pair.replica.open_folder(path) else { continue };
            if !pass.has_said(path) {
                pass.say_before(folder.as_fd(), path)?;
            }
            for removal in removals {
                let Some(left) = room.checked_sub(removal.entries()) else { continue };
                room = left;
                all.insert(removal.path.clone(), said_of(pass, removal));
            }
        }
        pass.put_said().map(|()| Self(Mutex::new(all)))
    }

    /// What is said of one of them, now at the latest.
    ///
    /// # Errors
    /// As of writing the journal.
    pub(super) fn of(&self, pass: &Pass, folder: BorrowedFd, removal: &Removal) -> Result<SaidOf, Errno> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&removal.path);
        match said {
            Some(said) => Ok(said),
            None if !pass.keeps() => pass.put_said().map(|()| SaidOf::new()),
            None => {
                if let Some((parent, _)) = removal.path.split().filter(|(parent, _)| !pass.has_said(parent)) {
                    pass.say_before(folder, &parent)?;
                }
                let said = said_of(pass, removal);
                pass.put_said().map(|()| said)
            }
        }
    }

    /// Takes back what was said of what was not begun.
    pub(super) fn unsay(self, pass: &Pass) {
        let left = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        left.into_values().flatten().for_each(|(_, said)| pass.unsay(said));
    }
}

fn said_of(pass: &Pass, removal: &Removal) -> SaidOf {
    match &removal.what {
        What::Entry => {
            let said = pass.say_gone(&removal.path, removal.replica.kind, removal.cause);
            SaidOf::from([(removal.path.clone(), said)])
        }
        What::Folder(tree, _, before) => said_of_tree(pass, (tree, before), removal.cause, false),
    }
}

/// Says all that goes with a tree, if it is not too much; and what its folders were, if they stay.
pub(super) fn said_of_tree(pass: &Pass, (tree, before): (&Tree, &Before), cause: Cause, keeps_top: bool) -> SaidOf {
    let mut all = SaidOf::new();
    if !pass.keeps() {
        return all;
    }
    let listed = tree.listed();
    let top = listed.last().filter(|_| keeps_top).map(|(path, _)| path.clone());
    let mut goes = HashSet::new();
    for (path, kind) in listed {
        if kind == Kind::Directory && Some(&path) != top.as_ref() {
            goes.insert(path.clone());
            all.insert(path.clone(), pass.say_folder_goes(&path, before.get(&path).cloned(), cause));
        } else if kind != Kind::Directory && tree.entries() <= AT_ONCE {
            all.insert(path.clone(), pass.say_gone(&path, kind, cause));
        }
    }
    for (path, was) in before.iter().filter(|(path, _)| !goes.contains(*path)) {
        pass.say_was(path, was);
    }
    all
}
