//! Owns the journal while it is written: text, one file an hour (UTC), to which lines are appended. It never writes a line
//! anew; who thins out does that with files that are not written any more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::Timestamp;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::{ahead, backward, open_or_make, reading};
use crate::fs::stage::{is_there, open_reserved};
use crate::tree::entry::Time;
use crate::tree::history::{Event, JOURNAL, Line};

/// So much of what was said waits in memory at most.
const WAITING: usize = 64 << 10;
/// More than this is not kept for another try.
const TOO_MANY: usize = 4 << 20;
/// Times of lines differ by so many nanoseconds at least: what is kept is named by them, in microseconds.
const STEP: u32 = 1_000;

/// The journal of a history.
#[derive(Debug)]
pub struct Journal {
    /// Of the replica, in which it is made anew if somebody removes it.
    root: OwnedFd,
    folder: OwnedFd,
    file: Option<(String, OwnedFd)>,
    waiting: Vec<u8>,
    /// Of the last line.
    last: Time,
    /// Lines in the file that are not known to be on disk, and whether the file is new.
    unsynced: bool,
    unsynced_folder: bool,
    /// What could not be written, until who waits for it is told.
    failed: Option<Errno>,
}

impl Journal {
    pub(super) fn open(root: BorrowedFd, folder: &OwnedFd) -> Result<Self, Errno> {
        let mut journal = Self::at(root, folder)?;
        let (last, is_told) = state(folder)?;
        journal.last = last;
        if !is_told {
            journal.mark(Event::Since);
        }
        journal.mark(Event::Began);
        journal.put(false)?;
        Ok(journal)
    }

    /// Has it on disk that from here on changes are made of which nothing is told.
    pub(super) fn interrupt(root: &OwnedFd, folder: &OwnedFd) -> Result<(), Errno> {
        let (last, is_told) = state(folder)?;
        if is_told {
            let mut journal = Self { last, ..Self::at(root.as_fd(), folder)? };
            journal.mark(Event::Gap);
            journal.put(true)?;
        }
        Ok(())
    }

