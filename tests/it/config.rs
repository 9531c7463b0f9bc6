//! The configuration file, as `watch --config` and `check-config` read it: the same refusals, in the same words, and
//! nothing made or changed by the one that only looks.

use std::fs;
use std::path::PathBuf;

use crate::disk;
use crate::fixture::{Pair, Ran};

fn write(pair: &Pair, text: &str) -> PathBuf {
    let path = pair.top().join("pair.toml");
    disk::write(&path, text);
    path
}

/// The lines that name this pair's folders.
fn folders(pair: &Pair) -> String {
    format!("source = {:?}\nreplica = {:?}\n", pair.source(), pair.replica())
}

fn check(pair: &Pair, text: &str) -> Ran {
    write(pair, text);
    pair.run(&["check-config", "pair.toml"])
}

fn row(ran: &Ran, key: &str) -> Vec<String> {
    let line = ran.stdout.lines().find(|line| line.starts_with(&format!("{key} ")));
    let line = line.unwrap_or_else(|| panic!("no {key}:\n{}", ran.stdout));
    line.split("  ").map(str::trim).filter(|word| !word.is_empty()).map(String::from).collect()
}

fn warnings(ran: &Ran) -> Vec<&str> {
    ran.stdout.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect()
}

#[test]
fn usable_file_is_shown_and_nothing_is_made() {
    let pair = Pair::of("a \"x\"");
    fs::create_dir(pair.replica()).expect("mkdir");
    let text = format!("{}\ninterval = '90 min'\r\nexclude = ['*.o', '/c/']\nmax_delete = 5\n", folders(&pair));
    let ran = check(&pair, &format!("\u{feff}{text}")).expect_code(0);
    assert!(ran.stdout.starts_with("'pair.toml' can be used. It comes to\n"), "{}", ran.stdout);
    assert_eq!(row(&ran, "source"), ["source", "line 1", &format!("'{}'", pair.source().display())]);
    assert_eq!(row(&ran, "interval"), ["interval", "line 4", "1h 30m"]);
    assert_eq!(row(&ran, "exclude"), ["exclude", "line 5", "'*.o', '/c/'"]);
    assert_eq!(row(&ran, "max_delete"), ["max_delete", "line 6", "5%"]);
    assert_eq!(row(&ran, "debounce"), ["debounce", "default", "100ms"]);
    assert_eq!(row(&ran, "log_file"), ["log_file", "default", "driftless.log in the state folder"]);
    assert!(warnings(&ran).is_empty() && ran.stderr.is_empty(), "{}", ran.text());
    assert_eq!(fs::read_dir(pair.state()).expect("list").count(), 0, "state was written");
    assert_eq!(fs::read_dir(pair.replica()).expect("list").count(), 0, "the replica was written to");
}

