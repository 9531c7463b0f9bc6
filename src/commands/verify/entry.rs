//! Owns the comparison of one entry: what stands on both sides of a name, and every way in which it differs. It lists
//! nothing, descends nowhere and prints nothing. What changes meanwhile is compared again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs;
use rustix::io::Errno;

use super::Verify;
use super::attributes::{attributes, extended};
use crate::fs::compare;
use crate::fs::copy::Fault;
use crate::fs::metadata;
use crate::fs::pulse::Pulse;
use crate::fs::root::{Root, open_file};
use crate::service::clock;
use crate::service::pass::describe;
use crate::tree::entry::{InodeId, Kind, Seen, Stat};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// What changes while it is compared is compared as often as this.
const READINGS: u32 = 3;

/// A folder of the tree, open where it exists.
pub struct Folder {
    pub path: RelPath,
    pub source: Option<OwnedFd>,
    pub replica: Option<OwnedFd>,
}

/// One name in a folder, and what listing it has shown.
pub struct Row {
    pub name: Box<[u8]>,
    pub source: Seen,
    pub replica: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Replica,
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    Missing,
    Extra,
    /// The aspect that differs, and both values where they are wanted.
    Differs(&'static str, Option<String>),
    Unreadable(Side, String),
}

/// What came of one entry.
pub struct Finding {
    pub path: RelPath,
    pub differences: Vec<Difference>,
    /// Source and replica, where one of them has several names.
    pub linked: Option<(InodeId, InodeId)>,
    pub digest: Option<[u8; 16]>,
    /// As many bytes of the source were compared.
    pub bytes: u64,
}

impl Finding {
    pub fn new(path: RelPath) -> Self {
        Self { path, differences: Vec::new(), linked: None, digest: None, bytes: 0 }
    }

    pub fn unreadable(path: RelPath, side: Side, reason: String) -> Self {
        let mut finding = Self::new(path);
        finding.differences.push(Difference::Unreadable(side, reason));
        finding
    }

    pub fn differs(&mut self, what: &'static str, detail: Option<String>) {
        self.differences.push(Difference::Differs(what, detail));
    }

