//! Owns the walk of both trees in step, depth first and without recursion: folders are listed here, what they hold is
//! compared by workers, and the results are taken in the order of the walk. It keeps the names of folders that are
//! still to be visited and the units that are being compared, and nothing else of the tree.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::io::Errno;

use super::Verify;
use super::entry::{Difference, Finding, Folder, Row, Side, examine, examine_folder, look};
use super::report::Report;
use crate::fs::pulse::Pulse;
use crate::fs::root::Root;
use crate::fs::{sandbox, scan, volume};
use crate::service::pass::describe;
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::listing::{Listing, merge};
use crate::tree::path::RelPath;

/// As many entries, or bytes, are compared by one worker in one go.
const UNIT: usize = 64;
const UNIT_BYTES: u64 = 8 << 20;
/// As many units a worker are on their way at most; each may keep two folders open.
const AHEAD: usize = 2;

/// Entries of one folder that are compared together, and where the result goes.
struct Unit {
    folder: Arc<Folder>,
    rows: Vec<Row>,
    done: Sender<Vec<Finding>>,
}

/// A folder that is still to be visited.
struct Below {
    name: Box<[u8]>,
    in_source: bool,
    in_replica: bool,
    /// Another mount that is not to be entered: only its own attributes count.
    is_edge: bool,
}

/// Compares both trees. Ends early, without an error, when `pulse` says stop.
///
/// # Errors
/// The result cannot be printed.
pub fn run(verify: &Verify, jobs: usize, report: &mut Report, pulse: &Pulse) -> io::Result<()> {
    let (units, queue) = unbounded();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .filter_map(|_| {
                let queue = queue.clone();
                let work = move || work(verify, &queue, pulse);
                thread::Builder::new().name("verify".into()).spawn_scoped(scope, work).ok()
            })
            .collect();
        let window = threads.len() * AHEAD;
        let mut walk = Walk { verify, report, pulse, units, window, ahead: VecDeque::new() };
        let result = walk.tree();
        if result.is_err() {
            pulse.stop();
        }
        // Without the sending end the workers end too.
        drop(walk);
        for thread in threads {
            // What a worker that panicked left unsaid was reported when its result was waited for.
            let _ = thread.join();
        }
        result
    })
}

fn work(verify: &Verify, queue: &Receiver<Unit>, pulse: &Pulse) {
    // Where the kernel cannot, nothing is lost but a second wall.
    sandbox::confine(&[&verify.source, &verify.replica], &[]);
    for Unit { folder, rows, done } in queue {
        if pulse.is_stopped() {
            continue;
        }
        // Nobody waits for it any more where the walk has ended early.
        let _ = done.send(compare(verify, &folder, &rows, pulse));
    }
}

fn compare(verify: &Verify, folder: &Folder, rows: &[Row], pulse: &Pulse) -> Vec<Finding> {
    rows.iter().map_while(|row| examine(verify, folder, row, pulse)).collect()
}

struct Walk<'a, 'b> {
    verify: &'a Verify,
    report: &'a mut Report<'b>,
    pulse: &'a Pulse,
    units: Sender<Unit>,
    window: usize,
    /// In the order of the walk.
    ahead: VecDeque<(RelPath, Receiver<Vec<Finding>>)>,
}

impl Walk<'_, '_> {
    fn tree(&mut self) -> io::Result<()> {
        let root = Below { name: Box::default(), in_source: true, in_replica: true, is_edge: false };
        let mut at = RelPath::root();
        let mut levels = vec![self.visit(&at, &root)?];
        // Of each level only what is still to be visited is kept, the next one last.
        while let Some(level) = levels.last_mut() {
            if self.pulse.is_stopped() {
                return Ok(());
            }
            if let Some(next) = level.pop() {
                at = at.join(&next.name);
                levels.push(self.visit(&at, &next)?);
            } else {
                levels.pop();
                at = at.split().map_or_else(RelPath::root, |(parent, _)| parent);
            }
        }
        while !self.ahead.is_empty() {
            self.take_one()?;
        }
        Ok(())
    }

    /// Looks at a folder and hands on what it holds. Returns the folders below it, the first one last.
    fn visit(&mut self, path: &RelPath, below: &Below) -> io::Result<Vec<Below>> {
        let Some(folder) = self.open(path, below)? else { return Ok(Vec::new()) };
        let folder = Arc::new(folder);
        if let Some(finding) = examine_folder(self.verify, &folder, self.pulse) {
            self.hand_on_ready(finding)?;
        }
        if below.is_edge {
            return Ok(Vec::new());
        }
        let list = |side, root, fd: &Option<OwnedFd>| match fd {
            Some(fd) => scan::list(root, fd.as_fd()).map_err(|error| (side, error)),
            None => Ok(Listing::default()),
        };
        let listed = list(Side::Source, &self.verify.source, &folder.source)
            .and_then(|source| Ok((source, list(Side::Replica, &self.verify.replica, &folder.replica)?)));
        match listed {
            Ok((source, replica)) => self.hold_against(&folder, &source, &replica),
            Err((side, error)) => {
                self.hand_on_ready(Finding::unreadable(path.clone(), side, describe(error)))?;
                Ok(Vec::new())
            }
        }
    }

