//! Owns what the kernel's table of mounts tells: where a folder really lies, so that a bind mount does not hide that one
//! folder is inside another, which filesystems are mounted below a folder, and when the table changes. It reads the
//! table and nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

const TABLE: &str = "/proc/self/mountinfo";

/// One line of /proc/self/mountinfo; see proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The number that statx(2) tells, too.
    pub(super) id: u64,
    pub(super) device: String,
    /// The folder of its filesystem that is mounted.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    pub(super) is_read_only: bool,
    /// What was mounted, as who mounted it said: of a disk its device.
    pub(super) source: PathBuf,
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
    let table = std::fs::read(TABLE).unwrap_or_default();
    relation_in(&parse(&table), first, second)
}

/// Where the filesystem that shows `path`, which is canonical, is mounted. `None` if nobody can tell.
pub fn point_of(path: &Path) -> Option<PathBuf> {
    let table = std::fs::read(TABLE).ok()?;
    Some(seen_at(&parse(&table), path)?.point.clone())
}

/// A line of an fstab(5).
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub point: PathBuf,
    /// The machine starts without it.
    pub is_optional: bool,
}

/// What the text of an fstab(5) has mounted.
pub fn wanted_by(fstab: &[u8]) -> Vec<Wanted> {
    let wanted = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.next().filter(|device| !device.starts_with(b"#"))?;
        let point = PathBuf::from(OsStr::from_bytes(&unescape(words.next()?)));
        let mut options = words.nth(1).unwrap_or_default().split(|b| *b == b',');
        let is_optional = options.any(|option| matches!(option, b"nofail" | b"noauto"));
        Some(Wanted { point, is_optional })
    };
    fstab.split(|b| *b == b'\n').filter_map(wanted).filter(|wanted| wanted.point.is_absolute()).collect()
}

/// The table, open: it can be read by a thread that may not open it.
#[derive(Debug)]
pub struct Table(Option<Mutex<File>>);

impl Table {
    /// One that cannot be opened shows nothing, as in a container that hides it.
    pub fn open() -> Self {
        Self(File::open(TABLE).ok().map(Mutex::new))
    }

    /// Where something is mounted below `root`, which is canonical; each point once. `None` if nobody can tell.
    pub fn below(&self, root: &Path) -> Option<BTreeSet<PathBuf>> {
        let mut file = self.0.as_ref()?.lock().unwrap_or_else(|e| e.into_inner());
        let mut table = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut table)).ok()?;
        let points = parse(&table).into_iter().map(|mount| mount.point);
        Some(points.filter(|point| point != root && point.starts_with(root)).collect())
    }
}

/// Calls `changed` in a thread of its own whenever something was mounted or unmounted anywhere, until it returns false.
/// It sleeps in the kernel between.
///
/// # Errors
/// The table cannot be opened, or there is no thread to be had.
pub fn follow(mut changed: impl FnMut() -> bool + Send + 'static) -> std::io::Result<()> {
    let table = File::open(TABLE)?;
    let follow = move || {
        loop {
            let mut ready = [PollFd::new(&table, PollFlags::PRI)];
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if !changed() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("mounts".into()).spawn(follow).map(drop)
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

/// Of mounts on the same point the last one is what is seen.
fn seen_at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|m| path.starts_with(&m.point)).max_by_key(|m| m.point.components().count())
}

fn place(mounts: &[Mount], path: &Path) -> Option<Place> {
    let mount = seen_at(mounts, path)?;
    let rest = path.strip_prefix(&mount.point).ok()?;
    Some(Place { device: mount.device.clone(), path: mount.root.join(rest) })
}

/// All that is mounted, in the order of the table.
pub(super) fn all() -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(TABLE)?))
}

pub(super) fn parse(table: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| {
        let mut words = line.split(|b| *b == b' ');
        let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let mut words = words.skip(1);
        let (device, root, point) = (words.next()?, words.next()?, words.next()?);
        let options = words.next().unwrap_or_default();
        // As many optional words as there are, and the kind of the filesystem.
        let mut words = words.skip_while(|word| *word != b"-").skip(2);
        let (source, of_all) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_ro = |options: &[u8]| options.split(|b| *b == b',').any(|option| option == b"ro");
        let path = |word| PathBuf::from(OsStr::from_bytes(&unescape(word)));
        Some(Mount {
            id,
            device: String::from_utf8(device.to_vec()).ok()?,
            root: path(root),
            point: path(point),
            is_read_only: is_ro(options) || is_ro(of_all),
            source: path(source),
        })
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

    #[test]
    fn fstab_says_what_is_to_be_mounted() {
        let text = b"# <file system> <mount point>\n/dev/sda1  /  ext4 defaults 0 1\n\nUUID=1\t/mnt/my\\040disk\text4 noauto\n\
            /dev/sda2 none swap sw\n  #/dev/sdb /off\nlonely\n/dev/sdc /bare\n";
        let table = [("/", false), ("/mnt/my disk", true), ("/bare", false)];
        assert_eq!(wanted_by(text), table.map(|(point, is_optional)| Wanted { point: point.into(), is_optional }));
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = relation_in(&parse(&bytes), Path::new("/a"), Path::new("/b"));
            let _ = wanted_by(&bytes);
        }
    }
}
