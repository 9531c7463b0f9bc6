//! What a pass costs, counted in system calls: a first pass, and a sweep of what has not changed. The counts are upper
//! bounds a file and a folder; they are there so that nobody adds a call to every file without noticing.

use std::collections::BTreeMap;
use std::process::Command;

use crate::disk;
use crate::fixture::{Pair, run};

const FOLDERS: usize = 40;
const FILES: usize = 1000;

/// Calls by name, as strace counts them.
type Calls = BTreeMap<String, usize>;

/// A tree of small files, with every attribute at its plainest.
fn filled() -> Pair {
    let pair = Pair::new();
    for i in 0..FILES {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % FOLDERS)), "x".repeat(i * 7 % 5000));
    }
    // Young files are read twice.
    std::thread::sleep(std::time::Duration::from_millis(50));
    pair
}

/// The calls of one `sync` with these options, or `None` where there is no strace that may look on.
fn calls(pair: &Pair, options: &[&str]) -> Option<Calls> {
    let counts = pair.top().join("counts");
    let mut trial = Command::new("strace");
    if !trial.args(["-qq", "-c", "-o"]).arg(&counts).arg("true").status().is_ok_and(|status| status.success()) {
        return None;
    }
    let sync = pair.on_both("sync", options);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-c", "-U", "name,calls", "-o"]).arg(&counts);
    strace.arg(sync.get_program()).args(sync.get_args()).current_dir(pair.top());
    for (key, value) in sync.get_envs() {
        match value {
            Some(value) => strace.env(key, value),
            None => strace.env_remove(key),
        };
    }
    run(strace).expect_code(0);
    let text = std::fs::read_to_string(counts).expect("counts");
    let row = |line: &str| {
        let (name, count) = line.trim().split_once(char::is_whitespace)?;
        Some((name.to_string(), count.trim().parse().ok()?))
    };
    Some(text.lines().filter_map(row).filter(|(name, _)| name != "total").collect())
}

/// Checks that of each call there are no more than so many a file and a folder, with some for the whole.
fn within(calls: &Calls, bounds: &[(&str, usize, usize)]) {
    for (name, of_file, of_folder) in bounds {
        let most = of_file * FILES + of_folder * FOLDERS + 150;
        let count = calls.get(*name).copied().unwrap_or_default();
        assert!(count <= most, "{name}: {count} calls, {most} at most; all of them: {calls:?}");
    }
    let touches_disk = |name: &str| {
        let is_of_memory = ["brk", "mmap", "munmap", "mprotect", "madvise", "mremap"].contains(&name);
        let waits = ["futex", "sched_yield", "clock_nanosleep", "poll", "restart_syscall"].contains(&name);
        // In a build with assertions, the standard library asks of each descriptor whether it is open when it closes it.
        !is_of_memory && !waits && name != "fcntl"
    };
    let others: usize = calls
        .iter()
        .filter(|(name, _)| touches_disk(name) && bounds.iter().all(|(bound, ..)| bound != name))
        .map(|(_, count)| count)
        .sum();
    assert!(others <= 10 * FOLDERS + 600, "{others} calls of other kinds: {calls:?}");
}

#[test]
fn a_new_file_costs_eleven_calls_and_a_sweep_two_looks() {
    let pair = filled();
    let Some(first) = calls(&pair, &["--durability", "none"]) else {
        return disk::skipped("there is no strace that may look on");
    };
    within(
        &first,
        &[
            ("openat", 2, 8),
            ("fstat", 3, 12),
            ("pread64", 1, 1),
            ("pwrite64", 1, 1),
            ("flistxattr", 1, 4),
            ("utimensat", 1, 2),
            ("close", 2, 8),
            ("newfstatat", 0, 2),
            ("fchmod", 0, 2),
            ("linkat", 0, 0),
            ("renameat2", 0, 1),
            ("mkdirat", 0, 1),
        ],
    );
    let unchanged = calls(&pair, &[]).expect("strace, as before");
    within(
        &unchanged,
        &[
            ("newfstatat", 2, 4),
            ("openat", 0, 4),
            ("fstat", 0, 6),
            ("close", 0, 4),
            ("getdents64", 0, 5),
            ("flistxattr", 0, 0),
            ("pread64", 0, 4),
            ("fsync", 0, 0),
            ("utimensat", 0, 0),
            ("renameat2", 0, 0),
        ],
    );
}

