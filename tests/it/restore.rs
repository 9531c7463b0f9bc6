//! What comes back is what was there: whole trees and parts of them, for times between passes, in place and elsewhere, with a
//! service at work and from the replica's disk alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driftless::fs::history::journal::segment;
use driftless::tree::entry::{Kind, Time};
use driftless::tree::history::{By, Event, Line};
use driftless::tree::operation::Cause;
use driftless::tree::path::RelPath;

use crate::compare::{self, Reserved, assert_same, differences};
use crate::disk;
use crate::fixture::{Pair, Ran, run, wrapped};
use crate::random::{each_seed, number};
use crate::random_work::Work;

pub const KEEP: [&str; 2] = ["--keep-versions", "30d"];

/// This moment, as the option takes it.
pub fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("@{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// A copy of a tree with all its attributes and links.
pub fn copied(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--preserve=all").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}

impl Pair {
    pub fn restore(&self, path: &str, at: &str, args: &[&str]) -> Ran {
        let mut command = self.command(&["restore", "--at", at]);
        command.args(args).args(["--", path]);
        run(command)
    }

    /// From the replica's disk alone.
    pub fn restore_to(&self, path: &str, at: &str, to: &Path) -> Ran {
        let replica = self.replica();
        self.restore(path, at, &["--replica", text(&replica), "--to", text(to)])
    }

    pub fn restore_in_place(&self, path: &str, at: &str, args: &[&str]) -> Ran {
        let (source, replica) = (self.source(), self.replica());
        self.restore(path, at, &[&["--replica", text(&replica), "--source", text(&source)], args].concat())
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn random_past_comes_back_exactly() {
    each_seed(2, one_seed);
}

fn one_seed(seed: u64) -> Result<(), String> {
    let pair = Pair::new();
    let mut work = Work::new(seed, &pair.source(), &pair.top().join("outside"));
    let mut past: Vec<(String, PathBuf)> = Vec::new();
    for round in 0..number("DRIFTLESS_ROUNDS", 5) {
        for _ in 0..20 + work.below(80) {
            work.step();
        }
        pair.sync(&[&KEEP[..], &["--release", "-q", "-c"]].concat());
        let snapshot = pair.top().join(format!("was-{round}"));
        copied(&pair.source(), &snapshot);
        past.push((now(), snapshot));
    }
    let check = |path: &str, at: &str, was: &Path, number: usize| {
        let to = pair.top().join(format!("back-{number}"));
        let ran = pair.restore_to(path, at, &to);
        let found = if ran.code == Some(0) { differences(was, &to, Reserved::Forbidden) } else { Vec::new() };
        if ran.code != Some(0) || !found.is_empty() {
            let journal = fs::read_dir(pair.replica().join(".driftless/journal")).expect("a journal");
            let journal: String =
                journal.map(|file| fs::read_to_string(file.expect("listed").path()).expect("read")).collect();
            let kept = std::env::var_os("DRIFTLESS_SHOW").map_or(String::new(), |_| journal);
            return Err(format!("seed {seed}, {path} at {at}: {}\n{}\n{kept}", ran.text(), compare::list(&found)));
        }
        disk::open_all(&to);
        fs::remove_dir_all(&to).map_err(|error| error.to_string())
    };
    for (number, (at, was)) in past.iter().enumerate() {
        check(".", at, was, number)?;
        let folders = walkdir::WalkDir::new(was).min_depth(1).sort_by_file_name().into_iter().flatten();
        let folders: Vec<_> = folders.filter(|entry| entry.file_type().is_dir()).map(|e| e.into_path()).collect();
        for part in 0..2.min(folders.len()) {
            let folder = &folders[work.one_of(folders.len())];
            // Links to what is outside of a part cannot be there.
            let is_linked = walkdir::WalkDir::new(folder)
                .into_iter()
                .flatten()
                .any(|entry| entry.metadata().is_ok_and(|stat| !stat.is_dir() && stat.nlink() > 1));
            if let (Some(path), false) = (folder.strip_prefix(was).expect("below").to_str(), is_linked) {
                check(path, at, folder, 100 * (number + 1) + part)?;
            }
        }
    }
    // Back and forth in place, without a service: nothing is lost on the way.
    let (first, last) = (&past[0], &past[past.len() - 1]);
    for (at, was) in [first, last, first] {
        pair.restore_in_place(".", at, &["--force", "-q"]).expect_code(0);
        let found = differences(was, &pair.source(), Reserved::Forbidden);
        if !found.is_empty() {
            let elsewhere = check(".", at, was, 98);
            return Err(format!("seed {seed}, in place at {at}: {}\n{elsewhere:?}", compare::list(&found)));
        }
        pair.sync(&[&KEEP[..], &["--release", "-q", "-c"]].concat());
    }
    check(".", &last.0, &last.1, 99)
}

/// A run with a clock that was ahead leaves times in the journal after which all others go on.
#[test]
fn what_was_told_at_times_that_are_still_to_come_is_not_taken_for_the_past() {
    let pair = Pair::of("f \"A\"");
    pair.sync(&KEEP);
    let (before, history) = (now(), |args: &[&str]| {
        let replica = pair.replica();
        pair.run(&[&["history", "f", "--replica", text(&replica)], args].concat()).expect_code(0)
    });
    // The next line says that by then all was told.
    pair.sync(&KEEP);
    assert_eq!(history(&[]).stderr, "");
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64 + 1_000_000;
    let mut line = Vec::new();
    Line {
        at: Time { sec: at, nsec: 5_000 },
        path: RelPath::new(b"g").expect("a path"),
        event: Event::Created { kind: Kind::File },
        by: By::Cause(Cause::Sweep),
        in_source: false,
    }
    .encode(&mut line);
    let file = pair.replica().join(".driftless/journal").join(segment(Time { sec: at, nsec: 0 }));
    fs::write(file, line).expect("written");
    disk::write(&pair.source().join("f"), "B");
    let said = pair.sync(&KEEP).text();
    assert_eq!(said.matches("has times that are still to come").count(), 1, "{said}");
    let between = now();
    disk::write(&pair.source().join("f"), "CC");
    pair.sync(&KEEP);
    let to = pair.top().join("back");
    for unknown in [&between, &now(), &format!("@{}", at - 5)] {
        let said = pair.restore_to("f", unknown, &to).expect_code(2).stderr;
        assert!(said.contains("the clock was ahead") && said.contains("all is known up to 2"), "{said}");
        assert!(said.contains(".driftless/versions'") && !to.exists(), "{said}");
        let said = pair.restore_in_place("f", unknown, &["--force"]).expect_code(2).stderr;
        assert!(said.contains("the clock was ahead"), "{said}");
    }
    assert_eq!(disk_text(&pair.source().join("f")), "CC");
    let said = pair.restore_to("f", &format!("@{}", at + 100), &to).expect_code(2).stderr;
    assert!(said.contains("is still to come"), "{said}");
    pair.restore_to("f", &before, &to).expect_code(0);
    assert_eq!(disk_text(&to), "A");
    for args in [&[][..], &["--json"]] {
        let told = history(args);
        assert!(told.stderr.contains("not at these times") && told.stderr.lines().count() == 1, "{}", told.stderr);
        assert_eq!(told.stdout.lines().count(), 4, "{}", told.stdout);
    }
}

fn disk_text(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

#[test]
fn what_a_service_works_on_comes_back_all_the_same() {
    each_seed(1, one_seed_live);
}

fn one_seed_live(seed: u64) -> Result<(), String> {
    let pair = Pair::new();
    let mut work = Work::new(seed, &pair.source(), &pair.top().join("outside"));
    (0..150).for_each(|_| work.step());
    let watch = pair.watch(&[&KEEP[..], &["--max-delete", "100%", "-c"]].concat());
    let (was, at) = (pair.top().join("was"), now());
    copied(&pair.source(), &was);
    let (replica, control) = (pair.replica(), pair.control());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                work.step();
                thread::sleep(Duration::from_millis(1));
            }
        });
        for number in 0..4 {
            let to = pair.top().join(format!("back-{number}"));
            let ran = pair.restore(".", &at, &["--replica", text(&replica), "--to", text(&to)]);
            let found = differences(&was, &to, Reserved::Forbidden);
            if ran.code != Some(0) || !found.is_empty() {
                done.store(true, Ordering::Relaxed);
                return Err(format!("seed {seed}, try {number}: {}\n{}", ran.text(), compare::list(&found)));
            }
        }
        done.store(true, Ordering::Relaxed);
        working.join().expect("worked");
        Ok(())
    })?;
    // In its place: the service keeps what is replaced, and its replica follows.
    watch.flush();
    let (later, then) = (pair.top().join("later"), now());
    copied(&pair.source(), &later);
    for (time, tree) in [(&at, &was), (&then, &later), (&at, &was)] {
        pair.restore(".", time, &["--control", text(&control), "--force", "-q"]).expect_code(0);
        let found = differences(tree, &pair.source(), Reserved::Ignored);
        if !found.is_empty() {
            return Err(format!("seed {seed}, in place at {time}: {}", compare::list(&found)));
        }
        watch.assert_follows();
    }
    watch.stop();
    let to = pair.top().join("back");
    pair.restore_to(".", &then, &to).expect_code(0);
    let found = differences(&later, &to, Reserved::Forbidden);
    if found.is_empty() { Ok(()) } else { Err(format!("seed {seed}, at last: {}", compare::list(&found))) }
}

