//! Owns what two-way mode knows of two folders that meet under one name. What was agreed is kept for two folders, not for a
//! path: where one of them was put in the place of another by its side's own work, what was agreed of the other says what
//! this work has changed, added and removed.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::folders::Node;
use super::{Pass, place_of};
use crate::fs::archive::Changes;
use crate::fs::identity;
use crate::service::agreements::Ids;
use crate::tree::doubt::Moment;
use crate::tree::entry::{InodeId, Kind, Stamp, Stat, Time};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

impl Pass<'_> {
    /// Two folders are about to be compared. `attributes_agreed`: both show what they did when they were agreed.
    ///
    /// # Errors
    /// As of fstat(2).
    pub(super) fn meet(
        &self,
        parent: Option<&Node>,
        (path, attributes_agreed): (&RelPath, bool),
        (source, replica): (BorrowedFd, BorrowedFd),
        ids: Ids,
    ) -> Result<(), Errno> {
        let pair = self.pair;
        if pair.two_way.is_none() || (parent.is_some() && attributes_agreed) {
            return Ok(());
        }
        let above = match (parent, path.split()) {
            (Some(parent), Some((_, name))) => Some((parent.ids, name.to_vec())),
            // Those that are known to each other are asked nothing more.
            (None, Some(_)) if !pair.has_record(ids) => place_of(pair, path),
            _ => None,
        };
        let Some((above, name)) = above else { return Ok(()) };
        let (source, replica) = ((pair.source.stat(source)?, source), (pair.replica.stat(replica)?, replica));
        let now = match pair.agreed(above, &name) {
            None => met(&source.0, &replica.0),
            Some(agreed) => match put_in_place(&agreed, &source, &replica) {
                // What is mounted over a folder is nobody's work in it.
                Some(side) if !pair.places.mounts_in(self.side_of(side)).contains(path) => {
                    self.take_over_from(&agreed, ids);
                    let (source, replica) = match side {
                        Side::Source => (changed(&source.0), agreed.replica),
                        Side::Replica => (agreed.source, changed(&replica.0)),
                    };
                    Agreed { source, replica, ..agreed }
                }
                _ => return Ok(()),
            },
        };
        // From now on it is these two, whatever becomes of this pass.
        pair.remember(above, Changes::from([(name.into(), Some(now))]));
        Ok(())
    }

    /// Which of the pair's folders is on this side of the pass.
    fn side_of(&self, side: Side) -> Side {
        if self.pair.is_turned() { side.other() } else { side }
    }

    /// What was agreed of the two that were here before, for those that are here now.
    fn take_over_from(&self, agreed: &Agreed, ids: Ids) {
        let former = Ids { source: agreed.source.id, replica: Some(agreed.replica.id) };
        let of = |ids| self.pair.record(ids);
        let mut changes: Changes = of(ids).iter().map(|(name, _)| (name.into(), None)).collect();
        changes.extend(of(former).iter().map(|(name, agreed)| (name.into(), Some(*agreed))));
        self.pair.remember(ids, changes);
    }
}

/// On which side alone there is another folder than the one that was agreed. A filesystem that was mounted there, or is no
/// more, is nobody's work; and where inodes may be numbered anew, numbers tell nothing.
fn put_in_place(agreed: &Agreed, source: &(Stat, BorrowedFd), replica: &(Stat, BorrowedFd)) -> Option<Side> {
    let is_folder = |stamp: &Stamp| stamp.kind == Kind::Directory;
    let is_other = |was: InodeId, now: &Stat| was != now.id();
    let is_work = |was: InodeId, (now, fd): &(Stat, BorrowedFd)| {
        was.dev == now.dev && identity::of(fd.as_fd()).is_ok_and(|identity| identity.inode == now.ino)
    };
    let others = (is_other(agreed.source.id, &source.0), is_other(agreed.replica.id, &replica.0));
    match others {
        _ if !is_folder(&agreed.source) || !is_folder(&agreed.replica) => None,
        (true, false) if is_work(agreed.source.id, source) => Some(Side::Source),
        (false, true) if is_work(agreed.replica.id, replica) => Some(Side::Replica),
        _ => None,
    }
}

/// What is agreed of two that nothing was agreed of: that they are folders, and nothing of their attributes.
fn met(source: &Stat, replica: &Stat) -> Agreed {
    Agreed {
        source: changed(source),
        replica: changed(replica),
        racy: false,
        looked: Moment::default(),
        provisional: false,
        made: None,
        base: None,
    }
}

/// As if all attributes had been changed since.
pub(super) fn changed(stat: &Stat) -> Stamp {
    let time = Time::default();
    Stamp { mode: !stat.mode & 0o7777, mtime: time, ctime: time, ..stat.stamp() }
}

/// Whether that is what is agreed: then it says nothing of what there was.
pub(super) fn is_changed(agreed: &Stamp) -> bool {
    agreed.ctime == Time::default()
}
