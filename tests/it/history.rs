//! `history` and `log`: the journal of a replica, read from its disk alone. The journals here are written by hand, in the
//! form that is documented, at times of the test's choice.

use std::fs;
use std::path::PathBuf;

use rustix::process::geteuid;
use serde_json::Value;

use crate::fixture::{Pair, Ran};

/// The first line's time; the others come a second apart, or ten minutes after `later`. 2026-11-21 10:00:00 in UTC.
const START: u64 = 1_795_255_200;
const WAS: &str = "mode=0644\tuid=1\tgid=2\tmtime=1795168800.000000005";

/// A line as the journal has it: FNV-1a over all before the last tab.
fn sealed(text: &str) -> String {
    let step = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{text}\t{:016x}\n", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A replica with this journal: a line of `text` each, with words where the journal has tabs. What it says is kept is there.
fn journal(text: &str) -> Pair {
    let pair = Pair::new();
    let own = pair.replica().join(".driftless");
    fs::create_dir_all(own.join("journal")).expect("made");
    fs::create_dir_all(own.join("versions")).expect("made");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut time = START - 1;
    for line in lines {
        time += if line == "later" { 600 } else { 1 };
        if line == "later" {
            continue;
        }
        let was = line.replace("WAS", WAS);
        let words: Vec<&str> = was.split(' ').collect();
        for kept in words.iter().filter_map(|word| word.strip_prefix("kept=")).filter(|kept| !kept.contains("lost")) {
            let kept = own.join("versions").join(kept);
            fs::create_dir_all(kept.parent().expect("a folder")).expect("made");
            fs::write(kept, "old").expect("written");
        }
        let file = own.join("journal").join(segment(time));
        let mut all = fs::read_to_string(&file).unwrap_or_default();
        all.push_str(&sealed(&format!("{time}.000001000\t{}", words.join("\t"))));
        fs::write(file, all).expect("written");
    }
    pair
}

fn segment(time: u64) -> String {
    format!("2026-11-21T{:02}", 10 + (time - START) / 3600)
}

fn ask(pair: &Pair, args: &[&str]) -> Ran {
    let mut command = pair.command(args);
    command.env("TZ", "UTC").arg("--replica").arg(pair.replica());
    crate::fixture::run(command)
}

/// What is told, without the times.
fn told(ran: &Ran) -> Vec<&str> {
    ran.stdout.lines().map(|line| line.split_once(" - ").expect("a time").1).collect()
}

const STORY: &str = "
    since . by=sweep
    began . by=sweep
    created d kind=directory by=event
    created d/a.txt kind=file by=event
    updated d/a.txt kind=file kept=d/a~1.txt by=event
    created b kind=symlink by=sweep side=source
    metadata d quiet=1 WAS by=event
    renamed d other=e ino=7 by=event
    created d kind=directory by=event
    created d/a.txt kind=file by=event
    metadata e/a.txt WAS x.user.n=v by=event
    removed e/a.txt kind=file kept=lost by=event
    void . of=1795255211.000001000 by=event
    renamed e/a.txt other=c\\x0a.txt ino=8 by=event
    removed b kind=symlink kept=b~2 by=release
    removed d/a.txt kind=file kept=d/a~3.txt by=restore
    removed d kind=directory WAS by=event
    ended . by=sweep";

#[test]
fn a_file_s_story_goes_on_under_the_names_that_it_had() {
    let pair = journal(STORY);
    let ran = ask(&pair, &["history", "c\n.txt"]).expect_code(0);
    let kept = pair.replica().join(".driftless/versions/d/a~1.txt").canonicalize().expect("it can be opened");
    let kept = format!("updated: 'd/a.txt' (event), kept: '{}'", kept.display());
    let expected = [
        "everything is told from here on",
        "created: 'd/a.txt' (event)",
        &kept,
        "renamed: 'd' to 'e' (event)",
        "metadata: 'e/a.txt' (event), before: mode 0644, owner 1:2, modified 2026-11-20 10:00:00.000000005, 1 extended",
        r"renamed: 'e/a.txt' to 'c\n.txt' (event)",
    ];
    assert_eq!(told(&ran), expected);
    assert!(ran.stdout.starts_with("2026-11-21 10:00:00.000001 - everything"), "{}", ran.stdout);

    let ran = ask(&pair, &["history", "d"]).expect_code(0);
    let words: Vec<_> = told(&ran).iter().map(|line| line.split(", kept").next().expect("words")).collect();
    let of_d = [
        "everything is told from here on",
        "created: directory 'd' (event)",
        "created: 'd/a.txt' (event)",
        "updated: 'd/a.txt' (event)",
        "renamed: 'd' to 'e' (event)",
        "created: directory 'd' (event)",
        "created: 'd/a.txt' (event)",
        "removed: 'd/a.txt' (restore)",
        "removed: directory 'd' (event)",
    ];
    assert_eq!(words, of_d);
    let verbose = ask(&pair, &["history", "-v", "d/"]).expect_code(0);
    assert_eq!(told(&verbose).len(), of_d.len() + 1, "with the folder's times: {}", verbose.stdout);
}

#[test]
fn what_was_removed_is_told_with_what_is_left_of_it() {
    let pair = journal(STORY);
    let ran = ask(&pair, &["log", "--removed"]).expect_code(0);
    let words: Vec<_> = told(&ran).iter().map(|line| line.split(',').next().expect("words")).collect();
    let expected = ["removed: symlink 'b' (release)", "removed: 'd/a.txt' (restore)", "removed: directory 'd' (event)"];
    assert_eq!(words, expected);

    let objects = ask(&pair, &["log", "--removed", "--json", "--since", "2026-11-21 10:00:15"]).expect_code(0);
    let objects: Vec<Value> = objects.stdout.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(objects.len(), 2);
    let (file, folder) = (&objects[0], &objects[1]);
    assert_eq!((&file["event"], &file["path"], &file["by"]), (&"removed".into(), &"d/a.txt".into(), &"restore".into()));
    assert_eq!((&file["at"], &file["side"]), (&"2026-11-21T10:00:15.000001+00:00".into(), &"replica".into()));
    assert_eq!(fs::read_to_string(file["kept"].as_str().expect("a path")).expect("it can be opened"), "old");
    assert_eq!((folder.get("kept"), &folder["was"]["mode"]), (None, &"0644".into()));

    // What is kept has gone by a person's hand; all else is as it was.
    fs::remove_file(file["kept"].as_str().expect("a path")).expect("removed");
    let ran = ask(&pair, &["log", "--removed", "--since", "2026-11-21 10:00:15"]).expect_code(0);
    assert_eq!(told(&ran)[0], "removed: 'd/a.txt' (restore), not kept any more");

    let all = ask(&pair, &["log", "--until", "2026-11-21 10:00:12.5"]).expect_code(0);
    assert_eq!(told(&all).len(), 9, "neither what was void, nor runs, nor quiet times: {}", all.stdout);
    let all = ask(&pair, &["log", "-v"]).expect_code(0);
    assert_eq!(told(&all).len(), 16, "{}", all.stdout);
}

#[test]
fn what_a_run_only_announced_before_it_was_killed_is_not_told() {
    let pair = journal(
        "since . by=sweep
        began . by=sweep
        removed a kind=file kept=lost-1 by=event
        removed b kind=file kept=b~1 by=event
        began . by=sweep
        removed c kind=file kept=lost-2 by=event
        ended . by=sweep
        gap . by=sweep
        since . by=sweep
        began . by=sweep
        removed e kind=file kept=lost-3 by=event
        later
        removed d kind=file kept=lost-4 by=event",
    );
    let ran = ask(&pair, &["log", "--removed"]).expect_code(0);
    let paths: Vec<_> = told(&ran).iter().map(|line| &line[..12]).collect();
    assert_eq!(paths, ["removed: 'b'", "removed: 'c'", "removed: 'e'"], "{}", ran.stdout);
    let ran = ask(&pair, &["history", "b"]).expect_code(0);
    assert!(ran.stdout.contains("changes were made here of which nothing is told"), "{}", ran.stdout);
}

#[test]
fn a_damaged_journal_is_passed_over_and_a_missing_one_named() {
    let pair = journal(STORY);
    let before = ask(&pair, &["log"]).expect_code(0);
    let file = pair.replica().join(".driftless/journal/2026-11-21T10");
    let text = fs::read(&file).expect("read");
    let torn = [b"\x00\xff\n", &text[..], b"1795255300.000000000\tcreated\tx\tki"].concat();
    fs::write(&file, torn).expect("written");
    fs::write(file.with_file_name("2026-11-21T11"), [0u8, 159, 146, 150].repeat(9000)).expect("written");
    let damaged = ask(&pair, &["log"]).expect_code(0);
    let said = "driftless: 3 damaged lines of the journal passed over, in '2026-11-21T10', '2026-11-21T11'\n";
    assert_eq!((&damaged.stdout, damaged.stderr.as_str()), (&before.stdout, said));
    // Half a line at the end is what a power cut leaves.
    fs::write(&file, [&text[..], b"1795255300.000000000\tcreated\tx\tki"].concat()).expect("written");
    fs::remove_file(file.with_file_name("2026-11-21T11")).expect("removed");
    let torn = ask(&pair, &["log"]).expect_code(0);
    assert_eq!((&torn.stdout, torn.stderr.as_str()), (&before.stdout, ""));
    fs::create_dir(file.with_file_name("2026-11-21T11")).expect("made");
    let unread = ask(&pair, &["log"]).expect_code(1);
    assert!(unread.stderr.contains("'2026-11-21T11' of the journal cannot be read: "), "{}", unread.stderr);
    fs::remove_dir(file.with_file_name("2026-11-21T11")).expect("removed");

    let ran = ask(&pair, &["history", "nobody"]).expect_code(0);
    assert!(ran.stderr.contains("nothing is told of 'nobody'"), "{}", ran.stderr);
    let ran = ask(&pair, &["history", "../x"]).expect_code(2);
    assert!(ran.stderr.contains("no path in a tree"), "{}", ran.stderr);
    fs::remove_dir_all(pair.replica().join(".driftless")).expect("removed");
    let ran = ask(&pair, &["log"]).expect_code(2);
    assert!(ran.stderr.contains("has no history: it is kept with"), "{}", ran.stderr);
    fs::remove_dir(pair.replica()).expect("removed");
    let ran = ask(&pair, &["log"]).expect_code(2);
    assert!(ran.stderr.contains("cannot be read: it does not exist"), "{}", ran.stderr);
}

/// The journal as a service writes it, and what is kept as a person opens it.
#[test]
fn what_a_service_has_done_is_told_under_all_names() {
    let pair = Pair::of("d/a \"one\"");
    let watch = pair.watch(&["--keep-versions", "30d"]);
    fs::write(pair.source().join("d/a"), "two").expect("written");
    watch.flush();
    fs::rename(pair.source().join("d"), pair.source().join("e")).expect("renamed");
    watch.flush();
    fs::remove_file(pair.source().join("e/a")).expect("removed");
    watch.flush();
    let objects = |verb: &str, args: &[&str]| -> Vec<Value> {
        let said = watch.client(verb, &[&["--json"], args].concat()).expect_code(0).stdout;
        said.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
    };
    let told = objects("history", &["e/a"]);
    let events: Vec<_> = told.iter().map(|line| line["event"].as_str().expect("a word")).collect();
    assert_eq!(events, ["since", "created", "updated", "renamed", "removed"], "{told:?}");
    assert_eq!((&told[1]["by"], &told[3]["path"], &told[3]["other"]), (&"sweep".into(), &"d".into(), &"e".into()));
    let kept = |line: &Value| fs::read_to_string(line["kept"].as_str().expect("a path")).expect("it can be opened");
    assert_eq!((kept(&told[2]), kept(&told[4])), ("one".into(), "two".into()));
    assert_eq!(objects("log", &["--removed", "--since", "1h"]), told[4..]);
    assert!(objects("log", &["--removed", "--until", "1h ago"]).is_empty());
    watch.stop();
}

/// Where the pair is known, whole paths will do; a disk that cannot be written to, too.
#[test]
fn the_pair_is_found_by_its_configuration_and_by_its_service() {
    let pair = journal(STORY);
    let config = pair.top().join("pair.toml");
    let show = |path: PathBuf| path.display().to_string();
    let text = format!("source = '{}'\nreplica = '{}'\n", show(pair.source()), show(pair.replica()));
    fs::write(&config, text).expect("written");
    // What a service adds is not compared.
    let until = ["history", "--until", "2026-11-21 10:30"];
    let story = ask(&pair, &[&until[..], &["d"]].concat()).expect_code(0).stdout;
    let history = |args: &[&str]| {
        let mut command = pair.command(&until);
        command.env("TZ", "UTC").args(args);
        crate::fixture::run(command).expect_code(0).stdout
    };
    assert_eq!(history(&["--config", "pair.toml", "d"]), story);
    assert_eq!(history(&["--config", "pair.toml", &show(pair.source().join("d"))]), story);
    // No service runs, and nobody says whose it is: the path does.
    assert_eq!(history(&[&show(pair.replica().join("d"))]), story);
    let said = pair.run(&["history", "d"]).expect_code(2).stderr;
    // Somebody else's service may run on the machine.
    let is_said = ["no service is running", "not permitted to reach"].iter().any(|why| said.contains(why));
    assert!(is_said && said.contains("name the replica with --replica"), "{said}");

    let watch = pair.watch(&[]);
    let control = show(pair.control());
    assert_eq!(history(&["--control", &control, "d"]), story);
    assert_eq!(history(&["--control", &control, &show(pair.source().join("d"))]), story);
    let said = watch.client("history", &["/nowhere/d"]).expect_code(2).stderr;
    assert!(said.contains("lies neither in the source"), "{said}");
    watch.stop();

    if !geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let close = |mode| {
            let folder = pair.replica().join(".driftless/journal");
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("closed");
        };
        close(0o000);
        let said = ask(&pair, &["log"]).expect_code(2).stderr;
        assert!(said.contains("or with sudo"), "{said}");
        close(0o700);
    }
}
