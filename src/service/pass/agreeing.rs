//! Owns what two-way mode writes down of what is about to be made equal, and has just been, at once: a folder is remembered
//! when all in it is done, and a process that is killed before must not take what it has made for new on both sides.

use std::os::fd::BorrowedFd;
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

    /// Writes down that a folder that is staged is about to be put in its place, for this one in the source. Returns what is
    /// agreed as soon as it is there.
    pub(super) fn intend_folder(&self, parent: &Node, name: &[u8], staged: &Staged, source: &Stat) -> Option<Agreed> {
        let pair = self.pair;
        pair.two_way.as_ref()?;
        let Ok(Seen::Present(made)) = pair.replica.look(staged.folder(), staged.name()) else { return None };
        let agreed = as_made(source, &made);
        self.intend(parent, name, born_at(staged.folder(), staged.name()), agreed);
        Some(agreed)
    }

    /// Remembers a folder that is in its place as it was intended, whatever the source has there by now: who looks at the
    /// name next must not take what this program has made for somebody's work. To be called under the claim under which
    /// it was put there.
    pub(super) fn agree_on_folder(&self, parent: &Node, path: &RelPath, intended: Agreed) {
        let (pair, Some((_, name))) = (self.pair, path.split()) else { return };
        let mut agreed = intended;
        let replica = parent.replica().and_then(|folder| pair.replica.look(folder, name));
        if let Ok(Seen::Present(now)) = replica
            && now.id() == agreed.replica.id
        {
            // Getting its name has moved its ctime.
            agreed.replica = now.stamp();
        }
        pair.remember(parent.ids, Changes::from([(name.into(), Some(agreed))]));
    }
}

/// What is agreed of a folder whose attributes are not set yet: as if all of the source's had been changed since.
pub(super) fn as_made(source: &Stat, replica: &Stat) -> Agreed {
    let (replica, looked) = (replica.stamp(), Moment::default());
    Agreed { source: changed(source), replica, racy: false, looked, provisional: false, made: None, base: None }
}
