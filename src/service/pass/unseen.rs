//! Owns folders that are new in the replica and are built whole before anybody sees them: their files are made under their
//! own names in a folder that is staged, and one rename publishes them all. A file then needs no name of its own to be
//! given later, and need not stay open until it is on disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::Pass;
use super::files::{About, Job, Stop, failed};
use super::folders::{Node, complete};
use super::keeping::{At, Said};
use super::walk::Worker;
use crate::fs::metadata::{self, Lost, Xattrs, same_stat};
use crate::fs::stage::{self, Published, Staged, StagedFile};
use crate::fs::{disk, identity, remove};
use crate::service::claims::Which;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stat, Time};
use crate::tree::path::RelPath;

/// A folder that is built and not yet published.
pub struct Unseen {
    pub(super) node: Arc<Node>,
    folder: Staged,
    files: Vec<Within>,
    /// Once it is said that they come.
    said: Option<Vec<Said>>,
}

/// A file in it.
pub struct Within {
    name: Box<[u8]>,
    /// Open while there are few, which are brought to disk one by one.
    fd: Option<OwnedFd>,
    replica: Stat,
    /// In two-way mode, when it was made.
    born: Option<Time>,
    about: About,
}

/// What a file gets that is made in a folder of the program's own: nothing but what the process gives it.
pub struct Born {
    uid: u32,
    gid: u32,
    /// Bits of the mode that are taken away from what is asked for.
    masked: u16,
}

/// A folder with more files, or more bytes in them, is seen while it fills.
const FILES: usize = 256;
const BYTES: u64 = 16 << 20;
/// The mode that shows what becomes of a mode.
const ALL: u16 = 0o777;

impl Born {
    /// Gives such a file the attributes of the source's.
    pub(super) fn dress(&self, fd: BorrowedFd, source: &Stat, wanted: &Xattrs, pair: &Pair) -> Result<Lost, Errno> {
        let now = Stat { mode: source.mode & ALL & !self.masked, uid: self.uid, gid: self.gid, ..*source };
        metadata::apply(fd, source, wanted, (&now, Some(&Xattrs::new())), &pair.rights)
    }
}

impl Pass<'_> {
    pub(super) fn born(&self) -> Option<&Born> {
        self.born.get()
    }
}

impl Unseen {
    /// One that is published before anything is in it.
    pub(super) fn empty(node: &Arc<Node>, folder: Staged) -> Self {
        Self { node: node.clone(), folder, files: Vec::new(), said: None }
    }

    /// Says that the folder comes, with its files.
    pub(super) fn say(&mut self, pass: &Pass) -> Result<(), Errno> {
        if self.said.is_some() || !pass.keeps() {
            return Ok(());
        }
        let parent = self.node.parent.as_ref().ok_or(Errno::NOENT)?;
        let mut said = vec![pass.say_arrival(At::new(parent.replica()?, &self.node.path), Kind::Directory, None)?];
        for file in &self.files {
            let path = self.node.path.join(&file.name);
            said.push(pass.say_arrival(At::new(self.node.replica()?, &path), Kind::File, None)?);
        }
        self.said = Some(said);
        Ok(())
    }

    /// For each file its descriptor, if that is open still.
    pub(super) fn open_files(&self) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
        self.files.iter().map(|file| file.fd.as_ref().map(AsFd::as_fd))
    }
}

