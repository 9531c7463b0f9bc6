//! The strict comparison of two trees: what *identical* means, said a second time and independently of the program.
//!
//! Names as bytes, type, contents, all twelve mode bits, owner, mtime in nanoseconds (folders', symlinks' and the root's
//! as well), symlink targets, extended attributes with the ACLs, device numbers, link groups, and holes. Both trees are
//! walked in step through descriptors, so that paths may be of any length. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::buffer::spare_capacity;

use crate::disk::{Folder, kind_name};

/// One thing in which the trees differ, at a path relative to both roots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub path: Vec<u8>,
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.path.is_empty() { "(root)".to_owned() } else { self.path.escape_ascii().to_string() };
        write!(f, "{shown}: {}", self.what)
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the program's reserved folder may stand in the replica's root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// A service is running: its folder is passed over.
    Ignored,
    /// It has stopped cleanly: the folder counts like any other extra entry.
    Forbidden,
}

/// Panics with the first differences unless the trees are identical and nothing of the program is left.
#[track_caller]
pub fn assert_same(source: &Path, replica: &Path) {
    assert_none(&differences(source, replica, Reserved::Forbidden));
}

/// The same while a service is running.
#[track_caller]
pub fn assert_same_live(source: &Path, replica: &Path) {
    assert_none(&differences(source, replica, Reserved::Ignored));
}

#[track_caller]
pub fn assert_none(found: &[Difference]) {
    assert!(found.is_empty(), "{}", list(found));
}

/// The differences as lines, the first forty of them.
pub fn list(found: &[Difference]) -> String {
    let mut text = format!("{} differences between source and replica", found.len());
    for difference in found.iter().take(40) {
        text.push_str(&format!("\n  {difference}"));
    }
    text
}

pub fn differences(source: &Path, replica: &Path, reserved: Reserved) -> Vec<Difference> {
    let mut walk = Walk { reserved, found: Vec::new(), groups: Default::default() };
    match (fs::symlink_metadata(source), fs::symlink_metadata(replica)) {
        (Ok(left), Ok(right)) => walk.both(&[], [source, replica], [&left, &right]),
        (Err(error), _) => walk.differs(&[], format!("source: {error}")),
        (_, Err(error)) => walk.differs(&[], format!("replica: {error}")),
    }
    walk.compare_groups();
    walk.found.sort();
    walk.found
}

/// Names of each inode that has several, by device and inode.
type Groups = BTreeMap<(u64, u64), BTreeSet<Vec<u8>>>;

struct Walk {
    reserved: Reserved,
    found: Vec<Difference>,
    groups: [Groups; 2],
}

impl Walk {
    fn differs(&mut self, path: &[u8], what: String) {
        self.found.push(Difference { path: path.to_vec(), what });
    }

    fn unequal<T: PartialEq + fmt::Debug>(&mut self, path: &[u8], what: &str, left: T, right: T) {
        if left != right {
            self.differs(path, format!("{what} is {left:?} in the source and {right:?} in the replica"));
        }
    }

    /// Both sides have the path: compares it, and what is below it.
    fn both(&mut self, path: &[u8], places: [&Path; 2], [left, right]: [&Metadata; 2]) {
        self.unequal(path, "type", kind_name(left.file_type()), kind_name(right.file_type()));
        if left.file_type() != right.file_type() {
            return;
        }
        if !left.file_type().is_symlink() {
            self.unequal(path, "mode", Octal(left.mode() & 0o7777), Octal(right.mode() & 0o7777));
        }
        self.unequal(path, "owner", (left.uid(), left.gid()), (right.uid(), right.gid()));
        self.unequal(path, "mtime", (left.mtime(), left.mtime_nsec()), (right.mtime(), right.mtime_nsec()));
        self.unequal(path, "xattrs", xattrs(places[0]), xattrs(places[1]));
        for (group, seen) in self.groups.iter_mut().zip([left, right]) {
            if !seen.is_dir() && seen.nlink() > 1 {
                group.entry((seen.dev(), seen.ino())).or_default().insert(path.to_vec());
            }
        }
        let kind = left.file_type();
        if kind.is_dir() {
            self.folders(path, places);
        } else if kind.is_file() {
            self.files(path, places, [left, right]);
        } else if kind.is_symlink() {
            let [left, right] = places.map(|place| fs::read_link(place).ok());
            self.unequal(path, "target", left, right);
        } else {
            self.unequal(path, "device", left.rdev(), right.rdev());
        }
    }

