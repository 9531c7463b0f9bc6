//! Owns how one value is written: durations, percentages, counts, names. The same for the command line and the file. It
//! knows no option and no default.

use std::net::SocketAddr;
use std::time::Duration;

use crate::plan::keep::{Policy, Room, parse_size};

/// Longer is surely a slip, and would overflow the clocks that it is added to.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const MOST_JOBS: usize = 256;
const LONGEST_NAME: usize = 64;

/// `10m`, `1h 30m`, `250ms`; a bare number is seconds.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let duration = match text.parse::<f64>() {
        Ok(seconds) if seconds < 0.0 => return Err(format!("{text} is negative")),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| "is not a length of time".to_string())?,
        Err(_) if text.starts_with('-') => return Err(format!("{text} is negative")),
        Err(_) => humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 90s, 10m or '1h 30m'"))?,
    };
    if duration > LONGEST { Err("is longer than 100 years".into()) } else { Ok(duration) }
}

/// A duration that is not zero.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero".into()),
        duration => Ok(duration),
    }
}

/// The same rule under the name of the option that it is used for.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_max_delay(text: &str) -> Result<Duration, String> {
    parse_interval(text)
}

/// `50%` or `50`: 0 to 100.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim();
    let number = number.strip_suffix('%').unwrap_or(number).trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("must be a percentage from 0% to 100%".into()),
    }
}

/// `30d`, `1h: all, 1d: hourly, 30d: daily`, or `0` for nothing.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_keep(text: &str) -> Result<Policy, String> {
    Policy::parse(text, parse_duration)
}

/// A bound that a person sets, or takes back with `none`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound<T>(pub Option<T>);

/// `10GB`, `500MiB`, or `none`.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_keep_max(text: &str) -> Result<Bound<u64>, String> {
    match text.trim() {
        "none" => Ok(Bound(None)),
        text => match parse_size(text)? {
            0 => Err("must be more than nothing; --keep-versions 0 keeps none".into()),
            bytes => Ok(Bound(Some(bytes))),
        },
    }
}

/// `10GB`, `5%`, or `none`.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_keep_free(text: &str) -> Result<Bound<Room>, String> {
    let room = match text.trim() {
        "none" => return Ok(Bound(None)),
        text if text.ends_with('%') => Room::Percent(parse_percent(text)?),
        text => Room::Bytes(parse_size(text).map_err(|reason| format!("{reason}, or a percentage, as in 5%"))?),
    };
    Ok(Bound(Some(room)))
}

/// A number of threads.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(jobs) if (1..=MOST_JOBS).contains(&jobs) => Ok(jobs),
        _ => Err(format!("must be a number from 1 to {MOST_JOBS}")),
    }
}

/// `20MB/s`, `512kB/s`, `1GiB/s`, or `max`: bytes a second, those of `max` being more than any disk gives.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 10] = [
        ("", 1.0),
        ("k", 1e3),
        ("kb", 1e3),
        ("kib", 1024.0),
        ("m", 1e6),
        ("mb", 1e6),
        ("mib", 1_048_576.0),
        ("g", 1e9),
        ("gb", 1e9),
        ("gib", 1_073_741_824.0),
    ];
    let wrong = || "must be a number of bytes a second, as in 20MB/s, or max".to_string();
    let word = text.trim().to_lowercase();
    if word == "max" {
        return Ok(u64::MAX);
    }
    let word = word.strip_suffix("/s").unwrap_or(&word).trim_end();
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let unit = unit.trim_start();
    let known = UNITS.iter().find(|(name, _)| *name == unit || (unit == "b" && name.is_empty()));
    let (Ok(number), Some((_, factor))) = (number.parse::<f64>(), known) else { return Err(wrong()) };
    let rate = number * factor;
    if (1.0..1e18).contains(&rate) { Ok(rate as u64) } else { Err(wrong()) }
}

/// How `parse_rate` takes it again.
pub fn rate_in_words(rate: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1_000, "kB/s")];
    match UNITS.iter().find(|(size, _)| rate.is_multiple_of(*size)) {
        _ if rate == u64::MAX => "max".into(),
        Some((size, unit)) => format!("{}{unit}", rate / size),
        None => format!("{rate}B/s"),
    }
}

/// `127.0.0.1:9494` or `[::1]:9494`: an address of this machine, and a port.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    match text.trim().parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err("must be an address and a port, as in 127.0.0.1:9494 or [::1]:9494".into()),
    }
}

