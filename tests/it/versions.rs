//! What the replica loses is kept: by its path and its time, with all that it was, and as the same inode.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use jiff::Zoned;

use crate::deletions::numbered;
use crate::disk;
use crate::fixture::{Pair, Ran, run, wrapped};
use crate::kinds::{Kind, kinds, make, pairs, remove, with_anchors};
use crate::mounts::Namespace;
use crate::versions_model::{KEEP, Noted, unrestored, untold};
use crate::versions_past::{Picture, journal, shown};

/// What is kept, by the path that it had: when it was lost, as its name says, its inode, and all that it is.
fn kept_in(replica: &Path) -> BTreeMap<Vec<u8>, Vec<(String, u64)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, ino) in Picture::of(&replica.join(".driftless/versions")).names {
        let text = String::from_utf8(path).expect("plain names here");
        let Some((stem, rest)) = text.rsplit_once('~') else { continue };
        let (time, extension) = rest.split_at("2026-11-22_12-41-48.000000".len());
        all.entry(format!("{stem}{extension}").into_bytes()).or_default().push((time.to_owned(), ino));
    }
    all
}

/// Of all that was in the replica and is there no more, the same inode is kept under its path, with nothing of it changed.
#[track_caller]
fn assert_lost_is_kept(replica: &Path, before: &Picture) -> usize {
    let (now, kept) = (Picture::of(replica), kept_in(replica));
    let versions = Picture::of(&replica.join(".driftless/versions"));
    let still: BTreeSet<u64> = now.names.values().copied().collect();
    let mut lost = 0;
    for (path, ino) in &before.names {
        let was = &before.inodes[ino];
        if was.kind == "folder" || now.names.get(path) == Some(ino) {
            continue;
        }
        let has = kept.get(path).is_some_and(|all| all.iter().any(|(_, kept)| kept == ino));
        assert!(has || still.contains(ino), "{} is not kept; there is {kept:?}", shown(path));
        if has {
            assert_eq!(&versions.inodes[ino], was, "{}", shown(path));
            lost += 1;
        }
    }
    lost
}

#[track_caller]
fn sync(pair: &Pair) -> Ran {
    // Older than the clock's grain: nothing is compared for its youth alone.
    thread::sleep(Duration::from_millis(15));
    pair.sync(&KEEP)
}

/// All words that the journal has for a path.
fn told(pair: &Pair, path: &str) -> Vec<String> {
    journal(&pair.replica()).into_iter().filter(|line| line.path == path.as_bytes()).map(|line| line.word).collect()
}

/// The kinds that are kept in different ways.
fn unlike(pair: &Pair) -> Vec<Kind> {
    let alike = [
        Kind::EmptyFile,
        Kind::BigFile,
        Kind::ReadOnlyFile,
        Kind::SparseFile,
        Kind::LinkToFile,
        Kind::LinkToFolder,
        Kind::Folder,
    ];
    kinds(pair.top()).into_iter().filter(|kind| !alike.contains(kind)).collect()
}

fn mode(path: &Path) -> u32 {
    disk::stat(path).mode() & 0o7777
}

