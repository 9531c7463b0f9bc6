//! Owns how times, lengths of time, numbers and counts are written for a person. It reads no clock.

use std::time::Duration;

use jiff::{Timestamp, Zoned};

use crate::tree::totals::{Bytes, Totals};

/// `1,234,567`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 path`, `12 paths`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A length of time by its two largest units: `3d 4h`, `2h 5m`, `9m 58s`, `12s`, `1.2s`, `40ms`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, one: char, small: u64, other: char| match small {
        0 => format!("{large}{one}"),
        _ => format!("{large}{one} {small}{other}"),
    };
    match seconds {
        86_400.. => two(seconds / 86_400, 'd', seconds / 3_600 % 24, 'h'),
        3_600.. => two(seconds / 3_600, 'h', seconds / 60 % 60, 'm'),
        60.. => two(seconds / 60, 'm', seconds % 60, 's'),
        10.. => format!("{seconds}s"),
        1.. => format!("{}.{}s", seconds, time.subsec_millis() / 100),
        0 => format!("{}ms", time.subsec_millis()),
    }
}

/// The same for milliseconds, where tenths of one matter.
pub fn millis(millis: f64) -> String {
    if millis < 10.0 { format!("{millis:.1}ms") } else { span(Duration::from_secs_f64(millis.min(1e15) / 1000.0)) }
}

/// A moment of today by its time, another one with its date. What is no moment is shown as it is.
pub fn moment(text: &str, now: &Zoned) -> String {
    let Ok(moment) = text.parse::<Timestamp>() else { return text.into() };
    let moment = moment.to_zoned(now.time_zone().clone());
    let form = if moment.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    moment.strftime(form).to_string()
}

/// How long ago a moment was.
pub fn ago(text: &str, now: &Zoned) -> Option<Duration> {
    let moment = text.parse::<Timestamp>().ok()?;
    Some(Duration::from_secs(u64::try_from(now.timestamp().as_second() - moment.as_second()).unwrap_or(0)))
}

/// `since 14:32:10 (2h 5m)`.
pub fn since(text: &str, now: &Zoned) -> String {
    let long = ago(text, now).map(|long| format!(" ({})", long_span(long))).unwrap_or_default();
    format!("since {}{long}", moment(text, now))
}

/// Of moments, which are whole seconds, no parts of a second are known.
pub fn long_span(time: Duration) -> String {
    if time < Duration::from_secs(10) { format!("{}s", time.as_secs()) } else { span(time) }
}

/// What was done, without what was not: `12 copied, 3 updated (1.2 GiB), 1 removed`.
pub fn done(totals: &Totals) -> Option<String> {
    let written = totals.files_copied > 0 || totals.files_updated > 0;
    let bytes = if written { format!(" ({})", Bytes(totals.bytes)) } else { String::new() };
    let count = |count, one, many| (count > 0).then(|| counted(count, one, many));
    let files = [count(totals.files_copied, "copied", "copied"), count(totals.files_updated, "updated", "updated")];
    let files: Vec<_> = files.into_iter().flatten().collect();
    let parts = [
        written.then(|| files.join(", ") + &bytes),
        count(totals.removed, "removed", "removed"),
        count(totals.renamed, "renamed", "renamed"),
        count(totals.metadata, "metadata", "metadata"),
        count(totals.directories_created, "directory", "directories"),
        count(totals.links, "link", "links"),
        count(totals.other, "special file", "special files"),
        count(totals.conflicts, "conflict", "conflicts"),
        count(totals.problems, "problem", "problems"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_groups_of_three() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(number(n), text);
        }
        assert_eq!((counted(1, "path", "paths"), counted(2, "path", "paths")), ("1 path".into(), "2 paths".into()));
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let table = [
            (0, "0ms"),
            (40, "40ms"),
            (1_250, "1.2s"),
            (12_900, "12s"),
            (598_000, "9m 58s"),
            (600_000, "10m"),
            (7_500_000, "2h 5m"),
            (273_600_000, "3d 4h"),
            (86_400_000, "1d"),
        ];
        for (millis, text) in table {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        let table = [(0.2, "0.2ms"), (3.12, "3.1ms"), (120.4, "120ms"), (2_100.0, "2.1s"), (f64::MAX, "11574074d 1h")];
        for (time, text) in table {
            assert_eq!(millis(time), text);
        }
    }

    #[test]
    fn moments_are_local_and_have_their_date_when_it_is_another_day() {
        let now: Zoned = "2026-11-21T16:37:10[UTC]".parse().expect("a time");
        assert_eq!(since("2026-11-21T15:32:10+01:00", &now), "since 14:32:10 (2h 5m)");
        assert_eq!(since("2026-11-20T15:37:10+00:00", &now), "since 2026-11-20 15:37:10 (1d 1h)");
        assert_eq!(since("2026-11-21T16:37:12Z", &now), "since 16:37:12 (0s)", "a clock that was set back");
        assert_eq!(since("whenever", &now), "since whenever");
    }

    #[test]
    fn only_what_was_done_is_named() {
        assert_eq!(done(&Totals::default()), None);
        let totals = Totals { files_copied: 1200, files_updated: 3, bytes: 1 << 21, removed: 1, ..Totals::default() };
        assert_eq!(done(&totals).as_deref(), Some("1,200 copied, 3 updated (2.0 MiB), 1 removed"));
        let totals = Totals { links: 1, metadata: 2, problems: 1, ..Totals::default() };
        assert_eq!(done(&totals).as_deref(), Some("2 metadata, 1 link, 1 problem"));
    }
}
