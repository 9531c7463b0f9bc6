//! The system's limits: fewer watches than folders, fewer descriptors than one would like.
//!
//! A user namespace gives the service limits of its own, so that no other process feels them.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use crate::fixture::{Pair, Watch, run, wrapped};
use crate::{disk, names};

/// Starts the service where `count` watches are all there are, if such a place can be made here.
fn watch_with<'a>(pair: &'a Pair, count: u64) -> Option<Watch<'a>> {
    let script = format!("echo {count} > /proc/sys/user/max_inotify_watches && exec \"$@\"");
    let namespace = ["unshare", "--user", "--map-root-user", "sh", "-c", &script, "sh"];
    let possible = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        disk::skipped("a limit on watches: no user namespace here");
        return None;
    }
    let watch = pair.launch(wrapped(&namespace, &pair.watch_command(&[])));
    watch.wait_for_answer();
    Some(watch)
}

fn many_folders() -> Pair {
    let pair = Pair::new();
    for i in 0..100 {
        disk::write(&pair.source().join(format!("folder-{i}/deeper/file")), i.to_string());
    }
    pair
}

#[test]
fn folders_beyond_the_limit_on_watches_lose_nothing() {
    let pair = many_folders();
    let Some(watch) = watch_with(&pair, 30) else { return };
    watch.assert_follows();
    let status = watch.status();
    assert!(status["watches"]["unwatched"].as_u64().is_some_and(|count| count > 0), "{status}");
    for i in 0..100 {
        disk::append(&pair.source().join(format!("folder-{i}/deeper/file")), b"more");
        disk::write(&pair.source().join(format!("folder-{i}/new")), "n");
    }
    watch.assert_follows();
    // Folders go, and their watches are free for others.
    for i in 0..40 {
        disk::remove(&pair.source().join(format!("folder-{i}/deeper")));
    }
    fs::rename(pair.source().join("folder-50"), pair.source().join("folder-0/deeper")).expect("rename");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn exhausted_limit_on_watches_is_explained_once() {
    let pair = many_folders();
    let Some(watch) = watch_with(&pair, 30) else { return };
    watch.flush();
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    let log = watch.log();
    let advice: Vec<_> = log.lines().filter(|line| line.contains("max_user_watches")).collect();
    assert_eq!(advice.len(), 1, "the sysctl is named once:\n{log}");
    assert!(advice[0].contains("needs 201"), "the number that is needed: {}", advice[0]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").expect("the limit");
    assert!(advice[0].contains(&format!("it is {}", limit.trim())), "the present value: {}", advice[0]);
    assert_eq!(log.matches("WARN").count(), 1, "one condition, one warning:\n{log}");
}

#[test]
fn usual_number_of_descriptors_is_enough() {
    let pair = many_folders();
    names::dig(&pair.source(), OsStr::new("d"), 300);
    for i in 0..1200 {
        disk::write(&pair.source().join(format!("wide/{i}/file")), "x");
    }
    // What a login gives on most systems.
    let limited = ["sh", "-c", "ulimit -S -n 1024; exec \"$@\"", "sh"];
    run(wrapped(&limited, &pair.on_both("sync", &[]))).expect_code(0);
    pair.assert_same();
}
