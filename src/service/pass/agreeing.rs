//! Owns what two-way mode writes down of what has just been made equal, at once: a folder is remembered when all in it is
//! done, and a process that is killed before must not take what it has made for new on both sides.

use std::os::fd::AsFd;

use super::Pass;
use super::files::{About, Reading};
use super::folders::Node;
use crate::fs::archive::Changes;
use crate::service::agreements::Ids;
use crate::tree::doubt::Moment;
use crate::tree::entry::{Seen, Stamp, Stat, Time};
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

impl Pass<'_> {
    /// Notes files that are published in a folder.
    pub(super) fn note_files<'a>(&self, node: &Node, files: impl Iterator<Item = (&'a [u8], &'a About, &'a Stat)>) {
        if self.pair.two_way.is_none() {
            return;
        }
        let settled = files.filter(|(_, about, _)| about.look.is_none());
        let made = settled.map(|(name, about, replica)| {
            let Reading { source, looked, racy, .. } = about.reading;
            let base = self.base(&about.reading, replica);
            let (source, replica) = (source.stamp(), replica.stamp());
            (name.into(), Some(Agreed { source, replica, racy, looked, provisional: false, base }))
        });
        self.pair.note(node.ids, made.collect());
    }

    /// Notes one thing that is no file.
    pub(super) fn note_made_now(&self, node: &Node, name: &[u8], agreed: Agreed) {
        self.pair.note(node.ids, Changes::from([(name.into(), Some(agreed))]));
    }

    /// Forgets what was agreed of a folder that is gone and whose inode number the one has that was just made: all that this
    /// one has not got yet would be taken for removed.
    pub(super) fn forget_namesake(&self, path: &RelPath, ids: Ids) {
        let Some(two_way) = &self.pair.two_way else { return };
        if !two_way.survivors.has(path) {
            let gone: Changes = self.pair.record(ids).iter().map(|(name, _)| (name.into(), None)).collect();
            self.pair.remember(ids, gone);
        }
    }

    /// The same for a folder that others can look at already.
    pub(super) fn forget_namesake_at(&self, parent: &Node, path: &RelPath) {
        let (pair, Some((_, name))) = (self.pair, path.split()) else { return };
        if pair.two_way.is_none() || pair.options.dry_run {
            return;
        }
        let source = pair.source.look(parent.source.as_fd(), name);
        let replica = parent.replica().and_then(|folder| pair.replica.look(folder, name));
        if let (Ok(Seen::Present(source)), Ok(Seen::Present(replica))) = (source, replica) {
            self.forget_namesake(path, Ids { source: source.id(), replica: Some(replica.id()) });
        }
    }

    /// Notes a folder that is in its place. Its attributes are those of the source, whatever they are: it has its own yet.
    pub(super) fn note_folder(&self, parent: &Node, name: &[u8]) {
        let pair = self.pair;
        if pair.two_way.is_none() || pair.options.dry_run {
            return;
        }
        let source = pair.source.look(parent.source.as_fd(), name);
        let replica = parent.replica().and_then(|folder| pair.replica.look(folder, name));
        let (Ok(Seen::Present(source)), Ok(Seen::Present(replica))) = (source, replica) else { return };
        let time = Time::default();
        // As if all of them had been changed since.
        let source = Stamp { mode: !source.mode & 0o7777, mtime: time, ctime: time, ..source.stamp() };
        let (replica, looked) = (replica.stamp(), Moment::default());
        self.note_made_now(
            parent,
            name,
            Agreed { source, replica, racy: false, looked, provisional: false, base: None },
        );
    }
}
