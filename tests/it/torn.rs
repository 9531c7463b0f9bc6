//! Files that change while they are read: no name in the replica holds a mixture of two versions unless the log and the
//! status say so, and what comes to rest becomes exact.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::console;
use crate::disk;
use crate::fixture::{Pair, eventually};

const SIZE: usize = 1 << 20;

/// Writes version after version over a file, each of one byte repeated, until it is told to stop.
fn rewrite(path: &Path, stop: &AtomicBool, pause: Duration) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("open the file");
    for version in (1..=255u8).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        file.write_all_at(&vec![version; SIZE], 0).expect("write a version");
        thread::sleep(pause);
    }
}

/// Whether the file holds one version, and which.
fn version(path: &Path) -> Option<u8> {
    let bytes = fs::read(path).expect("read the replica");
    assert_eq!(bytes.len(), SIZE, "a part of a version");
    bytes.iter().all(|byte| *byte == bytes[0]).then_some(bytes[0])
}

fn said(log: &str, what: &str) -> usize {
    console::messages(log).filter(|message| message.starts_with(what)).count()
}

#[test]
fn file_that_is_rewritten_with_pauses_is_not_torn() {
    let pair = Pair::new();
    disk::write(&pair.source().join("file"), vec![0; SIZE]);
    let watch = pair.watch(&["--debounce", "20ms", "--max-delay", "50ms"]);
    let stop = AtomicBool::new(false);
    let (mut versions, mut published, mut torn) = (std::collections::BTreeSet::new(), Vec::new(), 0);
    thread::scope(|scope| {
        scope.spawn(|| rewrite(&pair.source().join("file"), &stop, Duration::from_millis(5)));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            let inode = disk::inode(&pair.replica().join("file"));
            let found = version(&pair.replica().join("file"));
            if said(&watch.log(), "Uncertain") > 0 {
                // The machine is so busy that the pauses are too short.
                break;
            }
            if published.last() != Some(&inode) {
                published.push(inode);
                torn += usize::from(found.is_none());
            }
            versions.extend(found);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (published, versions) = (published.len(), versions.len());
    // A write that is interrupted half way can look finished, if rarely.
    assert!(torn <= 1, "{torn} of {published} were torn, and nothing said so");
    assert!(versions >= 3 || said(&watch.log(), "Uncertain") > 0, "the replica stands still: {versions}");
    watch.assert_follows();
    assert!(version(&pair.replica().join("file")).is_some());
}

#[test]
fn file_that_never_rests_is_said_to_be_uncertain_once_until_it_rests() {
    let pair = Pair::new();
    let path = pair.source().join("file");
    disk::write(&path, vec![0; SIZE]);
    let watch = pair.watch(&["--debounce", "20ms", "--max-delay", "200ms"]);
    let stop = AtomicBool::new(false);
    let is_uncertain = || watch.status()["uncertain"].as_array().is_some_and(|list| list.len() == 1);
    let clones = clones(&pair);
    thread::scope(|scope| {
        for _ in 0..4 {
            // So many leave no gap between the writes.
            scope.spawn(|| rewrite(&path, &stop, Duration::ZERO));
        }
        let start = Instant::now();
        let (mut flushes, mut seen) = (0, clones);
        while start.elapsed() < Duration::from_secs(3) || (!seen && start.elapsed() < Duration::from_secs(120)) {
            let ran = watch.client("flush", &["--timeout", "60s"]);
            if ran.code != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!("a flush fails because a file does not rest: {}", ran.text());
            }
            flushes += 1;
            seen |= said(&watch.log(), "Uncertain") > 0;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(flushes >= 2, "{flushes} flushes");
        assert!(seen, "nothing says that the file never rests");
    });
    watch.assert_follows();
    eventually(Duration::from_secs(60), "it is certain again", || (!is_uncertain()).then_some(()));
    let log = watch.log();
    let (before, after) = (said(&log, "Uncertain"), said(&log, "Certain again"));
    assert!(before == after, "said {before} times, and {after} times that it rests");
    assert!(clones == (before == 0) && before < 20, "said {before} times");
}

/// Whether the filesystem of the tests can clone files: there nothing is uncertain.
fn clones(pair: &Pair) -> bool {
    let (one, other) = (pair.top().join("one"), pair.top().join("other"));
    disk::write(&one, "x");
    let (from, to) = (fs::File::open(&one).expect("open"), fs::File::create(&other).expect("create"));
    rustix::fs::ioctl_ficlone(&to, &from).is_ok()
}

#[test]
fn one_pass_over_a_file_that_never_rests_ends_and_says_so() {
    let pair = Pair::new();
    let path = pair.source().join("file");
    disk::write(&path, vec![0; SIZE]);
    if clones(&pair) {
        return disk::skipped("a pass over a file that never rests: here it can be cloned");
    }
    let stop = AtomicBool::new(false);
    let ran = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| rewrite(&path, &stop, Duration::ZERO));
        }
        let ran = pair.try_sync(&[]);
        stop.store(true, Ordering::Relaxed);
        ran
    });
    if ran.code == Some(0) {
        // It was read in one state after all.
        return assert!(version(&pair.replica().join("file")).is_some());
    }
    assert_eq!(ran.code, Some(1), "{}", ran.text());
    assert_eq!(said(&ran.text(), "Uncertain"), 1, "{}", ran.text());
    assert!(pair.replica().join("file").exists());
    pair.sync(&[]);
    pair.assert_same();
}
