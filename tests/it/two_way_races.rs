//! Both folders are worked in, also in the very moment when the program changes something there: what comes between its
//! look and its deed is never lost. strace holds the program at the call in question.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::disk;
use crate::fixture::{PATIENCE, Pair, Running, eventually, wrapped};

/// As long as a call is held: the work that is done meanwhile takes much less.
const HELD: Duration = Duration::from_millis(500);

/// What was written before this has settled on the filesystem's clock.
fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

fn may_trace() -> bool {
    let may = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        disk::skipped("what comes between look and deed: there is no strace that may hold the program");
    }
    may
}

/// Two sides that are equal, and known to be.
fn agreed(text: &str) -> Pair {
    let pair = Pair::of(text);
    rest();
    pair.sync(&["--two-way"]);
    rest();
    pair
}

/// Where in a call it is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Enter,
    Exit,
}

/// One call of the program; only each second one of a thread is held, from the first on.
#[derive(Clone, Copy)]
struct Call(&'static str, usize);

const PARK: Call = Call("renameat2", 1);

/// The options of strace that hold the program at that call, and write the calls there.
fn holding(Call(name, _): Call, ats: &[At], calls: &Path) -> Vec<String> {
    let micros = HELD.as_micros();
    let delays: String =
        ats.iter().map(|at| format!(":delay_{}={micros}", if *at == At::Enter { "enter" } else { "exit" })).collect();
    let inject = format!("inject={name}{delays}:when=1+2");
    let options = ["-f", "-qq", "-e", &format!("trace={name}"), "-e", &inject, "-o", &calls.display().to_string()];
    options.map(String::from).to_vec()
}

/// Waits until that call is held there.
fn wait_for(Call(name, nth): Call, at: At, calls: &Path) {
    eventually(Duration::from_secs(60), "the call", || {
        let text = fs::read_to_string(calls).unwrap_or_default();
        let of_name =
            |line: &&str| line.contains(&format!(" {name}(")) || line.contains(&format!("<... {name} resumed"));
        let begun = text.lines().filter(of_name).filter(|line| !line.contains("resumed")).count();
        let ended = text.lines().filter(of_name).filter(|line| line.contains(") = ")).count();
        (if at == At::Enter { begun >= nth } else { ended >= nth }).then_some(())
    });
}

/// One pass of both ways that is held at a call while something else is done.
#[track_caller]
fn sync_held(pair: &Pair, call: Call, works: &[(At, &dyn Fn())]) {
    let calls = pair.top().join("calls");
    let _ = fs::remove_file(&calls);
    let ats: Vec<At> = works.iter().map(|(at, _)| *at).collect();
    let options = holding(call, &ats, &calls);
    let strace: Vec<&str> = ["strace"].into_iter().chain(options.iter().map(String::as_str)).collect();
    let mut command = wrapped(&strace, &pair.on_both("sync", &["--two-way", "-j", "1"]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
    for (at, work) in works {
        wait_for(call, *at, &calls);
        work();
    }
    child.wait().expect("its end");
    rest();
    pair.sync(&["--two-way"]);
    pair.assert_same();
}

/// All that the files of a folder hold.
fn contents(folder: &Path) -> BTreeSet<String> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("walk"));
    let files = all.filter(|entry| entry.file_type().is_file());
    files.map(|entry| fs::read_to_string(entry.path()).expect("a file")).collect()
}

#[track_caller]
fn assert_contents(pair: &Pair, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_string()).collect();
    assert_eq!(contents(&pair.source()), expected);
    assert_eq!(contents(&pair.replica()), expected);
}

fn append_to(file: &mut fs::File, text: &str) {
    file.write_all(text.as_bytes()).expect("write");
}

#[test]
fn what_is_saved_in_the_moment_of_its_removal_stays() {
    if !may_trace() {
        return;
    }
    for atomically in [true, false] {
        let pair = agreed("f \"old\"\n other \"o\"");
        disk::remove(&pair.source().join("f"));
        let f = pair.replica().join("f");
        let save = || if atomically { disk::save_atomically(&f, b"new") } else { disk::write(&f, "new") };
        sync_held(&pair, PARK, &[(At::Enter, &save)]);
        assert_contents(&pair, &["new", "o"]);
    }
}

