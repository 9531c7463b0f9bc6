//! `sync`: one pass makes the replica identical, and a second one has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walkdir::WalkDir;

use crate::fixture::{Pair, Running, eventually, run};
use crate::{console, disk};

const PROJECT: &str = r#"
    a.txt "hello"
    empty ""
    bin/run "x" +x
    secret/key "y" mode=600
    logs/
    logs/old/2025/
    latest -> a.txt
    lost -> nowhere/at/all
    up -> ../..
    twin = a.txt
    bin/pipe |
"#;

/// What a change to anything below `root` would move: inode and ctime of each entry.
pub fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let all = WalkDir::new(root).into_iter().map(|entry| entry.expect("walk"));
    all.map(|entry| {
        let found = disk::stat(entry.path());
        (entry.into_path(), (found.ino(), found.ctime(), found.ctime_nsec()))
    })
    .collect()
}

/// Removes what the program keeps between its runs.
pub fn forget(pair: &Pair) {
    fs::remove_dir_all(pair.state()).expect("remove the state");
    fs::create_dir(pair.state()).expect("state folder");
}

#[test]
fn missing_replica_is_created_and_identical() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn replica_below_missing_folders_is_refused_or_identical() {
    let pair = Pair::of(PROJECT);
    let replica = pair.top().join("not/there/yet");
    let mut command = pair.command(&["sync"]);
    command.arg(pair.source()).arg(&replica);
    match run(command).code {
        Some(0) => crate::compare::assert_same(&pair.source(), &replica),
        code => assert_eq!(code, Some(2)),
    }
}

#[test]
fn empty_source_gives_an_empty_replica() {
    let pair = Pair::new();
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn roots_reached_through_symlinks_and_relative_paths_are_followed() {
    let pair = Pair::of(PROJECT);
    disk::symlink("source", &pair.top().join("link"));
    pair.run(&["sync", "link", "./replica/"]).expect_code(0);
    pair.assert_same();
}

#[test]
fn wide_folder_is_identical() {
    let pair = Pair::new();
    for i in 0..3000 {
        disk::write(&pair.source().join(format!("wide/{i}")), i.to_string());
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn entries_only_in_the_replica_are_removed() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    crate::tree::build(
        &pair.replica(),
        "extra \"e\"\n bin/extra \"e\"\n more/of/it/file \"e\"\n loose -> extra\n hose |",
    );
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn replica_that_was_filled_by_another_hand_is_made_identical() {
    let pair = Pair::of(PROJECT);
    let filled = "a.txt \"HELLO\"\n bin \"a file\"\n secret/key/ \n logs -> /tmp\n latest \"z\"\n twin \"hello\"\n lost -> a.txt";
    crate::tree::build(&pair.replica(), filled);
    pair.sync(&["--max-delete", "100%"]);
    pair.assert_same();
}

#[test]
fn every_single_change_is_brought_over_by_the_next_pass() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    let source = pair.source();
    let changes: [(&str, &dyn Fn()); 13] = [
        ("overwrite", &|| disk::write(&source.join("a.txt"), "other words")),
        ("append", &|| disk::append(&source.join("bin/run"), b"more")),
        ("truncate", &|| disk::truncate(&source.join("bin/run"), 1)),
        ("create", &|| disk::write(&source.join("new/folder/file"), "n")),
        ("remove", &|| disk::remove(&source.join("empty"))),
        ("remove a folder", &|| disk::remove(&source.join("logs"))),
        ("rename", &|| fs::rename(source.join("bin"), source.join("tools")).expect("rename")),
        ("chmod", &|| disk::chmod(&source.join("tools/run"), 0o751)),
        ("chmod a folder", &|| disk::chmod(&source.join("tools"), 0o711)),
        ("touch", &|| disk::set_mtime(&source.join("tools/run"), 1_234_567_890, 987_654_321)),
        ("aim a link elsewhere", &|| {
            disk::remove(&source.join("latest"));
            disk::symlink("twin", &source.join("latest"));
        }),
        ("change unseen", &|| disk::rewrite_unseen(&source.join("tools/run"))),
        ("atomic save", &|| disk::save_atomically(&source.join("secret/key"), b"saved")),
    ];
    for (what, change) in changes {
        change();
        pair.sync(&[]);
        let found = crate::compare::differences(&source, &pair.replica(), crate::compare::Reserved::Forbidden);
        assert!(found.is_empty(), "after {what}: {}", crate::compare::list(&found));
    }
}

#[test]
fn change_with_equal_size_and_equal_mtime_is_found_by_the_next_pass() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    disk::rewrite_unseen(&pair.source().join("a.txt"));
    let ran = pair.sync(&[]);
    pair.assert_same();
    assert!(ran.text().contains("a.txt"), "the change is not reported:\n{}", ran.text());
}

#[test]
fn second_pass_changes_nothing_and_says_so() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    let before = stamps(&pair.replica());
    let ran = pair.sync(&[]);
    assert_eq!(stamps(&pair.replica()), before);
    assert_eq!(console::operations(&ran.text()), Vec::<&str>::new());
    let totals = ran.text();
    let totals = console::totals(&totals);
    assert!(console::says_no_changes(totals), "{totals}");
}

