//! Owns how a moment is written: `2h ago`, `yesterday 14:00`, a date with or without a time of day, RFC 3339,
//! `@SECONDS.FRACTION`. It reads no clock and no zone; whether there was anything at that moment, others know.
//!
//! A day alone is its first moment. What has no zone is local time. A time of day that a change of the clocks skips is as
//! much later as they were put forward; one that comes twice is the first of the two.

use jiff::civil::{Date, DateTime, Time as Clock, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::words::parse_duration;
use crate::tree::entry::Time;

const FORMS: &str = "write it as '2h ago', 'yesterday 14:00', 'monday 9:30', '14:00', '2026-11-21 14:32:10', \
                     2026-11-21T14:32:10.5+01:00 or @1795271530.5";

/// A moment as people write it, seen from `now`.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_when(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Time, String> {
    moment(text, now, zone).map(time_of)
}

/// The same, or how long ago it was: `2d`.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_since(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Time, String> {
    let plain = text.trim().to_ascii_lowercase();
    if is_length(&plain) && !plain.ends_with("ago") {
        return before(&plain, now).map(time_of);
    }
    parse_when(text, now, zone)
}

fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim().to_ascii_lowercase();
    if text == "now" {
        return Ok(now);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return since_epoch(seconds).ok_or_else(|| format!("{text} is not @SECONDS or @SECONDS.FRACTION since 1970"));
    }
    if let Some(length) = text.strip_suffix("ago") {
        return before(length, now);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text} alone is no time; if these are seconds since 1970, write @{text}"));
    }
    let today = now.to_zoned(zone.clone()).date();
    let at = |at: DateTime| {
        let zoned = at.to_zoned(zone.clone()).map_err(|_| "is too far away".to_string())?;
        Ok::<_, String>(zoned.timestamp())
    };
    if let Some(clock) = clock(&text) {
        // The last time that it was that.
        return latest(now, today, 1, |day| at(day.to_datetime(clock)));
    }
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
    let (first, rest) = match first {
        "last" => rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim_start(), "")),
        _ => (first, rest),
    };
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("at ").unwrap_or(rest).trim();
    let named = match first {
        "today" => Some(Day::At(today)),
        "yesterday" => Some(Day::At(today.yesterday().map_err(|_| "is too far away")?)),
        _ => weekday(first).map(Day::Last),
    };
    if let Some(day) = named {
        let clock = match rest {
            "" => Clock::midnight(),
            rest => {
                clock(rest).ok_or_else(|| format!("'{rest}' is no time of day; write it as 14:00 or 14:00:30.5"))?
            }
        };
        return match day {
            Day::At(day) => at(day.to_datetime(clock)),
            Day::Last(weekday) => {
                let back = today.weekday().since(weekday);
                let last = days_before(today, i64::from(back))?;
                latest(now, last, 7, |day| at(day.to_datetime(clock)))
            }
        };
    }
    absolute(&text, at)
}

enum Day {
    At(Date),
    Last(Weekday),
}

/// The moment on `day`, or `step` days before if that is still to come.
fn latest(
    now: Timestamp,
    day: Date,
    step: i64,
    at: impl Fn(Date) -> Result<Timestamp, String>,
) -> Result<Timestamp, String> {
    match at(day)? {
        later if later > now => at(days_before(day, step)?),
        moment => Ok(moment),
    }
}

fn days_before(day: Date, days: i64) -> Result<Date, String> {
    day.checked_sub(SignedDuration::from_hours(24 * days)).map_err(|_| "is too far away".to_string())
}

fn before(length: &str, now: Timestamp) -> Result<Timestamp, String> {
    let length = length.trim();
    let length = match length.strip_prefix("an ").or_else(|| length.strip_prefix("a ")) {
        Some(unit) => format!("1 {unit}"),
        None => length.to_string(),
    };
    if !is_length(&length) {
        return Err(format!("'{length}' is no length of time; write it as 90m, '2 hours' or '1d 2h'"));
    }
    let length = parse_duration(&length)?;
    let length = SignedDuration::try_from(length).map_err(|_| "is too far away".to_string())?;
    now.checked_sub(length).map_err(|_| "is too far away".to_string())
}

/// A number and a unit, and so on.
fn is_length(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || byte == b'.';
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(is_plain)
        && clock(text).is_none()
        && !is_basic(text)
}

/// `20261121t143210z` is no length.
fn is_basic(text: &str) -> bool {
    text.len() >= 8 && text.as_bytes()[..8].iter().all(u8::is_ascii_digit)
}

