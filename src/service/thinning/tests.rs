//! Owns the proof of what a look at a history leaves: made with lines of any age, and versions to them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::fs::history::History;
use crate::fs::history::journal::segment;
use crate::fs::history::{reading, shown_time};
use crate::fs::root::Root;
use crate::plan::conflict;
use crate::plan::keep::{Keep, Policy, Room};
use crate::plan::mirror::Compare;
use crate::service::room::Need;
use crate::service::rules::{InForce, Rules};
use crate::tree::entry::{Kind, Time};
use crate::tree::exclude::Exclude;
use crate::tree::history::{By, Event, Line};
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// What a version of these tests takes on disk at least, and as its contents say.
const SIZE: usize = 4096;

/// A replica with a history.
struct Past {
    top: TempDir,
    now: i64,
    count: u32,
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap_or_default()
}

impl Past {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(top.path().join(".driftless/journal")).expect("made");
        fs::create_dir_all(top.path().join(".driftless/versions")).expect("made");
        Self { top, now: i64::try_from(crate::service::clock::wall()).expect("a time"), count: 0 }
    }

    fn journal(&self) -> PathBuf {
        self.top.path().join(".driftless/journal")
    }

    fn versions(&self) -> PathBuf {
        self.top.path().join(".driftless/versions")
    }

    fn root(&self) -> Root {
        Root::open(self.top.path()).expect("a root")
    }

    /// Lines have to be said in the order of their times.
    fn say(&mut self, age: i64, name: &str, event: Event) {
        self.count += 1;
        let at = Time { sec: self.now - age, nsec: self.count % 1_000_000 * 1000 };
        let line = Line { at, path: path(name), event, by: By::Cause(Cause::Event), in_source: false };
        let mut text = Vec::new();
        line.encode(&mut text);
        let file = fs::OpenOptions::new().create(true).append(true).open(self.journal().join(segment(at)));
        file.expect("open").write_all(&text).expect("written");
    }

    fn update(&mut self, age: i64, name: &str) {
        let kept = format!("{name}~{}", self.count);
        let file = self.versions().join(&kept);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, [1; SIZE]).expect("written");
        self.say(age, name, Event::Updated { kind: Kind::File, kept: Some(path(&kept)) });
    }

    /// As the thread does it.
    fn work(&self, keep: &str, bounds: (Option<u64>, Option<Room>)) -> Work {
        let read = |age: &str| humantime::parse_duration(age.trim()).map_err(|error| error.to_string());
        let keep = Keep { policy: Policy::parse(keep, read).expect("usable"), max: bounds.0, free: bounds.1 };
        let (exclude, policy) = (Exclude::new([""; 0]).expect("none"), conflict::Policy::KeepBoth);
        let rules = Rules { exclude, compare: Compare::Stamps, max_delete: 50.0, jobs: 1, policy, keep };
        let root = self.root();
        let history = Arc::new(History::open(&root, &root).expect("a history"));
        let hands = (Thinner::open(&root).expect("its folders"), history);
        Work::new(hands, Arc::new(InForce::new(rules)), Arc::default(), Box::new(|_, _| {}))
    }

    fn lines(&self) -> Vec<Line> {
        lines(self.top.path())
    }

    /// The ages of what is left of a file.
    fn ages(&self, name: &str) -> Vec<i64> {
        let of_it = |line: &Line| line.path == path(name) && matches!(line.event, Event::Updated { .. });
        self.lines().iter().filter(|line| of_it(line)).map(|line| self.now - line.at.sec).collect()
    }

    /// What is kept is what the lines name, and times rise; returns how many versions there are.
    #[track_caller]
    fn check(&self) -> usize {
        let lines = self.lines();
        assert!(lines.windows(2).all(|two| two[0].at < two[1].at), "{lines:#?}");
        let named: BTreeSet<PathBuf> =
            lines.iter().filter_map(|line| line.event.kept()).map(|kept| kept.to_path(&self.versions())).collect();
        let there = files(&self.versions());
        assert_eq!(named, there);
        there.len()
    }
}

fn lines(top: &Path) -> Vec<Line> {
    let folder = reading::folder(&Root::open(top).expect("a root")).expect("a journal");
    let names = reading::segments(folder.as_fd()).expect("its files");
    names.iter().flat_map(|name| reading::lines(folder.as_fd(), name).expect("its lines")).collect()
}

