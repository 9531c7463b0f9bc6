//! What is built unseen: it never lends a name something unfinished, and its folder may go at any time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::disk;
use crate::fixture::Pair;

#[test]
fn half_a_file_that_was_followed_never_gets_another_files_name() {
    let (old, half) = ("old ".repeat(1000), "half ".repeat(100_000));
    let pair = Pair::new();
    let (source, replica) = (pair.source(), pair.replica());
    disk::write(&source.join("name"), &old);
    let watch = pair.watch(&[]);
    disk::write(&source.join("unseen"), &half);
    watch.assert_follows();
    let whole = half.clone() + &half;
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !ends.load(Ordering::Relaxed) {
                let seen = fs::read_to_string(replica.join("name")).expect("the name is always there");
                assert!(seen == old || seen == whole, "neither version: {} bytes", seen.len());
                looks += 1;
            }
            looks
        });
        // So that it hears of the writing and the renaming at once.
        watch.signal(Signal::STOP);
        let mut file = OpenOptions::new().append(true).open(source.join("unseen")).expect("open");
        file.write_all(half.as_bytes()).expect("write");
        drop(file);
        fs::rename(source.join("unseen"), source.join("name")).expect("rename");
        watch.signal(Signal::CONT);
        watch.flush();
        ends.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("no torn version") > 0);
    });
    watch.assert_follows();
}

#[test]
fn staging_folder_that_is_removed_under_the_service_is_made_again() {
    let pair = Pair::of("file \"1\"\n other \"1\"");
    let watch = pair.watch(&[]);
    for round in 2..5 {
        let _ = fs::remove_dir_all(pair.replica().join(".driftless"));
        disk::write(&pair.source().join("file"), "x".repeat(round));
        watch.flush();
    }
    watch.assert_follows();
    watch.stop();
    assert!(!pair.replica().join(".driftless").exists());
}