    pub fn failed(&mut self, side: Side, error: Errno) {
        self.differences.push(Difference::Unreadable(side, describe(error)));
    }
}

/// Why a comparison says nothing.
enum Stop {
    Changed,
    Cancelled,
}

/// Compares one entry that is a folder on neither side, or not on both. `None` when `pulse` said stop.
pub fn examine(verify: &Verify, folder: &Folder, row: &Row, pulse: &Pulse) -> Option<Finding> {
    let path = folder.path.join(&row.name);
    again_while_it_changes(&path, pulse, |reading| {
        let (source, replica) = if reading == 0 { (row.source, row.replica) } else { look(verify, folder, &row.name) };
        let mut finding = Finding::new(path.clone());
        match (source, replica) {
            (Seen::Absent, Seen::Absent) => {}
            (Seen::Unknown, _) => finding.failed(Side::Source, why_unknown(&folder.source, &row.name)),
            (_, Seen::Unknown) => finding.failed(Side::Replica, why_unknown(&folder.replica, &row.name)),
            (Seen::Absent, Seen::Present(_)) => finding.differences.push(Difference::Extra),
            (Seen::Present(source), Seen::Absent) => {
                finding.differences.push(Difference::Missing);
                one_sided_digest(verify, folder, row, &source, &mut finding, pulse)?;
            }
            (Seen::Present(source), Seen::Present(replica)) if source.kind != replica.kind => {
                let detail = format!("{}, not {}", kind_word(replica.kind), kind_word(source.kind));
                finding.differs("type", verify.details.then_some(detail));
                one_sided_digest(verify, folder, row, &source, &mut finding, pulse)?;
            }
            (Seen::Present(source), Seen::Present(replica)) => match source.kind {
                Kind::Directory => return Err(Stop::Changed),
                Kind::File => file(verify, folder, row, (source, replica), &mut finding, pulse)?,
                _ => special(verify, folder, row, (source, replica), &mut finding)?,
            },
        }
        Ok(finding)
    })
}

/// Compares the attributes of a folder that is open on both sides. `None` when `pulse` said stop.
pub fn examine_folder(verify: &Verify, folder: &Folder, pulse: &Pulse) -> Option<Finding> {
    let (Some(source), Some(replica)) = (&folder.source, &folder.replica) else {
        return Some(Finding::new(folder.path.clone()));
    };
    again_while_it_changes(&folder.path, pulse, |_| {
        let mut finding = Finding::new(folder.path.clone());
        let stats = || (verify.source.stat(source.as_fd()), verify.replica.stat(replica.as_fd()));
        let (before, other) = match stats() {
            (Ok(before), Ok(other)) => (before, other),
            (Err(error), _) => return Ok(Finding::unreadable(folder.path.clone(), Side::Source, describe(error))),
            (_, Err(error)) => return Ok(Finding::unreadable(folder.path.clone(), Side::Replica, describe(error))),
        };
        attributes(verify, &before, &other, &mut finding);
        let read = (metadata::xattrs(source.as_fd()), metadata::xattrs(replica.as_fd()));
        extended(verify, (&before, &other), read, &mut finding);
        let is_same = |(a, b): (Result<Stat, _>, Result<Stat, _>)| {
            a.is_ok_and(|a| a.stamp() == before.stamp()) && b.is_ok_and(|b| b.stamp() == other.stamp())
        };
        if finding.differences.is_empty() || is_same(stats()) { Ok(finding) } else { Err(Stop::Changed) }
    })
}

/// Looks at a name on both sides once more.
pub fn look(verify: &Verify, folder: &Folder, name: &[u8]) -> (Seen, Seen) {
    let look = |root: &Root, fd: &Option<OwnedFd>| match fd {
        Some(fd) => root.look(fd.as_fd(), name).unwrap_or(Seen::Unknown),
        None => Seen::Absent,
    };
    (look(&verify.source, &folder.source), look(&verify.replica, &folder.replica))
}

fn again_while_it_changes(
    path: &RelPath,
    pulse: &Pulse,
    mut compare: impl FnMut(u32) -> Result<Finding, Stop>,
) -> Option<Finding> {
    for reading in 0..READINGS {
        if reading > 0 {
            clock::wait(Duration::from_millis(10 << reading));
        }
        if pulse.is_stopped() {
            return None;
        }
        match compare(reading) {
            Ok(finding) => return Some(finding),
            Err(Stop::Cancelled) => return None,
            Err(Stop::Changed) => {}
        }
    }
    let reason = format!("it changed during each of {READINGS} readings");
    Some(Finding::unreadable(path.clone(), Side::Source, reason))
}

fn file(
    verify: &Verify,
    folder: &Folder,
    row: &Row,
    listed: (Stat, Stat),
    finding: &mut Finding,
    pulse: &Pulse,
) -> Result<(), Stop> {
    let from = open(&folder.source, row, Side::Source, finding)?;
    let to = open(&folder.replica, row, Side::Replica, finding)?;
    let source = stat_of(&verify.source, &from, listed.0)?;
    let replica = stat_of(&verify.replica, &to, listed.1)?;
    attributes(verify, &source, &replica, finding);
    if source.size != replica.size {
        let detail = format!("{}, not {} bytes", replica.size, source.size);
        finding.differs("size", verify.details.then_some(detail));
    }
    if let (Some(from), Some(to)) = (&from, &to) {
        let (from, to) = (from.as_fd(), to.as_fd());
        extended(verify, (&source, &replica), (metadata::xattrs(from), metadata::xattrs(to)), finding);
        if source.size == replica.size {
            let sparse = source.is_sparse() && replica.is_sparse();
            match compare::same_contents(from, to, sparse, pulse) {
                Ok(true) => {}
                Ok(false) => finding.differs("contents", None),
                Err(fault) => faulty(fault, finding)?,
            }
            finding.bytes = source.size;
        }
    }
    if let Some(from) = &from {
        digest(verify, from.as_fd(), finding, pulse)?;
    }
    for (root, fd, before) in [(&verify.source, &from, &source), (&verify.replica, &to, &replica)] {
        // A file that another took the name of has lost a link, which moves its ctime too.
        if let Some(fd) = fd
            && root.stat(fd.as_fd()).is_ok_and(|now| now.stamp() != before.stamp())
        {
            return Err(Stop::Changed);
        }
    }
    Ok(())
}

/// Opens a file for reading; notes why that is not possible.
fn open(folder: &Option<OwnedFd>, row: &Row, side: Side, finding: &mut Finding) -> Result<Option<OwnedFd>, Stop> {
    let Some(folder) = folder else { return Ok(None) };
    match open_file(folder.as_fd(), &row.name) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Err(Stop::Changed),
        Err(error) => {
            finding.failed(side, error);
            Ok(None)
        }
    }
}

