//! Owns the merge of attributes that both sides have changed, in two-way mode: what the replica's entry has of newer ones is
//! brought to the source's first, so that all of them go on from there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::Pass;
use super::files::Reading;
use super::folders::Node;
use super::groups::Name;
use super::walk::Worker;
use crate::fs::metadata::{self, Xattrs};
use crate::fs::root::open_file;
use crate::plan::mirror::Case;
use crate::plan::two_way::merge_attributes;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::record::{Agreed, Base};

impl Pass<'_> {
    /// What is remembered of the attributes that a stamp does not show. Nothing where they are not known to be equal: what
    /// one side cannot hold was not changed there.
    pub(super) fn base(&self, reading: &Reading, replica: &Stat) -> Option<Base> {
        base_of(self.pair, (&reading.source, replica), reading.extended?)
    }

    /// The hash of a source's extended attributes, as far as it is needed.
    pub(super) fn hash_of(&self, xattrs: &Xattrs) -> Option<u64> {
        self.pair.two_way.is_some().then(|| hash(xattrs))
    }
}

/// The same from the stats of both and the hash of the extended attributes of the source's.
pub(super) fn base_of(pair: &Pair, (source, replica): (&Stat, &Stat), extended: u64) -> Option<Base> {
    let is_equal = (source.uid, source.gid) == (replica.uid, replica.gid) && !pair.said.has(LOST_EXTENDED);
    (pair.two_way.is_some() && is_equal).then_some(Base { uid: source.uid, gid: source.gid, extended })
}

/// As the pair says it.
const LOST_EXTENDED: &str = "some extended attributes or ACLs";

/// It may change from one version of the program to the next: then it looks as if both sides had changed them, and those of
/// both are united.
pub(super) fn hash(xattrs: &Xattrs) -> u64 {
    let mut hasher = DefaultHasher::new();
    xattrs.hash(&mut hasher);
    hasher.finish()
}

impl Worker<'_> {
    /// Brings to the source's file what the replica's has of newer attributes. Returns the source's stat then.
    pub(super) fn lend_attributes(
        &self,
        path: &RelPath,
        [(from, source), (to, replica)]: [(BorrowedFd, &Stat); 2],
        agreed: Option<&Agreed>,
    ) -> Result<Stat, Errno> {
        let pair = self.pass.pair;
        if pair.two_way.is_none() || pair.options.dry_run {
            return Ok(*source);
        }
        lend(self.pass, path, [(from, source), (to, replica)], agreed)
    }

    /// The same for a file that is to be copied whole.
    pub(super) fn lend_attributes_at(&self, node: &Node, path: &RelPath, case: &Case) {
        let (Some(source), Some(replica)) = (case.source.stat(), case.replica.stat()) else { return };
        let Some((_, name)) = path.split() else { return };
        if source.kind != Kind::File {
            return;
        }
        let open = |folder: BorrowedFd| open_file(folder, name);
        let lent = node.replica().and_then(|folder| {
            let (from, to) = (open(node.source.as_fd())?, open(folder)?);
            self.lend_attributes(path, [(from.as_fd(), source), (to.as_fd(), replica)], case.agreed)
        });
        match lent {
            Ok(_) => {}
            Err(Errno::AGAIN) => self.pass.again(path, Doubt::contents(clock::now())),
            Err(error) => self.pass.failed(path, "cannot set the attributes", error),
        }
    }
}

/// Which attributes an entry is to have that is in both places, those of the source being `have`.
fn merged(
    (source, have): (&Stat, &Xattrs),
    (replica, theirs): (&Stat, Xattrs),
    agreed: Option<&Agreed>,
) -> (Stat, Xattrs) {
    let merged = merge_attributes(source, replica, agreed, (hash(have), hash(&theirs)));
    let take = |side: Side| if side == Side::Source { source } else { replica };
    let (mode, mtime) = (take(merged.mode).mode, take(merged.mtime).mtime);
    let (uid, gid) = (take(merged.uid).uid, take(merged.gid).gid);
    let wanted = Stat { mode, mtime, uid, gid, ..*source };
    let xattrs = match merged.extended {
        Some(Side::Source) => have.clone(),
        Some(Side::Replica) => theirs,
        None => {
            let (mut all, later) =
                if merged.later == Side::Source { (theirs, have.clone()) } else { (have.clone(), theirs) };
            all.extend(later);
            all
        }
    };
    (wanted, xattrs)
}

/// Brings to the source's entry what the replica's has of newer attributes. Returns the source's stat then.
pub(super) fn lend(
    pass: &Pass,
    path: &RelPath,
    [(from, source), (to, replica)]: [(BorrowedFd, &Stat); 2],
    agreed: Option<&Agreed>,
) -> Result<Stat, Errno> {
    let pair = pass.pair;
    let have = metadata::xattrs(from)?;
    let theirs = metadata::wanted_xattrs(to, &pair.rights)?;
    let (wanted, xattrs) = merged((source, &have), (replica, theirs), agreed);
    if metadata::same_stat(&wanted, source, &pair.rights) && xattrs == have {
        return Ok(*source);
    }
    if source.kind == Kind::File && pair.source.stat(from)?.stamp() != source.stamp() {
        // It has been written since: its new time must not be hidden.
        return Err(Errno::AGAIN);
    }
    let said = pass.say_metadata(path, source, &have, !pair.is_turned());
    pass.put_said()?;
    metadata::apply(from, &wanted, &xattrs, (source, Some(&have)), &pair.rights).inspect_err(|_| pass.unsay(said))?;
    pair.source.stat(from)
}

/// The same for what cannot be opened: a link, a FIFO, a device.
pub(super) fn lend_special(
    pass: &Pass,
    path: &RelPath,
    [(from, source), (to, replica)]: [(BorrowedFd, &Stat); 2],
    agreed: Option<&Agreed>,
) -> Result<Stat, Errno> {
    let Some((_, name)) = path.split() else { return Ok(*source) };
    let pair = pass.pair;
    let have = metadata::xattrs_at(from, name)?;
    let theirs = metadata::xattrs_at(to, name)?;
    let (wanted, xattrs) = merged((source, &have), (replica, theirs), agreed);
    if metadata::same_stat(&wanted, source, &pair.rights) && xattrs == have {
        return Ok(*source);
    }
    let is_it = |seen: Seen| seen.stat().is_some_and(|now| now.stamp() == source.stamp());
    if !is_it(pair.source.look(from, name)?) {
        return Err(Errno::AGAIN);
    }
    let said = pass.say_metadata(path, source, &have, !pair.is_turned());
    pass.put_said()?;
    metadata::apply_at(from, name, &wanted, &xattrs, source, &pair.rights).inspect_err(|_| pass.unsay(said))?;
    pair.source.look(from, name)?.stat().copied().ok_or(Errno::AGAIN)
}

/// Brings to the source's file, which has several names, what the replica has of newer attributes under this one. Returns
/// whether it had.
pub(super) fn lend_at(pass: &Pass, name: &Name, replica: Seen) -> Result<bool, Errno> {
    let (pair, open) = (pass.pair, open_file);
    let (folder, Some(replica)) = (pair.source.open_folder(&name.folder)?, replica.stat()) else { return Ok(false) };
    let (from, to) = (open(folder.as_fd(), &name.name)?, open(name.replica.as_fd(), &name.name)?);
    let source = pair.source.stat(from.as_fd())?;
    let agreed = pair.agreed(name.ids, &name.name);
    lend(pass, &name.path, [(from.as_fd(), &source), (to.as_fd(), replica)], agreed.as_ref())
        .map(|now| now.stamp() != source.stamp())
}
