//! Owns what the log says of a pass as a whole: its problems, its holds, and the line of totals.

use std::time::Duration;

use super::pair::Pair;
use super::pass::{Outcome, describe};

/// Adds what a following pass came to.
pub fn add(outcome: &mut Outcome, next: Outcome) {
    outcome.totals += next.totals;
    outcome.again = next.again;
    outcome.problems.extend(next.problems);
    outcome.totals.problems = outcome.problems.len() as u64;
    outcome.held.extend(next.held);
    outcome.held_entries += next.held_entries;
    outcome.uncertain = next.uncertain;
    outcome.full = next.full;
    outcome.displaced |= next.displaced;
    outcome.cancelled |= next.cancelled;
}

/// Logs what went wrong, each path once, and what is held, with its remedy.
pub fn problems(pair: &Pair, outcome: &Outcome) {
    for problem in &outcome.problems {
        pair.log.error(format_args!("Failed: {}: {}", pair.shown(&problem.path), problem.reason));
    }
    // One condition, said once until there is room again.
    if let Some(error) = outcome.full.filter(|_| pair.said.first("full")) {
        pair.log
            .error(format_args!("The replica has no room: {}; what is missing is made when there is", describe(error)));
    }
    if outcome.displaced {
        pair.log.error("The source is not in its place any more: nothing is removed from the replica");
    }
}

/// Logs, where nobody will look again, that something changed at each look.
pub fn unsettled(pair: &Pair, outcome: &Outcome) {
    if !outcome.again.is_empty() && outcome.full.is_none() && !outcome.cancelled {
        for folder in outcome.again.seeds() {
            let shown = pair.shown(&folder);
            pair.log.warn(format_args!("Not settled: something in {shown} changed each time it was looked at"));
        }
    }
}

/// Logs that removals are held.
pub fn hold(pair: &Pair, outcome: &Outcome, remedy: &str) {
    if !outcome.held.is_empty() {
        let entries = outcome.held_entries;
        pair.log.warn(format_args!(
            "Held: {entries} removals, more than --max-delete allows at once; everything else was done. {remedy}"
        ));
    }
}

/// Logs the line of totals that ends a sweep.
pub fn sweep(pair: &Pair, outcome: &Outcome, duration: Duration) {
    let verb = match (outcome.cancelled, pair.options.dry_run) {
        (true, _) => "Sweep stopped",
        (false, true) => "Dry run finished",
        (false, false) => "Sweep finished",
    };
    pair.log.info(format_args!("{verb}: {} in {:.3} s", outcome.totals, duration.as_secs_f64()));
}
