//! The hold on mass deletion from its beginning to its end: over restarts, with more to come, released, and of itself.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::deletions::{files_below, numbered, remove_numbered};
use crate::disk;
use crate::fixture::{Pair, Watch, eventually};

/// All of them, however many passes it takes.
#[track_caller]
fn wait_for_held(watch: &Watch, removals: u64) {
    watch.wait_for_state("held");
    eventually(Duration::from_secs(60), "all are held", || {
        (watch.status()["holds"][0]["removals"] == removals).then_some(())
    });
}

/// The service with its removals of 60 of 100 files held. The first fifty would go unasked, were they found alone.
fn held(pair: &Pair) -> Watch<'_> {
    let watch = pair.watch(&[]);
    watch.at_one_go(|| remove_numbered(pair, 60));
    wait_for_held(&watch, 60);
    watch
}

#[test]
fn hold_survives_a_restart_and_can_be_released_after_it() {
    let pair = numbered(100);
    let watch = held(&pair);
    let since = watch.status()["holds"][0]["since"].clone();
    assert!(since.as_str().is_some_and(|since| since.starts_with("20")), "{since}");
    watch.kill();
    fs::write(pair.log_file(), "").expect("truncate");
    let watch = pair.start_watch(&[]);
    watch.wait_for_answer();
    assert_eq!(watch.status()["holds"][0]["removals"], 60);
    assert_eq!(watch.status()["holds"][0]["since"], since, "the hold is the same one");
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 100);
    assert_eq!(watch.status()["state"], "held");
    let log = watch.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("Held")).collect();
    assert_eq!(told.len(), 1, "one line a start:\n{log}");
    assert!(told[0].contains("60 removals") && told[0].contains("driftless release"), "{log}");
    watch.client("release", &[]).expect_code(0);
    watch.flush();
    watch.wait_for_state("in_sync");
    pair.assert_same();
    let log = watch.log();
    assert_eq!(log.matches("File removed: '").count(), 60, "{log}");
    assert_eq!(log.matches("' (release)\n").count(), 60, "{log}");
    assert!(log.contains("No removals are held any more"), "{log}");
    watch.client("release", &[]).expect_code(1);
    watch.stop();
    let watch = pair.watch(&[]);
    assert_eq!(watch.status()["holds"].as_array().map(Vec::len), Some(0), "nothing of it is left");
}

#[test]
fn release_right_after_the_start_is_for_what_was_held_before() {
    let pair = numbered(100);
    held(&pair).stop();
    // The first sweep has more to do than to find what is held, so that it still runs then.
    for i in 0..1500 {
        disk::write(&pair.source().join(format!("new/{i}")), "n");
    }
    let watch = pair.start_watch(&[]);
    eventually(Duration::from_secs(60), "released", || (watch.client("release", &[]).code == Some(0)).then_some(()));
    watch.assert_follows();
    assert_eq!(watch.log().matches("' (release)\n").count(), 60, "{}", watch.log());
}

#[test]
fn release_while_the_replica_is_not_in_its_place_is_carried_out_when_it_is_back() {
    let pair = numbered(100);
    let watch = held(&pair);
    let away = pair.top().join("away");
    // Nothing tells of that: the pass that is to carry out the release finds it.
    fs::rename(pair.replica(), &away).expect("renamed");
    watch.client("release", &[]).expect_code(0);
    eventually(Duration::from_secs(30), "the status tells", || {
        watch.status()["reason"].as_str()?.starts_with("the replica folder").then_some(())
    });
    assert!(!pair.replica().exists() && files_below(&away) == 100, "nothing is made or removed meanwhile");
    disk::write(&pair.source().join("meanwhile"), "m");
    fs::rename(&away, pair.replica()).expect("renamed");
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    assert_eq!(watch.log().matches("' (release)\n").count(), 60, "{}", watch.log());
}

