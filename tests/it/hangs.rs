//! Disks that do not answer, under the service: it answers all the same, says what it waits for, and goes on with the disk.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::disk;
use crate::fixture::{Pair, Watch, eventually, run};
use crate::fuse::Mounted;
use crate::systemd::{Manager, PATIENCE};

/// The service under a manager that wants to hear of it often, idle.
fn idle<'a>(pair: &'a Pair, manager: &mut Manager) -> Watch<'a> {
    let watch = manager.start(pair, Some(Duration::from_secs(4)), &[]);
    manager.wait_for(0, "STATUS=in sync");
    watch.flush();
    watch
}

fn source_is_in_the_replica(pair: &Pair, watch: &Watch, name: &str) {
    watch.flush();
    let read = |folder: std::path::PathBuf| fs::read(folder.join(name)).expect("read");
    assert_eq!(read(pair.replica()), read(pair.source()));
}

#[test]
fn idle_service_whose_replica_hangs_answers_says_that_a_pass_does_not_move_and_goes_on() {
    let pair = Pair::of("a \"x\"");
    let Some(mounted) = Mounted::replica_of(&pair, &[]) else { return };
    let mut manager = Manager::of(&pair);
    let watch = idle(&pair, &mut manager);
    let hanging = mounted.hang();
    disk::write(&pair.source().join("new"), "n");
    let told = manager.wait_for(0, "STATUS=degraded: a pass has not moved since ");
    let status = watch.status();
    assert_eq!(status["state"], "degraded");
    assert!(status["reason"].as_str().is_some_and(|reason| reason.starts_with("a pass has not moved")), "{status}");
    watch.client("flush", &["--timeout", "1s"]).expect_code(1);
    assert!(watch.log().contains(" - WARN - A pass has not moved since "), "{}", watch.log());
    drop(hanging);
    manager.wait_for(told, "STATUS=in sync");
    source_is_in_the_replica(&pair, &watch, "new");
    assert!(watch.log().contains("The pass moves again"), "{}", watch.log());
    watch.stop();
}

#[test]
fn mounts_elsewhere_do_not_make_the_service_wait_for_a_replica_that_hangs() {
    let pair = Pair::of("a \"x\"");
    let Some(mounted) = Mounted::replica_of(&pair, &[]) else { return };
    let elsewhere = pair.top().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let mut manager = Manager::of(&pair);
    let watch = idle(&pair, &mut manager);
    let hanging = mounted.hang();
    // As long as the kernel remembers what the folder was, it does not ask the server.
    eventually(PATIENCE, "a look that does not end", || {
        let command = |name, args: &[&str]| {
            let mut command = Command::new(name);
            command.args(args).arg(&elsewhere);
            run(command).expect_code(0);
        };
        command("mount", &["-t", "tmpfs", "none"]);
        command("umount", &["-l"]);
        let status = watch.status();
        let stands = |reason: &str| reason.starts_with("a look at the two folders has not ended since ");
        status["reason"].as_str().is_some_and(stands).then_some(())
    });
    manager.take();
    let from = manager.heard.len();
    drop(hanging);
    manager.wait_for(from, "STATUS=in sync");
    let log = watch.log();
    assert!(log.contains(" - WARN - A look at the two folders has not ended since "), "{log}");
    assert!(log.contains("The look at the two folders has ended") && !log.contains("Held"), "{log}");
    disk::write(&pair.source().join("new"), "n");
    source_is_in_the_replica(&pair, &watch, "new");
    watch.stop();
}

#[test]
fn service_that_holds_answers_while_the_disk_hangs_on_which_it_looks_for_its_folder() {
    let pair = Pair::of("a \"x\"");
    let Some(mounted) = Mounted::replica_of(&pair, &[]) else { return };
    let mut manager = Manager::of(&pair);
    let watch = idle(&pair, &mut manager);
    let away = pair.top().join("away");
    fs::rename(pair.source(), &away).expect("renamed");
    let held = manager.wait_for(0, "STATUS=held: the source folder");
    let hanging = mounted.hang();
    fs::rename(&away, pair.source()).expect("renamed");
    eventually(PATIENCE, "the log tells", || {
        assert_eq!(watch.status()["state"], "held");
        watch.log().contains("A look at the two folders has not ended since ").then_some(())
    });
    drop(hanging);
    manager.wait_for(held, "STATUS=in sync");
    disk::write(&pair.source().join("new"), "n");
    source_is_in_the_replica(&pair, &watch, "new");
    watch.stop();
}

#[test]
fn idle_service_stops_though_its_replica_hangs() {
    let pair = Pair::of("a \"x\"");
    let Some(mounted) = Mounted::replica_of(&pair, &[]) else { return };
    let mut manager = Manager::of(&pair);
    let watch = idle(&pair, &mut manager);
    let hanging = mounted.hang();
    watch.signal(Signal::TERM);
    eventually(PATIENCE, "the last line", || watch.log().contains("INFO - Stopped: ").then_some(()));
    assert!(watch.log().contains("The replica does not answer"), "{}", watch.log());
    // The kernel lets no process go that waits for a disk.
    drop(hanging);
    watch.ended();
}
