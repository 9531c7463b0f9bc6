//! Somebody who may write in the source, in the replica, or in both, and who means harm: nothing outside the two folders
//! changes, nothing from outside comes in, and when he stops the two are made equal.
//!
//! The attackers swap entries for links as fast as they can while the service works. They and the writer reach what is
//! theirs through open folders, as the service does: by path they would walk through their own traps. How long they go
//! on, in seconds, is said by `DRIFTLESS_ATTACK_SECONDS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::fixture::{Pair, eventually};
use crate::{compare, disk};

const TREE: &str = r#"
    a/file "the same everywhere"
    a/other "other"
    a/mid/file "the same everywhere"
    a/mid/other "other"
    a/mid/low/file "the same everywhere"
    a/mid/low/other "other"
    still/file "the same everywhere"
"#;
const FOLDERS: [&str; 3] = ["a", "a/mid", "a/mid/low"];
const SECRET: &[u8] = b"nobody's business";

/// Folders beside the pair: what must not be touched, and a place for the attackers' things.
struct Outside {
    path: PathBuf,
    before: BTreeMap<PathBuf, Canary>,
    inodes: BTreeSet<u64>,
}

/// All of an entry that somebody who got out would change. Names of the attackers' own making move `nlink` and `ctime`.
#[derive(Debug, PartialEq, Eq)]
struct Canary {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    xattrs: BTreeMap<String, Vec<u8>>,
    contents: Vec<u8>,
}

impl Outside {
    /// The same names as in the tree, so that who follows a link finds all that he looks for.
    fn beside(pair: &Pair) -> Self {
        let path = pair.top().join("outside");
        crate::tree::build(&path, TREE);
        let secret = String::from_utf8_lossy(SECRET).into_owned();
        for folder in FOLDERS {
            for name in ["file", "other", "secret"] {
                disk::write(&path.join(folder).join(name), &secret);
            }
        }
        // Equal to a file of the tree in its contents alone.
        let twin = path.join("twin");
        disk::write(&twin, "the same everywhere");
        disk::chmod(&twin, 0o600);
        disk::set_xattr(&twin, "user.mine", b"yes");
        disk::set_mtime(&twin, 1_000_000_000, 1);
        let before = canaries(&path);
        let inodes = before.keys().map(|name| disk::inode(&path.join(name))).collect();
        Self { path, before, inodes }
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let now = canaries(&self.path);
        let names = |all: &BTreeMap<PathBuf, Canary>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.before), "what there is outside");
        for (name, before) in &self.before {
            assert_eq!(&now[name], before, "outside: {}", name.display());
        }
    }
}

fn canaries(top: &Path) -> BTreeMap<PathBuf, Canary> {
    let all = walkdir::WalkDir::new(top).into_iter().map(|entry| entry.expect("walk").into_path());
    let canary = |path: PathBuf| {
        let stat = disk::stat(&path);
        let contents = if stat.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        let canary = Canary {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            size: stat.size(),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            xattrs: compare::xattrs(&path),
            contents,
        };
        (path.strip_prefix(top).expect("below").to_path_buf(), canary)
    };
    all.map(canary).collect()
}

/// A folder of a tree, through no link, whatever stands in its way now.
fn open(root: &Path, folder: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    folder
        .split('/')
        .filter(|name| !name.is_empty())
        .try_fold(root, |at, name| rustix::fs::openat(&at, name, flags, Mode::empty()))
}

/// What is put in the place of an entry.
#[derive(Clone, Copy, Debug)]
enum Bait {
    Symlink,
    Fifo,
    HardLink,
}

/// One attacker: an entry of one side, and what he puts in its place.
struct Attacker<'a> {
    root: &'a Path,
    folder: &'a str,
    name: &'a str,
    /// What a link leads to, or is another name of.
    target: PathBuf,
    baits: &'a [Bait],
    stash: PathBuf,
}

