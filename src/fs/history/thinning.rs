//! Owns the hands that thin out a history: the journal's files read as they are and written anew without some lines, what
//! is kept counted and removed. It works through descriptors of its own, beneath the reserved folder, and decides nothing.
//!
//! A file of the journal is first written anew and on disk, and then what its lines named is removed. Before, a mark is
//! set, and taken away in the end: where it is found, something may be kept that no line names (`orphans`).

mod kept;
pub mod orphans;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{History, reading};
use crate::fs::root::Root;
use crate::tree::history::Line;
pub use kept::Counted;
use kept::Kept;

/// What is written in the place of a file of the journal, until it is whole.
const NEW: &str = "thinning";
/// Something may be kept that no line names.
const MARK: &str = "unsettled";
/// Longer lines are taken in parts; there are none.
const LONGEST: u64 = 1 << 20;
/// A copy under the journal's lock is no longer than this.
const TAIL: u64 = 64 << 10;

/// Told of each step: nothing goes on after it has said no.
pub type Step<'a> = &'a mut dyn FnMut() -> bool;

/// What takes room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    /// On disk; of files with several names, those that were counted with them are not in it.
    pub bytes: u64,
    /// Of files with several names, what there is more room now.
    pub linked: u64,
}

impl Sum {
    /// What there is more room, in bytes, if this is what went.
    pub fn freed(self) -> u64 {
        self.bytes + self.linked
    }

    fn add(&mut self, gone: kept::Gone) {
        self.count += 1;
        self.bytes += gone.counted;
        self.linked += gone.freed - gone.counted;
    }
}

impl std::ops::Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (count, bytes) = (self.count + other.count, self.bytes + other.bytes);
        Self { count, bytes, linked: self.linked + other.linked }
    }
}

/// The folders of a history.
#[derive(Debug)]
pub struct Thinner {
    journal: OwnedFd,
    kept: Kept,
}

impl AsFd for Thinner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.journal.as_fd()
    }
}

/// The lines of a file of the journal as they are.
#[derive(Debug)]
pub struct Raw {
    reader: BufReader<std::fs::File>,
    /// Up to here is read.
    left: u64,
    text: Vec<u8>,
}

impl Raw {
    /// The next line, with its end where it has one.
    ///
    /// # Errors
    /// As of read(2).
    pub fn line(&mut self) -> Result<Option<&[u8]>, Errno> {
        self.text.clear();
        let limit = self.left.min(LONGEST);
        let read = std::io::Read::take(&mut self.reader, limit).read_until(b'\n', &mut self.text).map_err(errno)?;
        self.left -= read as u64;
        Ok((read > 0).then_some(&self.text))
    }

    /// From the beginning again, up to here.
    fn again(mut self, upto: u64) -> Result<Self, Errno> {
        self.reader.rewind().map_err(errno)?;
        Ok(Self { left: upto, ..self })
    }
}

/// What a line says, if it can be read.
pub fn decoded(raw: &[u8]) -> Option<Line> {
    Line::decode(raw.strip_suffix(b"\n").unwrap_or(raw))
}

/// The word of a line, without a look at the rest.
pub fn word(raw: &[u8]) -> &[u8] {
    raw.split(|byte| *byte == b'\t').nth(1).unwrap_or_default()
}

/// A file of the journal that is to be written anew.
#[derive(Debug)]
pub struct Rewrite<'a, F> {
    pub name: &'a str,
    /// Lines are still added to it.
    pub is_current: bool,
    /// As far as the file is decided on, in bytes.
    pub upto: u64,
    /// What comes new, before the line of this number.
    pub new: BTreeMap<u32, Line>,
    /// Whether the line of this number goes.
    pub goes: F,
}

impl Thinner {
    /// Opens the folders of the history that a replica has.
    ///
    /// # Errors
    /// As of openat(2): ENOENT where there is none.
    pub fn open(replica: &Root) -> Result<Self, Errno> {
        Ok(Self { journal: reading::folder(replica)?, kept: Kept::new(reading::versions(replica)?) })
    }

    /// The journal's files, oldest first, each with its size in bytes.
    ///
    /// # Errors
    /// As of getdents(2) and stat(2).
    pub fn segments(&self) -> Result<Vec<(String, u64)>, Errno> {
        let names = reading::segments(self.journal.as_fd())?;
        names.into_iter().map(|name| self.size(&name).map(|size| (name, size))).collect()
    }

