//! Renames are carried out as renames: the replica keeps the inode, and no contents are read.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, Watch};

/// How much the service has read since, with some room for what it reads of its own.
fn read_by(watch: &Watch<'_>, doing: impl FnOnce()) -> u64 {
    let before = watch.io("rchar");
    doing();
    watch.io("rchar") - before
}

fn inode_in(pair: &Pair, name: &str) -> u64 {
    disk::inode(&pair.replica().join(name))
}

fn rename(pair: &Pair, from: &str, to: &str) {
    fs::rename(pair.source().join(from), pair.source().join(to)).expect("rename");
}

const LARGE: u64 = 32 << 20;

fn with_large(name: &str) -> Pair {
    let pair = Pair::of("a/\n b/\n c \"x\"");
    let path = pair.source().join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
    disk::write_solid(&path, LARGE, 1);
    pair
}

#[test]
fn renamed_file_keeps_its_inode() {
    let pair = with_large("a/file");
    let watch = pair.watch(&[]);
    let inode = inode_in(&pair, "a/file");
    for (from, to) in [("a/file", "a/other"), ("a/other", "b/file"), ("b/file", "c")] {
        let read = read_by(&watch, || {
            rename(&pair, from, to);
            watch.flush();
        });
        assert_eq!(inode_in(&pair, to), inode, "{from} -> {to} was copied");
        assert!(read < LARGE / 4, "{from} -> {to} read {read} bytes");
        watch.assert_follows();
    }
}

#[test]
fn renamed_folder_keeps_its_inodes() {
    let pair = with_large("tree/deep/er/file");
    for i in 0..50 {
        disk::write(&pair.source().join(format!("tree/{i}/file")), "x");
    }
    let watch = pair.watch(&[]);
    let inodes = ["tree", "tree/deep/er/file", "tree/7/file"].map(|name| inode_in(&pair, name));
    rename(&pair, "tree", "b/moved");
    watch.assert_follows();
    assert_eq!(["b/moved", "b/moved/deep/er/file", "b/moved/7/file"].map(|name| inode_in(&pair, name)), inodes);
    // What is below is still followed, under its new name.
    disk::write(&pair.source().join("b/moved/7/file"), "changed");
    disk::write(&pair.source().join("b/moved/deep/new"), "new");
    watch.assert_follows();
    rename(&pair, "b/moved", "tree");
    disk::write(&pair.source().join("tree/7/file"), "changed again");
    watch.assert_follows();
}

#[test]
fn chain_of_renames_in_one_burst_ends_right() {
    let pair = with_large("a/1");
    let watch = pair.watch(&[]);
    for i in 1..20 {
        rename(&pair, &format!("a/{i}"), &format!("a/{}", i + 1));
    }
    watch.assert_follows();
    rename(&pair, "a", "d");
    rename(&pair, "b", "a");
    rename(&pair, "d", "a/d");
    watch.assert_follows();
}

#[test]
fn swapped_names_are_swapped() {
    let pair = Pair::of("one/file \"1\"\n two/file \"2\"\n x \"xx\"\n y \"yy\"");
    let watch = pair.watch(&[]);
    for (one, two) in [("x", "y"), ("one", "two"), ("one/file", "two/file")] {
        if let Err(error) = disk::exchange(&pair.source().join(one), &pair.source().join(two)) {
            return disk::skipped(&format!("exchange: {error}"));
        }
        watch.assert_follows();
        rename(&pair, one, "between");
        rename(&pair, two, one);
        rename(&pair, "between", two);
        watch.assert_follows();
    }
}

#[test]
fn rename_over_an_existing_name_replaces_it() {
    let pair = Pair::of("a \"new\"\n b \"old\"\n folder/x \"1\"\n empty/");
    let watch = pair.watch(&[]);
    rename(&pair, "a", "b");
    rename(&pair, "folder", "empty");
    watch.assert_follows();
}