fn since_epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (is_before, whole) = whole.strip_prefix('-').map_or((false, whole), |whole| (true, whole));
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    // As the journal writes it: the fraction is added, also to a negative number.
    let nanoseconds: i128 = format!("{fraction:0<9}").parse().ok()?;
    let seconds: i128 = whole.parse::<i64>().ok()?.into();
    let seconds = if is_before { -seconds } else { seconds };
    Timestamp::from_nanosecond(seconds * 1_000_000_000 + nanoseconds).ok()
}

/// `14:00`, `9:30:15.5`, `2pm`, `2:30 pm`.
fn clock(text: &str) -> Option<Clock> {
    let text = text.trim();
    let half = text.strip_suffix("am").map(|rest| (rest, 0)).or_else(|| text.strip_suffix("pm").map(|rest| (rest, 12)));
    let (digits, half) = half.map_or((text, None), |(rest, half)| (rest.trim_end(), Some(half)));
    let mut parts = digits.split(':');
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i8>().ok()).flatten()
    };
    let mut hour = number(parts.next()?)?;
    let minute = match parts.next() {
        Some(minute) => number(minute).filter(|_| minute_is_whole(minute))?,
        None if half.is_some() => 0,
        None => return None,
    };
    let (second, fraction) = match parts.next() {
        Some(rest) => {
            let (second, fraction) = rest.split_once(['.', ',']).unwrap_or((rest, ""));
            let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
            is_fraction.then_some(())?;
            (number(second)?, format!("{fraction:0<9}").parse::<i32>().ok()?)
        }
        None => (0, 0),
    };
    if parts.next().is_some() {
        return None;
    }
    if let Some(half) = half {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + half;
    }
    Clock::new(hour, minute, second, fraction).ok()
}

fn minute_is_whole(minute: &str) -> bool {
    minute.len() == 2
}

fn weekday(word: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    DAYS.iter().find(|(name, _)| word.len() >= 3 && name.starts_with(word)).map(|(_, day)| *day)
}

/// A date, with a time of day and a zone or without.
fn absolute(text: &str, local: impl Fn(DateTime) -> Result<Timestamp, String>) -> Result<Timestamp, String> {
    let text = text.strip_suffix("utc").map_or(text.to_string(), |rest| format!("{}z", rest.trim_end()));
    let text = glued(&text);
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if !text.contains(['z', '['])
        && let Ok(civil) = text.parse::<DateTime>()
    {
        return local(civil);
    }
    if is_length(&text) && parse_duration(&text).is_ok() {
        return Err(format!("'{text}' is a length of time; write '{text} ago'"));
    }
    Err(format!("'{text}' is no time; {FORMS}"))
}

/// Without the space between a time and its zone.
fn glued(text: &str) -> String {
    match text.rsplit_once(char::is_whitespace) {
        Some((time, zone)) if zone == "z" || zone.starts_with(['+', '-']) => format!("{}{zone}", time.trim_end()),
        _ => text.into(),
    }
}

