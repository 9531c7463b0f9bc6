//! Owns what the screen says of scrubs and of what has decayed.

use std::fmt::Write;
use std::time::Duration;

use anstyle::Style;
use jiff::Zoned;

use super::super::words::{ago, counted, long_span, moment, number, span};
use super::{INDENT, SHOWN, Screen};
use crate::service::status::{Scrub, Scrubbing};
use crate::tree::quote::escaped;
use crate::tree::totals::Bytes;

impl Screen {
    /// The line on scrubs, where there is or was one, or one is due.
    pub(super) fn scrubs(&mut self, scrub: &Scrub, now: &Zoned) {
        if let Some(Scrubbing { running_ms, files, bytes, .. }) = &scrub.running {
            let took = span(Duration::from_millis(*running_ms));
            let text = format!("{}, {} read in {took}", counted(*files, "file", "files"), Bytes(*bytes));
            self.plain("Scrubbing", &text);
        }
        if let Some(last) = &scrub.last {
            let ago = ago(&last.finished, now).map(|ago| format!(" ({} ago)", long_span(ago))).unwrap_or_default();
            let found = match last.decayed {
                0 => "nothing has decayed".into(),
                decayed => format!("{} decayed, {} repaired", number(decayed), number(last.repaired)),
            };
            let unclear = match last.unclear {
                0 => String::new(),
                unclear => format!(", {} unclear", number(unclear)),
            };
            let files = counted(last.files, "file", "files");
            self.plain("Last scrub", &format!("{}{ago}: {files}, {found}{unclear}", moment(&last.finished, now)));
        }
        if let Some(seconds) = scrub.next_in_s.filter(|_| scrub.running.is_none()) {
            self.plain("Next scrub", &format!("in {}", long_span(Duration::from_secs(seconds))));
        }
    }

    /// What has decayed, and what to do about it.
    pub(super) fn decayed(&mut self, scrub: &Scrub, now: &Zoned) {
        let count = scrub.decayed_files.max(scrub.decayed.len() as u64);
        if count == 0 {
            return;
        }
        self.gap();
        self.alarm("Decayed", &counted(count, "file", "files"));
        for decayed in scrub.decayed.iter().take(SHOWN) {
            let _ = writeln!(self.out, "{:INDENT$}{}", "", escaped(&decayed.path));
            let text = format!("found {}: {}", moment(&decayed.found, now), decayed.reason);
            self.below(INDENT + 2, &text, Style::new());
        }
        self.more(count, scrub.decayed.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Look;
    use super::super::of;
    use super::*;
    use crate::service::status::{DecayedStatus, LastScrub, Status, sample};

    #[test]
    fn scrubs_and_what_they_found_are_on_the_screen() {
        let now: Zoned = "2026-11-21T16:37:10[+01:00]".parse().expect("a time");
        let scrub = Scrub {
            running: Some(Scrubbing { asked: true, running_ms: 61_000, files: 1234, bytes: 5 << 30 }),
            last: Some(LastScrub {
                finished: "2026-11-21T14:37:10+01:00".into(),
                files: 30_000,
                decayed: 2,
                repaired: 1,
                unclear: 3,
                ..LastScrub::default()
            }),
            next_in_s: None,
            decayed_files: 1,
            decayed: vec![DecayedStatus {
                path: "'/mnt/b/x\u{1b}'".into(),
                side: "replica".into(),
                reason: "its contents have changed".into(),
                found: "2026-11-21T14:30:10+01:00".into(),
            }],
        };
        let screen = of(&Status { scrub, ..sample() }, &now, Look { colour: false, width: 80 });
        for line in [
            "Scrubbing   1,234 files, 5.0 GiB read in 1m 1s",
            "Last scrub  14:37:10 (2h ago): 30,000 files, 2 decayed, 1 repaired, 3 unclear",
            "Decayed     1 file",
            "              found 14:30:10: its contents have changed",
        ] {
            assert!(screen.lines().any(|shown| shown == line), "{line}\n{screen}");
        }
        assert!(!screen.contains('\u{1b}'));
    }
}
