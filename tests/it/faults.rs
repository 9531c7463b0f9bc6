//! What cannot be read, and disks that do not take what they are given: nothing is lost for it, and everything else
//! goes on. Faults of single system calls are tried by `.ci/faults`.

use std::fs;
use std::process::Command;

use crate::disk;
use crate::fixture::{Pair, run, wrapped};

/// Says aloud that no mode shuts this process out.
fn modes_mean_nothing() -> bool {
    if disk::is_root() {
        disk::skipped("what cannot be read: root can read everything");
    }
    disk::is_root()
}

fn read(pair: &Pair, path: &str) -> String {
    fs::read_to_string(pair.replica().join(path)).unwrap_or_else(|error| panic!("{path} in the replica: {error}"))
}

#[test]
fn file_that_cannot_be_read_keeps_its_old_version() {
    if modes_mean_nothing() {
        return;
    }
    let pair = Pair::of("shut \"old\"\n folder/shut \"old\"\n open \"old\"");
    pair.sync(&[]);
    for path in ["shut", "folder/shut", "open"] {
        disk::write(&pair.source().join(path), "a new version");
    }
    disk::chmod(&pair.source().join("shut"), 0);
    disk::chmod(&pair.source().join("folder/shut"), 0);
    let ran = pair.try_sync(&[]).expect_code(1);
    assert_eq!(ran.text().matches("Failed: ").count(), 2, "each by its name:\n{}", ran.text());
    assert_eq!([read(&pair, "shut"), read(&pair, "folder/shut"), read(&pair, "open")], ["old", "old", "a new version"]);
    disk::chmod(&pair.source().join("shut"), 0o600);
    disk::chmod(&pair.source().join("folder/shut"), 0o600);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn folder_that_cannot_be_opened_takes_no_other_entrys_place() {
    if modes_mean_nothing() {
        return;
    }
    let pair = Pair::of("was-a-file \"the only copy\"\n open \"old\"");
    pair.sync(&[]);
    disk::remove(&pair.source().join("was-a-file"));
    disk::write(&pair.source().join("was-a-file/below"), "below");
    disk::write(&pair.source().join("open"), "new");
    disk::chmod(&pair.source().join("was-a-file"), 0);
    pair.try_sync(&[]).expect_code(1);
    assert_eq!([read(&pair, "was-a-file"), read(&pair, "open")], ["the only copy", "new"]);
    disk::chmod(&pair.source().join("was-a-file"), 0o700);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn folder_without_the_right_to_enter_it_removes_nothing() {
    if modes_mean_nothing() {
        return;
    }
    // Its names can be listed, and of none can be said what it is.
    let pair = Pair::of("listed/a \"1\"\n listed/b/c \"2\"\n open \"old\"");
    pair.sync(&[]);
    disk::write(&pair.source().join("listed/a"), "a new version");
    disk::write(&pair.source().join("open"), "new");
    disk::chmod(&pair.source().join("listed"), 0o600);
    let ran = pair.try_sync(&[]).expect_code(1);
    assert!(ran.text().contains("left alone: Permission denied"), "it does not say why:\n{}", ran.text());
    assert_eq!([read(&pair, "open")], ["new"]);
    // The replica's folder has the same mode by now.
    disk::chmod(&pair.replica().join("listed"), 0o700);
    assert_eq!([read(&pair, "listed/a"), read(&pair, "listed/b/c")], ["1", "2"]);
    disk::chmod(&pair.source().join("listed"), 0o700);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn folder_that_is_shut_between_two_passes_is_left_alone_and_found_again() {
    if modes_mean_nothing() {
        return;
    }
    let pair = Pair::of("shut/deep/file \"x\"\n shut/other \"y\"\n open \"1\"");
    let watch = pair.watch(&["--interval", "1s"]);
    disk::chmod(&pair.source().join("shut"), 0);
    disk::write(&pair.source().join("open"), "2");
    watch.wait_for_state("degraded");
    let sweeps = watch.sweeps_finished();
    crate::fixture::eventually(std::time::Duration::from_secs(60), "more sweeps", || {
        (watch.sweeps_finished() > sweeps + 1).then_some(())
    });
    let status = watch.status();
    assert_eq!(status["failing"].as_array().map(Vec::len), Some(1), "{status}");
    let log = watch.log();
    assert_eq!(log.matches("ERROR").count(), 1, "said once, not at each sweep:\n{log}");
    assert!(!log.contains("removed:"), "something was removed:\n{log}");
    disk::chmod(&pair.source().join("shut"), 0o755);
    disk::write(&pair.source().join("shut/deep/file"), "changed");
    watch.wait_for_state("in_sync");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn few_descriptors_fail_what_is_deep_and_nothing_else() {
    let pair = Pair::of("a/file \"old\"\n z/file \"old\"");
    let deep = (0..40).fold(pair.source().join("deep"), |path, _| path.join("d"));
    disk::write(&deep.join("file"), "deep");
    pair.sync(&[]);
    disk::write(&pair.source().join("a/file"), "new");
    disk::write(&pair.source().join("z/file"), "new");
    let limited = ["sh", "-c", "ulimit -n 32; exec \"$@\"", "sh"];
    let ran = run(wrapped(&limited, &pair.on_both("sync", &["-j", "1"]))).expect_code(1);
    assert!(ran.text().contains("Too many open files"), "{}", ran.text());
    assert_eq!([read(&pair, "a/file"), read(&pair, "z/file")], ["new", "new"]);
    pair.sync(&[]);
    pair.assert_same();
}

/// One pass into a replica that is a filesystem of its own, mounted with `options`, which nobody else sees; then the
/// names of what came of it. Nothing where no such place can be made.
fn sync_into(pair: &Pair, options: &str) -> Option<crate::fixture::Ran> {
    fs::create_dir_all(pair.replica()).expect("mkdir");
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs '{0}' || exit 99; \"$@\"; code=$?; cd '{0}'; find . -type f; exit $code",
        pair.replica().display()
    );
    let namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let possible = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        disk::skipped("a replica on a disk of its own: no user namespace here");
        return None;
    }
    Some(run(wrapped(&namespace, &pair.on_both("sync", &["-j", "1"]))))
}

#[test]
fn full_disk_is_one_line_and_what_fits_is_there() {
    let pair = Pair::new();
    disk::write_solid(&pair.source().join("a-large"), 4 << 20, 1);
    disk::write_solid(&pair.source().join("b-large"), 4 << 20, 2);
    for i in 0..40 {
        disk::write(&pair.source().join(format!("folder/{i}")), vec![i; 10_000]);
    }
    let Some(ran) = sync_into(&pair, "size=2m") else { return };
    let ran = ran.expect_code(1);
    let said: Vec<_> = ran.stdout.lines().chain(ran.stderr.lines()).filter(|l| l.contains("ERROR")).collect();
    assert!(matches!(said[..], [line] if line.contains("no room")), "{said:?}");
    let there = ran.stdout.lines().filter(|line| line.starts_with("./folder/")).count();
    assert_eq!(there, 40, "what fits:\n{}", ran.text());
}

#[test]
fn read_only_disk_is_one_line() {
    let pair = Pair::new();
    for i in 0..40 {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 4)), i.to_string());
    }
    let Some(ran) = sync_into(&pair, "ro") else { return };
    let ran = ran.expect_code(1);
    let said: Vec<_> = ran.stdout.lines().chain(ran.stderr.lines()).filter(|l| l.contains("ERROR")).collect();
    assert!(matches!(said[..], [line] if line.contains("read-only")), "{said:?}");
}
