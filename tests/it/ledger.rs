//! What fails: listed with its history, tried again with growing pauses, kept across restarts, and logged once.

use std::time::Duration;

use serde_json::Value;

use crate::disk;
use crate::fixture::{Pair, Watch, eventually};

/// Leaves the replica's folder `thing` with something in it that no pass may remove.
const EXCLUDE: [&str; 2] = ["--exclude", "*.kept"];

/// A pair in which the file `thing` cannot be made, because a folder that has to stay is in its place.
fn obstructed() -> Pair {
    let pair = Pair::of("thing \"x\"\n other \"y\"");
    disk::write(&pair.replica().join("thing/own.kept"), "mine");
    pair
}

fn failing(watch: &Watch) -> Option<Value> {
    watch.status()["failing"].as_array().and_then(|list| list.first().cloned())
}

fn failing_after(watch: &Watch, tries: u64) -> Value {
    eventually(Duration::from_secs(60), &format!("{tries} tries"), || {
        failing(watch).filter(|failing| failing["tries"].as_u64() >= Some(tries))
    })
}

#[test]
fn history_of_a_failing_path_goes_on_after_a_restart() {
    let pair = obstructed();
    let watch = pair.start_watch(&EXCLUDE);
    watch.wait_for_answer();
    let first = failing_after(&watch, 1)["first_failure"].clone();
    let before = failing_after(&watch, 3);
    assert_eq!(before["first_failure"], first);
    assert!(before["path"].as_str().is_some_and(|path| path.ends_with("/thing'")), "{before}");
    for time in ["first_failure", "last_failure", "next_try"] {
        assert!(before[time].as_str().is_some_and(|time| time.starts_with("20")), "{time}: {before}");
    }
    assert!(before["next_try"].as_str() >= before["last_failure"].as_str(), "{before}");
    watch.stop();
    let watch = pair.start_watch(&EXCLUDE);
    watch.wait_for_answer();
    let after = failing(&watch).expect("known before the first sweep has ended");
    assert_eq!(after["first_failure"], first);
    assert!(after["tries"].as_u64() >= before["tries"].as_u64(), "{after}");
    let tries = before["tries"].as_u64().unwrap_or_default();
    let after = failing_after(&watch, tries + 2);
    assert_eq!(after["first_failure"], first);
    let log = watch.log();
    assert_eq!(log.matches(" - Failed: '").count(), 1, "one line, not one a try:\n{log}");
    assert_eq!(log.matches(" - Failing since before this start: 1 path").count(), 1, "{log}");
    // No event tells of the replica: the next try finds it.
    disk::remove(&pair.replica().join("thing/own.kept"));
    eventually(Duration::from_secs(70), "mended by a try", || failing(&watch).is_none().then_some(()));
    watch.assert_follows();
    let log = watch.log();
    assert_eq!(log.matches(" - Does not fail any more: '").count(), 1, "{log}");
    assert!(log.contains("Directory removed: ") && log.contains("' (retry)\n"), "{log}");
    watch.stop();
    let watch = pair.watch(&EXCLUDE);
    assert_eq!(failing(&watch), None);
}

#[test]
fn path_that_was_mended_while_nothing_ran_leaves_the_ledger_with_the_first_sweep() {
    let pair = obstructed();
    let watch = pair.start_watch(&EXCLUDE);
    watch.wait_for_answer();
    failing_after(&watch, 1);
    watch.stop();
    disk::remove(&pair.replica().join("thing/own.kept"));
    let watch = pair.watch(&EXCLUDE);
    assert_eq!(failing(&watch), None);
    watch.assert_follows();
    assert_eq!(watch.log().matches(" - Does not fail any more: '").count(), 1, "{}", watch.log());
}

#[test]
fn path_that_is_gone_leaves_the_ledger() {
    let pair = obstructed();
    let watch = pair.start_watch(&EXCLUDE);
    watch.wait_for_answer();
    failing_after(&watch, 1);
    disk::remove(&pair.source().join("thing"));
    eventually(Duration::from_secs(60), "nothing fails", || failing(&watch).is_none().then_some(()));
    watch.flush();
    assert!(disk::exists(&pair.replica().join("thing/own.kept")));
}

#[test]
fn event_for_a_failing_path_begins_its_pauses_anew() {
    let pair = obstructed();
    let watch = pair.start_watch(&EXCLUDE);
    watch.wait_for_answer();
    // The pause is four seconds by now, and the next ones would be eight and sixteen.
    let failing = failing_after(&watch, 4);
    let tries = failing["tries"].as_u64().unwrap_or_default();
    let start = std::time::Instant::now();
    disk::write(&pair.source().join("thing"), "changed");
    failing_after(&watch, tries + 3);
    assert!(start.elapsed() < Duration::from_secs(20), "three tries took {:?}", start.elapsed());
    let log = watch.log();
    assert_eq!(log.matches(" - Failed: '").count(), 1, "one line, not one a try:\n{log}");
}