#[test]
fn a_large_file_is_read_once_on_each_side_however_many_read_it() {
    const SIZE: u64 = 64 << 20;
    // 128 KiB at a time.
    const READS: usize = 2 * (SIZE >> 17) as usize;
    let pair = Pair::new();
    let large = pair.source().join("large");
    disk::write_solid(&large, SIZE, 1);
    let Some(_) = calls(&pair, &["--durability", "none"]) else {
        return disk::skipped("there is no strace that may look on");
    };
    for jobs in ["1", "4"] {
        let touched = std::fs::File::options().write(true).open(&large).expect("open");
        touched.set_modified(std::time::SystemTime::now()).expect("its time");
        // Young files are read twice.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let calls = calls(&pair, &["--jobs", jobs]).expect("strace, as before");
        let reads = calls.get("pread64").copied().unwrap_or_default();
        assert!((READS..READS + 100).contains(&reads), "{jobs} jobs: {calls:?}");
        let writes = calls.get("pwrite64").copied().unwrap_or_default();
        assert!(writes < 100, "{jobs} jobs: {calls:?}");
    }
}

#[test]
fn a_removed_file_costs_one_call_and_a_folder_one_listing() {
    let pair = filled();
    disk::write(&pair.source().join("stays"), "x");
    let Some(_) = calls(&pair, &["--durability", "none"]) else {
        return disk::skipped("there is no strace that may look on");
    };
    for i in 0..FOLDERS {
        std::fs::remove_dir_all(pair.source().join(format!("folder-{i}"))).expect("a folder to remove");
    }
    let removal = calls(&pair, &["--max-delete", "100%"]).expect("strace, as before");
    within(
        &removal,
        &[
            ("unlinkat", 1, 1),
            ("newfstatat", 0, 4),
            ("openat", 0, 4),
            ("openat2", 0, 4),
            ("getdents64", 0, 0),
            ("fstat", 0, 4),
            ("close", 0, 6),
        ],
    );
}

#[test]
fn what_is_kept_costs_one_call_more_and_a_sync_for_many() {
    let pair = filled();
    disk::write(&pair.source().join("stays"), "x");
    let keep = ["--keep-versions", "30d", "--max-delete", "100%"];
    let Some(_) = calls(&pair, &keep) else {
        return disk::skipped("there is no strace that may look on");
    };
    let of = |calls: &Calls, name: &str| calls.get(name).copied().unwrap_or_default();
    for i in 0..FILES {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % FOLDERS)), "y".repeat(i * 7 % 5000 + 1));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let update = calls(&pair, &keep).expect("strace, as before");
    assert_eq!(of(&update, "linkat"), FILES, "a link for each that is replaced: {update:?}");
    // The journal's are among them: one for each batch.
    let syncs = of(&update, "fdatasync") + of(&update, "fsync") + of(&update, "syncfs");
    assert!(syncs <= 60, "{syncs} syncs: {update:?}");
    for i in 0..FOLDERS {
        std::fs::remove_dir_all(pair.source().join(format!("folder-{i}"))).expect("a folder to remove");
    }
    let removal = calls(&pair, &keep).expect("strace, as before");
    assert!((FILES..FILES + 10).contains(&of(&removal, "renameat2")), "a rename for each that goes: {removal:?}");
    assert!(of(&removal, "unlinkat") <= FOLDERS + 10 && of(&removal, "mkdirat") <= FOLDERS + 10, "{removal:?}");
    let syncs = of(&removal, "fdatasync") + of(&removal, "fsync") + of(&removal, "syncfs");
    assert!(syncs <= 30, "{syncs} syncs: {removal:?}");
}
