//! Settings that change under a running service: what SIGHUP puts in force at once, what it leaves for the next start,
//! and that nothing is concluded from what was not heard meanwhile.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::deletions::{files_below, numbered, remove_numbered};
use crate::fixture::{Pair, Watch, eventually};
use crate::{console, disk};

const LONG: Duration = Duration::from_secs(60);

const TREE: &str = r#"
    a.txt "one"
    cache/a "1"
    cache/deep/b "2"
    keep/c "3"
"#;

fn file(pair: &Pair) -> PathBuf {
    pair.top().join("pair.toml")
}

/// Writes the configuration of this pair, with more lines.
fn configure(pair: &Pair, lines: &str) {
    let text = format!(
        "source = {:?}\nreplica = {:?}\ncontrol = {:?}\nlog_file = {:?}\n{lines}\n",
        pair.source(),
        pair.replica(),
        pair.control(),
        pair.log_file()
    );
    disk::write(&file(pair), text);
}

/// The service, started with such a configuration, and in sync.
#[track_caller]
fn configured<'a>(pair: &'a Pair, lines: &str) -> Watch<'a> {
    configure(pair, lines);
    let mut command = pair.command(&["watch", "--config"]);
    command.arg(file(pair));
    let watch = pair.launch(command);
    watch.wait_for_answer();
    watch.flush();
    watch
}

/// How often the service has said what came of reading its configuration again.
fn answers(watch: &Watch) -> usize {
    let log = watch.log();
    console::messages(&log)
        .filter(|line| line.starts_with("Configuration read again") || line.starts_with("Not reloaded"))
        .count()
}

/// Sends SIGHUP, and gives what the log says from then on.
#[track_caller]
fn hang_up(watch: &Watch) -> String {
    let (before, length) = (answers(watch), watch.log().len());
    watch.signal(Signal::HUP);
    eventually(LONG, "the configuration is read again", || (answers(watch) > before).then_some(()));
    watch.log().split_off(length)
}

#[track_caller]
fn reloaded(pair: &Pair, watch: &Watch, lines: &str) -> String {
    configure(pair, lines);
    hang_up(watch)
}

/// The contents of a file of the replica.
#[track_caller]
fn copied(pair: &Pair, path: &str) -> String {
    fs::read_to_string(pair.replica().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn folders_watched(watch: &Watch) -> u64 {
    watch.status()["watches"]["folders"].as_u64().expect("a number")
}

#[track_caller]
fn wait_for_watches(watch: &Watch, folders: u64) {
    eventually(LONG, &format!("{folders} watches"), || (folders_watched(watch) == folders).then_some(()));
}

#[test]
fn excluded_folders_lose_their_watches_and_stay_in_the_replica() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "");
    assert_eq!(folders_watched(&watch), 4);
    let said = reloaded(&pair, &watch, "exclude = ['/cache/', '*.o']");
    assert!(said.contains("INFO - Configuration read again: exclude with '/cache/', '*.o'\n"), "{said}");
    wait_for_watches(&watch, 2);
    disk::write(&pair.source().join("cache/a"), "other");
    disk::write(&pair.source().join("cache/new"), "new");
    disk::write(&pair.source().join("x.o"), "new");
    disk::remove(&pair.source().join("cache/deep"));
    disk::write(&pair.source().join("keep/c"), "other");
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    assert_eq!(copied(&pair, "keep/c"), "other");
    assert_eq!(copied(&pair, "cache/a"), "1");
    assert_eq!(copied(&pair, "cache/deep/b"), "2");
    assert!(!disk::exists(&pair.replica().join("cache/new")) && !disk::exists(&pair.replica().join("x.o")));
    let said = reloaded(&pair, &watch, "");
    assert!(said.contains("Configuration read again: exclude without '/cache/', '*.o'\n"), "{said}");
    watch.assert_follows();
    wait_for_watches(&watch, 3);
    disk::write(&pair.source().join("cache/a"), "followed again");
    watch.assert_follows();
    watch.stop();
}

