//! Owns what two-way mode writes down of what is about to be made equal, and has just been, at once: a folder is remembered
//! when all in it is done, and a process that is killed before must not take what it has made for new on both sides.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;

use super::Pass;
use super::files::{About, Reading};
use super::folders::Node;
use super::meeting::changed;
use crate::fs::archive::Changes;
use crate::fs::identity::born_at;
use crate::fs::stage::Staged;
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::tree::doubt::Moment;
use crate::tree::entry::{Kind, Seen, Stamp, Stat, Time};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// The kernel's clock moves in steps of 10 ms at most.
const GRAIN_IN_MILLIS: usize = 20;

impl Pass<'_> {
    /// A write sets both times to one instant of the clock. What this program has made in the instant in which its source was
    /// written, with that time, could hide one: its ctime is moved on.
    pub(super) fn clear_of_writes(&self, fd: BorrowedFd, made: Stat) -> Result<Stat, Errno> {
        let mut made = made;
        if self.pair.two_way.is_none() || made.kind != Kind::File {
            return Ok(made);
        }
        for _ in 0..GRAIN_IN_MILLIS {
            if made.mtime != made.ctime {
                break;
            }
            clock::wait(Duration::from_millis(1));
            match fchmod(fd, Mode::from_raw_mode(made.mode.into())) {
                // Then it is compared once more.
                Err(Errno::PERM | Errno::ROFS | Errno::OPNOTSUPP) => break,
                done => done?,
            }
            made = self.pair.replica.stat(fd)?;
        }
        Ok(made)
    }

    /// Writes down what is about to get a name in a folder. It is to be noted, remembered or withdrawn afterwards.
    pub(super) fn intend(&self, node: &Node, name: &[u8], born: Option<Time>, agreed: Agreed) {
        self.pair.intend((node.ids, &node.path), std::iter::once((name, born, agreed)));
    }

    /// What was intended of a name has not come about.
    pub(super) fn withdraw(&self, ids: Ids, name: &[u8]) {
        self.pair.withdraw(ids, std::iter::once(name));
    }

    /// What is agreed of a file once its copy has its name; `None` where that is not known yet.
    pub(super) fn as_copied(&self, about: &About, replica: &Stat) -> Option<Agreed> {
        let Reading { source, looked, racy, .. } = about.reading;
        let base = self.base(&about.reading, replica);
        let (source, replica) = (source.stamp(), replica.stamp());
        let made = self.made();
        about.look.is_none().then_some(Agreed { source, replica, racy, looked, provisional: false, made, base })
    }

    /// The side on which passes make things, where that is remembered of them.
    pub(super) fn made(&self) -> Option<Side> {
        self.pair.two_way.as_ref().map(|_| Side::Replica)
    }

    /// On which side a file is still as this program has made it.
    pub(super) fn still_made(&self, node: &Node, name: &[u8], (source, replica): (&Stamp, &Stamp)) -> Option<Side> {
        self.pair.two_way.as_ref()?;
        let agreed = self.pair.agreed(node.ids, name)?;
        agreed.made.filter(|side| match side {
            Side::Source => agreed.source == *source,
            Side::Replica => agreed.replica == *replica,
        })
    }

    /// Notes files that are published in a folder.
    pub(super) fn note_files<'a>(&self, node: &Node, files: impl Iterator<Item = (&'a [u8], &'a About, &'a Stat)>) {
        if self.pair.two_way.is_none() {
            return;
        }
        let made =
            files.filter_map(|(name, about, replica)| Some((name.into(), Some(self.as_copied(about, replica)?))));
        self.pair.note(node.ids, made.collect());
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
        // Somebody may have put something else there since.
        if source.kind != Kind::Directory || replica.kind != Kind::Directory {
            return;
        }
        // At once, for who looks at the name next: it may be something else on one side by then.
        pair.remember(parent.ids, Changes::from([(name.into(), Some(as_made(&source, &replica)))]));
    }

    /// Writes down that a folder that is staged is about to be put in its place.
    pub(super) fn intend_folder(&self, parent: &Node, name: &[u8], staged: &Staged) {
        let pair = self.pair;
        if pair.two_way.is_none() {
            return;
        }
        let source = pair.source.look(parent.source.as_fd(), name);
        let made = pair.replica.look(staged.folder(), staged.name());
        let (Ok(Seen::Present(source)), Ok(Seen::Present(made))) = (source, made) else { return };
        self.intend(parent, name, born_at(staged.folder(), staged.name()), as_made(&source, &made));
    }
}

/// What is agreed of a folder whose attributes are not set yet: as if all of the source's had been changed since.
pub(super) fn as_made(source: &Stat, replica: &Stat) -> Agreed {
    let (replica, looked) = (replica.stamp(), Moment::default());
    Agreed { source: changed(source), replica, racy: false, looked, provisional: false, made: None, base: None }
}
