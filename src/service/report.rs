//! Owns what the log says of a pass as a whole: its problems, its holds, and the line of totals.

use std::collections::VecDeque;
use std::time::Duration;

use rustix::io::Errno;

use super::condition::Condition;
use super::ledger::Ledger;
use super::pair::Pair;
use super::pass::{Outcome, describe};
use crate::tree::operation::{Conflict, Problem};
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

/// Adds what a following pass came to.
pub fn add(outcome: &mut Outcome, next: Outcome) {
    outcome.totals += next.totals;
    outcome.again = next.again;
    outcome.problems.extend(next.problems);
    outcome.totals.problems = outcome.problems.len() as u64;
    outcome.held.extend(next.held);
    outcome.held_entries += next.held_entries;
    outcome.unasked += next.unasked;
    outcome.restless = next.restless;
    outcome.condition = next.condition;
    outcome.common.extend(next.common);
    outcome.displaced |= next.displaced;
    outcome.gone.extend(next.gone);
    outcome.cancelled |= next.cancelled;
    outcome.in_source += next.in_source;
    next.conflicts.into_iter().for_each(|conflict| note_conflict(&mut outcome.conflicts, conflict));
}

/// As many conflicts are remembered.
pub const CONFLICTS: usize = 100;

/// Remembers one conflict more, and the last of all.
pub fn note_conflict(conflicts: &mut VecDeque<Conflict>, conflict: Conflict) {
    if conflicts.len() >= CONFLICTS {
        conflicts.pop_front();
    }
    conflicts.push_back(conflict);
}

/// Logs that both sides have changed something.
pub fn conflict(pair: &Pair, Conflict { path, winner, kept }: &Conflict) {
    let (loser, path) = (winner.other(), pair.shown(path));
    let kept = kept.as_ref().map(|kept| pair.shown(kept));
    if pair.options.dry_run {
        let becomes = kept.map_or_else(|| "be given up".into(), |kept| format!("be kept as {kept}"));
        pair.log.warn(format_args!(
            "Would be a conflict: {path}: the {winner}'s version would keep the name, the {loser}'s would {becomes}"
        ));
    } else {
        let becomes = kept.map_or_else(|| "is given up".into(), |kept| format!("is kept as {kept}"));
        pair.log.warn(format_args!("Conflict: {path}: the {winner}'s version keeps the name, the {loser}'s {becomes}"));
    }
}

/// How much was said of problems that many paths may share.
#[derive(Debug, Default)]
pub struct Common {
    said: usize,
    summed_up: Option<String>,
}

/// As many paths are named that fail for a reason that many may share.
const NAMED: usize = 3;

impl Common {
    /// The reason that was given for many paths at once.
    pub fn reason(&self) -> Option<&str> {
        self.summed_up.as_deref()
    }
}

/// Logs what went wrong, each path once; of a reason that many paths may share, the first paths only.
pub fn problems(pair: &Pair, outcome: &Outcome, common: &mut Common) {
    let mut rest: Vec<&Problem> = Vec::new();
    for problem in &outcome.problems {
        if outcome.common.contains(&problem.path) {
            if common.said >= NAMED {
                rest.push(problem);
                continue;
            }
            common.said += 1;
        }
        let advice = if is_denied(&problem.reason) && pair.said.first("denied") { denied_to() } else { String::new() };
        pair.log.error(format_args!("Failed: {}: {}{advice}", pair.shown(&problem.path), problem.reason));
    }
    if let Some(problem) = rest.first().filter(|_| common.summed_up.is_none()) {
        common.summed_up = Some(problem.reason.clone());
        let (count, path) = (rest.len(), pair.shown(&problem.path));
        let listed = if pair.watches.is_some() { ", and `driftless status` lists the paths" } else { "" };
        let paths = if count == 1 { "path" } else { "paths" };
        pair.log.error(format_args!(
            "Failed: {count} more {paths}, {path} among them: {}; that looks like one condition{listed}",
            problem.reason
        ));
    }
    if outcome.displaced {
        pair.log.error("Held: a folder or a mount has gone during the pass: nothing is removed from the replica");
    }
}

fn is_denied(reason: &str) -> bool {
    [Errno::ACCESS, Errno::PERM].map(describe).iter().any(|denied| reason.ends_with(denied))
}

