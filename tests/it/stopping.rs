//! SIGTERM and SIGINT: exit 0 within five seconds whatever is going on, and nothing half done is left.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::disk;
use crate::fixture::{Pair, Running, STOP, eventually};

const HUGE: u64 = 700 << 20;

/// A name holds one whole version or nothing, and what is left of the program is nothing.
#[track_caller]
fn assert_nothing_half_done(pair: &Pair) {
    assert_whole(pair, |left, right| left == right);
}

#[track_caller]
fn assert_whole(pair: &Pair, is_whole: impl Fn(u64, u64) -> bool) {
    assert!(!disk::exists(&pair.replica().join(".driftless")), "the reserved folder is left");
    for entry in walkdir::WalkDir::new(pair.replica()).into_iter().map(|entry| entry.expect("walk")) {
        let name = entry.path().strip_prefix(pair.replica()).expect("below");
        let original = pair.source().join(name);
        assert!(disk::exists(&original), "left over: {}", name.display());
        if entry.file_type().is_file() {
            let (left, right) = (disk::stat(&original).len(), disk::stat(entry.path()).len());
            assert!(is_whole(left, right), "torn: {}: {left} bytes, and {right} in the replica", name.display());
        }
    }
}

#[test]
fn service_stops_in_the_middle_of_a_huge_file() {
    let pair = Pair::of("a \"x\"");
    disk::write_solid(&pair.source().join("huge"), HUGE, 1);
    let watch = pair.start_watch(&[]);
    eventually(Duration::from_secs(60), "some of it is written", || (watch.io("wchar") > 64 << 20).then_some(()));
    let took = watch.stop();
    assert!(took < STOP, "{took:?}");
    assert_nothing_half_done(&pair);
    assert!(fs::read_to_string(pair.log_file()).expect("log").contains("Stopped"), "the totals are not logged");
    disk::remove(&pair.source().join("huge"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn sync_stops_in_the_middle_of_many_files() {
    let pair = Pair::new();
    for i in 0..4000 {
        disk::write(&pair.source().join(format!("{}/{i}", i % 40)), vec![b'x'; 20_000]);
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut sync = Running::start(pair.on_both("sync", &[]));
        let begun = || walkdir::WalkDir::new(pair.replica()).into_iter().flatten().take(200).count() >= 200;
        eventually(Duration::from_secs(60), "it has begun", || begun().then_some(()));
        kill_process(Pid::from_child(&sync.0), signal).expect("signal");
        eventually(STOP, "it stops", || sync.0.try_wait().expect("wait"));
        assert_nothing_half_done(&pair);
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn idle_service_stops_at_once() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let took = watch.stop();
    assert!(took < Duration::from_secs(3), "an idle service took {took:?} to stop");
    assert_nothing_half_done(&pair);
    pair.assert_same();
}

#[test]
fn service_stops_while_it_is_flooded_with_events() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    for i in 0..3000 {
        disk::write(&pair.source().join(format!("flood/{}/{i}", i % 30)), i.to_string());
    }
    let took = watch.stop();
    assert!(took < STOP, "{took:?}");
    // A file that is being written is empty at first, and may have been copied then.
    assert_whole(&pair, |left, right| left == right || right == 0);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn interrupt_stops_the_service_as_well() {
    let pair = Pair::of("a \"x\"");
    let took = pair.watch(&[]).stop_by(Signal::INT);
    assert!(took < STOP, "{took:?}");
    pair.assert_same();
}
