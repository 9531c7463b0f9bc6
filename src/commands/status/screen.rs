//! Owns the screen for one service: what a person wants to know first, and what to do where something is to be done.

mod decay;

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Zoned;

use super::words::{ago, counted, done, long_span, millis, moment, number, since, span};
use super::{Look, style_of};
use crate::plan::keep;
use crate::service::status::{Failing, HoldStatus, Kept, State, Status, Sweep, TwoWay, Watches};
use crate::tree::quote::escaped;
use crate::tree::totals::Bytes;

/// How many entries of a list are shown.
const SHOWN: usize = 5;
/// Where what stands beside the labels begins.
const INDENT: usize = 12;

/// One screen, ending with a newline. Whatever the service sent, a line stays a line and the terminal is not steered.
pub fn of(status: &Status, now: &Zoned, look: Look) -> String {
    let mut screen = Screen { out: String::new(), look };
    // What is held has lines of its own.
    let reason = status.reason.as_ref().filter(|_| status.holds.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let state = format!("{} {}{reason}", status.state, since(&status.since, now));
    screen.text("State", &state, status.state.to_string().len(), style_of(Some(status.state)));
    screen.whole("Source", &status.source);
    screen.whole("Replica", &status.replica);
    if let Some(TwoWay { conflict, .. }) = &status.two_way {
        screen.plain("Two ways", &format!("both are worked in; conflicts: {conflict}"));
    }
    screen.plain("Service", &service(status, now));
    screen.gap();
    if let Some(sweep) = &status.sweep {
        screen.plain("Sweeping", &sweeping(sweep, status.state));
    }
    screen.plain("Pending", &pending(status));
    screen.plain("Latency", &latency(status));
    screen.watches(&status.watches);
    screen.plain("Last sweep", &last_sweep(status, now));
    if let Some(seconds) = status.next_sweep_in_s {
        screen.plain("Next sweep", &format!("in {}", long_span(Duration::from_secs(seconds))));
    }
    screen.scrubs(&status.scrub, now);
    screen.plain("Since start", &done(&status.totals).unwrap_or_else(|| "nothing had to be done".into()));
    if let Some(TwoWay { in_replica, in_source, .. }) = &status.two_way {
        for (side, totals) in [("in the replica", in_replica), ("in the source", in_source)] {
            screen.below(
                INDENT,
                &format!("{side}: {}", done(totals).unwrap_or_else(|| "nothing".into())),
                Style::new(),
            );
        }
    }
    if let Some(keeping) = &status.kept {
        screen.plain("Kept", &kept(keeping, now));
    }
    for hold in &status.holds {
        screen.hold(hold, now);
    }
    screen.failing(status, now);
    screen.uncertain(status);
    screen.decayed(&status.scrub, now);
    screen.conflicts(status, now);
    screen.out
}

fn service(status: &Status, now: &Zoned) -> String {
    let version = if status.version.is_empty() { String::new() } else { format!(", version {}", status.version) };
    let up = ago(&status.started, now).map(|up| format!(", up {}", long_span(up))).unwrap_or_default();
    format!("process {}{version}{up}", status.pid)
}

fn kept(kept: &Kept, now: &Zoned) -> String {
    let mut text = match (kept.versions, kept.bytes) {
        (Some(versions), Some(bytes)) => {
            format!("{} ({})", counted(versions, "version", "versions"), Bytes(bytes))
        }
        _ => "not counted yet".into(),
    };
    if let Some(since) = &kept.since {
        text.push_str(&format!(", everything since {}", moment(since, now)));
    }
    text.push_str(&format!("; for {}", kept.policy));
    if let Some(max) = kept.max_bytes {
        text.push_str(&format!(", at most {}", keep::size(max)));
    }
    if let Some(free) = &kept.free {
        text.push_str(&format!(", while {free} of the disk are free"));
    }
    text
}

fn pending(status: &Status) -> String {
    match status.pending {
        0 if status.last_sweep.is_none() => "not known before the first sweep has ended".into(),
        0 => "nothing, no lag".into(),
        paths => format!("{}, lag {}", counted(paths, "path", "paths"), span(Duration::from_millis(status.lag_ms))),
    }
}

fn latency(status: &Status) -> String {
    let latency = &status.latency;
    match (latency.median_ms, latency.p99_ms) {
        (Some(median), Some(p99)) => format!(
            "half within {}, 99 % within {} (of {})",
            millis(median),
            millis(p99),
            counted(latency.count, "change", "changes")
        ),
        _ => "no change yet".into(),
    }
}

fn sweeping(sweep: &Sweep, state: State) -> String {
    let entries = match sweep.expected {
        Some(all) if all >= sweep.entries => {
            let percent = sweep.entries.saturating_mul(100).checked_div(all).unwrap_or(0);
            format!("{} of about {} entries ({percent} %)", number(sweep.entries), number(all))
        }
        _ => counted(sweep.entries, "entry", "entries"),
    };
    let files = match sweep.files {
        0 => "nothing copied".into(),
        files => format!("{} copied", counted(files, "file", "files")),
    };
    let waits = if state == State::Held { ", held" } else { "" };
    format!("{entries}, {files} ({}) in {}{waits}", Bytes(sweep.bytes), span(Duration::from_millis(sweep.running_ms)))
}

fn last_sweep(status: &Status, now: &Zoned) -> String {
    let Some(sweep) = &status.last_sweep else { return "none yet".into() };
    let ago = ago(&sweep.finished, now).map(|ago| format!(" ({} ago)", long_span(ago))).unwrap_or_default();
    let took = span(Duration::from_millis(sweep.duration_ms));
    let findings = done(&sweep.totals).unwrap_or_else(|| "nothing had to be done".into());
    format!("{}{ago}, took {took}: {findings}", moment(&sweep.finished, now))
}

struct Screen {
    out: String,
    look: Look,
}

impl Screen {
    fn gap(&mut self) {
        self.out.push('\n');
    }

    fn plain(&mut self, label: &str, text: &str) {
        self.text(label, text, 0, Style::new());
    }

    /// A label and a text, broken between words, the first bytes of it in a style.
    fn text(&mut self, label: &str, text: &str, styled: usize, style: Style) {
        self.label(label, Style::new().dimmed());
        self.broken(&escaped(text), styled, style, INDENT);
    }

    /// What a person may want to copy stays in one piece.
    fn whole(&mut self, label: &str, text: &str) {
        self.label(label, Style::new().dimmed());
        let _ = writeln!(self.out, "{}", escaped(text));
    }

    /// The same for what is wrong.
    fn alarm(&mut self, label: &str, text: &str) {
        self.label(label, AnsiColor::Red.on_default().bold());
        self.broken(&escaped(text), 0, Style::new(), INDENT);
    }

    fn label(&mut self, label: &str, style: Style) {
        let space = INDENT.saturating_sub(label.len());
        let _ = write!(self.out, "{}{:space$}", self.look.paint(style, label), "");
    }

    /// Lines below what has been said.
    fn below(&mut self, indent: usize, text: &str, style: Style) {
        let _ = write!(self.out, "{:indent$}", "");
        self.broken(&escaped(text), usize::MAX, style, indent);
    }

    /// Writes from where the line is, breaking it between words.
    fn broken(&mut self, text: &str, styled: usize, style: Style, indent: usize) {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if indent + line.chars().count() + 1 + word.chars().count() <= self.look.width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.into()),
            }
        }
        for (at, line) in lines.iter().enumerate() {
            let indent = if at == 0 { 0 } else { indent };
            let styled = if at == 0 || styled == usize::MAX { styled.min(line.len()) } else { 0 };
            let (first, rest) = line.split_at_checked(styled).unwrap_or(("", line));
            let _ = writeln!(self.out, "{:indent$}{}{rest}", "", self.look.paint(style, first));
        }
    }

    fn watches(&mut self, watches: &Watches) {
        let limit = watches.limit.map(|limit| format!(", the limit is {}", number(limit))).unwrap_or_default();
        let Some(enough) = watches.enough() else {
            let folders = counted(watches.folders, "folder", "folders");
            return self.plain("Watches", &format!("{folders}{limit}"));
        };
        let needed = counted(watches.needed(), "folder", "folders");
        let text = format!(
            "{} of {needed}{limit} for all programs of a user; the others ({}) are looked at every 10 s and at sweeps",
            number(watches.folders),
            number(watches.unwatched),
        );
        let bold = Style::new().bold();
        self.alarm("Watches", &text);
        self.below(INDENT, "For more, now and for ever, and then a sweep:", Style::new());
        self.below(INDENT, &format!("sudo sysctl fs.inotify.max_user_watches={enough}"), bold);
        self.below(INDENT, "driftless sweep", bold);
        let file = "/etc/sysctl.d/60-driftless.conf";
        self.below(INDENT, &format!("and the line fs.inotify.max_user_watches={enough} in {file}"), Style::new());
    }

    fn hold(&mut self, hold: &HoldStatus, now: &Zoned) {
        let since = hold.since.as_ref().map(|at| format!(", {}", since(at, now))).unwrap_or_default();
        let side = hold.side.as_ref().map(|side| format!(" in the {side}")).unwrap_or_default();
        let removals = match hold.removals {
            0 => String::new(),
            removals => format!("{}{side}: ", counted(removals, "removal", "removals")),
        };
        self.gap();
        self.alarm("Held", &format!("{removals}{}{since}", hold.reason));
        self.below(INDENT, &hold.remedy, Style::new().bold());
    }

    fn failing(&mut self, status: &Status, now: &Zoned) {
        let count = status.failing_paths.max(status.failing.len() as u64);
        if count == 0 {
            return;
        }
        self.gap();
        self.alarm("Failing", &format!("{}, tried again by itself", counted(count, "path", "paths")));
        for failing in status.failing.iter().take(SHOWN) {
            let _ = writeln!(self.out, "{:INDENT$}{}", "", escaped(&failing.path));
            self.below(INDENT + 2, &reason(failing, now), Style::new());
        }
        self.more(count, status.failing.len());
    }

    fn uncertain(&mut self, status: &Status) {
        let count = status.uncertain_files.max(status.uncertain.len() as u64);
        if count == 0 {
            return;
        }
        self.gap();
        let text =
            format!("{} changed during every reading; copied again until it rests", counted(count, "file", "files"));
        self.alarm("Uncertain", &text);
        for path in status.uncertain.iter().take(SHOWN) {
            let _ = writeln!(self.out, "{:INDENT$}{}", "", escaped(path));
        }
        self.more(count, status.uncertain.len());
    }

    fn conflicts(&mut self, status: &Status, now: &Zoned) {
        let Some(TwoWay { conflicts, last_conflicts, .. }) = &status.two_way else { return };
        if *conflicts == 0 {
            return;
        }
        self.gap();
        self.label("Conflicts", AnsiColor::Yellow.on_default().bold());
        self.broken(&format!("{} since the start", number(*conflicts)), 0, Style::new(), INDENT);
        for conflict in last_conflicts.iter().rev().take(SHOWN) {
            let _ = writeln!(self.out, "{:INDENT$}{}", "", escaped(&conflict.path));
            let (winner, at) = (&conflict.winner, moment(&conflict.at, now));
            let other = if conflict.kept.is_some() { "is kept as" } else { "was given up" };
            let text = format!("{at}: the {winner}'s keeps the name, the other {other}");
            self.below(INDENT + 2, &text, Style::new());
            if let Some(kept) = &conflict.kept {
                let _ = writeln!(self.out, "{:1$}{2}", "", INDENT + 2, escaped(kept));
            }
        }
        self.more(*conflicts, last_conflicts.len());
    }

    fn more(&mut self, count: u64, listed: usize) {
        let more = count.saturating_sub(SHOWN.min(listed) as u64);
        if more > 0 {
            let which = if count > listed as u64 { format!("the first {listed}") } else { "all".into() };
            self.below(INDENT, &format!("and {} more; --json lists {which}", number(more)), Style::new());
        }
    }
}

