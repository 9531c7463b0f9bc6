//! Owns what is done to one file: built unseen, given its attributes, brought to disk with others, and published.
//! A file that changes while it is read is read again, at once and later: see
//! `service::restless`.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::folders::Node;
use super::keeping::Said;
use super::moved::Before;
use super::walk::Worker;
use crate::fs::copy::{self, Fault, Manner, Reflink};
use crate::fs::disk::Disk;
use crate::fs::metadata;
use crate::fs::patch::Same;
use crate::fs::root::open_file;
use crate::fs::stage::{StagedFile, Target};
use crate::fs::{compare, metadata::Lost, trust};
use crate::plan::mirror::Step;
use crate::plan::two_way::Different;
use crate::service::clock;
use crate::service::digests::is_settled;
use crate::service::restless::Look;
use crate::tree::digest::Md5;
use crate::tree::doubt::{Doubt, Moment};
use crate::tree::entry::{Kind, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;

/// One entry that is no folder, and what was decided for it.
pub struct Job {
    pub name: Box<[u8]>,
    pub step: Step,
    pub source: Stat,
    pub replica: Option<Stat>,
    /// Whether anything but attributes and names may have changed.
    pub contents_in_doubt: bool,
    /// What it means if the contents differ, where both sides are worked in.
    pub different: Option<Different>,
    /// It is to become a file of its own, also where it is equal.
    pub parts: bool,
    /// The source's file, if it was opened when `source` was asked of it.
    pub opened: Cell<Option<OwnedFd>>,
    /// Where the replica may have the file.
    pub before: Option<Box<Before>>,
}

impl Job {
    pub fn new(name: &[u8], step: Step, source: &Stat, replica: Option<Stat>) -> Self {
        let (name, source, opened) = (name.into(), *source, Cell::new(None));
        let (different, before) = (None, None);
        Self { name, step, source, replica, contents_in_doubt: true, different, parts: false, opened, before }
    }
}

/// A file that is built and waits to be brought to disk and published.
pub struct Ready {
    pub(super) node: Arc<Node>,
    pub(super) name: Box<[u8]>,
    pub(super) file: StagedFile,
    pub(super) expected: Option<Stat>,
    pub(super) about: About,
    /// Once it is said that it comes.
    pub(super) said: Option<Said>,
}

/// What is to be remembered of a file when it is published.
pub(super) struct About {
    pub(super) reading: Reading,
    /// What is to be said of it if the file does not rest.
    pub(super) look: Option<Look>,
}

/// One reading of a source file.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) source: Stat,
    pub(super) looked: Moment,
    pub(super) racy: bool,
    /// A hash of the extended attributes, once they were read.
    pub(super) extended: Option<u64>,
    /// That of the contents, where they were hashed.
    pub(super) md5: Option<Md5>,
}

/// What a reading is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// The file was the same before and after it.
    Settled,
    /// The file has changed, but this is what it was at one instant.
    Instant,
    /// It may be a mixture.
    Torn,
}