#[test]
fn what_is_written_between_the_move_and_the_last_look_stays() {
    if !may_trace() {
        return;
    }
    // Under the name that is free by then.
    let pair = agreed("f \"old\"\n other \"o\"");
    disk::remove(&pair.source().join("f"));
    sync_held(&pair, PARK, &[(At::Exit, &|| disk::write(&pair.replica().join("f"), "new"))]);
    assert_contents(&pair, &["new", "o"]);
    // Through a descriptor that was opened before.
    let pair = agreed("f \"old\"\n other \"o\"");
    disk::remove(&pair.source().join("f"));
    let file = fs::File::options().append(true).open(pair.replica().join("f")).expect("open");
    let file = std::cell::RefCell::new(file);
    sync_held(&pair, PARK, &[(At::Exit, &|| append_to(&mut file.borrow_mut(), " and new"))]);
    assert_contents(&pair, &["old and new", "o"]);
    // Both at once: the name is taken when the other one goes back.
    let pair = agreed("f \"old\"\n other \"o\"");
    disk::remove(&pair.source().join("f"));
    let file = fs::File::options().append(true).open(pair.replica().join("f")).expect("open");
    let file = std::cell::RefCell::new(file);
    let work = || {
        append_to(&mut file.borrow_mut(), " and new");
        disk::write(&pair.replica().join("f"), "newer");
    };
    sync_held(&pair, PARK, &[(At::Exit, &work)]);
    assert_contents(&pair, &["old and new", "newer", "o"]);
}

#[test]
fn what_comes_into_a_tree_that_is_being_removed_stays_with_its_folders() {
    if !may_trace() {
        return;
    }
    for side in ["source", "replica"] {
        let pair = agreed("t/1 \"1\"\n t/2 \"2\"\n t/u/3 \"3\"\n t/u/4 \"4\"\n t/v/5 \"5\"\n o \"o\"");
        let (gone, stays) = match side {
            "source" => (pair.replica(), pair.source()),
            _ => (pair.source(), pair.replica()),
        };
        disk::remove(&gone.join("t"));
        let work = || {
            disk::write(&stays.join("t/u/new"), "new");
            disk::write(&stays.join("t/u/3"), "written in place");
            disk::save_atomically(&stays.join("t/v/5"), b"saved");
            disk::write(&stays.join("t/w/deep/newer"), "newer");
            fs::rename(stays.join("t/u/4"), stays.join("t/u/renamed")).expect("rename");
        };
        // The survey is over, and the first entry about to go.
        sync_held(&pair, PARK, &[(At::Enter, &work)]);
        assert_contents(&pair, &["new", "written in place", "saved", "newer", "4", "o"]);
    }
}

#[test]
fn what_comes_into_a_folder_that_something_else_replaces_stays() {
    if !may_trace() {
        return;
    }
    // Before the first of its entries goes, and when all of them are gone.
    for nth in [1, 3] {
        for kind in ["file", "link"] {
            let pair = agreed("t/1 \"1\"\n t/u/2 \"2\"\n o \"o\"");
            disk::remove(&pair.source().join("t"));
            match kind {
                "file" => disk::write(&pair.source().join("t"), "t"),
                _ => disk::symlink("o", &pair.source().join("t")),
            }
            let work = || disk::write(&pair.replica().join("t/new"), "new");
            sync_held(&pair, Call("renameat2", nth), &[(At::Enter, &work)]);
            let expected: &[&str] = if kind == "file" { &["new", "t", "o"] } else { &["new", "o"] };
            assert_contents(&pair, expected);
        }
    }
}

#[test]
fn what_is_saved_in_the_moment_of_its_replacement_stays() {
    if !may_trace() {
        return;
    }
    for kind in ["file", "link", "folder"] {
        let pair = agreed("f \"old\"\n o \"o\"");
        let f = pair.source().join("f");
        disk::remove(&f);
        match kind {
            "file" => disk::write(&f, "theirs"),
            "link" => disk::symlink("o", &f),
            _ => disk::write(&f.join("in"), "theirs"),
        }
        rest();
        let save = || disk::save_atomically(&pair.replica().join("f"), b"mine");
        sync_held(&pair, PARK, &[(At::Enter, &save)]);
        let expected: &[&str] = if kind == "link" { &["mine", "o"] } else { &["mine", "theirs", "o"] };
        assert_contents(&pair, expected);
    }
}

