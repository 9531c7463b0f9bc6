//! What is never deleted: what could not be seen, and what nobody asked to delete in such numbers.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::disk;
use crate::fixture::{Pair, run};

/// A user without any right, to run the program as where the tests run as root.
const NOBODY: u32 = 65534;

pub fn numbered(count: usize) -> Pair {
    let pair = Pair::new();
    for i in 0..count {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 5)), i.to_string());
    }
    pair
}

pub fn remove_numbered(pair: &Pair, count: usize) {
    for i in 0..count {
        disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
    }
}

pub fn files_below(path: &Path) -> usize {
    let all = walkdir::WalkDir::new(path).into_iter().map(|entry| entry.expect("walk"));
    all.filter(|entry| entry.file_type().is_file()).count()
}

#[test]
fn mass_deletion_is_held_and_all_else_is_done() {
    let pair = numbered(100);
    pair.sync(&[]);
    remove_numbered(&pair, 60);
    disk::write(&pair.source().join("new/file"), "n");
    disk::write(&pair.source().join("folder-4/99"), "changed");
    for _ in 0..2 {
        let ran = pair.try_sync(&[]).expect_code(3);
        assert!(ran.text().contains("--release"), "it does not say how to release them:\n{}", ran.text());
        assert!(ran.text().contains("60"), "it does not say how many:\n{}", ran.text());
        assert_eq!(files_below(&pair.replica()), 101);
        assert_eq!(fs::read_to_string(pair.replica().join("new/file")).expect("read"), "n");
        assert_eq!(fs::read_to_string(pair.replica().join("folder-4/99")).expect("read"), "changed");
        assert!(!disk::exists(&pair.replica().join(".driftless")), "the reserved folder is left");
    }
    pair.sync(&["--release"]);
    pair.assert_same();
    pair.sync(&[]);
}

#[test]
fn release_counts_once() {
    let pair = numbered(200);
    pair.sync(&[]);
    remove_numbered(&pair, 120);
    pair.sync(&["--release"]);
    pair.assert_same();
    for i in 120..190 {
        disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
    }
    pair.try_sync(&[]).expect_code(3);
    assert_eq!(files_below(&pair.replica()), 80);
}

#[test]
fn up_to_fifty_removals_always_go_through() {
    let pair = numbered(45);
    pair.sync(&[]);
    remove_numbered(&pair, 40);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn limit_on_deletions_can_be_set() {
    let pair = numbered(300);
    pair.sync(&[]);
    remove_numbered(&pair, 60);
    pair.try_sync(&["--max-delete", "10%"]).expect_code(3);
    assert_eq!(files_below(&pair.replica()), 300);
    pair.sync(&["--max-delete", "30%"]);
    pair.assert_same();
}

#[test]
fn emptied_source_deletes_nothing() {
    let pair = numbered(100);
    pair.sync(&[]);
    for i in 0..5 {
        disk::remove(&pair.source().join(format!("folder-{i}")));
    }
    pair.try_sync(&[]).expect_code(3);
    assert_eq!(files_below(&pair.replica()), 100);
}

#[test]
fn mass_deletion_under_the_service_is_held_until_it_is_released() {
    let pair = numbered(100);
    let watch = pair.watch(&[]);
    watch.at_one_go(|| remove_numbered(&pair, 60));
    watch.wait_for_state("held");
    disk::write(&pair.source().join("new/file"), "n");
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 101);
    let status = watch.status();
    let hold = &status["holds"][0];
    assert!(hold["removals"].as_u64().is_some_and(|removals| removals >= 51), "{status}");
    assert!(hold["remedy"].as_str().is_some_and(|remedy| remedy.contains("release")), "{status}");
    watch.client("release", &[]).expect_code(0);
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn mass_deletion_in_small_portions_is_held_as_well() {
    let pair = numbered(100);
    let watch = pair.watch(&[]);
    for i in 0..80 {
        disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
        if i % 10 == 9 {
            watch.client("flush", &["--timeout", "5s"]);
        }
    }
    watch.wait_for_state("held");
    assert!(files_below(&pair.replica()) >= 45, "{} are left", files_below(&pair.replica()));
}

#[test]
fn renamed_folder_is_no_deletion() {
    let pair = Pair::of("other \"x\"");
    for i in 0..100 {
        disk::write(&pair.source().join(format!("folder/{i}")), i.to_string());
    }
    let watch = pair.watch(&[]);
    fs::rename(pair.source().join("folder"), pair.source().join("renamed")).expect("rename");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

/// Runs one pass as a user who may not look into `shut`, and gives its exit code and words.
fn sync_shut_out(pair: &Pair, shut: &Path) -> crate::fixture::Ran {
    disk::chmod(shut, 0o000);
    let ran = if disk::is_root() {
        // The program must be reachable for that user wherever the checkout lies.
        let program = pair.top().join("driftless");
        let original = env!("CARGO_BIN_EXE_driftless");
        if !program.exists() {
            fs::hard_link(original, &program).or_else(|_| fs::copy(original, &program).map(drop)).expect("program");
        }
        disk::chmod(pair.top(), 0o755);
        for entry in walkdir::WalkDir::new(pair.top()).into_iter().map(|entry| entry.expect("walk")) {
            if entry.path() != program {
                disk::lchown(entry.path(), NOBODY, NOBODY);
            }
        }
        let with_everything = pair.on_both("sync", &[]);
        let mut command = std::process::Command::new(&program);
        command.args(with_everything.get_args()).current_dir(pair.top()).uid(NOBODY).gid(NOBODY);
        command.env("XDG_STATE_HOME", pair.state()).env("XDG_RUNTIME_DIR", pair.top()).env("HOME", pair.top());
        command.env_remove("STATE_DIRECTORY").env_remove("RUNTIME_DIRECTORY");
        run(command)
    } else {
        pair.try_sync(&[])
    };
    disk::chmod(shut, 0o755);
    disk::open_all(&pair.replica());
    ran
}

#[test]
fn folder_that_cannot_be_listed_removes_nothing() {
    // A place that everyone can reach: the checkout may lie in someone's home.
    let pair =
        Pair::within(&std::env::temp_dir(), "shut/deep/file \"x\"\n shut/other \"y\"\n open/a \"1\"\n open/b \"2\"");
    pair.sync(&[]);
    disk::write(&pair.source().join("open/a"), "changed");
    disk::remove(&pair.source().join("open/b"));
    let ran = sync_shut_out(&pair, &pair.source().join("shut")).expect_code(1);
    assert!(ran.text().contains("shut"), "the folder is not named:\n{}", ran.text());
    assert_eq!(fs::read_to_string(pair.replica().join("shut/deep/file")).expect("still there"), "x");
    assert_eq!(fs::read_to_string(pair.replica().join("shut/other")).expect("still there"), "y");
    assert_eq!(fs::read_to_string(pair.replica().join("open/a")).expect("done"), "changed");
    assert!(!disk::exists(&pair.replica().join("open/b")));
}

#[test]
fn folder_that_cannot_be_listed_is_not_replaced_by_an_empty_one() {
    let pair = Pair::within(&std::env::temp_dir(), "shut/file \"x\"\n open \"1\"");
    pair.sync(&[]);
    fs::rename(pair.source().join("shut"), pair.source().join("moved")).expect("rename");
    fs::create_dir(pair.source().join("shut")).expect("mkdir");
    sync_shut_out(&pair, &pair.source().join("shut")).expect_code(1);
    assert_eq!(fs::read_to_string(pair.replica().join("shut/file")).expect("still there"), "x");
    assert_eq!(fs::read_to_string(pair.replica().join("moved/file")).expect("copied"), "x");
}
