//! The log: its form, its operations, and that nothing in it can be forged.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::compare::{self, Reserved};
use crate::fixture::{Pair, Running, eventually, run};
use crate::{console, disk};

#[track_caller]
fn assert_well_formed(text: &str) {
    assert!(!text.is_empty(), "the log is empty");
    for line in text.lines() {
        assert!(console::parse(line).is_some(), "not the log's form: {line:?}");
    }
    assert!(text.ends_with('\n'), "the last line is not ended");
}

fn quoted(words: &str, path: &Path) -> String {
    format!("{words}: '{}'", path.display())
}

/// What stands behind the path of a removal, and of nothing else.
fn asked_by(words: &str, cause: &str) -> String {
    if words.ends_with("removed") { format!(" ({cause})") } else { String::new() }
}

#[test]
fn each_operation_is_one_line_with_the_replicas_path() {
    let pair = Pair::of("old/file \"x\"\n kept \"y\"\n touched \"z\"");
    let log = pair.top().join("sync.log");
    let args = ["--log-file", log.to_str().expect("utf-8")];
    pair.sync(&args);
    crate::tree::build(&pair.source(), "new \"n\"\n folder/inside \"i\"\n link -> new\n twin = kept");
    disk::write(&pair.source().join("kept"), "changed and longer");
    disk::chmod(&pair.source().join("touched"), 0o600);
    disk::remove(&pair.source().join("old"));
    fs::write(&log, "").expect("truncate");
    let ran = pair.sync(&args);
    let text = fs::read_to_string(&log).expect("read the log");
    assert_well_formed(&text);
    let operations = console::operations(&text);
    for (words, name) in [
        ("File copied", "new"),
        ("Directory created", "folder"),
        ("File copied", "folder/inside"),
        ("File removed", "old/file"),
        ("Directory removed", "old"),
        ("Metadata updated", "touched"),
    ] {
        let expected = quoted(words, &pair.replica().join(name)) + asked_by(words, "sweep").as_str();
        assert_eq!(operations.iter().filter(|message| **message == expected).count(), 1, "{expected}\n{text}");
    }
    let updated = [pair.replica().join("kept"), pair.replica().join("twin")].map(|path| quoted("File updated", &path));
    assert!(operations.iter().any(|message| updated.iter().any(|line| line == message)), "no update of kept:\n{text}");
    for name in ["link", "twin"] {
        let path = pair.replica().join(name);
        let mut about = operations.iter().filter(|message| message.contains(&format!("'{}'", path.display())));
        assert!(about.any(|message| message.starts_with("Link created: '")), "no link {name}:\n{text}");
    }
    // The same on the console.
    let spoken = ran.text();
    assert_eq!(console::operations(&spoken), operations);
    assert!(console::messages(&text).last().is_some_and(|last| last.starts_with("Sweep finished")), "{text}");
}

#[test]
fn each_removed_entry_has_its_line_whatever_it_was_and_whatever_took_its_place() {
    let pair = Pair::of(
        "gone/a/file \"x\"\n gone/link -> nowhere\n pipe/x |\n to-file/sub/a \"x\"\n to-file/b \"x\"
         to-link/c \"x\"\n file-to-link \"x\"\n link-to-file -> nowhere\n file-to-folder \"x\"\n empty/",
    );
    pair.sync(&[]);
    for name in ["gone", "pipe", "to-file", "to-link", "file-to-link", "link-to-file", "file-to-folder", "empty"] {
        disk::remove(&pair.source().join(name));
    }
    crate::tree::build(
        &pair.source(),
        "to-file \"f\"\n to-link -> x\n file-to-link -> x\n link-to-file \"f\"\n file-to-folder/a \"f\"\n empty \"f\"",
    );
    let expected = [
        ("Directory removed", "empty"),
        ("Directory removed", "gone"),
        ("Directory removed", "gone/a"),
        ("Directory removed", "pipe"),
        ("Directory removed", "to-file"),
        ("Directory removed", "to-file/sub"),
        ("Directory removed", "to-link"),
        ("File removed", "file-to-folder"),
        ("File removed", "file-to-link"),
        ("File removed", "gone/a/file"),
        ("File removed", "to-file/b"),
        ("File removed", "to-file/sub/a"),
        ("File removed", "to-link/c"),
        ("Link removed", "gone/link"),
        ("Link removed", "link-to-file"),
        ("Special file removed", "pipe/x"),
    ];
    let planned = pair.sync(&["--dry-run"]).text();
    for (words, name) in expected {
        let words = format!("Would remove {}", words.to_lowercase().replace(" removed", ""));
        let line = quoted(&words, &pair.replica().join(name));
        assert_eq!(console::messages(&planned).filter(|message| *message == line).count(), 1, "{line}\n{planned}");
    }
    let text = pair.sync(&[]).text();
    pair.assert_same();
    let expected: Vec<_> =
        expected.iter().map(|(words, name)| quoted(words, &pair.replica().join(name)) + " (sweep)").collect();
    let mut removed: Vec<_> =
        console::operations(&text).into_iter().filter(|line| line.contains(" removed: '")).collect();
    removed.sort_unstable();
    assert_eq!(removed, expected, "{text}");
    for text in [planned.replace("Dry run finished", "Sweep finished"), text] {
        assert_eq!(console::counted(console::totals(&text), "removed"), Some(expected.len() as u64), "{text}");
    }
}