#[test]
fn what_happened_while_a_path_was_excluded_is_made_good() {
    let pair = Pair::of(TREE);
    disk::write(&pair.source().join("cache/same"), "old");
    disk::write(&pair.source().join("cache/gone"), "x");
    disk::write(&pair.source().join("cache/kind"), "x");
    let watch = configured(&pair, "");
    reloaded(&pair, &watch, "exclude = ['cache']");
    let path = pair.source().join("cache/same");
    disk::rewrite_unseen(&path);
    disk::remove(&pair.source().join("cache/gone"));
    disk::remove(&pair.source().join("cache/kind"));
    fs::create_dir(pair.source().join("cache/kind")).expect("mkdir");
    fs::rename(pair.source().join("cache/deep"), pair.source().join("moved")).expect("rename");
    fs::hard_link(pair.source().join("cache/a"), pair.source().join("linked")).expect("link");
    watch.flush();
    assert_eq!(copied(&pair, "cache/same"), "old");
    assert_eq!(copied(&pair, "linked"), "1");
    reloaded(&pair, &watch, "");
    // Only its attributes are heard of, and before the sweep has come so far.
    disk::chmod(&path, 0o600);
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn excludes_that_come_and_go_under_work_lose_nothing() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "debounce = '20ms'");
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..12 {
        for _ in 0..40 {
            let path = |n: u64| {
                pair.source().join(["cache", "keep", "cache/deep", "new"][n as usize % 4]).join(format!("{}", n / 4))
            };
            let (one, other) = (path(random(40)), path(random(40)));
            let _ = fs::create_dir_all(one.parent().expect("a folder"));
            let _ = match random(6) {
                0 => fs::remove_file(&one),
                1 => fs::rename(&one, &other),
                2 => fs::hard_link(&one, &other),
                3 => fs::remove_dir_all(one.parent().expect("a folder")),
                _ => fs::write(&one, random(1000).to_string()),
            };
        }
        let lines = ["exclude = ['/cache/']", "", "exclude = ['deep', '1*']", "exclude = ['keep', '!keep']"][round % 4];
        configure(&pair, &format!("debounce = '20ms'\n{lines}"));
        watch.signal(Signal::HUP);
    }
    configure(&pair, "debounce = '20ms'\nmax_delete = 100");
    watch.signal(Signal::HUP);
    eventually(LONG, "the last one is read", || watch.log().contains("max_delete 50% -> 100%").then_some(()));
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn interval_counts_at_once_from_the_last_sweep() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "interval = '1h'");
    let before = watch.sweeps_finished();
    let said = reloaded(&pair, &watch, "interval = '200ms'");
    assert!(said.contains("Configuration read again: interval 1h -> 200ms\n"), "{said}");
    eventually(LONG, "two more sweeps", || (watch.sweeps_finished() >= before + 2).then_some(()));
    reloaded(&pair, &watch, "interval = '2h'");
    watch.flush();
    eventually(LONG, "the next one is far", || (watch.status()["next_sweep_in_s"].as_u64() > Some(3600)).then_some(()));
    watch.stop();
}

#[test]
fn what_waits_for_a_long_debounce_waits_no_longer() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "debounce = '1h'");
    disk::remove(&pair.source().join("a.txt"));
    eventually(LONG, "it is heard", || (watch.status()["pending"].as_u64() > Some(0)).then_some(()));
    assert!(disk::exists(&pair.replica().join("a.txt")));
    let said = reloaded(&pair, &watch, "");
    assert!(said.contains("debounce 1h -> 100ms; max_delay 1h -> 2s"), "{said}");
    eventually(LONG, "it is removed", || (!disk::exists(&pair.replica().join("a.txt"))).then_some(()));
    watch.assert_follows();
    watch.stop();
}

#[test]
fn held_removals_are_judged_anew_by_a_higher_limit_and_stay_by_a_lower_one() {
    let pair = numbered(100);
    let watch = configured(&pair, "max_delete = 100");
    reloaded(&pair, &watch, "max_delete = 50");
    watch.at_one_go(|| remove_numbered(&pair, 60));
    watch.wait_for_state("held");
    eventually(LONG, "all are held", || (watch.status()["holds"][0]["removals"] == 60).then_some(()));
    reloaded(&pair, &watch, "max_delete = 10");
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    assert_eq!(files_below(&pair.replica()), 100);
    assert_eq!(watch.status()["holds"][0]["removals"], 60);
    let said = reloaded(&pair, &watch, "max_delete = 90");
    assert!(said.contains("Configuration read again: max_delete 10% -> 90%\n"), "{said}");
    watch.assert_follows();
    watch.wait_for_state("in_sync");
    assert!(watch.log().contains("Judged anew: 60 removals that were held"), "{}", watch.log());
    assert_eq!(files_below(&pair.replica()), 40);
    watch.stop();
}

