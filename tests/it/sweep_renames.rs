//! Renames that nobody heard of: a sweep finds them, the replica keeps the inode, and what has only taken an inode's number,
//! or its name, is copied.

use std::fs;
use std::path::Path;

use crate::disk;
use crate::fixture::{Pair, Ran};

const LARGE: u64 = 2 << 20;

/// A pair that is identical, with nothing in it that was changed too shortly before.
fn settled(text: &str) -> Pair {
    let pair = Pair::of(text);
    std::thread::sleep(std::time::Duration::from_millis(50));
    pair.sync(&[]);
    pair
}

fn rename(pair: &Pair, from: &str, to: &str) {
    fs::rename(pair.source().join(from), pair.source().join(to)).expect("rename");
}

fn inode_in(pair: &Pair, name: &str) -> u64 {
    disk::inode(&pair.replica().join(name))
}

fn synced(pair: &Pair, options: &[&str]) -> Ran {
    let ran = pair.sync(options);
    pair.assert_same();
    ran
}

/// Does `work`, and checks that a sweep takes each of these over under its new name, and copies and removes nothing.
fn only_renames(pair: &Pair, moved: &[(&str, &str)], work: impl FnOnce()) {
    let inodes: Vec<u64> = moved.iter().map(|(from, _)| inode_in(pair, from)).collect();
    work();
    let text = synced(pair, &[]).text();
    for ((from, to), inode) in moved.iter().zip(inodes) {
        assert_eq!(inode_in(pair, to), inode, "{from} -> {to} was copied: {text}");
    }
    assert!(text.contains("0 copied, 0 updated, 0 removed"), "{text}");
    let again = synced(pair, &[]).text();
    assert!(again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata"), "{again}");
}

#[test]
fn file_renamed_in_its_folder_keeps_its_inode() {
    let pair = settled("a/one \"1\"\n a/two \"2\"\n a/three \"3\"");
    only_renames(&pair, &[("a/one", "a/zero"), ("a/three", "a/four")], || {
        rename(&pair, "a/one", "a/zero");
        rename(&pair, "a/three", "a/four");
        disk::chmod(&pair.source().join("a/four"), 0o600);
    });
}

#[test]
fn folder_renamed_in_its_folder_or_moved_to_another_one_keeps_all_inodes() {
    let pair = settled("a/tree/x/1 \"1\"\n a/tree/x/2 \"2\"\n a/tree/3 \"3\"\n b/f \"x\"");
    only_renames(&pair, &[("a/tree", "a/wood"), ("a/tree/x/1", "a/wood/x/1")], || rename(&pair, "a/tree", "a/wood"));
    only_renames(&pair, &[("a/wood", "b/tree"), ("a/wood/x", "b/tree/x")], || rename(&pair, "a/wood", "b/tree"));
    only_renames(&pair, &[("b/tree/x", "y"), ("b/tree/x/2", "y/2")], || rename(&pair, "b/tree/x", "y"));
}

#[test]
fn folder_that_moved_into_a_new_one_keeps_its_inodes() {
    let pair = settled("old/tree/x/1 \"1\"\n old/tree/2 \"2\"\n old/gone/tree/3 \"3\"");
    let inodes = ["old/tree", "old/tree/x/1"].map(|name| inode_in(&pair, name));
    fs::create_dir_all(pair.source().join("new/er")).expect("mkdir");
    rename(&pair, "old/tree", "new/er/tree");
    // Where this was is gone too: it is copied.
    rename(&pair, "old/gone/tree", "new/copied");
    fs::remove_dir(pair.source().join("old/gone")).expect("remove");
    let text = synced(&pair, &[]).text();
    assert_eq!(["new/er/tree", "new/er/tree/x/1"].map(|name| inode_in(&pair, name)), inodes, "{text}");
    assert!(text.contains("1 copied") && text.contains("1 renamed"), "{text}");
}

#[test]
fn moves_within_what_has_moved_are_found_too() {
    let pair = settled("a/x/1 \"1\"\n a/y/2 \"2\"\n a/f \"f\"\n c/z/3 \"3\"");
    only_renames(&pair, &[("a", "b"), ("a/x", "b/w"), ("c/z", "b/z"), ("a/f", "b/g")], || {
        rename(&pair, "a", "b");
        rename(&pair, "b/x", "b/w");
        rename(&pair, "c/z", "b/z");
        rename(&pair, "b/f", "b/g");
    });
}

#[test]
fn large_file_moved_to_another_folder_keeps_its_inode() {
    let pair = Pair::of("a/\n b/x \"x\"");
    disk::write_solid(&pair.source().join("a/file"), LARGE, 1);
    pair.sync(&[]);
    only_renames(&pair, &[("a/file", "b/file")], || rename(&pair, "a/file", "b/file"));
}

#[test]
fn what_was_changed_besides_is_not_taken_over() {
    let pair = settled("a/one \"1\"\n a/two \"2\"\n a/tree/x \"x\"\n a/tree/y \"y\"");
    let path = |name: &str| pair.source().join(name);
    let inodes = ["a/one", "a/two"].map(|name| inode_in(&pair, name));
    disk::rewrite_unseen(&path("a/one"));
    rename(&pair, "a/one", "a/uno");
    disk::append(&path("a/two"), b"more");
    rename(&pair, "a/two", "a/due");
    disk::rewrite_unseen(&path("a/tree/x"));
    disk::write(&path("a/tree/new"), "new");
    disk::remove(&path("a/tree/y"));
    rename(&pair, "a/tree", "a/wood");
    let text = synced(&pair, &[]).text();
    assert_ne!(["a/uno", "a/due"].map(|name| inode_in(&pair, name)), inodes, "{text}");
}

#[test]
fn what_others_changed_in_the_replica_is_not_taken_over() {
    let pair = settled("a/one \"1\"\n a/tree/x \"x\"\n a/twin \"t\"");
    let path = |name: &str| pair.replica().join(name);
    disk::rewrite_unseen(&path("a/one"));
    disk::hard_link(&path("a/twin"), &pair.top().join("elsewhere"));
    fs::rename(path("a/tree"), pair.top().join("away")).expect("rename");
    disk::write(&path("a/tree/x"), "x");
    rename(&pair, "a/one", "a/uno");
    rename(&pair, "a/twin", "a/due");
    rename(&pair, "a/tree", "a/wood");
    synced(&pair, &[]);
}

#[test]
fn name_that_came_back_and_names_that_changed_places_are_right() {
    let pair = settled("a/1 \"1\"\n a/2 \"22\"\n t/x \"x\"\n u/y \"y\"");
    rename(&pair, "a/1", "a/3");
    disk::write(&pair.source().join("a/1"), "another");
    rename(&pair, "t", "v");
    rename(&pair, "u", "t");
    fs::create_dir(pair.source().join("u")).expect("mkdir");
    disk::hard_link(&pair.source().join("a/2"), &pair.source().join("a/4"));
    synced(&pair, &[]);
}

#[test]
fn rename_counts_as_none_of_the_removals() {
    let pair = Pair::new();
    for i in 0..100 {
        disk::write(&pair.source().join(format!("tree/{i}")), i.to_string());
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    pair.sync(&[]);
    rename(&pair, "tree", "wood");
    let text = synced(&pair, &["--max-delete", "1%"]).text();
    assert!(text.contains("0 copied, 0 updated, 0 removed, 1 renamed"), "{text}");
    let renamed = |line: &&str| line.contains("Renamed: ") && line.contains("tree' -> ") && line.ends_with("wood'");
    assert_eq!(text.lines().filter(renamed).count(), 1, "{text}");
}

#[test]
fn what_is_excluded_is_not_renamed_and_not_lost() {
    let pair = settled("a/keep \"1\"\n a/tree/x \"x\"");
    rename(&pair, "a/keep", "a/gone");
    rename(&pair, "a/tree", "a/wood");
    pair.sync(&["--exclude", "/a/keep", "--exclude", "/a/tree"]);
    let there = |name: &str| disk::exists(Path::new(&pair.replica().join(name)));
    assert!(["a/keep", "a/tree/x", "a/gone", "a/wood/x"].into_iter().all(there));
    synced(&pair, &["--max-delete", "100%"]);
}

#[test]
fn what_no_pattern_would_cover_any_more_stays_where_it_is() {
    let pair = settled("a/tree/x \"x\"\n a/tree/y.o \"o\"");
    disk::write(&pair.replica().join("a/tree/cache/kept"), "the replica's own");
    let there = |name: &str| disk::exists(&pair.replica().join(name));
    rename(&pair, "a/tree", "a/wood");
    pair.sync(&["--exclude", "/a/tree/cache"]);
    assert!(["a/tree/cache/kept", "a/wood/x"].into_iter().all(there));
    let watch = pair.watch(&["--exclude", "/a/wood/cache"]);
    disk::write(&pair.replica().join("a/wood/cache/kept"), "the replica's own");
    rename(&pair, "a/wood", "a/logs");
    watch.flush();
    assert!(["a/wood/cache/kept", "a/logs/x"].into_iter().all(there));
    watch.stop();
    // A pattern that covers it wherever it is moves along.
    let inode = inode_in(&pair, "a/logs/y.o");
    rename(&pair, "a/logs", "a/last");
    pair.sync(&["--exclude", "*.o", "--exclude", "cache", "--max-delete", "100%"]);
    assert_eq!(inode_in(&pair, "a/last/y.o"), inode);
}