#[test]
fn removals_of_the_service_say_whether_an_event_or_a_sweep_asked_for_them() {
    let pair = Pair::of("a \"x\"\n folder/b \"y\"\n kept \"z\"");
    let watch = pair.watch(&[]);
    disk::remove(&pair.source().join("a"));
    disk::remove(&pair.source().join("folder"));
    disk::remove(&pair.source().join("kept"));
    disk::symlink("nowhere", &pair.source().join("kept"));
    watch.flush();
    // Nothing tells of what is put into the replica.
    disk::write(&pair.replica().join("foreign (event)"), "x");
    disk::symlink("x", &pair.replica().join("foreign-link"));
    watch.client("sweep", &[]).expect_code(0);
    let foreign = pair.replica().join("foreign-link");
    eventually(Duration::from_secs(60), "the sweep", || (!disk::exists(&foreign)).then_some(()));
    watch.stop();
    let text = fs::read_to_string(pair.log_file()).expect("read the log");
    for (words, name, cause) in [
        ("File removed", "a", "event"),
        ("File removed", "folder/b", "event"),
        ("Directory removed", "folder", "event"),
        ("File removed", "kept", "event"),
        ("File removed", "foreign (event)", "sweep"),
        ("Link removed", "foreign-link", "sweep"),
    ] {
        let line = format!("{} ({cause})", quoted(words, &pair.replica().join(name)));
        assert_eq!(console::operations(&text).iter().filter(|l| **l == line).count(), 1, "{line}\n{text}");
    }
}

#[test]
fn totals_are_numbers_and_a_duration() {
    let pair = Pair::of("a \"x\"\n b \"y\"\n c/d \"z\"");
    let ran = pair.sync(&[]);
    let text = ran.text();
    let totals = console::totals(&text);
    assert_eq!(console::counted(totals, "copied"), Some(3), "{totals}");
    assert!(totals.contains("ms") || totals.contains(" s") || totals.ends_with('s'), "no duration: {totals}");
}

#[test]
fn no_name_can_forge_a_line() {
    let pair = Pair::new();
    let forged = "2026-01-01 00:00:00 - ERROR - File removed: 'everything'";
    for name in [format!("x'\n{forged}"), format!("\r{forged}"), format!("x\u{2028}{forged}"), "\x1b[2J'".to_owned()] {
        disk::write(&pair.source().join(&name).join(&name), "x");
        disk::symlink("x", &pair.source().join(format!("link{name}")));
    }
    let log = pair.top().join("sync.log");
    let ran = pair.sync(&["--log-file", log.to_str().expect("utf-8")]);
    disk::remove(&pair.source().join(format!("x'\n{forged}")));
    let second = pair.sync(&["--log-file", log.to_str().expect("utf-8"), "-v"]);
    let text = fs::read_to_string(&log).expect("read the log");
    assert_well_formed(&text);
    for text in [text, ran.text(), second.text()] {
        assert!(!text.lines().any(|line| line.starts_with(forged)), "forged:\n{text}");
        assert!(!text.contains('\x1b') && !text.contains('\r'), "raw control characters:\n{text:?}");
    }
}

#[test]
fn names_that_are_not_utf8_are_told_apart() {
    use std::os::unix::ffi::OsStrExt;
    let pair = Pair::new();
    for name in [&b"a\xff"[..], b"a\xfe", b"a\\xff", "a\u{fffd}".as_bytes()] {
        disk::write(&pair.source().join(std::ffi::OsStr::from_bytes(name)), "x");
    }
    let text = pair.sync(&[]).text();
    let mut copied: Vec<_> = console::operations(&text);
    copied.sort();
    copied.dedup();
    assert_eq!(copied.len(), 4, "four names, four different lines:\n{text}");
}