#[test]
fn log_says_more_or_less_at_once() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "");
    assert!(!watch.log().contains(" - DEBUG - "));
    let said = reloaded(&pair, &watch, "verbose = 1");
    assert!(said.contains("verbose 0 -> 1"), "{said}");
    disk::write(&pair.source().join("a.txt"), "two");
    watch.flush();
    assert!(watch.log().contains(" - DEBUG - "), "{}", watch.log());
    eventually(LONG, "the console has them too", || watch.console().contains(" - DEBUG - ").then_some(()));
    reloaded(&pair, &watch, "quiet = true");
    let console = watch.console().len();
    disk::write(&pair.source().join("quiet.txt"), "three");
    watch.flush();
    assert!(watch.log().contains("File copied: '") && watch.log().contains("quiet.txt"), "{}", watch.log());
    assert!(!watch.console().split_off(console).contains("quiet.txt"), "{}", watch.console());
    watch.stop();
}

#[test]
fn checksum_reads_contents_from_the_next_sweep_on() {
    const SIZE: usize = 4 << 20;
    let pair = Pair::of("");
    disk::write(&pair.source().join("large"), "x".repeat(SIZE));
    let watch = configured(&pair, "");
    let sweep = |watch: &Watch| {
        let (before, read) = (watch.sweeps_finished(), watch.io("rchar"));
        watch.client("sweep", &[]).expect_code(0);
        eventually(LONG, "a sweep", || (watch.sweeps_finished() > before).then_some(()));
        watch.io("rchar") - read
    };
    // What was written a moment ago is read once more.
    sweep(&watch);
    assert!(sweep(&watch) < SIZE as u64);
    let said = reloaded(&pair, &watch, "checksum = true\njobs = 3");
    assert!(said.contains("Configuration read again: checksum false -> true; jobs "), "{said}");
    assert!(sweep(&watch) >= 2 * SIZE as u64);
    watch.stop();
}

#[test]
fn broken_file_changes_nothing() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "exclude = ['/cache/']\ninterval = '1h'");
    for (lines, message) in [
        ("interval = true", "line 5: `interval`: takes a length of time"),
        ("interval = '2h'\nexclude = ['a[b']", "line 6: `exclude`: bad pattern 'a[b'"),
        ("intervall = '2h'", "line 5: unknown key `intervall`; did you mean `interval`?"),
        ("interval = '2h'\nexclude_from = ['/nowhere/patterns']", "cannot read the patterns in '/nowhere/patterns'"),
        ("interval = ", "line 5: "),
    ] {
        let said = reloaded(&pair, &watch, lines);
        let errors: Vec<_> = said.lines().filter(|line| line.contains(" - ERROR - ")).collect();
        assert_eq!(errors.len(), 1, "{said}");
        assert!(errors[0].contains("Not reloaded: ") && errors[0].contains(message), "{said}");
        assert!(errors[0].ends_with("The running settings stay"), "{said}");
    }
    fs::remove_file(file(&pair)).expect("removed");
    let said = hang_up(&watch);
    assert!(said.contains("Not reloaded: cannot read the configuration file"), "{said}");
    disk::write(&pair.source().join("cache/a"), "other");
    disk::write(&pair.source().join("a.txt"), "other");
    watch.flush();
    assert!(!disk::exists(&pair.replica().join("cache")));
    assert_eq!(copied(&pair, "a.txt"), "other");
    let said = reloaded(&pair, &watch, "exclude = ['/cache/']\ninterval = '1h'");
    assert!(said.contains("Configuration read again: nothing has changed"), "{said}");
    watch.stop();
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_is() {
    let pair = Pair::of(TREE);
    let watch = configured(&pair, "");
    fs::create_dir(pair.top().join("other")).expect("mkdir");
    for _ in 0..2 {
        configure(&pair, "durability = 'none'\none_file_system = true\nname = 'other'\ninterval = '3h'");
        let text = fs::read_to_string(file(&pair)).expect("read").replace("/source\"", "/other\"");
        disk::write(&file(&pair), text);
        let said = hang_up(&watch);
        let restart = said.lines().find(|line| line.contains("needs a restart")).unwrap_or_else(|| panic!("{said}"));
        assert!(restart.contains(" - WARN - "), "{said}");
        assert!(restart.ends_with("needs a restart: source, name, one_file_system, durability"), "{said}");
    }
    assert!(watch.log().contains("Configuration read again: interval 10m -> 3h\n"), "{}", watch.log());
    disk::write(&pair.source().join("a.txt"), "other");
    watch.assert_follows();
    let said = reloaded(&pair, &watch, "interval = '3h'");
    assert!(!said.contains("needs a restart"), "{said}");
    watch.stop();
}

