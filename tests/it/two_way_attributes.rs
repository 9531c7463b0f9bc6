//! Attributes that both sides change where both folders are worked in: each is that of the side that has changed it, and what
//! one side has taken away does not come back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::fixture::{PATIENCE, Pair};
use crate::{compare, disk};

const ACCESS: &str = "system.posix_acl_access";
/// Set on everything before both sides agree.
const OLD: &str = "user.old";

/// What one side does to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    User,
    Group,
    Mode,
    Mtime,
    Acl,
    Set,
    Remove,
}

use Change::{Acl, Group, Mode, Mtime, Remove, Set, User};

/// What contradicts nothing: both are to be seen afterwards.
const BOTH: [(Change, Change); 9] = [
    (User, Mode),
    (User, Set),
    (User, Group),
    (User, Mtime),
    (Mode, Set),
    (Acl, Mtime),
    (Acl, Group),
    (Remove, Mode),
    (Remove, User),
];

const KINDS: [&str; 3] = ["file", "folder", "link"];

impl Change {
    fn fits(self, kind: &str) -> bool {
        kind != "link" || matches!(self, User | Group | Mtime)
    }

    fn make(self, path: &Path) {
        let now = || disk::stat(path);
        match self {
            User => disk::lchown(path, 1234, now().gid()),
            Group => disk::lchown(path, now().uid(), 77),
            Mode => disk::chmod(path, 0o710),
            Mtime => disk::set_mtime(path, 1_700_000_000, 123),
            Acl => assert!(disk::set_xattr(path, ACCESS, &disk::acl(7, (99, 5), 5, 5, 0))),
            Set => assert!(disk::set_xattr(path, "user.new", b"new")),
            Remove => disk::remove_xattr(path, OLD),
        }
    }

    fn is_seen(self, path: &Path) -> bool {
        let now = disk::stat(path);
        match self {
            User => now.uid() == 1234,
            Group => now.gid() == 77,
            Mode => now.mode() & 0o7777 == 0o710,
            Mtime => (now.mtime(), now.mtime_nsec()) == (1_700_000_000, 123),
            Acl => compare::xattrs(path).contains_key(ACCESS),
            Set => compare::xattrs(path).contains_key("user.new"),
            Remove => !compare::xattrs(path).contains_key(OLD),
        }
    }
}

/// What was written before this has settled on the file system's clock.
fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Each pair of changes on an entry of its own of each kind, which both sides have.
fn pair() -> Option<Pair> {
    let pair = Pair::new();
    if !disk::is_root() {
        disk::skipped("two-way attributes: only root may give files away");
        return None;
    }
    for (nth, kind) in (0..BOTH.len()).flat_map(|nth| KINDS.map(|kind| (nth, kind))) {
        let path = pair.source().join(format!("{kind}-{nth}"));
        match kind {
            "file" => disk::write(&path, "text"),
            "folder" => disk::write(&path.join("inner"), "text"),
            _ => {
                disk::symlink("nowhere", &path);
                continue;
            }
        }
        if !disk::set_xattr(&path, OLD, b"old") {
            disk::skipped("two-way attributes: no setfattr here, or no extended attributes");
            return None;
        }
    }
    Some(pair)
}

/// Makes the changes, the first of each two on the source if `is_forth`, and in either order.
fn change(pair: &Pair, (is_forth, swaps): (bool, bool)) {
    let (first, second) = if is_forth { (pair.source(), pair.replica()) } else { (pair.replica(), pair.source()) };
    let all = || {
        let of_kind = |(nth, changes)| KINDS.map(|kind| (format!("{kind}-{nth}"), kind, changes));
        BOTH.into_iter().enumerate().flat_map(of_kind)
    };
    for is_first in [!swaps, swaps] {
        for (name, kind, (one, other)) in all() {
            let (side, change) = if is_first { (&first, one) } else { (&second, other) };
            if one.fits(kind) && other.fits(kind) {
                change.make(&side.join(name));
            }
        }
        rest();
    }
}

#[track_caller]
fn assert_both_are_seen(pair: &Pair) {
    for (nth, (one, other)) in BOTH.into_iter().enumerate() {
        for kind in KINDS.into_iter().filter(|kind| one.fits(kind) && other.fits(kind)) {
            let path = pair.source().join(format!("{kind}-{nth}"));
            assert!(one.is_seen(&path) && other.is_seen(&path), "{kind}: {one:?} and {other:?}");
        }
    }
}

#[test]
fn what_each_side_has_changed_of_the_attributes_is_merged_by_a_pass() {
    for how in [(true, false), (true, true), (false, false), (false, true)] {
        let Some(pair) = pair() else { return };
        rest();
        pair.sync(&["--two-way"]);
        rest();
        change(&pair, how);
        let text = pair.sync(&["--two-way"]).text();
        assert!(!text.contains("Conflict"), "{text}");
        pair.assert_same();
        assert_both_are_seen(&pair);
        rest();
        let again = pair.sync(&["--two-way"]).text();
        let is_idle = again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links");
        assert!(is_idle, "{again}");
    }
}

#[test]
fn what_each_side_changes_of_the_attributes_is_merged_by_the_service() {
    for how in [(true, false), (false, true)] {
        let Some(pair) = pair() else { return };
        let watch = pair.watch(&["--two-way", "--debounce", "300ms"]);
        watch.assert_follows();
        rest();
        change(&pair, how);
        watch.flush();
        watch.assert_follows();
        assert!(!watch.log().contains("Conflict"), "{}", watch.log());
        assert_both_are_seen(&pair);
        watch.stop();
    }
}

/// The kernel's clock moves in steps, and within one a change of owner leaves the ctime that was agreed.
#[test]
fn an_owner_that_is_set_in_the_moment_in_which_a_copy_is_made_goes_across() {
    if !disk::is_root() {
        return disk::skipped("an owner set in that moment: only root may give files away");
    }
    for turned in [false, true] {
        let pair = Pair::of("");
        let (here, there) = if turned { (pair.replica(), pair.source()) } else { (pair.source(), pair.replica()) };
        let watch = pair.watch(&["--two-way"]);
        for n in 0..60 {
            let name = format!("file-{n}");
            disk::write(&here.join(&name), &name);
            let start = std::time::Instant::now();
            while fs::symlink_metadata(there.join(&name)).is_err() && start.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
            disk::lchown(&there.join(&name), 1234, 77);
        }
        watch.assert_follows();
        for n in 0..60 {
            let stat = disk::stat(&here.join(format!("file-{n}")));
            assert_eq!((stat.uid(), stat.gid()), (1234, 77), "file-{n}");
        }
    }
}
