//! Both folders are worked in, and on either side something is missing that nobody has deleted, cannot be read, or is more
//! than a person can have meant: nothing is removed for it on the other.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::deletions::files_below;
use crate::disk;
use crate::fixture::{Pair, Ran, eventually, run};
use crate::mounts::Namespace;

const NOBODY: u32 = 65534;

fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

fn agreed(text: &str) -> Pair {
    let pair = Pair::of(text);
    sync(&pair);
    pair
}

fn sync(pair: &Pair) {
    rest();
    pair.sync(&["--two-way"]);
    pair.assert_same();
    rest();
}

/// One side and the other, each way.
fn each_way(pair: &Pair) -> [(PathBuf, PathBuf); 2] {
    [(pair.source(), pair.replica()), (pair.replica(), pair.source())]
}

fn many(count: usize) -> Pair {
    let pair = Pair::new();
    for i in 0..count {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 5)), i.to_string());
    }
    sync(&pair);
    pair
}

fn remove_some(side: &std::path::Path, range: std::ops::Range<usize>) {
    range.for_each(|i| disk::remove(&side.join(format!("folder-{}/{i}", i % 5))));
}

#[test]
fn mass_deletion_is_held_on_either_side_and_all_else_is_done() {
    for at in [0, 1] {
        let pair = many(100);
        let (gone, stays) = &each_way(&pair)[at];
        remove_some(gone, 0..60);
        disk::write(&gone.join("new"), "n");
        disk::write(&stays.join("folder-4/99"), "changed");
        for _ in 0..2 {
            let ran = pair.try_sync(&["--two-way"]).expect_code(3);
            assert!(ran.text().contains("--release") && ran.text().contains("60"), "{}", ran.text());
            assert_eq!((files_below(stays), files_below(gone)), (101, 41));
            assert_eq!(fs::read_to_string(gone.join("folder-4/99")).expect("read"), "changed");
        }
        pair.sync(&["--two-way", "--release"]);
        assert_eq!(files_below(stays), 41);
        sync(&pair);
    }
}

#[test]
fn each_way_holds_for_itself_and_one_word_releases_both() {
    let pair = many(300);
    let watch = pair.watch(&["--two-way", "--max-delete", "10%"]);
    remove_some(&pair.source(), 0..60);
    watch.wait_for_state("held");
    // What the other way has to remove is judged by itself.
    remove_some(&pair.replica(), 100..103);
    eventually(Duration::from_secs(60), "three are removed", || {
        (0..3).all(|i| !disk::exists(&pair.source().join(format!("folder-{}/{}", i % 5, 100 + i)))).then_some(())
    });
    remove_some(&pair.replica(), 150..210);
    eventually(Duration::from_secs(60), "both are held", || {
        (watch.log().matches(" - WARN - Held: 60 removals").count() == 2).then_some(())
    });
    assert_eq!((files_below(&pair.source()), files_below(&pair.replica())), (237, 237));
    watch.client("release", &[]).expect_code(0);
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    assert_eq!(files_below(&pair.source()), 177);
    watch.stop();
}

#[test]
fn emptied_side_removes_nothing_while_the_service_runs() {
    for at in [0, 1] {
        let pair = agreed("a \"1\"\n b/c \"2\"\n d/e/f \"3\"");
        let (gone, stays) = &each_way(&pair)[at];
        let watch = pair.watch(&["--two-way"]);
        watch.at_one_go(|| ["a", "b", "d"].into_iter().for_each(|name| disk::remove(&gone.join(name))));
        watch.wait_for_state("held");
        watch.client("sweep", &[]).expect_code(0);
        watch.flush();
        assert_eq!(files_below(stays), 3);
        watch.client("release", &[]).expect_code(0);
        watch.wait_for_state("in_sync");
        assert_eq!(files_below(stays), 0);
        watch.stop();
    }
}

#[test]
fn replaced_side_is_filled_and_not_obeyed_while_the_service_runs() {
    for at in [0, 1] {
        let pair = agreed("a \"1\"\n b/c \"2\"");
        let (gone, stays) = &each_way(&pair)[at];
        let watch = pair.watch(&["--two-way"]);
        watch.at_one_go(|| {
            fs::remove_dir_all(gone).expect("remove");
            fs::create_dir(gone).expect("mkdir");
        });
        eventually(Duration::from_secs(60), "it is filled", || (files_below(gone) == 2).then_some(()));
        watch.wait_for_state("in_sync");
        watch.assert_follows();
        assert_eq!(files_below(stays), 2);
        watch.stop();
    }
}

/// A pass as a user without any right, who owns what nobody else does.
fn sync_as_nobody(pair: &Pair) -> Ran {
    for folder in [pair.source(), pair.replica(), pair.state()] {
        for entry in walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("walk")) {
            disk::lchown(entry.path(), NOBODY, NOBODY);
        }
    }
    let mut open = vec![pair.top().to_path_buf(), pair.runtime().to_path_buf()];
    open.extend(
        pair.top().ancestors().skip(1).take_while(|p| p.starts_with(env!("CARGO_TARGET_TMPDIR"))).map(Into::into),
    );
    open.iter().for_each(|folder| disk::chmod(folder, 0o777));
    let mut command = pair.on_both("sync", &["--two-way"]);
    command.uid(NOBODY).gid(NOBODY);
    run(command)
}

