//! Owns the one definition of equal contents, byte by byte, and the MD5 digests of a manifest. Read only.

use std::os::fd::BorrowedFd;

use md5::{Digest, Md5};
use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};

use super::copy::{Fault, with_buffer};
use super::pulse::Pulse;

/// Whether both files hold the same bytes. `sparse`: both may have holes, which are passed over where they coincide.
///
/// # Errors
/// A read that failed on the source (`Fault::Read`) or on the replica (`Fault::Write`), or that `pulse` said stop.
pub fn same_contents(source: BorrowedFd, replica: BorrowedFd, sparse: bool, pulse: &Pulse) -> Result<bool, Fault> {
    Ok(difference(source, replica, None, sparse, pulse)?.is_none())
}

/// Up to where, in bytes, both files hold the same for certain; nothing if they are the same. `sparse` as above. Where both
/// are known to have `size` bytes, nobody looks whether there are more.
///
/// # Errors
/// As above.
pub fn difference(
    source: BorrowedFd,
    replica: BorrowedFd,
    size: Option<u64>,
    sparse: bool,
    pulse: &Pulse,
) -> Result<Option<u64>, Fault> {
    let mut at = 0;
    with_buffer(|buffer| {
        let (left, right) = buffer.split_at_mut(buffer.len() / 2);
        loop {
            pulse.beat();
            if pulse.is_stopped() {
                return Err(Fault::Cancelled);
            }
            if sparse {
                at = at.max(next_data(source, at).min(next_data(replica, at)));
            }
            let rest = size.map_or(left.len(), |size| usize::try_from(size.saturating_sub(at)).unwrap_or(left.len()));
            let block = rest.min(left.len());
            let read = read_full(source, &mut left[..block], at).map_err(Fault::Read)?;
            let other = read_full(replica, &mut right[..block], at).map_err(Fault::Write)?;
            if left[..read] != right[..other] {
                return Ok(Some(at));
            }
            at += read as u64;
            if read == 0 || Some(at) == size {
                return Ok(None);
            }
        }
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

    #[test]
    fn a_manifest_line_escapes_as_md5sum_does() {
        let line = manifest_line([0xab; 16], b"a\nb\\c");
        assert_eq!(line, b"\\abababababababababababababababab  a\\nb\\\\c\n");
        assert_eq!(manifest_line([0; 16], b"plain"), b"00000000000000000000000000000000  plain\n");
    }
}