/// What helps where this user may not do something; said once.
fn denied_to() -> String {
    let user = rustix::process::geteuid().as_raw();
    format!(" (this runs as the user with the number {user}: another one may be needed, or an --exclude)")
}

/// Logs that what was mounted below a root is gone.
pub fn gone(pair: &Pair, path: &RelPath, remedy: &str) {
    pair.log.error(format_args!(
        "Held: what was mounted at {} or in its place in the replica is gone: nothing is done at or below it. {remedy}",
        pair.shown_source(path)
    ));
}

/// Logs what has failed and does not any more, each path once.
pub fn mended(pair: &Pair, mended: &[(RelPath, u32)]) {
    for (path, tries) in mended {
        let tries = if *tries == 1 { "1 try".into() } else { format!("{tries} tries") };
        pair.log.info(format_args!("Does not fail any more: {}, after {tries}", pair.shown(path)));
    }
}

/// Logs at the start how much had failed before; each is logged again only for another reason.
pub fn failing(pair: &Pair, ledger: &Ledger) {
    if let Some((path, failed)) = ledger.iter().next() {
        let paths = if ledger.len() == 1 { "1 path".into() } else { format!("{} paths", ledger.len()) };
        let shown = pair.shown(path);
        pair.log
            .warn(format_args!("Failing since before this start: {paths}, first of all {shown}: {}", failed.reason));
    }
}

/// Logs that nothing can be added to the replica.
pub fn condition(pair: &Pair, condition: Condition) {
    let then = if pair.watches.is_some() { "is done by itself when that is over" } else { "is left to the next run" };
    pair.log.error(format_args!("{}; what is missing {then}", condition.beginning()));
}

/// Logs, where nobody will look again, that something changed at each look.
pub fn unsettled(pair: &Pair, outcome: &Outcome) {
    if !outcome.again.is_empty() && outcome.condition.is_none() && !outcome.cancelled {
        for folder in outcome.again.seeds() {
            let shown = pair.shown(&folder);
            pair.log.warn(format_args!("Not settled: something in {shown} changed each time it was looked at"));
        }
    }
}

/// Logs what has come to rest that was said not to.
pub fn rested(pair: &Pair, paths: &[RelPath]) {
    for path in paths {
        pair.log.info(format_args!("Certain again, read in one state: {}", pair.shown(path)));
    }
}

/// Logs that one sweep holds removals.
pub fn hold(pair: &Pair, entries: u64, remedy: &str) {
    if entries > 0 {
        let removals = removals(pair, entries);
        pair.log.warn(format_args!(
            "Held: {removals}, more than --max-delete allows at once; everything else was done. {remedy}"
        ));
    }
}

/// Logs, once, that a side holds nothing any more, where both are worked in.
pub fn emptied(pair: &Pair, is_so: bool) {
    if pair.two_way.is_none() {
        return;
    }
    let what = format!("emptied: {}", pair.written_side());
    if !is_so {
        pair.said.forget(&what);
    } else if pair.said.first(&what) {
        let (empty, other) = (pair.shown_source(&RelPath::root()), pair.shown(&RelPath::root()));
        pair.log.warn(format_args!("{empty} holds nothing any more: nothing is removed from {other} for that unasked"));
    }
}

/// A number of removals, and of which side where both are worked in.
pub fn removals(pair: &Pair, entries: u64) -> String {
    let side = if pair.two_way.is_some() { format!(" in the {}", pair.written_side()) } else { String::new() };
    format!("{entries} removals{side}")
}

/// What stands behind the totals of a pair whose folders are both worked in: what of it was done where.
pub fn sides(pair: &Pair, totals: &Totals, in_source: &Totals) -> String {
    if pair.two_way.is_none() {
        return String::new();
    }
    let (all, back) = (totals.changes(), in_source.changes());
    format!(" (changes: {} in the replica, {back} in the source)", all.saturating_sub(back))
}

/// Logs the line of totals that ends a sweep.
pub fn sweep(pair: &Pair, outcome: &Outcome, duration: Duration) {
    let verb = match (outcome.cancelled, pair.options.dry_run) {
        (true, _) => "Sweep stopped",
        (false, true) => "Dry run finished",
        (false, false) => "Sweep finished",
    };
    let sides = sides(pair, &outcome.totals, &outcome.in_source);
    pair.log.info(format_args!("{verb}: {} in {:.3} s{sides}", outcome.totals, duration.as_secs_f64()));
}
