//! Owns reading one of the journal's files while it is written: what is whole by now, and later what has come since. What is
//! torn or damaged is passed over.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::reading::LONGEST;
use crate::tree::history::Line;

/// A place in one of the journal's files.
#[derive(Debug)]
pub struct Cursor {
    reader: BufReader<std::fs::File>,
    at: u64,
    text: Vec<u8>,
}

impl Cursor {
    /// Opens a file at its beginning.
    ///
    /// # Errors
    /// As of openat(2).
    pub fn open(folder: BorrowedFd, segment: &str) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(folder, segment, flags, Mode::empty())?;
        let reader = BufReader::with_capacity(64 << 10, std::fs::File::from(file));
        Ok(Self { reader, at: 0, text: Vec::new() })
    }

    /// The next line that is whole. Nothing at the end, also where one is being written there.
    ///
    /// # Errors
    /// As of read(2).
    pub fn line(&mut self) -> Result<Option<Line>, Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        loop {
            self.text.clear();
            let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut self.text);
            let read = read.map_err(failed)?;
            let is_whole = self.text.last() == Some(&b'\n');
            if read == 0 || (!is_whole && (read as u64) < LONGEST) {
                // To be read again when there is more.
                self.reader.seek(SeekFrom::Start(self.at)).map_err(failed)?;
                return Ok(None);
            }
            self.at += read as u64;
            if is_whole {
                self.text.pop();
            }
            if let Some(line) = Line::decode(&self.text) {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::tree::entry::{Kind, Time};
    use crate::tree::history::{By, Event};
    use crate::tree::path::RelPath;

    fn line(sec: i64) -> Vec<u8> {
        let (at, path) = (Time { sec, nsec: 0 }, RelPath::new(b"a").expect("a path"));
        let mut text = Vec::new();
        let event = Event::Created { kind: Kind::File };
        Line { at, path, event, by: By::Restore, in_source: false }.encode(&mut text);
        text
    }

    #[test]
    fn a_file_is_read_while_it_grows() {
        let top = tempfile::tempdir().expect("a folder");
        let mut file = std::fs::File::create(top.path().join("s")).expect("made");
        let all: Vec<u8> = (0..3_000).flat_map(line).collect();
        file.write_all(&all).expect("written");
        let folder = std::fs::File::open(top.path()).expect("opened");
        let mut cursor = Cursor::open(folder.as_fd(), "s").expect("opened");
        let mut next = || cursor.line().expect("read").map(|line| line.at.sec);
        for n in 0..3_000 {
            assert_eq!(next(), Some(n));
        }
        assert_eq!(next(), None);
        let torn = line(3_000);
        file.write_all(&torn[..10]).expect("written");
        assert_eq!(next(), None);
        file.write_all(&torn[10..]).expect("written");
        file.write_all(b"nonsense\n").expect("written");
        file.write_all(&line(3_001)).expect("written");
        assert_eq!((next(), next(), next()), (Some(3_000), Some(3_001), None));
    }
}
