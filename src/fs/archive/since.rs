//! Owns what an archive does with the log of what was agreed since the last commit: what it takes in at the start, and what it
//! has written down.

use std::collections::HashMap;
use std::time::SystemTime;

use super::log::entry::Entry;
use super::log::{Belongs, Log};
use super::recent::Recent;
use super::store::Store;
use super::{Archive, Changes, NoArchive};
use crate::tree::entry::InodeId;
use crate::tree::intent::Intent;

/// Which store it is, so that a log is not read beside another one.
const STORE: &str = "log";

impl Archive {
    /// Takes in what was agreed and not committed when the last run was killed, and begins to write down what is agreed.
    pub(super) fn keep_log(&self, disks: Option<String>) {
        let Some(path) = self.store.as_ref().and_then(Store::path) else { return };
        if self.fact(STORE).is_none() {
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.set_fact(STORE, format!("{} {}", time.as_nanos(), std::process::id()).as_bytes());
        }
        // Without it, a crash costs a comparison.
        let Some(Ok((log, entries))) = self.belongs(disks).map(|belongs| Log::open(path, belongs)) else { return };
        self.take_in(entries);
        *self.log() = Some(log);
    }

    pub(super) fn belongs(&self, disks: Option<String>) -> Option<Belongs> {
        Some(Belongs { boot: self.boot.clone(), store: self.fact(STORE)?, disks: disks.unwrap_or_default() })
    }

    /// Goes on with these mountings of both disks. What was agreed and not committed is forgotten where they are others than
    /// before: a disk that was away may have lost it, and what one side has lost would be removed from the other.
    ///
    /// # Errors
    /// What the store says.
    pub fn go_on_with(&self, disks: Option<String>) -> Result<(), NoArchive> {
        let disks = disks.unwrap_or_default();
        {
            let mut recent = self.recent();
            let mut log = self.log();
            let Some(log) = log.as_mut().filter(|log| disks.is_empty() || !log.is_of(&disks)) else { return Ok(()) };
            log.begin_again(disks.clone());
            *recent = Recent::default();
            self.intents().clear();
        }
        self.begin_unsynced_again(&disks)
    }

    pub(super) fn take_in(&self, entries: Vec<Entry>) {
        let mut recent = self.recent();
        let mut intents: HashMap<(InodeId, Box<[u8]>), Intent> = HashMap::new();
        for entry in entries {
            match entry {
                Entry::Agreed(folder, name, change) => {
                    intents.remove(&(folder, name.clone()));
                    recent.take(folder, Changes::from([(name, change)]));
                }
                Entry::Intent(intent) => drop(intents.insert((intent.folder, intent.name.clone()), intent)),
                Entry::Withdrawn(folder, name) => drop(intents.remove(&(folder, name))),
            }
        }
        *self.intents() = intents.into_values().collect();
    }

    /// What was intended when the last run was killed, and may have come true.
    pub fn take_intents(&self) -> Vec<Intent> {
        std::mem::take(&mut *self.intents())
    }

    /// Writes down what is about to be given a name. It counts until something is noted or remembered of the name, or it is
    /// withdrawn.
    pub fn intend(&self, intents: &[Intent]) {
        if let Some(log) = &mut *self.log() {
            log.intend(intents);
        }
    }

    /// The same of what is about to be removed: in memory it is forgotten at once.
    pub fn intend_removal(&self, intent: Intent) {
        let mut recent = self.recent();
        if let Some(log) = &mut *self.log() {
            log.intend(std::slice::from_ref(&intent));
        }
        recent.take(intent.folder, Changes::from([(intent.name, None)]));
    }

    /// Withdraws what was intended: it has not been given its name.
    pub fn withdraw<'a>(&self, folder: InodeId, names: impl Iterator<Item = &'a [u8]>) {
        if let Some(log) = &mut *self.log() {
            log.withdraw(folder, names);
        }
    }

    /// Writes down what has just been made equal and will be remembered, for the case that the process is killed before.
    pub fn note(&self, folder: InodeId, made: Changes) {
        if let Some(log) = &mut *self.log() {
            log.note(folder, made);
        }
    }
}