#[test]
fn pass_without_its_archive_changes_nothing_on_disk() {
    let pair = Pair::of(PROJECT);
    disk::write_sparse(&pair.source().join("sparse"), 1 << 20, 7);
    pair.sync(&[]);
    let before = stamps(&pair.replica());
    forget(&pair);
    pair.sync(&[]);
    assert_eq!(stamps(&pair.replica()), before);
    pair.assert_same();
}

#[test]
fn damaged_archive_costs_nothing_but_time() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    let before = stamps(&pair.replica());
    let mut damaged = 0;
    for entry in WalkDir::new(pair.state()).into_iter().map(|entry| entry.expect("walk")) {
        if entry.file_type().is_file() {
            fs::write(entry.path(), "this is no archive at all, but it is long enough to look at").expect("damage");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no archive was written to the state folder");
    pair.sync(&[]);
    assert_eq!(stamps(&pair.replica()), before);
    disk::rewrite_unseen(&pair.source().join("a.txt"));
    disk::write(&pair.source().join("new"), "n");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn edits_in_the_replica_are_undone() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    let replica = pair.replica();
    disk::rewrite_unseen(&replica.join("a.txt"));
    disk::chmod(&replica.join("bin"), 0o700);
    disk::set_mtime(&replica.join("latest"), 1, 1);
    disk::remove(&replica.join("secret"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn checksum_finds_what_size_and_mtime_hide_even_without_an_archive() {
    let pair = Pair::of(PROJECT);
    pair.sync(&["--checksum"]);
    disk::rewrite_unseen(&pair.replica().join("a.txt"));
    forget(&pair);
    pair.sync(&["-c"]);
    pair.assert_same();
    let before = stamps(&pair.replica());
    pair.sync(&["-c"]);
    assert_eq!(stamps(&pair.replica()), before);
}

#[test]
fn dry_run_prints_the_plan_and_changes_nothing() {
    let pair = Pair::of(PROJECT);
    let ran = pair.sync(&["--dry-run"]);
    assert!(!disk::exists(&pair.replica()), "the replica was made");
    assert_eq!(WalkDir::new(pair.state()).into_iter().count(), 1, "state was written");
    assert!(ran.text().contains("bin/run"), "the plan is not printed:\n{}", ran.text());

    pair.sync(&[]);
    disk::write(&pair.source().join("a.txt"), "changed");
    disk::remove(&pair.source().join("bin/run"));
    let (replica, state) = (stamps(&pair.replica()), stamps(&pair.state()));
    let ran = pair.sync(&["-n"]);
    assert_eq!(stamps(&pair.replica()), replica);
    assert_eq!(stamps(&pair.state()), state);
    assert!(ran.text().contains("a.txt") && ran.text().contains("bin/run"), "{}", ran.text());
    assert!(!ran.text().contains("secret/key"), "the plan names what stays:\n{}", ran.text());
}

#[test]
fn quiet_pass_says_nothing() {
    let pair = Pair::of(PROJECT);
    let ran = pair.sync(&["-q"]);
    assert_eq!(ran.text(), "");
    pair.assert_same();
}

#[test]
fn jobs_and_durability_change_nothing_in_the_result() {
    for args in [["--jobs", "1"], ["-j", "8"], ["--durability", "none"], ["--durability", "batch"]] {
        let pair = Pair::of(PROJECT);
        pair.sync(&args);
        pair.assert_same();
    }
}

#[test]
fn one_bad_item_stops_nothing_else_and_gives_exit_code_1() {
    let pair = Pair::of(PROJECT);
    let blocked = pair.source().join("secret/key");
    if disk::is_root() {
        // What even root cannot write: an immutable replica file would need an ioctl, a mount point a mount.
        return disk::skipped("an unreadable file: root reads all; see the unreadable folder in deletions");
    }
    disk::chmod(&blocked, 0o000);
    let ran = pair.try_sync(&[]).expect_code(1);
    assert!(ran.text().contains("secret/key"), "the item is not named:\n{}", ran.text());
    assert!(disk::exists(&pair.replica().join("bin/run")));
}

#[test]
fn crash_in_the_middle_of_an_update_leaves_the_old_version_and_the_next_pass_clears_up() {
    let pair = Pair::of(PROJECT);
    let large = pair.source().join("large");
    disk::write_solid(&large, 100 << 20, 1);
    pair.sync(&[]);
    let old = disk::stat(&pair.replica().join("large"));
    disk::write_solid(&large, 120 << 20, 2);
    let mut sync = Running::start(pair.on_both("sync", &[]));
    eventually(Duration::from_secs(60), "some of it is written, or all is done", || {
        let io = fs::read_to_string(format!("/proc/{}/io", sync.0.id())).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok());
        (written.is_none_or(|written| written > 16 << 20) || sync.0.try_wait().is_ok_and(|end| end.is_some()))
            .then_some(())
    });
    sync.0.kill().expect("kill");
    sync.0.wait().expect("wait");
    let size = disk::stat(&pair.replica().join("large")).len();
    assert!(size == old.len() || size == 120 << 20, "neither the old nor the new version: {size} bytes");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn entry_named_like_the_reserved_folder_deeper_down_is_copied() {
    let pair = Pair::of("sub/.driftless/file \"x\"\n .driftless-x \"y\"\n .driftlessx/ ");
    pair.sync(&[]);
    pair.assert_same();
}