#[test]
fn what_is_there_is_left_alone_unless_it_may_go() {
    let pair = Pair::of("d/a \"one\"\n d/b \"two\"\n d/gone \"three\"\n d/kind \"four\"");
    let at_source = |name: &str| pair.source().join(name);
    let was = pair.top().join("was");
    pair.sync(&KEEP);
    let at = now();
    copied(&pair.source(), &was);
    disk::write(&at_source("d/a"), "newer");
    fs::remove_file(at_source("d/gone")).expect("removed");
    fs::remove_file(at_source("d/kind")).expect("removed");
    fs::create_dir(at_source("d/kind")).expect("made");
    disk::write(&at_source("d/kind/x"), "within");
    disk::write(&at_source("d/new"), "new");
    pair.sync(&KEEP);
    // What the replica has never had, an excluded file as well, is nobody's to remove.
    disk::write(&at_source("d/unknown"), "unknown");
    let untouched = disk::stat(&at_source("d/b"));
    let dry = pair.restore_in_place("d", &at, &["-n"]).expect_code(1);
    assert!(dry.stdout.contains("Would restore: 'd/gone'"), "{}", dry.stdout);
    assert!(!disk::exists(&at_source("d/gone")), "a dry run does nothing");
    let ran = pair.restore_in_place("d", &at, &[]).expect_code(1);
    for line in [
        "Left alone: 'd/a': it is other than it was then; --force replaces it",
        "Left alone: 'd/kind': it is other than it was then; --force replaces it",
        "Left alone: 'd/new': it was not there then; --force removes it",
    ] {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("1 file, 5 B, 1 as it was already, 3 left alone, 1 unknown"), "{}", ran.stdout);
    assert_eq!(fs::read(at_source("d/gone")).expect("back"), fs::read(was.join("d/gone")).expect("there"));
    assert_eq!(fs::read(at_source("d/a")).expect("there"), b"newer");
    // Newer than the replica: it is kept as well.
    disk::write(&at_source("d/a"), "newest");
    let newest = now();
    thread::sleep(Duration::from_millis(2));
    pair.restore_in_place("d", &at, &["--force"]).expect_code(0);
    let same = disk::stat(&at_source("d/b"));
    assert_eq!((same.ino(), same.ctime_nsec()), (untouched.ino(), untouched.ctime_nsec()), "it was equal");
    fs::remove_file(at_source("d/unknown")).expect("removed");
    pair.restore_in_place("d", &at, &["--force"]).expect_code(0);
    assert_same(&was, &pair.source());
    let kept = |bytes: &[u8]| {
        let versions = walkdir::WalkDir::new(pair.replica().join(".driftless/versions")).into_iter().flatten();
        versions.filter(|entry| entry.file_type().is_file()).any(|entry| fs::read(entry.path()).expect("read") == bytes)
    };
    for bytes in [b"newest".as_slice(), b"within", b"new"] {
        assert!(kept(bytes), "{}", String::from_utf8_lossy(bytes));
    }
    // The replica's past is what it was, though what was in the source came in between.
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    let to = pair.top().join("back");
    pair.restore_to("d/a", &newest, &to).expect_code(0);
    assert_eq!(fs::read(&to).expect("back"), b"newer");
}