#[test]
fn few_removals_that_are_held_stay_so_over_a_restart() {
    let pair = numbered(100);
    let watch = pair.watch(&[]);
    remove_numbered(&pair, 40);
    watch.flush();
    watch.at_one_go(|| {
        for i in 40..60 {
            disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
        }
    });
    wait_for_held(&watch, 20);
    watch.flush();
    watch.stop();
    // Twenty of sixty: found by a pass of its own, they would go unasked.
    let watch = pair.watch(&[]);
    assert_eq!(files_below(&pair.replica()), 60);
    assert_eq!(watch.status()["holds"][0]["removals"], 20);
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 60);
    watch.stop();
    // Who allows more by now has it judged anew.
    let watch = pair.watch(&["--max-delete", "90%"]);
    watch.assert_follows();
    assert_eq!(files_below(&pair.replica()), 40);
}

#[test]
fn restart_forgets_no_minute_in_which_much_was_removed() {
    let pair = numbered(300);
    let watch = pair.watch(&[]);
    remove_numbered(&pair, 120);
    watch.assert_follows();
    watch.kill();
    for i in 120..180 {
        disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
    }
    let watch = pair.watch(&[]);
    assert_eq!(watch.status()["holds"][0]["removals"], 60, "180 of 300 within a minute");
    assert_eq!(files_below(&pair.replica()), 180);
}

#[test]
fn hold_ends_by_itself_when_the_files_come_back() {
    let pair = numbered(100);
    let watch = held(&pair);
    for i in 0..60 {
        // Moved in: of that nothing is heard but that it is there now.
        let aside = pair.top().join("aside");
        disk::write(&aside, "new ".to_owned() + &i.to_string());
        fs::rename(aside, pair.source().join(format!("folder-{}/{i}", i % 5))).expect("rename");
    }
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    let log = watch.log();
    assert!(log.contains("No removals are held any more"), "{log}");
    assert!(!log.contains("removed: '"), "{log}");
    assert_eq!(watch.status()["holds"].as_array().map(Vec::len), Some(0));
}

#[test]
fn all_else_goes_on_below_what_is_held() {
    let pair = numbered(100);
    let watch = pair.watch(&[]);
    watch.at_one_go(|| {
        for i in 0..4 {
            disk::remove(&pair.source().join(format!("folder-{i}")));
        }
    });
    watch.wait_for_state("held");
    watch.flush();
    disk::write(&pair.source().join("folder-0/new/file"), "n");
    disk::write(&pair.source().join("folder-1"), "a file now");
    disk::write(&pair.source().join("folder-4/4"), "changed");
    watch.flush();
    let read = |name: &str| fs::read_to_string(pair.replica().join(name)).unwrap_or_default();
    assert_eq!((read("folder-0/new/file"), read("folder-4/4")), ("n".into(), "changed".into()));
    assert_eq!(read("folder-1/1"), "1", "what stands in the place of a held folder waits with it");
    assert_eq!(files_below(&pair.replica()), 101);
    assert_eq!(watch.status()["state"], "held");
    // One more removal is judged together with those that are held.
    disk::remove(&pair.source().join("folder-4/9"));
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 101);
    watch.client("release", &[]).expect_code(0);
    watch.assert_follows();
}

#[test]
fn release_is_once_and_for_what_was_held_when_it_was_given() {
    let pair = numbered(200);
    let watch = pair.watch(&["--debounce", "500ms", "--max-delay", "3s"]);
    watch.at_one_go(|| remove_numbered(&pair, 110));
    wait_for_held(&watch, 110);
    // The release arrives first, for removals wait for the debounce; then both are dealt with.
    watch.signal(rustix::process::Signal::STOP);
    let mut asked = pair.command(&["release", "--control"]);
    let asked = asked.arg(pair.control()).stdout(Stdio::null()).spawn().expect("ask");
    for i in 110..170 {
        disk::remove(&pair.source().join(format!("folder-{}/{i}", i % 5)));
    }
    watch.signal(rustix::process::Signal::CONT);
    assert!(asked.wait_with_output().expect("wait").status.success());
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 90, "what came later was not released");
    assert_eq!(watch.status()["holds"][0]["removals"], 60);
    assert_eq!(watch.log().matches("' (release)\n").count(), 110, "{}", watch.log());
    watch.client("release", &[]).expect_code(0);
    watch.assert_follows();
}

