//! Owns how far a scrub has come, as it is kept for the part that goes on where this one was stopped.

use super::Report;
use crate::tree::path::RelPath;

/// The last file that was dealt with, and what all came to up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub after: RelPath,
    /// The numbers alone.
    pub report: Report,
}

impl Position {
    /// A path holds no NUL.
    pub fn encode(&self) -> Vec<u8> {
        let report = serde_json::to_vec(&self.report).unwrap_or_default();
        [self.after.as_bytes(), b"\0", &report].concat()
    }

    /// `None` where there is no position. Numbers that cannot be read are none: the position counts for more.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(2, |byte| *byte == 0);
        let after = RelPath::new(parts.next()?).filter(|after| !after.is_root())?;
        let report = parts.next().and_then(|report| serde_json::from_slice(report).ok()).unwrap_or_default();
        Some(Self { after, report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_one_without_numbers_counts_too() {
        let after = RelPath::new(b"folder/file \xff").expect("a path");
        let position = Position { after, report: Report { files: 3, bytes: 9, decayed: 1, ..Report::default() } };
        assert_eq!(Position::decode(&position.encode()), Some(position.clone()));
        let bare = Position::decode(position.after.as_bytes());
        assert_eq!(bare, Some(Position { report: Report::default(), ..position }));
        for nothing in [&b""[..], b"\0{}", b"a//b"] {
            assert_eq!(Position::decode(nothing), None);
        }
    }
}