fn reason(failing: &Failing, now: &Zoned) -> String {
    let tries = counted(failing.tries.into(), "try", "tries");
    let next = long_span(Duration::from_secs(failing.next_try_in_s));
    format!("{}; {tries} since {}, next in {next}", failing.reason, moment(&failing.first_failure, now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::status::{ConflictStatus, DecayedStatus, LastScrub, LastSweep, Scrub, sample};
    use crate::tree::totals::Totals;

    const PLAIN: Look = Look { colour: false, width: 80 };

    fn now() -> Zoned {
        "2026-11-21T16:37:10[+01:00]".parse().expect("a time")
    }

    fn failing(path: &str) -> Failing {
        Failing {
            path: path.into(),
            reason: "cannot open the source file: Permission denied".into(),
            tries: 3,
            first_failure: "2026-11-21T16:30:10+01:00".into(),
            last_failure: "2026-11-21T16:37:08+01:00".into(),
            next_try: "2026-11-21T16:37:18+01:00".into(),
            next_try_in_s: 8,
        }
    }

    #[test]
    fn quiet_service_has_a_short_screen() {
        let last_sweep = Some(LastSweep {
            finished: "2026-11-21T16:30:10+01:00".into(),
            duration_ms: 1250,
            totals: Totals::default(),
        });
        let expected = "\
State       in sync since 14:32:10 (2h 5m)
Source      /home/user/a
Replica     /mnt/b
Service     process 4711, version 0.1.0, up 4h 37m

Pending     nothing, no lag
Latency     half within 3.1ms, 99 % within 104ms (of 3 changes)
Watches     12 folders, the limit is 8,192
Last sweep  16:30:10 (7m ago), took 1.2s: nothing had to be done
Next sweep  in 1m 30s
Since start 3 copied (0 B)
";
        assert_eq!(of(&Status { last_sweep, ..sample() }, &now(), PLAIN), expected);
    }

    #[test]
    fn everything_that_needs_a_person_is_there_with_what_to_do() {
        let status = Status {
            state: State::Held,
            reason: Some("more removals than --max-delete allows at once".into()),
            pending: 2,
            lag_ms: 2100,
            watches: Watches { folders: 30, unwatched: 171, limit: Some(30) },
            holds: vec![HoldStatus {
                reason: "more removals than --max-delete allows at once".into(),
                remedy: "Run `driftless release` to let them happen, or bring the files back".into(),
                removals: 1800,
                since: Some("2026-11-20T09:00:00+01:00".into()),
                side: None,
            }],
            failing: (0..7).map(|n| failing(&format!("'/mnt/b/x\u{1b}{n}'"))).collect(),
            failing_paths: 7,
            uncertain: vec!["'/mnt/b/log'".into()],
            uncertain_files: 1,
            sweep: Some(Sweep { running_ms: 123_000, entries: 12_345, expected: Some(50_000), files: 0, bytes: 0 }),
            ..sample()
        };
        let expected = "\
State       held since 14:32:10 (2h 5m)
Source      /home/user/a
Replica     /mnt/b
Service     process 4711, version 0.1.0, up 4h 37m

Sweeping    12,345 of about 50,000 entries (24 %), nothing copied (0 B) in 2m
            3s, held
Pending     2 paths, lag 2.1s
Latency     half within 3.1ms, 99 % within 104ms (of 3 changes)
Watches     30 of 201 folders, the limit is 30 for all programs of a user; the
            others (171) are looked at every 10 s and at sweeps
            For more, now and for ever, and then a sweep:
            sudo sysctl fs.inotify.max_user_watches=65536
            driftless sweep
            and the line fs.inotify.max_user_watches=65536 in
            /etc/sysctl.d/60-driftless.conf
Last sweep  none yet
Next sweep  in 1m 30s
Since start 3 copied (0 B)

Held        1,800 removals: more removals than --max-delete allows at once,
            since 2026-11-20 09:00:00 (1d 7h)
            Run `driftless release` to let them happen, or bring the files back

Failing     7 paths, tried again by itself
";
        let screen = of(&status, &now(), PLAIN);
        assert!(screen.starts_with(expected), "{screen}");
        let rest = &screen[expected.len()..];
        assert!(
            rest.starts_with("            '/mnt/b/x\\u{1b}0'\n              cannot open the source file: "),
            "{rest}"
        );
        assert!(rest.contains("            and 2 more; --json lists all\n"), "{rest}");
        assert!(rest.ends_with("\n            '/mnt/b/log'\n"), "{rest}");
        assert!(!rest.contains("'/mnt/b/x\\u{1b}5'"), "{rest}");
    }

    #[test]
    fn two_ways_have_their_own_totals_and_the_last_conflicts() {
        let conflict = |n: u32| ConflictStatus {
            path: format!("'/mnt/b/{n}\u{1b}'"),
            winner: "source".into(),
            kept: (n > 1).then(|| format!("'/mnt/b/{n}.conflict'")),
            at: "2026-11-21T16:30:10+01:00".into(),
        };
        let two_way = TwoWay {
            conflict: "keep-both".into(),
            in_replica: Totals { files_copied: 3, ..Totals::default() },
            conflicts: 7,
            last_conflicts: (0..7).map(conflict).collect(),
            ..TwoWay::default()
        };
        let screen = of(&Status { two_way: Some(two_way), ..sample() }, &now(), PLAIN);
        for lines in [
            "Replica     /mnt/b\nTwo ways    both are worked in; conflicts: keep-both\n",
            "Since start 3 copied (0 B)\n            in the replica: 3 copied (0 B)\n            in the source: nothing\n",
            "\nConflicts   7 since the start\n            '/mnt/b/6\\u{1b}'\n              16:30:10: the source's keeps the \
             name, the other is kept as\n              '/mnt/b/6.conflict'\n",
            "            and 2 more; --json lists all\n",
        ] {
            assert!(screen.contains(lines), "{lines}\n{screen}");
        }
    }

    #[test]
    fn colours_are_beside_the_text_and_change_nothing_of_it() {
        let coloured = of(&sample(), &now(), Look { colour: true, ..PLAIN });
        assert!(coloured.contains("\u{1b}[1m\u{1b}[32min sync\u{1b}[0m since"), "{coloured:?}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), of(&sample(), &now(), PLAIN));
    }

    proptest! {
        #[test]
        fn no_service_breaks_lines_or_steers_the_terminal(text in any::<String>(), n in any::<u64>(), width in 40usize..200) {
            let status = Status {
                reason: Some(text.clone()),
                since: text.clone(),
                started: text.clone(),
                version: text.clone(),
                source: text.clone(),
                replica: text.clone(),
                lag_ms: n,
                pending: n,
                watches: Watches { folders: n, unwatched: n, limit: Some(n) },
                holds: vec![HoldStatus { reason: text.clone(), remedy: text.clone(), removals: n, since: Some(text.clone()), side: Some(text.clone()) }],
                failing: vec![failing(&text)],
                failing_paths: n,
                uncertain: vec![text.clone()],
                sweep: Some(Sweep { running_ms: n, entries: n, expected: Some(n), files: n, bytes: n }),
                scrub: Scrub {
                    decayed_files: n,
                    decayed: vec![DecayedStatus { path: text.clone(), side: text.clone(), reason: text.clone(), found: text.clone() }],
                    last: Some(LastScrub { finished: text.clone(), files: n, ..LastScrub::default() }),
                    ..Scrub::default()
                },
                ..sample()
            };
            let screen = of(&status, &now(), Look { colour: false, width });
            prop_assert!(!screen.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
