//! Owns the path of an entry inside a tree: bytes, relative, with neither `.` nor `..`.
//! Only `fs::root` turns one into a system call; nothing here touches a disk.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A path below a root: names joined by `/`; empty for the root itself.
///
/// Ordered by name, level by level, so that a folder comes right before what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    pub fn root() -> Self {
        Self::default()
    }

    /// The path that `bytes` spell, or `None` where a part is empty, `.`, `..`, or holds a NUL.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let valid = bytes.is_empty() || bytes.split(|b| *b == b'/').all(is_name);
        valid.then(|| Self(bytes.into()))
    }

    /// The part of `path` below `root`, if it lies there and is spelt plainly.
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        let rest = path.strip_prefix(root).ok()?;
        let plain = rest.components().all(|c| matches!(c, Component::Normal(_)));
        plain.then(|| Self::new(rest.as_os_str().as_bytes())).flatten()
    }

    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(is_name(name));
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes.into())
    }

    /// The folder that holds this entry and the entry's name; `None` for the root.
    pub fn split(&self) -> Option<(RelPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (Self(self.0[..at].into()), &self.0[at + 1..]),
            None => (Self::root(), &self.0),
        })
    }

    /// This path, the folder that holds it, and so on up to the root.
    pub fn and_above(&self) -> impl Iterator<Item = RelPath> + use<> {
        std::iter::successors(Some(self.clone()), |path| path.split().map(|(parent, _)| parent))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this is `folder` or lies below it.
    pub fn is_within(&self, folder: &RelPath) -> bool {
        folder.is_root()
            || (self.0.starts_with(&folder.0) && (self.0.len() == folder.0.len() || self.0[folder.0.len()] == b'/'))
    }

    /// Where this path is after `from`, which holds it, became `to`.
    pub fn moved(&self, from: &RelPath, to: &RelPath) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        Some(match (to.is_root(), rest.is_empty()) {
            (_, true) => to.clone(),
            (true, false) => Self(rest.into()),
            (false, false) => Self([to.as_bytes(), b"/", rest].concat().into()),
        })
    }

    /// For messages, and for interfaces that take nothing but paths.
    pub fn to_path(&self, root: &Path) -> PathBuf {
        if self.is_root() {
            return root.to_path_buf();
        }
        root.join(OsStr::from_bytes(&self.0))
    }
}

/// Whether the kernel would take these bytes as the name of one entry.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // `/` sorts below every other byte, so that `a/b` comes before `a.b`.
        let key = |b: u8| if b == b'/' { 0 } else { u16::from(b) + 1 };
        // What they have in common, as most paths of a tree have, is passed over eight bytes at a time.
        let (eights, others) = (self.0.chunks_exact(8), other.0.chunks_exact(8));
        let common = 8 * eights.zip(others).take_while(|(a, b)| a == b).count();
        let rest = self.0[common..].iter().copied().map(key);
        rest.cmp(other.0[common..].iter().copied().map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for RelPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn paths_in_their_order() {
        let sorted = [
            "",
            "a",
            "a/b",
            "a/b/c",
            "a/c",
            "a b",
            "a.b",
            "a0",
            "ab",
            "abcdefgh",
            "abcdefgh/b",
            "abcdefgh b",
            "abcdefghi",
            "abcdefgi/a",
            "b",
            "b/a",
            "é",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(path(a).cmp(&path(b)), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\0b"] {
            assert_eq!(RelPath::new(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(RelPath::below(Path::new("/s"), Path::new("/s/../x")), None);
        assert_eq!(RelPath::below(Path::new("/s"), Path::new("/sx")), None);
    }

    #[test]
    fn split_undoes_join() {
        for (folder, name) in [("", "a"), ("a", "b"), ("a/b", "c d")] {
            let joined = path(folder).join(name.as_bytes());
            assert_eq!(joined.split(), Some((path(folder), name.as_bytes())));
        }
        assert_eq!(RelPath::root().split(), None);
    }

    #[test]
    fn within_and_moved_respect_names() {
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
        assert!(path("a").is_within(&RelPath::root()));
        assert_eq!(path("a/b/c").moved(&path("a"), &path("x/y")), Some(path("x/y/b/c")));
        assert_eq!(path("a").moved(&path("a"), &path("x")), Some(path("x")));
        assert_eq!(path("ab").moved(&path("a"), &path("x")), None);
    }
}
