//! Owns the question whether a file of the replica may be changed where it is, or has to be built anew: an inode may
//! have names that are not the replica's, and descriptors that others write through.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::files::{Stop, failed};
use super::walk::Worker;
use crate::fs::{metadata, trust};
use crate::plan::mirror::Contents;
use crate::service::clock;
use crate::tree::entry::{Seen, Stat};
use crate::tree::path::RelPath;

impl Worker<'_> {
    /// Whether the attributes of the replica's file, open as the second of both, may be set to those of the source's.
    /// Also where they are equal.
    pub(super) fn may_change(
        &self,
        path: &RelPath,
        folder: BorrowedFd,
        [(from, source), (to, replica)]: [(BorrowedFd, &Stat); 2],
        contents: Contents,
    ) -> Result<bool, Stop> {
        let rights = &self.pass.pair.rights;
        let unread = failed("cannot read the extended attributes");
        let wanted = metadata::wanted_xattrs(from, rights).map_err(&unread)?;
        let have = metadata::xattrs(to).map_err(unread)?;
        if metadata::same_stat(source, replica, rights) && wanted == have {
            return Ok(true);
        }
        if trust::empowers(source, replica, &wanted, &have, rights) {
            return Ok(false);
        }
        // What is as it was last agreed was made or looked at by the program. Where owners cannot be set, none is.
        let is_unknown = contents != Contents::Explained && !self.pass.pair.said.has("owners");
        if is_unknown && trust::is_foreign(source, replica, rights) {
            return Ok(false);
        }
        let Some((_, name)) = path.split() else { return Ok(false) };
        if replica.nlink == 1 {
            return trust::is_only_name(to, folder, name).map_err(failed("cannot read the attributes"));
        }
        self.all_names_are_here(path, source, to)
    }

    /// Whether all names of an inode of the replica are names in the replica, and were at one and the same moment: each
    /// name that comes or goes moves the ctime.
    fn all_names_are_here(&self, path: &RelPath, source: &Stat, to: BorrowedFd) -> Result<bool, Stop> {
        let pair = self.pass.pair;
        let stat = || pair.replica.stat(to).map_err(failed("cannot read the attributes"));
        let mut names: BTreeSet<RelPath> = pair.links().names(source.id()).into_iter().collect();
        names.insert(path.clone());
        let mut before = stat()?;
        if pair.two_way.is_some() {
            names.extend(pair.links_back().names(before.id()));
        }
        if (names.len() as u64) < u64::from(before.nlink) {
            return Ok(false);
        }
        if clock::is_racy(before.ctime) {
            clock::wait(Duration::from_millis(25));
            before = stat()?;
        }
        let is_here =
            |path: &&RelPath| matches!(pair.replica.look_at(path), Ok(Seen::Present(s)) if s.id() == before.id());
        let count = names.iter().filter(is_here).count() as u64;
        let after = stat()?;
        Ok(count == u64::from(after.nlink) && before.ctime == after.ctime && !clock::is_racy(before.ctime))
    }
}
