//! What comes back in place takes nothing with it: what goes is kept to the last byte, a dry run tells what the real one does,
//! and no replica is written to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::disk;
use crate::fixture::{Pair, Ran, run};
use crate::restore::{KEEP, copied, now, text};

/// Other contents in a file that shows the same size and time.
fn changed_unseen(path: &Path) {
    let mtime = fs::metadata(path).expect("metadata").modified().expect("a time");
    let mut bytes = fs::read(path).expect("read");
    bytes[0] ^= 1;
    fs::write(path, bytes).expect("written");
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_times(fs::FileTimes::new().set_modified(mtime)).expect("times");
}

impl Pair {
    /// Whether anything with these contents is among what the replica keeps.
    fn keeps(&self, bytes: &[u8]) -> bool {
        let versions = walkdir::WalkDir::new(self.replica().join(".driftless/versions")).into_iter().flatten();
        let mut files = versions.filter(|entry| entry.file_type().is_file());
        files.any(|entry| fs::read(entry.path()).expect("read") == bytes)
    }
}

#[test]
fn what_differs_in_its_contents_alone_is_told_and_kept() {
    let pair = Pair::of("d/a \"one\"\n d/b \"two\"");
    pair.sync(&KEEP);
    let at = now();
    let good = fs::read(pair.source().join("d/a")).expect("read");
    changed_unseen(&pair.replica().join("d/a"));
    let bad = fs::read(pair.replica().join("d/a")).expect("read");
    for args in [&["-n"][..], &[]] {
        let ran = pair.restore_in_place("d", &at, args).expect_code(1);
        let is_told = ran.stdout.lines().any(|line| {
            line.starts_with("Left alone: 'd/a': it has the size and time")
                && line.contains("`driftless scrub --source`")
        });
        assert!(is_told && ran.stdout.contains("1 as it was already, 1 left alone"), "{}", ran.text());
    }
    assert_eq!(fs::read(pair.source().join("d/a")).expect("read"), good);
    pair.restore_in_place("d", &at, &["--force"]).expect_code(0);
    assert_eq!(fs::read(pair.source().join("d/a")).expect("read"), bad);
    assert!(pair.keeps(&good), "what was replaced");
}

#[test]
fn what_goes_is_kept_though_the_replica_has_another_of_the_same_size_and_time() {
    let pair = Pair::of("d/a \"one\"");
    pair.sync(&KEEP);
    let at = now();
    disk::write(&pair.source().join("d/new"), "good");
    std::os::unix::fs::symlink("here", pair.source().join("d/link")).expect("linked");
    pair.sync(&KEEP);
    changed_unseen(&pair.replica().join("d/new"));
    pair.restore_in_place("d", &at, &["--force"]).expect_code(0);
    assert!(!disk::exists(&pair.source().join("d/new")) && pair.keeps(b"good"));
    // A service has nothing to keep it by: it stays.
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    let at = now();
    disk::write(&pair.source().join("d/new"), "best");
    let watch = pair.watch(&KEEP);
    watch.flush();
    changed_unseen(&pair.replica().join("d/new"));
    let control = pair.control();
    let ran = pair.restore("d", &at, &["--control", text(&control), "--force"]).expect_code(1);
    assert!(ran.stdout.contains("Left alone: 'd/new': the replica does not have it as it is now"), "{}", ran.text());
    assert_eq!(fs::read(pair.source().join("d/new")).expect("there"), b"best");
    watch.stop();
}