    fn at(root: BorrowedFd, folder: &OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            root: rustix::io::fcntl_dupfd_cloexec(root, 0)?,
            folder: rustix::io::fcntl_dupfd_cloexec(folder, 0)?,
            file: None,
            waiting: Vec::new(),
            last: Time::default(),
            unsynced: false,
            unsynced_folder: false,
            failed: None,
        })
    }

    fn mark(&mut self, event: Event) {
        self.say(|at| Line::of_journal(at, event));
    }

    /// Puts a line into memory. Returns its time.
    pub fn say(&mut self, line: impl FnOnce(Time) -> Line) -> Time {
        let now = ahead::now();
        let now = Time { nsec: now.nsec / STEP * STEP, ..now };
        let at = now.max(next(self.last));
        let name = segment(at);
        if self.file.as_ref().is_some_and(|(open, _)| *open != name) {
            self.failed = self.write().err().or(self.failed);
            if self.unsynced {
                self.failed = self.sync().err().or(self.failed);
            }
            self.file = None;
        }
        self.last = at;
        line(at).encode(&mut self.waiting);
        if self.waiting.len() >= WAITING {
            self.failed = self.write().err().or(self.failed);
        }
        at
    }

    /// Writes what was said, and brings it to disk if that is asked for.
    ///
    /// # Errors
    /// As of write(2) and fdatasync(2); also of what was to be written before and could not be.
    pub fn put(&mut self, durable: bool) -> Result<(), Errno> {
        let result = self.write().and_then(|()| if durable { self.sync() } else { Ok(()) });
        self.failed.take().map_or(result, Err)
    }

    /// The file that is written to.
    pub fn current(&self) -> String {
        segment(self.last)
    }

    fn write(&mut self) -> Result<(), Errno> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.append();
        if written.is_ok() {
            self.waiting.clear();
        } else if self.waiting.len() > TOO_MANY {
            // Each of those whose lines these are is told that they are not written.
            self.waiting.clear();
            self.failed = written.err();
        }
        written
    }

    /// Appends what waits, all of it or nothing: who waits for the same lines tries again.
    fn append(&mut self) -> Result<(), Errno> {
        let name = self.current();
        if self.file.as_ref().is_none_or(|(open, file)| *open != name || !is_there(file)) {
            self.ensure_folder()?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = fs::openat(&self.folder, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
            self.unsynced_folder = true;
            if ends_torn(&file)? {
                append(&file, b"\n")?;
            }
            if fs::fstat(&file)?.st_size == 0 {
                self.go_on_from_before(&name)?;
            }
            self.file = Some((name, file));
        }
        let Some((_, file)) = &self.file else { return Err(Errno::BADF) };
        let before = fs::fstat(file)?.st_size;
        self.unsynced = true;
        append(file, &self.waiting).inspect_err(|_| {
            // Where even that fails, half a line is passed over by who reads.
            let _ = fs::ftruncate(file, u64::try_from(before).unwrap_or(0));
        })
    }

    /// Has a file that was just begun say which one it goes on from.
    fn go_on_from_before(&mut self, name: &str) -> Result<(), Errno> {
        let before = reading::segments(self.folder.as_fd())?.into_iter().rfind(|known| known.as_str() < name);
        self.put_first(before.map(|file| Event::Follows { file }).into_iter());
        Ok(())
    }

    /// Puts lines about the journal itself right before what waits.
    fn put_first(&mut self, events: impl ExactSizeIterator<Item = Event>) {
        let first = self.waiting.split(|byte| *byte == b'\n').find_map(Line::decode);
        let first = first.map_or(self.last, |line| line.at);
        let (mut lines, mut steps) = (Vec::new(), u32::try_from(events.len()).unwrap_or(0));
        for event in events {
            Line::of_journal(earlier(first, steps), event).encode(&mut lines);
            steps -= 1;
        }
        self.waiting.splice(0..0, lines);
    }

    /// Makes the journal anew where somebody has removed it: the history begins once more.
    fn ensure_folder(&mut self) -> Result<(), Errno> {
        if is_there(&self.folder) {
            return Ok(());
        }
        self.folder = open_or_make(open_reserved(self.root.as_fd())?.as_fd(), JOURNAL)?;
        // Of what was told earlier nothing is left.
        self.put_first([Event::Since, Event::Began].into_iter());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Errno> {
        if let (true, Some((_, file))) = (self.unsynced, &self.file) {
            fs::fdatasync(file)?;
            self.unsynced = false;
        }
        if self.unsynced_folder {
            fs::fsync(&self.folder)?;
            self.unsynced_folder = false;
        }
        Ok(())
    }
}

fn append(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a power cut has left half a line at the end.
fn ends_torn(file: &OwnedFd) -> Result<bool, Errno> {
    let size = u64::try_from(fs::fstat(file)?.st_size).unwrap_or(0);
    let mut last = [b'\n'];
    if size > 0 {
        rustix::io::pread(file, &mut last, size - 1)?;
    }
    Ok(last != *b"\n")
}

fn next(time: Time) -> Time {
    match time.nsec + STEP {
        nsec if nsec < 1_000_000_000 => Time { nsec, ..time },
        nsec => Time { sec: time.sec + 1, nsec: nsec - 1_000_000_000 },
    }
}

fn earlier(time: Time, steps: u32) -> Time {
    match time.nsec.checked_sub(steps * STEP) {
        Some(nsec) => Time { nsec, ..time },
        None => Time { sec: time.sec - 1, nsec: time.nsec + 1_000_000_000 - steps * STEP },
    }
}

/// The name of the file that a line of this time is in.
pub fn segment(at: Time) -> String {
    Timestamp::new(at.sec, 0).unwrap_or_default().strftime("%Y-%m-%dT%H").to_string()
}

/// When the last line was written, and whether everything is told up to there: nothing but a `since` follows a gap.
fn state(folder: &OwnedFd) -> Result<(Time, bool), Errno> {
    for name in reading::segments(folder.as_fd())?.iter().rev() {
        if let Some(line) = backward::lines(folder.as_fd(), name)?.find(|line| !line.event.is_note()) {
            return Ok((line.at, line.event != Event::Gap));
        }
    }
    Ok((Time::default(), false))
}