/// The stat of the open file; what the list has shown where it is not open.
fn stat_of(root: &Root, fd: &Option<OwnedFd>, listed: Stat) -> Result<Stat, Stop> {
    let Some(fd) = fd else { return Ok(listed) };
    let stat = root.stat(fd.as_fd()).map_err(|_| Stop::Changed)?;
    if stat.kind == Kind::File { Ok(stat) } else { Err(Stop::Changed) }
}

/// The digest of a source file that the replica has nothing to compare with.
fn one_sided_digest(
    verify: &Verify,
    folder: &Folder,
    row: &Row,
    listed: &Stat,
    finding: &mut Finding,
    pulse: &Pulse,
) -> Result<(), Stop> {
    if !verify.digests || listed.kind != Kind::File {
        return Ok(());
    }
    let Some(from) = open(&folder.source, row, Side::Source, finding)? else { return Ok(()) };
    let from = Some(from);
    let before = stat_of(&verify.source, &from, *listed)?;
    if let Some(from) = &from {
        digest(verify, from.as_fd(), finding, pulse)?;
    }
    if stat_of(&verify.source, &from, *listed)?.stamp() == before.stamp() { Ok(()) } else { Err(Stop::Changed) }
}

fn digest(verify: &Verify, from: BorrowedFd, finding: &mut Finding, pulse: &Pulse) -> Result<(), Stop> {
    let unread = finding.differences.iter().any(|d| matches!(d, Difference::Unreadable(Side::Source, _)));
    if verify.digests && !unread {
        match compare::md5(from, pulse) {
            Ok(digest) => finding.digest = Some(digest),
            Err(fault) => faulty(fault, finding)?,
        }
    }
    Ok(())
}

fn faulty(fault: Fault, finding: &mut Finding) -> Result<(), Stop> {
    match fault {
        Fault::Read(error) => finding.failed(Side::Source, error),
        Fault::Write(error) => finding.failed(Side::Replica, error),
        Fault::Cancelled => return Err(Stop::Cancelled),
    }
    Ok(())
}

/// Links, FIFOs, sockets and devices: all that they are is in the folder.
fn special(
    verify: &Verify,
    folder: &Folder,
    row: &Row,
    (source, replica): (Stat, Stat),
    finding: &mut Finding,
) -> Result<(), Stop> {
    let (Some(from), Some(to)) = (&folder.source, &folder.replica) else { return Err(Stop::Changed) };
    let (from, to) = (from.as_fd(), to.as_fd());
    attributes(verify, &source, &replica, finding);
    if matches!(source.kind, Kind::CharDevice | Kind::BlockDevice) && source.rdev != replica.rdev {
        let number = |rdev| format!("{}:{}", fs::major(rdev), fs::minor(rdev));
        let detail = format!("{}, not {}", number(replica.rdev), number(source.rdev));
        finding.differs("device", verify.details.then_some(detail));
    }
    if source.kind == Kind::Symlink {
        match (target(from, &row.name), target(to, &row.name)) {
            (Ok(a), Ok(b)) if a == b => {}
            (Ok(a), Ok(b)) => {
                let detail = || format!("{}, not {}", quoted(&b), quoted(&a));
                finding.differs("target", verify.details.then(detail));
            }
            (Err(error), _) => finding.failed(Side::Source, error),
            (_, Err(error)) => finding.failed(Side::Replica, error),
        }
    }
    let read = (metadata::xattrs_at(from, &row.name), metadata::xattrs_at(to, &row.name));
    extended(verify, (&source, &replica), read, finding);
    let stamp = |seen: Seen| seen.stat().map(Stat::stamp);
    let is_same = || {
        let (a, b) = look(verify, folder, &row.name);
        stamp(a) == Some(source.stamp()) && stamp(b) == Some(replica.stamp())
    };
    if finding.differences.is_empty() || is_same() { Ok(()) } else { Err(Stop::Changed) }
}

fn target(folder: BorrowedFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    fs::readlinkat(folder, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

fn why_unknown(folder: &Option<OwnedFd>, name: &[u8]) -> Errno {
    let Some(folder) = folder else { return Errno::NOENT };
    // RACE: readable by now; the line says that it could not be read, and the next run reads it.
    fs::statat(folder, name, fs::AtFlags::SYMLINK_NOFOLLOW).err().unwrap_or(Errno::AGAIN)
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a symbolic link",
        Kind::Fifo => "a FIFO",
        Kind::Socket => "a socket",
        Kind::CharDevice => "a character device",
        Kind::BlockDevice => "a block device",
    }
}