#[test]
fn what_watch_refuses_is_refused_in_the_same_words() {
    let pair = Pair::of("folder/a \"x\"");
    let (source, replica) = (pair.source(), pair.replica());
    let both = folders(&pair);
    let inside = format!("source = {source:?}\nreplica = {:?}\n", source.join("folder"));
    for (text, messages) in [
        (String::new(), &["the key `source` is missing", "the key `replica` is missing"][..]),
        (format!("source = {source:?}\n"), &["the key `replica` is missing"]),
        (format!("{both}[more]\n"), &["line 3: unknown section `more`"]),
        (
            format!("{both}interval = 0\nexlude = []\n"),
            &["line 3: `interval`: must be longer", "did you mean `exclude`?"],
        ),
        (format!("{both}max_delay = '50ms'\n"), &["line 3: `max_delay`: 50ms is shorter than the `debounce` of 100ms"]),
        (format!("{both}exclude = ['ok',\n 'a[z-a]']\n"), &["line 4: `exclude`: bad pattern 'a[z-a]'"]),
        (format!("{both}exclude_from = ['/nowhere/x']\n"), &["cannot read the patterns in '/nowhere/x': No such file"]),
        (format!("source = '/nowhere/x'\nreplica = {replica:?}\n"), &["the source '/nowhere/x' cannot be used"]),
        (inside, &["lies inside the source"]),
        (format!("{both}metrics = {:?}\n", source.join("a.prom")), &["lies inside the source: put it elsewhere"]),
        (format!("{both}metrics = '/dev/null'\n"), &["what is there is no regular file, and would be replaced"]),
        (format!("{both}log_file = {source:?}\n"), &["cannot be used: Is a directory"]),
        (format!("{both}control = {source:?}\n"), &["is there and is not a socket; choose another place"]),
        (format!("{both}exclude_from = ['/dev/zero']\n"), &["the patterns in '/dev/zero': it is larger than 16 MiB"]),
        (format!("source = '$HOME/x'\nreplica = {replica:?}\n"), &["line 1: `source`: `$HOME` is not expanded here"]),
    ] {
        let ran = check(&pair, &text).expect_code(2);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
        let said: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(said.len(), messages.len(), "{}", ran.stderr);
        for (said, message) in said.iter().zip(messages) {
            assert!(said.starts_with("driftless: ") && said.contains(message), "{text}: {said}");
            assert!(!said.contains("os error"), "{said}");
        }
        let watch = pair.run(&["watch", "--config", "pair.toml"]).expect_code(2);
        assert_eq!(watch.stderr, ran.stderr);
        assert!(!disk::exists(&replica), "the replica was made");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let pair = Pair::new();
    for (path, message) in [
        ("source", "the configuration file 'source' is a folder, and not a file"),
        ("/dev/zero", "cannot read the configuration file '/dev/zero': it is larger than 1 MiB"),
        ("nowhere.toml", "cannot read the configuration file 'nowhere.toml': No such file or directory"),
    ] {
        let ran = pair.run(&["check-config", path]).expect_code(2);
        assert_eq!(ran.stderr, format!("driftless: {message}\n"));
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let pair = Pair::of("a \"x\"");
    let both = folders(&pair);
    let warned = |text: &str| {
        let ran = check(&pair, text).expect_code(0);
        warnings(&ran).iter().map(|line| line.to_string()).collect::<Vec<_>>()
    };
    let replica = format!("the replica '{}' is not there: the first start makes it", pair.replica().display());
    assert_eq!(warned(&both), [replica]);
    disk::write(&pair.replica().join("precious"), "x");
    for (line, message) in [
        ("", "is not empty, and nothing is known here of this pair: what the source does not have is removed"),
        ("interval = 1", "`interval`: a sweep"),
        ("max_delete = 100", "`max_delete`: no removal is ever held"),
        ("durability = 'none'", "`durability`: a power cut"),
        ("keep_max = '1GB'", "`keep_max` and `keep_free`: nothing is kept without `keep_versions`"),
        ("keep = 30", "`keep_versions`: what is lost is gone for good within the hour"),
        ("exclude = ['./cache']", "the pattern './cache' matches nothing"),
        ("exclude = ['*']", "the pattern '*' leaves everything alone"),
    ] {
        let warned = warned(&format!("{both}{line}\n"));
        assert!(warned.iter().any(|warning| warning.contains(message)), "{line}: {warned:?}");
    }
    let log = format!("{both}log_file = {:?}\n", pair.source().join("x.log"));
    assert!(warned(&log).iter().any(|warning| warning.ends_with("lies inside the source and will be left out")));
    let metrics = format!("{both}metrics = '/nowhere/a.prom'\n");
    assert!(warned(&metrics).iter().any(|warning| warning.starts_with("there is no folder for '/nowhere/a.prom'")));
    pair.sync(&["--max-delete", "100"]);
    assert_eq!(warned(&both), [""; 0], "the pair is known by now");
}

#[test]
fn file_that_others_can_write_is_warned_of_by_both() {
    let pair = Pair::of("a \"x\"");
    let path =
        write(&pair, &format!("{}control = {:?}\nlog_file = {:?}\n", folders(&pair), pair.control(), pair.log_file()));
    disk::chmod(&path, 0o666);
    let ran = pair.run(&["check-config", "pair.toml"]).expect_code(0);
    assert!(warnings(&ran)[0].contains("can be written by everybody"), "{}", ran.stdout);
    let watch = pair.launch(pair.command(&["watch", "--config", "pair.toml"]));
    watch.wait_for_answer();
    watch.flush();
    assert_eq!(
        watch.log().matches(" - WARN - The configuration file 'pair.toml' can be written by everybody").count(),
        1
    );
    watch.stop();
    disk::chmod(&path, 0o600);
    assert!(warnings(&pair.run(&["check-config", "pair.toml"]).expect_code(0)).is_empty());
}