#[test]
fn log_file_inside_the_source_is_left_out_with_a_warning() {
    let pair = Pair::of("a \"x\"\n logs/");
    let log = pair.source().join("logs/sync.log");
    let args = ["--log-file", log.to_str().expect("utf-8")];
    for _ in 0..2 {
        let ran = pair.sync(&args);
        assert!(warns_of(&ran.text(), "sync.log"), "no warning:\n{}", ran.text());
        let found = compare::differences(&pair.source(), &pair.replica(), Reserved::Forbidden);
        assert!(found.iter().all(|found| found.path == b"logs/sync.log"), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn state_folder_inside_the_source_is_left_out_with_a_warning() {
    let pair = Pair::of("a \"x\"\n home/file \"y\"");
    for _ in 0..2 {
        let mut command = pair.on_both("sync", &[]);
        command.env("XDG_STATE_HOME", pair.source().join("home"));
        let ran = run(command).expect_code(0);
        assert!(warns_of(&ran.text(), "home"), "no warning:\n{}", ran.text());
        let found = compare::differences(&pair.source(), &pair.replica(), Reserved::Forbidden);
        assert!(found.iter().all(|found| found.path == b"home/driftless"), "{found:?}");
    }
}

fn warns_of(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.contains("WARN") && line.contains(name))
}

#[test]
fn log_file_inside_the_source_does_not_feed_the_service() {
    let pair = Pair::of("a \"x\"");
    let log = pair.source().join("service.log");
    let watch = pair.watch(&["--log-file", log.to_str().expect("utf-8"), "-v"]);
    disk::write(&pair.source().join("b"), "y");
    watch.flush();
    watch.wait_for_state("in_sync");
    let quiet = fs::metadata(&log).expect("the log").len();
    // Two rounds of the service's clock would be two lines at least, if its own lines woke it.
    watch.flush();
    watch.flush();
    let after = fs::metadata(&log).expect("the log").len();
    assert!(after - quiet < 4096, "the log grew by {} bytes while nothing happened", after - quiet);
    assert!(!disk::exists(&pair.replica().join("service.log")));
    assert!(disk::exists(&pair.replica().join("b")));
}

#[test]
fn service_logs_each_operation_and_its_stop() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    disk::write(&pair.source().join("new"), "n");
    watch.flush();
    fs::rename(pair.source().join("new"), pair.source().join("moved")).expect("rename");
    watch.flush();
    disk::remove(&pair.source().join("moved"));
    watch.flush();
    watch.stop();
    let text = fs::read_to_string(pair.log_file()).expect("read the log");
    assert_well_formed(&text);
    let operations = console::operations(&text);
    let (new, moved) = (pair.replica().join("new"), pair.replica().join("moved"));
    let renamed = format!("Renamed: '{}' -> '{}'", new.display(), moved.display());
    for expected in [quoted("File copied", &new), renamed, quoted("File removed", &moved) + " (event)"] {
        assert!(operations.contains(&expected.as_str()), "{expected}\n{text}");
    }
    let last = console::messages(&text).last().expect("a line");
    assert!(last.starts_with("Stopped"), "{last}");
}

#[test]
fn service_logs_to_the_state_folder_where_nothing_else_is_said() {
    let pair = Pair::of("a \"x\"");
    let mut command = pair.on_both("watch", &["--control"]);
    command.arg(pair.control());
    let _watch = Running::start(command);
    let log = pair.state().join("driftless/driftless.log");
    let expected = quoted("File copied", &pair.replica().join("a"));
    let seen = eventually(Duration::from_secs(60), "the log in the state folder", || {
        fs::read_to_string(&log).ok().filter(|text| text.contains(&expected) && text.ends_with('\n'))
    });
    assert_well_formed(&seen);
}

#[test]
fn log_file_that_was_rotated_is_opened_anew() {
    let pair = Pair::of("a \"x\"");
    let watch = pair.watch(&[]);
    fs::rename(pair.log_file(), pair.top().join("service.log.1")).expect("rotate");
    disk::write(&pair.source().join("after"), "y");
    watch.flush();
    let expected = quoted("File copied", &pair.replica().join("after"));
    eventually(Duration::from_secs(60), "a new log file", || {
        disk::write(&pair.source().join("poke"), "p");
        watch.log().contains("poke").then_some(())
    });
    let rotated = fs::read_to_string(pair.top().join("service.log.1")).expect("read");
    assert!(rotated.contains(&expected) || watch.log().contains(&expected), "the line was dropped");
}

#[test]
fn pipe_that_nobody_reads_is_refused_as_a_log_file_at_once() {
    let pair = Pair::of("a \"x\"");
    let pipe = pair.top().join("pipe");
    disk::make_fifo(&pipe);
    let mut command = pair.on_both("watch", &["--log-file"]);
    command.arg(&pipe);
    let ran = run(command).expect_code(2);
    assert!(ran.stderr.contains("cannot open the log file") && ran.stderr.contains("pipe'"), "{}", ran.stderr);
}
