//! Owns the names that a file has in common: that what comes back has those that it had then.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::eyes::Entry;
use super::walk::Walk;
use crate::fs::exact;
use crate::tree::entry::Stat;
use crate::tree::path::RelPath;

impl Walk<'_> {
    /// Whether something that is there has the names in common that it had then.
    pub(super) fn is_linked_alike(&mut self, was: &Entry, path: &RelPath, now: &Stat) -> Result<bool, Errno> {
        let Some(stat) = &was.stat else { return Ok(false) };
        let id = (stat.dev, stat.ino);
        if now.is_linked() && self.stays.get(&(now.dev, now.ino)).is_some_and(|other| *other != id) {
            return Ok(false);
        }
        if let Some(first) = self.linked.get(&id) {
            let (parent, name) = first.split().ok_or(Errno::ISDIR)?;
            let first = self.to.open_folder(&parent).and_then(|parent| exact::look(parent.as_fd(), name));
            return Ok(first.is_ok_and(|first| first.id() == now.id()));
        }
        if now.is_linked() {
            self.stays.insert((now.dev, now.ino), id);
        }
        self.is_named(was, path);
        Ok(true)
    }

    /// Notes where an inode has its first name; where it was, if this is another one.
    pub(super) fn is_named(&mut self, was: &Entry, path: &RelPath) -> Option<RelPath> {
        let stat = was.stat.filter(Stat::is_linked)?;
        let id = (stat.dev, stat.ino);
        let first = self.linked.get(&id).cloned();
        if first.is_none() {
            self.linked.insert(id, self.there(path));
        }
        first
    }
}
