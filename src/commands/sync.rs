//! Owns `sync`: one sweep, then the exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::open::{self, Refusal};
use super::pairs;
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
use crate::service::pair::{Pair, clear_leftovers};
use crate::service::pass::{self, Brake, Order, Outcome, Release};
use crate::service::places::{Misplaced, REMEDY_OF_SYNC};
use crate::service::report::{self, Common};
use crate::service::restless::Look;
use crate::service::thinning::Thinning;
use crate::tree::doubt::{DirtySet, Doubt};
use crate::tree::operation::Cause;

/// What changed while it was looked at is looked at again this often.
const ROUNDS: u32 = 7;
/// What a person can do about removals that are held.
const RELEASE: &str = "Run `driftless sync --release` with the same folders to let them happen";

/// Runs `driftless sync`.
///
/// # Errors
/// What makes the folders or the options unusable.
pub fn run(args: &SyncArgs) -> Result<ExitCode, Refusal> {
    let Some(file) = &args.copying.pairs else {
        return one(&Settings::for_sync(args)?, signals::stop_flag(), None).map(ExitCode::from);
    };
    let each = pairs::settings(file, |source, replica| Settings::for_sync(&pairs::sync_args(args, source, replica)))?;
    let (stop, all) = (signals::stop_flag(), each.len());
    let mut worst = 0;
    for (at, settings) in each.iter().enumerate().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let place = (all > 1).then_some((at + 1, all));
        let code = match one(settings, Arc::clone(&stop), place) {
            Ok(code) => code,
            Err(refusal) if all == 1 => return Err(refusal),
            // The others can do nothing for it.
            Err(refusal) => {
                refusal.each().iter().for_each(|sentence| eprintln!("driftless: {sentence}"));
                UNUSABLE
            }
        };
        worst = worse(worst, code);
    }
    Ok(ExitCode::from(worst))
}

const DONE: u8 = 0;
const INCOMPLETE: u8 = 1;
const UNUSABLE: u8 = 2;
const HELD: u8 = 3;

/// Of two exit codes the one that a person has to know of first.
fn worse(one: u8, other: u8) -> u8 {
    let rank = |code| [DONE, INCOMPLETE, HELD, UNUSABLE].iter().position(|known| *known == code);
    if rank(other) > rank(one) { other } else { one }
}

/// One pair, the n-th of several. Returns the exit code.
fn one(settings: &Settings, stop: Arc<AtomicBool>, place: Option<(usize, usize)>) -> Result<u8, Refusal> {
    let paths = open::check(settings)?;
    open::patterns(settings)?;
    open::log_place(settings)?;
    let pulse = Arc::new(Pulse::new(stop));
    let roots = open::roots(&paths, settings)?;
    let progress = Progress::new(settings);
    let (log, guard) = log::start(&progress.log_options(settings)).map_err(Refusal::Log)?;
    if let Some((at, all)) = place {
        let (source, replica) = (open::shown(&paths.source), open::shown(&paths.replica));
        log.info(format_args!("Pair {at} of {all}: {source} and {replica}"));
    }
    let mut onlooker = Onlooker::default();
    let result = open::exclude((&roots.0, &roots.1), settings, &log)
        .inspect(|exclude| onlooker = progress.start(roots.0.path(), exclude, settings))
        .and_then(|exclude| open::pair(roots, open::in_force(exclude, settings), settings, log))
        .and_then(|(pair, misplaced)| match misplaced {
            Some(reason) => Ok(held(&pair, &reason)),
            None => {
                // Nothing can be opened any more by those who are confined.
                let reverse = pair.two_way.clone().map(|two_way| pair.reversed(two_way)).transpose();
                let reverse = reverse.map_err(|e| Refusal::Start(pass::describe(e)))?;
                if let Some(reverse) = reverse.as_ref().filter(|_| !settings.dry_run) {
                    clear_leftovers(&reverse.replica, &reverse.stage, &reverse.log);
                }
                let sweep = || match &reverse {
                    Some(reverse) => both_ways((&pair, reverse), settings.release, &pulse, &onlooker),
                    None => sweep(&pair, settings.release, &pulse, &onlooker),
                };
                let thinning = Thinning::begin(&pair);
                let code = in_thread(&pair, sweep);
                if let Some(thinning) = thinning {
                    thinning.finish();
                }
                code
            }
        });
    drop(onlooker);
    progress.finish();
    guard.finish();
    result
}