impl Attacker<'_> {
    /// Swaps and swaps back until told to stop. Each end of it leaves the source as it was; what is left of the replica
    /// is the service's to mend.
    fn run(&self, stop: &AtomicBool, swaps: &AtomicU64) {
        fs::create_dir_all(&self.stash).expect("a stash");
        let stash = open(&self.stash, "").expect("the stash");
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            round += 1;
            let bait = self.baits[round % self.baits.len()];
            self.clear("bait");
            self.lay(bait);
            let by_exchange = round % 3 != 0;
            if let Ok(folder) = open(self.root, self.folder)
                && self.swap(folder.as_fd(), stash.as_fd(), by_exchange).is_ok()
            {
                swaps.fetch_add(1, Ordering::Relaxed);
                pause(round);
                let _ = self.swap_back(folder.as_fd(), stash.as_fd(), by_exchange);
            }
            pause(round / 2);
        }
    }

    /// Removes what has come into the stash. The service may be at work in it still.
    fn clear(&self, name: &str) {
        let path = self.stash.join(name);
        eventually(Duration::from_secs(60), "the stash is cleared", || {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            (!disk::exists(&path)).then_some(())
        });
    }

    fn lay(&self, bait: Bait) {
        let path = self.stash.join("bait");
        match bait {
            Bait::Symlink => disk::symlink(&self.target, &path),
            Bait::Fifo => disk::make_fifo(&path),
            Bait::HardLink => disk::hard_link(&self.target, &path),
        }
    }

    fn swap(&self, folder: BorrowedFd, stash: BorrowedFd, by_exchange: bool) -> Result<(), Errno> {
        if by_exchange {
            return rustix::fs::renameat_with(folder, self.name, stash, "bait", RenameFlags::EXCHANGE);
        }
        rustix::fs::renameat(folder, self.name, stash, "held")?;
        rustix::fs::renameat_with(stash, "bait", folder, self.name, RenameFlags::NOREPLACE)
    }

    fn swap_back(&self, folder: BorrowedFd, stash: BorrowedFd, by_exchange: bool) -> Result<(), Errno> {
        if by_exchange {
            return rustix::fs::renameat_with(folder, self.name, stash, "bait", RenameFlags::EXCHANGE);
        }
        let _ = rustix::fs::unlinkat(folder, self.name, AtFlags::empty());
        let back = rustix::fs::renameat_with(stash, "held", folder, self.name, RenameFlags::NOREPLACE);
        // In the replica the service has made another one by now.
        if back.is_err() {
            self.clear("held");
        }
        back
    }
}

/// Between nothing and three milliseconds.
fn pause(round: usize) {
    let micros = (round.wrapping_mul(2_654_435_761) >> 7) % 3000;
    if micros > 300 {
        thread::sleep(Duration::from_micros(micros as u64));
    }
}