    fn folders(&mut self, path: &[u8], places: [&Path; 2]) {
        let [left, right] = places.map(|place| Folder::open(place).and_then(|f| names(&f).map(|n| (f, n))));
        let ((left, left_names), (right, right_names)) = match (left, right) {
            (Ok(left), Ok(right)) => (left, right),
            // An ordinary user may look into neither: then there is nothing that can be said of what is below.
            (Err(_), Err(_)) => return,
            (Err(error), Ok(_)) => return self.differs(path, format!("source cannot be listed: {error}")),
            (Ok(_), Err(error)) => return self.differs(path, format!("replica cannot be listed: {error}")),
        };
        for name in left_names.union(&right_names) {
            if path.is_empty() && name == ".driftless" && self.reserved == Reserved::Ignored {
                continue;
            }
            let below = join(path, name);
            let places = [left.join(name), right.join(name)];
            match (fs::symlink_metadata(&places[0]), fs::symlink_metadata(&places[1])) {
                (Ok(left), Ok(right)) => self.both(&below, [&places[0], &places[1]], [&left, &right]),
                (Ok(left), Err(_)) => self.differs(&below, format!("missing ({})", kind_name(left.file_type()))),
                (Err(_), Ok(right)) => self.differs(&below, format!("extra ({})", kind_name(right.file_type()))),
                (Err(_), Err(_)) => {}
            }
        }
    }

    fn files(&mut self, path: &[u8], places: [&Path; 2], [left, right]: [&Metadata; 2]) {
        if left.len() != right.len() {
            return self.unequal(path, "size", left.len(), right.len());
        }
        let has_holes = |file: &Metadata| file.len() >= 64 * 1024 && file.blocks() * 512 < file.len() / 2;
        if has_holes(left) && !has_holes(right) {
            self.differs(path, format!("holes are filled: {} of {} bytes", right.blocks() * 512, right.len()));
        }
        match (File::open(places[0]), File::open(places[1])) {
            (Ok(left), Ok(right)) => {
                if let Some(at) = first_unequal_block(left, right) {
                    self.differs(path, format!("contents differ near byte {at}"));
                }
            }
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => self.differs(path, format!("source cannot be read: {error}")),
            (Ok(_), Err(error)) => self.differs(path, format!("replica cannot be read: {error}")),
        }
    }

    fn compare_groups(&mut self) {
        let [left, right] = std::mem::take(&mut self.groups).map(|groups| {
            let several = groups.into_values().filter(|names| names.len() > 1);
            several.flat_map(|names| names.clone().into_iter().map(move |name| (name, names.clone()))).collect()
        });
        let (left, right): (BTreeMap<_, _>, BTreeMap<_, _>) = (left, right);
        for path in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
            let [here, there] = [&left, &right].map(|groups| groups.get(path).map(shown));
            self.unequal(path, "link group", here, there);
        }
    }
}

fn shown(names: &BTreeSet<Vec<u8>>) -> Vec<String> {
    names.iter().map(|name| name.escape_ascii().to_string()).collect()
}

/// A mode that shows itself the way people write modes.
#[derive(PartialEq)]
struct Octal(u32);

impl fmt::Debug for Octal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

pub fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, slash, name.as_bytes()].concat()
}

fn names(folder: &Folder) -> std::io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

fn first_unequal_block(mut left: File, mut right: File) -> Option<u64> {
    let (mut here, mut there) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    let mut at = 0;
    loop {
        let (a, b) = (fill(&mut left, &mut here), fill(&mut right, &mut there));
        if here[..a] != there[..b] {
            return Some(at);
        }
        if a == 0 {
            return None;
        }
        at += a as u64;
    }
}

fn fill(file: &mut File, block: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) => panic!("read: {error}"),
        }
    }
    filled
}

/// All extended attributes of the entry itself, without the label that the system's own policy puts on it.
pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = Vec::with_capacity(64 * 1024);
    if rustix::fs::llistxattr(path, spare_capacity(&mut list)).is_err() {
        return BTreeMap::new();
    }
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    names
        .map(|name| {
            let mut value = Vec::with_capacity(64 * 1024);
            let name = OsString::from_vec(name.to_vec());
            if let Err(error) = rustix::fs::lgetxattr(path, name.as_os_str(), spare_capacity(&mut value)) {
                value = error.to_string().into_bytes();
            }
            (name.to_string_lossy().into_owned(), value)
        })
        .collect()
}