/// Nothing is done with folders that are not what they were.
fn held(pair: &Pair, reason: &Misplaced) -> u8 {
    pair.log.error(format_args!("Held: {reason} Nothing was done. {REMEDY_OF_SYNC}"));
    HELD
}

/// Runs in a thread that can open nothing but the folders; the program's own must still be able to write its log.
fn in_thread(pair: &Pair, work: impl FnOnce() -> u8 + Send) -> Result<u8, Refusal> {
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

fn sweep(pair: &Pair, released: bool, pulse: &Arc<Pulse>, onlooker: &Onlooker) -> u8 {
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
    report::hold(pair, outcome.held_entries, RELEASE);
    finish(pair, &outcome, start)
}

/// What the person hears at the end, and the exit code.
fn finish(pair: &Pair, outcome: &Outcome, start: Instant) -> u8 {
    if !pair.options.dry_run {
        if let Err(reason) = pair.commit(clock::now(), true) {
            pair.log.warn(format_args!("{reason}; the next sweep compares everything"));
        }
        pair.end();
    }
    report::problems(pair, outcome, &mut Common::default());
    if let Some(condition) = outcome.condition {
        report::condition(pair, condition);
    }
    outcome.gone.iter().for_each(|path| report::gone(pair, path, REMEDY_OF_SYNC));
    report::unsettled(pair, outcome);
    report::sweep(pair, outcome, start.elapsed());
    exit_code(outcome, pair.restless.unsettled())
}

/// One sweep of both sides: each pass goes one way, and notes what is for the other.
fn both_ways(pairs: (&Pair, &Pair), released: bool, pulse: &Arc<Pulse>, onlooker: &Onlooker) -> u8 {
    let (pair, reverse) = pairs;
    let start = Instant::now();
    let release = if released { Release::Everything } else { Release::Nothing };
    // Only a dry run makes no source: all that there is goes back.
    let (there, back) = match pair.source.is_missing() {
        true => (DirtySet::default(), DirtySet::everything()),
        false => (DirtySet::everything(), DirtySet::default()),
    };
    let mut ways = [(pair, there), (reverse, back)].map(|(pair, dirty)| Way {
        pair,
        dirty,
        brake: Brake { release: release.clone(), ..Brake::default() },
        held: 0,
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
            ways[at].held += outcome.held_entries;
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
        // What both leave to one another may wait for the clock's grain too.
        if waits || round > 1 {
            clock::wait(Duration::from_millis(20 << round));
        }
    }
    for way in ways {
        report::hold(way.pair, way.held, RELEASE);
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
    /// How many removals it holds.
    held: u64,
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

fn exit_code(outcome: &Outcome, unsettled: usize) -> u8 {
    let incomplete = !outcome.problems.is_empty()
        || outcome.condition.is_some()
        || ((!outcome.again.is_empty() || unsettled > 0) && !outcome.cancelled);
    let held = outcome.displaced || !outcome.gone.is_empty() || !outcome.held.is_empty();
    match (incomplete, held) {
        (_, true) => HELD,
        (true, false) => INCOMPLETE,
        (false, false) => DONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_exit_code_is_the_one_that_asks_most_of_a_person() {
        let worst = |codes: &[u8]| codes.iter().copied().fold(DONE, worse);
        for (codes, expected) in [(&[][..], 0), (&[0, 0], 0), (&[1, 0], 1), (&[1, 3, 0], 3), (&[3, 2, 1], 2)] {
            assert_eq!(worst(codes), expected, "{codes:?}");
        }
    }
}
