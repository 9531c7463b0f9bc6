//! The person's side of two-way mode: the file of pairs, what is printed of both directions, and what is refused.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::disk;
use crate::fixture::{Pair, Ran, Running, STOP, eventually, run};

/// What was written before this has settled on the file system's clock.
fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

fn write_pairs(pair: &Pair, text: impl AsRef<[u8]>) {
    fs::write(pair.top().join("pairs"), text).expect("write");
}

/// A pass over the pairs of a file with this text; the paths in it are relative to the test's own folder.
fn sync(pair: &Pair, text: impl AsRef<[u8]>, options: &[&str]) -> Ran {
    write_pairs(pair, text);
    pair.run(&[&["sync", "--pairs", "pairs"], options].concat())
}

/// The lines of the log without their times.
fn lines(ran: &Ran) -> Vec<String> {
    ran.text().lines().map(|line| line.splitn(3, " - ").nth(2).unwrap_or(line).to_string()).collect()
}

fn shown(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn two_lines_of_a_file_are_a_pair_that_is_worked_in_on_both_sides() {
    for text in ["source\nreplica\n", "\n  source \r\n\treplica\r\n\r\n", "# mine\nsource\n\nreplica"] {
        let pair = Pair::of("a \"1\"");
        disk::write(&pair.replica().join("b"), "2");
        sync(&pair, text, &[]).expect_code(0);
        pair.assert_same();
        assert!(disk::exists(&pair.source().join("b")), "{text:?}");
    }
}

#[test]
fn either_side_is_made_where_only_the_other_is_there() {
    for text in ["source\nnew/folder\n", "new/folder\nsource\n"] {
        let pair = Pair::of("a \"1\"\n b/c \"2\"");
        let planned = sync(&pair, text, &["--dry-run"]).expect_code(0).text();
        let there = pair.top().join("new/folder");
        assert!(planned.contains(&format!("Would copy file: {}", shown(&there.join("b/c")))), "{planned}");
        assert!(!disk::exists(&pair.top().join("new")) && fs::read_dir(pair.state()).expect("state").next().is_none());
        sync(&pair, text, &[]).expect_code(0);
        crate::compare::assert_same(&pair.source(), &there);
    }
}

#[test]
fn bytes_of_a_name_are_kept_as_they_are() {
    let pair = Pair::new();
    let name = std::ffi::OsStr::from_bytes(b"of\xff bytes ");
    let folder = pair.top().join(name);
    disk::write(&folder.join("a"), "1");
    sync(&pair, b"of\xff bytes /\nreplica\n", &[]).expect_code(0);
    crate::compare::assert_same(&folder, &pair.replica());
}

#[test]
fn what_is_no_pair_is_refused_with_the_file_and_the_line_and_nothing_is_made() {
    let pair = Pair::of("inner/f \"x\"");
    disk::write(&pair.top().join("file"), "x");
    fs::create_dir(pair.top().join("other")).expect("mkdir");
    for (text, line, words) in [
        ("", 1, "names no folders"),
        ("\n\n", 1, "names no folders"),
        ("source\n", 1, "the other folder of the pair is missing"),
        ("source\nreplica\n\nother\n", 4, "the other folder of the pair is missing"),
        ("source\nreplica\nother\n", 3, "a pair has two folders"),
        ("file\nreplica\n", 1, "it is not a folder"),
        ("source\nfile\n", 2, "it is not a folder"),
        ("source\nsource/.\n", 2, "are the same folder"),
        ("source\nsource/inner\n", 2, "lies inside the source"),
        ("source/inner\nsource\n", 2, "lies inside the replica"),
        ("none\nnowhere\n", 1, "one of the two has to be"),
        ("~/source\nreplica\n", 1, "`~` is not expanded"),
        ("source\n$HOME/replica\n", 2, "`$HOME` is not expanded"),
        ("source\nreplica\n\nother\nreplica\n", 5, "a folder of another pair (line 2)"),
        ("source\nreplica\n\nother\nreplica/below\n", 5, "lies inside"),
        ("source/inner\nreplica\n\nother\nsource\n", 5, "holds"),
    ] {
        for verb in ["sync", "watch"] {
            write_pairs(&pair, text);
            let ran = pair.run(&[verb, "--pairs", "pairs"]).expect_code(2);
            let is_said = ran.stderr.contains(words) && ran.stderr.contains(&format!("'pairs', line {line}: "));
            assert!(is_said && ran.stdout.is_empty() && !ran.stderr.contains("panicked"), "{text:?}: {ran:?}");
            assert!(!disk::exists(&pair.replica()), "{text:?}");
            assert!(fs::read_dir(pair.state()).expect("state").next().is_none(), "{text:?}");
        }
    }
    // All that is wrong, at once.
    let ran = sync(&pair, "file\nreplica\n\nother\nother\n", &[]).expect_code(2);
    assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");
    for (file, words) in [("none", "'none': No such file"), (".", "'.': Is a directory")] {
        let ran = pair.run(&["sync", "--pairs", file]).expect_code(2);
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn what_belongs_to_one_pair_or_to_both_ways_is_refused_elsewhere() {
    let pair = Pair::of("a \"1\"");
    fs::create_dir(pair.top().join("other")).expect("mkdir");
    write_pairs(&pair, "source\nreplica\n\nother\ncopy\n");
    for (args, words) in [
        (&["watch", "--pairs", "pairs", "--name", "x"][..], "--name is for one pair"),
        (&["watch", "--pairs", "pairs", "--control", "x.sock"], "--control is for one pair"),
        (&["watch", "--pairs", "pairs", "--metrics", "x.prom"], "--metrics is for one pair"),
        (&["watch", "--pairs", "pairs", "--metrics-listen", "127.0.0.1:9"], "--metrics-listen is for one pair"),
        (&["watch", "--pairs", "pairs", "--config", "x.toml"], "cannot be used with"),
        (&["sync", "--pairs", "pairs", "source", "replica"], "cannot be used with"),
        (&["sync", "--conflict", "newer", "source", "replica"], "--conflict goes with --two-way"),
        (&["verify", "--pairs", "pairs"], "unexpected argument"),
    ] {
        let ran = pair.run(args).expect_code(2);
        assert!(ran.stderr.contains(words), "{args:?}: {ran:?}");
        assert!(!disk::exists(&pair.replica()));
    }
    let config = pair.top().join("c.toml");
    fs::write(&config, "source = '/a'\nreplica = '/b'\npairs = '/p'\n").expect("write");
    let ran = pair.run(&["check-config", "c.toml"]).expect_code(2);
    assert!(ran.stderr.contains("line 3") && ran.stderr.contains("one pair of folders"), "{ran:?}");
}

#[test]
fn several_pairs_are_done_one_after_another_and_the_worst_of_them_is_the_exit_code() {
    let pair = Pair::of("a \"1\"");
    let (one, other) = (pair.top().join("one"), pair.top().join("other"));
    for n in 0..3 {
        disk::write(&one.join(n.to_string()), "x");
    }
    let text = "one\nother\n\nsource\nreplica\n";
    let ran = sync(&pair, text, &[]).expect_code(0);
    let said = lines(&ran);
    let top = pair.top().display();
    assert_eq!(said[0], format!("Pair 1 of 2: '{top}/one' and '{top}/other'"));
    assert_eq!(said.iter().filter(|line| line.starts_with("Sweep finished")).count(), 2, "{said:?}");
    // An emptied side holds the first pair; the second one is done all the same.
    rest();
    for n in 0..3 {
        disk::remove(&other.join(n.to_string()));
    }
    disk::write(&pair.replica().join("b"), "2");
    let ran = sync(&pair, text, &[]).expect_code(3);
    let words = format!("{} holds nothing any more: nothing is removed from {} for that", shown(&other), shown(&one));
    assert_eq!(ran.text().matches(&words).count(), 1, "{ran:?}");
    assert!(disk::exists(&one.join("0")) && disk::exists(&pair.source().join("b")));
}

#[test]
fn watch_serves_all_pairs_each_under_a_name_of_its_own_and_ends_as_one() {
    let pair = Pair::of("a \"1\"");
    disk::write(&pair.top().join("one/a"), "x");
    write_pairs(&pair, "source\nreplica\n\none\nother\n");
    let sockets = || {
        let folder = pair.runtime().join("driftless");
        let names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        names.collect::<Vec<PathBuf>>()
    };
    let start = || Running::start(pair.command(&["watch", "--pairs", "pairs", "--log-file", "both.log"]));
    let mut watch = start();
    let ready = |path: &Path| run(pair.command(&["flush", "--control", &path.display().to_string()])).code == Some(0);
    eventually(Duration::from_secs(60), "two services", || {
        let sockets = sockets();
        (sockets.len() == 2 && sockets.iter().all(|path| ready(path))).then_some(())
    });
    disk::write(&pair.replica().join("b"), "2");
    disk::write(&pair.top().join("one/b"), "3");
    assert!(sockets().iter().all(|path| ready(path)));
    pair.assert_same();
    assert!(disk::exists(&pair.top().join("other/b")));
    let log = fs::read_to_string(pair.top().join("both.log")).expect("the log");
    for path in [pair.source().join("b"), pair.top().join("other/b")] {
        assert!(log.contains(&format!("File copied: {}", shown(&path))), "{log}");
    }
    kill_process(Pid::from_child(&watch.0), Signal::TERM).expect("signal");
    let status = eventually(STOP, "it ends", || watch.0.try_wait().expect("wait"));
    assert_eq!((status.code(), sockets().len()), (Some(0), 0));
    // Without the one that started them, none is left behind.
    let mut watch = start();
    eventually(Duration::from_secs(60), "two services", || (sockets().len() == 2).then_some(()));
    watch.0.kill().expect("kill");
    watch.0.wait().expect("wait");
    eventually(Duration::from_secs(60), "no service", || sockets().is_empty().then_some(()));
    // One that cannot be served ends them all.
    disk::remove(&pair.top().join("other"));
    let blocker = pair.watch(&[]);
    let ran = pair.run(&["watch", "--pairs", "pairs", "--log-file", "both.log"]).expect_code(2);
    assert!(ran.stderr.contains("already being written") && ran.stderr.contains("all are stopped"), "{ran:?}");
    blocker.stop();
}

#[test]
fn a_dry_run_says_what_goes_which_way_and_does_nothing() {
    let pair = Pair::of("gone \"1\"\n changed \"2\"\n both.txt \"3\"\n kept \"4\"");
    rest();
    pair.sync(&["--two-way"]);
    disk::remove(&pair.replica().join("gone"));
    disk::write(&pair.source().join("changed"), "more");
    disk::write(&pair.replica().join("new"), "n");
    disk::write(&pair.source().join("both.txt"), "older");
    rest();
    disk::write(&pair.replica().join("both.txt"), "newer");
    disk::write(&pair.source().join("kinds/in a folder"), "x");
    rest();
    disk::write(&pair.replica().join("kinds"), "a file");
    rest();
    let state = |folder: &Path| -> Vec<(PathBuf, i64, i64, u64)> {
        let mut all: Vec<_> = walk(folder).into_iter().collect();
        all.sort();
        all
    };
    let before = [pair.source(), pair.replica(), pair.state()].map(|folder| state(&folder));
    let ran = pair.try_sync(&["--two-way", "--dry-run"]).expect_code(0);
    assert_eq!([pair.source(), pair.replica(), pair.state()].map(|folder| state(&folder)), before);
    let said = lines(&ran);
    let (source, replica) = (pair.source(), pair.replica());
    for line in [
        format!("Would remove file: {}", shown(&source.join("gone"))),
        format!("Would update file: {}", shown(&replica.join("changed"))),
        format!("Would copy file: {}", shown(&source.join("new"))),
        format!("Would update file: {}", shown(&source.join("both.txt"))),
        // The folder that has this name goes aside.
        format!("Would copy file: {}", shown(&source.join("kinds"))),
    ] {
        assert_eq!(said.iter().filter(|said| **said == line).count(), 1, "{line}: {said:?}");
    }
    let conflict = format!(
        "Would be a conflict: {}: the replica's version would keep the name, the source's would be kept as ",
        shown(&source.join("both.txt"))
    );
    assert!(said.iter().any(|line| line.starts_with(&conflict)), "{said:?}");
    let totals = said.last().expect("a last line");
    assert!(totals.contains("2 copied, 2 updated, 1 removed,") && totals.contains(", 2 conflicts, "), "{totals}");
    assert!(totals.ends_with("(changes: 1 in the replica, 4 in the source)"), "{totals}");
    // And that is what is done.
    let done = lines(&pair.sync(&["--two-way"]));
    // With what is kept of the conflicts, a file and a folder with one.
    assert!(done.last().expect("a line").ends_with("(changes: 4 in the replica, 4 in the source)"), "{done:?}");
    pair.assert_same();
}

/// All below a folder with its times and its inode.
fn walk(folder: &Path) -> Vec<(PathBuf, i64, i64, u64)> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("metadata");
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        found.push((path, meta.mtime(), meta.ctime_nsec(), meta.ino()));
    }
    found
}

#[test]
fn every_operation_is_logged_with_the_path_that_was_written_whichever_way_it_went() {
    for turned in [false, true] {
        let pair =
            Pair::of("update \"1\"\n mode \"2\"\n name \"3\"\n file \"4\"\n folder/x \"5\"\n link -> a\n old -> b");
        rest();
        pair.sync(&["--two-way"]);
        let (here, there) = if turned { (pair.replica(), pair.source()) } else { (pair.source(), pair.replica()) };
        let watch = pair.watch(&["--two-way"]);
        disk::write(&here.join("new"), "n");
        disk::write(&here.join("update"), "more");
        disk::chmod(&here.join("mode"), 0o600);
        fs::rename(here.join("name"), here.join("renamed")).expect("rename");
        disk::remove(&here.join("file"));
        disk::remove(&here.join("folder"));
        fs::create_dir(here.join("made")).expect("mkdir");
        disk::remove(&here.join("old"));
        disk::symlink("x", &here.join("pointer"));
        disk::make_fifo(&here.join("fifo"));
        watch.assert_follows();
        watch.stop();
        let log = fs::read_to_string(pair.log_file()).expect("the log");
        let at = |name: &str| shown(&there.join(name));
        for line in [
            format!("File copied: {}", at("new")),
            format!("File updated: {}", at("update")),
            format!("Metadata updated: {}", at("mode")),
            format!("Renamed: {} -> {}", at("name"), at("renamed")),
            format!("File removed: {}", at("file")),
            format!("File removed: {}", at("folder/x")),
            format!("Directory removed: {}", at("folder")),
            format!("Directory created: {}", at("made")),
            format!("Link removed: {}", at("old")),
            format!("Link created: {}", at("pointer")),
            format!("Special file created: {}", at("fifo")),
        ] {
            assert!(log.contains(&line), "{line}\n{log}");
        }
        let written = |side: &Path| log.matches(&format!("'{}/", side.display())).count();
        assert!(written(&here) == 0 && written(&there) > 0, "{log}");
        let last = log.lines().last().expect("a line");
        let (changes, nothing) =
            if turned { ("in the source", "0 in the replica") } else { ("in the replica", "0 in the source") };
        assert!(last.contains("Stopped: ") && last.contains(changes) && last.contains(nothing), "{last}");
    }
}

#[test]
fn status_tells_of_both_directions_and_of_conflicts() {
    let pair = Pair::of("both.txt \"0\"\n a \"1\"");
    rest();
    pair.sync(&["--two-way"]);
    let watch = pair.watch(&["--two-way", "--metrics", "m.prom"]);
    let status = watch.status();
    assert_eq!(status["two_way"]["conflict"], "keep-both");
    assert_eq!((&status["two_way"]["conflicts"], &status["totals"]["conflicts"]), (&0.into(), &0.into()));
    watch.at_one_go(|| {
        disk::write(&pair.source().join("both.txt"), "older");
        rest();
        disk::write(&pair.replica().join("both.txt"), "the newer one");
    });
    disk::write(&pair.source().join("b"), "2");
    disk::write(&pair.replica().join("c"), "3");
    watch.assert_follows();
    let status = watch.status();
    let two_way = &status["two_way"];
    assert_eq!(two_way["conflicts"], 1, "{status}");
    let conflict = &two_way["last_conflicts"][0];
    assert_eq!(
        (&conflict["path"], &conflict["winner"]),
        (&shown(&pair.source().join("both.txt")).into(), &"replica".into())
    );
    let kept = conflict["kept"].as_str().expect("a path").trim_matches('\'').to_string();
    assert_eq!(fs::read_to_string(&kept).expect("what was kept"), "older");
    let copied = |side: &str| two_way[side]["files_copied"].as_u64().expect("a number");
    assert_eq!((copied("in_replica"), copied("in_source")), (2, 1), "{status}");
    assert_eq!(status["totals"]["files_copied"], 3);
    let screen = watch.client("status", &[]).expect_code(0).stdout;
    for words in ["Two ways    both are worked in; conflicts: keep-both", "Conflicts   1 since the start", &kept] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
    // What is new only the service can tell, as long as it runs.
    let ran = pair.try_sync(&["--two-way", "--dry-run"]).expect_code(2);
    assert!(ran.stderr.contains("a service works with these two folders"), "{ran:?}");
    watch.stop();
    let metrics = fs::read_to_string(pair.top().join("m.prom")).unwrap_or_default();
    assert!(metrics.is_empty() || metrics.contains("driftless_conflicts_total"), "{metrics}");
    // One that goes one way has nothing to say of it.
    let mirror = Pair::of("a \"1\"");
    let watch = mirror.watch(&[]);
    assert!(watch.status()["two_way"].is_null());
    assert!(!watch.client("status", &[]).stdout.contains("Two ways"));
    watch.stop();
}

#[test]
fn holds_name_the_folder_that_they_are_in() {
    let text: String = (0..80).map(|n| format!("f{n} \"x\"\n ")).collect();
    let pair = Pair::of(&text);
    rest();
    pair.sync(&["--two-way"]);
    rest();
    for n in 0..70 {
        disk::remove(&pair.replica().join(format!("f{n}")));
    }
    let ran = pair.try_sync(&["--two-way"]).expect_code(3).text();
    assert!(ran.contains("Held: 70 removals in the source, more than --max-delete"), "{ran}");
    let watch = pair.start_watch(&["--two-way"]);
    watch.wait_for_answer();
    watch.wait_for_state("held");
    let holds = watch.status()["holds"].clone();
    assert_eq!((&holds[0]["side"], &holds[0]["removals"]), (&"source".into(), &70.into()), "{holds}");
    let screen = watch.client("status", &[]).stdout;
    assert!(screen.contains("Held        70 removals in the source: "), "{screen}");
    watch.client("release", &[]).expect_code(0);
    watch.assert_follows();
    assert!(watch.log().contains("Released: 70 removals in the source"), "{}", watch.log());
    watch.stop();
}

#[test]
fn a_reload_changes_what_becomes_of_conflicts_and_says_that_two_ways_need_a_restart() {
    let pair = Pair::of("f \"0\"");
    let config = pair.top().join("c.toml");
    let write = |more: &str| {
        let (source, replica) = (pair.source(), pair.replica());
        let text = format!("source = '{}'\nreplica = '{}'\n{more}", source.display(), replica.display());
        fs::write(&config, text).expect("write");
    };
    write("two_way = true\n");
    let (control, log) = (pair.control(), pair.log_file());
    let mut command = pair.command(&["watch", "--config", "c.toml", "--control"]);
    command.arg(&control).arg("--log-file").arg(&log);
    let watch = pair.launch(command);
    watch.wait_for_answer();
    watch.flush();
    write("two_way = true\nconflict = 'source'\n");
    watch.signal(Signal::HUP);
    let said = |words: &str| {
        eventually(Duration::from_secs(60), words, || watch.log().contains(words).then_some(()));
    };
    said("Configuration read again: conflict keep-both -> source");
    assert_eq!(watch.status()["two_way"]["conflict"], "source");
    watch.at_one_go(|| {
        disk::write(&pair.source().join("f"), "the source's");
        rest();
        disk::write(&pair.replica().join("f"), "the replica's");
    });
    watch.assert_follows();
    assert_eq!(fs::read_to_string(pair.replica().join("f")).expect("a file"), "the source's");
    assert!(watch.log().contains("the source's version keeps the name, the replica's is given up"), "{}", watch.log());
    write("two_way = false\nconflict = 'source'\n");
    watch.signal(Signal::HUP);
    said("The configuration has changed where it needs a restart: two_way");
    watch.stop();
}

#[test]
fn options_mean_the_same_in_both_directions() {
    let pair = Pair::of("a \"1\"\n x.tmp \"t\"\n skipped/f \"s\"");
    disk::write(&pair.replica().join("y.tmp"), "u");
    disk::write(&pair.replica().join("b"), "2");
    rest();
    let options = ["--two-way", "-x", "*.tmp", "-x", "/skipped/", "-c", "--one-file-system", "-j", "1"];
    pair.sync(&options);
    let there = |side: PathBuf| ["x.tmp", "y.tmp", "skipped"].map(|name| disk::exists(&side.join(name)));
    assert_eq!((there(pair.source()), there(pair.replica())), ([true, false, true], [false, true, false]));
    let verify = pair.verify(&["-x", "*.tmp", "-x", "/skipped/"]).expect_code(0);
    assert!(verify.stdout.contains("0 differences"), "{verify:?}");
    // With -c, contents that no time tells of are found on either side, and go to the other.
    rest();
    for (side, name) in [(pair.source(), "a"), (pair.replica(), "b")] {
        let path = side.join(name);
        let before = disk::stat(&path);
        disk::write(&path, "9");
        disk::set_mtime(&path, before.mtime(), u32::try_from(before.mtime_nsec()).expect("small"));
    }
    rest();
    pair.sync(&options);
    for (side, name) in [(pair.replica(), "a"), (pair.source(), "b")] {
        assert_eq!(fs::read_to_string(side.join(name)).expect("a file"), "9");
    }
    // And an ordinary change is no conflict.
    for side in [pair.source(), pair.replica()] {
        disk::write(&side.join("a"), side.display().to_string());
        rest();
        assert!(!pair.sync(&options).text().contains("onflict"));
        rest();
        assert_eq!(fs::read_to_string(pair.source().join("a")).expect("a file"), side.display().to_string());
    }
    let help = pair.run(&["sync", "--help"]);
    assert!(help.stdout.contains("--pairs <FILE>"));
}
