//! Owns putting a finished file under its name, and what is counted and agreed of it then.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::files::{About, Reading, Ready};
use super::folders::Node;
use super::keeping::{At, Said};
use super::walk::Worker;
use crate::fs::archive::Changes;
use crate::fs::identity;
use crate::fs::stage::Published;
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// How it is known that both sides' contents are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// This program has made the replica's, and it has its name.
    Copied,
    Compared,
    /// The events told why the ctime had moved.
    Explained,
}

impl Worker<'_> {
    pub(super) fn publish(&mut self, ready: Ready) {
        let pair = self.pass.pair;
        let Ready { node, name, file, expected, about, said } = ready;
        let path = node.path.join(&name);
        let said = match said.map_or_else(|| self.say_now(&node, &path, expected.as_ref()), Ok) {
            Ok(said) => said,
            Err(error) => {
                file.discard(&pair.replica);
                self.pass.failed(&path, "cannot write the journal", error);
                return self.pass.release(&path);
            }
        };
        // What others write to it and set as soon as it has its name is not agreed.
        let staged = pair.two_way.as_ref().and_then(|_| pair.replica.stat(file.fd()).ok());
        let staged = staged.and_then(|staged| self.pass.clear_of_writes(file.fd(), staged).ok());
        let as_published = |now: Stat| staged.filter(|staged| !now.differs_in_ctime_alone(staged)).unwrap_or(now);
        // In a folder that others have moved away meanwhile, even out of the tree, nothing is replaced.
        let is_replaced = pair.two_way.is_some() && expected.is_some();
        if is_replaced && !node.replica().is_ok_and(|folder| pair.replica.is_at(folder, &node.path)) {
            file.discard(&pair.replica);
            self.pass.unsay(said);
            self.pass.again(&path, Doubt::contents(clock::now()));
            return self.pass.release(&path);
        }
        let expected = node.replica().map_or(expected, |folder| self.pass.refreshed(folder, &name, expected));
        let intended = staged.and_then(|staged| self.pass.as_copied(&about, &staged));
        if let Some(agreed) = intended {
            self.pass.intend(&node, &name, identity::born(file.fd()), agreed);
        }
        let result = node
            .replica()
            .and_then(|folder| {
                let keep = || self.pass.keep(&said, folder, &name);
                pair.stage.publish_file(&pair.replica, file, folder, &name, (expected.as_ref(), &keep))
            })
            .and_then(|(published, fd)| Ok((published, as_published(pair.replica.stat(fd.as_fd())?))));
        if !matches!(result, Ok((Published::Yes, _))) {
            self.pass.unsay(said);
            if intended.is_some() {
                self.pass.withdraw(node.ids, &name);
            }
        }
        match result {
            Ok((Published::Yes, replica)) => {
                self.pass.note_files(&node, std::iter::once((&*name, &about, &replica)));
                self.published(&node, &name, expected, &about, &replica);
            }
            Ok((Published::Changed, _)) => self.pass.again(&path, Doubt::contents(clock::now())),
            Err(error) => self.pass.failed(&path, "cannot publish the copy", error),
        }
        self.pass.release(&path);
    }

    /// Says that a file comes, and that it may.
    fn say_now(&self, node: &Node, path: &RelPath, expected: Option<&Stat>) -> Result<Said, Errno> {
        let said = self.pass.say_arrival(At::new(node.replica()?, path), Kind::File, expected)?;
        self.pass.put_said().map(|()| said)
    }

    /// Notes that a file is published.
    pub(super) fn published(
        &mut self,
        node: &Node,
        name: &[u8],
        expected: Option<Stat>,
        about: &About,
        replica: &Stat,
    ) {
        let path = node.path.join(name);
        node.touch(self.pass);
        self.pass.replaced(&path, expected.as_ref(), Kind::File);
        if let Some(old) = &expected {
            self.pass.left(&path, old, replica.id());
            if about.look.is_none() {
                self.pass.pair.carry_digest(&about.reading.source, old, replica);
            }
        }
        self.pass.pair.forget_decayed(&path, &about.reading.source, replica);
        let operation = match expected {
            Some(old) if old.kind == Kind::File => Operation::FileUpdated,
            _ => Operation::FileCopied,
        };
        self.pass.report(operation, &path);
        self.count_file(operation, about.reading.source.size);
        match about.look {
            Some(look) => self.pass.looked(&path, look),
            None => self.agree(node, &path, name, &about.reading, replica, Proof::Copied),
        }
    }

    pub(super) fn count_file(&mut self, operation: Operation, bytes: u64) {
        match operation {
            Operation::FileUpdated => self.totals.files_updated += 1,
            _ => self.totals.files_copied += 1,
        }
        self.totals.bytes += bytes;
        self.pass.pulse.copied_file();
    }

    pub(super) fn agree(
        &self,
        node: &Node,
        path: &RelPath,
        name: &[u8],
        reading: &Reading,
        replica: &Stat,
        proof: Proof,
    ) {
        let (source, replica_stamp) = (reading.source.stamp(), replica.stamp());
        let Reading { looked, racy, .. } = *reading;
        if let Some(md5) = reading.md5 {
            self.pass.pair.record_digest(md5, &reading.source, replica);
        }
        let base = self.pass.base(reading, replica);
        let made = match proof {
            Proof::Copied => self.pass.made(),
            _ => self.pass.still_made(node, name, (&source, &replica_stamp)),
        };
        let provisional = proof == Proof::Explained;
        let agreed = Some(Agreed { source, replica: replica_stamp, racy, looked, provisional, made, base });
        if self.pass.pair.two_way.is_some() && self.pass.pair.watches.is_some() {
            // Who looks at the name next, once it is released, must not take what was done here for a change of both sides.
            self.pass.remember(&node.path, node.ids, Changes::from([(name.into(), agreed)]));
        } else {
            node.change(name, agreed);
        }
        if racy && self.pass.pair.two_way.is_some() {
            // It is agreed that both were this, but not that the source has not been written since: it is compared again
            // when a write would show.
            return self.pass.again(path, Doubt::contents(clock::now()));
        }
        if reading.source.is_linked() || replica.is_linked() {
            self.pass.note_links(path, &reading.source, replica);
        }
    }
}
