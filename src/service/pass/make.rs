//! Owns making a folder in the replica, also where something else stands, and going on below it.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::folders::Node;
use super::keeping::At;
use super::walk::Worker;
use crate::fs::remove::{ensure_writable, make_writable};
use crate::fs::root::open_child;
use crate::fs::stage::Published;
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::tree::doubt::{Doubt, Extent};
use crate::tree::entry::{Kind, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;

/// How a new folder comes to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It is in its place.
    InPlace,
    /// Who visits it builds it unseen.
    Unseen,
}

impl Worker<'_> {
    /// Makes a folder in the replica, in the place of `old` if there is one, and goes on below it.
    pub(super) fn make_folder(&mut self, node: &Arc<Node>, path: RelPath, stat: &Stat, old: Option<Stat>) {
        let pair = self.pass.pair;
        if self.pass.is_put_off(0) {
            return self.pass.again(&path, Doubt::subtree(clock::now()));
        }
        let claimed = self.pass.claim(&path);
        let result = match (claimed, pair.options.dry_run) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(Made::InPlace)),
            (true, false) if old.is_none() && self.may_build_unseen(node) => Ok(Some(Made::Unseen)),
            (true, false) => self.make_folder_now(node, &path, stat, old).map(|made| made.then_some(Made::InPlace)),
        };
        if claimed {
            self.pass.release(&path);
        }
        match result {
            Ok(Some(made)) => {
                if made == Made::InPlace {
                    self.made_folder(node, &path, old.as_ref());
                }
                let elsewhere = pair.options.one_file_system && stat.dev != node.id.dev;
                let extent = if elsewhere { Extent::Names } else { Extent::Tree };
                self.descend(node, path, extent, Some(made), false);
            }
            Ok(None) => self.pass.again(&path, Doubt::subtree(clock::now())),
            Err(error) => self.pass.failed(&path, "cannot create the directory", error),
        }
    }

    /// Notes that a folder is in its place in `parent`.
    pub(super) fn made_folder(&mut self, parent: &Node, path: &RelPath, old: Option<&Stat>) {
        parent.touch(self.pass);
        self.pass.replaced(path, old, Kind::Directory);
        self.pass.report(Operation::DirectoryCreated, path);
        self.totals.directories_created += 1;
    }

    /// Returns whether the folder was made; not where something else came first.
    fn make_folder_now(
        &mut self,
        node: &Node,
        path: &RelPath,
        source: &Stat,
        old: Option<Stat>,
    ) -> Result<bool, Errno> {
        let pair = self.pass.pair;
        let (folder, (_, name)) = (node.replica()?, path.split().ok_or(Errno::INVAL)?);
        if old.is_some() {
            // What cannot be read is no reason to give up what is there.
            drop(open_child(node.source.as_fd(), name)?);
        }
        let said = self.pass.say_arrival(At::new(folder, path), Kind::Directory, old.as_ref())?;
        self.pass.put_said()?;
        if old.is_some() || pair.two_way.is_some() {
            // In two-way mode too, so that it is known as the program's own before it is there.
            let staged = pair.stage.special(&pair.replica, &node.target()?, Kind::Directory, b"", 0)?;
            let agreed = self.pass.intend_folder(node, name, &staged, source);
            if let Some(agreed) = &agreed {
                self.pass.forget_namesake(path, Ids { source: source.id(), replica: Some(agreed.replica.id) });
            }
            ensure_writable(folder);
            let keep = || self.pass.keep(&said, folder, name);
            let published = pair.stage.publish(&pair.replica, staged, folder, name, (old.as_ref(), &keep));
            if published == Ok(Published::Yes) {
                agreed.into_iter().for_each(|agreed| self.pass.agree_on_folder(node, path, agreed));
            } else {
                self.pass.unsay(said);
                self.pass.withdraw(node.ids, name);
            }
            return Ok(published? == Published::Yes);
        }
        let mode = Mode::from_raw_mode(0o700);
        let made = match rustix::fs::mkdirat(folder, name, mode) {
            Err(Errno::ACCESS) => make_writable(folder).and_then(|()| rustix::fs::mkdirat(folder, name, mode)),
            done => done,
        };
        if made.is_err() {
            self.pass.unsay(said);
        }
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
