//! Owns `sync`: one sweep, then the exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::open::{self, Refusal};
use super::progress::Progress;
use super::signals;
use crate::cli::SyncArgs;
use crate::config::Settings;
use crate::fs::pulse::Pulse;
use crate::service::claims::Which;
use crate::service::clock;
use crate::service::lane;
use crate::service::log;
use crate::service::onlooker::Onlooker;
use crate::service::pair::Pair;
use crate::service::pass::{self, Brake, Order, Outcome, Release};
use crate::service::places::{Misplaced, REMEDY_OF_SYNC};
use crate::service::report::{self, Common};
use crate::service::restless::Look;
use crate::tree::doubt::{DirtySet, Doubt};
use crate::tree::operation::Cause;

/// What changed while it was looked at is looked at again this often.
const ROUNDS: u32 = 7;

/// Runs `driftless sync`.
///
/// # Errors
/// What makes the folders or the options unusable.
pub fn run(args: &SyncArgs) -> Result<ExitCode, Refusal> {
    let settings = Settings::for_sync(args)?;
    let paths = open::check(&settings)?;
    open::patterns(&settings)?;
    open::log_place(&settings)?;
    let pulse = Arc::new(Pulse::new(signals::stop_flag()));
    let roots = open::roots(&paths, &settings)?;
    let progress = Progress::new(&settings);
    let (log, guard) = log::start(&progress.log_options(&settings)).map_err(Refusal::Log)?;
    let mut onlooker = Onlooker::default();
    let result = open::exclude((&roots.0, &roots.1), &settings, &log)
        .inspect(|exclude| onlooker = progress.start(roots.0.path(), exclude, &settings))
        .and_then(|exclude| open::pair(roots, open::in_force(exclude, &settings), &settings, log))
        .and_then(|(pair, misplaced)| match misplaced {
            Some(reason) => Ok(held(&pair, &reason)),
            None => {
                // Nothing can be opened any more by those who are confined.
                let reverse = pair.two_way.clone().map(|two_way| pair.reversed(two_way)).transpose();
                let reverse = reverse.map_err(|e| Refusal::Start(pass::describe(e)))?;
                let sweep = || match &reverse {
                    Some(reverse) => both_ways((&pair, reverse), settings.release, &pulse, &onlooker),
                    None => sweep(&pair, settings.release, &pulse, &onlooker),
                };
                in_thread(&pair, sweep)
            }
        });
    drop(onlooker);
    progress.finish();
    guard.finish();
    result
}

/// Nothing is done with folders that are not what they were.
fn held(pair: &Pair, reason: &Misplaced) -> ExitCode {
    pair.log.error(format_args!("Held: {reason} Nothing was done. {REMEDY_OF_SYNC}"));
    ExitCode::from(3)
}

