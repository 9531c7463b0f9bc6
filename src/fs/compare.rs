//! Owns the one definition of equal contents, byte by byte, and the MD5 digests of a manifest. Read only.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use md5::{Digest, Md5};
use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};

use super::copy::{Fault, check, with_buffer};
use super::pieces;
use super::pulse::Pulse;

/// Whether both files hold the same bytes. `sparse`: both may have holes, which are passed over where they coincide.
///
/// # Errors
/// A read that failed on the source (`Fault::Read`) or on the replica (`Fault::Write`), or that `pulse` said stop.
pub fn same_contents(source: BorrowedFd, replica: BorrowedFd, sparse: bool, pulse: &Pulse) -> Result<bool, Fault> {
    Ok(difference(source, replica, None, sparse, 0, pulse)?.is_none())
}

/// Up to where, in bytes, both files hold the same for certain; nothing if they are the same. `sparse` as above. Where both
/// are known to have `size` bytes, nobody looks whether there are more, and `helpers` threads take part in large files.
///
/// # Errors
/// As above.
pub fn difference(
    source: BorrowedFd,
    replica: BorrowedFd,
    size: Option<u64>,
    sparse: bool,
    helpers: usize,
    pulse: &Pulse,
) -> Result<Option<u64>, Fault> {
    let (size, helpers) = size.map_or((u64::MAX, 0), |size| (size, helpers));
    let mut at = 0;
    while at < size {
        let mut end = size;
        if sparse {
            at = at.max(next_data(source, at).min(next_data(replica, at)));
            // In a hole of both, where somebody has just made one, a step is made all the same.
            end = next_hole(source, at).max(next_hole(replica, at)).max(at.saturating_add(1)).min(size);
        }
        let piece = |piece| difference_in(source, replica, piece, pulse).transpose();
        match pieces::each(at..end, helpers, piece) {
            Some(found) => return found,
            None => at = end,
        }
    }
    Ok(None)
}

/// Where a piece begins to differ, or that the files end in it; nothing if they go on alike.
fn difference_in(
    source: BorrowedFd,
    replica: BorrowedFd,
    piece: Range<u64>,
    pulse: &Pulse,
) -> Result<Option<Option<u64>>, Fault> {
    let mut at = piece.start;
    with_buffer(|buffer| {
        let (left, right) = buffer.split_at_mut(buffer.len() / 2);
        while at < piece.end {
            pulse.beat();
            check(pulse)?;
            let block = usize::try_from(piece.end - at).unwrap_or(left.len()).min(left.len());
            let read = read_full(source, &mut left[..block], at).map_err(Fault::Read)?;
            let other = read_full(replica, &mut right[..block], at).map_err(Fault::Write)?;
            if left[..read] != right[..other] {
                return Ok(Some(Some(at)));
            }
            if read == 0 {
                return Ok(Some(None));
            }
            at += read as u64;
        }
        Ok(None)
    })
}

/// Where data begins at or after `at`; `at` itself where nothing is known, the end of the file where only a hole is left.
fn next_data(fd: BorrowedFd, at: u64) -> u64 {
    match fs::seek(fd, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => fs::seek(fd, SeekFrom::End(0)).unwrap_or(at).max(at),
        Err(_) => at,
    }
}

/// Where data ends at or after `at`; `at` itself in a hole, no end where nothing is known.
fn next_hole(fd: BorrowedFd, at: u64) -> u64 {
    fs::seek(fd, SeekFrom::Hole(at)).unwrap_or(u64::MAX)
}

pub(super) fn read_full(fd: BorrowedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match io::pread(fd, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The MD5 of a file's contents.
///
/// # Errors
/// A read that failed, or that `pulse` said stop.
pub fn md5(fd: BorrowedFd, pulse: &Pulse) -> Result<[u8; 16], Fault> {
    let mut digest = Md5::new();
    let mut at = 0;
    with_buffer(|buffer| {
        loop {
            pulse.beat();
            if pulse.is_stopped() {
                return Err(Fault::Cancelled);
            }
            let read = read_full(fd, buffer, at).map_err(Fault::Read)?;
            if read == 0 {
                return Ok(digest.finalize().into());
            }
            digest.update(&buffer[..read]);
            at += read as u64;
        }
    })
}

/// One line of the file that `md5sum -c` reads, names with backslashes and newlines escaped as it does.
pub fn manifest_line(digest: [u8; 16], path: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(path.len() + 40);
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            other => escaped.push(*other),
        }
    }
    if escaped != path {
        line.push(b'\\');
    }
    for byte in digest {
        line.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    line.extend_from_slice(b"  ");
    line.extend_from_slice(&escaped);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 40 << 20;

    /// A file that is a hole but for single bytes.
    fn file(bytes: &[u64]) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(SIZE).expect("its size");
        bytes.iter().for_each(|at| file.write_all_at(b"x", *at).expect("written"));
        file
    }

    #[test]
    fn the_first_difference_is_found_however_many_look_for_it() {
        let source = file(&[5 << 20, 21 << 20, SIZE - 1]);
        let cases = [
            (file(&[5 << 20, 21 << 20, SIZE - 1]), None),
            (file(&[5 << 20, 21 << 20]), Some(SIZE - 1)),
            (file(&[21 << 20, SIZE - 1]), Some(5 << 20)),
            (file(&[5 << 20]), Some(21 << 20)),
            (file(&[0, 39 << 20]), Some(0)),
        ];
        for (replica, first) in &cases {
            for (sparse, helpers) in [(false, 0), (false, 3), (true, 0), (true, 3)] {
                let find = |size| {
                    difference(source.as_fd(), replica.as_fd(), size, sparse, helpers, &Pulse::default()).expect("read")
                };
                // Somewhere in what was read at a time.
                let near = |found: Option<u64>| found.map(|at| at..at + (128 << 10));
                for found in [find(Some(SIZE)), find(None)] {
                    let is_right = near(found).is_some_and(|near| first.is_some_and(|first| near.contains(&first)));
                    assert!(is_right || (found, *first) == (None, None), "{found:?}, not {first:?}");
                }
            }
        }
    }

    #[test]
    fn a_longer_file_is_another_one_and_what_is_stopped_says_so() {
        let (short, long) = (file(&[]), file(&[]));
        long.set_len(SIZE + 1).expect("its size");
        let pulse = Pulse::default();
        for sparse in [false, true] {
            assert_eq!(same_contents(short.as_fd(), long.as_fd(), sparse, &pulse), Ok(false));
            assert_eq!(same_contents(long.as_fd(), short.as_fd(), sparse, &pulse), Ok(false));
        }
        pulse.stop();
        assert_eq!(difference(short.as_fd(), long.as_fd(), Some(SIZE), false, 3, &pulse), Err(Fault::Cancelled));
    }

    #[test]
    fn a_manifest_line_escapes_as_md5sum_does() {
        let line = manifest_line([0xab; 16], b"a\nb\\c");
        assert_eq!(line, b"\\abababababababababababababababab  a\\nb\\\\c\n");
        assert_eq!(manifest_line([0; 16], b"plain"), b"00000000000000000000000000000000  plain\n");
    }
}