#[test]
fn what_is_overwritten_is_kept_by_its_path_and_its_time_with_all_that_it_was() {
    let pair = Pair::of("dir/sub/report.pdf \"first\" mode=4711\n dir/plain \"1\"\n dir/.hidden \"h\"");
    let file = pair.source().join("dir/sub/report.pdf");
    disk::set_mtime(&file, 1_234_567_890, 123_456_789);
    disk::set_xattr(&file, "user.tag", b"of old");
    if disk::is_root() {
        disk::lchown(&file, 4321, 1234);
        disk::chmod(&file, 0o4751);
        disk::set_xattr(&file, "system.posix_acl_access", &disk::acl(7, (4242, 6), 5, 7, 1));
    }
    sync(&pair);
    let before = Picture::of(&pair.replica());
    let earliest = Zoned::now();
    disk::save_atomically(&file, b"second");
    disk::write(&pair.source().join("dir/plain"), "2");
    disk::write(&pair.source().join("dir/.hidden"), "hh");
    sync(&pair);
    assert_eq!(assert_lost_is_kept(&pair.replica(), &before), 3);
    let kept = kept_in(&pair.replica());
    let latest = Zoned::now();
    let named = |time: &Zoned| time.strftime("%Y-%m-%d_%H-%M-%S.%6f").to_string();
    for path in ["dir/sub/report.pdf", "dir/plain", "dir/.hidden"] {
        let [(time, _)] = &kept[path.as_bytes()][..] else { panic!("one of {path}: {kept:?}") };
        assert!(*time >= named(&earliest) && *time <= named(&latest), "{path}: {time}");
    }
    let version = kept[b"dir/sub/report.pdf".as_slice()][0].0.clone();
    let place = pair.replica().join(format!(".driftless/versions/dir/sub/report~{version}.pdf"));
    assert_eq!(fs::read_to_string(place).expect("where a person looks for it"), "first");
    pair.verify(&[]).expect_code(0);
}

#[test]
fn nobody_else_looks_into_what_is_kept() {
    let pair = Pair::of("dir/sub/a \"1\"\n b \"1\"");
    sync(&pair);
    disk::write(&pair.source().join("dir/sub/a"), "22");
    disk::remove(&pair.source().join("b"));
    sync(&pair);
    let reserved = pair.replica().join(".driftless");
    for folder in ["", "journal", "versions", "versions/dir", "versions/dir/sub"] {
        assert_eq!(mode(&reserved.join(folder)), 0o700, "{folder}");
    }
    for file in fs::read_dir(reserved.join("journal")).expect("a journal") {
        assert_eq!(mode(&file.expect("an entry").path()), 0o600);
    }
    let names: BTreeSet<_> = fs::read_dir(&reserved).expect("list").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["journal".into(), "versions".into()].into(), "nothing else of the program's stays");
}