#[test]
fn what_cannot_be_told_or_has_no_place_is_refused() {
    let pair = Pair::of("d/a \"one\"");
    pair.sync(&[]);
    let (to, replica) = (pair.top().join("to"), pair.replica());
    let says = |ran: Ran, code: i32, words: &str| {
        let ran = ran.expect_code(code);
        assert!(ran.text().contains(words), "{words}: {}", ran.text());
    };
    says(pair.restore_to("d", "now", &to), 2, "has no history");
    pair.sync(&KEEP);
    let at = now();
    says(pair.restore_to("d", "1h ago", &to), 2, "tells everything from ");
    says(pair.restore_to("d", "@99999999999", &to), 2, "is still to come");
    says(pair.restore_to("d", "soon", &to), 2, "'soon' is no time");
    says(pair.restore_to("../d", &at, &to), 2, "no path in a tree");
    says(pair.restore_to(".driftless/journal", &at, &to), 2, "the program's own");
    says(pair.restore_to("none", &at, &to), 1, "'none' was not there on ");
    says(pair.restore_to("d", &at, &replica.join("to")), 2, "lies in the replica");
    says(pair.restore_to("d", &at, &pair.source()), 2, "is there already");
    says(pair.restore("d", &at, &["--replica", text(&replica)]), 2, "name a place with --to");
    fs::create_dir(&to).expect("made");
    says(pair.restore_to("d/a", &at, &to), 0, "Restored 'd/a' as it was on ");
    assert_eq!(fs::read(to.join("a")).expect("back"), fs::read(pair.source().join("d/a")).expect("there"));
    fs::remove_file(pair.source().join("d/a")).expect("removed");
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    says(pair.restore_to("d/a", &now(), &pair.top().join("none")), 1, "; it went on ");
    // Nothing was changed by it.
    pair.sync(&[]);
    says(pair.restore_to("d/a", &at, &pair.top().join("again")), 0, "Restored 'd/a' as it was on ");
    disk::write(&pair.source().join("d/a"), "untold");
    pair.sync(&[]);
    says(pair.restore_to("d", &at, &pair.top().join("none")), 2, "was changed without a history");
}

