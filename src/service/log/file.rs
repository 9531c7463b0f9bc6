//! Owns the log file: the path that it follows, and the lines that it could not take yet. It formats nothing but its
//! own notes, and starts no thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::sink::Clock;
use crate::tree::quote::quoted;

/// What is kept of lines that the file could not take.
const KEPT: usize = 1024 * 1024;

/// What a write came to.
#[derive(Debug)]
pub enum Turn {
    /// As before.
    Same,
    /// The file takes no lines from now on.
    Failed(io::Error),
    /// It takes them again; so many were given up.
    Mended(usize),
}

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
        let (file, identity) = Self::reopen(&path).map_err(|e: io::Error| {
            let path = quoted(path.as_os_str().as_encoded_bytes());
            io::Error::new(e.kind(), format!("cannot open the log file {path}: {}", words(&e)))
        })?;
        Ok(Self { path, file, identity, checked: Instant::now(), moved: false, is_failing: false, lost: 0 })
    }

    /// Writes the lines and empties them. What could not be written stays for the next time, up to a limit.
    pub fn write(&mut self, lines: &mut Vec<u8>, clock: &Clock) -> Turn {
        if lines.is_empty() && !self.moved {
            return Turn::Same;
        }
        let lost = self.lost;
        let result = self.follow_path();
        let result = result.and_then(|()| self.write_lost(clock)).and_then(|()| drain_into(&mut &self.file, lines));
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        if self.is_failing && lines.len() > KEPT {
            // The first line may be half written already: its rest goes with the others, its end stays.
            self.lost += lines.iter().filter(|b| **b == b'\n').count();
            lines.clear();
        }
        match result {
            Err(e) if !was_failing => Turn::Failed(e),
            Ok(()) if was_failing => Turn::Mended(lost),
            _ => Turn::Same,
        }
    }

    /// What is said of it where the lines can be read that are not in the file.
    pub fn words(&self, turn: &Turn) -> Option<String> {
        let path = quoted(self.path.as_os_str().as_encoded_bytes());
        match turn {
            Turn::Same => None,
            Turn::Failed(e) => Some(format!(
                "The log file {path} cannot be written: {}; the work goes on, and up to 1 MiB of lines is kept for it",
                words(e)
            )),
            Turn::Mended(0) => Some(format!("The log file {path} can be written again; it has every line")),
            Turn::Mended(1) => Some(format!("The log file {path} can be written again; 1 line is missing in it")),
            Turn::Mended(lost) => {
                Some(format!("The log file {path} can be written again; {lost} lines are missing in it"))
            }
        }
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
    fn follow_path(&mut self) -> io::Result<()> {
        let is_due = self.checked.elapsed() >= Duration::from_secs(1);
        if is_due {
            self.checked = Instant::now();
            self.moved |= !fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        }
        let is_removed = self.file.metadata().is_ok_and(|m| m.nlink() == 0);
        if self.moved || is_removed {
            self.moved = false;
            match Self::reopen(&self.path) {
                Ok((file, identity)) => (self.file, self.identity) = (file, identity),
                Err(e) if is_removed => return Err(e),
                // The old one still takes the lines, and the next second tries again.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn reopen(path: &Path) -> io::Result<(File, (u64, u64))> {
        // A pipe that nobody reads, or not fast enough, fails as a full disk does, and holds nothing up.
        let no_wait = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(no_wait).open(path)?;
        let meta = file.metadata()?;
        Ok((file, (meta.dev(), meta.ino())))
    }
}

/// What the system says, without the number that it ends in.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
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
        assert!(matches!(file.write(&mut text, &Clock::default()), Turn::Failed(_)));
        assert_eq!((text.len(), file.lost), (0, count));
        assert!(matches!(file.write(&mut b"kept\n".to_vec(), &Clock::default()), Turn::Same));
        file.path = folder.path().join("a.log");
        file.moved = true;
        let turn = file.write(&mut b"next\n".to_vec(), &Clock::default());
        assert!(matches!(turn, Turn::Mended(lost) if lost == count), "{turn:?}");
        assert!(file.words(&turn).is_some_and(|text| text.ends_with(&format!("{count} lines are missing in it"))));
        let written = fs::read_to_string(&file.path).expect("log");
        let written: Vec<&str> = written.lines().collect();
        assert!(written[1].ends_with(&format!("WARN - {count} lines of the log could not be written")));
        assert_eq!(written[2], "next");
    }

    #[test]
    fn lines_are_kept_while_the_files_folder_is_away() {
        let top = tempfile::tempdir().expect("folder");
        let folder = top.path().join("logs");
        fs::create_dir(&folder).expect("made");
        let mut file = LogFile::open(folder.join("a.log")).expect("opened");
        fs::remove_dir_all(&folder).expect("removed");
        let mut lines = b"one\n".to_vec();
        assert!(matches!(file.write(&mut lines, &Clock::default()), Turn::Failed(_)));
        lines.extend_from_slice(b"two\n");
        assert!(matches!(file.write(&mut lines, &Clock::default()), Turn::Same));
        fs::create_dir(&folder).expect("made");
        assert!(matches!(file.write(&mut lines, &Clock::default()), Turn::Mended(0)));
        assert_eq!(fs::read_to_string(folder.join("a.log")).expect("log"), "one\ntwo\n");
    }
}
