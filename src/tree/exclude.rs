//! Owns which paths are left alone: the user's patterns in gitignore syntax, the reserved folder, and the program's
//! own files where they lie inside a root. It decides by path and kind; it reads nothing but the pattern text.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::path::RelPath;

/// The folder in a replica's root that holds the program's own things, and at the top of a filesystem that is mounted
/// inside the replica what is built for that; of the latter `fs::volume` knows.
pub const RESERVED: &[u8] = b".driftless";

/// What is neither watched, nor copied, nor removed.
#[derive(Clone, Debug)]
pub struct Exclude {
    patterns: Gitignore,
    lines: Vec<String>,
    own: Vec<RelPath>,
}

impl Default for Exclude {
    fn default() -> Self {
        Self { patterns: Gitignore::empty(), lines: Vec::new(), own: Vec::new() }
    }
}

/// Whether the same is said, word by word.
impl PartialEq for Exclude {
    fn eq(&self, other: &Self) -> bool {
        (&self.lines, &self.own) == (&other.lines, &other.own)
    }
}

/// A pattern that gitignore's syntax does not allow.
#[derive(Debug, thiserror::Error)]
#[error("bad pattern '{pattern}': {reason}")]
pub struct BadPattern {
    /// Its place among the patterns, from 0.
    pub index: usize,
    pub pattern: String,
    pub reason: String,
}

impl Exclude {
    /// Patterns relative to the source's root; the last one that matches a path decides, as in a .gitignore file.
    ///
    /// # Errors
    /// The first pattern that cannot be read as one.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut builder = GitignoreBuilder::new("");
        // Git lets such a pattern match nothing; who wrote it meant something.
        builder.allow_unclosed_class(false);
        let bad = |index, pattern: &str, e: ignore::Error| {
            // The library repeats the pattern in its words.
            let reason = e.to_string();
            let reason = reason.rsplit_once("': ").map_or(reason.as_str(), |(_, words)| words).to_string();
            BadPattern { index, pattern: pattern.into(), reason }
        };
        let mut lines = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            lines.push(pattern.to_string());
            builder.add_line(None, pattern).map_err(|e| bad(index, pattern, e))?;
        }
        let patterns = builder.build().map_err(|e| bad(0, "", e))?;
        Ok(Self { patterns, lines, own: Vec::new() })
    }

    /// Whether a line of a file with patterns is none.
    pub fn says_nothing(line: &str) -> bool {
        line.trim().is_empty() || line.starts_with('#')
    }

    /// Also leaves out one of the program's own files or folders.
    pub fn add_own(&mut self, path: RelPath) {
        self.own.push(path);
    }

    /// The patterns as they were given.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether this entry is left alone. Its folders are not asked about: who walks down asks on the way.
    pub fn skips(&self, path: &RelPath, is_folder: bool) -> bool {
        if path.is_root() {
            return false;
        }
        if path.as_bytes() == RESERVED || self.own.contains(path) {
            return true;
        }
        if self.patterns.is_empty() {
            return false;
        }
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        self.patterns.matched(path, is_folder).is_ignore()
    }

    /// Whether this path, or a folder above it, is left alone whatever lies there.
    pub fn skips_either(&self, path: &RelPath) -> bool {
        self.skips_within(path, false) && self.skips_within(path, true)
    }

    /// Whether where an entry lies can count, and not only what it is called.
    pub fn goes_by_place(&self) -> bool {
        let is_placed = |line: &String| line.trim_end().trim_end_matches('/').contains('/');
        !self.own.is_empty() || self.lines.iter().any(is_placed)
    }

    /// Whether this entry, or a folder above it, is left alone.
    pub fn skips_within(&self, path: &RelPath, is_folder: bool) -> bool {
        path.and_above().enumerate().any(|(up, path)| self.skips(&path, is_folder || up > 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn patterns_mean_what_gitignore_says() {
        let exclude = Exclude::new(["*.o", "/build/", "!keep.o", "docs/**/tmp", "# no pattern", ""]).expect("valid");
        for (text, folder, skipped) in [
            ("a.o", false, true),
            ("x/a.o", false, true),
            ("x/keep.o", false, false),
            ("build", true, true),
            ("build", false, false),
            ("x/build", true, false),
            ("docs/a/b/tmp", false, true),
            ("# no pattern", false, false),
        ] {
            assert_eq!(exclude.skips(&path(text), folder), skipped, "{text}");
        }
        assert!(exclude.skips_within(&path("build/x/y"), false));
        assert!(!exclude.skips_within(&path("src/x/y"), false));
    }

    #[test]
    fn own_things_are_left_alone_whatever_the_patterns_say() {
        let mut exclude = Exclude::new(["!.driftless", "!logs/mine.log"]).expect("valid");
        exclude.add_own(path("logs/mine.log"));
        assert!(exclude.skips(&path(".driftless"), true));
        assert!(exclude.skips(&path("logs/mine.log"), false));
        assert!(!exclude.skips(&path("x/.driftless"), true));
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let error = Exclude::new(["ok", "a[z-a]"]).expect_err("not a pattern");
        assert_eq!((error.index, error.pattern.as_str()), (1, "a[z-a]"));
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_name_makes_it_panic_and_its_own_folder_is_always_left_alone(
            patterns in prop::collection::vec(prop_oneof![any::<String>(), "[!/#*?\\[\\]\\\\{},a-c -]{0,12}"], 0..4),
            name in prop::collection::vec(1u8.., 1..20),
        ) {
            let name: Vec<u8> = name.into_iter().map(|byte| if byte == b'/' { b'a' } else { byte }).collect();
            let Ok(exclude) = Exclude::new(patterns.iter().map(String::as_str)) else { return Ok(()) };
            prop_assert!(exclude.skips(&path(".driftless"), true));
            if let Some(path) = RelPath::new(&name) {
                let _ = (exclude.skips(&path, false), exclude.skips_within(&path.join(b"b"), true));
            }
        }
    }
}