#[test]
fn what_a_damaged_journal_does_not_tell_is_refused() {
    let pair = Pair::of("d/a \"one\"\n d/b \"two\"");
    pair.sync(&KEEP);
    let (at, was, to) = (now(), pair.top().join("was"), pair.top().join("to"));
    copied(&pair.source(), &was);
    fs::remove_file(pair.source().join("d/a")).expect("removed");
    pair.sync(&KEEP);
    let folder = pair.replica().join(".driftless/journal");
    let files = || {
        let files = fs::read_dir(&folder).expect("a journal").map(|file| file.expect("listed").path());
        files.map(|file| (fs::read(&file).expect("read"), file)).collect::<Vec<_>>()
    };
    // A power cut has left half a line, and the next run has gone on behind it: that is no damage.
    for (text, file) in files() {
        let whole = String::from_utf8_lossy(&text).into_owned();
        let torn = whole.replace("\tended\t", "\tended\t.\tby=sw\0\0\n0\tvoid\t");
        let torn: Vec<&str> = torn.lines().filter(|line| !line.contains("\tvoid\t")).collect();
        fs::write(file, torn.join("\n") + "\n").expect("written");
    }
    pair.restore_to(".", &at, &to).expect_code(0);
    assert_same(&was, &to);
    pair.sync(&KEEP);
    let after = now();
    // One bit of what was removed.
    let whole = files();
    for (text, file) in &whole {
        let text = String::from_utf8_lossy(text).replace("\tremoved\td/a", "\tremovee\td/a");
        fs::write(file, text).expect("written");
    }
    let to = pair.top().join("again");
    for path in [".", "d", "d/a", "d/b"] {
        let ran = pair.restore_to(path, &at, &to).expect_code(2);
        assert!(ran.stderr.contains("is damaged in the file '2"), "{}", ran.stderr);
        assert!(ran.stderr.contains(".driftless/versions'") && !to.exists(), "{}", ran.stderr);
    }
    pair.restore_to(".", &after, &to).expect_code(0);
    assert_same(&pair.source(), &to);
    for (text, file) in whole {
        fs::write(file, text).expect("written");
    }
    // What cannot be read is no end of the journal, either.
    fs::create_dir(folder.join("2999-01-01T00")).expect("made");
    let ran = pair.restore_to(".", &at, &pair.top().join("none")).expect_code(1);
    assert!(ran.stderr.contains("cannot be read: "), "{}", ran.stderr);
}