#[test]
fn change_before_and_after_a_rename_is_not_lost() {
    let pair = Pair::of("a \"1\"\n folder/x \"1\"");
    let watch = pair.watch(&[]);
    disk::write(&pair.source().join("a"), "changed before");
    rename(&pair, "a", "b");
    disk::append(&pair.source().join("b"), b" and after");
    disk::rewrite_unseen(&pair.source().join("folder/x"));
    rename(&pair, "folder", "moved");
    disk::chmod(&pair.source().join("moved/x"), 0o600);
    disk::write(&pair.source().join("a"), "a new one under the old name");
    watch.assert_follows();
}

#[test]
fn writing_that_no_time_shows_goes_along_with_each_new_name() {
    const RENAMES: [&[(&str, &str)]; 3] =
        [&[("a/x", "a/y")], &[("a/x", "a/y"), ("a/y", "b")], &[("a", "b"), ("b", "c")]];
    let pair = Pair::new();
    let of = |n: usize, name: &str| format!("{n}/{name}");
    (0..30).for_each(|n| disk::write(&pair.source().join(of(n, "a/x")), "some contents"));
    // What was made in this moment would be compared in any case.
    std::thread::sleep(Duration::from_millis(100));
    let watch = pair.watch(&[]);
    for n in 0..30 {
        disk::rewrite_unseen(&pair.source().join(of(n, "a/x")));
        RENAMES[n % 3].iter().for_each(|(from, to)| rename(&pair, &of(n, from), &of(n, to)));
    }
    watch.assert_follows();
}

#[test]
fn tree_moved_out_and_in_again_is_removed_and_copied() {
    let pair = Pair::of("tree/a/b/file \"x\"\n tree/c \"y\"\n kept \"z\"");
    let watch = pair.watch(&[]);
    let outside = pair.top().join("outside");
    fs::rename(pair.source().join("tree"), &outside).expect("move out");
    watch.assert_follows();
    disk::write(&outside.join("a/b/file"), "changed outside");
    disk::write(&outside.join("a/new/deep/file"), "n");
    fs::rename(&outside, pair.source().join("tree")).expect("move in");
    watch.assert_follows();
    disk::write(&pair.source().join("tree/a/new/deep/file"), "followed there too");
    watch.assert_follows();
    fs::rename(pair.source().join("tree/a"), &outside).expect("move out");
    fs::rename(&outside, pair.source().join("again")).expect("move in under another name");
    disk::append(&pair.source().join("again/b/file"), b"more");
    watch.assert_follows();
}

#[test]
fn mode_of_a_large_file_changes_without_reading_it() {
    let pair = with_large("a/file");
    let watch = pair.watch(&[]);
    let (file, inode) = (pair.source().join("a/file"), inode_in(&pair, "a/file"));
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(&str, Change<'_>); 3] = [
        ("chmod", &|path| disk::chmod(path, 0o600)),
        ("touch", &|path| disk::set_mtime(path, 1_000_000_000, 3)),
        ("hard link", &|path| disk::hard_link(path, &path.with_file_name("twin"))),
    ];
    for (what, change) in changes {
        let read = read_by(&watch, || {
            change(&file);
            watch.flush();
        });
        assert_eq!(inode_in(&pair, "a/file"), inode, "{what} made a new file");
        // A new mtime may stand for new contents, so that a look at both is granted; nothing else is.
        if what != "touch" {
            assert!(read < LARGE / 4, "{what} read {read} bytes");
        }
        watch.assert_follows();
    }
}

#[test]
fn what_changes_places_with_something_outside_is_replaced_whatever_it_is() {
    let pair = Pair::of("x/in \"1\"\n y \"2\"");
    let outside = [pair.top().join("a file"), pair.top().join("a folder")];
    disk::write(&outside[0], "outside");
    disk::write(&outside[1].join("in"), "outside");
    let watch = pair.watch(&[]);
    for _ in 0..3 {
        for (name, outside) in ["x", "y"].iter().zip(&outside) {
            disk::exchange(&pair.source().join(name), outside).expect("an exchange");
        }
        watch.assert_follows();
    }
}
