//! Filesystems that are mounted inside the two folders: all that can be done in the tree can be done there too, and nothing
//! of what that takes is left. Each test mounts in a namespace of its own, so that no mount outlives it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, Ran, eventually, run, wrapped};

/// A mount namespace, there as long as this is.
pub struct Namespace<'a> {
    pair: &'a Pair,
    holder: Child,
}

const TMPFS: &str = "mount -t tmpfs one source/m && mount -t tmpfs other replica/m";
/// The same filesystem as around them, mounted once more: device numbers do not tell.
const BIND: &str = "mkdir one other && mount --bind one source/m && mount --bind other replica/m";
/// Only the replica has one.
const REPLICA: &str = "mount -t tmpfs other replica/m";

impl<'a> Namespace<'a> {
    /// One in which `script` has mounted what it wants in `source/m` and `replica/m`, which exist.
    pub fn with(pair: &'a Pair, script: &str) -> Option<Self> {
        if !disk::is_root() {
            disk::skipped("mounts inside the folders: only root makes them");
            return None;
        }
        if !Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
            disk::skipped("mounts inside the folders: no mount namespace here");
            return None;
        }
        fs::create_dir_all(pair.source().join("m")).expect("mkdir");
        fs::create_dir_all(pair.replica().join("m")).expect("mkdir");
        let script = format!("{{ {script}; }} && echo ready && exec sleep 600");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).current_dir(pair.top()).stdout(Stdio::piped());
        let mut namespace = Self { pair, holder: command.spawn().expect("unshare") };
        let mut line = String::new();
        BufReader::new(namespace.holder.stdout.take().expect("its output")).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n", "{script}");
        Some(namespace)
    }

    fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    pub fn source(&self) -> PathBuf {
        self.seen(&self.pair.source())
    }

    pub fn replica(&self) -> PathBuf {
        self.seen(&self.pair.replica())
    }

    pub fn command(&self, command: &Command) -> Command {
        wrapped(&["nsenter", "--target", &self.holder.id().to_string(), "--mount", "--"], command)
    }

    #[track_caller]
    fn sync(&self) -> Ran {
        run(self.command(&self.pair.on_both("sync", &[]))).expect_code(0)
    }

    #[track_caller]
    fn assert_same(&self) {
        let ran = run(self.command(&self.pair.on_both("verify", &[]))).expect_code(0);
        assert!(ran.text().contains(" 0 differences"), "{}", ran.text());
        crate::compare::assert_same(&self.source(), &self.replica());
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn fill(source: &Path) {
    for (name, text) in [("file", "1"), ("sub/file", "1"), ("folder/in", "1"), ("plain", "1"), ("linked", "1")] {
        disk::write(&source.join("m").join(name), text);
    }
    disk::write(&source.join("outside"), "1");
}

/// Each kind of thing that cannot be made under its own name.
fn change(source: &Path) {
    let m = source.join("m");
    disk::write(&m.join("file"), "two");
    disk::save_atomically(&m.join("sub/file"), b"two");
    disk::symlink("file", &m.join("sub/link"));
    disk::make_fifo(&m.join("fifo"));
    disk::hard_link(&m.join("linked"), &m.join("sub/linked too"));
    disk::remove(&m.join("folder"));
    disk::write(&m.join("folder"), "now a file");
    disk::remove(&m.join("plain"));
    disk::write(&m.join("plain/in"), "now a folder");
    disk::write(&source.join("outside"), "two");
}

#[test]
fn everything_can_be_changed_on_a_filesystem_that_is_mounted_inside_the_replica() {
    for script in [TMPFS, BIND, REPLICA] {
        let pair = Pair::new();
        let Some(namespace) = Namespace::with(&pair, script) else { return };
        fill(&namespace.source());
        namespace.sync();
        namespace.assert_same();
        change(&namespace.source());
        disk::set_mtime(&namespace.source().join("m"), 1_000_000_000, 5);
        let ran = namespace.sync();
        assert!(!ran.text().contains("ERROR") && !ran.text().contains("WARN"), "{script}: {}", ran.text());
        namespace.assert_same();
        assert!(namespace.sync().text().contains(" 0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata,"));
    }
}

#[test]
fn service_leaves_nothing_on_a_filesystem_inside_the_replica_between_its_passes() {
    let pair = Pair::new();
    let Some(namespace) = Namespace::with(&pair, TMPFS) else { return };
    fill(&namespace.source());
    let watch = pair.launch(namespace.command(&pair.watch_command(&[])));
    watch.wait_for_answer();
    watch.flush();
    change(&namespace.source());
    watch.flush();
    crate::compare::assert_same_live(&namespace.source(), &namespace.replica());
    let gone = || (!disk::exists(&namespace.replica().join("m/.driftless"))).then_some(());
    eventually(Duration::from_secs(60), "the staging folder is gone", gone);
    watch.wait_for_state("in_sync");
    // Nothing keeps the disk.
    let mut unmount = Command::new("umount");
    unmount.arg(pair.replica().join("m"));
    eventually(Duration::from_secs(60), "it can be unmounted", || {
        (run(namespace.command(&unmount)).code == Some(0)).then_some(())
    });
    watch.stop();
}

#[test]
fn what_a_killed_service_was_building_inside_the_replica_goes_at_the_next_start() {
    let pair = Pair::new();
    let Some(namespace) = Namespace::with(&pair, TMPFS) else { return };
    fill(&namespace.source());
    let (large, staged) = (namespace.source().join("m/sub/large"), namespace.replica().join("m/.driftless/stage"));
    disk::write_solid(&large, 32 << 20, 1);
    namespace.sync();
    let copy = namespace.replica().join("m/sub/large");
    let is_caught = (2..40).any(|seed| {
        let watch = pair.launch(namespace.command(&pair.watch_command(&[])));
        watch.wait_for_answer();
        watch.flush();
        let before = disk::inode(&copy);
        disk::write_solid(&large, 32 << 20, seed);
        eventually(Duration::from_secs(60), "it is built", || {
            let is_being = fs::read_dir(&staged).is_ok_and(|mut staged| staged.next().is_some());
            let is_done = disk::inode(&copy) != before;
            (is_being || is_done).then_some(())
        });
        watch.kill();
        fs::read_dir(&staged).is_ok_and(|mut staged| staged.next().is_some())
    });
    assert!(is_caught, "it was never killed while it built something");
    assert_eq!(disk::stat(&copy).len(), 32 << 20, "a torn file under its name");
    let ran = namespace.sync();
    assert!(ran.text().contains("interrupted run had left in the reserved folder"), "{}", ran.text());
    namespace.assert_same();
}

#[test]
fn reserved_folder_is_nobodys_at_the_top_of_a_filesystem_inside_the_replica_and_only_there() {
    let pair = Pair::new();
    let Some(namespace) = Namespace::with(&pair, TMPFS) else { return };
    let (source, replica) = (namespace.source(), namespace.replica());
    fill(&source);
    disk::write(&source.join("m/.driftless/own"), "left out");
    disk::write(&source.join("m/sub/.driftless/own"), "copied");
    disk::write(&replica.join("m/.driftless/other"), "kept");
    namespace.sync();
    change(&source);
    let watch = pair.launch(namespace.command(&pair.watch_command(&[])));
    watch.wait_for_answer();
    watch.flush();
    disk::write(&source.join("m/.driftless/new"), "left out");
    disk::write(&source.join("m/.driftless/stage/0"), "left out");
    disk::write(&source.join("m/file"), "three");
    watch.flush();
    watch.client("sweep", &[]).expect_code(0);
    watch.flush();
    watch.stop();
    assert_eq!(fs::read_to_string(replica.join("m/sub/.driftless/own")).expect("copied"), "copied");
    assert_eq!(fs::read_to_string(replica.join("m/.driftless/other")).expect("kept"), "kept");
    assert_eq!(fs::read_dir(replica.join("m/.driftless")).expect("a list").count(), 1);
    assert_eq!(fs::read_to_string(replica.join("m/file")).expect("updated"), "three");
    let ran = run(namespace.command(&pair.on_both("verify", &[]))).expect_code(0);
    assert!(ran.text().contains(" 0 differences"), "{}", ran.text());
}

#[test]
fn names_of_one_file_on_two_filesystems_of_the_replica_are_files_of_their_own() {
    let pair = Pair::new();
    let Some(namespace) = Namespace::with(&pair, REPLICA) else { return };
    disk::write(&namespace.source().join("a"), "1");
    disk::hard_link(&namespace.source().join("a"), &namespace.source().join("m/b"));
    namespace.sync();
    disk::write(&namespace.source().join("a"), "two");
    namespace.sync();
    for name in ["a", "m/b"] {
        assert_eq!(fs::read_to_string(namespace.replica().join(name)).expect(name), "two");
    }
    let ran = namespace.sync();
    assert!(ran.text().contains(" 0 copied, 0 updated, 0 removed,"), "{}", ran.text());
}

#[test]
fn many_files_on_a_filesystem_inside_the_replica_are_on_disk_before_they_are_published() {
    let pair = Pair::new();
    let Some(namespace) = Namespace::with(&pair, TMPFS) else { return };
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return disk::skipped("what is brought to disk: there is no strace that may look on");
    }
    for i in 0..20 {
        disk::write(&namespace.source().join(format!("m/{i}")), "new");
    }
    let calls = pair.top().join("calls");
    let strace = ["strace", "-f", "-y", "-e", "trace=fsync", "-o", calls.to_str().expect("UTF-8")];
    run(namespace.command(&wrapped(&strace, &pair.on_both("sync", &[])))).expect_code(0);
    let calls = fs::read_to_string(calls).expect("the calls");
    let synced = calls.lines().filter(|line| line.contains("fsync(") && line.contains("/replica/m/")).count();
    assert!(synced >= 20, "{synced} of 20:\n{calls}");
}