#[test]
fn what_is_saved_twice_around_a_replacement_is_the_later_one() {
    if !may_trace() {
        return;
    }
    let pair = agreed("f \"old\"\n o \"o\"");
    disk::write(&pair.source().join("f"), "theirs");
    rest();
    let f = pair.replica().join("f");
    let save = |text: &'static str| disk::save_atomically(&f, text.as_bytes());
    // The second one takes the place of what the program has just published.
    sync_held(&pair, PARK, &[(At::Enter, &|| save("first")), (At::Exit, &|| save("second"))]);
    assert_contents(&pair, &["second", "theirs", "o"]);
    // The second one is a removal.
    let pair = agreed("f \"old\"\n o \"o\"");
    disk::write(&pair.source().join("f"), "theirs");
    rest();
    let f = pair.replica().join("f");
    let work: [(At, &dyn Fn()); 2] =
        [(At::Enter, &|| disk::save_atomically(&f, b"first")), (At::Exit, &|| disk::remove(&f))];
    sync_held(&pair, PARK, &work);
    assert_contents(&pair, &["first", "theirs", "o"]);
}

/// Ends the program that strace holds, by one of its threads.
fn kill_held(calls: &Path) {
    let text = fs::read_to_string(calls).expect("calls");
    let thread = text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a thread");
    let pid = rustix::process::Pid::from_raw(thread).expect("its number");
    rustix::process::kill_process(pid, Signal::KILL).expect("killed");
}

#[test]
fn what_is_saved_in_the_moment_of_its_removal_or_replacement_stays_where_the_program_is_killed_just_then() {
    if !may_trace() {
        return;
    }
    for side in ["source", "replica"] {
        for is_replaced in [false, true] {
            let pair = agreed("f \"old\"\n o \"o\"");
            let (from, to) = match side {
                "source" => (pair.source(), pair.replica()),
                _ => (pair.replica(), pair.source()),
            };
            disk::remove(&from.join("f"));
            if is_replaced {
                disk::write(&from.join("f"), "theirs");
            }
            rest();
            let calls = pair.top().join("calls");
            let work: [(At, &dyn Fn()); 2] =
                [(At::Enter, &|| disk::save_atomically(&to.join("f"), b"mine")), (At::Exit, &|| kill_held(&calls))];
            sync_held(&pair, PARK, &work);
            let expected: &[&str] = if is_replaced { &["mine", "theirs", "o"] } else { &["mine", "o"] };
            assert_contents(&pair, expected);
        }
    }
}

#[test]
fn what_was_judged_does_not_come_back_after_a_kill() {
    if !may_trace() {
        return;
    }
    for is_replaced in [false, true] {
        let pair = agreed("f \"old\"\n o \"o\"");
        disk::remove(&pair.source().join("f"));
        if is_replaced {
            disk::write(&pair.source().join("f"), "theirs");
        }
        rest();
        let calls = pair.top().join("calls");
        sync_held(&pair, PARK, &[(At::Exit, &|| kill_held(&calls))]);
        assert_contents(&pair, if is_replaced { &["theirs", "o"] } else { &["o"] });
    }
}

#[test]
fn what_is_written_in_the_moment_when_its_time_is_set_is_not_hidden_by_that() {
    if !may_trace() {
        return;
    }
    for older in ["source", "replica"] {
        let pair = Pair::of("f \"same\"");
        let (older, newer) =
            if older == "source" { (pair.source(), pair.replica()) } else { (pair.replica(), pair.source()) };
        for (side, seconds) in [(&older, 1_000_000_000), (&newer, 1_100_000_000)] {
            disk::write(&side.join("f"), "same");
            crate::random_ops::set_mtime(&side.join("f"), seconds, 0).expect("set");
        }
        rest();
        let work = || {
            let mut file = fs::File::options().write(true).open(older.join("f")).expect("open");
            append_to(&mut file, "SAME");
        };
        sync_held(&pair, Call("utimensat", 1), &[(At::Enter, &work)]);
        assert_contents(&pair, &["same", "SAME"]);
    }
}

#[test]
fn what_is_written_to_a_file_that_has_just_been_published_is_not_agreed() {
    if !may_trace() {
        return;
    }
    for call in ["renameat2", "linkat"] {
        let pair = agreed("f \"old\"\n o \"o\"");
        let name = if call == "linkat" { "new" } else { "f" };
        disk::write(&pair.source().join(name), "theirs");
        rest();
        sync_held(&pair, Call(call, 1), &[(At::Exit, &|| disk::append(&pair.replica().join(name), b" and mine"))]);
        let expected: &[&str] = if name == "f" { &["theirs and mine", "o"] } else { &["theirs and mine", "old", "o"] };
        assert_contents(&pair, expected);
    }
}

