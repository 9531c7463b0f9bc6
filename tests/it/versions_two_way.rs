//! Random work on both sides, with a picture of the tree that both have agreed on at each flush: the replica's disk tells
//! each of them exactly, whichever side a change came from.
//!
//! Each side has a folder of its own: what both sides have changed at once is nowhere any more as it was agreed. There are
//! no hard links: what of them a change in the other direction keeps is an inode of the other side's. `DRIFTLESS_SEEDS`,
//! `DRIFTLESS_FIRST_SEED` and `DRIFTLESS_KEEP_LOGS` are as in `random`.

use std::thread;
use std::time::Duration;

use crate::compare::{self, Reserved};
use crate::disk;
use crate::fixture::{Pair, Watch};
use crate::random::{Queue, each_seed};
use crate::two_way_work::Both;
use crate::versions_model::{KEEP, Noted, circumstances, trouble};
use crate::versions_past::{Line, journal, shown};

fn work_on(pair: &Pair, seed: u64) -> Both {
    Both::new(seed, [&pair.source(), &pair.replica()], &pair.top().join("outside")).apart()
}

/// Notes what both sides are, if they are equal.
fn agreed(pair: &Pair) -> Result<Noted, String> {
    let found = compare::differences(&pair.source(), &pair.replica(), Reserved::Ignored);
    if found.is_empty() { Ok(Noted::here(&pair.replica())) } else { Err(compare::list(&found)) }
}

/// A path of a side's own folder that came back to that side from the other one, if any: what was changed in one place and
/// removed in the other in the same moment stays, and its removal is told nowhere.
fn is_back(pair: &Pair) -> Option<String> {
    let is_own = |line: &Line| {
        let own: &[u8] = if line.field("side").is_some() { b"of the source/" } else { b"of the replica/" };
        line.word == "created" && line.path.starts_with(own)
    };
    journal(&pair.replica()).iter().find(|line| is_own(line)).map(|line| shown(&line.path))
}

/// What is not told as it was, unless something has come back.
fn untold(pair: &Pair, noted: &[Noted], both: &mut Both, seed: u64) -> Option<String> {
    trouble(pair, noted, &mut both.sides[0]).filter(|_| match is_back(pair) {
        // Each side has a folder of its own.
        Some(path) if path.contains(".conflict-2") && !path.contains(".conflict-20200101") => true,
        Some(path) => {
            disk::skipped(&format!("seed {seed}: {path} came back"));
            false
        }
        None => true,
    })
}

fn by_syncs(seed: u64) -> Result<(), String> {
    let pair = Pair::new();
    let mut both = work_on(&pair, seed);
    let jobs = (1 + both.below(4)).to_string();
    let options = [&KEEP[..], &["--two-way", "-v", "--jobs", &jobs]].concat();
    let (mut noted, mut said) = (Vec::new(), String::new());
    for round in 0..6 {
        for _ in 0..both.below(40) {
            both.step();
        }
        thread::sleep(Duration::from_millis(both.below(2) * 15));
        let ran = pair.try_sync(&options);
        said.push_str(&ran.text());
        let now = agreed(&pair).and_then(|noted| if ran.code == Some(0) { Ok(noted) } else { Err(ran.text()) });
        match now {
            Ok(now) => noted.push(now),
            Err(text) => return Err(format!("seed {seed}, round {round}: {:?}: {text}", ran.code)),
        }
    }
    untold(&pair, &noted, &mut both, seed).map_or(Ok(()), |text| {
        let around = circumstances(&pair, seed, &said, &both.log);
        Err(format!("seed {seed}, syncs, {}: {text}\n{around}", options.join(" ")))
    })
}

/// `kills`: the service is killed at random moments between the flushes.
fn by_service(seed: u64, kills: bool) -> Result<(), String> {
    let pair = Pair::new();
    let mut both = work_on(&pair, seed);
    let options = [&KEEP[..], &["--two-way", "-v"], [&[][..], &["--debounce", "5ms"]][both.below(2) as usize]].concat();
    let between = |both: &mut Both, most: u64| {
        for _ in 0..both.below(most) {
            both.step();
            if both.chance(6) {
                thread::sleep(Duration::from_millis(both.below(40)));
            }
        }
    };
    between(&mut both, 40);
    let mut noted = Vec::new();
    let mut watch: Option<Watch> = Some(pair.start_watch(&options));
    for round in 0..4 {
        between(&mut both, 60);
        for _ in 0..if kills { 1 + both.below(3) } else { 0 } {
            thread::sleep(Duration::from_millis(both.below(150)));
            watch.take().expect("it runs").kill();
            between(&mut both, 10);
            watch = Some(pair.start_watch(&options));
            between(&mut both, 20);
        }
        let running = watch.as_ref().expect("it runs");
        running.wait_for_answer();
        let ran = running.client("flush", &["--timeout", "60s"]);
        match agreed(&pair).and_then(|noted| if ran.code == Some(0) { Ok(noted) } else { Err(ran.text()) }) {
            Ok(now) => noted.push(now),
            Err(text) => {
                let around = circumstances(&pair, seed, &running.log(), &both.log);
                return Err(format!("seed {seed}, round {round}, the flush itself: {text}\n{around}"));
            }
        }
    }
    let running = watch.take().expect("it runs");
    let said = running.log();
    running.stop();
    untold(&pair, &noted, &mut both, seed).map_or(Ok(()), |text| {
        let around = circumstances(&pair, seed, &said, &both.log);
        Err(format!("seed {seed}, service, {}: {text}\n{around}", options.join(" ")))
    })
}

#[test]
fn each_agreed_tree_can_be_had_again_after_syncs() {
    each_seed(2, by_syncs);
}

#[test]
fn each_agreed_tree_can_be_had_again_from_under_a_service() {
    let _queue = Queue::wanted();
    each_seed(1, |seed| by_service(seed, false));
}

#[test]
fn each_agreed_tree_can_be_had_again_from_under_a_service_that_is_killed_again_and_again() {
    let _queue = Queue::wanted();
    each_seed(1, |seed| by_service(seed, true));
}
