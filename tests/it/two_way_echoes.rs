//! What the program itself writes in two folders that are both followed comes back as events, and ends there: nothing is
//! copied for it, and what it costs to see that is counted.

use std::fs::{self, File, FileTimes};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crate::disk;
use crate::fixture::Pair;
use crate::idle::{cpu_ticks, wakeups};

/// How long the service is observed. A measurement's length, not a guess at when something will have happened.
const OBSERVED: Duration = Duration::from_secs(3);

#[test]
fn a_saved_file_is_one_copy_and_its_echo_few_looks() {
    let pair = Pair::of("folder/f \"1\"\n g \"1\"");
    let watch = pair.watch(&["--two-way", "-v"]);
    thread::sleep(Duration::from_millis(50));
    let sides = [pair.source(), pair.replica()];
    // New ones, updates in place and by a rename, from each side.
    let saves: [(&str, usize, bool); 6] = [
        ("new", 0, false),
        ("folder/new too", 1, false),
        ("folder/f", 1, false),
        ("g", 0, false),
        ("folder/f", 0, true),
        ("g", 1, true),
    ];
    for (nth, (name, side, atomically)) in saves.into_iter().enumerate() {
        let before = watch.log().lines().count();
        let (path, text) = (sides[side].join(name), nth.to_string().repeat(nth + 1));
        watch.at_one_go(|| match atomically {
            true => disk::save_atomically(&path, text.as_bytes()),
            false => disk::write(&path, &text),
        });
        watch.assert_follows();
        // What waits for the debounce, or is compared again within the clock's grain.
        thread::sleep(Duration::from_millis(500));
        watch.flush();
        let log = watch.log();
        let lines: Vec<&str> = log.lines().skip(before).collect();
        let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        let done = count("File copied: ") + count("File updated: ");
        let looks = lines.iter().filter(|l| l.contains("Decided: ") && l.contains(name)).count();
        let unnamed = lines.iter().filter(|l| l.contains("Decided: ") && l.contains("/#")).count();
        assert_eq!((done, unnamed), (1, 0), "{name}:\n{}", lines.join("\n"));
        assert!(looks <= 12, "{name}: {looks} looks\n{}", lines.join("\n"));
    }
    watch.stop();
}

/// What is doubted of contents on both sides may end as a conflict where one of them was written to.
#[test]
fn a_time_that_is_carried_over_puts_no_contents_in_doubt() {
    let pair = Pair::of("f \"1\"\n g \"1\"");
    let watch = pair.watch(&["--two-way", "-v"]);
    for (name, side) in [("f", pair.source()), ("g", pair.replica())] {
        thread::sleep(Duration::from_millis(50));
        let before = watch.log().lines().count();
        // Both times, as touch(1) sets them: the first word of it is of attributes, too.
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let times = FileTimes::new().set_accessed(time).set_modified(time);
        File::open(side.join(name)).and_then(|file| file.set_times(times)).expect("times");
        watch.assert_follows();
        thread::sleep(Duration::from_millis(300));
        watch.flush();
        let log = watch.log();
        let lines: Vec<&str> = log.lines().skip(before).collect();
        let has = |what: &str| lines.iter().any(|line| line.ends_with(&format!("{what}(\"{name}\")")));
        assert!(has("Attributes") && !has("Modified"), "{}", lines.join("\n"));
    }
    watch.stop();
}

#[test]
fn idle_pair_uses_no_cpu_and_writes_nothing_after_a_storm_either() {
    let pair = Pair::new();
    for i in 0..500 {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 50)), i.to_string());
    }
    let watch = pair.watch(&["--two-way"]);
    let sides = [pair.source(), pair.replica()];
    for storm in [false, true] {
        if storm {
            for i in 0..1000 {
                disk::write(&sides[i % 2].join(format!("folder-{}/{}", i % 50, i % 600)), format!("storm {i}"));
                let _ = fs::remove_file(sides[(i / 7) % 2].join(format!("folder-{}/{}", i % 50, (i + 300) % 600)));
            }
        }
        watch.assert_follows();
        watch.wait_for_state("in_sync");
        let is_idle = |(ticks, woken, written): &(u64, u64, u64)| *ticks <= 1 && *woken <= 15 && *written == 0;
        let mut seen = Vec::new();
        // Some seconds later what was agreed is written.
        while seen.len() < 10 && !seen.last().is_some_and(is_idle) {
            let (ticks, woken, written) = (cpu_ticks(&watch), wakeups(&watch), watch.io("wchar"));
            thread::sleep(OBSERVED);
            let woken = wakeups(&watch).saturating_sub(woken);
            seen.push((cpu_ticks(&watch) - ticks, woken, watch.io("wchar") - written));
        }
        assert!(seen.last().is_some_and(is_idle), "ticks, wakings and bytes in {OBSERVED:?} each: {seen:?}");
    }
    watch.stop();
}
