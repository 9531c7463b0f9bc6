//! Owns what was agreed since the last commit, and what a commit has taken and not yet written. It knows no store.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::Arc;

use super::Changes;
use crate::tree::entry::InodeId;
use crate::tree::record::Agreed;

#[derive(Debug, Default)]
pub struct Recent {
    pub folders: HashMap<InodeId, Changes>,
    pub entries: usize,
    pub provisional: usize,
    /// What is on its way to the store: older than `folders`, newer than what the store has.
    pub leaving: Option<Arc<HashMap<InodeId, Changes>>>,
    /// Events were lost since it left.
    pub is_distrusted: bool,
}

impl Recent {
    /// What is known of a folder that may not be in the store yet, the oldest first.
    pub fn of(&self, folder: InodeId) -> [Changes; 2] {
        let leaving = self.leaving.as_ref().and_then(|folders| folders.get(&folder));
        let leaving = leaving.map(|changes| self.trusted(changes)).unwrap_or_default();
        [leaving, self.folders.get(&folder).cloned().unwrap_or_default()]
    }

    /// Whether anything is known of a folder that may not be in the store yet.
    pub fn has(&self, folder: InodeId) -> bool {
        let leaving = self.leaving.iter().any(|leaving| leaving.contains_key(&folder));
        leaving || self.folders.contains_key(&folder)
    }

    /// The newest that is known of some of a folder's names that may not be in the store yet.
    pub fn of_names<T>(&self, folder: InodeId, names: &BTreeMap<Box<[u8]>, T>) -> Changes {
        let leaving = self.leaving.as_ref().and_then(|folders| folders.get(&folder));
        let recent = self.folders.get(&folder);
        let is_trusted = |change: &&Option<Agreed>| !(self.is_distrusted && change.is_some_and(|a| a.provisional));
        let newest = |name: &[u8]| {
            let recent = recent.and_then(|changes| changes.get(name));
            recent.or_else(|| leaving.and_then(|changes| changes.get(name)).filter(is_trusted)).copied()
        };
        if recent.is_none() && leaving.is_none() {
            return Changes::new();
        }
        names.keys().filter_map(|name| Some((name.clone(), newest(name)?))).collect()
    }

    fn trusted(&self, changes: &Changes) -> Changes {
        let is_trusted = |change: &Option<Agreed>| !(self.is_distrusted && change.is_some_and(|a| a.provisional));
        changes.iter().filter(|(_, change)| is_trusted(change)).map(|(n, c)| (n.clone(), *c)).collect()
    }

    /// Takes in what is agreed now.
    pub fn take(&mut self, folder: InodeId, changes: Changes) {
        self.provisional += changes.values().filter(|change| change.is_some_and(|a| a.provisional)).count();
        match self.folders.entry(folder) {
            hash_map::Entry::Vacant(place) => {
                self.entries += changes.len();
                place.insert(changes);
            }
            hash_map::Entry::Occupied(mut known) => {
                for (name, change) in changes {
                    self.entries += usize::from(known.get_mut().insert(name, change).is_none());
                }
            }
        }
    }

    /// Takes something in, unless something newer is known.
    pub fn put_back(&mut self, folder: InodeId, changes: Changes) {
        let known = self.folders.entry(folder).or_default();
        for (name, change) in changes {
            if let Entry::Vacant(place) = known.entry(name) {
                self.entries += 1;
                self.provisional += usize::from(change.is_some_and(|a| a.provisional));
                place.insert(change);
            }
        }
    }
}