#[test]
fn pattern_files_of_the_command_line_are_read_again() {
    let pair = Pair::of(TREE);
    let patterns = pair.top().join("patterns");
    disk::write(&patterns, "*.tmp\n");
    let watch = pair.watch(&["--exclude-from", "patterns", "-x", "/keep/"]);
    disk::write(&patterns, "/cache/\n");
    let said = hang_up(&watch);
    assert!(said.contains("Configuration read again: exclude with '/cache/', without '*.tmp'\n"), "{said}");
    disk::write(&pair.source().join("cache/a"), "other");
    disk::write(&pair.source().join("b.tmp"), "copied");
    watch.flush();
    assert_eq!(copied(&pair, "cache/a"), "1");
    assert_eq!(copied(&pair, "b.tmp"), "copied");
    assert!(!disk::exists(&pair.replica().join("keep")));
    watch.stop();
}

#[test]
fn options_of_the_command_line_keep_winning() {
    let pair = Pair::of(TREE);
    configure(&pair, "interval = '1h'\nmax_delay = '5s'");
    let mut command = pair.command(&["watch", "--interval", "2h", "--config"]);
    command.arg(file(&pair));
    let watch = pair.launch(command);
    watch.wait_for_answer();
    watch.flush();
    let said = reloaded(&pair, &watch, "interval = '3h'\nmax_delay = '6s'");
    assert!(said.contains("Configuration read again: max_delay 5s -> 6s\n"), "{said}");
    assert!(watch.status()["next_sweep_in_s"].as_u64() <= Some(2 * 3600));
    watch.stop();
}

#[test]
fn own_log_in_the_source_stays_left_out_by_other_excludes() {
    let pair = Pair::of(TREE);
    let log = pair.source().join("own.log");
    disk::write(&pair.top().join("patterns"), "*.tmp\n");
    let mut command = pair.on_both("watch", &["--exclude-from", "patterns", "--log-file"]);
    command.arg(&log).arg("--control").arg(pair.control());
    let watch = pair.launch(command);
    watch.wait_for_answer();
    disk::write(&pair.top().join("patterns"), "*.o\n");
    watch.signal(Signal::HUP);
    let text = || fs::read_to_string(&log).expect("the log");
    eventually(LONG, "it is read", || text().contains("exclude with '*.o', without '*.tmp'").then_some(()));
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    assert!(!disk::exists(&pair.replica().join("own.log")));
    assert_eq!(text().matches("lies inside the source and is left out").count(), 1, "{}", text());
    watch.stop();
}

#[test]
fn large_first_pass_goes_on_by_the_excludes_that_it_began_with_and_the_next_by_the_new_ones() {
    let pair = Pair::of("");
    for i in 0..3000 {
        disk::write(&pair.source().join(format!("{}/{}/{i}", ["cache", "keep"][i % 2], i % 17)), i.to_string());
    }
    configure(&pair, "durability = 'none'");
    let mut command = pair.command(&["watch", "--config"]);
    command.arg(file(&pair));
    let watch = pair.launch(command);
    eventually(LONG, "it copies", || watch.log().contains("File copied").then_some(()));
    let said = reloaded(&pair, &watch, "durability = 'none'\nexclude = ['/cache/']");
    assert!(said.contains("exclude with '/cache/'"), "{said}");
    disk::remove(&pair.source().join("keep/1"));
    watch.flush();
    wait_for_watches(&watch, 18);
    assert!(!disk::exists(&pair.replica().join("keep/1")));
    disk::remove(&pair.source().join("cache/0"));
    disk::write(&pair.source().join("cache/2/new"), "new");
    reloaded(&pair, &watch, "durability = 'none'\nmax_delete = 100");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn change_of_attributes_does_not_explain_what_was_written_while_it_was_excluded() {
    let pair = Pair::of(TREE);
    disk::write(&pair.source().join("same"), "old");
    disk::write_solid(&pair.source().join("large"), 24 << 20, 1);
    let watch = configured(&pair, "checksum = true\nexclude = ['none']");
    reloaded(&pair, &watch, "checksum = true\nexclude = ['/same']");
    watch.flush();
    // Its folder stays watched.
    disk::rewrite_unseen(&pair.source().join("same"));
    watch.client("sweep", &[]).expect_code(0);
    // While that sweep reads: the one that follows meets the file together with what is heard of it now.
    reloaded(&pair, &watch, "");
    disk::chmod(&pair.source().join("same"), 0o600);
    watch.assert_follows();
    watch.stop();
}
