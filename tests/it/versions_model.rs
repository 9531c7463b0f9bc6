//! Random work on the source, with a picture of it at each flush: for each of these times, what the replica's disk tells
//! of it is exactly the tree that was there, by a reader of the journal of the tests' own and by `driftless restore`.
//!
//! `DRIFTLESS_SEEDS`, `DRIFTLESS_FIRST_SEED` and `DRIFTLESS_KEEP_LOGS` as in `random`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::compare::{self, Reserved};
use crate::disk;
use crate::fixture::{Pair, Watch, run};
use crate::random::{Queue, each_seed};
use crate::random_ops::Done;
use crate::random_work::Work;
use crate::versions_past::{Nanos, Past, Picture, journal, shown};

pub const KEEP: [&str; 4] = ["--keep-versions", "30d", "--max-delete", "100%"];

/// A moment at which nothing was under way, and the tree that was there.
pub struct Noted {
    pub time: Nanos,
    pub picture: Picture,
}

pub fn now() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as Nanos
}

impl Noted {
    /// The tree as it is, with a time that no change has.
    pub fn here(top: &Path) -> Self {
        thread::sleep(Duration::from_millis(2));
        let noted = Self { time: now(), picture: Picture::of(top) };
        thread::sleep(Duration::from_millis(2));
        noted
    }
}

/// What the replica's disk does not tell as it was, by the tests' own reading of the journal.
pub fn untold(replica: &Path, noted: &[Noted]) -> Option<String> {
    if noted.is_empty() {
        return None;
    }
    let mut past = Past::of(replica);
    for (nth, Noted { time, picture }) in noted.iter().enumerate().rev() {
        past.go_back_to(*time);
        let found = past.picture.differences(picture);
        if !found.is_empty() {
            let list = found[..found.len().min(12)].join("\n  ");
            return Some(format!("at the {nth}th of {} times, {}:\n  {list}", noted.len(), at(*time)));
        }
    }
    None
}

/// A time as the command line takes it.
pub fn at(time: Nanos) -> String {
    format!("@{}.{:09}", time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000))
}

/// What `driftless restore` makes otherwise than it was: of all, or of what was at `path`.
pub fn unrestored(pair: &Pair, noted: &Noted, path: &[u8]) -> Option<String> {
    let to = pair.top().join("restored");
    let mut command = pair.command(&["restore"]);
    command.arg("--replica").arg(pair.replica()).arg("--to").arg(&to).args(["--at", &at(noted.time), "--"]);
    command.arg(if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) });
    // A person stands anywhere.
    command.current_dir(pair.runtime());
    let ran = run(command);
    let what = format!("restore of {} at {}", shown(path), at(noted.time));
    if ran.code != Some(0) {
        return Some(format!("{what}: exit code {:?}: {}", ran.code, ran.text()));
    }
    let found = Picture::of(&to).differences(&noted.picture.below(path));
    disk::open_all(&to);
    disk::remove(&to);
    (!found.is_empty()).then(|| format!("{what}:\n  {}", found[..found.len().min(12)].join("\n  ")))
}

/// Both readings, the second of all times and of some paths at each.
pub fn trouble(pair: &Pair, noted: &[Noted], work: &mut Work) -> Option<String> {
    untold(&pair.replica(), noted).or_else(|| {
        noted.iter().find_map(|noted| {
            let paths: Vec<_> = noted.picture.names.keys().collect();
            let mut some = vec![Vec::new()];
            some.extend((0..work.below(3)).map(|_| paths[work.one_of(paths.len())].clone()));
            some.iter().find_map(|path| unrestored(pair, noted, path))
        })
    })
}

const NAMES: [&[u8]; 8] =
    [b"\xff\xfe.bin", b"a=b", b"back\\slash", b"tab\there", b".hidden", b"~", b"x~2026.txt", LONG];
const LONG: &[u8] = &[b'l'; 255];

