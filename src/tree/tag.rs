//! Owns how a folder is named by its filesystem, wherever that is mounted: `UUID=…:/path` and `LABEL=…:/path`. It knows no
//! disk and no mount.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What a filesystem, or the part of a disk that it lies on, is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Uuid,
    Label,
}

const KNOWN: [(Known, &str); 2] = [(Known::Uuid, "UUID="), (Known::Label, "LABEL=")];

/// A folder on a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub known: Known,
    pub value: Box<[u8]>,
    /// From the top of the filesystem, which is `/`.
    pub path: PathBuf,
}

impl Tag {
    /// Whether a path is no path, but was meant as such a name. A relative path that begins like one has `./` before it.
    pub fn is(path: &Path) -> bool {
        KNOWN.iter().any(|(_, word)| path.as_os_str().as_bytes().starts_with(word.as_bytes()))
    }

    /// What a name says. `None` for a path.
    ///
    /// # Errors
    /// It begins like a name, and is none: what is missing.
    pub fn parse(path: &Path) -> Option<Result<Self, String>> {
        let bytes = path.as_os_str().as_bytes();
        let (known, word) = KNOWN.iter().find(|(_, word)| bytes.starts_with(word.as_bytes()))?;
        let rest = &bytes[word.len()..];
        let Some(at) = rest.windows(2).position(|two| two == b":/") else {
            return Some(Err(format!(
                "lacks the path on the filesystem; write it as {word}…:/path, with / for all of it"
            )));
        };
        let (value, path) = (&rest[..at], Path::new(OsStr::from_bytes(&rest[at + 1..])));
        let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let is_value = !value.is_empty() && !value.contains(&0) && (*known == Known::Label || is_uuid(value));
        Some(if !is_value {
            Err(format!("names no filesystem; write it as {word}…:/path, with what `lsblk -f` shows"))
        } else if !is_plain || bytes.contains(&0) {
            Err("must have neither `..` nor a NUL character in its path".into())
        } else {
            Ok(Self { known: *known, value: value.into(), path: path.components().collect() })
        })
    }

    /// The name in the one form that all its spellings have.
    pub fn to_path(&self) -> PathBuf {
        let value = match self.known {
            Known::Uuid => self.value.to_ascii_lowercase(),
            Known::Label => self.value.to_vec(),
        };
        let bytes = [self.word().as_bytes(), &value, b":", self.path.as_os_str().as_bytes()].concat();
        PathBuf::from(OsStr::from_bytes(&bytes))
    }

    fn word(&self) -> &'static str {
        KNOWN.iter().find(|(known, _)| *known == self.known).map_or("", |(_, word)| word)
    }

    /// Whether a filesystem with this value is meant. UUIDs are written in both cases.
    pub fn is_value(&self, value: &[u8]) -> bool {
        match self.known {
            Known::Uuid => self.value.eq_ignore_ascii_case(value),
            Known::Label => *self.value == *value,
        }
    }
}

/// FAT's and NTFS's are shorter than the others.
fn is_uuid(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Known::Uuid => "UUID",
            Known::Label => "label",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Result<(Known, String, String), String>> {
        let said = Tag::parse(Path::new(text))?;
        let shown = |tag: Tag| (tag.known, String::from_utf8_lossy(&tag.value).into(), tag.path.display().to_string());
        Some(said.map(shown))
    }

    #[test]
    fn names_of_folders_on_filesystems_are_told_from_paths() {
        let said = |known, value: &str, path: &str| Some(Ok((known, value.into(), path.into())));
        assert_eq!(read("UUID=1234-ABCD:/a b/c"), said(Known::Uuid, "1234-ABCD", "/a b/c"));
        assert_eq!(read("LABEL=My disk:/"), said(Known::Label, "My disk", "/"));
        assert_eq!(read("LABEL=a:b:/c:/d//./e/"), said(Known::Label, "a:b", "/c:/d/e"));
        for path in ["/UUID=1:/a", "./UUID=1:/a", "uuid=1:/a", "PARTUUID=1:/a", ""] {
            assert_eq!(read(path), None, "{path}");
            assert!(!Tag::is(Path::new(path)));
        }
        let wrong = [
            ("UUID=1234", "lacks the path"),
            ("LABEL=x:y", "lacks the path"),
            ("UUID=:/a", "names no filesystem"),
            ("UUID=../a:/b", "names no filesystem"),
            ("LABEL=x:/a/../b", "neither `..`"),
        ];
        for (text, reason) in wrong {
            assert!(read(text).expect("a name").expect_err("unusable").contains(reason), "{text}");
        }
    }

    #[test]
    fn all_spellings_come_to_one() {
        let form = |text: &str| Tag::parse(Path::new(text)).expect("a name").expect("usable").to_path();
        assert_eq!(form("UUID=1234-ABCD:/a//b/"), Path::new("UUID=1234-abcd:/a/b"));
        assert_eq!(form("LABEL=Disk:/"), Path::new("LABEL=Disk:/"));
        assert_ne!(form("LABEL=Disk:/"), form("LABEL=disk:/"));
        let tag = Tag::parse(Path::new("UUID=1234-ABCD:/")).expect("a name").expect("usable");
        assert!(tag.is_value(b"1234-abcd") && !tag.is_value(b"1234"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_a_name_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for bytes in [bytes.clone(), [b"LABEL=", &bytes[..]].concat(), [b"LABEL=x:/", &bytes[..]].concat()] {
                if let Some(Ok(tag)) = Tag::parse(Path::new(OsStr::from_bytes(&bytes))) {
                    prop_assert_eq!(Tag::parse(&tag.to_path()), Some(Ok(tag)));
                }
            }
        }
    }
}
