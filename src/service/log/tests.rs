//! Owns the proof that lines have the form that is promised, and that none is dropped.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn file_only(path: PathBuf, verbosity: i8) -> (Log, LogGuard) {
    start(&LogOptions { file: Some(path), verbosity, ..LogOptions::default() }).expect("started")
}

fn lines(path: &std::path::Path) -> Vec<String> {
    fs::read_to_string(path).expect("log").lines().map(String::from).collect()
}

#[test]
fn lines_have_the_format_that_is_promised() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.log");
    let (log, guard) = file_only(path.clone(), -1);
    log.info("File copied: '/home/user/dir1/file.txt'");
    log.warn("one\nline\u{1b}");
    log.error("'é'");
    log.debug("not wanted");
    guard.finish();
    log.info("too late, and harmless");
    let lines = lines(&path);
    let (stamp, rest) = lines[0].split_at(19);
    assert_eq!(rest, " - INFO - File copied: '/home/user/dir1/file.txt'");
    assert!(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", stamp).is_ok(), "{stamp}");
    assert_eq!(&lines[1][19..], r" - WARN - one\nline\u{1b}");
    assert_eq!(&lines[2][19..], " - ERROR - 'é'");
    assert_eq!(lines.len(), 3);
    assert_eq!(fs::metadata(&path).expect("log").mode() & 0o137, 0);
}

#[test]
fn verbosity_changes_between_two_lines() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.log");
    let (log, guard) = file_only(path.clone(), 0);
    log.debug("not wanted");
    log.set_verbosity(1);
    assert!(log.clone().is_verbose());
    log.debug("wanted");
    log.set_verbosity(-1);
    log.debug("not wanted");
    log.info("in the file always");
    guard.finish();
    let words: Vec<String> = lines(&path).iter().map(|line| line[19..].to_string()).collect();
    assert_eq!(words, [" - DEBUG - wanted", " - INFO - in the file always"]);
}

#[test]
fn no_line_is_dropped_under_load() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.log");
    let (log, guard) = file_only(path.clone(), 1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5000).for_each(|n| log.debug(format_args!("line {n}"))));
        }
    });
    guard.finish();
    assert_eq!(lines(&path).len(), 20_000);
}

#[test]
fn removed_file_is_made_anew_and_a_rotated_one_on_request() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    let (log, guard) = file_only(path.clone(), 0);
    log.info("one");
    while fs::metadata(&path).expect("log").len() == 0 {
        thread::yield_now();
    }
    fs::remove_file(&path).expect("removed");
    log.info("two");
    while !path.exists() {
        thread::yield_now();
    }
    log.reopen();
    fs::rename(&path, &old).expect("rotated");
    log.reopen();
    log.info("three");
    guard.finish();
    assert_eq!(lines(&old).len(), 1);
    assert!(lines(&path).concat().ends_with("INFO - three"));
}

#[test]
fn lines_that_a_full_disk_refused_come_when_there_is_room() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a.log");
    symlink("/dev/full", &path).expect("link");
    let (log, guard) = file_only(path.clone(), 0);
    log.info("one");
    log.reopen();
    fs::remove_file(&path).expect("link");
    log.reopen();
    log.info("two");
    guard.finish();
    assert_eq!(lines(&path).len(), 2);
}
