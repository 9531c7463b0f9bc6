//! `status` for people and programs: latency, many services, and following what changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::disk;
use crate::fixture::{Pair, Running, eventually, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// `status --follow`, writing to a file. Ended with the test.
struct Follower {
    child: Child,
    text: PathBuf,
}

impl Follower {
    fn start(mut command: Command, text: &Path) -> Self {
        let out = File::create(text).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().expect("start");
        Self { child, text: text.into() }
    }

    /// Waits for a line with these words after the first `seen`; gives how many lines there are with it.
    #[track_caller]
    fn wait_for(&self, words: &str, seen: usize) -> usize {
        eventually(PATIENCE, &format!("a line with {words:?}"), || {
            let text = fs::read_to_string(&self.text).expect("read");
            let found = text.lines().skip(seen).position(|line| line.contains(words));
            found.map(|at| seen + at + 1)
        })
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.text).expect("read").lines().map(String::from).collect()
    }

    /// Ctrl-C.
    fn end(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("signal");
        eventually(PATIENCE, "it ends", || self.child.try_wait().expect("wait")).code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn latency(status: &Value) -> (u64, [Option<f64>; 3]) {
    let latency = &status["latency"];
    let count = latency["count"].as_u64().unwrap_or_else(|| panic!("no count: {status}"));
    (count, ["median_ms", "p99_ms", "longest_ms"].map(|field| latency[field].as_f64()))
}

#[test]
fn latency_is_known_of_what_events_told_and_of_nothing_else() {
    let pair = Pair::of("a \"x\"\n b/c \"y\"");
    let outside = pair.top().join("outside");
    disk::hard_link(&pair.source().join("a"), &outside);
    let watch = pair.watch(&[]);
    assert_eq!(latency(&watch.status()), (0, [None; 3]), "the first sweep is no event");

    disk::write(&pair.source().join("b/new"), "n");
    disk::append(&pair.source().join("b/c"), b"more");
    watch.flush();
    let (count, times) = latency(&watch.status());
    assert!(count >= 2, "{}", watch.status());
    let [median, p99, longest] = times.map(|time| time.expect("a time"));
    assert!(0.0 < median && median <= p99 && p99 <= longest, "{times:?}");

    // Nobody hears of this; a sweep finds it.
    disk::append(&outside, b"unheard");
    watch.client("sweep", &[]).expect_code(0);
    let replica = pair.replica().join("a");
    eventually(PATIENCE, "the sweep finds it", || {
        fs::read_to_string(&replica).is_ok_and(|text| text == "xunheard").then_some(())
    });
    watch.wait_for_state("in_sync");
    assert_eq!(latency(&watch.status()).0, count, "{}", watch.status());
}

#[test]
fn storm_that_no_set_holds_by_name_is_measured_too() {
    let pair = Pair::of("folder/");
    let watch = pair.watch(&[]);
    for i in 0..3_000 {
        disk::write(&pair.source().join(format!("folder/{i}")), "x");
    }
    watch.flush();
    let status = watch.status();
    let (count, _) = latency(&status);
    assert!(count >= 3_000, "{status}");
    assert!(count <= status["totals"]["files_copied"].as_u64().expect("a number") + 100, "{status}");
}

#[test]
fn status_has_the_documented_fields_of_the_program_and_its_sweeps() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let status = watch.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"), "{status}");
    for field in ["sweep", "failing_paths", "uncertain_files", "sweeps", "started"] {
        assert!(status.get(field).is_some(), "no {field}: {status}");
    }
    assert!(status["sweep"].is_null() && status["sweeps"] == 1, "{status}");
}

#[test]
fn several_services_are_a_table() {
    let pair = Pair::of("a \"x\"");
    let second = pair.top().join("second");
    fs::create_dir(&second).expect("folder");
    let mut other = pair.command(&["watch", "--name", "other"]);
    other.arg(&second).arg(pair.top().join("second-replica"));
    let _photos = Running::start(pair.on_both("watch", &["--name", "photos"]));
    let other = Running::start(other);
    for name in ["photos", "other"] {
        eventually(PATIENCE, "the service is in sync", || {
            let ran = pair.run(&["status", "--json", "--name", name]);
            ran.stdout.contains("\"in_sync\"").then_some(())
        });
    }
    let table = pair.run(&["status"]).expect_code(0).stdout;
    // Others may run on this machine.
    let row = |table: &str, name: &str| {
        let words = table.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
        words.into_iter().find(|words| words.first().is_some_and(|first| first == name)).unwrap_or_default()
    };
    assert_eq!(row(&table, "NAME"), ["NAME", "STATE", "PENDING", "LAG", "SOURCE", "REPLICA"], "{table}");
    assert_eq!(row(&table, "other")[..5], ["other", "in", "sync", "0", "-"], "{table}");
    assert!(row(&table, "photos")[5].ends_with("/source") && row(&table, "photos")[6].ends_with("/replica"), "{table}");

    // A program that expects one object is not given something else.
    let refused = pair.run(&["status", "--json"]).expect_code(2);
    assert!(refused.stderr.contains("--all") && refused.stdout.is_empty(), "{}", refused.text());
    let all = pair.run(&["status", "--all", "--json"]).expect_code(0).stdout;
    let of = |json: &str, name: &str| -> Value {
        let all: Value = serde_json::from_str(json).expect("JSON");
        let all = all.as_array().expect("an array");
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {json}")).clone()
    };
    assert!(of(&all, "photos")["pid"].is_u64() && of(&all, "other")["state"] == "in_sync", "{all}");

    // Killed: it leaves its socket behind.
    drop(other);
    let table = pair.run(&["status", "--all"]).expect_code(0).stdout;
    assert_eq!(row(&table, "other")[..3], ["other", "no", "answer"], "{table}");
    let all = pair.run(&["status", "--all", "--json"]).expect_code(0).stdout;
    assert!(of(&all, "other")["state"] == "unreachable" && of(&all, "other")["reason"].is_string(), "{all}");
}

#[test]
fn following_on_a_pipe_is_a_line_for_each_change_and_tells_of_an_end() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let mut command = pair.command(&["status", "--follow", "--control"]);
    command.arg(pair.control());
    let follower = Follower::start(command, &pair.top().join("followed.txt"));
    let seen = follower.wait_for("in sync; nothing pending; 1 copied (1 B)", 0);
    disk::write(&pair.source().join("b"), "yy");
    let seen = follower.wait_for("2 copied (3 B)", seen);
    watch.stop();
    let seen = follower.wait_for("no answer: no service answers at ", seen);
    let _watch = pair.watch(&[]);
    follower.wait_for("back: ", seen);
    let lines = follower.lines();
    assert!(lines.windows(2).all(|pair| pair[0][19..] != pair[1][19..]), "said twice: {lines:#?}");
    assert_eq!(follower.end(), Some(0));
}

#[test]
fn following_as_json_is_an_object_a_line() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let mut command = pair.command(&["status", "--follow", "--json", "--control"]);
    command.arg(pair.control());
    let follower = Follower::start(command, &pair.top().join("followed.txt"));
    let seen = follower.wait_for("\"state\":\"in_sync\"", 0);
    watch.stop();
    follower.wait_for("\"state\":\"unreachable\"", seen);
    for line in follower.lines() {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["state"].is_string(), "{line}");
    }
    assert_eq!(follower.end(), Some(0));
}

#[test]
fn following_ends_when_nobody_reads_any_more() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    let command = pair.command(&["status", "--follow", "--control"]);
    let mut whole = Command::new("sh");
    whole.args(["-c", "\"$@\" | head -n 1", "sh"]).arg(command.get_program()).args(command.get_args());
    whole.arg(pair.control());
    let ran = run(whole);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{}", ran.text());
}
