//! Owns what is known of files with several names: which names of the source share an inode, and for which of the
//! source's inodes each shared inode of the replica stands. Filled by passes; what it says is checked where it is used.

use std::collections::{BTreeSet, HashMap};

use crate::tree::entry::InodeId;
use crate::tree::path::RelPath;

/// The link groups met so far. It grows with the files that have several names, not with the tree.
#[derive(Debug, Default)]
pub struct LinkTable {
    names: HashMap<InodeId, BTreeSet<RelPath>>,
    owners: HashMap<InodeId, InodeId>,
    replicas: HashMap<InodeId, InodeId>,
    /// The inode that a name was last seen to have. A name that is gone may have been written through before.
    last: HashMap<RelPath, InodeId>,
}

impl LinkTable {
    /// Notes that `path` is a name of the source's inode.
    pub fn note(&mut self, source: InodeId, path: &RelPath) {
        let names = self.names.entry(source).or_default();
        if !names.contains(path) {
            names.insert(path.clone());
            self.last.insert(path.clone(), source);
        }
    }

    /// Whether no file with several names was met yet.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.last.is_empty()
    }

    /// Every name noted, of every file.
    pub fn all_names(&self) -> impl Iterator<Item = &RelPath> {
        self.last.keys()
    }

    /// The inode of the source that `path` was last seen to name.
    pub fn last(&self, path: &RelPath) -> Option<InodeId> {
        self.last.get(path).copied()
    }

    /// Forgets that `path` names anything in particular.
    pub fn forget(&mut self, path: &RelPath) {
        if let Some(id) = self.last.remove(path)
            && let Some(names) = self.names.get_mut(&id)
        {
            names.remove(path);
        }
    }

    /// All names noted for an inode of the source.
    pub fn names(&self, source: InodeId) -> Vec<RelPath> {
        self.names.get(&source).map(|names| names.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether names other than `path` are known for an inode of the source.
    pub fn has_others(&self, source: InodeId, path: &RelPath) -> bool {
        self.names.get(&source).is_some_and(|names| names.iter().any(|n| n != path))
    }

    pub fn set_names(&mut self, source: InodeId, names: impl IntoIterator<Item = RelPath>) {
        let names: BTreeSet<RelPath> = names.into_iter().collect();
        self.last.extend(names.iter().map(|name| (name.clone(), source)));
        if names.is_empty() {
            self.names.remove(&source);
        } else {
            self.names.insert(source, names);
        }
    }

    /// Takes a shared inode of the replica for an inode of the source. Returns whether it belongs to it: the first
    /// one to ask gets it.
    pub fn take(&mut self, replica: InodeId, source: InodeId) -> bool {
        *self.owners.entry(replica).or_insert(source) == source
    }

    pub fn own(&mut self, replica: InodeId, source: InodeId) {
        self.owners.insert(replica, source);
    }

    /// Whether this inode of the replica is the one that stands for the source's, as far as is known.
    pub fn stands_for(&mut self, source: InodeId, replica: InodeId) -> bool {
        *self.replicas.entry(source).or_insert(replica) == replica
    }

    /// Notes which inode of the replica stands for the source's from now on.
    pub fn set(&mut self, source: InodeId, replica: InodeId) {
        self.owners.insert(replica, source);
        self.replicas.insert(source, replica);
    }

    /// The inode of the source that a shared inode of the replica stands for.
    pub fn owner(&self, replica: InodeId) -> Option<InodeId> {
        self.owners.get(&replica).copied()
    }
}