/// One operation, now and then one that `random_ops` has not.
pub fn step(work: &mut Work) {
    if !work.chance(6) {
        return work.step();
    }
    let number = work.below(6);
    let done = match number {
        0 => odd_name(work),
        1 => rename_over(work),
        2 => folder_over_folder(work),
        3 => into_another(work),
        4 => swap_in_place(work),
        _ => all_of_a_folder(work),
    };
    work.log.push(format!("{number}: {done:?}"));
}

fn odd_name(work: &mut Work) -> Done {
    let name = OsStr::from_bytes(NAMES[work.one_of(NAMES.len())]);
    let (from, to) = (work.any_entry()?, work.any_folder().join(name));
    fs::rename(&from, &to)?;
    Ok(format!("{} -> {}", from.display(), to.display()))
}

fn rename_over(work: &mut Work) -> Done {
    let (from, to) = (work.any_other()?, work.any_other()?);
    fs::rename(&from, &to)?;
    Ok(format!("{} -> {}", from.display(), to.display()))
}

fn folder_over_folder(work: &mut Work) -> Done {
    let (from, to) = (work.inner_folder()?, work.inner_folder()?);
    if from == to || to.starts_with(&from) || from.starts_with(&to) {
        return Err(io::Error::other("one in the other"));
    }
    fs::remove_dir_all(&to)?;
    fs::create_dir(&to)?;
    fs::rename(&from, &to)?;
    Ok(format!("{} -> {}", from.display(), to.display()))
}

fn into_another(work: &mut Work) -> Done {
    let (from, folder) = (work.inner_folder()?, work.any_folder());
    let to = folder.join(from.file_name().unwrap_or(OsStr::new("x")));
    fs::rename(&from, &to)?;
    Ok(format!("{} -> {}", from.display(), to.display()))
}

/// Another entry of the same name, with the old one elsewhere.
fn swap_in_place(work: &mut Work) -> Done {
    let (path, to, bytes) = (work.any_other()?, work.any_place(), work.bytes());
    if disk::exists(&to) {
        return Err(io::Error::other("taken"));
    }
    fs::rename(&path, &to)?;
    fs::write(&path, bytes)?;
    Ok(format!("{} -> {}", path.display(), to.display()))
}

