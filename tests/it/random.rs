//! Random work on the source under a running service: identical at every flush, whatever was done.
//!
//! A failure prints the seed, the round, the last operations, the differences, whether more time or a sweep mends them,
//! and the end of the service's log. `DRIFTLESS_SEEDS=200 cargo test random` tries 200 seeds; `DRIFTLESS_FIRST_SEED=17`
//! begins there. `DRIFTLESS_QUEUE=16` (root only) makes the kernel's event queue that short for services started
//! meanwhile, and puts it back afterwards. The operations are in `random_ops`.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::{self, Difference, Reserved, differences};
use crate::fixture::{Pair, Watch, eventually};
use crate::random_work::Work;

const ROUNDS: usize = 5;

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

/// The kernel's event queue at another length while this lives.
pub struct Queue {
    before: String,
}

const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";

impl Queue {
    /// As the environment says.
    pub fn wanted() -> Option<Self> {
        std::env::var("DRIFTLESS_QUEUE").ok().map(|length| Self::at(&length))
    }

    fn at(length: &str) -> Self {
        let before = fs::read_to_string(QUEUE).expect("the queue's length");
        fs::write(QUEUE, length).expect("set the queue's length (as root)");
        Self { before }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = fs::write(QUEUE, &self.before);
    }
}

#[test]
fn random_work_is_identical_at_every_flush() {
    let _queue = Queue::wanted();
    each_seed(4, one_seed);
}

/// Tries as many seeds as the environment says, a few at a time, and panics with what failed. After `DRIFTLESS_SECONDS` none
/// is begun any more; how many were tried is printed then.
pub fn each_seed(default: u64, one_seed: impl Fn(u64) -> Result<(), String> + Sync) {
    let first = number("DRIFTLESS_FIRST_SEED", 1);
    let next = AtomicU64::new(first);
    let end = first + number("DRIFTLESS_SEEDS", default);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(4);
    let (began, limit) = (Instant::now(), Duration::from_secs(number("DRIFTLESS_SECONDS", u64::from(u32::MAX))));
    let failures: Vec<String> = thread::scope(|scope| {
        let run_seeds = || {
            let mut failures = Vec::new();
            loop {
                if failures.len() == 3 || began.elapsed() > limit {
                    return failures;
                }
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return failures;
                }
                failures.extend(one_seed(seed).err());
            }
        };
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(run_seeds)).collect();
        running.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    if std::env::var_os("DRIFTLESS_SECONDS").is_some() {
        eprintln!("seeds tried: {}", next.into_inner().min(end) - first);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn one_seed(seed: u64) -> Result<(), String> {
    let pair = Pair::new();
    let mut work = Work::new(seed, &pair.source(), &pair.top().join("outside"));
    (0..60).for_each(|_| work.step());
    let watch = pair.start_watch(&["--max-delete", "100%", "-v"]);
    if work.chance(2) {
        watch.wait_for_answer();
    }
    for round in 0..ROUNDS {
        for _ in 0..work.below(200) {
            work.step();
            if work.chance(40) {
                // No waiting for anything: some bursts reach across the debounce, others do not.
                thread::sleep(Duration::from_millis(work.below(40)));
            }
        }
        watch.wait_for_answer();
        let ran = watch.client("flush", &["--timeout", "60s"]);
        let found = differences(&pair.source(), &pair.replica(), Reserved::Ignored);
        if ran.code != Some(0) || !found.is_empty() {
            let trouble = format!("flush: {:?} {}\n{}", ran.code, ran.text(), compare::list(&found));
            return Err(format!("seed {seed}, round {round}: {trouble}\n{}", circumstances(&pair, &watch, &work)));
        }
    }
    watch.stop();
    let found = differences(&pair.source(), &pair.replica(), Reserved::Forbidden);
    if found.is_empty() { Ok(()) } else { Err(format!("seed {seed}, after the stop: {}", compare::list(&found))) }
}

fn lines_of(log: &str) -> u64 {
    log.lines().count() as u64
}

/// What a person needs to understand a failure: does it heal, what was done, what did the service say.
fn circumstances(pair: &Pair, watch: &Watch<'_>, work: &Work) -> String {
    let now = || differences(&pair.source(), &pair.replica(), Reserved::Ignored);
    thread::sleep(Duration::from_secs(2));
    let later = now();
    let sweeps = watch.sweeps_finished();
    watch.client("sweep", &[]);
    eventually(Duration::from_secs(60), "a sweep", || (watch.sweeps_finished() > sweeps).then_some(()));
    let swept = now();
    let log = watch.log();
    if let Ok(folder) = std::env::var("DRIFTLESS_KEEP_LOGS") {
        let _ = fs::write(format!("{folder}/{}.log", std::process::id() as u64 * 1000 + lines_of(&log)), &log);
    }
    let lines: Vec<_> = log.lines().collect();
    let tail = |lines: &[&str], count: usize| lines[lines.len().saturating_sub(count)..].join("\n  ");
    let done: Vec<_> = work.log.iter().map(String::as_str).collect();
    format!(
        "two seconds later: {}\nafter a sweep: {}\nlast operations:\n  {}\nend of the log:\n  {}",
        brief(&later),
        brief(&swept),
        tail(&done, 40),
        tail(&lines, 40),
    )
}

fn brief(found: &[Difference]) -> String {
    if found.is_empty() { "identical".to_owned() } else { compare::list(&found[..found.len().min(5)]) }
}
