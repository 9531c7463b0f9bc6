//! Owns what the progress bar says: how much is done, at what rate, and how long the rest may take. Numbers in, words
//! out: it knows no terminal and asks no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::fs::count::Size;
use crate::fs::pulse::Progress;
use crate::tree::totals::Bytes;

/// The share that is all of it.
const SCALE: u64 = 1000;
/// A bar that is shorter says nothing.
const SHORTEST: usize = 5;
/// The time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(15);
/// Before that, the rate says little of the rest.
const WARM: Duration = Duration::from_secs(2);
/// What an entry is worth beside its bytes: looking at a file, or making it, takes about as long as copying so many.
const ENTRY: u64 = 32 * 1024;

/// What has been done since the sweep began.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Entries that were looked at and are not waiting to be copied.
    entries: u64,
    files: u64,
    bytes: u64,
    /// Entries and bytes in one measure, and how much of it is known to be left.
    work: u64,
    left: u64,
}

pub struct Meter {
    start: Progress,
    samples: VecDeque<(Instant, Done)>,
}

impl Meter {
    pub fn new(start: Progress, now: Instant) -> Self {
        Self { start, samples: VecDeque::from([(now, Done::default())]) }
    }

    /// The share that is done, in thousandths, and the words for all of it.
    pub fn look(
        &mut self,
        progress: Progress,
        now: Instant,
        entries: Option<u64>,
        counted: Option<Size>,
    ) -> (u64, String) {
        let done = self.done(progress);
        let size = counted.or(entries.map(|entries| Size { entries, bytes: 0 }));
        let total = size.map(|size| {
            let work = size.bytes.saturating_add(size.entries.saturating_mul(ENTRY));
            // What was found beyond what was counted counts too.
            work.max(done.work.saturating_add(done.left))
        });
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(|(at, _)| *at + WINDOW < now) {
            self.samples.pop_front();
        }
        let (since, before) = self.samples.front().copied().unwrap_or((now, done));
        self.samples.push_back((now, done));
        let passed = now.saturating_duration_since(since);
        let rate = |now: u64, before: u64| {
            let more = now.saturating_sub(before) as f64;
            if passed.is_zero() { 0.0 } else { more / passed.as_secs_f64() }
        };
        let speed = rate(done.bytes, before.bytes);
        let work = rate(done.work, before.work);

        let mut words = Vec::new();
        let position = total.map_or(0, |total| share(done.work, total));
        match size {
            Some(size) => {
                words.push(format!(
                    "{:>3}% {}/{}",
                    position / (SCALE / 100),
                    done.entries,
                    size.entries.max(done.entries)
                ));
            }
            None => words.push(format!("{} entries", done.entries)),
        }
        words.push(format!("{} {}", done.files, if done.files == 1 { "file" } else { "files" }));
        words.push(Bytes(done.bytes).to_string());
        words.push(format!("{}/s", Bytes(speed as u64)));
        if let Some(total) = total
            && passed >= WARM
            && work > 0.0
        {
            let left = total.saturating_sub(done.work) as f64 / work;
            words.push(format!("{} left", rounded(left)));
        }
        (position, words.join(", "))
    }

    fn done(&self, progress: Progress) -> Done {
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let (p, s) = (progress, self.start);
        let (listed, wanted) = (since(p.entries, s.entries), since(p.wanted_files, s.wanted_files));
        let (files, bytes) = (since(p.files, s.files), since(p.bytes, s.bytes));
        let wanted_bytes = since(p.wanted_bytes, s.wanted_bytes);
        let waiting = wanted.saturating_sub(files).min(listed);
        let (entries, missing) = (listed - waiting, wanted_bytes.saturating_sub(bytes));
        let carried = since(p.listed_bytes, s.listed_bytes).saturating_sub(missing);
        let work = |entries: u64, bytes: u64| entries.saturating_mul(ENTRY).saturating_add(bytes);
        Done { entries, files, bytes, work: work(entries, carried), left: work(waiting, missing) }
    }
}