#[test]
fn what_another_user_has_shut_is_untouched_on_both_sides() {
    if !disk::is_root() {
        return disk::skipped("another user's files: only root makes them");
    }
    for at in [0, 1] {
        let pair = Pair::within(&std::env::temp_dir(), "shut/a \"1\"\n shut/b/c \"2\"\n secret \"3\"\n open \"4\"");
        fs::create_dir(pair.replica()).expect("mkdir");
        if sync_as_nobody(&pair).code != Some(0) {
            return disk::skipped("another user's files: nobody cannot run the program here");
        }
        rest();
        let (shut, other) = &each_way(&pair)[at];
        disk::write(&other.join("shut/a"), "changed");
        disk::remove(&other.join("shut/b"));
        disk::write(&shut.join("open"), "new");
        rest();
        // A folder that cannot be listed, and a file that cannot be read, which has changed.
        let shut_off = || {
            disk::write(&shut.join("secret"), "theirs");
            for name in ["shut", "secret"] {
                disk::lchown(&shut.join(name), 0, 0);
                disk::chmod(&shut.join(name), 0);
            }
        };
        let before = || (files_below(&shut.join("shut")), fs::read_to_string(other.join("secret")).expect("read"));
        let mut command = pair.on_both("sync", &["--two-way"]);
        shut_off();
        let was = before();
        command.uid(NOBODY).gid(NOBODY);
        let ran = run(command).expect_code(1);
        assert_eq!(before(), was, "{}", ran.text());
        assert_eq!(fs::read_to_string(shut.join("shut/a")).expect("read"), "1");
        assert_eq!(fs::read_to_string(other.join("shut/a")).expect("read"), "changed");
        assert_eq!(fs::read_to_string(other.join("open")).expect("read"), "new");
    }
}

#[test]
fn excluded_names_stay_on_each_side_and_go_to_neither() {
    let pair = agreed("a \"1\"\n t/b \"2\"");
    for (side, text) in [(pair.source(), "s"), (pair.replica(), "r")] {
        disk::write(&side.join("x.tmp"), text);
        disk::write(&side.join("cache/in"), text);
    }
    disk::write(&pair.replica().join("t/own.tmp"), "r");
    disk::remove(&pair.source().join("t"));
    rest();
    let options = ["--two-way", "-x", "*.tmp", "-x", "cache"];
    pair.sync(&options);
    for (side, text) in [(pair.source(), "s"), (pair.replica(), "r")] {
        assert_eq!(fs::read_to_string(side.join("x.tmp")).expect("read"), text);
        assert_eq!(fs::read_to_string(side.join("cache/in")).expect("read"), text);
    }
    assert!(disk::exists(&pair.replica().join("t/own.tmp")) && !disk::exists(&pair.replica().join("t/b")));
    assert!(!disk::exists(&pair.source().join("t/own.tmp")));
}

fn in_namespace(namespace: &Namespace, script: &str, pair: &Pair) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cd '{}' && {{ {script}; }}", pair.top().display())]);
    run(namespace.command(&command)).expect_code(0);
}

#[test]
fn a_mount_that_goes_or_comes_on_either_side_is_no_deletion() {
    for (at, side) in ["source", "replica"].into_iter().enumerate() {
        let pair = Pair::new();
        let Some(namespace) = Namespace::with(&pair, &format!("mount -t tmpfs one {side}/m")) else { return };
        let sides = [namespace.source(), namespace.replica()];
        let (mounted, other) = (&sides[at], &sides[1 - at]);
        disk::write(&mounted.join("m/deep/file"), "1");
        disk::write(&mounted.join("m/file"), "2");
        disk::write(&other.join("outside"), "3");
        let sync = || run(namespace.command(&pair.on_both("sync", &["--two-way"])));
        sync().expect_code(0);
        crate::compare::assert_same(&sides[0], &sides[1]);
        rest();
        // Gone: what was in it is on the other side, and stays.
        in_namespace(&namespace, &format!("umount {side}/m"), &pair);
        disk::write(&mounted.join("outside"), "changed");
        sync().expect_code(3);
        assert_eq!(files_below(&other.join("m")), 2);
        assert_eq!(files_below(&mounted.join("m")), 0);
        assert_eq!(fs::read_to_string(other.join("outside")).expect("read"), "changed");
        // Over it comes an empty one.
        in_namespace(&namespace, &format!("mount -t tmpfs two {side}/m"), &pair);
        sync().expect_code(3);
        assert_eq!(files_below(&other.join("m")), 2);
        in_namespace(&namespace, &format!("umount {side}/m"), &pair);
        // A new one where there was none hides what is agreed: nothing is removed by that either.
        disk::write(&mounted.join("new/file"), "4");
        run(namespace.command(&pair.on_both("sync", &["--two-way", "--accept-root"])));
        assert_eq!(files_below(&other.join("new")), 1);
        in_namespace(&namespace, &format!("mount -t tmpfs three {side}/new"), &pair);
        rest();
        sync();
        assert_eq!(fs::read_to_string(other.join("new/file")).expect("it stays"), "4");
    }
}

#[test]
fn one_file_system_stops_at_the_mounts_of_either_side() {
    for (at, side) in ["source", "replica"].into_iter().enumerate() {
        let pair = Pair::new();
        let Some(namespace) = Namespace::with(&pair, &format!("mount -t tmpfs one {side}/m")) else { return };
        let sides = [namespace.source(), namespace.replica()];
        let (mounted, other) = (&sides[at], &sides[1 - at]);
        disk::write(&mounted.join("m/file"), "mounted");
        disk::write(&other.join("m/own"), "own");
        disk::write(&mounted.join("outside"), "1");
        for _ in 0..2 {
            run(namespace.command(&pair.on_both("sync", &["--two-way", "--one-file-system"]))).expect_code(0);
            rest();
            assert!(!disk::exists(&other.join("m/file")) && !disk::exists(&mounted.join("m/own")), "{side}");
            assert!(disk::exists(&other.join("m/own")) && disk::exists(&other.join("outside")));
        }
    }
}