#[test]
fn what_is_kept_no_more_is_not_said_to_have_been_nothing() {
    let pair = Pair::of("d/k \"one\"\n d/l \"two\"\n d/m \"three\"");
    let at_source = |name: &str| pair.source().join(name);
    pair.sync(&KEEP);
    let (at, to) = (now(), pair.top().join("to"));
    fs::remove_file(at_source("d/k")).expect("removed");
    disk::write(&at_source("d/m"), "newer");
    fs::rename(at_source("d"), at_source("e")).expect("renamed");
    pair.sync(&[&KEEP[..], &["--release"]].concat());
    fs::remove_dir_all(pair.replica().join(".driftless/versions")).expect("removed by hand");
    // It came after the time: what is kept of it does not matter.
    disk::write(&at_source("e/later"), "later");
    pair.sync(&KEEP);
    fs::remove_file(at_source("e/later")).expect("removed");
    pair.sync(&KEEP);
    fs::remove_dir_all(pair.replica().join(".driftless/versions/e")).expect("removed by hand");
    for path in ["d/k", "d/m"] {
        let said = pair.restore_to(path, &at, &to).expect_code(2).stderr;
        assert!(said.contains(&format!("'{path}' was there on ")) && said.contains("of it is gone"), "{said}");
    }
    let ran = pair.restore("d", &at, &["-q", "--replica", text(&pair.replica()), "--to", text(&to)]).expect_code(1);
    for path in ["d/k", "d/m"] {
        assert!(
            ran.stderr.contains(&format!("cannot restore '{path}': what was kept of it is gone")),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert!(disk::exists(&to.join("l")) && fs::read_dir(&to).expect("listed").count() == 1);
}

#[test]
fn what_a_killed_restore_has_left_in_the_source_goes() {
    let pair = Pair::of("a \"one\"");
    pair.sync(&KEEP);
    let at = now();
    let leave = || {
        let own = pair.source().join(".driftless/restore-4000000-0");
        fs::create_dir_all(&own).expect("made");
        fs::write(own.join(".driftless-new-4000000-1"), "half").expect("written");
    };
    leave();
    let ran = pair.sync(&KEEP);
    assert!(ran.text().contains("Removed what an interrupted restore had left in the source"), "{}", ran.text());
    assert!(!pair.source().join(".driftless").exists());
    leave();
    pair.restore_in_place("a", &at, &["-n"]).expect_code(0);
    assert!(pair.source().join(".driftless").exists(), "a dry run does nothing");
    pair.restore_in_place("a", &at, &[]).expect_code(0);
    assert!(!pair.source().join(".driftless").exists());
}

#[test]
fn what_has_become_something_else_unseen_is_kept_and_makes_way() {
    let pair = Pair::of("d/f \"one\"\n x \"two\"");
    let at_source = |name: &str| pair.source().join(name);
    std::os::unix::fs::symlink("nowhere", at_source("l")).expect("a link");
    pair.sync(&KEEP);
    let (at, was) = (now(), pair.top().join("was"));
    copied(&pair.source(), &was);
    // No pass has seen any of this yet.
    fs::remove_dir_all(at_source("d")).expect("removed");
    disk::write(&at_source("d"), "newer");
    fs::remove_file(at_source("l")).expect("removed");
    disk::write(&at_source("l/y/z"), "within");
    let ran = pair.restore_in_place(".", &at, &["--force"]).expect_code(1);
    let left = "Left alone: 'l': it holds what the replica does not have";
    assert!(ran.stdout.contains(left) && ran.stderr.is_empty(), "{}", ran.text());
    fs::remove_dir_all(at_source("l")).expect("removed");
    pair.restore_in_place(".", &at, &["--force"]).expect_code(0);
    assert_same(&was, &pair.source());
    let log = pair.run(&["log", "--removed", "--replica", text(&pair.replica())]).expect_code(0).stdout;
    let kept = log.lines().find(|line| line.contains("removed: 'd~replaced' (restore)")).expect("a line");
    let kept = kept.split_once("kept: '").expect("a version").1.trim_end_matches('\'');
    assert_eq!(fs::read(kept).expect("it can be opened"), b"newer");
    // The replica's past is what it was.
    let to = pair.top().join("to");
    pair.restore_to(".", &at, &to).expect_code(0);
    assert_same(&was, &to);
}

#[test]
fn a_folder_that_is_closed_to_its_owner_is_restored_too() {
    let pair = Pair::of("shut/a \"one\"\n shut/b \"two\"\n shut/in/c \"three\"");
    let at_source = |name: &str| pair.source().join(name);
    let shut = |names: &[&str], mode| names.iter().for_each(|name| disk::chmod(&at_source(name), mode));
    shut(&["shut/in", "shut"], 0o555);
    pair.sync(&KEEP);
    let (at, was) = (now(), pair.top().join("was"));
    copied(&pair.source(), &was);
    shut(&["shut", "shut/in"], 0o755);
    fs::remove_file(at_source("shut/a")).expect("removed");
    fs::remove_file(at_source("shut/in/c")).expect("removed");
    disk::write(&at_source("shut/b"), "newer");
    disk::write(&at_source("shut/new/d"), "new");
    shut(&["shut/new", "shut/in", "shut"], 0o555);
    pair.sync(&KEEP);
    let restore = |args: &[&str]| {
        let (source, replica) = (pair.source(), pair.replica());
        let mut command = pair.command(&["restore", "--at", &at, ".", "--replica", text(&replica)]);
        command.args(["--source", text(&source)]).args(args);
        // Nothing is closed to root, unless it is told so.
        let closed = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
        run(if disk::is_root() { wrapped(&closed, &command) } else { command })
    };
    let ran = restore(&[]).expect_code(1);
    assert!(ran.stdout.contains("2 files, ") && ran.stderr.is_empty(), "{}", ran.text());
    assert_eq!(disk::stat(&at_source("shut")).mode() & 0o7777, 0o555, "it has its mode again");
    restore(&["--force"]).expect_code(0);
    assert_same(&was, &pair.source());
}

#[test]
fn a_path_longer_than_the_kernel_takes_comes_back() {
    const LEVELS: usize = 300;
    let name = "a folder with a name".as_ref();
    let pair = Pair::new();
    let end = |top: &Path, make: bool| {
        let mut at = disk::Folder::open(top).expect("opened");
        for _ in 0..LEVELS {
            if make {
                fs::create_dir(at.join(name)).expect("made");
            }
            at = disk::Folder::open(&at.join(name)).expect("opened");
        }
        at
    };
    fs::write(end(&pair.source(), true).join("end".as_ref()), "deep").expect("written");
    pair.sync(&KEEP);
    let at = now();
    fs::write(end(&pair.source(), false).join("end".as_ref()), "deeper").expect("written");
    pair.sync(&KEEP);
    let to = pair.top().join("to");
    let ran = pair.restore_to(".", &at, &to).expect_code(0);
    assert!(ran.stdout.contains("1 file, 300 folders, 4 B"), "{}", ran.stdout);
    assert_eq!(fs::read(end(&to, false).join("end".as_ref())).expect("back"), b"deep");
}