#[test]
fn each_kind_that_goes_or_makes_way_for_another_is_kept() {
    let pair = with_anchors();
    let kinds = unlike(&pair);
    let all = pairs(&kinds, &pair.source());
    all.iter().for_each(|(from, _, path)| make(*from, path, 1));
    sync(&pair);
    let (before, mut noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    for (from, to, path) in &all {
        remove(*from, path);
        make(*to, path, 2);
    }
    sync(&pair);
    pair.verify(&[]).expect_code(0);
    let lost = assert_lost_is_kept(&pair.replica(), &before);
    assert!(lost > all.len() / 2, "{lost} of {}", all.len());
    noted.push(Noted::here(&pair.source()));
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn each_kind_is_kept_by_the_service_too() {
    let pair = with_anchors();
    let kinds = unlike(&pair);
    let all = pairs(&kinds, &pair.source());
    let watch = pair.watch(&KEEP);
    all.iter().for_each(|(from, _, path)| make(*from, path, 1));
    watch.assert_follows();
    let (before, mut noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    for (_, to, path) in all.iter().filter(|(_, to, _)| *to != Kind::LinkedPair) {
        // In one step where that can be: what is replaced is never missing.
        let staged = path.with_extension("new");
        make(*to, &staged, 2);
        let done = fs::rename(&staged, path).or_else(|_| disk::exchange(&staged, path));
        if done.is_err() {
            disk::remove(path);
        }
    }
    watch.assert_follows();
    noted.push(Noted::here(&pair.source()));
    assert!(assert_lost_is_kept(&pair.replica(), &before) > 0);
    assert_eq!(untold(&pair.replica(), &noted), None);
    watch.stop();
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn a_whole_tree_that_goes_is_kept_entry_by_entry() {
    let pair = Pair::of(
        "gone/a \"1\"\n gone/b/c \"2\" mode=600\n gone/b/link -> c\n gone/pipe |\n gone/empty/\n gone/b/twin = gone/b/c\n stays \"s\"",
    );
    disk::make_socket(&pair.source().join("gone/socket"));
    disk::chmod(&pair.source().join("gone/b"), 0o2750);
    disk::set_xattr(&pair.source().join("gone/b"), "user.tag", b"folder");
    disk::set_mtime(&pair.source().join("gone/b"), 1_111_111_111, 999_999_999);
    sync(&pair);
    let (before, noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    disk::remove(&pair.source().join("gone"));
    sync(&pair);
    assert!(!disk::exists(&pair.replica().join("gone")));
    assert_eq!(assert_lost_is_kept(&pair.replica(), &before), 6);
    assert_eq!(told(&pair, "gone/b").last().map(String::as_str), Some("removed"));
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn what_is_renamed_over_is_kept_and_what_is_renamed_is_not() {
    let pair = Pair::of("a \"moved\"\n b \"lost\"\n folder/in \"f\"\n target/");
    let watch = pair.watch(&KEEP);
    let (before, noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    fs::rename(pair.source().join("a"), pair.source().join("b")).expect("rename");
    fs::rename(pair.source().join("folder"), pair.source().join("target/folder")).expect("rename");
    watch.assert_follows();
    assert_eq!(disk::inode(&pair.replica().join("b")), before.names[b"a".as_slice()], "it was renamed");
    assert_eq!(assert_lost_is_kept(&pair.replica(), &before), 1);
    assert_eq!(kept_in(&pair.replica()).keys().collect::<Vec<_>>(), [b"b"]);
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn an_inode_with_several_names_is_kept_whichever_of_them_goes() {
    let pair = Pair::of("a \"shared\"\n b = a\n d/c = a\n lone \"1\"\n other = lone");
    sync(&pair);
    let mut noted = vec![Noted::here(&pair.source())];
    let first = Picture::of(&pair.replica());
    // One name gets other contents, the others stay.
    disk::save_atomically(&pair.source().join("a"), b"its own now");
    // All names get other contents.
    disk::append(&pair.source().join("lone"), b" and more");
    sync(&pair);
    noted.push(Noted::here(&pair.source()));
    assert!(assert_lost_is_kept(&pair.replica(), &first) >= 3);
    let second = Picture::of(&pair.replica());
    for gone in ["b", "d", "lone", "other"] {
        disk::remove(&pair.source().join(gone));
    }
    sync(&pair);
    noted.push(Noted::here(&pair.source()));
    assert_eq!(assert_lost_is_kept(&pair.replica(), &second), 4);
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn attributes_are_told_and_nothing_is_kept_for_them() {
    let pair = Pair::of("file \"x\" mode=640\n dir/in \"y\"");
    disk::set_xattr(&pair.source().join("file"), "user.tag", b"tab\there=\xff");
    sync(&pair);
    let mut noted = vec![Noted::here(&pair.source())];
    disk::chmod(&pair.source().join("file"), 0o600);
    disk::set_xattr(&pair.source().join("file"), "user.tag", b"");
    disk::chmod(&pair.source().join("dir"), 0o711);
    disk::set_mtime(&pair.source().join("dir"), -5, 7);
    disk::set_mtime(&pair.source().join("dir/in"), -1_000_000_000, 1);
    sync(&pair);
    noted.push(Noted::here(&pair.source()));
    assert_eq!(kept_in(&pair.replica()), BTreeMap::new());
    assert_eq!(told(&pair, "file"), ["created", "metadata"]);
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn what_others_have_done_to_the_replica_is_kept_when_it_is_mended() {
    let pair = Pair::of("a \"as it is\"\n dir/b \"b\"");
    sync(&pair);
    disk::write(&pair.replica().join("a"), "by hand in the replica");
    disk::write(&pair.replica().join("dir/extra/deep"), "nowhere else");
    disk::symlink("x", &pair.replica().join("extra link"));
    let before = Picture::of(&pair.replica());
    sync(&pair);
    pair.verify(&[]).expect_code(0);
    assert_eq!(assert_lost_is_kept(&pair.replica(), &before), 3);
}

#[test]
fn what_was_held_is_kept_when_it_is_released() {
    let pair = numbered(100);
    let watch = pair.watch(&["--keep-versions", "30d"]);
    let (before, noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    watch.at_one_go(|| crate::deletions::remove_numbered(&pair, 60));
    watch.wait_for_state("held");
    assert_eq!(kept_in(&pair.replica()), BTreeMap::new());
    watch.client("release", &[]).expect_code(0);
    watch.flush();
    watch.wait_for_state("in_sync");
    assert_eq!(assert_lost_is_kept(&pair.replica(), &before), 60);
    let removed = journal(&pair.replica()).into_iter().filter(|line| line.word == "removed");
    assert!(removed.clone().all(|line| line.field("by") == Some(b"release")));
    assert_eq!(removed.count(), 60);
    assert_eq!(untold(&pair.replica(), &noted), None);
}

#[test]
fn a_conflicts_loser_is_kept_whichever_side_it_was_on() {
    let pair = Pair::of("source-wins \"1\"\n replica-wins \"1\"\n plain \"1\"");
    let options = [&KEEP[..], &["--two-way", "--conflict", "newer"]].concat();
    pair.sync(&options);
    thread::sleep(Duration::from_millis(15));
    for (name, source, replica) in [("source-wins", 30, 20), ("replica-wins", 20, 30)] {
        for (side, root, time) in [("source", pair.source(), source), ("replica", pair.replica(), replica)] {
            disk::write(&root.join(name), format!("{name} by {side}"));
            disk::set_mtime(&root.join(name), 1_700_000_000 + time, 5);
        }
    }
    disk::remove(&pair.replica().join("plain"));
    let (source, replica) = (Picture::of(&pair.source()), Picture::of(&pair.replica()));
    thread::sleep(Duration::from_millis(15));
    pair.sync(&options);
    let kept = kept_in(&pair.replica());
    let inode = |name: &str| match &kept.get(name.as_bytes()).map(Vec::as_slice) {
        Some([(_, ino)]) => *ino,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(inode("source-wins"), replica.names[b"source-wins".as_slice()]);
    assert_eq!(inode("replica-wins"), source.names[b"replica-wins".as_slice()]);
    assert_eq!(inode("plain"), source.names[b"plain".as_slice()]);
    let lines = journal(&pair.replica());
    let in_source = |name: &str| {
        let of_it = lines.iter().rfind(|line| line.path == name.as_bytes()).expect("a line");
        of_it.field("side") == Some(b"source")
    };
    assert!(!in_source("source-wins") && in_source("replica-wins") && in_source("plain"));
}

/// One side removes a folder in which the other one has worked: the folder stays, and was there all the time.
#[test]
fn what_comes_back_from_the_other_side_is_nothing_new() {
    let pair = Pair::of("tab/in/k \"k\"\n tab/j \"j\"\n g \"g\"");
    let options = [&KEEP[..], &["--two-way"]].concat();
    pair.sync(&options);
    let noted = [Noted::here(&pair.replica())];
    disk::remove(&pair.source().join("tab"));
    let folder = pair.replica().join("tab/in");
    let was = fs::metadata(&folder).expect("there");
    disk::write(&folder.join("new"), "new");
    // What somebody else's work does to a folder's times is not told.
    disk::set_mtime(&folder, was.mtime(), was.mtime_nsec() as u32);
    pair.sync(&options);
    assert!(pair.source().join("tab/in/new").exists() && !pair.replica().join("tab/j").exists());
    assert_eq!(untold(&pair.replica(), &noted), None);
    assert_eq!(unrestored(&pair, &noted[0], b""), None);
    assert_eq!(unrestored(&pair, &noted[0], b"tab/in"), None);
}

#[test]
fn nothing_is_kept_unasked_and_nothing_of_it_stays() {
    let pair = Pair::of("a \"1\"\n dir/b \"1\"");
    for options in [&[][..], &["--keep-versions", "0"]] {
        pair.sync(options);
        disk::append(&pair.source().join("a"), b"2");
        let watch = pair.watch(options);
        disk::append(&pair.source().join("dir/b"), b"2");
        watch.assert_follows();
        assert!(!disk::exists(&pair.replica().join(".driftless/versions")));
        watch.stop();
        pair.assert_same();
    }
}

/// What the journal says of itself.
fn marks(pair: &Pair) -> Vec<String> {
    let words = journal(&pair.replica()).into_iter().map(|line| line.word);
    words.filter(|word| ["since", "gap", "began", "ended"].contains(&word.as_str())).collect()
}

#[test]
fn a_run_that_keeps_nothing_leaves_a_gap_in_what_is_told() {
    let words = marks;
    let pair = Pair::of("a \"1\"");
    sync(&pair);
    assert_eq!(words(&pair), ["since", "began", "ended"]);
    sync(&pair);
    pair.sync(&["--dry-run"]);
    pair.verify(&[]).expect_code(0);
    assert_eq!(words(&pair), ["since", "began", "ended", "began", "ended"]);
    disk::append(&pair.source().join("a"), b"2");
    pair.sync(&[]);
    pair.sync(&["--keep-versions", "0"]);
    assert_eq!(words(&pair)[5..], ["gap"]);
    disk::append(&pair.source().join("a"), b"3");
    sync(&pair);
    assert_eq!(words(&pair)[6..], ["since", "began", "ended"]);
    let kept = kept_in(&pair.replica());
    assert_eq!(kept[b"a".as_slice()].len(), 1, "{kept:?}");
    // What is untold is in the reserved folder, which a run without versions lets be.
    let watch = pair.watch(&[]);
    watch.stop();
    assert_eq!(kept_in(&pair.replica()), kept);
}

type Change = (&'static str, fn(&Path));

/// Of contents, attributes and names.
const CHANGES: [Change; 14] = [
    ("a new file", |top| disk::write(&top.join("dir/new"), "new")),
    ("an update", |top| disk::append(&top.join("a"), b"more")),
    ("a removal", |top| disk::remove(&top.join("a"))),
    ("the removal of a folder", |top| disk::remove(&top.join("dir"))),
    ("a rename", |top| fs::rename(top.join("a"), top.join("dir/a")).expect("renamed")),
    ("the rename of a folder", |top| fs::rename(top.join("dir"), top.join("other")).expect("renamed")),
    ("the mode of a file", |top| disk::chmod(&top.join("a"), 0o600)),
    ("the mode of a folder", |top| disk::chmod(&top.join("dir"), 0o700)),
    ("a closed folder", |top| disk::chmod(&top.join("dir"), 0o500)),
    ("the time of a folder", |top| disk::set_mtime(&top.join("dir"), 1_234_567_890, 5)),
    ("the time of the root", |top| disk::set_mtime(top, 1_234_567_890, 5)),
    ("a link", |top| disk::symlink("a", &top.join("link"))),
    ("a further name", |top| disk::hard_link(&top.join("a"), &top.join("dir/twin"))),
    ("another kind", |top| {
        disk::remove(&top.join("dir"));
        disk::make_fifo(&top.join("dir"));
    }),
];

#[test]
fn a_run_that_changes_nothing_leaves_what_is_told_whole() {
    let told = |pair: &Pair| journal(&pair.replica()).len();
    for way in [&[][..], &["--two-way"]] {
        let pair = Pair::of("a \"1\"\n dir/b \"1\"");
        pair.sync(&[&KEEP[..], way].concat());
        let (before, noted) = (told(&pair), vec![Noted::here(&pair.source())]);
        let nothing = || {
            pair.sync(way);
            pair.sync(&[way, &["--keep-versions", "0", "--checksum"]].concat());
            run(pair.on_both("scrub", &[])).expect_code(0);
            run(pair.on_both("scrub", &["--source", "--repair"])).expect_code(0);
            let watch = pair.watch(way);
            watch.flush();
            watch.client("sweep", &[]).expect_code(0);
            watch.stop();
            pair.verify(&[]).expect_code(0);
        };
        nothing();
        disk::append(&pair.source().join("a"), b"2");
        pair.sync(&[way, &["--dry-run"]].concat());
        assert_eq!(told(&pair), before, "{way:?}");
        pair.sync(&[&KEEP[..], way].concat());
        assert_eq!(untold(&pair.replica(), &noted), None);
        assert!(!marks(&pair).contains(&"gap".into()), "{way:?}: {:?}", marks(&pair));
        pair.sync(way);
        disk::append(&pair.source().join("a"), b"3");
        pair.sync(way);
        nothing();
        let gaps = marks(&pair).into_iter().filter(|word| word == "gap").count();
        assert_eq!((gaps, marks(&pair).last().map(String::as_str)), (1, Some("gap")), "{way:?}");
    }
}

#[test]
fn each_change_of_which_nothing_is_told_leaves_a_gap() {
    for (what, change) in CHANGES {
        let last = |pair: &Pair| journal(&pair.replica()).last().map(|line| line.word.clone()).expect("a line");
        let new = |way: &[&str]| {
            let pair = Pair::of("a \"1\"\n dir/b \"1\" mode=644");
            disk::chmod(&pair.source().join("dir"), 0o755);
            pair.sync(&[&KEEP[..], way].concat());
            thread::sleep(Duration::from_millis(15));
            pair
        };
        let pair = new(&[]);
        change(&pair.source());
        pair.sync(&["--max-delete", "100%"]);
        assert_eq!(last(&pair), "gap", "{what}");

        let pair = new(&[]);
        let watch = pair.watch(&["--max-delete", "100%"]);
        assert_eq!(last(&pair), "ended", "{what}: before it");
        change(&pair.source());
        watch.flush();
        assert_eq!(last(&pair), "gap", "{what}, by the service");
        disk::write(&pair.source().join("one more"), "1");
        watch.flush();
        watch.stop();
        assert_eq!(marks(&pair).into_iter().filter(|word| word == "gap").count(), 1, "{what}");

        // One history for both ways: what the replica has changed is told in it.
        for is_back in [false, true] {
            let pair = new(&["--two-way"]);
            change(&if is_back { pair.replica() } else { pair.source() });
            pair.sync(&["--two-way", "--max-delete", "100%"]);
            assert_eq!(last(&pair), "gap", "{what}, two ways, back: {is_back}");
        }
    }
}

#[test]
fn the_gap_is_on_disk_before_the_first_change() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return disk::skipped("there is no strace that may look on");
    }
    const CALLS: &str = "linkat,renameat,renameat2,unlinkat,mkdirat,symlinkat,fchmod,fchown,utimensat";
    for (what, change) in CHANGES {
        let pair = Pair::of("a \"1\"\n dir/b \"1\" mode=644");
        disk::chmod(&pair.source().join("dir"), 0o755);
        sync(&pair);
        change(&pair.source());
        let before = Picture::of(&pair.replica());
        for call in 1.. {
            let inject = format!("inject={CALLS}:signal=SIGKILL:when={call}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", &inject];
            let ran = run(wrapped(&strace, &pair.on_both("sync", &["--jobs", "1", "--max-delete", "100%"])));
            let is_changed = !Picture::of(&pair.replica()).differences(&before).is_empty();
            let has_gap = marks(&pair).contains(&"gap".into());
            assert!(has_gap || !is_changed, "{what}, killed at call {call}");
            if ran.code == Some(0) || has_gap {
                break;
            }
        }
        assert!(marks(&pair).contains(&"gap".into()), "{what}");
    }
}

#[test]
fn a_dry_run_keeps_nothing_and_tells_nothing() {
    let pair = Pair::of("a \"1\"\n b \"1\"");
    pair.sync(&[&KEEP[..], &["--dry-run"]].concat());
    assert!(!disk::exists(&pair.replica()));
    sync(&pair);
    let before = journal(&pair.replica()).len();
    disk::append(&pair.source().join("a"), b"2");
    disk::remove(&pair.source().join("b"));
    pair.sync(&[&KEEP[..], &["--dry-run"]].concat());
    assert_eq!(journal(&pair.replica()).len(), before);
    assert_eq!(kept_in(&pair.replica()), BTreeMap::new());
}

#[test]
fn what_lies_on_another_filesystem_is_kept_as_an_exact_copy() {
    for script in [
        "mount -t tmpfs one source/m && mount -t tmpfs other replica/m",
        "mkdir one other && mount --bind one source/m && mount --bind other replica/m",
    ] {
        let pair = Pair::new();
        let Some(space) = Namespace::with(&pair, script) else { return };
        let (source, replica) = (space.source(), space.replica());
        for name in ["m/file", "m/gone", "m/d/deep", "m/d/twin", "m/kind", "beside"] {
            disk::write(&source.join(name), format!("of {name}"));
            disk::set_mtime(&source.join(name), 1_500_000_000, 5);
            disk::set_xattr(&source.join(name), "user.tag", b"t");
        }
        disk::symlink("x", &source.join("m/link"));
        disk::set_mtime(&source.join("m/link"), 1_400_000_000, 3);
        let sync = || {
            thread::sleep(Duration::from_millis(15));
            run(space.command(&pair.on_both("sync", &KEEP))).expect_code(0)
        };
        sync();
        let noted = vec![Noted::here(&source)];
        disk::save_atomically(&source.join("m/file"), b"other");
        disk::remove(&source.join("m/gone"));
        disk::remove(&source.join("m/d"));
        disk::remove(&source.join("m/kind"));
        disk::write(&source.join("m/kind/now"), "a folder");
        disk::remove(&source.join("m/link"));
        disk::symlink("y", &source.join("m/link"));
        sync();
        let kept = kept_in(&replica);
        for name in ["m/file", "m/gone", "m/d/deep", "m/d/twin", "m/kind", "m/link"] {
            assert_eq!(kept.get(name.as_bytes()).map(Vec::len), Some(1), "{script}: {name} of {kept:?}");
        }
        assert_eq!(untold(&replica, &noted), None, "{script}");
    }
}

/// Makes a database of so many rows in a folder, and leaves its log beside it.
const DATABASE: &str = r"
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute('PRAGMA journal_mode=wal')
base.execute('PRAGMA wal_autocheckpoint=0')
base.execute('CREATE TABLE IF NOT EXISTS t (n)')
for n in range(int(sys.argv[2])):
    base.execute('INSERT INTO t VALUES (?)', (n,))
os.kill(os.getpid(), 9)
";

fn database(path: &Path, rows: &str) -> bool {
    let mut python = Command::new("python3");
    python.arg("-c").arg(DATABASE).arg(path).arg(rows).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = python.status();
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let is_made = fs::metadata(log).is_ok_and(|log| log.len() > 0);
    if !is_made {
        disk::skipped("databases: no python3 with sqlite3 here");
    }
    is_made
}

#[test]
fn the_files_of_a_database_are_kept() {
    let pair = Pair::of("d/plain \"1\"");
    let base = pair.source().join("d/base.sqlite");
    if !database(&base, "20") {
        return;
    }
    sync(&pair);
    let (first, mut noted) = (Picture::of(&pair.replica()), vec![Noted::here(&pair.source())]);
    database(&base, "30");
    sync(&pair);
    noted.push(Noted::here(&pair.source()));
    assert!(assert_lost_is_kept(&pair.replica(), &first) >= 1);
    let second = Picture::of(&pair.replica());
    for name in ["base.sqlite", "base.sqlite-wal", "base.sqlite-shm"] {
        disk::remove(&pair.source().join("d").join(name));
    }
    sync(&pair);
    noted.push(Noted::here(&pair.source()));
    assert!(assert_lost_is_kept(&pair.replica(), &second) >= 2);
    assert_eq!(untold(&pair.replica(), &noted), None);
}
