//! Owns keeping what a restore in place replaces where no service does: in the history of the replica, before it goes.
//!
//! The lines tell of the replica, which still has what it had. So that they lead back to that, what is lost comes and goes
//! within two lines, where it is other than what the replica has.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::fs::copy::Abilities;
use crate::fs::exact::{self, Manner};
use crate::fs::history::History;
use crate::fs::metadata::Rights;
use crate::fs::pulse::Pulse;
use crate::fs::root::Root;
use crate::tree::entry::Kind;
use crate::tree::history::{By, Event, version_name};
use crate::tree::path::RelPath;

pub struct Keeper {
    history: History,
    rights: Rights,
    abilities: Abilities,
}

impl Keeper {
    /// Opens the history of a replica, whose lock the caller has.
    ///
    /// # Errors
    /// As of `History::open`.
    pub fn open(source: &Root, replica: &Root) -> Result<Self, Errno> {
        let history = History::open(source, replica)?;
        Ok(Self { history, rights: Rights::of_this_process(), abilities: Abilities::default() })
    }

    /// Keeps what is at a path in the source, which is of this kind, and `is_alike` what the replica has there.
    ///
    /// # Errors
    /// As of the copy and of the journal.
    pub fn keep(
        &self,
        replica: &Root,
        path: &RelPath,
        (folder, name): (BorrowedFd, &[u8]),
        (kind, is_alike): (Kind, bool),
        pulse: &Pulse,
    ) -> Result<(), Errno> {
        let Some((parent, own)) = path.split() else { return Err(Errno::INVAL) };
        let there = replica.open_folder(&parent).and_then(|parent| {
            let stat = exact::look(parent.as_fd(), own)?;
            Ok((parent, stat.kind))
        });
        let by = (By::Restore, false);
        let mut path = path.clone();
        let in_replica = match there {
            // The folder stays as it was, with all that is in it: it comes and goes beside that.
            Ok((folder, Kind::Directory)) => {
                path = beside(folder.as_fd(), &parent, own)?;
                self.history.say(&path, Event::Created { kind }, By::Restore, false);
                false
            }
            Ok((parent, kind)) => {
                let updated = |kept| Event::Updated { kind, kept: Some(kept) };
                let (of, slot) = self.history.say_kept(&path, updated, by);
                self.history.put(true)?;
                let manner = self.manner(pulse);
                let kept = self.history.link(&slot, parent.as_fd(), own).or_else(|_| {
                    self.history
                        .make(&slot, |to, free| exact::copy((parent.as_fd(), own), (to, free), &manner).map(drop))
                });
                if let Err(error) = kept {
                    self.history.say(&path, Event::Void { of }, By::Restore, false);
                    return self.history.put(true).and(Err(error));
                }
                true
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.history.say(&path, Event::Created { kind }, By::Restore, false);
                false
            }
            Err(error) => return Err(error),
        };
        if is_alike {
            return Ok(());
        }
        let lost = |kept| match in_replica {
            true => Event::Updated { kind, kept: Some(kept) },
            false => Event::Removed { kind, kept: Some(kept), was: None },
        };
        let (of, slot) = self.history.say_kept(&path, lost, by);
        self.history.put(true)?;
        let manner = self.manner(pulse);
        let kept = self.history.make(&slot, |to, free| exact::copy((folder, name), (to, free), &manner).map(drop));
        if let Err(error) = kept {
            self.history.say(&path, Event::Void { of }, By::Restore, false);
            return self.history.put(true).and(Err(error));
        }
        Ok(())
    }

    fn manner<'a>(&'a self, pulse: &'a Pulse) -> Manner<'a> {
        Manner { rights: &self.rights, abilities: &self.abilities, pulse, durable: true }
    }
}

/// A path that the replica does not have, named after one that it has.
fn beside(folder: BorrowedFd, parent: &RelPath, own: &[u8]) -> Result<RelPath, Errno> {
    for number in 0.. {
        let name = version_name(own, "replaced", number);
        match exact::look(folder, &name) {
            Err(Errno::NOENT) => return Ok(parent.join(&name)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(Errno::EXIST)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.history.close();
    }
}
