//! The roots under the service: vanished, replaced, emptied, come back; the replica disturbed; a crash.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::disk;
use crate::fixture::{Pair, eventually};

fn filled() -> Pair {
    let pair = Pair::new();
    for i in 0..100 {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 7)), i.to_string());
    }
    pair
}

#[test]
fn vanished_source_removes_nothing_and_is_taken_up_again_when_it_is_back() {
    let pair = filled();
    let watch = pair.watch(&[]);
    let away = pair.top().join("away");
    fs::rename(pair.source(), &away).expect("rename");
    watch.signal(Signal::USR1);
    eventually(Duration::from_secs(60), "the status tells", || {
        let status = watch.status();
        (status["state"] != "in_sync" && status["state"] != "sweeping").then_some(())
    });
    crate::compare::assert_same_live(&away, &pair.replica());
    disk::write(&away.join("written/meanwhile"), "m");
    fs::rename(&away, pair.source()).expect("rename back");
    watch.signal(Signal::USR1);
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    disk::write(&pair.source().join("folder-1/new"), "n");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn source_replaced_by_an_empty_folder_removes_nothing() {
    let pair = filled();
    let watch = pair.watch(&[]);
    let away = pair.top().join("away");
    fs::rename(pair.source(), &away).expect("rename");
    fs::create_dir(pair.source()).expect("mkdir");
    watch.signal(Signal::USR1);
    eventually(Duration::from_secs(60), "the status tells", || {
        let status = watch.status();
        (status["state"] != "in_sync" && status["state"] != "sweeping").then_some(())
    });
    crate::compare::assert_same_live(&away, &pair.replica());
    fs::remove_dir(pair.source()).expect("rmdir");
    fs::rename(&away, pair.source()).expect("rename back");
    watch.signal(Signal::USR1);
    watch.wait_for_state("in_sync");
    watch.assert_follows();
}

#[test]
fn replica_disturbed_under_the_service_is_mended_by_the_sweep() {
    let pair = filled();
    let watch = pair.watch(&[]);
    disk::remove(&pair.replica().join("folder-3"));
    disk::write(&pair.replica().join("folder-4/extra"), "e");
    disk::rewrite_unseen(&pair.replica().join("folder-5/5"));
    disk::chmod(&pair.replica().join("folder-6"), 0o700);
    let before = watch.sweeps_finished();
    watch.client("sweep", &[]).expect_code(0);
    eventually(Duration::from_secs(60), "the sweep", || (watch.sweeps_finished() > before).then_some(()));
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn killed_service_leaves_whole_files_and_the_next_start_mends_the_rest() {
    let pair = filled();
    disk::write_solid(&pair.source().join("large"), 200 << 20, 1);
    let watch = pair.start_watch(&[]);
    // In the middle of the large file, wherever the program builds it.
    eventually(Duration::from_secs(60), "some of it is written", || (watch.io("wchar") > 20 << 20).then_some(()));
    watch.kill();
    let copied = fs::symlink_metadata(pair.replica().join("large")).map(|found| found.len());
    assert!(copied.is_err() || copied.is_ok_and(|size| size == 200 << 20), "a torn file under its name");
    let watch = pair.watch(&[]);
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn changes_made_while_no_service_ran_are_found_at_the_next_start() {
    let pair = filled();
    pair.watch(&[]).stop();
    disk::rewrite_unseen(&pair.source().join("folder-1/1"));
    disk::remove(&pair.source().join("folder-2/2"));
    fs::rename(pair.source().join("folder-3"), pair.source().join("folder-x")).expect("rename");
    disk::hard_link(&pair.source().join("folder-4/4"), &pair.source().join("folder-x/link"));
    let watch = pair.watch(&[]);
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn symlink_planted_in_the_replica_leads_nowhere() {
    let pair = Pair::of("folder/sub/file \"x\"");
    let outside = pair.top().join("outside");
    disk::write(&outside.join("sub/file"), "precious");
    disk::write(&outside.join("sub/other"), "precious");
    let watch = pair.watch(&[]);
    disk::remove(&pair.replica().join("folder"));
    disk::symlink(&outside, &pair.replica().join("folder"));
    disk::write(&pair.source().join("folder/sub/file"), "changed");
    disk::write(&pair.source().join("folder/sub/new"), "new");
    watch.flush();
    watch.client("sweep", &[]).expect_code(0);
    watch.assert_follows();
    assert_eq!(fs::read_to_string(outside.join("sub/file")).expect("read"), "precious");
    assert_eq!(fs::read_dir(outside.join("sub")).expect("list").count(), 2);
}

#[test]
fn source_that_is_another_folder_and_empty_removes_nothing_at_the_next_pass() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    pair.sync(&[]);
    let away = pair.top().join("away");
    fs::rename(pair.source(), &away).expect("rename");
    fs::create_dir(pair.source()).expect("an empty folder in its place");
    let ran = pair.try_sync(&[]).expect_code(3);
    assert!(ran.text().contains("is its disk mounted?"), "{}", ran.text());
    assert_eq!(fs::read(pair.replica().join("b/c")).expect("still there"), b"y");
    fs::remove_dir(pair.source()).expect("rmdir");
    fs::rename(&away, pair.source()).expect("rename back");
    disk::remove(&pair.source().join("a"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn source_that_is_another_folder_is_taken_only_when_a_person_says_so() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    pair.sync(&[]);
    fs::rename(pair.source(), pair.top().join("away")).expect("rename");
    disk::write(&pair.source().join("d"), "z");
    let ran = pair.try_sync(&[]).expect_code(3);
    assert!(
        ran.text().contains("another folder than before") && ran.text().contains("--accept-root"),
        "{}",
        ran.text()
    );
    assert!(pair.replica().join("b/c").exists() && !pair.replica().join("d").exists());
    pair.try_sync(&["--accept-root", "--max-delete", "100%"]).expect_code(0);
    pair.assert_same();
    pair.try_sync(&[]).expect_code(0);
}

#[test]
fn replica_that_is_another_folder_is_not_written_to() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    pair.sync(&[]);
    let away = pair.top().join("away");
    fs::rename(pair.replica(), &away).expect("rename");
    disk::write(&pair.replica().join("someone/else's"), "s");
    let ran = pair.try_sync(&[]).expect_code(3);
    assert!(ran.text().contains("another folder than before"), "{}", ran.text());
    assert_eq!(fs::read_dir(pair.replica()).expect("list").count(), 1);
    disk::remove(&pair.replica());
    fs::rename(&away, pair.replica()).expect("rename back");
    pair.sync(&[]);
    fs::rename(pair.replica(), &away).expect("rename");
    disk::write(&pair.replica().join("of/a second copy"), "s");
    pair.try_sync(&["--accept-root"]).expect_code(0);
    pair.assert_same();
}

#[test]
fn replica_that_was_taken_away_is_made_anew_where_no_disk_is_missing() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    pair.sync(&[]);
    fs::rename(pair.replica(), pair.top().join("away")).expect("rename");
    pair.sync(&[]);
    pair.assert_same();
    disk::remove(&pair.replica());
    fs::create_dir(pair.replica()).expect("an empty one");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn service_that_starts_without_its_folders_holds_and_goes_on_when_they_are_there() {
    let pair = filled();
    pair.watch(&[]).stop();
    for (folder, word) in [(pair.source(), "source"), (pair.replica(), "replica")] {
        let away = pair.top().join("away");
        fs::rename(&folder, &away).expect("rename");
        disk::write(&folder.join("other"), "o");
        let watch = pair.start_watch(&[]);
        watch.wait_for_answer();
        watch.wait_for_state("held");
        let told = |what: &str| {
            eventually(Duration::from_secs(60), what, || {
                let status = watch.status();
                status["reason"].as_str().filter(|r| r.contains(word) && r.contains(what)).map(drop)
            });
        };
        told("another folder");
        let ran = watch.client("flush", &["--timeout", "20s"]).expect_code(1);
        assert!(ran.text().contains("held: ") && ran.text().contains("another folder"), "{}", ran.text());
        assert_eq!(fs::read_dir(&folder).expect("list").count(), 1, "the {word} was written to");
        disk::remove(&folder);
        told("is not there");
        disk::write(&pair.top().join(if word == "source" { "away/new" } else { "source/new too" }), "n");
        fs::rename(&away, &folder).expect("rename back");
        watch.wait_for_state("in_sync");
        disk::write(&pair.source().join("folder-1/later"), word);
        watch.assert_follows();
        watch.stop();
        pair.assert_same();
    }
}

#[test]
fn replica_renamed_away_under_the_service_is_not_made_anew() {
    let pair = filled();
    let watch = pair.watch(&[]);
    let away = pair.top().join("away");
    fs::rename(pair.replica(), &away).expect("rename");
    disk::write(&pair.source().join("folder-1/new"), "n");
    watch.wait_for_state("held");
    assert!(!pair.replica().exists());
    fs::rename(&away, pair.replica()).expect("rename back");
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn idle_service_sees_its_source_go_and_takes_another_one_when_a_person_says_so() {
    let pair = filled();
    let watch = pair.watch(&["--max-delete", "100%"]);
    fs::rename(pair.source(), pair.top().join("away")).expect("rename");
    watch.wait_for_state("held");
    disk::write(&pair.source().join("another/file"), "a");
    eventually(Duration::from_secs(60), "it is seen to be another", || {
        watch.status()["reason"].as_str().is_some_and(|r| r.contains("another folder")).then_some(())
    });
    assert!(pair.replica().join("folder-1").exists() && !pair.replica().join("another").exists());
    assert!(watch.status()["holds"][0]["remedy"].as_str().expect("a remedy").contains("release --accept-root"));
    watch.client("release", &["--accept-root"]).expect_code(0);
    watch.wait_for_state("in_sync");
    disk::write(&pair.source().join("another/one"), "b");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}
