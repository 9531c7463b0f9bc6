//! Owns the reading of texts that people write: whole, and only as long as such a text can be. What is in them is their
//! readers'.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Longest configuration file, in bytes.
pub const LONGEST_CONFIGURATION: u64 = 1024 * 1024;
/// Longest file of patterns, in bytes.
pub const LONGEST_PATTERNS: u64 = 16 * 1024 * 1024;

/// Reads a file, so that a device without an end, or a file that is none of ours, does not fill the memory.
///
/// # Errors
/// As of open(2) and read(2); `FileTooLarge` where there is more than `longest` bytes.
pub fn read_text(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", longest >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_has_no_end_or_is_too_long_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("text");
        fs::write(&path, vec![b'#'; 4]).expect("written");
        assert_eq!(read_text(&path, 4).expect("read").len(), 4);
        assert_eq!(read_text(&path, 3).expect_err("too long").kind(), ErrorKind::FileTooLarge);
        let error = read_text(Path::new("/dev/zero"), LONGEST_CONFIGURATION).expect_err("no end");
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
    }
}
