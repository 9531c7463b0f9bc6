//! Owns what is done to one file: built unseen, given its attributes, brought to disk with others, and published; or
//! looked at closely and found equal. A file that changes while it is read is read again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::folders::{Node, complete};
use super::walk::Worker;
use crate::fs::copy::{self, Fault};
use crate::fs::disk::Disk;
use crate::fs::metadata::{self, Xattrs};
use crate::fs::remove::{ensure_writable, make_writable};
use crate::fs::root::open_file;
use crate::fs::stage::{Published, StagedFile};
use crate::fs::{compare, metadata::Lost};
use crate::plan::mirror::{Compare, Contents, Step};
use crate::service::clock;
use crate::tree::doubt::{Doubt, Moment};
use crate::tree::entry::{Kind, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

/// One entry that is no folder, and what was decided for it.
pub struct Job {
    pub name: Box<[u8]>,
    pub step: Step,
    pub source: Stat,
    pub replica: Option<Stat>,
    /// Whether anything but attributes and names may have changed.
    pub contents_in_doubt: bool,
}

/// A file that is built and waits to be brought to disk and published.
pub struct Ready {
    node: Arc<Node>,
    name: Box<[u8]>,
    file: StagedFile,
    expected: Option<Stat>,
    reading: Reading,
}

/// One reading of a source file.
#[derive(Clone, Copy)]
struct Reading {
    source: Stat,
    looked: Moment,
    racy: bool,
    /// It changed during every reading.
    uncertain: bool,
}

/// Why a job did not come to its end.
pub enum Stop {
    /// The disk does not show any more what the plan was made from.
    Changed,
    Cancelled,
    Failed(&'static str, Errno),
}

/// As many files, or bytes, wait to be brought to disk together at most.
const GROUP: usize = 128;
const GROUP_BYTES: u64 = 64 << 20;
/// A file that changes while it is read is read as often as this.
const READINGS: u32 = 3;
/// A file of this size is not begun within the grain of its ctime: it would have to be compared again later.
const WORTH_WAITING: u64 = 1 << 20;

impl Worker<'_> {
    /// Does one job, or puts it back into doubt, or reports why it cannot be done.
    pub fn job(&mut self, node: &Arc<Node>, job: Job) {
        let path = node.path.join(&job.name);
        if self.pass.is_full.load(Ordering::Relaxed) {
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        if !self.pass.claim(&path) {
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        if !node.is_in_place(self.pass) {
            self.pass.release(&path);
            return self.pass.again(&path, Doubt::contents(clock::now()));
        }
        let result = match (job.source.kind, job.step) {
            (Kind::File, Step::Examine(contents)) => self.examine(node, &path, &job, contents),
            (Kind::File, _) => self.copy(node, &path, &job, job.replica),
            _ => self.special(node, &path, &job).map(|()| Claim::Free),
        };
        match result {
            Ok(Claim::Kept) => return,
            Ok(Claim::Free) => {}
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

    fn copy(&mut self, node: &Arc<Node>, path: &RelPath, job: &Job, expected: Option<Stat>) -> Result<Claim, Stop> {
        let pair = self.pass.pair;
        if pair.options.dry_run {
            let is_update = expected.is_some_and(|old| old.kind == Kind::File);
            let operation = if is_update { Operation::FileUpdated } else { Operation::FileCopied };
            self.pass.replaced(path, expected.as_ref(), Kind::File);
            pair.report(operation, path);
            self.count_file(operation, job.source.size);
            node.touch(self.pass);
            return Ok(Claim::Free);
        }
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        if pair.options.durable && self.disk.is_none() {
            self.disk = Some(Disk::open(&pair.replica).map_err(failed("cannot open the replica"))?);
        }
        if expected.is_some() && !pair.rights.are_full() {
            ensure_writable(folder);
        }
        let mut reading = 0;
        loop {
            reading += 1;
            let (file, source) = match self.read_once(node, folder, job, expected.is_none()) {
                Ok((file, source, coherent)) if coherent || reading >= READINGS => {
                    (file, Reading { uncertain: !coherent, ..source })
                }
                Ok((file, ..)) => {
                    file.discard(&pair.replica);
                    std::thread::park_timeout(Duration::from_millis(4 << reading));
                    continue;
                }
                Err(stop) => return Err(stop),
            };
            let ready = Ready { node: node.clone(), name: job.name.clone(), file, expected, reading: source };
            if !pair.options.durable {
                self.publish(ready);
                return Ok(Claim::Kept);
            }
            node.hold();
            self.ready_bytes += source.source.size;
            self.ready.push(ready);
            if self.ready.len() >= GROUP || self.ready_bytes >= GROUP_BYTES {
                self.publish_ready();
            }
            return Ok(Claim::Kept);
        }
    }

    /// Reads the file once into a staged one. Returns also whether it stayed as it was meanwhile.
    fn read_once(
        &self,
        node: &Node,
        folder: BorrowedFd,
        job: &Job,
        new: bool,
    ) -> Result<(StagedFile, Reading, bool), Stop> {
        let pair = self.pass.pair;
        let (from, reading) = self.open_source(node, job)?;
        let file = match pair.stage.file(&pair.replica, folder, new) {
            Err(Errno::ACCESS) => make_writable(folder).and_then(|()| pair.stage.file(&pair.replica, folder, new)),
            done => done,
        }
        .map_err(failed("cannot create a file"))?;
        match self.fill(from.as_fd(), &file, &reading) {
            Ok((coherent, lost)) => {
                pair.report_lost(lost, &node.path.join(&job.name));
                Ok((file, reading, coherent))
            }
            Err(stop) => {
                file.discard(&pair.replica);
                Err(stop)
            }
        }
    }

    fn fill(&self, from: BorrowedFd, file: &StagedFile, reading: &Reading) -> Result<(bool, Lost), Stop> {
        let pair = self.pass.pair;
        let source = &reading.source;
        let copied =
            copy::contents(from, file.fd(), source.size, source.is_sparse(), &pair.abilities, self.pass.cancel)
                .map_err(fault)?;
        let wanted = metadata::xattrs(from).map_err(failed("cannot read the extended attributes"))?;
        let now = pair.replica.stat(file.fd()).map_err(failed("cannot read the attributes"))?;
        let lost = metadata::apply(file.fd(), source, &wanted, &now, &pair.rights)
            .map_err(failed("cannot set the attributes"))?;
        let after = pair.source.stat(from).map_err(failed("cannot read the attributes"))?;
        // A link made or removed meanwhile moves the ctime, and what is read again then is still the file.
        let coherent = after.stamp() == source.stamp() && copied == source.size;
        Ok((coherent, lost))
    }

    fn open_source(&self, node: &Node, job: &Job) -> Result<(OwnedFd, Reading), Stop> {
        let from = match open_file(node.source.as_fd(), &job.name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Stop::Changed),
            done => done.map_err(failed("cannot open the source file"))?,
        };
        let mut looked = clock::now();
        let mut source = self.pass.pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
        let mut racy = clock::is_racy(source.ctime);
        if racy && source.size >= WORTH_WAITING {
            std::thread::park_timeout(Duration::from_millis(20));
            looked = clock::now();
            source = self.pass.pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
            racy = clock::is_racy(source.ctime);
        }
        if source.kind != Kind::File || source.id() != job.source.id() {
            return Err(Stop::Changed);
        }
        Ok((from, Reading { source, looked, racy, uncertain: false }))
    }

    /// Brings all that is built to disk together, then publishes it.
    pub fn publish_ready(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        self.ready_bytes = 0;
        let synced = if self.pass.is_cancelled() {
            // A disk that is busy could take longer than a stop may.
            Err(Errno::CANCELED)
        } else {
            let disk = self.disk.as_ref().ok_or(Errno::BADF);
            disk.and_then(|disk| disk.bring(ready.iter().map(|r| r.file.fd())))
        };
        for ready in ready {
            let node = ready.node.clone();
            match synced {
                Ok(()) => self.publish(ready),
                // What a failed sync has not written is gone from memory too: the copy is thrown away and made anew.
                Err(error) => {
                    let path = node.path.join(&ready.name);
                    ready.file.discard(&self.pass.pair.replica);
                    if error != Errno::CANCELED {
                        self.pass.failed(&path, "cannot bring the copy to disk", error);
                    }
                    self.pass.release(&path);
                }
            }
            complete(self.pass, node, &mut self.totals);
        }
    }

    fn publish(&mut self, ready: Ready) {
        let pair = self.pass.pair;
        let Ready { node, name, file, expected, reading } = ready;
        let path = node.path.join(&name);
        let result = node
            .replica()
            .and_then(|folder| pair.stage.publish_file(&pair.replica, file, folder, &name, expected.as_ref()))
            .and_then(|(published, fd)| Ok((published, pair.replica.stat(fd.as_fd())?)));
        match result {
            Ok((Published::Yes, replica)) => {
                node.touch(self.pass);
                self.pass.replaced(&path, expected.as_ref(), Kind::File);
                let operation = match expected {
                    Some(old) if old.kind == Kind::File => Operation::FileUpdated,
                    _ => Operation::FileCopied,
                };
                pair.report(operation, &path);
                self.count_file(operation, reading.source.size);
                if reading.uncertain {
                    self.pass.uncertain(&path);
                } else {
                    self.agree(&node, &path, &name, &reading, &replica, false);
                }
            }
            Ok((Published::Changed, _)) => self.pass.again(&path, Doubt::contents(clock::now())),
            Err(error) => self.pass.failed(&path, "cannot publish the copy", error),
        }
        self.pass.release(&path);
    }

    fn count_file(&mut self, operation: Operation, bytes: u64) {
        match operation {
            Operation::FileUpdated => self.totals.files_updated += 1,
            _ => self.totals.files_copied += 1,
        }
        self.totals.bytes += bytes;
    }

    fn agree(&self, node: &Node, path: &RelPath, name: &[u8], reading: &Reading, replica: &Stat, provisional: bool) {
        let (source, replica_stamp) = (reading.source.stamp(), replica.stamp());
        let Reading { looked, racy, .. } = *reading;
        node.change(name, Some(Agreed { source, replica: replica_stamp, racy, looked, provisional }));
        if reading.source.is_linked() || replica.is_linked() {
            self.pass.note_links(path, &reading.source, replica);
        }
    }

    /// Looks closely at a file that may be equal; makes it so where it is not.
    fn examine(&mut self, node: &Arc<Node>, path: &RelPath, job: &Job, contents: Contents) -> Result<Claim, Stop> {
        let pair = self.pass.pair;
        let (from, reading) = self.open_source(node, job)?;
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let to = match open_file(folder, &job.name) {
            Err(Errno::ACCESS) if !pair.options.dry_run => metadata::open_for_change(folder, &job.name, Kind::File),
            done => done,
        };
        let to = match to {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(Stop::Changed),
            done => done.map_err(failed("cannot open the replica's file"))?,
        };
        let replica = pair.replica.stat(to.as_fd()).map_err(failed("cannot read the attributes"))?;
        if Some(replica.id()) != job.replica.map(|r| r.id()) {
            return Err(Stop::Changed);
        }
        if contents == Contents::Compare && !self.same_contents(from.as_fd(), to.as_fd(), &reading, &replica)? {
            return self.copy(node, path, job, Some(replica));
        }
        let wanted = metadata::xattrs(from.as_fd()).map_err(failed("cannot read the extended attributes"))?;
        let after = pair.source.stat(from.as_fd()).map_err(failed("cannot read the attributes"))?;
        if after.stamp() != reading.source.stamp() {
            return Err(Stop::Changed);
        }
        let replica = self.set_attributes(path, to.as_fd(), &reading.source, &wanted, replica)?;
        if let Some(replica) = replica {
            self.agree(node, path, &job.name, &reading, &replica, contents == Contents::Explained);
        }
        Ok(Claim::Free)
    }

    fn same_contents(&self, from: BorrowedFd, to: BorrowedFd, reading: &Reading, replica: &Stat) -> Result<bool, Stop> {
        let cancel = self.pass.cancel;
        if reading.source.size != replica.size {
            return Ok(false);
        }
        if self.pass.pair.options.compare == Compare::Contents {
            let digest = |fd| compare::md5(fd, cancel).map_err(fault);
            return Ok(digest(from)? == digest(to)?);
        }
        let sparse = reading.source.is_sparse() && replica.is_sparse();
        compare::same_contents(from, to, sparse, cancel).map_err(fault)
    }

    /// Makes the attributes equal. Returns the stat afterwards, nothing in a dry run.
    fn set_attributes(
        &mut self,
        path: &RelPath,
        to: BorrowedFd,
        source: &Stat,
        wanted: &Xattrs,
        replica: Stat,
    ) -> Result<Option<Stat>, Stop> {
        let pair = self.pass.pair;
        let have = metadata::xattrs(to).map_err(failed("cannot read the extended attributes"))?;
        if metadata::same_stat(source, &replica, &pair.rights) && have == *wanted {
            return Ok((!pair.options.dry_run).then_some(replica));
        }
        pair.report(Operation::MetadataUpdated, path);
        self.totals.metadata += 1;
        if pair.options.dry_run {
            return Ok(None);
        }
        let lost =
            metadata::apply(to, source, wanted, &replica, &pair.rights).map_err(failed("cannot set the attributes"))?;
        pair.report_lost(lost, path);
        pair.replica.stat(to).map(Some).map_err(failed("cannot read the attributes"))
    }
}

/// Whether a path's claim is released by the job or later, when it is published.
enum Claim {
    Free,
    Kept,
}

/// Names what was tried, for a problem's reason.
pub fn failed(what: &'static str) -> impl Fn(Errno) -> Stop {
    move |error| Stop::Failed(what, error)
}

fn fault(fault: Fault) -> Stop {
    match fault {
        Fault::Read(error) => Stop::Failed("cannot read the source", error),
        Fault::Write(error) => Stop::Failed("cannot write the replica", error),
        Fault::Cancelled => Stop::Cancelled,
    }
}
