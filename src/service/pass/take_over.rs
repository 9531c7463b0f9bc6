//! Owns files that have moved unheard: the replica's file takes the new name, if it still is what was agreed, and holds byte
//! for byte what the source's holds now. Nobody tells why the source's ctime has moved; an inode number, a size and a time
//! prove nothing about contents.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::files::{Claim, Job, Reading, Stop, failed, fault};
use super::folders::Node;
use super::keeping::At;
use super::moved::Before;
use super::place_of;
use super::publishing::Proof;
use super::walk::Worker;
use crate::fs::archive::Changes;
use crate::fs::compare;
use crate::fs::identity;
use crate::fs::remove::ensure_writable;
use crate::fs::rename;
use crate::fs::root::open_file;
use crate::plan::decay::Spread;
use crate::plan::mirror::Contents;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

impl Worker<'_> {
    /// Makes a file: of one that has moved, or anew.
    pub(super) fn take_over_or_copy(&mut self, node: &Arc<Node>, path: &RelPath, job: &Job) -> Result<Claim, Stop> {
        if let Some(before) = &job.before {
            let is_claimed = self.pass.claim(&before.0);
            let result = if is_claimed { self.take_over(node, path, job, before) } else { Ok(false) };
            if is_claimed {
                self.pass.release(&before.0);
            }
            if result? {
                return Ok(Claim::Free);
            }
            self.pass.wanted(&job.source);
        }
        self.copy(node, path, job, job.replica, None)
    }

    /// Returns whether the replica's file has its new name; if not, nothing was done.
    fn take_over(
        &mut self,
        node: &Arc<Node>,
        path: &RelPath,
        job: &Job,
        (before, agreed): &Before,
    ) -> Result<bool, Stop> {
        let pair = self.pass.pair;
        let Some((parent, old_name)) = before.split() else { return Ok(false) };
        let is_gone = pair.source.look_at(before) == Ok(Seen::Absent);
        if !is_gone || !self.pass.is_to_go(before) || self.pass.skips_within(before, false) {
            return Ok(false);
        }
        let Ok(old_folder) = pair.replica.open_folder(&parent) else { return Ok(false) };
        let Ok(to) = open_file(old_folder.as_fd(), old_name) else { return Ok(false) };
        let is_alone = |stat: &Stat| stat.kind == Kind::File && stat.nlink == 1;
        let is_as_agreed = |stat: &Stat| is_alone(stat) && stat.stamp() == agreed.replica;
        let Some(replica) = pair.replica.stat(to.as_fd()).ok().filter(is_as_agreed) else { return Ok(false) };
        let (from, reading) = self.open_source(node, job)?;
        let is_alike = is_alone(&reading.source) && reading.source.stamp().same_contents_if_explained(&agreed.source);
        let both = [(from.as_fd(), &reading.source), (to.as_fd(), &replica)];
        if !is_alike || !self.may_change(before, old_folder.as_fd(), both, Contents::Compare)? {
            return Ok(false);
        }
        let sparse = reading.source.is_sparse() && replica.is_sparse();
        if !compare::same_contents(from.as_fd(), to.as_fd(), sparse, self.pass.pulse).map_err(fault)?
            // What is good does not go because what has decayed has another name.
            && self.spread(path, both)? != Spread::Refuse
        {
            return Ok(false);
        }
        let after = pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
        // It may have been written to since it was compared, on either side.
        let is_untouched = after.stamp() == reading.source.stamp()
            && pair.replica.look(old_folder.as_fd(), old_name).is_ok_and(|seen| seen.stat().is_some_and(is_as_agreed));
        if !is_untouched {
            return Ok(false);
        }
        let Reading { looked, racy, .. } = reading;
        let (source, replica) = (reading.source.stamp(), replica.stamp());
        let taken = Agreed { source, replica, racy, looked, provisional: false, made: None, base: None };
        let born = pair.two_way.as_ref().and_then(|_| identity::born(to.as_fd()));
        self.pass.intend(node, &job.name, born, taken);
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let both = (At::new(old_folder.as_fd(), before), At::new(folder, path));
        let said = self.pass.say_rename(both, taken.replica.id, (false, None));
        let said =
            said.and_then(|said| self.pass.put_said().map(|()| said)).map_err(failed("cannot write the journal"))?;
        if !self.rename(node, (old_folder.as_fd(), old_name), &job.name) {
            self.pass.unsay(said);
            self.pass.withdraw(node.ids, &job.name);
            return Ok(false);
        }
        self.taken_over(node, path, before);
        self.finish_taken_over((node, path, job), agreed, &reading, (&from, &to))?;
        Ok(true)
    }

    /// Nothing may be at the new name.
    fn rename(&self, node: &Node, (old_folder, old_name): (BorrowedFd, &[u8]), name: &[u8]) -> bool {
        let pair = self.pass.pair;
        let Ok(folder) = node.replica() else { return false };
        if !pair.rights.are_full() {
            ensure_writable(folder);
            ensure_writable(old_folder);
        }
        rename::to_free_name(&pair.replica, (old_folder, old_name), (folder, name)) == Ok(true)
    }

    /// Notes that a file has its new name.
    fn taken_over(&mut self, node: &Node, path: &RelPath, before: &RelPath) {
        let pair = self.pass.pair;
        self.pass.shared().removals.remove(before);
        node.touch(self.pass);
        if let Some((parent, name)) = before.split() {
            if parent == node.path {
                node.change(name, None);
            } else {
                if let Some((ids, name)) = place_of(pair, before) {
                    pair.remember(ids, Changes::from([(name.into(), None)]));
                }
                self.pass.took_from(parent);
            }
        }
        let (from, to) = (pair.shown(before), pair.shown(path));
        pair.report_with(Operation::Renamed, format!("{from} -> {to}"));
        pair.archive.rename_decayed(before, path);
        self.pass.arrived(path);
        self.totals.renamed += 1;
    }

    fn finish_taken_over(
        &mut self,
        (node, path, job): (&Node, &RelPath, &Job),
        agreed: &Agreed,
        reading: &Reading,
        (from, to): (&OwnedFd, &OwnedFd),
    ) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let unread = failed("cannot read the attributes");
        let wanted = crate::fs::metadata::wanted_xattrs(from.as_fd(), &pair.rights)
            .map_err(failed("cannot read the extended attributes"))?;
        let replica = pair.replica.stat(to.as_fd()).map_err(&unread)?;
        if pair.two_way.is_some() && !replica.stamp().same_contents_if_explained(&agreed.replica) {
            return Err(Stop::Changed);
        }
        if let Some(replica) = self.set_attributes(path, to.as_fd(), &reading.source, &wanted, replica)? {
            self.agree(node, path, &job.name, reading, &replica, Proof::Compared);
        }
        Ok(())
    }
}