    /// The size of one of them.
    ///
    /// # Errors
    /// As of stat(2).
    pub fn size(&self, name: &str) -> Result<u64, Errno> {
        let stat = fs::statat(&self.journal, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Reads one of them between these two places.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn read(&self, name: &str, from: u64, upto: u64) -> Result<Raw, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(fs::openat(&self.journal, name, flags, Mode::empty())?);
        if from > 0 {
            file.seek(std::io::SeekFrom::Start(from)).map_err(errno)?;
        }
        let reader = BufReader::with_capacity(64 << 10, file);
        Ok(Raw { reader, left: upto.saturating_sub(from), text: Vec::new() })
    }

    /// Counts what a line keeps; nothing where it is not there.
    pub fn count(&mut self, line: &Line) -> Option<Counted> {
        self.kept.count(line.event.kept()?)
    }

    /// The room that there would be without what a line keeps, in bytes; nothing where it is not there.
    pub fn measure(&mut self, line: &Line) -> Option<u64> {
        self.kept.measure(line.event.kept()?)
    }

    /// Looks once more at those of several names that were counted last.
    pub fn look_again(&mut self) {
        self.kept.look_again();
    }

    /// What was counted and is in no sum, in bytes: files with several names that are all kept.
    pub fn linked(&self) -> u64 {
        self.kept.linked()
    }

    /// Nothing is counted any more.
    pub fn forget(&mut self) {
        self.kept.forget();
    }

    /// Writes a file of the journal anew, without the lines that go, and then removes what they kept. Returns what was
    /// removed, and how much of the file is decided on.
    ///
    /// Lines that are in memory yet find the new file by its name.
    ///
    /// # Errors
    /// As of the calls on files; ECANCELED where `step` said no: what was not removed by then, `orphans` finds.
    pub fn rewrite(
        &mut self,
        history: &History,
        order: &Rewrite<impl Fn(u32) -> bool>,
        step: Step,
    ) -> Result<(Sum, u64), Errno> {
        self.mark()?;
        let result = self.write_anew(history, order, step);
        if result.is_err() {
            let _ = fs::unlinkat(&self.journal, NEW, AtFlags::empty());
        }
        let (old, decided) = result?;
        let gone = self.remove_kept(old, &order.goes, step)?;
        self.unmark();
        Ok((gone, decided))
    }

    fn write_anew(
        &self,
        history: &History,
        order: &Rewrite<impl Fn(u32) -> bool>,
        step: Step,
    ) -> Result<(Raw, u64), Errno> {
        let mut old = self.read(order.name, 0, order.upto)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = std::fs::File::from(fs::openat(&self.journal, NEW, flags, Mode::from_raw_mode(0o600))?);
        let mut new = BufWriter::with_capacity(64 << 10, file);
        let mut number = 0;
        let mut come = order.new.iter().peekable();
        while let Some(line) = old.line()? {
            while let Some((_, line)) = come.next_if(|(before, _)| **before <= number) {
                write_line(&mut new, line)?;
            }
            if !(order.goes)(number) {
                new.write_all(line).map_err(errno)?;
            }
            number += 1;
            going_on(step)?;
        }
        come.try_for_each(|(_, line)| write_line(&mut new, line))?;
        new.flush().map_err(errno)?;
        let decided = u64::try_from(fs::fstat(new.get_ref())?.st_size).unwrap_or(0);
        let mut copied = order.upto;
        if order.is_current {
            // What comes meanwhile is added outside of the lock, as far as it can be.
            loop {
                let size = self.size(order.name)?;
                if size.saturating_sub(copied) <= TAIL {
                    break;
                }
                copied = self.copy_tail(order.name, (copied, size), &mut new)?;
                going_on(step)?;
            }
        }
        new.flush().map_err(errno)?;
        fs::fsync(new.get_ref())?;
        let journal = order.is_current.then(|| history.journal());
        if journal.is_some() {
            let size = self.size(order.name)?;
            if size > copied {
                self.copy_tail(order.name, (copied, size), &mut new)?;
                new.flush().map_err(errno)?;
                fs::fdatasync(new.get_ref())?;
            }
        }
        // Also where nothing is left of it: the next file names it.
        fs::renameat(&self.journal, NEW, &self.journal, order.name)?;
        drop(journal);
        fs::fsync(&self.journal)?;
        Ok((old.again(order.upto)?, decided))
    }

    fn copy_tail(&self, name: &str, (from, upto): (u64, u64), new: &mut impl Write) -> Result<u64, Errno> {
        let mut tail = self.read(name, from, upto)?;
        while let Some(line) = tail.line()? {
            new.write_all(line).map_err(errno)?;
        }
        Ok(upto)
    }

    /// Removes a file of the journal, and then all that its lines kept.
    ///
    /// # Errors
    /// As of `rewrite`.
    pub fn remove(&mut self, name: &str, step: Step) -> Result<Sum, Errno> {
        self.mark()?;
        let size = self.size(name)?;
        let old = self.read(name, 0, size)?;
        fs::unlinkat(&self.journal, name, AtFlags::empty())?;
        let gone = self.remove_kept(old, |_| true, step)?;
        self.unmark();
        Ok(gone)
    }

    fn remove_kept(&mut self, mut old: Raw, goes: impl Fn(u32) -> bool, step: Step) -> Result<Sum, Errno> {
        let (mut gone, mut number) = (Sum::default(), 0);
        while let Some(raw) = old.line()? {
            if goes(number)
                && let Some(line) = decoded(raw)
                && let Some(kept) = line.event.kept()
                && let Some(one) = self.kept.remove(kept)
            {
                gone.add(one);
            }
            number += 1;
            going_on(step)?;
        }
        self.kept.remove_empty();
        Ok(gone)
    }

    /// Whether something may be kept that no line names.
    pub fn is_marked(&self) -> bool {
        fs::statat(&self.journal, MARK, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn mark(&self) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.journal, MARK, flags, Mode::from_raw_mode(0o600)).map(drop)
    }

    fn unmark(&self) {
        // If it stays, a walk too many is made.
        let _ = fs::unlinkat(&self.journal, MARK, AtFlags::empty());
    }
}

fn write_line(to: &mut impl Write, line: &Line) -> Result<(), Errno> {
    let mut text = Vec::new();
    line.encode(&mut text);
    to.write_all(&text).map_err(errno)
}

fn going_on(step: Step) -> Result<(), Errno> {
    if step() { Ok(()) } else { Err(Errno::CANCELED) }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
