//! Owns the log file: the path that it follows, and the lines that it could not take yet. It formats nothing but its
//! own notes, and starts no thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::sink::Clock;
use crate::tree::quote::quoted;

/// What is kept of lines that the file could not take.
const KEPT: usize = 1024 * 1024;

/// An open log file that follows its path.
pub struct LogFile {
    pub path: PathBuf,
    file: File,
    identity: (u64, u64),
    checked: Instant,
    /// The file is to be opened anew, whatever the path shows.
    pub moved: bool,
    pub is_failing: bool,
    /// Lines that were given up since the file last took one.
    lost: usize,
}

impl LogFile {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let open = || {
            let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path)?;
            let meta = file.metadata()?;
            Ok((file, (meta.dev(), meta.ino())))
        };
        let (file, identity) = open().map_err(|e: io::Error| {
            let path = quoted(path.as_os_str().as_encoded_bytes());
            io::Error::new(e.kind(), format!("cannot open the log file {path}: {e}"))
        })?;
        Ok(Self { path, file, identity, checked: Instant::now(), moved: false, is_failing: false, lost: 0 })
    }

    /// Writes the lines and empties them. What could not be written stays for the next time, up to a limit.
    pub fn write(&mut self, lines: &mut Vec<u8>, clock: &Clock) -> io::Result<()> {
        if lines.is_empty() && !self.moved {
            return Ok(());
        }
        self.follow_path();
        let result = self.write_lost(clock).and_then(|()| drain_into(&mut &self.file, lines));
        self.is_failing = result.is_err();
        if self.is_failing && lines.len() > KEPT {
            // The first line may be half written already: its rest goes with the others, its end stays.
            self.lost += lines.iter().filter(|b| **b == b'\n').count();
            lines.clear();
        }
        result
    }

    fn write_lost(&mut self, clock: &Clock) -> io::Result<()> {
        if self.lost > 0 {
            // The empty line ends a line that was cut off, should there be one.
            let note = format!("\n{} - WARN - {} lines of the log could not be written\n", clock.now(), self.lost);
            drain_into(&mut &self.file, &mut note.into_bytes())?;
            self.lost = 0;
        }
        Ok(())
    }

    /// Opens the file anew when another one, or none, is at the path. A removed file is noticed at once, for lines in
    /// it are lost; a rotated one within a second, for lines in it are not.
    fn follow_path(&mut self) {
        let is_due = self.checked.elapsed() >= Duration::from_secs(1);
        if is_due {
            self.checked = Instant::now();
            self.moved |= !fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        }
        if self.moved || self.file.metadata().is_ok_and(|m| m.nlink() == 0) {
            // Where it cannot be made, the old one still takes the lines, and the next second tries again.
            if let Ok(new) = Self::open(self.path.clone()) {
                *self = Self { is_failing: self.is_failing, lost: self.lost, ..new };
            }
            self.moved = false;
        }
    }
}

/// Writes all, and removes what was written also when it was not all.
fn drain_into(out: &mut impl Write, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    let result = loop {
        if written == bytes.len() {
            break Ok(());
        }
        match out.write(&bytes[written..]) {
            Ok(0) => break Err(ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => break Err(e),
        }
    };
    bytes.drain(..written);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_given_up_are_counted_in_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let mut file = LogFile::open("/dev/full".into()).expect("opened");
        let mut text = b"a line\n".repeat(KEPT / 7 + 1);
        let count = text.len() / 7;
        assert!(file.write(&mut text, &Clock::default()).is_err());
        assert_eq!((text.len(), file.lost), (0, count));
        file.path = folder.path().join("a.log");
        file.moved = true;
        file.write(&mut b"next\n".to_vec(), &Clock::default()).expect("room");
        let written = fs::read_to_string(&file.path).expect("log");
        let written: Vec<&str> = written.lines().collect();
        assert!(written[1].ends_with(&format!("WARN - {count} lines of the log could not be written")));
        assert_eq!(written[2], "next");
    }
}