impl Worker<'_> {
    /// Whether a new folder in `parent` may be built in one place and published in another.
    pub(super) fn may_build_unseen(&mut self, parent: &Node) -> bool {
        let pair = self.pass.pair;
        if self.pass.lane != Which::Bulk {
            return false;
        }
        let is_of_one_kind = match self.open_disk() {
            Ok(disk) => disk.is_none_or(|disk| disk.takes_all()),
            Err(_) => false,
        };
        // Another filesystem may be mounted below the replica's root, or the same once more.
        is_of_one_kind && parent.target().is_ok_and(|target| pair.stage.may_build_unseen(&pair.replica, &target))
    }

    pub(super) fn is_worth_building(&self, jobs: &[Job]) -> bool {
        let bytes = jobs.iter().map(|job| job.source.size).fold(0, u64::saturating_add);
        (1..=FILES).contains(&jobs.len()) && bytes <= BYTES && self.pass.pair.stage.builds_unseen()
    }

    /// Does the jobs of a new folder, then publishes it.
    pub(super) fn build(&mut self, node: Arc<Node>, folder: Staged, jobs: Vec<Job>) {
        self.unseen_now = Some(Vec::new());
        let bytes = jobs.iter().map(|job| job.source.size).fold(0, u64::saturating_add);
        let mut failed = Vec::new();
        for job in jobs {
            if self.pass.is_cancelled() {
                break;
            }
            self.pass.pulse.beat();
            let (before, name) = (self.unseen_now.as_ref().map(Vec::len), job.name.clone());
            let is_file = job.source.kind == Kind::File;
            self.job(&node, job);
            if is_file && self.unseen_now.as_ref().map(Vec::len) == before {
                failed.push(name);
            }
        }
        let files = self.unseen_now.take().unwrap_or_default();
        if !self.is_clean(&node, &failed) {
            folder.discard(&self.pass.pair.replica);
            node.abandon();
            self.pass.again(&node.path, Doubt::subtree(clock::now()));
            return complete(self.pass, node, &mut self.totals);
        }
        let unseen = Unseen { node: node.clone(), folder, files, said: None };
        if !self.pass.pair.options.durable {
            self.publish_folder(unseen, Ok(()));
            return complete(self.pass, node, &mut self.totals);
        }
        self.ready_bytes += bytes;
        self.unseen.push(unseen);
        self.publish_if_many();
    }

    /// Whether nothing is left of the files that could not be built.
    fn is_clean(&self, node: &Node, failed: &[Box<[u8]>]) -> bool {
        let pair = self.pass.pair;
        let is_gone = |name: &[u8]| {
            let seen = node.replica().and_then(|folder| pair.replica.look(folder, name));
            matches!(seen, Ok(Seen::Absent))
        };
        failed.iter().all(|name| is_gone(name))
    }

    /// An empty file under its own name.
    pub(super) fn stage_within(&self, node: &Node, job: &Job) -> Result<StagedFile, Stop> {
        let pair = self.pass.pair;
        let folder = node.replica.as_ref().ok_or(Stop::Changed)?;
        let mode = if self.pass.born().is_some() { job.source.mode & ALL } else { ALL };
        let file = pair.stage.file_within(folder, &job.name, mode).map_err(failed("cannot create a file"))?;
        if self.pass.born().is_none()
            // Where it does not say, each is asked.
            && let Ok(stat) = pair.replica.stat(file.fd())
            && metadata::xattrs(file.fd()).is_ok_and(|xattrs| xattrs.is_empty())
        {
            let _ = self.pass.born.set(Born { uid: stat.uid, gid: stat.gid, masked: ALL & !stat.mode });
        }
        Ok(file)
    }

    /// Keeps a file until its folder is published.
    pub(super) fn keep_within(
        &mut self,
        path: &RelPath,
        name: &[u8],
        file: StagedFile,
        about: About,
    ) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let replica = match self.finish_within(path, &file, &about.reading.source) {
            Ok(replica) => replica,
            Err(error) => {
                file.discard(&pair.replica);
                return Err(failed("cannot set the attributes")(error));
            }
        };
        let born = pair.two_way.as_ref().and_then(|_| identity::born(file.fd()));
        let fd = pair.options.durable.then(|| file.into_fd());
        let files = self.unseen_now.get_or_insert_default();
        files.push(Within { name: name.into(), fd, replica, born, about });
        if files.len() > disk::ONE_BY_ONE {
            files.iter_mut().rev().take(disk::ONE_BY_ONE + 1).for_each(|file| file.fd = None);
        }
        Ok(())
    }

    /// Looks at what has become of a file, and mends what was not born like the others: the first of all, or any on a
    /// filesystem that has its own mind.
    fn finish_within(&self, path: &RelPath, file: &StagedFile, source: &Stat) -> Result<Stat, Errno> {
        let pair = self.pass.pair;
        let replica = pair.replica.stat(file.fd())?;
        if same_stat(source, &replica, &pair.rights) {
            return self.pass.clear_of_writes(file.fd(), replica);
        }
        let have = metadata::xattrs(file.fd())?;
        let lost = metadata::apply(file.fd(), source, &have, (&replica, Some(&have)), &pair.rights)?;
        pair.report_lost(lost, path);
        self.pass.clear_of_writes(file.fd(), pair.replica.stat(file.fd())?)
    }

    /// Publishes a folder that is built, if what is in it was brought to disk.
    pub(super) fn publish_folder(&mut self, mut unseen: Unseen, synced: Result<(), Errno>) {
        let pair = self.pass.pair;
        let synced = synced.and_then(|()| match unseen.said {
            Some(_) => Ok(()),
            None => unseen.say(self.pass).and_then(|()| self.pass.put_said()),
        });
        let Unseen { node, folder, files, said } = unseen;
        let mut claimed = Vec::new();
        let result = match synced {
            Ok(()) if self.pass.claim(&node.path) => {
                if pair.two_way.is_some() {
                    // Who looks at them must not come before what is agreed of them.
                    claimed.extend(files.iter().map(|file| node.path.join(&file.name)));
                    claimed.retain(|path| self.pass.claim(path));
                }
                self.intend_within(&node, &files);
                let done = self.put_folder_in_place(&node, folder);
                self.pass.release(&node.path);
                done
            }
            Ok(()) => {
                folder.discard(&pair.replica);
                Ok(Published::Changed)
            }
            Err(error) => {
                folder.discard(&pair.replica);
                Err(error)
            }
        };
        if result != Ok(Published::Yes) {
            said.into_iter().flatten().for_each(|said| self.pass.unsay(said));
            node.abandon();
            pair.withdraw(node.ids, files.iter().map(|file| &*file.name));
        }
        match result {
            Ok(Published::Yes) => {
                self.pass.note_files(&node, files.iter().map(|file| (&*file.name, &file.about, &file.replica)));
                if let Some(parent) = &node.parent {
                    self.made_folder(parent, &node.path, None);
                }
                for file in &files {
                    self.published(&node, &file.name, None, &file.about, &file.replica);
                }
            }
            Ok(Published::Changed) => self.pass.again(&node.path, Doubt::subtree(clock::now())),
            Err(Errno::CANCELED) => {}
            // A mount in between, or a sandbox without syncfs.
            Err(Errno::XDEV | Errno::NOSYS) => {
                pair.stage.build_in_place();
                self.pass.again(&node.path, Doubt::subtree(clock::now()));
            }
            Err(error) => self.pass.failed(&node.path, "cannot create the directory", error),
        }
        claimed.iter().for_each(|path| self.pass.release(path));
    }

    fn put_folder_in_place(&self, node: &Node, folder: Staged) -> Result<Published, Errno> {
        let pair = self.pass.pair;
        let (Some(parent), Some((_, name))) = (&node.parent, node.path.split()) else { return Ok(Published::Changed) };
        let place = parent.replica()?;
        if !pair.rights.are_full() {
            remove::ensure_writable(place);
        }
        let source = pair.source.stat(node.source.as_fd())?;
        let agreed = self.pass.intend_folder(parent, name, &folder, &source);
        let published = pair.stage.publish(&pair.replica, folder, place, name, (None, &stage::nothing));
        if published == Ok(Published::Yes) {
            agreed.into_iter().for_each(|agreed| self.pass.agree_on_folder(parent, &node.path, agreed));
        } else {
            self.pass.withdraw(parent.ids, name);
        }
        published
    }

    fn intend_within(&self, node: &Node, files: &[Within]) {
        if self.pass.pair.two_way.is_some() {
            let made =
                files.iter().filter_map(|f| Some((&*f.name, f.born, self.pass.as_copied(&f.about, &f.replica)?)));
            self.pass.pair.intend((node.ids, &node.path), made);
        }
    }
}