fn time_of(moment: Timestamp) -> Time {
    let all = moment.as_nanosecond();
    let sec = i64::try_from(all.div_euclid(1_000_000_000)).unwrap_or(0);
    Time { sec, nsec: u32::try_from(all.rem_euclid(1_000_000_000)).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A Sunday, 12:30:00 in Berlin.
    fn now() -> Timestamp {
        "2026-11-22T11:30:00Z".parse().expect("a time")
    }

    /// Berlin as POSIX writes it: files of zones are not everywhere.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
    }

    fn shown(time: Time) -> String {
        let moment = Timestamp::new(time.sec, 0).expect("a time").to_string();
        if time.nsec == 0 { moment } else { format!("{moment} {}", time.nsec) }
    }

    fn read(text: &str) -> Result<String, String> {
        parse_when(text, now(), &berlin()).map(shown)
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let table = [
            ("now", "2026-11-22T11:30:00Z"),
            ("2h ago", "2026-11-22T09:30:00Z"),
            ("90 minutes ago", "2026-11-22T10:00:00Z"),
            ("1d 2h ago", "2026-11-21T09:30:00Z"),
            ("an hour ago", "2026-11-22T10:30:00Z"),
            ("A week ago", "2026-11-15T11:30:00Z"),
            ("1.5s ago", "2026-11-22T11:29:58Z 500000000"),
            ("today", "2026-11-21T23:00:00Z"),
            ("today 9:30", "2026-11-22T08:30:00Z"),
            ("yesterday", "2026-11-20T23:00:00Z"),
            ("yesterday 14:00", "2026-11-21T13:00:00Z"),
            ("Yesterday at 2:05 pm", "2026-11-21T13:05:00Z"),
            ("yesterday 12am", "2026-11-20T23:00:00Z"),
            ("12:30", "2026-11-22T11:30:00Z"),
            ("12:31", "2026-11-21T11:31:00Z"),
            ("9:30:15.25", "2026-11-22T08:30:15Z 250000000"),
            ("monday 10:00", "2026-11-16T09:00:00Z"),
            ("last mon 10:00", "2026-11-16T09:00:00Z"),
            ("sunday 10:00", "2026-11-22T09:00:00Z"),
            ("sunday 13:00", "2026-11-15T12:00:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("2026-11-21 14:32", "2026-11-21T13:32:00Z"),
            (" 2026-11-21  ", "2026-11-20T23:00:00Z"),
            ("2026-11-21 14:32:10.5", "2026-11-21T13:32:10Z 500000000"),
            ("2026-11-21T14:32:10.123456789", "2026-11-21T13:32:10Z 123456789"),
            ("2026-11-21T14:32:10Z", "2026-11-21T14:32:10Z"),
            ("2026-11-21 14:32 UTC", "2026-11-21T14:32:00Z"),
            ("2026-11-21T14:32:10.000000001-05:00", "2026-11-21T19:32:10Z 1"),
            ("2026-11-21 14:32:10 +0100", "2026-11-21T13:32:10Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("@1795271530.5", "2026-11-21T14:32:10Z 500000000"),
            ("@-1.25", "1969-12-31T23:59:59Z 250000000"),
        ];
        for (text, moment) in table {
            assert_eq!(read(text).as_deref(), Ok(moment), "{text}");
        }
    }

    #[test]
    fn where_the_clocks_change_a_time_is_decided() {
        assert_eq!(read("2026-03-29 02:30").as_deref(), Ok("2026-03-29T01:30:00Z"), "skipped: 03:30 in summer");
        assert_eq!(read("2026-10-25 02:30").as_deref(), Ok("2026-10-25T00:30:00Z"), "twice: the first");
        assert_eq!(read("2026-10-25 02:30+01:00").as_deref(), Ok("2026-10-25T01:30:00Z"), "the second by its zone");
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_to_write() {
        let table = [
            ("", "'' is no time; write it as '2h ago'"),
            ("soon", "'soon' is no time; write it as '2h ago'"),
            ("2h", "'2h' is a length of time; write '2h ago'"),
            ("ago", "'' is no length of time"),
            ("5 ago", "'5' is no length of time"),
            ("-2h ago", "'-2h' is no length of time"),
            ("5 parsecs ago", "unknown time unit"),
            ("1795271530", "1795271530 alone is no time; if these are seconds since 1970, write @1795271530"),
            ("@x", "@x is not @SECONDS"),
            ("@1.0123456789", "@1.0123456789 is not @SECONDS"),
            ("@99999999999999999", "@99999999999999999 is not @SECONDS"),
            ("yesterday 25:00", "'25:00' is no time of day"),
            ("yesterday noonish", "'noonish' is no time of day"),
            ("13pm", "'13pm' is"),
            ("2026-13-01", "'2026-13-01' is no time"),
            ("2026-02-30 10:00", "'2026-02-30 10:00' is no time"),
            ("999999999999 years ago", ""),
        ];
        for (text, message) in table {
            let reason = read(text).expect_err(text);
            assert!(reason.starts_with(message), "{text}: {reason}");
        }
    }

    #[test]
    fn since_takes_a_length_too() {
        let read = |text: &str| parse_since(text, now(), &berlin()).map(shown);
        assert_eq!(read("2d").as_deref(), Ok("2026-11-20T11:30:00Z"));
        assert_eq!(read("1h 30m").as_deref(), Ok("2026-11-22T10:00:00Z"));
        assert_eq!(read("2d ago").as_deref(), Ok("2026-11-20T11:30:00Z"));
        assert_eq!(read("2pm").as_deref(), Ok("2026-11-21T13:00:00Z"));
        assert_eq!(read("yesterday 14:00").as_deref(), Ok("2026-11-21T13:00:00Z"));
        assert!(read("5").is_err() && read("soon").is_err());
    }

    proptest! {
        #[test]
        fn what_the_journal_writes_is_read_again(sec in -5_000_000_000i64..5_000_000_000, nsec in 0u32..1_000_000_000) {
            let text = format!("@{sec}.{nsec:09}");
            prop_assert_eq!(parse_when(&text, now(), &berlin()), Ok(Time { sec, nsec }));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[ -~]{0,20}|[0-9a-z:@. +-]{0,24}|\\PC{0,12}") {
            let _ = parse_when(&text, now(), &berlin());
            let _ = parse_since(&text, now(), &berlin());
        }
    }
}
