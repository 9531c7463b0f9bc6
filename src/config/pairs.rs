//! Owns the form of the file that names pairs of folders: two lines a pair, and empty lines between the pairs. It looks at
//! no folder.
//!
//! A path is the bytes of its line without spaces around them, so that a path that ends in a space is written with a
//! slash behind it. A line that begins with `#` says nothing. As on the command line, a relative path is relative to the
//! folder that the program runs in; as in a configuration file, nothing is expanded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::text::{LONGEST_CONFIGURATION, read_text};
use super::value::unexpanded;
use super::{ConfigError, folder as named};

/// Two folders, each with the line that names it, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPair {
    pub lines: [usize; 2],
    pub folders: [PathBuf; 2],
}

/// Reads the pairs that a file names; at least one. Their paths are absolute.
///
/// # Errors
/// The file cannot be read, or has something else than pairs: all that is wrong, each with its line.
pub fn read_pairs(path: &Path) -> Result<Vec<NamedPair>, ConfigError> {
    let bytes = read_text(path, LONGEST_CONFIGURATION)
        .map_err(|source| ConfigError::PairsUnreadable { path: path.into(), source })?;
    parse(&bytes).map_err(|wrong| {
        let invalid = |(line, message)| ConfigError::Invalid { path: path.into(), line, message };
        ConfigError::Several(wrong.into_iter().map(invalid).collect())
    })
}

type Wrong = Vec<(usize, String)>;

fn parse(bytes: &[u8]) -> Result<Vec<NamedPair>, Wrong> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(vec![(1, "the file is UTF-16; save it as UTF-8".into())]);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate().map(|(at, line)| (at + 1, line));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.starts_with(b"#")).collect();
    let mut groups: Vec<Vec<(usize, &[u8])>> =
        lines.split(|(_, line)| line.is_empty()).filter(|group| !group.is_empty()).map(<[_]>::to_vec).collect();
    // Of two lines alone there is no doubt how they belong together.
    if let [first, second] = groups.as_slice()
        && (first.len(), second.len()) == (1, 1)
    {
        groups = vec![groups.concat()];
    }
    if groups.is_empty() {
        return Err(vec![(1, "the file names no folders: it takes two lines, a folder each".into())]);
    }
    let (mut pairs, mut wrong) = (Vec::new(), Vec::new());
    for group in groups {
        match *group.as_slice() {
            [first, second] => match (folder(first), folder(second)) {
                (Ok(source), Ok(replica)) => {
                    pairs.push(NamedPair { lines: [first.0, second.0], folders: [source, replica] });
                }
                (first, second) => wrong.extend([first.err(), second.err()].into_iter().flatten()),
            },
            [(line, _)] => {
                wrong.push((line, "the other folder of the pair is missing: it goes on the next line".into()))
            }
            [_, _, (line, _), ..] => {
                wrong.push((line, "a pair has two folders; an empty line goes before the next pair".into()));
            }
            [] => {}
        }
    }
    if wrong.is_empty() { Ok(pairs) } else { Err(wrong) }
}

/// One path, absolute.
fn folder((line, bytes): (usize, &[u8])) -> Result<PathBuf, (usize, String)> {
    let path = Path::new(OsStr::from_bytes(bytes));
    let reason = if bytes.contains(&0) {
        "it has a NUL character, which no path can have".to_string()
    } else if bytes.starts_with(b"~") {
        "`~` is not expanded here; write the whole path, as in /home/user/photos".to_string()
    } else if let Some(variable) = unexpanded(path) {
        format!("`{variable}` is not expanded here; write out what it stands for")
    } else {
        return named(path).map_err(|error| (line, error.to_string()));
    };
    Err((line, reason))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &[u8]) -> Result<Vec<[String; 2]>, Wrong> {
        let shown = |path: &PathBuf| path.display().to_string();
        let all = parse(text)?;
        Ok(all.iter().map(|pair| [shown(&pair.folders[0]), shown(&pair.folders[1])]).collect())
    }

    #[test]
    fn two_lines_are_a_pair_however_they_are_written() {
        let one = Ok(vec![["/a".to_string(), "/b c".into()]]);
        for text in [
            "/a\n/b c",
            "/a\n/b c\n",
            "\n\n  /a\t\r\n  /b c \r\n\r\n\n",
            "\u{feff}/a\n/b c\n",
            "# photos\n/a\n# there\n/b c\n",
            "/a\n\n\n/b c\n",
        ] {
            assert_eq!(pairs(text.as_bytes()), one, "{text:?}");
        }
        let two = pairs(b"/a\n/b\n\n \n/c\n/d\n").expect("two pairs");
        assert_eq!(two, [["/a", "/b"], ["/c", "/d"]]);
        let here = std::env::current_dir().expect("a folder").display().to_string();
        assert_eq!(pairs(b"./#x\ny\n").expect("relative"), [[format!("{here}/#x"), format!("{here}/y")]]);
        let bytes = parse(b"/\xe4 /\n/b\n").expect("bytes");
        assert_eq!(bytes[0].folders[0].as_os_str().as_bytes(), b"/\xe4 /");
    }

    #[test]
    fn what_is_no_pair_is_refused_with_its_line() {
        type Said = &'static [(usize, &'static str)];
        let table: [(&[u8], Said); 12] = [
            (b"", &[(1, "names no folders")]),
            (b"\n \n# only words\n", &[(1, "names no folders")]),
            (b"\n/a\n", &[(2, "is missing")]),
            (b"/a\n/b\n\n/c\n", &[(4, "is missing")]),
            (b"/a\n\n/b\n\n/c\n", &[(1, "is missing"), (3, "is missing"), (5, "is missing")]),
            (b"/a\n/b\n/c\n", &[(3, "an empty line")]),
            (b"/a\n/b\n/c\n/d\n", &[(3, "an empty line")]),
            (b"~/a\n/b\n", &[(1, "`~` is not expanded")]),
            (b"/a\n$HOME/b\n", &[(2, "`$HOME` is not expanded")]),
            (b"~/a\n\n/b\n", &[(1, "`~` is not expanded")]),
            (b"/a\0\n/b\n", &[(1, "NUL")]),
            (b"\xff\xfe/\0a\0", &[(1, "UTF-16")]),
        ];
        for (text, expected) in table {
            let wrong = pairs(text).expect_err("unusable");
            let fits = wrong.len() == expected.len()
                && wrong.iter().zip(expected).all(|(is, should)| is.0 == should.0 && is.1.contains(should.1));
            assert!(fits, "{:?}: {wrong:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let (missing, empty) = (folder.path().join("none"), folder.path().join("empty"));
        fs::write(&empty, "").expect("written");
        for (path, words) in [(missing.as_path(), "No such file"), (folder.path(), "directory"), (&empty, "line 1: ")] {
            let said = read_pairs(path).expect_err("unusable").to_string();
            assert!(said.contains(words) && said.contains(&path.display().to_string()), "{said}");
        }
    }

    proptest! {
        #[test]
        fn parsing_takes_any_bytes(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'/'), any::<u8>()], 0..40)) {
            for pair in parse(&bytes).unwrap_or_default() {
                prop_assert!(pair.lines[0] < pair.lines[1] && pair.folders.iter().all(|folder| folder.is_absolute()));
            }
        }
    }
}