/// strace, attached to a running service. It lets go when this goes.
fn attached(watch: &crate::fixture::Watch, call: Call, at: At, calls: &Path) -> Running {
    let options = holding(call, &[at], calls);
    let mut strace = Command::new("strace");
    strace.args(options).args(["-p", &watch.pid().to_string()]);
    let tracer = Running::start(strace);
    let status = PathBuf::from(format!("/proc/{}/status", watch.pid()));
    eventually(Duration::from_secs(60), "strace is attached", || {
        let text = fs::read_to_string(&status).expect("status");
        text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")).then_some(())
    });
    tracer
}

#[test]
fn what_is_written_in_the_moment_of_a_rename_goes_with_it() {
    if !may_trace() {
        return;
    }
    for (from, to, written) in [("f", "g", "f"), ("t", "u", "t/f")] {
        let pair = agreed("f \"old\"\n t/f \"old too\"\n o \"o\"");
        let watch = pair.watch(&["--two-way"]);
        let calls = pair.top().join("calls");
        let tracer = attached(&watch, PARK, At::Enter, &calls);
        fs::rename(pair.source().join(from), pair.source().join(to)).expect("rename");
        wait_for(PARK, At::Enter, &calls);
        disk::append(&pair.replica().join(written), b" and new");
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&tracer.0), Signal::INT);
        watch.assert_follows();
        watch.stop();
        let expected = if from == "f" { ["old and new", "old too", "o"] } else { ["old", "old too and new", "o"] };
        assert_contents(&pair, &expected);
    }
}

#[test]
fn what_is_written_into_trees_while_they_are_removed_survives() {
    let rounds: usize = std::env::var("DRIFTLESS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let pair = agreed("o \"o\"");
    let watch = pair.watch(&["--two-way", "--max-delete", "100%"]);
    let mut kept = BTreeSet::from(["o".to_string()]);
    let aside = pair.top().join("aside");
    for round in 0..rounds {
        let (gone, stays) =
            if round % 2 == 0 { (pair.source(), pair.replica()) } else { (pair.replica(), pair.source()) };
        let tree = format!("t{round}");
        for i in 0..120 {
            disk::write(&gone.join(format!("{tree}/{}/{i}", i % 6)), format!("old {round} {i}"));
        }
        watch.flush();
        disk::remove(&gone.join(&tree));
        // The removal comes after the debounce: some of this before it, some in the midst of it, some after.
        for i in 0..240 {
            let folder = stays.join(format!("{tree}/{}", i % 6));
            let text = format!("new {round} {i}");
            if i % 30 == 0 && fs::write(folder.join(format!("new {i}")), &text).is_ok() {
                kept.insert(text);
            }
            let text = format!("saved {round} {i}");
            disk::write(&aside, &text);
            // Only where there is something: it goes, and what has taken its place must not.
            if i % 10 == 0 && disk::exchange(&aside, &folder.join(format!("{}", i % 120))).is_ok() {
                kept.remove(&fs::read_to_string(&aside).expect("what was there"));
                kept.insert(text);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        watch.flush();
    }
    watch.assert_follows();
    watch.stop();
    let found = contents(&pair.source());
    let lost: Vec<&String> = kept.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(found, contents(&pair.replica()));
}

#[test]
fn a_folder_that_is_moved_on_in_the_moment_in_which_its_rename_goes_across_is_no_new_one() {
    let pair = agreed("d/f \"1\"\n d/e/g \"2\"\n o \"o\"");
    let watch = pair.watch(&["--two-way", "--debounce", "5ms", "--max-delete", "100%"]);
    for n in 0..40 {
        let (side, other) = if n % 2 == 0 { (pair.source(), pair.replica()) } else { (pair.replica(), pair.source()) };
        fs::rename(side.join("d"), side.join("e")).expect("rename");
        let start = Instant::now();
        while !disk::exists(&other.join("e")) && start.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        fs::rename(side.join("e"), side.join("h")).expect("rename");
        if n % 4 < 2 {
            disk::symlink("o", &side.join("e"));
        }
        watch.assert_follows();
        let names = fs::read_dir(&side).expect("a folder").map(|entry| entry.expect("one").file_name());
        let names: BTreeSet<_> = names.filter(|name| name != ".driftless").collect();
        let expected: &[&str] = if n % 4 < 2 { &["e", "h", "o"] } else { &["h", "o"] };
        assert!(names.iter().eq(expected), "{n}: {names:?}\n{}", watch.log());
        assert_contents(&pair, &["1", "2", "o"]);
        if n % 4 < 2 {
            disk::remove(&side.join("e"));
        }
        fs::rename(side.join("h"), side.join("d")).expect("rename");
        watch.assert_follows();
    }
    watch.stop();
}
