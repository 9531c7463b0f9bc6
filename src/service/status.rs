//! Owns what a running service says of itself: the data, which is also its JSON. It measures nothing and draws nothing;
//! the dispatcher fills it in, and the commands show it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Reading;
use crate::tree::totals::Totals;

/// Everything that `driftless status` shows. Times are RFC 3339, `source` and `replica` are plain
/// paths, those in lists are quoted as in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    /// Why it is in this state, where there is more to say than its name.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: String,
    pub pid: u32,
    pub source: String,
    pub replica: String,
    /// Paths that are known to need a look and have not had it.
    pub pending: u64,
    /// Age of the oldest of them.
    pub lag_ms: u64,
    pub watches: Watches,
    /// Since the service started.
    pub totals: Totals,
    pub last_sweep: Option<LastSweep>,
    pub next_sweep_in_s: Option<u64>,
    pub holds: Vec<HoldStatus>,
    pub failing: Vec<Failing>,
    /// Files that never rested while they were read.
    pub uncertain: Vec<String>,
    /// The program that runs.
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub started: String,
    /// From the event to the replica, since the service started.
    #[serde(default)]
    pub latency: Latency,
    /// Sweeps that came to their end since the service started.
    #[serde(default)]
    pub sweeps: u64,
    /// The sweep that runs.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// How many there are; `failing` and `uncertain` list the first hundred.
    #[serde(default)]
    pub failing_paths: u64,
    #[serde(default)]
    pub uncertain_files: u64,
    /// Where both folders are worked in.
    #[serde(default)]
    pub two_way: Option<TwoWay>,
    /// What is known of contents that a disk has lost.
    #[serde(default)]
    pub scrub: Scrub,
    /// Where what the replica loses is kept.
    #[serde(default)]
    pub kept: Option<Kept>,
}

/// Scrubs, and what they and others have found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrub {
    /// How far the one has come that runs.
    pub running: Option<Scrubbing>,
    /// The last one that came to its end, also in an earlier run of the service.
    pub last: Option<LastScrub>,
    /// Only with `--scrub-every`.
    pub next_in_s: Option<u64>,
    /// How many files have decayed and are neither repaired nor changed; `decayed` lists the first hundred.
    pub decayed_files: u64,
    pub decayed: Vec<DecayedStatus>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbing {
    /// A person has asked for it.
    pub asked: bool,
    pub running_ms: u64,
    /// Since it began, or went on after a restart.
    pub files: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastScrub {
    pub finished: String,
    pub files: u64,
    pub bytes: u64,
    pub decayed: u64,
    pub repaired: u64,
    #[serde(default)]
    pub unclear: u64,
}

/// A file that has decayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecayedStatus {
    pub path: String,
    /// `source` or `replica`: whose file it is.
    pub side: String,
    pub reason: String,
    pub found: String,
}

/// What is kept of what the replica has lost, as last counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// As `--keep-versions`, `--keep-max` and `--keep-free` have it.
    pub policy: String,
    pub max_bytes: Option<u64>,
    pub free: Option<String>,
    /// Versions, and what they and the journal take on disk; not known until they have been counted.
    pub versions: Option<u64>,
    pub bytes: Option<u64>,
    pub journal_bytes: Option<u64>,
    /// From when on everything can be brought back.
    pub since: Option<String>,
}

/// What a service does that follows both folders. The totals of the status are the sum of both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoWay {
    /// What becomes of a conflict, as `--conflict` has it.
    pub conflict: String,
    /// What was done there since the service started.
    pub in_replica: Totals,
    pub in_source: Totals,
    /// Names that both sides had changed, since the service started.
    pub conflicts: u64,
    /// The last hundred of them, oldest first.
    pub last_conflicts: Vec<ConflictStatus>,
}

/// A name that both sides had changed, and how that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictStatus {
    pub path: String,
    /// `source` or `replica`: whose version has the name.
    pub winner: String,
    /// Where the other version is kept, if it is.
    pub kept: Option<String>,
    pub at: String,
}

/// How long changes took that an event told of. What a sweep found or what had failed before is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    /// Upper bounds, too long by 5 % or a tenth of a millisecond at most.
    pub median_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub longest_ms: Option<f64>,
}

/// How far the sweep has come that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    pub running_ms: u64,
    /// Entries of the source that were listed.
    pub entries: u64,
    /// As many there were the last time, where that is known.
    pub expected: Option<u64>,
    /// What was copied or updated meanwhile.
    pub files: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Starting,
    Sweeping,
    InSync,
    Busy,
    Held,
    Degraded,
    Stopping,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watches {
    pub folders: u64,
    /// Folders that could not be watched; they are looked at from time to time, and at sweeps.
    pub unwatched: u64,
    /// The system's limit for this user, where it is known.
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSweep {
    pub finished: String,
    pub duration_ms: u64,
    pub totals: Totals,
}

/// Deletions that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    pub reason: String,
    pub remedy: String,
    pub removals: u64,
    /// Since when; across restarts of the service.
    #[serde(default)]
    pub since: Option<String>,
    /// In which folder, where both are worked in: `source` or `replica`.
    #[serde(default)]
    pub side: Option<String>,
}