/// The words, and a bar in what room they leave of so many columns.
pub fn line(share: u64, words: &str, columns: usize) -> String {
    let room = columns.saturating_sub(words.len() + 3);
    if room < SHORTEST {
        return words.chars().take(columns).collect();
    }
    let done = usize::try_from(share.min(SCALE)).unwrap_or(0) * room / SCALE as usize;
    let (full, head) = if done == 0 { (0, "") } else { (done - 1, if done == room { "=" } else { ">" }) };
    format!("{words} [{:<room$}]", "=".repeat(full) + head)
}

fn share(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let share = u128::from(part.min(whole)) * u128::from(SCALE) / u128::from(whole);
    u64::try_from(share).unwrap_or(SCALE)
}

/// A length of time in its two largest units, or one.
fn rounded(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 99 => "more than 99d".into(),
        () if days > 0 => format!("{days}d {}h", hours % 24),
        () if hours > 0 => format!("{hours}h {}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn one_large_file_is_measured_by_its_bytes() {
        let start = Instant::now();
        let mut meter = Meter::new(Progress::default(), start);
        let size = Some(Size { entries: 1, bytes: 1000 * MIB });
        let half = Progress {
            entries: 1,
            listed_bytes: 1000 * MIB,
            wanted_files: 1,
            wanted_bytes: 1000 * MIB,
            bytes: 500 * MIB,
            ..Progress::default()
        };
        let (position, text) = meter.look(half, start + Duration::from_secs(5), None, size);
        assert_eq!(text, " 49% 0/1, 0 files, 500.0 MiB, 100.0 MiB/s, 6s left");
        assert_eq!(position, 499);
        let done = Progress { files: 1, bytes: 1000 * MIB, ..half };
        let (position, text) = meter.look(done, start + Duration::from_secs(10), None, size);
        assert_eq!(text, "100% 1/1, 1 file, 1000.0 MiB, 100.0 MiB/s, 0s left");
        assert_eq!(position, SCALE);
    }

    #[test]
    fn a_tree_that_is_equal_is_measured_by_its_entries() {
        let start = Instant::now();
        // What was counted before the sweep is not of it.
        let before = Progress { entries: 70, files: 7, bytes: 77, wanted_files: 7, ..Progress::default() };
        let mut meter = Meter::new(before, start);
        let now = Progress { entries: 70 + 250, ..before };
        let (position, text) = meter.look(now, start + Duration::from_secs(1), Some(1000), None);
        assert_eq!((position, text.as_str()), (250, " 25% 250/1000, 0 files, 0 B, 0 B/s"));
        // More than there were last time.
        let now = Progress { entries: 70 + 1500, ..before };
        let (position, text) = meter.look(now, start + Duration::from_secs(3), Some(1000), None);
        assert_eq!((position, text.as_str()), (1000, "100% 1500/1500, 0 files, 0 B, 0 B/s, 0s left"));
    }

    #[test]
    fn what_is_not_counted_yet_has_no_share() {
        let start = Instant::now();
        let mut meter = Meter::new(Progress::default(), start);
        let now =
            Progress { entries: 12, wanted_files: 4, files: 1, bytes: 10, wanted_bytes: 40, ..Progress::default() };
        let (position, text) = meter.look(now, start + Duration::from_secs(10), None, None);
        assert_eq!((position, text.as_str()), (0, "9 entries, 1 file, 10 B, 1 B/s"));
    }

    #[test]
    fn bar_has_what_room_the_words_leave() {
        assert_eq!(line(0, "words", 18), "words [          ]");
        assert_eq!(line(500, "words", 18), "words [====>     ]");
        assert_eq!(line(SCALE, "words", 18), "words [==========]");
        assert_eq!(line(500, "words", 10), "words");
        assert_eq!(line(500, "words", 3), "wor");
    }

    #[test]
    fn times_are_given_in_two_units() {
        let table = [(0.2, "1s"), (59.0, "59s"), (61.0, "1m 1s"), (7260.0, "2h 1m"), (90_000.0, "1d 1h")];
        for (seconds, text) in table {
            assert_eq!(rounded(seconds), text);
        }
        assert_eq!(rounded(1e300), "more than 99d");
    }
}
