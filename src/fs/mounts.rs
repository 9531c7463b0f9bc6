//! Owns where folders really lie: a path as the kernel's table of mounts resolves it, so that a bind mount does not
//! hide that one folder is inside another. It reads the table and nothing else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One line of /proc/self/mountinfo; see proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    /// The folder of its filesystem that is mounted.
    root: PathBuf,
    point: PathBuf,
}

/// A folder as its filesystem names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    device: String,
    path: PathBuf,
}

/// How two folders lie to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Apart,
    Same,
    /// The second lies inside the first.
    Inside,
    /// The first lies inside the second.
    Around,
}

/// How `second` lies to `first`, both canonical.
pub fn relation(first: &Path, second: &Path) -> Relation {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    relation_in(&parse(&table), first, second)
}

fn relation_in(mounts: &[Mount], first: &Path, second: &Path) -> Relation {
    let direct = relate(first, second);
    if direct != Relation::Apart {
        return direct;
    }
    let (Some(a), Some(b)) = (place(mounts, first), place(mounts, second)) else { return Relation::Apart };
    if a.device == b.device {
        let by_place = relate(&a.path, &b.path);
        if by_place != Relation::Apart {
            return by_place;
        }
    }
    // A part of one is mounted somewhere below the other.
    let shows = |outer: &Path, inner: &Place| {
        mounts
            .iter()
            .filter(|m| m.point.starts_with(outer) && m.point != outer)
            .any(|m| m.device == inner.device && relate(&m.root, &inner.path) != Relation::Apart)
    };
    if shows(first, &b) {
        Relation::Inside
    } else if shows(second, &a) {
        Relation::Around
    } else {
        Relation::Apart
    }
}

fn relate(first: &Path, second: &Path) -> Relation {
    match (second.starts_with(first), first.starts_with(second)) {
        (true, true) => Relation::Same,
        (true, false) => Relation::Inside,
        (false, true) => Relation::Around,
        (false, false) => Relation::Apart,
    }
}

fn place(mounts: &[Mount], path: &Path) -> Option<Place> {
    // Of mounts on the same point the last one is what is seen.
    let mount = mounts.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.components().count())?;
    let rest = path.strip_prefix(&mount.point).ok()?;
    Some(Place { device: mount.device.clone(), path: mount.root.join(rest) })
}

fn parse(table: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| {
        let mut words = line.split(|b| *b == b' ').skip(2);
        let (device, root, point) = (words.next()?, words.next()?, words.next()?);
        let path = |word| PathBuf::from(OsStr::from_bytes(&unescape(word)));
        Some(Mount { device: String::from_utf8(device.to_vec()).ok()?, root: path(root), point: path(point) })
    };
    table.split(|b| *b == b'\n').filter_map(line).collect()
}

/// Spaces and the like are written as three octal digits behind a backslash.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|d| *first == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        match digits {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        23 22 254:0 /data/deep /mnt/bind rw - ext4 /dev/vda rw\n\
        24 22 0:30 / /mnt/with\\040space rw - tmpfs t rw\n\
        25 22 254:0 /copy /data/in rw - ext4 /dev/vda rw\n";

    fn of(first: &str, second: &str) -> Relation {
        relation_in(&parse(TABLE), Path::new(first), Path::new(second))
    }

    #[test]
    fn bind_mounts_do_not_hide_where_a_folder_lies() {
        assert_eq!(of("/data", "/data"), Relation::Same);
        assert_eq!(of("/data", "/data/x"), Relation::Inside);
        assert_eq!(of("/data/x", "/data"), Relation::Around);
        assert_eq!(of("/data", "/mnt/bind"), Relation::Inside);
        assert_eq!(of("/data/deep", "/mnt/bind"), Relation::Same);
        assert_eq!(of("/mnt/bind/x", "/data"), Relation::Around);
        assert_eq!(of("/data", "/copy"), Relation::Inside);
        assert_eq!(of("/copy", "/data"), Relation::Around);
        assert_eq!(of("/data", "/mnt/with space"), Relation::Apart);
        assert_eq!(of("/data", "/data2"), Relation::Apart);
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = relation_in(&parse(&bytes), Path::new("/a"), Path::new("/b"));
        }
    }
}
