//! Owns reading one of the journal's files from its end to its beginning, in blocks: what happened last comes first, and of
//! a large file little is read.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::reading::{LONGEST, Text};
use crate::tree::history::Line;

const BLOCK: usize = 64 << 10;

/// The lines of one of the journal's files, newest first, as far as they can be read. What is appended meanwhile is not
/// among them.
///
/// # Errors
/// As of openat(2) and fstat(2).
pub fn lines(folder: BorrowedFd, segment: &str) -> Result<impl Iterator<Item = Line> + use<>, Errno> {
    Ok(texts(folder, segment)?.map_while(Result::ok).filter_map(Text::line))
}

/// The same with what cannot be read among them. It ends with the first error.
///
/// # Errors
/// As of openat(2) and fstat(2), and each as of pread(2).
pub fn texts(folder: BorrowedFd, segment: &str) -> Result<impl Iterator<Item = Result<Text, Errno>> + use<>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(folder, segment, flags, Mode::empty())?;
    let before = u64::try_from(fs::fstat(&file)?.st_size).unwrap_or(0);
    let mut texts = Texts { file: file.into(), before, text: Vec::new(), is_too_long: false };
    Ok(std::iter::from_fn(move || texts.next().transpose()))
}

/// The file's lines as they are.
struct Texts {
    file: File,
    /// So much of the file is not read yet.
    before: u64,
    /// What was read and not given.
    text: Vec<u8>,
    /// The end of the line that `text` ends in has been let go.
    is_too_long: bool,
}

impl Texts {
    fn next(&mut self) -> Result<Option<Text>, Errno> {
        loop {
            let line = if let Some(at) = self.text.iter().rposition(|byte| *byte == b'\n') {
                let line = self.text.split_off(at + 1);
                self.text.truncate(at);
                line
            } else if self.before > 0 {
                self.read().inspect_err(|_| (self.before, self.is_too_long) = (0, false))?;
                continue;
            } else if self.text.is_empty() && !self.is_too_long {
                return Ok(None);
            } else {
                std::mem::take(&mut self.text)
            };
            let text = if std::mem::take(&mut self.is_too_long) { Some(Text::Damaged) } else { Text::of(&line) };
            if text.is_some() {
                return Ok(text);
            }
        }
    }

    /// The block before what was read. With an error, nothing more is to be had.
    fn read(&mut self) -> Result<(), Errno> {
        if self.text.len() as u64 > LONGEST {
            self.text.clear();
            self.is_too_long = true;
        }
        let size = self.before.min(BLOCK as u64);
        let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK)];
        let mut rest = std::mem::take(&mut self.text);
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read_at(&mut block[filled..], self.before - size + filled as u64) {
                // What could not be written whole has been taken back.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        block.truncate(filled);
        block.append(&mut rest);
        (self.text, self.before) = (block, self.before - size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;
    use crate::fs::history::reading;
    use crate::tree::entry::{Kind, Time};
    use crate::tree::history::{By, Event};
    use crate::tree::operation::Cause;
    use crate::tree::path::RelPath;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Backward is forward, turned round, whatever lies between the lines.
        #[test]
        fn both_ways_read_the_same(parts in proptest::collection::vec((0..4u8, 1..90_000usize), 0..12)) {
            let top = tempfile::tempdir().expect("a folder");
            let mut text = Vec::new();
            for (n, (what, size)) in parts.iter().enumerate() {
                let name: Vec<Vec<u8>> = (0..1 + size / 200).map(|_| vec![b'n'; 1 + size % 200]).collect();
                let line = Line {
                    at: Time { sec: n as i64, nsec: 0 },
                    path: RelPath::new(&name.join(&b'/')).expect("a path"),
                    event: Event::Created { kind: Kind::File },
                    by: By::Cause(Cause::Event),
                    in_source: false,
                };
                match what {
                    0 => text.extend(vec![b'x'; *size]),
                    1 => text.push(b'\n'),
                    _ => line.encode(&mut text),
                }
            }
            std::fs::write(top.path().join("2026-01-01T00"), text).expect("written");
            let folder = File::open(top.path()).expect("open");
            let forward = reading::lines(folder.as_fd(), "2026-01-01T00").expect("lines");
            let mut backward: Vec<Line> = lines(folder.as_fd(), "2026-01-01T00").expect("lines").collect();
            backward.reverse();
            prop_assert_eq!(forward.collect::<Vec<_>>(), backward);
        }
    }

    #[test]
    fn what_is_longer_than_any_line_is_let_go() {
        let top = tempfile::tempdir().expect("a folder");
        let mut text = vec![b'x'; 3 << 20];
        text.push(b'\n');
        let at = Time { sec: 7, nsec: 0 };
        let path = RelPath::root();
        Line { at, path, event: Event::Since, by: By::Restore, in_source: false }.encode(&mut text);
        text.extend(vec![b'x'; 3 << 20]);
        std::fs::write(top.path().join("2026-01-01T00"), text).expect("written");
        let folder = File::open(top.path()).expect("open");
        let found: Vec<Line> = lines(folder.as_fd(), "2026-01-01T00").expect("lines").collect();
        assert_eq!(found.iter().map(|line| line.at).collect::<Vec<_>>(), [at]);
    }
}
