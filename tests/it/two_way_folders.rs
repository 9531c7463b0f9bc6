//! A folder that one side has put in the place of another: what differs, is missing or is new by that is this side's work.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::disk;
use crate::fixture::Pair;

/// Two folders with files of the same names, agreed.
fn agreed() -> Pair {
    let pair = Pair::of(
        "one/same \"in one\"\n one/only \"1\"\n one/deep/file \"d1\"\n two/same \"in two\"\n two/deep/file \"d2\"",
    );
    thread::sleep(Duration::from_millis(20));
    pair.sync(&["--two-way"]);
    pair
}

#[track_caller]
fn sync(pair: &Pair) {
    thread::sleep(Duration::from_millis(20));
    let text = pair.sync(&["--two-way", "--max-delete", "100%"]).text();
    assert!(!text.contains("Conflict"), "{text}");
    pair.assert_same();
    let again = pair.sync(&["--two-way"]).text();
    assert!(again.contains(" 0 copied, 0 updated, 0 removed, 0 renamed,"), "{again}");
}

#[test]
fn folders_that_one_side_has_exchanged_are_exchanged_on_the_other() {
    for is_forth in [true, false] {
        let pair = agreed();
        let (side, other) = if is_forth { (pair.source(), pair.replica()) } else { (pair.replica(), pair.source()) };
        renameat_with(CWD, side.join("one"), CWD, side.join("two"), RenameFlags::EXCHANGE).expect("exchanged");
        sync(&pair);
        assert_eq!(fs::read_to_string(other.join("one/same")).expect("a file"), "in two");
        assert_eq!(fs::read_to_string(other.join("two/only")).expect("a file"), "1");
        assert!(!other.join("one/only").exists());
        // From now on they are each other's.
        disk::write(&other.join("one/same"), "later");
        fs::remove_file(side.join("two/only")).expect("removed");
        sync(&pair);
        assert_eq!(fs::read_to_string(side.join("one/same")).expect("a file"), "later");
        assert!(!other.join("two/only").exists());
    }
}

#[test]
fn a_folder_made_anew_on_one_side_is_not_filled_with_what_was_in_the_old_one() {
    for is_forth in [true, false] {
        let pair = agreed();
        let side = if is_forth { pair.source() } else { pair.replica() };
        fs::rename(side.join("one"), side.join("away")).expect("renamed");
        disk::write(&side.join("one/new"), "n");
        disk::write(&side.join("one/same"), "anew");
        sync(&pair);
        assert_eq!(fs::read_dir(pair.source().join("one")).expect("a folder").count(), 2);
        assert_eq!(fs::read_to_string(pair.source().join("away/only")).expect("a file"), "1");
        assert_eq!(fs::read_to_string(pair.replica().join("one/same")).expect("a file"), "anew");
    }
}

#[test]
fn what_the_other_side_has_written_in_the_old_folder_meanwhile_stays() {
    let pair = agreed();
    fs::rename(pair.source().join("one"), pair.top().join("out of the tree")).expect("renamed");
    disk::write(&pair.source().join("one/same"), "anew");
    disk::write(&pair.replica().join("one/only"), "written there");
    disk::write(&pair.replica().join("one/deep/new"), "new there");
    sync(&pair);
    let read = |path: &str| fs::read_to_string(pair.source().join(path)).expect("a file");
    assert_eq!(
        (read("one/same"), read("one/only"), read("one/deep/new")),
        ("anew".into(), "written there".into(), "new there".into())
    );
    assert!(!pair.replica().join("one/deep/file").exists());
    // Both have written it: that is one.
    disk::write(&pair.replica().join("two/same"), "theirs");
    disk::remove(&pair.source().join("two"));
    disk::write(&pair.source().join("two/same"), "ours");
    thread::sleep(Duration::from_millis(20));
    let text = pair.sync(&["--two-way"]).text();
    assert!(text.contains("1 conflict"), "{text}");
    pair.assert_same();
}
