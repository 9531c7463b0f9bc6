//! What cannot be meant is refused: exit code 2, one clear line on stderr, and nothing is made.

use std::fs;
use std::process::Command;

use crate::disk;
use crate::fixture::{Pair, Ran, run, wrapped};

#[track_caller]
fn assert_refused(ran: Ran) -> String {
    let ran = ran.expect_code(2);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "not one line:\n{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("RUST_BACKTRACE"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("Os {") && !ran.stderr.contains("Error("), "for programmers only: {}", ran.stderr);
    lines[0].to_owned()
}

#[track_caller]
fn assert_nothing_made(pair: &Pair) {
    assert!(!disk::exists(&pair.replica()), "the replica was made");
    assert_eq!(fs::read_dir(pair.state()).expect("list").count(), 0, "state was written");
}

/// `sync SOURCE REPLICA` and `watch SOURCE REPLICA` with both spelled relative to the pair's folder.
fn refusals(pair: &Pair, source: &str, replica: &str) -> Vec<String> {
    ["sync", "watch"].map(|verb| assert_refused(pair.run(&[verb, source, replica]))).to_vec()
}

#[test]
fn log_that_cannot_be_written_is_refused_before_anything_is_made() {
    let pair = Pair::of("a \"x\"");
    disk::write(&pair.top().join("file"), "x");
    for log in ["file/log", "nowhere/log", "source"] {
        for verb in ["sync", "watch"] {
            let line = assert_refused(run(pair.on_both(verb, &["--log-file", log])));
            assert!(line.contains("log file") && line.contains("--log-file"), "{line}");
            assert_nothing_made(&pair);
        }
    }
}

#[test]
fn program_alone_says_what_there_is() {
    let pair = Pair::new();
    let ran = pair.run(&[]).expect_code(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("Usage:") && ran.stderr.contains("Examples:"), "{ran:?}");
}

#[test]
fn missing_source_is_refused() {
    let pair = Pair::new();
    for line in refusals(&pair, "no-such-folder", "replica") {
        assert!(line.contains("no-such-folder"), "{line}");
    }
    assert_nothing_made(&pair);
}

#[test]
fn source_that_is_a_file_is_refused() {
    let pair = Pair::of("file \"x\"");
    for line in refusals(&pair, "source/file", "replica") {
        assert!(line.contains("source/file"), "{line}");
    }
    assert_nothing_made(&pair);
}

#[test]
fn replica_that_is_a_file_is_refused() {
    let pair = Pair::of("file \"x\"");
    disk::write(&pair.replica(), "not a folder");
    refusals(&pair, "source", "replica");
    assert_eq!(fs::read_to_string(pair.replica()).expect("read"), "not a folder");
}

#[test]
fn replica_inside_the_source_is_refused() {
    let pair = Pair::of("folder/file \"x\"");
    for replica in ["source/folder", "source/new", "source/folder/../new", "./source//new"] {
        refusals(&pair, "source", replica);
    }
    assert!(!disk::exists(&pair.source().join("new")));
    assert_nothing_made(&pair);
}

#[test]
fn source_inside_the_replica_is_refused() {
    let pair = Pair::of("folder/file \"x\"");
    refusals(&pair, "source/folder", "source");
    refusals(&pair, "source", ".");
    assert_eq!(fs::read_to_string(pair.source().join("folder/file")).expect("read"), "x");
    assert_nothing_made(&pair);
}

#[test]
fn same_folder_is_refused_however_it_is_spelled() {
    let pair = Pair::of("folder/file \"x\"");
    disk::symlink("source", &pair.top().join("link"));
    disk::symlink("source/folder", &pair.top().join("into"));
    for (source, replica) in [
        ("source", "source"),
        ("source", "link"),
        ("link", "source"),
        ("source", "source/folder/.."),
        ("source", "./source/"),
        ("source", "into"),
        ("into", "source"),
        ("into", "source/folder"),
        ("source", "link/new"),
    ] {
        refusals(&pair, source, replica);
    }
    assert!(!disk::exists(&pair.source().join("new")));
    assert_nothing_made(&pair);
}

#[test]
fn same_folder_through_a_bind_mount_is_refused() {
    if !disk::is_root() {
        return disk::skipped("bind mounts: only root makes them");
    }
    let pair = Pair::of("folder/file \"x\"");
    let bound = pair.top().join("bound");
    fs::create_dir(&bound).expect("mkdir");
    if !Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        return disk::skipped("bind mounts: no mount namespace here");
    }
    // In a mount namespace of its own, so that nothing outlives the test.
    let script = "mount --bind source bound && exec \"$@\"";
    for (source, replica) in
        [("source", "bound"), ("bound", "source"), ("bound/folder", "source"), ("source", "bound/new")]
    {
        let command = pair.command(&["sync", source, replica]);
        assert_refused(run(wrapped(&["unshare", "--mount", "sh", "-c", script, "sh"], &command)));
    }
    assert!(!disk::exists(&pair.source().join("new")));
}

#[test]
fn bad_intervals_are_refused() {
    let pair = Pair::of("file \"x\"");
    for interval in ["abc", "-5", "0", "", "10 parsecs", "1h 30", "0s", "99999999999999999999"] {
        let ran = pair.run(&["watch", "source", "replica", &format!("--interval={interval}")]);
        let line = assert_refused(ran);
        assert!(line.contains("interval"), "it does not say what is wrong: {line}");
        assert_nothing_made(&pair);
    }
}

#[test]
fn other_bad_values_are_refused() {
    let pair = Pair::of("file \"x\"");
    for args in [
        ["--debounce", "soon"],
        ["--max-delete", "200%"],
        ["--max-delete", "many"],
        ["--jobs", "0"],
        ["--jobs", "-1"],
        ["--durability", "somewhat"],
        ["--exclude", "a[b"],
        ["--exclude-from", "no-such-file"],
        ["--no-such-option", "x"],
    ] {
        let line = assert_refused(pair.run(&["watch", "source", "replica", args[0], args[1]]));
        let named = [args[0].trim_start_matches('-'), args[1]].iter().any(|word| line.contains(word));
        assert!(named, "it does not say what is wrong with {args:?}: {line}");
        assert_nothing_made(&pair);
    }
}

#[test]
fn bad_pattern_in_a_file_is_refused() {
    let pair = Pair::of("file \"x\"");
    fs::write(pair.top().join("patterns"), "*.tmp\n{a,b\na[b\n").expect("write");
    let line = assert_refused(pair.run(&["sync", "source", "replica", "--exclude-from", "patterns"]));
    assert!(line.contains("patterns"), "it does not name the file: {line}");
    assert_nothing_made(&pair);
}

#[test]
fn missing_arguments_and_unknown_commands_are_refused() {
    let pair = Pair::of("file \"x\"");
    for args in
        [&["sync"][..], &["sync", "source"], &["watch"], &["verify", "source"], &["dance"], &["sync", "a", "b", "c"]]
    {
        let ran = pair.run(args).expect_code(2);
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert_nothing_made(&pair);
    }
}

#[test]
fn verify_refuses_what_is_not_there() {
    let pair = Pair::of("file \"x\"");
    assert_refused(pair.verify(&[]));
    assert_nothing_made(&pair);
}

#[test]
fn all_spellings_of_interval_and_log_are_taken() {
    for (option, value) in [
        ("--interval", "600"),
        ("-i", "10m"),
        ("--sync-interval", "1h 30m"),
        ("--sync_interval", "90s"),
        ("--log-file", "spelled.log"),
        ("-l", "spelled.log"),
        ("--log", "spelled.log"),
        ("--log_path", "spelled.log"),
        ("--log_file", "spelled.log"),
    ] {
        let pair = Pair::of("file \"x\"");
        let watch = pair.watch(&[option, value]);
        watch.stop();
        pair.assert_same();
        assert_eq!(disk::exists(&pair.top().join("spelled.log")), value.ends_with(".log"), "{option} {value}");
    }
}

#[test]
fn second_writer_on_a_replica_is_told_who_the_first_is() {
    let pair = Pair::of("file \"x\"");
    fs::create_dir(pair.top().join("other")).expect("mkdir");
    let watch = pair.watch(&[]);
    disk::symlink("replica", &pair.top().join("link"));
    for (source, replica) in [("source", "replica"), ("source", "link"), ("other", "replica")] {
        for verb in ["sync", "watch"] {
            let line = assert_refused(pair.run(&[verb, source, replica]));
            assert!(line.contains(&watch.pid().to_string()), "no process id: {line}");
        }
    }
    watch.assert_follows();
    watch.stop();
    // And once the first is gone, whether it said good-bye or not, the next may begin.
    pair.sync(&[]);
    pair.watch(&[]).kill();
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn clients_without_a_service_say_so() {
    let pair = Pair::new();
    let others = fs::read_dir("/run/driftless").is_ok_and(|sockets| sockets.count() > 0);
    for verb in ["flush", "status", "sweep", "release"] {
        if others {
            disk::skipped("clients without any service: one is running on this machine");
        } else {
            assert_refused(pair.run(&[verb]));
        }
        for (option, value) in [("--control", "no-such.sock"), ("--name", "no-such-name")] {
            let line = assert_refused(pair.run(&[verb, option, value]));
            assert!(line.contains(value), "{line}");
        }
    }
}