/// Runs in a thread that can open nothing but the folders; the program's own must still be able to write its log.
fn in_thread(pair: &Pair, work: impl FnOnce() -> ExitCode + Send) -> Result<ExitCode, Refusal> {
    let confined = || {
        lane::confine(pair);
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("pass".into()).spawn_scoped(scope, confined);
        let thread = thread.map_err(|e| Refusal::Start(e.to_string()))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn sweep(pair: &Pair, released: bool, pulse: &Arc<Pulse>, onlooker: &Onlooker) -> ExitCode {
    let start = Instant::now();
    let release = if released { Release::Everything } else { Release::Nothing };
    let mut brake = Brake { release, ..Brake::default() };
    let run = |dirty: &DirtySet, brake: &Brake| {
        let (brake, cause) = (brake.clone(), Cause::Sweep);
        let jobs = pair.rules().jobs;
        let order = Order { dirty, renames: &[], brake, cause, oldest: None, jobs, lane: Which::Bulk };
        pass::run(pair, &order, pulse)
    };
    let everything = DirtySet::everything();
    onlooker.began(pulse, pair.entries());
    let mut outcome = run(&everything, &brake);
    brake.entries = outcome.entries;
    note_restless(pair, &everything, &outcome);
    for round in 0..ROUNDS {
        let dirty = to_look_at_again(&mut outcome);
        if dirty.is_empty() || outcome.condition.is_some() || pulse.is_stopped() || pair.options.dry_run {
            outcome.again = dirty;
            break;
        }
        clock::wait(Duration::from_millis(20 << round));
        brake.recent = outcome.unasked;
        report::add(&mut outcome, run(&dirty, &brake));
        note_restless(pair, &dirty, &outcome);
    }
    outcome.again = to_look_at_again(&mut outcome);
    onlooker.ended();
    pass::close(pair);
    finish(pair, &outcome, start)
}

/// What the person hears at the end, and the exit code.
fn finish(pair: &Pair, outcome: &Outcome, start: Instant) -> ExitCode {
    if let Err(reason) = pair.commit(clock::now(), true) {
        pair.log.warn(format_args!("{reason}; the next sweep compares everything"));
    }
    pair.end();
    report::problems(pair, outcome, &mut Common::default());
    if let Some(condition) = outcome.condition {
        report::condition(pair, condition);
    }
    outcome.gone.iter().for_each(|path| report::gone(pair, path, REMEDY_OF_SYNC));
    report::unsettled(pair, outcome);
    report::hold(pair, outcome, "Run `driftless sync --release` with the same folders to let them happen");
    report::sweep(pair, outcome, start.elapsed());
    exit_code(outcome, pair.restless.unsettled())
}

/// One sweep of both sides: each pass goes one way, and notes what is for the other.
fn both_ways(pairs: (&Pair, &Pair), released: bool, pulse: &Arc<Pulse>, onlooker: &Onlooker) -> ExitCode {
    let (pair, reverse) = pairs;
    let start = Instant::now();
    let release = if released { Release::Everything } else { Release::Nothing };
    let mut ways = [(pair, DirtySet::everything()), (reverse, DirtySet::default())].map(|(pair, dirty)| Way {
        pair,
        dirty,
        brake: Brake { release: release.clone(), ..Brake::default() },
    });
    let mut all = Outcome::default();
    onlooker.began(pulse, pair.entries());
    for round in 0..ROUNDS {
        let mut waits = true;
        for at in [0, 1] {
            let dirty = std::mem::take(&mut ways[at].dirty);
            if dirty.is_empty() || all.condition.is_some() || pulse.is_stopped() {
                ways[at].dirty = dirty;
                continue;
            }
            let mut outcome = ways[at].run(&dirty, pulse);
            if at == 0 {
                ways[0].brake.entries = ways[0].brake.entries.or(outcome.entries);
                ways[1].brake.entries = ways[1].brake.entries.or(outcome.source_entries);
            }
            ways[at].brake.recent += outcome.unasked;
            note_restless(ways[at].pair, &dirty, &outcome);
            let across = std::mem::take(&mut outcome.across);
            waits &= across.is_empty();
            ways[1 - at].dirty.union(across);
            ways[at].dirty.union(to_look_at_again(&mut outcome));
            report::add(&mut all, outcome);
        }
        if ways.iter().all(|way| way.dirty.is_empty()) || all.condition.is_some() || pulse.is_stopped() {
            break;
        }
        if pair.options.dry_run && round > 0 {
            break;
        }
        if waits {
            clock::wait(Duration::from_millis(20 << round));
        }
    }
    for way in ways {
        all.again.union(way.dirty);
    }
    onlooker.ended();
    pass::close(pair);
    pass::close(reverse);
    finish(pair, &all, start)
}

/// One of the two directions.
struct Way<'a> {
    pair: &'a Pair,
    dirty: DirtySet,
    brake: Brake,
}

impl Way<'_> {
    fn run(&self, dirty: &DirtySet, pulse: &Pulse) -> Outcome {
        let (brake, cause, jobs) = (self.brake.clone(), Cause::Sweep, self.pair.rules().jobs);
        let order = Order { dirty, renames: &[], brake, cause, oldest: None, jobs, lane: Which::Bulk };
        pass::run(self.pair, &order, pulse)
    }
}

/// Takes in what came of files that changed while they were looked at.
fn note_restless(pair: &Pair, dirty: &DirtySet, outcome: &Outcome) {
    let now = clock::now();
    let rested = pair.restless.settle(dirty, &outcome.again, &outcome.restless, now, now);
    report::rested(pair, &rested);
}

/// What changed while it was looked at. What was taken as it was at some instant of the pass is done with.
fn to_look_at_again(outcome: &mut Outcome) -> DirtySet {
    let mut dirty = std::mem::take(&mut outcome.again);
    for (path, look) in &outcome.restless {
        if matches!(look, Look::Waits | Look::Behind) {
            dirty.insert(path, Doubt::contents(clock::now()));
        }
    }
    dirty
}

fn exit_code(outcome: &Outcome, unsettled: usize) -> ExitCode {
    let incomplete = !outcome.problems.is_empty()
        || outcome.condition.is_some()
        || ((!outcome.again.is_empty() || unsettled > 0) && !outcome.cancelled);
    let held = outcome.displaced || !outcome.gone.is_empty() || !outcome.held.is_empty();
    match (incomplete, held) {
        (_, true) => ExitCode::from(3),
        (true, false) => ExitCode::from(1),
        (false, false) => ExitCode::SUCCESS,
    }
}