/// A path that could not be dealt with and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    pub path: String,
    pub reason: String,
    pub tries: u32,
    /// The first failure, also of an earlier run of the service, and the last one.
    pub first_failure: String,
    pub last_failure: String,
    pub next_try: String,
    pub next_try_in_s: u64,
}

impl State {
    pub const ALL: [Self; 7] =
        [Self::Starting, Self::Sweeping, Self::InSync, Self::Busy, Self::Held, Self::Degraded, Self::Stopping];

    /// As it stands in JSON and in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Sweeping => "sweeping",
            Self::InSync => "in_sync",
            Self::Busy => "busy",
            Self::Held => "held",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InSync => "in sync",
            other => other.word(),
        })
    }
}

impl Latency {
    pub fn of(reading: &Reading) -> Self {
        let millis = |took: Duration| took.as_micros() as f64 / 1000.0;
        Self {
            count: reading.count(),
            median_ms: reading.within(50).map(millis),
            p99_ms: reading.within(99).map(millis),
            longest_ms: (reading.count() > 0).then(|| millis(reading.longest())),
        }
    }
}

/// A limit for a source that needs so many watches, where the present one does not suffice.
pub fn enough(needed: u64, limit: Option<u64>) -> u64 {
    let ample = needed.saturating_mul(2).max(limit.unwrap_or(0).saturating_add(1));
    ample.checked_next_power_of_two().unwrap_or(ample).max(1 << 16)
}

impl Watches {
    /// The folders of the source, as far as they are known.
    pub fn needed(&self) -> u64 {
        self.folders.saturating_add(self.unwatched)
    }

    /// A limit that suffices, with room for other programs and for folders to come, where the present one does not.
    pub fn enough(&self) -> Option<u64> {
        (self.unwatched > 0).then(|| enough(self.needed(), self.limit))
    }
}

/// A quiet service, for the tests of all who show one.
#[cfg(test)]
pub fn sample() -> Status {
    Status {
        state: State::InSync,
        reason: None,
        since: "2026-11-21T14:32:10+01:00".into(),
        pid: 4711,
        source: "/home/user/a".into(),
        replica: "/mnt/b".into(),
        pending: 0,
        lag_ms: 0,
        watches: Watches { folders: 12, unwatched: 0, limit: Some(8192) },
        totals: Totals { files_copied: 3, ..Totals::default() },
        last_sweep: None,
        next_sweep_in_s: Some(90),
        holds: Vec::new(),
        failing: Vec::new(),
        uncertain: Vec::new(),
        version: "0.1.0".into(),
        started: "2026-11-21T12:00:00+01:00".into(),
        latency: Latency { count: 3, median_ms: Some(3.1), p99_ms: Some(104.5), longest_ms: Some(104.5) },
        sweeps: 1,
        sweep: None,
        failing_paths: 0,
        uncertain_files: 0,
        two_way: None,
        scrub: Scrub::default(),
        kept: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_uses_snake_case_and_comes_back_the_same() {
        let json = serde_json::to_string(&sample()).expect("plain data");
        assert!(json.contains("\"state\":\"in_sync\""), "{json}");
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).expect("plain data"), state.word());
        }
        assert_eq!(serde_json::from_str::<Status>(&json).expect("own output"), sample());
    }

    #[test]
    fn status_of_an_older_service_is_understood() {
        let mut json = serde_json::to_value(sample()).expect("plain data");
        let object = json.as_object_mut().expect("an object");
        for newer in [
            "version",
            "started",
            "latency",
            "sweeps",
            "sweep",
            "failing_paths",
            "uncertain_files",
            "two_way",
            "scrub",
            "kept",
        ] {
            assert!(object.remove(newer).is_some(), "{newer}");
        }
        let status: Status = serde_json::from_value(json).expect("understood");
        assert_eq!((status.latency, status.pid), (Latency::default(), 4711));
    }

    #[test]
    fn limit_that_suffices_is_above_the_present_one_and_twice_what_is_needed() {
        let watches = |folders, unwatched, limit| Watches { folders, unwatched, limit };
        assert_eq!(watches(12, 0, Some(8192)).enough(), None);
        assert_eq!(watches(8000, 192, Some(8000)).enough(), Some(65_536));
        assert_eq!(watches(90_000, 10_000, Some(90_000)).enough(), Some(262_144));
        // Others use most of what there is.
        assert_eq!(watches(10, 10, Some(1 << 20)).enough(), Some(1 << 21));
    }
}
