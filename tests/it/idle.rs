//! A service with nothing to do does nothing: no CPU, hardly a wake-up, and its own sweep does not wake it.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, Watch, eventually};

/// How long the service is observed. A measurement's length, not a guess at when something will have happened.
const OBSERVED: Duration = Duration::from_secs(3);

/// Clock ticks (of 10 ms) that the process has used.
pub fn cpu_ticks(watch: &Watch<'_>) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", watch.pid())).expect("stat");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    // The name is field 2, so that utime and stime (14 and 15) are 11 and 12 after it.
    let field = |n: usize| after_name.split_whitespace().nth(n).and_then(|n| n.parse::<u64>().ok()).expect("a number");
    field(11) + field(12)
}

/// How often any thread of the process has gone to sleep: each was a waking before.
pub fn wakeups(watch: &Watch<'_>) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", watch.pid())).expect("tasks").flatten();
    let of_task = |task: fs::DirEntry| -> Option<u64> {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse().ok()
    };
    tasks.filter_map(of_task).sum()
}

/// Kilobytes of memory that the process has for itself.
fn own_memory(watch: &Watch<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", watch.pid())).expect("status");
    let value = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn settled(pair: &Pair) -> Watch<'_> {
    // How memory is used does not depend on it, and this is not the place to wait for a disk.
    let watch = pair.watch(&["--durability", "none"]);
    disk::write(&pair.source().join("folder-1/new"), "n");
    watch.flush();
    watch.wait_for_state("in_sync");
    watch
}

fn filled() -> Pair {
    let pair = Pair::new();
    for i in 0..500 {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 50)), i.to_string());
    }
    pair
}

#[test]
fn idle_service_uses_no_cpu_and_hardly_wakes() {
    let pair = filled();
    let watch = settled(&pair);
    // The last event's debounce is still running out, and some seconds later what was agreed is written.
    let is_idle = |(ticks, woken): &(u64, u64)| *ticks <= 1 && *woken <= 15;
    let mut seen = Vec::new();
    while seen.len() < 10 && !seen.last().is_some_and(is_idle) {
        let (ticks, woken) = (cpu_ticks(&watch), wakeups(&watch));
        thread::sleep(OBSERVED);
        seen.push((cpu_ticks(&watch) - ticks, wakeups(&watch).saturating_sub(woken)));
    }
    assert!(seen.last().is_some_and(is_idle), "ticks of CPU and wakings in {OBSERVED:?} each: {seen:?}");
}

#[test]
fn sweep_does_not_wake_itself() {
    let pair = filled();
    let watch = settled(&pair);
    let before = watch.sweeps_finished();
    watch.client("sweep", &[]).expect_code(0);
    eventually(Duration::from_secs(20), "the sweep", || (watch.sweeps_finished() > before).then_some(()));
    watch.wait_for_state("in_sync");
    let (status, log, read) = (watch.status(), watch.log(), watch.io("rchar"));
    thread::sleep(OBSERVED);
    let later = watch.status();
    assert_eq!(later["totals"], status["totals"]);
    assert_eq!(later["last_sweep"], status["last_sweep"]);
    assert_eq!(later["since"], status["since"], "it left its state and came back");
    assert_eq!(watch.log(), log);
    assert!(watch.io("rchar") - read < 1 << 16, "it read while nothing happened");
    assert_eq!(watch.sweeps_finished(), before + 1);
}

#[test]
fn reading_the_source_wakes_nothing() {
    let pair = filled();
    let watch = settled(&pair);
    let ticks = cpu_ticks(&watch);
    let woken = wakeups(&watch);
    for _ in 0..20 {
        for i in 0..500 {
            fs::read(pair.source().join(format!("folder-{}/{i}", i % 50))).expect("read");
        }
    }
    let (ticks, woken) = (cpu_ticks(&watch) - ticks, wakeups(&watch) - woken);
    assert!(ticks <= 5 && woken <= 100, "10,000 reads by others: {ticks} ticks, woke {woken} times");
}

#[test]
fn targeted_update_does_not_read_the_tree() {
    let pair = Pair::of("here/file \"x\"");
    for i in 0..500 {
        disk::write(&pair.source().join(format!("elsewhere-{}/{i}", i % 100)), vec![b'x'; 20_000]);
    }
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let before = watch.io("rchar");
    disk::write(&pair.source().join("here/file"), "changed");
    watch.flush();
    let read = watch.io("rchar") - before;
    assert!(read < 1 << 20, "one small file changed, {read} bytes read");
    assert_eq!(watch.sweeps_finished(), 1, "a sweep for one file");
}

#[test]
fn memory_goes_back_when_a_pass_is_over() {
    const MOST: u64 = 18_000;
    let pair = Pair::new();
    for i in 0..20_000 {
        disk::write(&pair.source().join(format!("folder-{}/file-{i}", i % 5_000)), i.to_string());
    }
    let watch = settled(&pair);
    let first = own_memory(&watch);
    watch.stop();
    let watch = settled(&pair);
    let unchanged = own_memory(&watch);
    assert!(
        first <= MOST && unchanged <= MOST,
        "kB after a first pass: {first}, after one that changes nothing: {unchanged}"
    );
}