fn files(top: &Path) -> BTreeSet<PathBuf> {
    let all = walkdir::WalkDir::new(top).min_depth(1).into_iter().map(|entry| entry.expect("walked"));
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn told(past: &Past) -> Vec<(i64, Event)> {
    let marks = past.lines().into_iter().filter(|line| matches!(line.event, Event::Since | Event::Gap));
    marks.map(|line| (past.now - line.at.sec, line.event)).collect()
}

#[test]
fn what_is_too_old_goes_and_what_is_told_begins_later() {
    let mut past = Past::new();
    past.say(50 * DAY, ".", Event::Since);
    for age in [40 * DAY, 35 * DAY, 31 * DAY, 29 * DAY, DAY, 60] {
        past.update(age, "d/a.txt");
    }
    past.update(1, "b");
    fs::create_dir_all(past.versions().join("gone")).expect("made");
    let mut work = past.work("30d", (None, None));
    work.pass(&mut || true).expect("done");
    assert_eq!(past.ages("d/a.txt"), [29 * DAY, DAY, 60]);
    assert_eq!((past.check(), told(&past)), (4, vec![(31 * DAY, Event::Since)]));
    let due = work.due().expect("something is left").as_secs() as i64;
    assert!((due - DAY).abs() < 60, "{due}");
    let before = past.lines();
    work.pass(&mut || true).expect("done");
    assert_eq!(past.lines(), before);
    // Everything, the file that is written among them.
    let mut work = past.work("1ms", (None, None));
    std::thread::sleep(Duration::from_millis(1100));
    work.pass(&mut || true).expect("done");
    assert_eq!((past.check(), told(&past).len(), past.lines().len()), (0, 1, 1));
    assert!(files(&past.versions()).is_empty() && !past.versions().join("d").exists(), "empty folders go, too");
}

#[test]
fn a_gap_that_is_cut_through_stays_one() {
    let mut past = Past::new();
    past.say(50 * DAY, ".", Event::Since);
    past.update(40 * DAY, "a");
    past.say(35 * DAY, ".", Event::Gap);
    past.say(20 * DAY, ".", Event::Since);
    past.update(10 * DAY, "a");
    past.work("30d", (None, None)).pass(&mut || true).expect("done");
    assert_eq!(told(&past), [(35 * DAY, Event::Gap), (20 * DAY, Event::Since)]);
    assert_eq!(past.check(), 1);
}

/// A file is updated every ten minutes, by a run of its own.
fn three_days() -> Past {
    let mut past = Past::new();
    past.say(40 * DAY, ".", Event::Since);
    for age in (1..3 * 24 * 6).rev().map(|step| step * 600 - 300) {
        past.update(age, "a");
        past.say(age, ".", Event::Ended);
        past.say(age, ".", Event::Began);
    }
    past
}

#[test]
fn what_goes_by_stages_is_noted() {
    let past = three_days();
    let all = past.lines();
    let mut work = past.work("1h: all, 1d: hourly, 30d: daily", (None, None));
    work.pass(&mut || true).expect("done");
    every_gap_is_noted(&all, &past.lines());
    // Hours become days.
    past.work("1s: all, 30d: daily", (None, None)).pass(&mut || true).expect("done");
    every_gap_is_noted(&all, &past.lines());
    let left_by_days = past.ages("a").len();
    assert!((3..=5).contains(&left_by_days), "{left_by_days}");
}

/// For each change that is told no more, a line says since when, and up to when, not everything is.
fn every_gap_is_noted(before: &[Line], after: &[Line]) {
    let change = |line: &&Line| matches!(line.event, Event::Updated { .. });
    let notes: Vec<(Time, Time)> = after
        .iter()
        .filter_map(|line| if let Event::Thinned { from, to } = line.event { Some((from, to)) } else { None })
        .collect();
    for gone in before.iter().filter(change).filter(|line| !after.contains(line)) {
        let has = |(from, to): &(Time, Time)| *from < gone.at && gone.at <= *to && gone.at.sec - from.sec <= DAY;
        assert!(notes.iter().any(has), "{:?}: {notes:?}", gone.at);
    }
    for (from, to) in notes {
        let is_first = |line: &&Line| from <= line.at && line.at <= to;
        assert!(after.iter().filter(change).any(|line| is_first(&line)), "{from:?}: its first is told");
        let begins = shown_time(from);
        assert!(begins.ends_with(":00:00"), "{begins}");
    }
}

#[test]
fn stages_leave_the_first_of_each_period() {
    let past = three_days();
    let mut work = past.work("1h: all, 1d: hourly, 30d: daily", (None, None));
    work.pass(&mut || true).expect("done");
    let left = past.ages("a");
    let count = |from: i64, upto: i64| left.iter().filter(|age| (from..upto).contains(*age)).count();
    assert_eq!(count(0, HOUR), 6, "{left:?}");
    assert!((22..=25).contains(&count(HOUR + 1, DAY)), "{left:?}");
    assert!((2..=4).contains(&count(DAY + 1, 40 * DAY)), "{left:?}");
    assert_eq!(past.check(), left.len());
    let runs = past.lines().iter().filter(|line| line.event == Event::Began).count();
    assert!(runs < 120, "{runs} beginnings of runs");
    let before = past.lines();
    work.pass(&mut || true).expect("done");
    past.work("1h: all, 1d: hourly, 30d: daily", (None, None)).pass(&mut || true).expect("done");
    assert_eq!(past.lines()[..before.len()], before);
}

#[test]
fn the_oldest_goes_first_where_there_is_a_bound() {
    let mut past = Past::new();
    past.say(HOUR * 100, ".", Event::Since);
    (0..100).rev().for_each(|n| past.update(n * HOUR / 2 + 1, "a"));
    let work = |max| past.work("1y", (Some(max), None)).pass(&mut || true).expect("done");
    work(1 << 40);
    assert_eq!(past.check(), 100);
    work(50 * SIZE as u64);
    let left = past.ages("a");
    let is_newest = left.iter().enumerate().all(|(at, age)| *age == (left.len() - 1 - at) as i64 * HOUR / 2 + 1);
    assert!((35..=48).contains(&left.len()) && is_newest, "{left:?}");
    assert_eq!((past.check(), told(&past).len()), (left.len(), 1));
    work(1);
    assert_eq!((past.check(), told(&past).len()), (0, 1));
}

#[test]
fn room_is_made_as_far_as_it_is_needed_and_never_in_vain() {
    let mut past = Past::new();
    past.say(HOUR * 100, ".", Event::Since);
    (0..20).rev().for_each(|n| past.update(n * HOUR + 1, "a"));
    let mut work = past.work("1y", (None, Some(Room::Bytes(0))));
    let need = |versions: usize| Need { bytes: (versions * SIZE) as u64, count: 0 };
    let mut make = |need| work.make_room(need, &mut || true).expect("done");
    assert!(!make(need(21)) && !make(Need::default()));
    assert_eq!(past.check(), 20);
    assert!(make(need(5)));
    let left = past.check();
    assert!((14..=16).contains(&left), "{left}");
    assert!(make(Need { bytes: 0, count: 3 }));
    assert_eq!(past.check(), left - 3);
}

#[test]
fn files_with_several_names_are_counted_once_when_all_are_kept() {
    let mut past = Past::new();
    past.say(HOUR * 100, ".", Event::Since);
    let outside = past.top.path().join("outside");
    fs::write(&outside, [1; SIZE]).expect("written");
    for (name, age) in [("a", 20), ("b", 10)] {
        let kept = format!("{name}~1");
        fs::hard_link(&outside, past.versions().join(&kept)).expect("linked");
        past.say(age * HOUR, name, Event::Updated { kind: Kind::File, kept: Some(path(&kept)) });
    }
    past.update(5 * HOUR, "c");
    let mut work = past.work("1y", (None, Some(Room::Bytes(0))));
    work.pass(&mut || true).expect("done");
    let bytes = |work: &Work| work.keeping.figures().expect("counted").bytes;
    assert_eq!(bytes(&work), SIZE as u64, "one name is elsewhere");
    let need = |versions: usize| Need { bytes: (versions * SIZE) as u64, count: 0 };
    assert!(!work.make_room(need(2), &mut || true).expect("done"), "so that nothing goes in vain");
    fs::remove_file(&outside).expect("removed");
    work.forget();
    work.pass(&mut || true).expect("done");
    assert_eq!((bytes(&work), past.check()), (2 * SIZE as u64, 3));
    assert!(work.make_room(need(1), &mut || true).expect("done"));
    assert_eq!((bytes(&work), past.check()), (SIZE as u64, 1));
    assert!(work.make_room(need(1), &mut || true).expect("done"));
    assert_eq!((bytes(&work), past.check()), (0, 0));
}

#[test]
fn what_is_just_being_kept_is_looked_at_once_more() {
    let mut past = Past::new();
    past.say(HOUR, ".", Event::Since);
    let other = past.top.path().join("its name until the new version has it");
    fs::write(&other, [1; SIZE]).expect("written");
    fs::hard_link(&other, past.versions().join("a~1")).expect("linked");
    past.say(60, "a", Event::Updated { kind: Kind::File, kept: Some(path("a~1")) });
    let mut work = past.work("1y", (None, None));
    for bytes in [0, SIZE as u64] {
        work.pass(&mut || true).expect("done");
        assert_eq!(work.keeping.figures().expect("counted").bytes, bytes);
        let _ = fs::remove_file(&other);
    }
}

#[test]
fn what_no_line_names_goes_and_nothing_else() {
    let mut past = Past::new();
    past.say(HOUR, ".", Event::Since);
    past.update(60, "d/a");
    past.update(50, "b");
    fs::create_dir_all(past.versions().join("x/y/z")).expect("made");
    fs::write(past.versions().join("x/y/orphan~1"), "x").expect("written");
    fs::write(past.versions().join("d/a~orphan"), "x").expect("written");
    let mut work = past.work("30d", (None, None));
    work.pass(&mut || true).expect("done");
    assert_eq!(files(&past.versions()).len(), 4, "it is not looked for without a reason");
    fs::write(past.journal().join("unsettled"), "").expect("written");
    work.pass(&mut || true).expect("done");
    assert_eq!(past.check(), 2);
    assert!(!past.versions().join("x").exists() && !past.journal().join("unsettled").exists());
    // A run that did not end is a reason, too.
    fs::write(past.versions().join("orphan"), "x").expect("written");
    past.work("30d", (None, None)).pass(&mut || true).expect("done");
    assert_eq!(past.check(), 2);
}

#[test]
fn lines_that_come_while_the_file_is_written_anew_stay() {
    let mut past = Past::new();
    past.say(HOUR, ".", Event::Since);
    (0..2000).rev().for_each(|n| past.say(30 + n / 100, "old", Event::Created { kind: Kind::File }));
    // Of a run that was interrupted, the next one would say what it has not made.
    past.say(25, ".", Event::Ended);
    let root = past.root();
    let history = Arc::new(History::open(&root, &root).expect("a history"));
    let mut work = past.work("10s", (None, None));
    work = work.with(Arc::clone(&history));
    let said = 600;
    let sayer = {
        let history = Arc::clone(&history);
        std::thread::spawn(move || {
            for n in 0..said {
                history.say(
                    &path(&format!("new/{n}")),
                    Event::Created { kind: Kind::File },
                    By::Cause(Cause::Event),
                    false,
                );
                if n % 3 == 0 {
                    history.put(n % 30 == 0).expect("written");
                }
            }
            history.put(true).expect("written");
        })
    };
    while !sayer.is_finished() {
        work.pass(&mut || true).expect("done");
        work.rewrite_all();
    }
    sayer.join().expect("said");
    work.pass(&mut || true).expect("done");
    let names: Vec<String> = past
        .lines()
        .iter()
        .filter(|line| line.path.is_within(&path("new")))
        .map(|line| format!("{:?}", line.path))
        .collect();
    let all: Vec<String> = (0..said).map(|n| format!("{:?}", path(&format!("new/{n}")))).collect();
    assert!(names == all, "{} of {said}", names.len());
    assert!(!past.lines().iter().any(|line| line.path == path("old")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Wherever it is stopped, no line names what is not there; and in the end all is as if it had not been stopped.
    #[test]
    fn a_stop_at_any_step_loses_nothing(
        ages in prop::collection::vec((1i64..20 * HOUR, 0usize..3), 1..60), steps in 1u32..400, max in prop::option::of(10u64..40),
    ) {
        let (mut one, mut other) = (Past::new(), Past::new());
        let mut ages = ages;
        ages.sort_unstable_by(|one, other| other.cmp(one));
        for past in [&mut one, &mut other] {
            past.now = past.now / HOUR * HOUR;
            past.say(100 * HOUR, ".", Event::Since);
            ages.iter().for_each(|(age, name)| past.update(*age, ["a", "d/b", "d/e/c"][*name]));
        }
        let (keep, bounds) = ("2h: all, 5h: hourly, 15h: daily", (max.map(|n| n * SIZE as u64), None));
        one.work(keep, bounds).pass(&mut || true).expect("done");
        for round in 1.. {
            // Faster than the journal grows by the beginnings of these runs.
            let mut left = steps * round * round;
            let mut work = other.work(keep, bounds);
            let result = work.pass(&mut || { left = left.saturating_sub(1); left > 0 });
            let named: BTreeSet<PathBuf> = other.lines().iter().filter_map(|line| line.event.kept()).map(|kept| kept.to_path(&other.versions())).collect();
            prop_assert!(named.is_subset(&files(&other.versions())));
            match result {
                Ok(()) => break,
                Err(error) => prop_assert_eq!(error, Errno::CANCELED),
            }
        }
        one.check();
        other.check();
        let left = |past: &Past| -> Vec<(i64, RelPath)> {
            let lines = past.lines();
            lines.into_iter().filter(|line| line.event.kept().is_some()).map(|line| (line.at.sec - past.now, line.path)).collect()
        };
        if max.is_none() {
            prop_assert_eq!(left(&one), left(&other));
        }
    }
}
