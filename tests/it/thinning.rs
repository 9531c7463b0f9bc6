//! How long what was lost is kept: histories of any age, made line by line, and what the program leaves of them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::disk;
use crate::fixture::{Pair, Watch, eventually};

const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// The history of a pair's replica, to be written and read.
pub struct Past {
    now: i64,
    replica: PathBuf,
    count: u32,
}

impl Past {
    /// A history that begins so many seconds ago.
    pub fn of(pair: &Pair, age: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let mut past = Self { now: i64::try_from(now).expect("a time"), replica: pair.replica(), count: 0 };
        for folder in [past.journal(), past.versions()] {
            fs::create_dir_all(folder).expect("made");
        }
        past.say(age, "since\t.");
        past
    }

    fn journal(&self) -> PathBuf {
        self.replica.join(".driftless/journal")
    }

    pub fn versions(&self) -> PathBuf {
        self.replica.join(".driftless/versions")
    }

    /// Adds a line: a word, a path and more. Each is younger than the one before.
    pub fn say(&mut self, age: i64, what: &str) {
        self.count += 1;
        let at = self.now - age;
        let text = format!("{at}.{:06}000\t{what}\tby=event", self.count);
        let sum =
            text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let name = jiff::Timestamp::from_second(at).expect("a time").strftime("%Y-%m-%dT%H").to_string();
        let file = OpenOptions::new().create(true).append(true).open(self.journal().join(name));
        file.expect("open").write_all(format!("{text}\t{sum:016x}\n").as_bytes()).expect("written");
    }

    /// A file was overwritten, and its contents, of so many bytes, are kept.
    pub fn update(&mut self, age: i64, path: &str, bytes: usize) {
        let kept = format!("{path}~{}", self.count);
        let file = self.versions().join(&kept);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, vec![1; bytes]).expect("written");
        self.say(age, &format!("updated\t{path}\tkind=file\tkept={kept}"));
    }

    /// The journal's lines that have this word.
    pub fn lines(&self, word: &str) -> Vec<String> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(self.journal()).expect("a journal").map(|e| e.expect("entry").path()).collect();
        names.sort();
        let texts = names.iter().map(|name| fs::read_to_string(name).unwrap_or_default());
        let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_string).collect::<Vec<_>>()).collect();
        lines.into_iter().filter(|line| line.split('\t').nth(1) == Some(word)).collect()
    }

    /// The ages of the updates that are told, in whole seconds as they were said.
    pub fn ages(&self) -> Vec<i64> {
        let lines = self.lines("updated");
        lines
            .iter()
            .map(|line| self.now - line.split('.').next().expect("seconds").parse::<i64>().expect("a number"))
            .collect()
    }

    /// The files that lines name, and those that are there.
    fn named_and_there(&self) -> [BTreeSet<PathBuf>; 2] {
        let lines = [self.lines("updated"), self.lines("removed")].concat();
        let kept = lines.iter().filter_map(|line| line.split('\t').find_map(|field| field.strip_prefix("kept=")));
        let named = kept.map(|kept| self.versions().join(kept)).collect();
        let all = walkdir::WalkDir::new(self.versions()).into_iter().filter_map(Result::ok);
        [named, all.filter(|e| e.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()]
    }

    /// What is kept, which is what the lines name.
    #[track_caller]
    pub fn kept(&self) -> usize {
        let [named, there] = self.named_and_there();
        assert_eq!(named, there);
        named.len()
    }
}

#[test]
fn sync_lets_go_what_is_too_old_and_thins_out_the_rest() {
    let pair = Pair::of("a \"x\"");
    let mut past = Past::of(&pair, 90 * DAY);
    for age in (1..80).rev() {
        past.update(age * DAY / 2 + 60, "old/deep/a.txt", 10);
    }
    pair.sync(&["--keep-versions", "2d: all, 10d: daily, 30d: weekly"]);
    let ages = past.ages();
    let between = |from: i64, upto: i64| ages.iter().filter(|age| (from * DAY..upto * DAY).contains(*age)).count();
    assert_eq!(between(0, 2), 3, "{ages:?}");
    assert!((8..=9).contains(&between(2, 10)) && (3..=6).contains(&between(10, 30)), "{ages:?}");
    assert_eq!(between(30, 90), 0);
    let since = past.lines("since");
    assert!(since.len() == 1, "{since:?}");
    pair.sync(&["--keep", "1d"]);
    assert_eq!(past.ages(), [DAY / 2 + 60]);
    assert_eq!(past.kept(), 1);
    // Without the option nothing is given up.
    pair.sync(&[]);
    assert_eq!(past.kept(), 1);
}

#[test]
fn a_time_of_which_not_all_is_kept_is_said_to_be_one() {
    let pair = Pair::of("a \"x\"\n b \"x\"");
    pair.sync(&[]);
    let mut past = Past::of(&pair, 3 * DAY);
    for age in (150..180).rev() {
        past.update(age * 600, "a", usize::try_from(age).expect("a size"));
    }
    pair.sync(&["--keep", "1h: all, 1d: hourly, 30d: daily"]);
    assert!((1..=3).contains(&past.ages().len()), "{:?}", past.ages());
    let notes = past.lines("thinned");
    let note = notes.last().expect("a note");
    let time = |key: &str| {
        let field = note.split('\t').find_map(|field| field.strip_prefix(key)).expect("a time");
        let (sec, nsec) = field.split_once('.').expect("a time");
        (sec.parse::<i64>().expect("seconds"), format!("@{sec}.{nsec}"))
    };
    let ((_, from), (last, to)) = (time("from="), time("to="));
    let restore = |path: &str, at: &str| {
        let out = pair.top().join("out");
        let said = pair.restore_to(path, at, &out).expect_code(0).stderr;
        fs::remove_dir_all(&out).or_else(|_| fs::remove_file(&out)).expect("it is there");
        said
    };
    let within = format!("@{}", last - 60);
    for path in ["a", "."] {
        let said = restore(path, &within);
        assert!(said.contains("not everything is kept of what changed between "), "{path}: {said}");
    }
    // What did not change there is exact, and so are the times that it names.
    assert_eq!(restore("b", &within), "");
    for exact in [&from, &to, "1h ago"] {
        assert_eq!(restore("a", exact), "", "{exact}");
    }
}

