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

    /// What is kept of what is so old; nothing of what is older than all stages.
    pub fn share(&self, age: Duration) -> Option<Share> {
        self.0.iter().find(|stage| age <= stage.until).map(|stage| stage.share)
    }

    /// The age at which anything may go at the earliest.
    pub fn first(&self) -> Duration {
        self.0.first().map_or(Duration::ZERO, |stage| stage.until)
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

impl Share {
    /// The period that a moment lies in, in seconds of local time since 1970: its number, which rises with time. Periods nest,
    /// so that what stays of shorter ones holds for longer ones too: a week ends with its month.
    pub fn period(self, local: i64) -> i64 {
        let day = local.div_euclid(DAY as i64);
        match self {
            Self::All => local,
            Self::Hourly => local.div_euclid(HOUR as i64),
            Self::Daily => day,
            // The first day of 1970 was a Thursday. Each month begins a week of its own.
            Self::Weekly => (day + 3).div_euclid(7) + month(day),
            Self::Monthly => month(day),
        }
    }

    /// As long as a period is at most, in seconds.
    pub fn length(self) -> i64 {
        let days = match self {
            Self::All => return 0,
            Self::Hourly => return HOUR as i64,
            Self::Daily => 1,
            Self::Weekly => 7,
            Self::Monthly => 31,
        };
        days * DAY as i64
    }
}

/// The month of a day since 1970, counted from some month on.
fn month(day: i64) -> i64 {
    // Years that begin with March, so that the odd day comes last.
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * of_year + 2) / 153
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
mod tests;
