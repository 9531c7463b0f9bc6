//! Conflicts of odd names, of names that are taken, of many at once, and of passes that were killed in the middle: each
//! version is kept once, under one name, on both sides, and no later pass makes more of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, Ran, run, wrapped};
use crate::two_way_work::contents;

const OLDER: i64 = 1_600_000_000;

/// Two sides that differ in each of these names; the replica's versions are older.
fn in_conflict(names: &[&[u8]]) -> Pair {
    let pair = Pair::new();
    fs::create_dir_all(pair.replica()).expect("mkdir");
    for (at, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        disk::write(&pair.source().join(name), format!("newer {at}"));
        disk::write(&pair.replica().join(name), format!("older {at}"));
        disk::set_mtime(&pair.replica().join(name), OLDER, 5);
    }
    pair
}

#[track_caller]
fn sync(pair: &Pair) -> Ran {
    thread::sleep(Duration::from_millis(20));
    pair.sync(&["--two-way"])
}

/// All names in the root of a side, and what they hold.
fn held(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    contents(root).into_iter().map(|(path, bytes)| (path.as_os_str().as_bytes().to_vec(), text(bytes))).collect()
}

/// Each version is there once, on both sides, and stays so.
#[track_caller]
fn assert_kept_once(pair: &Pair, versions: usize) -> BTreeMap<Vec<u8>, String> {
    let first = held(&pair.source());
    assert_eq!(first.len(), versions, "{first:?}");
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), versions, "{first:?}");
    assert!(first.values().all(|text| !text.is_empty()));
    for _ in 0..2 {
        let text = sync(pair).text();
        assert!(text.contains(" 0 copied, 0 updated, 0 removed, 0 renamed,"), "{text}");
        pair.assert_same();
        assert_eq!(held(&pair.source()), first);
    }
    first
}

#[test]
fn odd_names_are_kept_beside_their_rivals_and_never_multiply() {
    let long = [b'l'; 255];
    let long_with_extension = [&[b'm'; 251][..], b".txt"].concat();
    let names: [&[u8]; 9] = [
        b"plain",
        b".hidden",
        b"ends.",
        b"not\xff\xfeutf8.bin",
        b"new\nline.txt",
        b"x.conflict-20200101-000000-source.txt",
        b".conflict-20200101-000000-source",
        &long,
        &long_with_extension,
    ];
    let pair = in_conflict(&names);
    let text = sync(&pair).text();
    assert!(text.contains("9 conflicts"), "{text}");
    pair.assert_same();
    let kept = assert_kept_once(&pair, 18);
    assert!(kept.iter().all(|(name, text)| names.contains(&&name[..]) == text.starts_with("newer")), "{kept:?}");
    // What is kept of a conflict can be in conflict itself, and is one more version of the same file.
    let name = kept.keys().find(|name| name.starts_with(b"plain.")).expect("kept");
    let name = OsStr::from_bytes(name);
    disk::write(&pair.source().join(name), "edited in the source");
    thread::sleep(Duration::from_millis(20));
    disk::write(&pair.replica().join(name), "edited in the replica");
    sync(&pair);
    let kept = assert_kept_once(&pair, 19);
    let of_plain = kept.keys().filter(|name| name.starts_with(b"plain"));
    assert!(of_plain.clone().all(|name| name.windows(10).filter(|at| at == b".conflict-").count() < 2), "{kept:?}");
}

#[test]
fn names_that_are_taken_are_left_to_what_has_them() {
    let pair = in_conflict(&[b"f.txt"]);
    sync(&pair);
    let kept = assert_kept_once(&pair, 2);
    let name = kept.keys().find(|name| name.starts_with(b"f.conflict-")).expect("kept").clone();
    for taken_on in [0, 1] {
        let pair = in_conflict(&[b"f.txt"]);
        let side = if taken_on == 0 { pair.source() } else { pair.replica() };
        disk::write(&side.join(OsStr::from_bytes(&name)), "somebody else's");
        sync(&pair);
        let kept = assert_kept_once(&pair, 3);
        assert_eq!(kept[&name], "somebody else's");
    }
    // So is one that a folder has.
    let pair = in_conflict(&[b"f.txt"]);
    disk::write(&pair.source().join(OsStr::from_bytes(&name)).join("below"), "somebody else's");
    sync(&pair);
    assert_kept_once(&pair, 3);
}

#[test]
fn many_conflicts_about_one_name_within_one_second_are_all_kept() {
    let pair = in_conflict(&[b"f.txt"]);
    sync(&pair);
    for round in 0..5 {
        for (side, word) in [(pair.source(), "source"), (pair.replica(), "replica")] {
            disk::write(&side.join("f.txt"), format!("{word} {round}"));
            disk::set_mtime(&side.join("f.txt"), OLDER + 1000 + i64::from(word == "source"), round);
        }
        sync(&pair);
        assert_kept_once(&pair, 2 + round as usize + 1);
    }
}

/// The calls that change anything.
pub const CALLS: &str = "mkdirat,write,pwrite64,copy_file_range,ftruncate,fchmod,fchmodat,fchown,fchownat,fsetxattr,utimensat,\
    fsync,fdatasync,syncfs,symlinkat,linkat,renameat,renameat2,unlinkat";

#[test]
fn a_conflict_whose_pass_is_killed_at_any_call_ends_under_one_name() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return disk::skipped("conflicts that are killed: there is no strace that may look on");
    }
    // All calls by the environment; a few else.
    let every = crate::random::number("DRIFTLESS_EVERY_CALL", 5);
    let mut killed = 0;
    for call in 1..400 {
        if call % every != 0 {
            continue;
        }
        let pair = in_conflict(&[b"f.txt"]);
        disk::write(&pair.source().join("kinds"), "newer k");
        disk::symlink("older", &pair.replica().join("kinds"));
        disk::set_mtime(&pair.replica().join("kinds"), OLDER, 7);
        disk::write(&pair.source().join("folder"), "newer folder");
        disk::write(&pair.replica().join("folder/below"), "older below");
        disk::set_mtime(&pair.replica().join("folder"), OLDER, 9);
        thread::sleep(Duration::from_millis(20));
        let inject = format!("inject={CALLS}:signal=SIGKILL:when={call}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", &inject];
        let ran = run(wrapped(&strace, &pair.on_both("sync", &["--two-way", "--jobs", "1"])));
        if ran.code == Some(0) {
            assert!(killed > 2, "it was never killed: {}", ran.text());
            break;
        }
        killed += 1;
        sync(&pair);
        pair.assert_same();
        let kept = assert_kept_once(&pair, 5);
        let names = fs::read_dir(pair.source()).expect("a folder").count();
        assert_eq!(names, 6, "killed at call {call}: {kept:?}");
        assert_eq!((&*kept[&b"f.txt"[..]], &*kept[&b"kinds"[..]]), ("newer 0", "newer k"), "killed at call {call}");
    }
}
