//! Owns for how long what was lost is kept: how that is written, and what of each age stays. Pure: it knows no clock, no
//! disk, and not where anything is kept.

use std::fmt;
use std::time::Duration;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// What is kept of an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// All of it.
    All,
    /// What there was at the beginning of each hour, day, week (with Monday) or month.
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

const SHARES: [(Share, &str); 5] = [
    (Share::All, "all"),
    (Share::Hourly, "hourly"),
    (Share::Daily, "daily"),
    (Share::Weekly, "weekly"),
    (Share::Monthly, "monthly"),
];

/// What is kept of what is up to so old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub until: Duration,
    pub share: Share,
}

/// For how long what was lost is kept, in stages that thin it out; nothing at all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(Vec<Stage>);

/// How much of a disk is to stay free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Room {
    Bytes(u64),
    /// Of the whole disk, 0 to 100.
    Percent(f64),
}

/// What a person wants kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keep {
    pub policy: Policy,
    /// As many bytes may versions and journal take.
    pub max: Option<u64>,
    /// So much is free on the replica's disk before anything is kept; by default what is kept is never given up early.
    pub free: Option<Room>,
}

impl Policy {
    /// Stages whose ages rise, and of which none keeps more than the one before.
    ///
    /// # Errors
    /// What is wrong with them, for the person.
    pub fn new(stages: Vec<Stage>) -> Result<Self, String> {
        if let Some(stage) = stages.iter().find(|stage| stage.until.is_zero()) {
            return Err(format!("an age must be longer than zero, as in \"1d: {}\"", stage.share));
        }
        for pair in stages.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            if second.until <= first.until {
                let (first, second) = (Age(first.until), Age(second.until));
                return Err(format!("the ages must rise: {second} comes after {first}"));
            }
            if second.share < first.share {
                let reason = "what is gone at one age cannot be kept at a greater one";
                return Err(format!("{reason}: \"{}\" comes after \"{}\"", second.share, first.share));
            }
        }
        // Two that keep the same are one.
        let mut policy: Vec<Stage> = Vec::new();
        for stage in stages {
            match policy.last_mut() {
                Some(last) if last.share == stage.share => *last = stage,
                _ => policy.push(stage),
            }
        }
        Ok(Self(policy))
    }

    /// Reads `30d`, `0`, or `1h: all, 1d: hourly, 30d: daily`. `age` reads a length of time.
    ///
    /// # Errors
    /// What is wrong with it, for the person.
    pub fn parse(text: &str, age: impl Fn(&str) -> Result<Duration, String>) -> Result<Self, String> {
        const FORM: &str = "write it as 30d or '1h: all, 1d: hourly, 30d: daily'";
        let text = text.trim();
        if matches!(text, "off" | "none") {
            return Ok(Self::default());
        }
        if !text.contains([':', ',']) {
            let until = age(text).map_err(|reason| format!("{reason}; {FORM}"))?;
            let stage = Stage { until, share: Share::All };
            return if until.is_zero() { Ok(Self::default()) } else { Self::new(vec![stage]) };
        }
        let mut stages = Vec::new();
        for part in text.split(',') {
            let Some((until, share)) = part.split_once(':') else {
                return Err(format!("\"{}\" does not say what is kept; {FORM}", part.trim()));
            };
            let until = age(until).map_err(|reason| format!("\"{}\": {reason}", part.trim()))?;
            let word = share.trim();
            let known = SHARES.iter().find(|(_, known)| known.eq_ignore_ascii_case(word));
            let Some((share, _)) = known else {
                let words: Vec<&str> = SHARES.iter().map(|(_, word)| *word).collect();
                return Err(format!("\"{word}\" is none of {}; {FORM}", words.join(", ")));
            };
            stages.push(Stage { until, share: *share });
        }
        Self::new(stages)
    }

    /// Whether nothing is kept.
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// The greatest age of which anything is kept.
    pub fn horizon(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |stage| stage.until)
    }

    pub fn stages(&self) -> &[Stage] {
        &self.0
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("0"),
            [Stage { until, share: Share::All }] => Age(*until).fmt(f),
            stages => stages.iter().enumerate().try_for_each(|(at, stage)| {
                let comma = if at > 0 { ", " } else { "" };
                write!(f, "{comma}{}: {}", Age(stage.until), stage.share)
            }),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHARES.iter().find(|(share, _)| share == self).map_or("all", |(_, word)| word))
    }
}