/// Why a job did not come to its end.
pub enum Stop {
    /// The disk does not show any more what the plan was made from.
    Changed,
    Cancelled,
    Failed(&'static str, Errno),
}

/// A file that changes while it is read is read as often as this at once, if it is no larger than this.
const READINGS: u32 = 3;
const READ_AGAIN: u64 = 4 << 20;
/// A write of this size takes its time.
const WORTH_A_BREATH: u64 = 256 << 10;
/// A file of this size is not begun within the grain of its ctime: it would have to be compared again later.
const WORTH_WAITING: u64 = 1 << 20;

impl Worker<'_> {
    /// Does one job, or puts it back into doubt, or reports why it cannot be done.
    pub fn job(&mut self, node: &Arc<Node>, job: Job) {
        let path = node.path.join(&job.name);
        if self.pass.is_put_off(job.source.size) {
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        // Nobody else can come to what is in a folder that nobody sees.
        if self.unseen_now.is_none() && !self.pass.claim(&path) {
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        if !node.is_in_place(self.pass) {
            self.pass.release(&path);
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        let result = match (job.source.kind, job.step) {
            (Kind::File, Step::Examine(contents)) => self.examine(node, &path, &job, contents),
            (Kind::File, _) => self.take_over_or_copy(node, &path, &job),
            _ => self.special(node, &path, &job).map(|()| Claim::Free),
        };
        match result {
            Ok(Claim::Kept) => return,
            Ok(Claim::Free) => {}
            Err(Stop::Failed(what, error)) => self.pass.failed_at(&path, what, error, job.source.size),
            Err(stop) => self.stopped(&path, stop),
        }
        self.pass.release(&path);
    }

    pub fn stopped(&self, path: &RelPath, stop: Stop) {
        match stop {
            Stop::Changed => self.pass.again(path, Doubt::contents(clock::now())),
            Stop::Cancelled => {}
            Stop::Failed(what, error) => self.pass.failed(path, what, error),
        }
    }

    pub(super) fn copy(
        &mut self,
        node: &Arc<Node>,
        path: &RelPath,
        job: &Job,
        expected: Option<Stat>,
        same: Option<Same>,
    ) -> Result<Claim, Stop> {
        let pair = self.pass.pair;
        if pair.options.dry_run {
            let is_update = expected.is_some_and(|old| old.kind == Kind::File);
            let operation = if is_update { Operation::FileUpdated } else { Operation::FileCopied };
            self.pass.replaced(path, expected.as_ref(), Kind::File);
            self.pass.report(operation, path);
            self.pass.would_remake(path, job.source.id());
            self.count_file(operation, job.source.size);
            node.touch(self.pass);
            return Ok(Claim::Free);
        }
        if expected.is_none() && self.is_good_elsewhere(path, &job.source) {
            return Ok(Claim::Free);
        }
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        self.open_disk().map_err(failed("cannot open the replica"))?;
        if expected.is_some() && !pair.rights.are_full() {
            self.pass.open_up(folder, &node.path).map_err(failed("cannot write the journal"))?;
        }
        self.note_failures();
        let mut readings = 0;
        let (file, reading, look) = loop {
            readings += 1;
            let reflink = if readings > 1 { Reflink::Any } else { Reflink::Large };
            let (file, reading, worth) = self.read_once(node, folder, job, (expected.as_ref(), same), reflink)?;
            match worth {
                Worth::Settled => break (file, reading, None),
                Worth::Instant => break (file, reading, Some(Look::Taken)),
                Worth::Torn if readings < READINGS && reading.source.size <= READ_AGAIN => {
                    file.discard(&pair.replica);
                    clock::wait(Duration::from_millis(1));
                }
                Worth::Torn if pair.restless.is_overdue(path, clock::now()) => {
                    break (file, reading, Some(Look::Uncertain));
                }
                Worth::Torn => {
                    file.discard(&pair.replica);
                    self.pass.looked(path, Look::Waits);
                    return Ok(Claim::Free);
                }
            }
        };
        let size = reading.source.size;
        let about = About { reading, look };
        if file.is_within() {
            return self.keep_within(path, &job.name, file, about).map(|()| Claim::Kept);
        }
        let ready = Ready { node: node.clone(), name: job.name.clone(), file, expected, about, said: None };
        if !pair.options.durable {
            self.publish(ready);
            return Ok(Claim::Kept);
        }
        node.hold();
        self.ready_bytes += size;
        self.ready.push(ready);
        self.publish_if_many();
        Ok(Claim::Kept)
    }

    /// The disk, where files are brought to it before they are published.
    pub(super) fn open_disk(&mut self) -> Result<Option<&Disk>, Errno> {
        let pair = self.pass.pair;
        if pair.options.durable && self.disk.is_none() {
            self.disk = Some(Disk::open(&pair.replica, pair.places.has_mounts_in(pair.written_side()))?);
        }
        Ok(self.disk.as_ref())
    }

    /// Reads the file once into a staged one.
    fn read_once(
        &self,
        node: &Node,
        folder: BorrowedFd,
        job: &Job,
        (expected, same): (Option<&Stat>, Option<Same>),
        reflink: Reflink,
    ) -> Result<(StagedFile, Reading, Worth), Stop> {
        let pair = self.pass.pair;
        let (from, reading) = self.open_source(node, job)?;
        let file = match &self.unseen_now {
            Some(_) => self.stage_within(node, job)?,
            None => self.stage_file(&Target { folder, path: &node.path }, expected.is_none())?,
        };
        let old = self.old_version(folder, &job.name, expected, same, &reading.source);
        let durable = pair.options.durable;
        let helpers = self.pass.readers();
        let manner = Manner { reflink, old: old.as_ref(), helpers, durable, abilities: &pair.abilities };
        match self.fill(from.as_fd(), &file, &reading, manner) {
            Ok((worth, (lost, extended))) => {
                pair.report_lost(lost, &node.path.join(&job.name));
                let md5 = self.hash_copy(&file, &reading);
                Ok((file, Reading { extended, md5, ..reading }, worth))
            }
            Err(stop) => {
                file.discard(&pair.replica);
                Err(stop)
            }
        }
    }

    /// The MD5 of what was just copied through memory, where contents are recorded.
    fn hash_copy(&self, file: &StagedFile, reading: &Reading) -> Option<Md5> {
        let is_small = reading.source.size < copy::IN_KERNEL;
        let is_wanted = self.pass.pair.options.records && is_small && is_settled(&reading.source);
        // Without it, a scrub reads the file.
        if is_wanted { compare::md5(file.fd(), self.pass.pulse).ok() } else { None }
    }

    pub(super) fn stage_file(&self, target: &Target, new: bool) -> Result<StagedFile, Stop> {
        let pair = self.pass.pair;
        match pair.stage.file(&pair.replica, target, new) {
            Err(Errno::ACCESS) => {
                self.pass.open_up(target.folder, target.path).map_err(failed("cannot write the journal"))?;
                pair.stage.file(&pair.replica, target, new)
            }
            done => done,
        }
        .map_err(failed("cannot create a file"))
    }

    fn fill(
        &self,
        from: BorrowedFd,
        file: &StagedFile,
        reading: &Reading,
        manner: Manner,
    ) -> Result<(Worth, (Lost, Option<u64>)), Stop> {
        let pair = self.pass.pair;
        let (source, pulse) = (&reading.source, self.pass.pulse);
        let copied = copy::contents(from, file.fd(), source, manner, pulse).map_err(fault)?;
        let lost = self.dress(from, file, source)?;
        let after = pair.source.stat(from).map_err(failed("cannot read the attributes"))?;
        // A link made or removed meanwhile moves the ctime, and what is read again then is still the file.
        let is_same = after.stamp() == source.stamp() && copied.bytes == source.size;
        let worth = if copied.is_clone && copy::clone_is_instant(file.fd()) {
            if is_same { Worth::Settled } else { Worth::Instant }
        } else if is_same && (!reading.racy || self.reads_alike(from, file, source)?) {
            Worth::Settled
        } else {
            Worth::Torn
        };
        if worth == Worth::Torn {
            trust::disempower(file.fd()).map_err(failed("cannot set the attributes"))?;
        }
        Ok((worth, lost))
    }

    /// Whether a second reading gives the same: what was read twice alike was so in between. The times of a file that has
    /// just been written do not tell: they move when a write begins, and it may be in progress still.
    ///
    /// RACE: a write that is interrupted for the whole of both readings is not noticed. Its end is an event.
    fn reads_alike(&self, from: BorrowedFd, file: &StagedFile, source: &Stat) -> Result<bool, Stop> {
        if source.size >= WORTH_A_BREATH {
            clock::wait(Duration::from_millis(1));
        }
        compare::same_contents(from, file.fd(), false, self.pass.pulse).map_err(fault)
    }

    /// Gives a staged file the attributes of the source's. Returns what was lost, and the hash of the extended ones.
    pub(super) fn dress(
        &self,
        from: BorrowedFd,
        file: &StagedFile,
        source: &Stat,
    ) -> Result<(Lost, Option<u64>), Stop> {
        let pair = self.pass.pair;
        let wanted =
            metadata::wanted_xattrs(from, &pair.rights).map_err(failed("cannot read the extended attributes"))?;
        let unset = failed("cannot set the attributes");
        let lost = if let (true, Some(born)) = (file.is_within(), self.pass.born()) {
            born.dress(file.fd(), source, &wanted, pair).map_err(unset)?
        } else {
            let now = pair.replica.stat(file.fd()).map_err(failed("cannot read the attributes"))?;
            metadata::apply(file.fd(), source, &wanted, (&now, None), &pair.rights).map_err(unset)?
        };
        Ok((lost, self.pass.hash_of(&wanted)))
    }

    pub(super) fn open_source(&self, node: &Node, job: &Job) -> Result<(OwnedFd, Reading), Stop> {
        let stat = |file: &OwnedFd| self.pass.pair.source.stat(file.as_fd());
        let (from, mut looked, mut source) = match job.opened.take() {
            // What was written to since has another stamp afterwards.
            Some(from) => (from, clock::now(), job.source),
            None => {
                let from = match open_file(node.source.as_fd(), &job.name) {
                    Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Stop::Changed),
                    done => done.map_err(failed("cannot open the source file"))?,
                };
                let looked = clock::now();
                let source = stat(&from).map_err(failed("cannot read the attributes"))?;
                (from, looked, source)
            }
        };
        let mut racy = clock::is_racy(source.ctime);
        if racy && source.size >= WORTH_WAITING {
            clock::wait(Duration::from_millis(20));
            looked = clock::now();
            source = stat(&from).map_err(failed("cannot read the attributes"))?;
            racy = clock::is_racy(source.ctime);
        }
        if source.kind != Kind::File || source.id() != job.source.id() {
            return Err(Stop::Changed);
        }
        Ok((from, Reading { source, looked, racy, extended: None, md5: None }))
    }
}

/// Whether a path's claim is released by the job or later, when it is published.
pub(super) enum Claim {
    Free,
    Kept,
}

/// Names what was tried, for a problem's reason.
pub fn failed(what: &'static str) -> impl Fn(Errno) -> Stop {
    move |error| Stop::Failed(what, error)
}

pub fn fault(fault: Fault) -> Stop {
    match fault {
        Fault::Read(error) => Stop::Failed("cannot read the source", error),
        Fault::Write(error) => Stop::Failed("cannot write the replica", error),
        Fault::Cancelled => Stop::Cancelled,
    }
}
