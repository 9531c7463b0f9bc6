//! Random work on both sides at once, on the same names too: at every flush both sides are strictly equal, and whatever
//! either side ever finished writing is on both unless something really came in its place.
//!
//! A failure prints the seed, the last operations, what is wrong, whether time mends it, and the end of the log.
//! `DRIFTLESS_SEEDS`, `DRIFTLESS_FIRST_SEED` and `DRIFTLESS_QUEUE` as in `random`; `DRIFTLESS_HARD_LINKS=1` makes hard links
//! too, `DRIFTLESS_UNSEEN=1` writes that leave size and mtime as they were, which look like a change of attributes to the
//! side that has changed or removed the file meanwhile; `DRIFTLESS_KEEP_LOGS=FOLDER` keeps the logs of
//! what failed. The operations are in `two_way_work`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::compare::Reserved;
use crate::disk;
use crate::fixture::{Pair, Watch, run, wrapped};
use crate::random::{Queue, each_seed};
use crate::two_way_work::Both;

const ROUNDS: usize = 4;

fn work_on(pair: &Pair, seed: u64) -> Both {
    Both::new(seed, [&pair.source(), &pair.replica()], &pair.top().join("outside"))
}

/// The last of what was done, and the end of what the service said.
fn circumstances(both: &Both, log: &str, seed: u64) -> String {
    if let Ok(folder) = std::env::var("DRIFTLESS_KEEP_LOGS") {
        let _ = fs::write(format!("{folder}/{seed}.log"), log);
        let _ = fs::write(format!("{folder}/{seed}.work"), both.log.join("\n"));
    }
    let tail = |lines: &[&str], count: usize| lines[lines.len().saturating_sub(count)..].join("\n  ");
    let done: Vec<_> = both.log.iter().map(String::as_str).collect();
    let lines: Vec<_> = log.lines().collect();
    format!("last operations:\n  {}\nend of the log:\n  {}", tail(&done, 30), tail(&lines, 40))
}