/// An age in the units that people write.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let mut is_first = true;
        let mut put = |f: &mut fmt::Formatter<'_>, count: u64, unit: &str| {
            let space = if std::mem::take(&mut is_first) { "" } else { " " };
            write!(f, "{space}{count}{unit}")
        };
        for (unit, seconds) in [("d", DAY), ("h", HOUR), ("m", 60), ("s", 1)] {
            if rest >= seconds {
                put(f, rest / seconds, unit)?;
                rest %= seconds;
            }
        }
        for (unit, count) in [("ms", self.0.subsec_millis()), ("us", self.0.subsec_micros() % 1000)] {
            if count > 0 {
                put(f, count.into(), unit)?;
            }
        }
        let nanos = self.0.subsec_nanos() % 1000;
        if nanos > 0 || self.0.is_zero() { put(f, nanos.into(), "ns") } else { Ok(()) }
    }
}

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
];

/// Reads a size in bytes: `10GB`, `500 MiB`, `1.5T`, `4096`. A single letter stands for a power of 1024.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const FORM: &str = "must be a size, as in 10GB, 500MiB or 4096";
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..at], text[at..].trim_start());
    let factor = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "K" | "M" | "G" | "T" => UNITS.iter().find(|(name, _)| is_same(name, &format!("{unit}iB"))).map(|(_, f)| *f),
        _ => UNITS.iter().find(|(name, _)| is_same(name, unit)).map(|(_, factor)| *factor),
    };
    let factor = factor.ok_or(FORM)?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor).ok_or("is more than any disk has")?,
        Err(_) => {
            let number: f64 = number.parse().map_err(|_| FORM)?;
            let bytes = number * factor as f64;
            if !(0.0..9e18).contains(&bytes) {
                return Err("is more than any disk has".into());
            }
            bytes as u64
        }
    };
    Ok(bytes)
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// A size as [`parse_size`] reads it, in the greatest unit of which it is a whole number.
pub fn size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&size(*bytes)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Room {
    /// What that is of a disk of so many bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        Policy::parse(text, |age| humantime::parse_duration(age.trim()).map_err(|e| e.to_string()))
    }

    #[test]
    fn what_is_kept_is_written_as_people_do() {
        for (text, shown) in [
            ("30d", "30d"),
            ("36h", "1d 12h"),
            ("0s", "0"),
            ("off", "0"),
            ("1h: all, 1d: hourly, 30d: daily", "1h: all, 1d: hourly, 30d: daily"),
            ("1h:ALL,1year:Monthly", "1h: all, 365d 6h: monthly"),
            ("2days : weekly", "2d: weekly"),
            ("1d: all, 2d: all", "2d"),
            ("1500ms", "1s 500ms"),
        ] {
            assert_eq!(read(text).map(|policy| policy.to_string()).as_deref(), Ok(shown), "{text}");
        }
        let policy = read("1h: all, 30d: daily").expect("usable");
        assert_eq!((policy.is_off(), policy.horizon()), (false, Duration::from_secs(30 * DAY)));
        assert!(Policy::default().is_off() && Policy::default().horizon().is_zero());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (text, reason) in [
            ("soon", "write it as 30d or '1h: all"),
            ("1h: all, 1d", "\"1d\" does not say what is kept"),
            ("1h: most", "\"most\" is none of all, hourly, daily, weekly, monthly"),
            ("1h: all,", "\"\" does not say"),
            (": all", "\": all\": "),
            ("1d: all, 1h: hourly", "the ages must rise: 1h comes after 1d"),
            ("1d: all, 24h: daily", "the ages must rise: 1d comes after 1d"),
            ("1d: daily, 2d: all", "\"all\" comes after \"daily\""),
            ("0s: all, 1d: daily", "must be longer than zero, as in \"1d: all\""),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("10GB", 10_000_000_000),
            ("500 MiB", 500 << 20),
            ("1.5g", 3 << 29),
            ("2k", 2048),
            ("1kb", 1000),
            ("0", 0),
            ("7 B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1.2.3", "10 parsecs", "10GBs", "99999999999TB", "1e3", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(["10GB", "512MiB", "4096", "1001"].map(|text| parse_size(text).map(size)), {
            ["10GB", "512MiB", "4KiB", "1001"].map(|text| Ok(text.to_string()))
        });
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(stages in prop::collection::vec((1u64..5_000_000_000_000_000_000, 0usize..5), 0..5)) {
            let stages: Vec<Stage> = stages.into_iter().map(|(nanos, share)| {
                Stage { until: Duration::from_nanos(nanos), share: SHARES[share].0 }
            }).collect();
            if let Ok(policy) = Policy::new(stages) {
                prop_assert_eq!(read(&policy.to_string()).or_else(|e| if policy.is_off() { Ok(Policy::default()) } else { Err(e) }), Ok(policy));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), near in "[0-9.]{0,25} ?[kKmMgGtTiB]{0,4}") {
            let _ = (read(&text), parse_size(&text));
            if let Ok(bytes) = parse_size(&near) {
                prop_assert_eq!(parse_size(&size(bytes)), Ok(bytes));
            }
        }
    }
}
