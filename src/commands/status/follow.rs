//! Owns `status --follow`: a screen that stays up to date on a terminal, a line for each change elsewhere, until the person
//! has seen enough. What is shown is drawn by `screen` and `table`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anstream::adapter::strip_str;
use crossbeam_channel::{Receiver, bounded, select};
use jiff::Zoned;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::words::{counted, done, span};
use super::{Json, Look, Seen, Who, fail, look, print, screen, style_of, table};
use crate::service::status::Status;
use crate::tree::quote::escaped;

/// How often the services are asked.
const PACE: Duration = Duration::from_secs(1);
/// To the first column of the first line; to the end of the line, of the screen; and all of it.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";

/// Follows until Ctrl-C, or until nobody reads any more; both are success.
pub fn run(who: Who, is_json: bool) -> ExitCode {
    let (signals, sights) = match listen(who.clone()) {
        Ok(heard) => heard,
        Err(e) => return fail(1, &format!("cannot follow: {e}")),
    };
    let is_named = matches!(who, Who::All);
    let mut lines = Lines { known: BTreeMap::new(), is_named, is_json };
    let mut gone = Gone::default();
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let is_screen = io::stdout().is_terminal() && !is_dumb && !is_json;
    if is_screen && print(CLEAR).is_err() {
        return ExitCode::SUCCESS;
    }
    loop {
        let seen = select! {
            recv(signals) -> _ => {
                // Below what the terminal shows of Ctrl-C.
                let _ = print(if is_screen { "\n" } else { "" });
                return ExitCode::SUCCESS;
            }
            recv(sights) -> seen => seen.unwrap_or_default(),
        };
        let now = Zoned::now();
        let text = if is_screen { drawn(&who, &seen, &mut gone, &now) } else { lines.new_ones(&seen, &now) };
        match print(&text) {
            Ok(true) if is_screen || !is_unread() => {}
            Ok(_) => return ExitCode::SUCCESS,
            Err(e) => return fail(1, &format!("cannot print: {e}")),
        }
    }
}

/// The signals that say stop, and what is seen each second. A service that does not answer keeps no signal waiting.
fn listen(who: Who) -> io::Result<(Receiver<()>, Receiver<Vec<Seen>>)> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (stop, stopped) = bounded(1);
    thread::Builder::new().name("signals".into()).spawn(move || signals.forever().next().map(|_| stop.send(())))?;
    let (show, sights) = bounded(0);
    thread::Builder::new().name("looking".into()).spawn(move || {
        while show.send(look(&who)).is_ok() {
            thread::sleep(PACE);
        }
    })?;
    Ok((stopped, sights))
}

/// Whether the reader of a pipe has gone, who would otherwise be noticed with the next change only.
fn is_unread() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
}

/// Since when the one service has not answered.
#[derive(Default)]
struct Gone(Option<Zoned>);

fn drawn(who: &Who, seen: &[Seen], gone: &mut Gone, now: &Zoned) -> String {
    let look = Look::here();
    let text = match (who, seen) {
        (Who::One(_), [Seen { answer: Ok(status), .. }]) => {
            gone.0 = None;
            screen::of(status, now, look)
        }
        (Who::One(_), [Seen { answer: Err((_, reason)), .. }]) => {
            let since = gone.0.get_or_insert_with(|| now.clone());
            let long = span(Duration::from_secs(since.duration_until(now).unsigned_abs().as_secs()));
            let state = look.paint(style_of(None), "no answer");
            format!(
                "State       {state} since {} ({long})\n            {}\n",
                since.strftime("%H:%M:%S"),
                escaped(reason)
            )
        }
        (_, []) => "No service is running\n".into(),
        (_, seen) => table::of(seen, look),
    };
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map_or((usize::MAX, usize::MAX), |(columns, rows)| (columns.0.into(), rows.0.into()));
    framed(&text, size)
}

/// The text over what the terminal shows, each line to its end. What does not fit is left out: it would scroll.
fn framed(text: &str, (columns, rows): (usize, usize)) -> String {
    const MORE: &str = "... make the window larger to see more";
    let height = |line: &str| strip_str(line).to_string().chars().count().div_ceil(columns.max(1)).max(1);
    let whole: usize = text.lines().map(height).sum();
    // The last row is the cursor's.
    let room = if whole < rows { whole } else { rows.saturating_sub(2) };
    let mut out = String::from(HOME);
    let mut used = 0;
    let fits = text.lines().take_while(|line| {
        used += height(line);
        used <= room
    });
    let more = &MORE[..MORE.len().min(columns)];
    for line in fits.chain((whole >= rows).then_some(more)) {
        out.push_str(line);
        out.push_str(REST_OF_LINE);
        out.push('\n');
    }
    out + REST
}

/// What was last printed of each service, and what is to be printed next.
struct Lines {
    known: BTreeMap<PathBuf, Seen>,
    is_named: bool,
    is_json: bool,
}