    fn hold_against(&mut self, folder: &Arc<Folder>, source: &Listing, replica: &Listing) -> io::Result<Vec<Below>> {
        let (mut rows, mut bytes, mut folders) = (Vec::new(), 0u64, Vec::new());
        let is_edge = self.edges(folder);
        for (name, mut source, mut replica) in merge(source, replica) {
            let is_folder = |seen: Seen| seen.stat().is_some_and(|s| s.kind == Kind::Directory);
            let of_a_folder = is_folder(if source == Seen::Absent { replica } else { source });
            let path = folder.path.join(name);
            if self.verify.exclude.skips(&path, of_a_folder) || volume::is_reserved(&self.verify.replica, &path) {
                continue;
            }
            if source.stat().map(|s| s.kind) != replica.stat().map(|s| s.kind) {
                // One side was listed after the other: beside a running service that alone can be the difference.
                (source, replica) = look(self.verify, folder, name);
                if (source, replica) == (Seen::Absent, Seen::Absent) {
                    continue;
                }
            }
            self.report.count_entry();
            let (in_source, in_replica) = (is_folder(source), is_folder(replica));
            if in_source || in_replica {
                let is_edge = [source, replica].iter().filter_map(|seen| seen.stat()).any(&is_edge);
                folders.push(Below { name: name.into(), in_source, in_replica, is_edge });
            }
            if in_source && in_replica {
                continue;
            }
            bytes = bytes.saturating_add(source.stat().map_or(0, |s| s.size));
            rows.push(Row { name: name.into(), source, replica });
            if rows.len() >= UNIT || bytes >= UNIT_BYTES {
                self.hand_on(folder, std::mem::take(&mut rows))?;
                bytes = 0;
            }
        }
        self.hand_on(folder, rows)?;
        folders.reverse();
        Ok(folders)
    }

    /// Tells which folders in a folder are other mounts that are not to be entered.
    fn edges(&self, folder: &Folder) -> impl Fn(&Stat) -> bool + use<> {
        let device = match (&folder.source, &folder.replica) {
            (Some(fd), _) => self.verify.source.stat(fd.as_fd()),
            (None, Some(fd)) => self.verify.replica.stat(fd.as_fd()),
            (None, None) => Err(Errno::NOENT),
        }
        .map(|stat| stat.dev);
        let one_file_system = self.verify.one_file_system;
        move |stat| one_file_system && device.is_ok_and(|device| device != stat.dev)
    }

    /// Opens a folder where it exists. `None`: it could not be, which has been said.
    fn open(&mut self, path: &RelPath, below: &Below) -> io::Result<Option<Folder>> {
        let verify = self.verify;
        let open = || {
            let of = |root: &Root, is_there: bool| is_there.then(|| root.open_folder(path)).transpose();
            Ok((
                of(&verify.source, below.in_source).map_err(|error| (Side::Source, error))?,
                of(&verify.replica, below.in_replica).map_err(|error| (Side::Replica, error))?,
            ))
        };
        let mut opened = open();
        if matches!(opened, Err((_, Errno::MFILE | Errno::NFILE))) {
            // The units on their way hold descriptors, too.
            while !self.ahead.is_empty() {
                self.take_one()?;
            }
            opened = open();
        }
        let (side, error) = match opened {
            Ok((source, replica)) => return Ok(Some(Folder { path: path.clone(), source, replica })),
            Err(failed) => failed,
        };
        let is_gone = |seen: Result<Seen, Errno>| matches!(seen, Ok(Seen::Absent));
        let gone = (is_gone(verify.source.look_at(path)), is_gone(verify.replica.look_at(path)));
        let mut finding = Finding::new(path.clone());
        match gone {
            (true, true) => return Ok(None),
            // One that was there on one side only has its line already.
            (false, true) if below.in_source && below.in_replica => finding.differences.push(Difference::Missing),
            (true, false) if below.in_source && below.in_replica => finding.differences.push(Difference::Extra),
            _ => finding.differences.push(Difference::Unreadable(side, describe(error))),
        }
        self.hand_on_ready(finding)?;
        Ok(None)
    }

    fn hand_on(&mut self, folder: &Arc<Folder>, rows: Vec<Row>) -> io::Result<()> {
        if rows.is_empty() || self.pulse.is_stopped() {
            return Ok(());
        }
        if self.window == 0 {
            // No thread could be started: it is done here, after what waits to be said.
            self.take_one()?;
            let findings = compare(self.verify, folder, &rows, self.pulse);
            return findings.into_iter().try_for_each(|finding| self.report.take(finding));
        }
        let done = self.queue(&folder.path)?;
        // It fails when no worker is left; then the result never comes, which is noticed when it is waited for.
        let _ = self.units.send(Unit { folder: folder.clone(), rows, done });
        Ok(())
    }

    /// Takes its turn with what is being compared, though it is ready.
    fn hand_on_ready(&mut self, finding: Finding) -> io::Result<()> {
        if finding.differences.is_empty() {
            return Ok(());
        }
        let done = self.queue(&finding.path)?;
        let _ = done.send(vec![finding]);
        Ok(())
    }

    /// Gives a result its place in the order of the walk, when there is room.
    fn queue(&mut self, path: &RelPath) -> io::Result<Sender<Vec<Finding>>> {
        while self.ahead.len() >= self.window.max(1) {
            self.take_one()?;
        }
        let (done, result) = bounded(1);
        self.ahead.push_back((path.clone(), result));
        Ok(done)
    }

    /// Waits for the result that is next in the order of the walk.
    fn take_one(&mut self) -> io::Result<()> {
        let Some((path, result)) = self.ahead.pop_front() else { return Ok(()) };
        match result.recv() {
            Ok(findings) => findings.into_iter().try_for_each(|finding| self.report.take(finding)),
            Err(_) if self.pulse.is_stopped() => Ok(()),
            Err(_) => {
                let reason = "comparing what is in it ended unexpectedly".into();
                self.report.take(Finding::unreadable(path, Side::Source, reason))
            }
        }
    }
}