#[test]
fn a_file_of_the_journal_that_is_missing_is_noticed() {
    let pair = Pair::of("a \"x\"");
    pair.sync(&[]);
    let mut past = Past::of(&pair, 3 * HOUR);
    past.update(2 * HOUR, "a", 10);
    pair.sync(&["--keep", "30d"]);
    let restore = |at: &str, code: i32| {
        let out = pair.top().join(format!("at {at}"));
        let said = pair.restore_to("a", at, &out).expect_code(code).stderr;
        (fs::read(out).unwrap_or_default().len(), said)
    };
    assert_eq!(restore("150m ago", 0), (10, String::new()));
    let listed = fs::read_dir(past.journal()).expect("a journal");
    let mut names: Vec<PathBuf> = listed.map(|entry| entry.expect("listed").path()).collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    fs::remove_file(&names[1]).expect("removed");
    for at in ["150m ago", "130m ago"] {
        let (_, said) = restore(at, 2);
        assert!(said.contains(" is missing, and everything is told from "), "{said}");
    }
    let ran = pair.run(&["history", "a", "--replica", pair.replica().to_str().expect("text")]).expect_code(1);
    assert!(ran.stderr.contains("of the journal is missing"), "{}", ran.stderr);
    assert_eq!(restore("0s ago", 0), (1, String::new()));
}

#[test]
fn what_goes_by_its_age_is_not_missed() {
    let pair = Pair::of("a \"x\"");
    pair.sync(&[]);
    let mut past = Past::of(&pair, 9 * HOUR);
    past.update(8 * HOUR, "a", 10);
    // The program names the file before in each that it begins.
    pair.sync(&["--keep", "30d"]);
    assert_eq!(past.lines("follows").len(), 1);
    for keep in ["7h", "1ms"] {
        pair.sync(&["--keep", keep]);
        assert_eq!((past.lines("follows").len(), past.ages().len()), (0, 0), "{keep}");
        let ran = pair.run(&["history", "a", "--replica", pair.replica().to_str().expect("text")]);
        assert_eq!((ran.code, ran.stderr.contains("is missing")), (Some(0), false), "{keep}: {}", ran.text());
    }
}

#[test]
fn the_service_lets_go_when_it_is_time_and_tells_what_it_keeps() {
    let pair = Pair::of("a \"x\"");
    let mut past = Past::of(&pair, 100);
    (0..20).for_each(|n| past.update(10, &format!("d/{n}"), 5000));
    let watch = pair.watch(&["--keep-versions", "3s", "--keep-max", "10GB"]);
    let kept = || watch.status()["kept"].clone();
    eventually(Duration::from_secs(60), "it is counted", || kept()["versions"].as_u64());
    assert_eq!((kept()["policy"].as_str(), kept()["max_bytes"].as_u64()), (Some("3s"), Some(10_000_000_000)));
    eventually(Duration::from_secs(60), "the old ones go", || past.ages().is_empty().then_some(()));
    eventually(Duration::from_secs(60), "which is told", || (kept()["versions"] == 0).then_some(()));
    assert!(
        kept()["since"].is_string() && kept()["journal_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "{}",
        kept()
    );
    assert!(watch.client("status", &[]).text().contains("Kept        0 versions (0 B), everything since"));
    // What comes later, goes later: it is in the file that is written to.
    past.update(-1, "late", 5000);
    pair_changes(&pair, &watch);
    // Its line goes first.
    let is_gone = || past.named_and_there().iter().all(BTreeSet::is_empty).then_some(());
    eventually(Duration::from_secs(60), "and what comes later", is_gone);
    watch.stop();
}

/// The service looks at what has come when it has changed something.
fn pair_changes(pair: &Pair, watch: &Watch) {
    disk::write(&pair.source().join("new"), "x");
    watch.flush();
}

#[test]
fn a_kill_while_it_lets_go_leaves_no_line_without_its_version() {
    let pair = Pair::of("a \"x\"");
    pair.sync(&[]);
    let mut past = Past::of(&pair, 50 * DAY);
    (1..600).rev().for_each(|n| past.update(n * DAY / 15, &format!("d/{}", n % 5), 10));
    for pause in [20, 60, 120] {
        let watch = pair.start_watch(&["--keep-versions", "1d: all, 30d: daily"]);
        watch.wait_for_answer();
        std::thread::sleep(Duration::from_millis(pause));
        watch.kill();
        let lines = past.lines("updated");
        let kept = lines.iter().filter_map(|line| line.split('\t').find_map(|field| field.strip_prefix("kept=")));
        assert!(kept.into_iter().all(|kept| past.versions().join(kept).exists()), "after {pause} ms");
    }
    pair.sync(&["--keep-versions", "1d: all, 30d: daily"]);
    let left = past.kept();
    assert!((14 + 29..=14 + 5 * 31).contains(&left), "{left}");
    assert_eq!(past.lines("since").len(), 1);
}
