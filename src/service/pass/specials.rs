//! Owns what is done to symbolic links, FIFOs, sockets and devices: they are small, so that any difference is mended
//! by building a new one unseen and publishing it in one step.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs;
use rustix::io::Errno;

use super::files::{Job, Stop, failed};
use super::folders::Node;
use super::keeping::At;
use super::lend::{base_of, hash, lend_special};
use super::walk::Worker;
use crate::fs::archive::Changes;
use crate::fs::identity::born_at;
use crate::fs::metadata;
use crate::fs::stage::{Published, Target};
use crate::plan::mirror::Step;
use crate::service::clock;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

impl Worker<'_> {
    pub fn special(&mut self, node: &Arc<Node>, path: &RelPath, job: &Job) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let looked = clock::now();
        let mut source = match pair.source.look(node.source.as_fd(), &job.name) {
            Ok(Seen::Present(source)) if source.kind == job.source.kind => source,
            Ok(_) => return Err(Stop::Changed),
            Err(error) => return Err(failed("cannot read the attributes")(error)),
        };
        let target = target_of(node.source.as_fd(), &job.name, source.kind)?;
        let is_merged = self.merge_special(node, job, &mut source, &target)?;
        let wanted = metadata::xattrs_at(node.source.as_fd(), &job.name)
            .map_err(failed("cannot read the extended attributes"))?;
        let racy = clock::is_racy(source.ctime);
        let (pass, is_seen) = (self.pass, self.unseen_now.is_none());
        let agree = |replica: &Stat| {
            let base = base_of(pair, (&source, replica), hash(&wanted));
            let (source, replica_stamp) = (&source, replica.stamp());
            let agreed = Agreed {
                source: source.stamp(),
                replica: replica_stamp,
                racy,
                looked,
                provisional: false,
                made: None,
                base,
            };
            if pair.two_way.is_some() && is_seen {
                // At once, as with files.
                pass.remember(&node.path, node.ids, Changes::from([(job.name.clone(), Some(agreed))]));
            } else {
                node.change(&job.name, Some(agreed));
            }
            if source.is_linked() || replica.is_linked() {
                pass.note_links(path, source, replica);
            }
        };
        if let (Step::Examine(_), Some(replica), Some(folder)) = (job.step, &job.replica, &node.replica) {
            let same =
                metadata::same_stat(&source, &Stat { mode: source_mode(&source, replica), ..*replica }, &pair.rights)
                    && target == target_of(folder.as_fd(), &job.name, replica.kind)?
                    && wanted == metadata::xattrs_at(folder.as_fd(), &job.name).unwrap_or_default();
            if same {
                agree(replica);
                return Ok(());
            }
        }
        let mut expected = job.replica;
        if let (Some(replica), Some(_), false) = (job.replica, job.different, is_merged) {
            // Only the attributes of what cannot be written can have been changed, or it was made anew.
            match self.settle_difference(node, path, job, replica)? {
                Some(now) => expected = now,
                None => return Ok(()),
            }
        }
        let operation = match (source.kind, job.replica) {
            (Kind::Symlink, Some(old)) if old.kind == Kind::Symlink => Operation::LinkUpdated,
            (Kind::Symlink, _) => Operation::LinkCreated,
            _ => Operation::SpecialCreated,
        };
        if !pair.options.dry_run {
            let folder = node.replica().map_err(failed("cannot open the folder"))?;
            let place = Target { folder, path: &node.path };
            let staged = match pair.stage.special(&pair.replica, &place, source.kind, &target, source.rdev) {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
                    if pair.said.first(&format!("special {path:?}")) {
                        let shown = pair.shown(path);
                        pair.log.warn(format_args!("Skipped: {shown}: this process may not make a file of this kind, or the filesystem cannot hold it"));
                    }
                    return Ok(());
                }
                done => done.map_err(failed("cannot create it"))?,
            };
            let set = pair.replica.look(staged.folder(), staged.name()).and_then(|now| match now {
                Seen::Present(now) => {
                    metadata::apply_at(staged.folder(), staged.name(), &source, &wanted, &now, &pair.rights)
                }
                Seen::Absent | Seen::Unknown => Err(Errno::NOENT),
            });
            match set {
                Ok(lost) => pair.report_lost(lost, path),
                Err(error) => {
                    staged.discard(&pair.replica);
                    return Err(failed("cannot set the attributes")(error));
                }
            }
            let look = || pair.replica.look(staged.folder(), staged.name()).ok()?.stat().copied();
            let made = pair.two_way.as_ref().and_then(|_| look());
            if let Some(made) = &made {
                let (source, replica) = (source.stamp(), made.stamp());
                let agreed = Agreed { source, replica, racy, looked, provisional: false, made: None, base: None };
                self.pass.intend(node, &job.name, born_at(staged.folder(), staged.name()), agreed);
            }
            let published = self.publish_staged(staged, At::new(folder, path), source.kind, expected.as_ref());
            if !matches!(published, Ok(Published::Yes)) {
                self.pass.withdraw(node.ids, &job.name);
            }
            if published? == Published::Changed {
                return Err(Stop::Changed);
            }
            match pair.replica.look(folder, &job.name) {
                // Somebody may have put something else there since, or given it other attributes.
                Ok(Seen::Present(replica)) if made.is_none_or(|made| replica.differs_in_ctime_alone(&made)) => {
                    agree(&replica)
                }
                _ => return Err(Stop::Changed),
            }
        }
        node.touch(self.pass);
        self.pass.replaced(path, job.replica.as_ref(), source.kind);
        self.pass.report(operation, path);
        match source.kind {
            Kind::Symlink => self.totals.links += 1,
            _ => self.totals.other += 1,
        }
        Ok(())
    }

    /// Brings to the source's entry what the replica's has of newer attributes, where both are the same but for these.
    fn merge_special(&self, node: &Node, job: &Job, source: &mut Stat, target: &[u8]) -> Result<bool, Stop> {
        let pair = self.pass.pair;
        let (Some(replica), Some(folder)) = (&job.replica, &node.replica) else { return Ok(false) };
        let is_asked = pair.two_way.is_some() && !pair.options.dry_run;
        let is_same = (source.kind, source.rdev) == (replica.kind, replica.rdev);
        let is_merge = job.different.is_some() || job.step == Step::Update;
        if !is_asked || !is_same || !is_merge || target_of(folder.as_fd(), &job.name, replica.kind)? != target {
            return Ok(false);
        }
        let agreed = pair.agreed(node.ids, &job.name);
        let both = [(node.source.as_fd(), &*source), (folder.as_fd(), replica)];
        *source =
            lend_special(self.pass, &node.path.join(&job.name), both, agreed.as_ref()).map_err(
                |error| match error {
                    Errno::AGAIN => Stop::Changed,
                    error => failed("cannot set the attributes")(error),
                },
            )?;
        Ok(true)
    }

    /// Publishes, lifting for a moment a mode of the folder that keeps its owner from doing so.
    pub fn publish_staged(
        &self,
        staged: crate::fs::stage::Staged,
        at: At,
        kind: Kind,
        expected: Option<&Stat>,
    ) -> Result<Published, Stop> {
        let pair = self.pass.pair;
        let Some((parent, name)) = at.path.split() else { return Ok(Published::Changed) };
        let said = self.pass.open_up(at.folder, &parent).and_then(|()| self.pass.say_arrival(at, kind, expected));
        let said = match said.and_then(|said| self.pass.put_said().map(|()| said)) {
            Ok(said) => said,
            Err(error) => {
                staged.discard(&pair.replica);
                return Err(failed("cannot write the journal")(error));
            }
        };
        let keep = || self.pass.keep(&said, at.folder, name);
        let published = pair.stage.publish(&pair.replica, staged, at.folder, name, (expected, &keep));
        if !matches!(published, Ok(Published::Yes)) {
            self.pass.unsay(said);
        }
        published.map_err(failed("cannot publish it"))
    }
}

fn source_mode(source: &Stat, replica: &Stat) -> u16 {
    // A link's mode means nothing and cannot be set.
    if source.kind == Kind::Symlink { metadata::wanted_mode(source, replica) } else { replica.mode }
}

fn target_of(folder: BorrowedFd, name: &[u8], kind: Kind) -> Result<Vec<u8>, Stop> {
    if kind != Kind::Symlink {
        return Ok(Vec::new());
    }
    match fs::readlinkat(folder, name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        Err(Errno::NOENT | Errno::INVAL) => Err(Stop::Changed),
        Err(error) => Err(failed("cannot read the link")(error)),
    }
}
