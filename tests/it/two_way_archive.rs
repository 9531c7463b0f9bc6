//! What was agreed, lost or spoiled: damaged, of other folders, or with the sides exchanged. Nobody knows then what is new and
//! what is gone, so that the sides are merged and nothing is removed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::disk;
use crate::fixture::Pair;

/// The files of the state folder.
fn state_files(pair: &Pair) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(pair.state()).into_iter().flatten();
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Two sides that agreed; since then each lacks a file that the other has, and one was changed.
fn pair() -> Pair {
    let pair = Pair::of("a \"1\"\n b \"2\"\n c \"3\"\n folder/d \"4\"");
    thread::sleep(Duration::from_millis(20));
    pair.sync(&["--two-way"]);
    disk::remove(&pair.source().join("a"));
    disk::remove(&pair.replica().join("b"));
    disk::remove(&pair.replica().join("folder"));
    disk::write(&pair.source().join("c"), "changed");
    pair
}

#[track_caller]
fn assert_merged(pair: &Pair, (source, replica): (&Path, &Path), what: &str) {
    let mut command = pair.command(&["sync", "--two-way"]);
    command.arg(source).arg(replica);
    let ran = crate::fixture::run(command).expect_code(0);
    assert!(!ran.text().contains(" removed: "), "{what}: {}", ran.text());
    crate::compare::assert_same(source, replica);
    for (name, text) in [("a", "1"), ("b", "2"), ("c", "changed"), ("folder/d", "4")] {
        assert_eq!(fs::read_to_string(source.join(name)).expect(name), text, "{what}");
    }
}

#[test]
fn a_spoiled_archive_merges() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 5] = [
        ("empty", |file| disk::truncate(file, 0)),
        ("a half", |file| disk::truncate(file, disk::stat(file).len() / 2)),
        ("its beginning", |file| disk::write_at(file, 0, &[0xa5; 4096])),
        ("gone", |file| disk::remove(file)),
        ("another's", |file| disk::write(file, "something else")),
    ];
    for (what, spoil) in spoils {
        let pair = pair();
        let files = state_files(&pair);
        assert!(!files.is_empty(), "no archive");
        files.iter().for_each(|file| spoil(file));
        assert_merged(&pair, (&pair.source(), &pair.replica()), what);
    }
}

/// Wherever a bit is turned: what is taken for agreed is so, or all is merged.
#[test]
fn an_archive_with_a_turned_bit_removes_nothing_that_was_not_gone() {
    for part in 0..12 {
        let pair = pair();
        for file in state_files(&pair) {
            let at = disk::stat(&file).len() / 12 * part + 100;
            let handle = OpenOptions::new().read(true).write(true).open(&file).expect("open");
            let mut byte = [0];
            if handle.read_at(&mut byte, at).is_ok_and(|read| read == 1) {
                handle.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
            }
        }
        pair.sync(&["--two-way"]);
        pair.assert_same();
        assert_eq!(fs::read_to_string(pair.source().join("c")).expect("c"), "changed");
    }
}

#[test]
fn an_archive_of_other_roots_merges() {
    // Copies of the folders, at their paths.
    for side in ["source", "replica"] {
        let pair = pair();
        let (root, copy) = (pair.top().join(side), pair.top().join("copy"));
        let copied = std::process::Command::new("cp").arg("-a").arg(&root).arg(&copy).status();
        assert!(copied.is_ok_and(|status| status.success()));
        disk::remove(&root);
        fs::rename(&copy, &root).expect("rename");
        let ran = pair.try_sync(&["--two-way"]).expect_code(3);
        assert!(ran.text().contains("another folder than before"), "{}", ran.text());
        pair.try_sync(&["--two-way", "--accept-root"]).expect_code(0);
        assert_merged(&pair, (&pair.source(), &pair.replica()), side);
    }
    // The two exchanged, and both at other paths.
    let exchanged = pair();
    assert_merged(&exchanged, (&exchanged.replica(), &exchanged.source()), "exchanged");
    let moved = pair();
    let elsewhere = ["x", "y"].map(|name| moved.top().join(name));
    fs::rename(moved.source(), &elsewhere[0]).expect("rename");
    fs::rename(moved.replica(), &elsewhere[1]).expect("rename");
    assert_merged(&moved, (&elsewhere[0], &elsewhere[1]), "at other paths");
}