#[test]
fn what_was_in_a_folder_that_is_a_file_now_comes_back_with_it() {
    let pair = Pair::of("y/q \"one\"\n y/other \"two\"\n y/k/deep \"three\"");
    let at_source = |name: &str| pair.source().join(name);
    fs::set_permissions(at_source("y"), fs::Permissions::from_mode(0o751)).expect("chmod");
    pair.sync(&KEEP);
    let at = now();
    let was = fs::read(at_source("y/k/deep")).expect("read");
    fs::remove_dir_all(at_source("y")).expect("removed");
    disk::write(&at_source("y"), "a file");
    pair.sync(&[&KEEP[..], &["--release", "--max-delete", "100"]].concat());
    for (path, args) in [("y/q", &["-n"][..]), ("y/q", &[]), ("y/k/deep", &[])] {
        let ran = pair.restore_in_place(path, &at, args).expect_code(1);
        let line = format!("Left alone: '{path}': 'y' is no folder now; --force replaces it");
        assert!(ran.stdout.contains(&line) && !ran.text().contains("stopped"), "{}", ran.text());
    }
    let ran = pair.restore_in_place("y/k/deep", &at, &["-n", "--force"]).expect_code(0);
    assert!(ran.stdout.contains("Would replace: 'y'\n") && at_source("y").is_file(), "{}", ran.text());
    let dry = ran.stdout.lines().last().and_then(|line| line.rsplit_once(": ")).map(|(_, counts)| counts.to_owned());
    disk::write(&at_source("y"), "newer");
    let ran = pair.restore_in_place("y/k/deep", &at, &["--force"]).expect_code(0);
    assert!(dry.is_some_and(|dry| ran.stdout.contains(&dry)), "{}", ran.text());
    assert_eq!(fs::read(at_source("y/k/deep")).expect("back"), was);
    assert_eq!(disk::stat(&at_source("y")).mode() & 0o7777, 0o751);
    assert!(!disk::exists(&at_source("y/q")), "nobody has asked for it");
    assert!(pair.keeps(b"newer"), "what was in the way");
    // A link leads nowhere.
    fs::remove_dir_all(at_source("y")).expect("removed");
    std::os::unix::fs::symlink("elsewhere", at_source("y")).expect("linked");
    let ran = pair.restore_in_place("y/q", &at, &[]).expect_code(1);
    assert!(ran.stdout.contains("'y' is no folder now"), "{}", ran.text());
    pair.restore_in_place("y/q", &at, &["--force"]).expect_code(0);
    assert!(at_source("y/q").is_file());
}

#[test]
fn nothing_comes_back_into_another_replica() {
    let pair = Pair::of("d/a \"one\"");
    pair.sync(&KEEP);
    let at = now();
    let copy = pair.top().join("copy");
    copied(&pair.replica(), &copy);
    fs::create_dir(pair.replica().join("empty")).expect("made");
    for place in ["zz", "d/zz", ".driftless/q", "empty"] {
        let (from, to) = (["--replica", text(&copy)], pair.replica().join(place));
        let ran = pair.restore("d", &at, &[&from[..], &["--to", text(&to)]].concat()).expect_code(2);
        assert!(ran.text().contains("which is the program's to write"), "{}", ran.text());
        // By a path that is relative.
        let mut command = pair.command(&["restore", "--at", &at, "--replica", "copy", "d", "--to"]);
        let name = pair.replica().file_name().expect("a name").to_owned();
        command.arg(Path::new(&name).join(place)).current_dir(pair.replica().parent().expect("above"));
        run(command).expect_code(2);
    }
}

#[test]
fn a_dry_run_tells_of_attributes_as_the_real_one_does_and_a_folder_keeps_its_time() {
    let pair = Pair::of("d/a \"one\"\n d/b \"two\"\n d/e/f \"three\"");
    let at_source = |name: &str| pair.source().join(name);
    let touch = |time: SystemTime| {
        let folder = fs::File::open(at_source("d")).expect("open");
        folder.set_times(fs::FileTimes::new().set_modified(time)).expect("times");
    };
    pair.sync(&KEEP);
    let at = now();
    let then = fs::metadata(at_source("d")).expect("metadata").modified().expect("a time");
    fs::set_permissions(at_source("d/e"), fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::remove_file(at_source("d/a")).expect("removed");
    disk::write(&at_source("d/b"), "newer");
    touch(then);
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    let left = |ran: Ran| {
        let lines = ran.stdout.lines().filter(|line| line.starts_with("Left alone")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let dry = left(pair.restore_in_place("d", &at, &["-n"]).expect_code(1));
    assert!(dry.iter().any(|line| line.starts_with("Left alone: 'd/e': its attributes are others")), "{dry:?}");
    assert_eq!(dry, left(pair.restore_in_place("d", &at, &[]).expect_code(1)));
    assert!(at_source("d/a").is_file());
    assert_eq!(fs::metadata(at_source("d")).expect("metadata").modified().expect("a time"), then);
    // Another time than that of then is not made it.
    fs::remove_file(at_source("d/a")).expect("removed");
    touch(then + Duration::from_secs(5));
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    pair.restore_in_place("d", &at, &[]).expect_code(1);
    assert_ne!(fs::metadata(at_source("d")).expect("metadata").modified().expect("a time"), then);
}