/// Works in the source through folders that were opened before.
fn write(folders: &[OwnedFd], files: &[OwnedFd], stop: &AtomicBool) {
    let mut round = 0_u32;
    let (create, mode) = (OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW, Mode::from(0o644));
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for (folder, file) in folders.iter().zip(files) {
            let name = format!("made-{}", round % 7);
            if let Ok(made) = rustix::fs::openat(folder, &name, create, mode) {
                File::from(made).write_all(format!("round {round}").as_bytes()).expect("write");
            }
            let _ = rustix::fs::unlinkat(folder, format!("made-{}", (round + 3) % 7), AtFlags::empty());
            // The same inode always, wherever its name is in this moment.
            rustix::fs::fchmod(file, Mode::from(0o640 | (round & 0o4))).expect("chmod");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads all files that there are below a folder, through no link, and looks for the secret.
fn find_secret(folder: &OwnedFd, outside: &BTreeSet<u64>, path: &str, found: &mut Vec<String>) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let path = format!("{path}/{}", name.to_string_lossy());
        if [c".", c".."].contains(&name) {
            continue;
        }
        let Ok(open) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&open) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => find_secret(&open, outside, &path, found),
            FileType::RegularFile if !outside.contains(&stat.st_ino) => {
                let mut contents = Vec::new();
                let read = File::from(open).read_to_end(&mut contents);
                if read.is_ok() && contents.windows(SECRET.len()).any(|part| part == SECRET) {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
}

fn duration() -> Duration {
    let asked = std::env::var("DRIFTLESS_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(5))
}

/// Lets the attackers loose on a running service, and asserts what holds meanwhile and afterwards.
fn attack(pair: &Pair, outside: &Outside, attackers: &[Attacker]) {
    let watch = pair.watch(&["-q", "--interval", "1s", "--max-delete", "100%"]);
    let (stop, swaps, looks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let folders: Vec<OwnedFd> = FOLDERS.map(|folder| open(&pair.source(), folder).expect("a folder")).into();
    let file = |folder| rustix::fs::openat(folder, "file", OFlags::RDONLY, Mode::empty()).expect("the file");
    let files: Vec<OwnedFd> = folders.iter().map(file).collect();
    let mut found = Vec::new();
    thread::scope(|scope| {
        for attacker in attackers {
            scope.spawn(|| attacker.run(&stop, &swaps));
        }
        scope.spawn(|| write(&folders, &files, &stop));
        let start = Instant::now();
        let enough = || swaps.load(Ordering::Relaxed) > 100 && looks.load(Ordering::Relaxed) > 10;
        while start.elapsed() < duration() || (!enough() && start.elapsed() < duration() * 10) {
            if let Ok(replica) = open(&pair.replica(), "") {
                find_secret(&replica, &outside.inodes, "", &mut found);
                looks.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(found.is_empty(), "the secret is in the replica: {:?}", &found[..found.len().min(10)]);
    outside.assert_untouched();
    assert!(swaps.load(Ordering::Relaxed) > 100, "the attackers got nothing done");
    assert!(looks.load(Ordering::Relaxed) > 10, "nobody looked");
    watch.client("sweep", &[]).expect_code(0);
    eventually(Duration::from_secs(60), "the replica is made equal", || {
        watch.flush();
        let differences = compare::differences(&pair.source(), &pair.replica(), compare::Reserved::Ignored);
        differences.is_empty().then_some(())
    });
    outside.assert_untouched();
    watch.stop();
    pair.assert_same();
}

/// The name and the folder of an entry.
fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[test]
fn folders_are_swapped_for_links_on_both_sides_and_nothing_steps_outside() {
    let pair = Pair::of(TREE);
    let outside = Outside::beside(&pair);
    let (source, replica) = (pair.source(), pair.replica());
    let mut attackers = Vec::new();
    for (side, root) in [("source", &source), ("replica", &replica)] {
        for path in FOLDERS {
            let (folder, name) = parts(path);
            let stash = pair.top().join(format!("stash-{side}-{name}"));
            let target = outside.path.join(path);
            attackers.push(Attacker { root, folder, name, target, baits: &[Bait::Symlink], stash });
        }
    }
    attack(&pair, &outside, &attackers);
}

#[test]
fn files_are_swapped_for_links_and_fifos_on_both_sides_and_nothing_steps_outside() {
    let pair = Pair::of(TREE);
    let outside = Outside::beside(&pair);
    let (source, replica) = (pair.source(), pair.replica());
    let twin = outside.path.join("twin");
    let mut attackers = Vec::new();
    for (side, root) in [("source", &source), ("replica", &replica)] {
        for folder in FOLDERS {
            let stash = |name: &str| pair.top().join(format!("stash-{side}-{}-{name}", parts(folder).1));
            let secret = outside.path.join(folder).join("secret");
            let (links, twins) = (&[Bait::Symlink, Bait::Fifo], &[Bait::HardLink]);
            attackers.push(Attacker {
                root,
                folder,
                name: "other",
                target: secret,
                baits: links,
                stash: stash("other"),
            });
            let (name, target) = ("file", twin.clone());
            attackers.push(Attacker { root, folder, name, target, baits: twins, stash: stash("file") });
        }
    }
    attack(&pair, &outside, &attackers);
}

/// A file outside under a name in the replica, with the contents that belong there and no other attribute.
fn plant_twin(pair: &Pair, outside: &Outside, name: &str) {
    let planted = pair.replica().join(name);
    disk::remove(&planted);
    disk::hard_link(&outside.path.join("twin"), &planted);
}

#[test]
fn replica_file_that_is_one_outside_too_is_built_anew_before_its_attributes_change() {
    let pair = Pair::of(TREE);
    let outside = Outside::beside(&pair);
    pair.sync(&[]);
    plant_twin(&pair, &outside, "a/file");
    pair.sync(&[]);
    outside.assert_untouched();
    pair.assert_same();
    assert_eq!(disk::stat(&outside.path.join("twin")).nlink(), 1);
    // Equal in all, so that it was left where it was planted; then the source changes.
    let watch = pair.watch(&[]);
    plant_twin(&pair, &outside, "still/file");
    disk::chmod(&pair.source().join("still/file"), 0o640);
    watch.assert_follows();
    outside.assert_untouched();
    watch.stop();
}

#[test]
fn snapshot_by_hard_links_keeps_its_attributes() {
    let pair = Pair::of(TREE);
    pair.sync(&[]);
    let (snapshot, source) = (pair.top().join("snapshot"), pair.source().join("still/file"));
    disk::hard_link(&pair.replica().join("still/file"), &snapshot);
    let watch = pair.watch(&[]);
    let before = disk::stat(&snapshot);
    disk::chmod(&source, 0o600);
    disk::set_mtime(&source, 1_234_567_890, 5);
    watch.assert_follows();
    let now = disk::stat(&snapshot);
    assert_eq!((now.mode(), now.mtime(), now.nlink()), (before.mode(), before.mtime(), 1));
}

#[test]
fn names_that_are_all_in_the_replica_keep_their_inode_when_attributes_change() {
    let pair = Pair::of("a/one \"first\"\n b/two = a/one\n c/three = a/one");
    let watch = pair.watch(&[]);
    let (before, one) = (disk::inode(&pair.replica().join("a/one")), pair.source().join("a/one"));
    disk::chmod(&one, 0o600);
    watch.assert_follows();
    assert_eq!(disk::inode(&pair.replica().join("b/two")), before, "{}", watch.log());
}

#[test]
fn setuid_is_set_on_contents_that_were_built_for_it() {
    let pair = Pair::of("tool \"#!/bin/sh\" +x");
    pair.sync(&[]);
    let (source, replica) = (pair.source().join("tool"), pair.replica().join("tool"));
    let plain = disk::inode(&replica);
    disk::chmod(&source, 0o4755);
    pair.sync(&[]);
    pair.assert_same();
    let built = disk::inode(&replica);
    assert_ne!(built, plain, "somebody could have had the old file open for writing");
    // Nothing is granted by this that it did not have.
    disk::chmod(&source, 0o4711);
    pair.sync(&[]);
    pair.assert_same();
    assert_eq!(disk::inode(&replica), built);
    disk::write(&source, "#!/bin/dash");
    disk::chmod(&source, 0o755);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn threads_that_touch_the_folders_are_confined_to_them() {
    let pair = Pair::of(TREE);
    let watch = pair.watch(&["-v"]);
    // Each thread builds its wall before its first work.
    disk::write(&pair.source().join("saved"), "s");
    eventually(Duration::from_secs(60), "the save", || pair.replica().join("saved").exists().then_some(()));
    if !watch.log().contains("are confined to them: Landlock holds") {
        return disk::skipped("no Landlock here");
    }
    let confined = |name: &str| {
        let tasks = fs::read_dir(format!("/proc/{}/task", watch.pid())).expect("threads");
        let task = tasks
            .flatten()
            .map(|task| task.path())
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
        let status = fs::read_to_string(task.expect(name).join("status")).expect("status");
        status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]))
    };
    assert!(confined("express") && confined("pass"));
    assert!(!confined("driftless"), "the log has to be opened anew by the others");
}