#[test]
fn release_is_no_free_pass_for_what_is_found_by_the_same_pass() {
    let pair = numbered(200);
    let watch = pair.watch(&[]);
    watch.at_one_go(|| remove_numbered(&pair, 110));
    wait_for_held(&watch, 110);
    // Without its source the service does nothing, but it takes the release.
    let away = pair.top().join("away");
    fs::rename(pair.source(), &away).expect("rename");
    watch.client("sweep", &[]).expect_code(0);
    eventually(Duration::from_secs(60), "the source is missed", || {
        watch.status()["reason"].as_str().is_some_and(|reason| reason.contains("source")).then_some(())
    });
    watch.client("release", &[]).expect_code(0);
    for i in 110..170 {
        disk::remove(&away.join(format!("folder-{}/{i}", i % 5)));
    }
    fs::rename(&away, pair.source()).expect("rename");
    eventually(Duration::from_secs(60), "the released ones are gone", || {
        (watch.log().matches("' (release)\n").count() == 110).then_some(())
    });
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 90);
    assert_eq!(watch.status()["holds"][0]["removals"], 60);
}

#[test]
fn exchanged_folders_are_no_deletion() {
    let pair = numbered(200);
    let watch = pair.watch(&[]);
    let folder = |i: usize| pair.source().join(format!("folder-{i}"));
    disk::exchange(&folder(0), &folder(1)).expect("exchange");
    disk::exchange(&folder(2), &folder(3)).expect("exchange");
    watch.assert_follows();
    assert!(!watch.log().contains("Held"), "{}", watch.log());
}

#[test]
fn folder_replaced_by_something_else_counts_with_all_that_it_holds() {
    for text in ["folder \"a file now\"", "folder -> elsewhere"] {
        let pair = Pair::of("a \"1\"\n b \"2\"");
        for i in 0..60 {
            disk::write(&pair.source().join(format!("folder/sub-{}/{i}", i % 3)), i.to_string());
        }
        pair.sync(&[]);
        disk::remove(&pair.source().join("folder"));
        crate::tree::build(&pair.source(), text);
        let ran = pair.try_sync(&[]).expect_code(3);
        assert!(ran.text().contains("64 removals"), "{}", ran.text());
        assert_eq!(files_below(&pair.replica()), 62);
        let ran = pair.sync(&["--release"]);
        pair.assert_same();
        assert_eq!(ran.text().matches("' (release)\n").count(), 64, "{}", ran.text());
        let watch = pair.watch(&[]);
        let log = watch.log();
        assert!(!log.contains("Held"), "{log}");
    }
}

#[test]
fn sync_says_which_removals_would_not_have_gone_unasked() {
    let pair = numbered(10);
    pair.sync(&[]);
    remove_numbered(&pair, 5);
    let ran = pair.sync(&["--release"]);
    assert_eq!(ran.text().matches("' (sweep)\n").count(), 5, "nobody had to release them:\n{}", ran.text());
}

#[test]
fn more_than_can_be_listed_is_held_and_released_all_the_same() {
    let pair = Pair::new();
    for i in 0..10_400 {
        disk::write(&pair.source().join(format!("folder/{i}")), "");
    }
    let watch = pair.watch(&["--debounce", "5s", "--max-delay", "1m", "--durability", "none"]);
    watch.at_one_go(|| {
        for i in 0..10_300 {
            disk::remove(&pair.source().join(format!("folder/{i}")));
        }
    });
    // A look of its own for each name would take minutes.
    watch.flush();
    assert_eq!(watch.status()["holds"][0]["removals"], 10_300);
    assert_eq!(files_below(&pair.replica()), 10_400);
    watch.kill();
    let watch = pair.watch(&[]);
    assert_eq!(watch.status()["holds"][0]["removals"], 10_300);
    watch.client("release", &[]).expect_code(0);
    watch.assert_follows();
    assert_eq!(files_below(&pair.replica()), 100);
    watch.wait_for_state("in_sync");
}
