//! Owns what a running service says of itself: the data, as JSON and as one screen for a person. It measures nothing;
//! the dispatcher fills it in.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tree::quote::escaped;
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
    /// Folders that could not be watched; sweeps alone keep them equal.
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Sweeping => "sweeping",
            Self::InSync => "in sync",
            Self::Busy => "busy",
            Self::Held => "held",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        })
    }
}

impl Status {
    /// One screen for a person, ending with a newline. Long lists show their first entries and how many there are.
    pub fn render(&self) -> String {
        let mut screen = String::new();
        let mut line = |label: &str, text: String| {
            // Whatever the service sent, a line stays a line and the terminal is not steered.
            let _ = writeln!(screen, "{label:<12}{}", escaped(&text));
        };
        line("State", self.state_line());
        line("Source", self.source.clone());
        line("Replica", self.replica.clone());
        line("Process", self.pid.to_string());
        line("Pending", self.pending_line());
        line("Watches", self.watches.line());
        line("Last sweep", self.last_sweep.as_ref().map_or_else(|| "none yet".into(), LastSweep::line));
        if let Some(seconds) = self.next_sweep_in_s {
            line("Next sweep", format!("in {}", short(Duration::from_secs(seconds))));
        }
        line("Totals", self.totals.to_string());
        for hold in &self.holds {
            let since = hold.since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
            line("Held", format!("{} removals: {}{since}", hold.removals, hold.reason));
            line("", format!("-> {}", hold.remedy));
        }
        first("Failing", &self.failing, Failing::line, &mut line);
        first("Uncertain", &self.uncertain, String::clone, &mut line);
        screen
    }

    fn state_line(&self) -> String {
        let reason = self.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        format!("{} since {}{reason}", self.state, self.since)
    }

    fn pending_line(&self) -> String {
        match self.pending {
            0 => "nothing".into(),
            1 => format!("1 path, for {}", short(Duration::from_millis(self.lag_ms))),
            many => format!("{many} paths, the oldest for {}", short(Duration::from_millis(self.lag_ms))),
        }
    }
}

/// How many entries of a list the screen shows.
const SHOWN: usize = 10;

fn first<T>(label: &str, list: &[T], text: impl Fn(&T) -> String, line: &mut impl FnMut(&str, String)) {
    for (n, entry) in list.iter().take(SHOWN).enumerate() {
        line(if n == 0 { label } else { "" }, text(entry));
    }
    if list.len() > SHOWN {
        line("", format!("and {} more; --json lists them all", list.len() - SHOWN));
    }
}

impl Watches {
    fn line(&self) -> String {
        let limit = self.limit.map(|l| format!(" of at most {l}")).unwrap_or_default();
        match self.unwatched {
            0 => format!("{} folders{limit}", self.folders),
            n => format!("{} folders{limit}; {n} not watched, equal after each sweep only", self.folders),
        }
    }
}

impl LastSweep {
    fn line(&self) -> String {
        format!("{}, took {}: {}", self.finished, short(Duration::from_millis(self.duration_ms)), self.totals)
    }
}

impl Failing {
    fn line(&self) -> String {
        let next = short(Duration::from_secs(self.next_try_in_s));
        let tries = if self.tries == 1 { "1 try".into() } else { format!("{} tries", self.tries) };
        format!("{}: {} ({tries} since {}, next in {next})", self.path, self.reason, self.first_failure)
    }
}

/// A duration with what matters of it: milliseconds below ten seconds, whole seconds above.
fn short(duration: Duration) -> String {
    let kept = if duration < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(kept).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        Status {
            state: State::InSync,
            reason: None,
            since: "2026-11-21T14:32:10+01:00".into(),
            pid: 4711,
            source: "'/home/user/a'".into(),
            replica: "'/mnt/b'".into(),
            pending: 0,
            lag_ms: 0,
            watches: Watches { folders: 12, unwatched: 0, limit: Some(8192) },
            totals: Totals { files_copied: 3, ..Totals::default() },
            last_sweep: None,
            next_sweep_in_s: Some(90),
            holds: Vec::new(),
            failing: Vec::new(),
            uncertain: Vec::new(),
        }
    }

    #[test]
    fn screen_of_a_quiet_service_is_short() {
        let screen = sample().render();
        assert!(screen.starts_with("State       in sync since 2026-11-21T14:32:10+01:00\n"), "{screen}");
        assert!(screen.contains("Pending     nothing\n"), "{screen}");
        assert!(screen.contains("Watches     12 folders of at most 8192\n"), "{screen}");
        assert!(screen.contains("Next sweep  in 1m 30s\n"), "{screen}");
        assert!(!screen.contains("Failing") && !screen.contains("Held"), "{screen}");
    }

    #[test]
    fn screen_names_holds_with_their_remedy_and_cuts_long_lists() {
        let failing = Failing {
            path: "'x\u{1b}'".into(),
            reason: "denied".into(),
            tries: 3,
            first_failure: "2026-11-21T14:32:10+01:00".into(),
            last_failure: "2026-11-21T14:32:13+01:00".into(),
            next_try: "2026-11-21T14:32:21+01:00".into(),
            next_try_in_s: 8,
        };
        let status = Status {
            state: State::Held,
            pending: 2,
            lag_ms: 2100,
            holds: vec![HoldStatus {
                reason: "more than 50%".into(),
                remedy: "driftless release".into(),
                removals: 800,
                since: Some("2026-11-20T09:00:00+01:00".into()),
            }],
            failing: vec![failing; 14],
            ..sample()
        };
        let screen = status.render();
        assert!(
            screen.contains("Held        800 removals: more than 50%, since 2026-11-20T09:00:00+01:00\n            -> driftless release\n"),
            "{screen}"
        );
        assert!(
            screen.contains("'x\\u{1b}': denied (3 tries since 2026-11-21T14:32:10+01:00, next in 8s)"),
            "{screen}"
        );
        assert!(screen.contains("            and 4 more;"), "{screen}");
        assert!(screen.contains("2 paths, the oldest for 2s 100ms"), "{screen}");
    }

    #[test]
    fn json_uses_snake_case_and_comes_back_the_same() {
        let json = serde_json::to_string(&sample()).expect("plain data");
        assert!(json.contains("\"state\":\"in_sync\""), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).expect("own output"), sample());
    }
}