/// A folder in which its owner may do nothing, if that is not root; or not so any more.
fn closed_folder(work: &mut Work) -> Done {
    let path = work.any_folder();
    let mode = if fs::symlink_metadata(&path)?.permissions().mode() & 0o200 == 0 { 0o755 } else { 0o555 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(format!("{} {mode:o}", path.display()))
}

/// Everything in a folder goes to another one.
fn all_of_a_folder(work: &mut Work) -> Done {
    let (from, to) = (work.inner_folder()?, work.any_folder());
    for entry in fs::read_dir(&from)?.flatten() {
        fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(format!("{} -> {}", from.display(), to.display()))
}

/// What a person needs to understand a failure.
pub fn circumstances(pair: &Pair, seed: u64, said: &str, work: &[String]) -> String {
    let lines: Vec<_> = journal(&pair.replica()).into_iter().map(|line| line.text).collect();
    if let Ok(folder) = std::env::var("DRIFTLESS_KEEP_LOGS") {
        for (what, text) in [("log", said), ("work", &work.join("\n")), ("journal", &lines.join("\n"))] {
            let _ = fs::write(format!("{folder}/{seed}.{what}"), text);
        }
    }
    let tail = |lines: &[String], count: usize| lines[lines.len().saturating_sub(count)..].join("\n  ");
    format!("last operations:\n  {}\nend of the journal:\n  {}", tail(work, 30), tail(&lines, 40))
}

fn by_syncs(seed: u64) -> Result<(), String> {
    let pair = Pair::new();
    let mut work = Work::new(seed, &pair.source(), &pair.top().join("outside"));
    let jobs = (1 + work.below(4)).to_string();
    let mut options = [&KEEP[..], &["-v", "--jobs", &jobs]].concat();
    if work.chance(3) {
        options.extend(["--durability", "none"]);
    }
    let (mut noted, mut said) = (Vec::new(), String::new());
    for round in 0..5 {
        for _ in 0..work.below(120) {
            step(&mut work);
            if work.chance(20) {
                let done = closed_folder(&mut work);
                work.log.push(format!("closed: {done:?}"));
            }
        }
        // What is younger than the clock's grain is compared more closely.
        thread::sleep(Duration::from_millis(work.below(2) * 15));
        let ran = pair.try_sync(&options);
        said.push_str(&ran.text());
        if ran.code != Some(0) {
            return Err(format!("seed {seed}, round {round}: exit code {:?}: {}", ran.code, ran.text()));
        }
        noted.push(Noted::here(&pair.source()));
    }
    let trouble = trouble(&pair, &noted, &mut work);
    trouble.map_or(Ok(()), |text| {
        let around = circumstances(&pair, seed, &said, &work.log);
        Err(format!("seed {seed}, syncs, {}: {text}\n{around}", options.join(" ")))
    })
}

/// `kills`: the service is killed at random moments between the flushes.
fn by_service(seed: u64, kills: bool) -> Result<(), String> {
    let pair = Pair::new();
    let mut work = Work::new(seed, &pair.source(), &pair.top().join("outside"));
    let options: Vec<&str> = [&KEEP[..], &["-v"], [&[][..], &["--debounce", "5ms"]][work.one_of(2)]].concat();
    (0..60).for_each(|_| step(&mut work));
    let mut noted = Vec::new();
    let mut watch: Option<Watch> = Some(pair.start_watch(&options));
    let between = |work: &mut Work, most: u64| {
        for _ in 0..work.below(most) {
            step(work);
            if work.chance(40) {
                thread::sleep(Duration::from_millis(work.below(40)));
            }
        }
    };
    for round in 0..4 {
        between(&mut work, 150);
        if kills {
            for _ in 0..1 + work.below(3) {
                thread::sleep(Duration::from_millis(work.below(150)));
                watch.take().expect("it runs").kill();
                if let Some(text) = untold(&pair.replica(), &noted) {
                    let around = circumstances(&pair, seed, "", &work.log);
                    return Err(format!("seed {seed}, right after a kill, {}: {text}\n{around}", options.join(" ")));
                }
                between(&mut work, 30);
                watch = Some(pair.start_watch(&options));
                between(&mut work, 30);
            }
        }
        let running = watch.as_ref().expect("it runs");
        running.wait_for_answer();
        let ran = running.client("flush", &["--timeout", "60s"]);
        if ran.code != Some(0) {
            return Err(format!("seed {seed}, round {round}: flush: {}", ran.text()));
        }
        noted.push(Noted::here(&pair.source()));
        let found = compare::differences(&pair.source(), &pair.replica(), Reserved::Ignored);
        if !found.is_empty() {
            let around = circumstances(&pair, seed, &running.log(), &work.log);
            return Err(format!("seed {seed}, round {round}, the flush itself: {}\n{around}", compare::list(&found)));
        }
    }
    if work.chance(2) {
        // What a running service tells is all there, too.
        if let Some(text) = untold(&pair.replica(), &noted) {
            let around = circumstances(&pair, seed, &watch.expect("it runs").log(), &work.log);
            return Err(format!("seed {seed}, service still there, {}: {text}\n{around}", options.join(" ")));
        }
    }
    let running = watch.take().expect("it runs");
    let said = running.log();
    running.stop();
    trouble(&pair, &noted, &mut work).map_or(Ok(()), |text| {
        let around = circumstances(&pair, seed, &said, &work.log);
        Err(format!("seed {seed}, service, {}: {text}\n{around}", options.join(" ")))
    })
}

#[test]
fn each_flushed_tree_can_be_had_again_after_syncs() {
    each_seed(2, by_syncs);
}

#[test]
fn each_flushed_tree_can_be_had_again_from_under_a_service() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| by_service(seed, false));
}

#[test]
fn each_flushed_tree_can_be_had_again_from_under_a_service_that_is_killed_again_and_again() {
    let _queue = Queue::wanted();
    each_seed(1, |seed| by_service(seed, true));
}