impl Lines {
    fn new_ones(&mut self, seen: &[Seen], now: &Zoned) -> String {
        let mut text = String::new();
        for one in seen {
            let still = Seen { answer: one.answer.clone().map(still), ..one.clone() };
            let before = self.known.insert(one.path.clone(), still.clone());
            if before.as_ref() != Some(&still) {
                let is_back = one.answer.is_ok() && before.is_some_and(|before| before.answer.is_err());
                text.push_str(&self.line(one, is_back, now));
            }
        }
        // A service that stops takes its socket with it.
        let is_left = |known: &&Seen| known.answer.is_ok() && !seen.iter().any(|one| one.path == known.path);
        let left: Vec<Seen> = self.known.values().filter(is_left).cloned().collect();
        for known in left {
            let gone = Seen { answer: Err((2, "the service has stopped".into())), ..known };
            text.push_str(&self.line(&gone, false, now));
            self.known.insert(gone.path.clone(), gone);
        }
        text
    }

    fn line(&self, one: &Seen, is_back: bool, now: &Zoned) -> String {
        if self.is_json {
            let json: Json = one.json(self.is_named);
            // Plain data.
            return serde_json::to_string(&json).map(|line| line + "\n").unwrap_or_default();
        }
        let name = if self.is_named { format!("{} - ", one.name) } else { String::new() };
        let what = match &one.answer {
            Ok(status) => format!("{}{}", if is_back { "back: " } else { "" }, summary(status)),
            Err((_, reason)) => format!("no answer: {reason}"),
        };
        format!("{} - {}\n", now.strftime("%Y-%m-%d %H:%M:%S"), escaped(&(name + &what)))
    }
}

/// Without what changes while nothing happens.
fn still(mut status: Box<Status>) -> Box<Status> {
    (status.lag_ms, status.next_sweep_in_s) = (0, None);
    if let Some(sweep) = &mut status.sweep {
        sweep.running_ms = 0;
    }
    for failing in &mut status.failing {
        failing.next_try.clear();
        failing.next_try_in_s = 0;
    }
    status
}

/// A status in one line.
fn summary(status: &Status) -> String {
    let reason = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let pending = match status.pending {
        0 => "nothing pending".into(),
        paths => {
            format!("{} pending, lag {}", counted(paths, "path", "paths"), span(Duration::from_millis(status.lag_ms)))
        }
    };
    let sweep = match &status.sweep {
        Some(sweep) => format!("; {} seen", counted(sweep.entries, "entry", "entries")),
        None => String::new(),
    };
    let done = done(&status.totals).map(|done| format!("; {done}")).unwrap_or_default();
    format!("{}{reason}; {pending}{sweep}{done}", status.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::{State, sample};

    fn now() -> Zoned {
        "2026-11-21T16:37:10[+01:00]".parse().expect("a time")
    }

    fn seen(answer: Result<Status, &str>) -> Seen {
        let answer = answer.map(Box::new).map_err(|reason| (2, reason.to_string()));
        Seen { name: "photos".into(), path: "/run/photos.sock".into(), answer }
    }

    #[test]
    fn only_a_change_is_a_line() {
        let mut lines = Lines { known: BTreeMap::new(), is_named: false, is_json: false };
        let mut next = |status| lines.new_ones(&[seen(status)], &now());
        assert_eq!(next(Ok(sample())), "2026-11-21 16:37:10 - in sync; nothing pending; 3 copied (0 B)\n");
        assert_eq!(next(Ok(Status { next_sweep_in_s: Some(7), ..sample() })), "");
        let busy = |lag_ms| Status { state: State::Busy, pending: 1, lag_ms, ..sample() };
        assert!(next(Ok(busy(20))).ends_with(" - busy; 1 path pending, lag 20ms; 3 copied (0 B)\n"));
        assert_eq!(next(Ok(busy(1020))), "");
        assert!(next(Err("no service answers\n")).ends_with(" - no answer: no service answers\\n\n"));
        assert_eq!(next(Err("no service answers\n")), "");
        assert!(next(Ok(sample())).ends_with(" - back: in sync; nothing pending; 3 copied (0 B)\n"));
    }

    #[test]
    fn each_change_is_one_object_a_line() {
        let mut lines = Lines { known: BTreeMap::new(), is_named: true, is_json: true };
        let first = lines.new_ones(&[seen(Ok(sample()))], &now());
        let value: serde_json::Value = serde_json::from_str(&first).expect("an object");
        assert_eq!((&value["name"], &value["state"], first.lines().count()), (&"photos".into(), &"in_sync".into(), 1));
        let gone = lines.new_ones(&[], &now());
        let text = "{\"name\":\"photos\",\"state\":\"unreachable\",\"reason\":\"the service has stopped\"}\n";
        assert_eq!((gone.as_str(), lines.new_ones(&[], &now()).as_str()), (text, ""));
    }

    #[test]
    fn screen_never_scrolls() {
        assert_eq!(framed("a\nb\n", (80, 3)), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(framed("a\nb\nc\n", (80, 3)), "\x1b[Ha\x1b[K\n... make the window larger to see more\x1b[K\n\x1b[J");
        let coloured = "\x1b[1mabcdef\x1b[0m\nb\nc\n";
        assert_eq!(framed(coloured, (6, 4)).matches('\n').count(), 3, "colours take no room");
        assert_eq!(framed(coloured, (5, 4)).matches('\n').count(), 2, "a long line takes two rows");
        assert!(framed("a\nb\nc\n", (3, 3)).ends_with("\n...\x1b[K\n\x1b[J"), "nor does that line");
        assert!(framed("a\n", (0, 0)).starts_with(HOME));
    }
}
