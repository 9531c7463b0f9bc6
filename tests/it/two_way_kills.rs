//! One side works, the program is killed at any call that changes something, and the same side works on: what the killed
//! pass had made is no work of the other side, and nothing is a conflict.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, run, wrapped};
use crate::two_way_conflicts::CALLS;

const BEFORE: &str =
    "file \"one\"\n whole/a \"1\"\n whole/b \"2\"\n was-file \"f\"\n was-folder/c \"3\"\n goes/d \"4\"";

/// All kinds of work on one side. `nth` tells one from the next.
fn work(side: &Path, nth: usize) {
    let text = |what: &str| format!("{what} {nth}");
    disk::write(&side.join("file"), text("file"));
    disk::save_atomically(&side.join("whole/a"), text("saved").as_bytes());
    for name in ["made/deep/x", "made/deep/y", "made/z"] {
        disk::write(&side.join(name), text(name));
    }
    let _ = fs::remove_file(side.join("link"));
    disk::symlink(text("to"), &side.join("link"));
    if nth == 1 {
        fs::remove_file(side.join("was-file")).expect("it is there");
        disk::remove(&side.join("was-folder"));
        disk::remove(&side.join("goes"));
        fs::rename(side.join("whole/b"), side.join("whole/renamed")).expect("renamed");
        fs::hard_link(side.join("file"), side.join("second name")).expect("linked");
    }
    disk::write(&side.join("was-file/below"), text("below"));
    disk::write(&side.join("was-folder"), text("a file"));
    disk::write(&side.join("whole/renamed"), text("renamed"));
    fs::set_permissions(side.join("whole"), fs::Permissions::from_mode(0o700 + nth as u32 % 8)).expect("a mode");
}

#[test]
fn work_of_one_side_around_a_kill_at_any_call_is_no_conflict() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return disk::skipped("two-way passes that are killed: there is no strace that may look on");
    }
    // All calls by the environment; a few else.
    let every = crate::random::number("DRIFTLESS_EVERY_CALL", 3);
    let mut killed = 0;
    for call in 1..600 {
        if call % every != 0 {
            continue;
        }
        for is_forth in [true, false] {
            let pair = Pair::of(BEFORE);
            let side = if is_forth { pair.source() } else { pair.replica() };
            thread::sleep(Duration::from_millis(20));
            pair.sync(&["--two-way"]);
            work(&side, 1);
            thread::sleep(Duration::from_millis(20));
            let inject = format!("inject={CALLS}:signal=SIGKILL:when={call}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", &inject];
            let options = ["--two-way", "--jobs", "1", "--max-delete", "100%"];
            let ran = run(wrapped(&strace, &pair.on_both("sync", &options)));
            if ran.code == Some(0) {
                assert!(killed > 6, "it was hardly ever killed: {}", ran.text());
                return;
            }
            killed += 1;
            work(&side, 2);
            thread::sleep(Duration::from_millis(20));
            let text = pair.sync(&["--two-way", "--max-delete", "100%"]).text();
            assert!(!text.contains("Conflict"), "killed at call {call}, forth: {is_forth}: {text}");
            pair.assert_same();
            assert_eq!(fs::read_to_string(side.join("whole/renamed")).expect("a file"), "renamed 2");
            assert_eq!(fs::read_to_string(side.join("was-file/below")).expect("a file"), "below 2");
            assert!(!pair.replica().join("goes").exists() && !pair.source().join("goes").exists());
        }
    }
    panic!("the pass has more calls than were tried");
}