/// The name of a service, which is part of a file's name.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_name(text: &str) -> Result<String, String> {
    let is_usable = (1..=LONGEST_NAME).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| name_char(byte).is_some());
    if is_usable {
        Ok(text.into())
    } else {
        Err(format!(
            "a name has 1 to {LONGEST_NAME} letters, digits, dots, underscores and hyphens, \
             and starts with neither dot nor hyphen"
        ))
    }
}

/// The byte as a character, if names may have it.
pub fn name_char(byte: u8) -> Option<char> {
    (byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')).then(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        let table = [
            ("20MB/s", 20_000_000),
            ("20 mb/s", 20_000_000),
            ("1.5k", 1500),
            ("512KiB/s", 512 << 10),
            ("2GiB", 2 << 30),
            ("300", 300),
            ("300 B/s", 300),
            ("max", u64::MAX),
        ];
        for (text, rate) in table {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
            assert_eq!(parse_rate(&rate_in_words(rate)), Ok(rate), "{text}");
        }
        for text in ["", "0", "-5", "0.2", "fast", "20MB/min", "20 parsecs/s", "1e400", "99999999999GB/s", "."] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let table = [
            ("600", Some(600_000)),
            ("0", Some(0)),
            ("0.25", Some(250)),
            ("10m", Some(600_000)),
            (" 1h 30m ", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("10 min", Some(600_000)),
            ("2 days", Some(172_800_000)),
            ("", None),
            ("-5", None),
            ("-5m", None),
            ("-0.1", None),
            ("soon", None),
            ("5x", None),
            ("nan", None),
            ("inf", None),
            ("1e300", None),
            ("200 years", None),
            ("99999999999999999999s", None),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse_duration(text).ok(), milliseconds.map(Duration::from_millis), "{text:?}");
        }
        assert!(parse_interval("0s").is_err() && parse_interval("1ms").is_ok());
    }

    #[test]
    fn percentages_jobs_and_names_have_bounds() {
        let table = [("50%", true), ("50", true), ("0", true), ("12.5 %", true), ("100%", true)];
        let bad = ["101", "-1", "%", "", "nan%", "5%%", "inf"].map(|text| (text, false));
        for (text, is_good) in table.into_iter().chain(bad) {
            assert_eq!(parse_percent(text).is_ok(), is_good, "{text:?}");
        }
        assert!(["127.0.0.1:9494", "[::1]:1", " 0.0.0.0:65535 "].iter().all(|text| parse_address(text).is_ok()));
        let bad = ["", "9494", ":9494", "127.0.0.1", "127.0.0.1:0", "::1:9494:", "localhost:9494", "1.2.3.4:65536"];
        assert!(bad.iter().all(|text| parse_address(text).is_err()));
        assert_eq!(parse_jobs("8"), Ok(8));
        assert!(["0", "-1", "257", "x", ""].iter().all(|text| parse_jobs(text).is_err()));
        assert!(["a", "A-1_b.c"].iter().all(|text| parse_name(text).is_ok()));
        assert!(["", ".a", "-a", "a/b", "a b", "ä", &"x".repeat(65)].iter().all(|text| parse_name(text).is_err()));
    }

    #[test]
    fn what_is_kept_and_its_bounds_are_read() {
        assert_eq!(parse_keep("30d").map(|keep| keep.to_string()), Ok("30d".into()));
        assert_eq!(parse_keep("0"), Ok(Policy::default()));
        assert_eq!((parse_keep_max("1GB"), parse_keep_max("none")), (Ok(Bound(Some(1_000_000_000))), Ok(Bound(None))));
        assert_eq!(parse_keep_free("5 %"), Ok(Bound(Some(Room::Percent(5.0)))));
        assert_eq!(parse_keep_free("1MiB"), Ok(Bound(Some(Room::Bytes(1 << 20)))));
        assert!(parse_keep_max("0").is_err() && parse_keep_max("5%").is_err() && parse_keep_free("101%").is_err());
        assert!(parse_keep("200 years").is_err() && parse_keep("-1d").is_err() && parse_keep("1h: all; 2h").is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), near in "[-+]?[0-9.e]{0,25} ?[%a-z]{0,6}") {
            for text in [&text, &near] {
                let _ = (parse_percent(text), parse_jobs(text), parse_name(text));
                if let Ok(duration) = parse_duration(text) {
                    prop_assert!(std::time::Instant::now().checked_add(duration).is_some());
                }
            }
        }
    }
}