#[test]
fn syncs_between_random_work_make_both_sides_equal_and_lose_nothing() {
    each_seed(3, |seed| {
        let pair = Pair::new();
        let mut both = work_on(&pair, seed);
        let mut said = String::new();
        let jobs = (1 + both.below(4)).to_string();
        let options = ["--two-way", "--max-delete", "100%", "-v", "--jobs", &jobs];
        for round in 0..6 {
            for _ in 0..both.below(40) {
                both.step();
                if both.chance(5) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            let ran = pair.try_sync(&options);
            said.push_str(&ran.text());
            let mut trouble = both.trouble(Reserved::Forbidden);
            if ran.code != Some(0) {
                trouble = Some(format!("exit code {:?}; {trouble:?}", ran.code));
            }
            thread::sleep(Duration::from_millis(20));
            let again = pair.try_sync(&options).text();
            let is_idle =
                again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links");
            if !is_idle {
                trouble = Some(format!("the second pass: {again}\n{trouble:?}"));
            }
            if let Some(trouble) = trouble {
                return Err(format!("seed {seed}, round {round}: {trouble}\n{}", circumstances(&both, &said, seed)));
            }
        }
        Ok(())
    });
}

/// What happens to the service and to the folders while there is work.
#[derive(Clone, Copy, PartialEq)]
enum Upset {
    Nothing,
    Kills,
    /// The same where no two have anything to be in conflict about.
    KillsApart,
    /// One root at a time is another folder's name for a while.
    Renames,
    /// Each root is a mount, which goes and comes back.
    Unmounts,
}

/// A mount namespace, there as long as this is, in which both roots are bind mounts of folders beside them.
struct Mounts {
    holder: Child,
    top: PathBuf,
}

const SIDES: [&str; 2] = ["source", "replica"];

impl Mounts {
    /// `None` where nobody may mount.
    fn of(pair: &Pair) -> Option<Self> {
        if !disk::is_root() {
            disk::skipped("roots that are mounts: only root makes them");
            return None;
        }
        for side in SIDES {
            fs::create_dir_all(pair.top().join(side)).expect("mkdir");
            fs::create_dir_all(pair.top().join("disk").join(side)).expect("mkdir");
        }
        let script =
            "mount --bind disk/source source && mount --bind disk/replica replica && echo ready; exec sleep 600";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .current_dir(pair.top())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut mounts = Self { holder: command.spawn().ok()?, top: pair.top().to_owned() };
        let mut line = String::new();
        BufReader::new(mounts.holder.stdout.take().expect("its output")).read_line(&mut line).expect("read");
        if line != "ready\n" {
            disk::skipped("roots that are mounts: no mount namespace here");
            return None;
        }
        Some(mounts)
    }

    fn inside(&self, command: &Command) -> Command {
        wrapped(&["nsenter", "--target", &self.holder.id().to_string(), "--mount", "--"], command)
    }

    fn mount(&self, program: &str, side: usize) {
        let mut command = Command::new(program);
        let place = self.top.join(SIDES[side]);
        match program {
            "mount" => command.arg("--bind").arg(self.top.join("disk").join(SIDES[side])).arg(place),
            _ => command.arg("-l").arg(place),
        };
        run(self.inside(&command)).expect_code(0);
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A service over two sides at work.
struct Scene<'a> {
    pair: &'a Pair,
    mounts: Option<Mounts>,
    options: Vec<String>,
    both: Both,
    watch: Option<Watch<'a>>,
}

impl<'a> Scene<'a> {
    fn start(&mut self) {
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        let command = self.pair.watch_command(&options);
        let command = self.mounts.as_ref().map_or_else(|| self.pair.watch_command(&options), |m| m.inside(&command));
        self.watch = Some(self.pair.launch(command));
    }

    fn watch(&self) -> &Watch<'a> {
        self.watch.as_ref().expect("it runs")
    }

    fn work(&mut self, most: u64, sides: &[usize]) {
        for _ in 0..self.both.below(most) {
            let at = self.both.below(sides.len() as u64) as usize;
            self.both.step_on(sides[at]);
            if self.both.chance(4) {
                thread::sleep(Duration::from_millis(self.both.below(40)));
            }
        }
    }

    fn upset(&mut self, upset: Upset) {
        match upset {
            Upset::Nothing => {}
            Upset::Kills | Upset::KillsApart => {
                // From the first moments of a start to the midst of the work.
                thread::sleep(Duration::from_millis(self.both.below(150)));
                if let Some(watch) = self.watch.take() {
                    watch.kill();
                }
                self.work(6, &[0, 1]);
                self.start();
            }
            Upset::Renames | Upset::Unmounts => self.take_away(),
        }
    }

    /// Takes one side away, lets work go on, on what is away too, and brings it back.
    fn take_away(&mut self) {
        // What is not there when a service starts is made.
        self.watch().wait_for_answer();
        let side = self.both.below(2) as usize;
        let root = self.pair.top().join(SIDES[side]);
        let away = self.pair.top().join("away");
        match &self.mounts {
            Some(mounts) => mounts.mount("umount", side),
            None => {
                fs::rename(&root, &away).expect("rename");
                self.both.moved(side, &away);
            }
        }
        self.work(20, &[0, 1, 1 - side]);
        if self.both.chance(2) {
            thread::sleep(Duration::from_millis(self.both.below(600)));
        }
        match &self.mounts {
            Some(mounts) => mounts.mount("mount", side),
            None => {
                // Nobody may have made a folder in its place.
                fs::rename(&away, &root).expect("rename back");
                self.both.moved(side, &root);
            }
        }
        self.work(10, &[0, 1]);
    }

    fn flush(&mut self) -> Option<String> {
        self.watch().wait_for_answer();
        let is_held = || self.watch().status()["state"] == "held";
        if (0..1500).all(|_| {
            thread::sleep(Duration::from_millis(10));
            is_held()
        }) {
            return Some(format!("it does not go on: {}", self.watch().status()));
        }
        let ran = self.watch().client("flush", &["--timeout", "60s"]);
        let trouble = self.both.trouble(Reserved::Ignored);
        if ran.code == Some(0) { trouble } else { Some(format!("flush: {}\n{trouble:?}", ran.text())) }
    }
}

fn live(seed: u64, upset: Upset, policy: &str) -> Result<(), String> {
    let pair = Pair::new();
    let mounts = if upset == Upset::Unmounts { Mounts::of(&pair) } else { None };
    if upset == Upset::Unmounts && mounts.is_none() {
        return Ok(());
    }
    let on = |side: &str| if mounts.is_some() { pair.top().join("disk").join(side) } else { pair.top().join(side) };
    let outside = if mounts.is_some() { pair.top().join("disk/outside") } else { pair.top().join("outside") };
    let sides: [PathBuf; 2] = SIDES.map(on);
    let mut both = Both::new(seed, sides.each_ref().map(PathBuf::as_path), &outside);
    if upset == Upset::KillsApart {
        both = both.apart();
    }
    let mut options: Vec<String> =
        ["--two-way", "--max-delete", "100%", "-v", "--conflict", policy].map(str::to_owned).to_vec();
    if both.chance(4) {
        options.extend(["--debounce".into(), "5ms".into()]);
    }
    if both.chance(4) {
        options.extend(["--durability".into(), "none".into()]);
    }
    (0..both.below(60)).for_each(|_| both.step());
    let mut scene = Scene { pair: &pair, mounts, options, both, watch: None };
    scene.start();
    if scene.both.chance(2) {
        scene.watch().wait_for_answer();
    }
    for round in 0..ROUNDS {
        scene.work(80, &[0, 1]);
        if upset != Upset::Nothing {
            for _ in 0..1 + scene.both.below(3) {
                scene.upset(upset);
                scene.work(20, &[0, 1]);
            }
        }
        let trouble = scene.flush();
        let gives_up = policy != "keep-both" && scene.watch().log().contains("is given up");
        let trouble = match trouble {
            // A version that yielded is gone because a person wants it so.
            Some(text) if gives_up && text.lines().all(|line| line.starts_with("lost: ")) => {
                scene.both.give_up_lost();
                None
            }
            other => other,
        };
        if let Some(trouble) = trouble {
            thread::sleep(Duration::from_secs(2));
            let later = scene.both.trouble(Reserved::Ignored).unwrap_or_else(|| "all is well".into());
            let options = scene.options.join(" ");
            let around = circumstances(&scene.both, &scene.watch().log(), seed);
            return Err(format!(
                "seed {seed}, round {round}, {options}: {trouble}\ntwo seconds later: {later}\n{around}"
            ));
        }
    }
    let log = scene.watch().log();
    scene.watch.take().expect("it runs").stop();
    match scene.both.trouble(Reserved::Forbidden) {
        Some(text) if policy == "keep-both" || !text.lines().all(|line| line.starts_with("lost: ")) => {
            Err(format!("seed {seed}, after the stop: {text}\n{}", circumstances(&scene.both, &log, seed)))
        }
        _ => Ok(()),
    }
}

#[test]
fn random_work_on_both_sides_is_equal_at_every_flush_and_nothing_is_lost() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| live(seed, Upset::Nothing, "keep-both"));
}

#[test]
fn random_work_with_each_policy_is_equal_at_every_flush() {
    let _queue = Queue::wanted();
    each_seed(3, |seed| live(seed, Upset::Nothing, ["newer", "source", "replica"][(seed % 3) as usize]));
}

#[test]
fn random_work_under_a_service_that_is_killed_again_and_again_loses_nothing() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| live(seed, Upset::Kills, "keep-both"));
}

#[test]
fn random_work_of_each_side_by_itself_is_no_conflict_however_often_the_service_is_killed() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| live(seed, Upset::KillsApart, "keep-both"));
}

#[test]
fn random_work_while_either_root_is_renamed_away_loses_nothing() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| live(seed, Upset::Renames, "keep-both"));
}

#[test]
fn random_work_while_either_side_is_unmounted_loses_nothing() {
    let _queue = Queue::wanted();
    each_seed(2, |seed| live(seed, Upset::Unmounts, "keep-both"));
}
