//! One folder with more names than one worker deals with: what happens in it arrives by a sweep, and by events.

use std::fs;
use std::path::Path;

use crate::disk;
use crate::fixture::Pair;

const FILES: usize = 3_000;

fn fill(folder: &Path) {
    fs::create_dir(folder).expect("mkdir");
    for n in 0..FILES {
        fs::write(folder.join(format!("file-{:04}", n * 7_919 % 10_000)), n.to_string()).expect("write");
    }
}

/// Every kind of work, on some of the entries.
fn work_in(folder: &Path) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("list").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for (n, entry) in entries.into_iter().enumerate() {
        match n % 10 {
            0 => disk::remove(&entry),
            1 => disk::append(&entry, b"more"),
            2 => disk::chmod(&entry, 0o640),
            3 => fs::rename(&entry, entry.with_extension("renamed")).expect("rename"),
            4 if n % 100 == 4 => disk::hard_link(&entry, &entry.with_extension("linked")),
            5 if n % 100 == 5 => {
                disk::remove(&entry);
                disk::write(&entry.join("below"), "a folder now");
            }
            _ => {}
        }
    }
}

#[test]
fn sweeps_make_a_large_folder_the_same_and_then_find_nothing_to_do() {
    let pair = Pair::new();
    let folder = pair.source().join("large");
    fill(&folder);
    pair.sync(&[]);
    pair.assert_same();
    work_in(&folder);
    let dry = pair.sync(&["--dry-run"]).text();
    assert!(dry.contains("Would copy file"), "{dry}");
    pair.sync(&[]);
    pair.assert_same();
    let again = pair.sync(&[]).text();
    assert!(again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata"), "{again}");
}

#[test]
fn a_large_folder_is_followed_while_it_is_filled_and_worked_in() {
    let pair = Pair::new();
    let watch = pair.watch(&["--durability", "none"]);
    let folder = pair.source().join("large");
    fill(&folder);
    watch.assert_follows();
    work_in(&folder);
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}
