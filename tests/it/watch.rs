//! `watch`: each kind of work on the source is in the replica after a flush, compared strictly.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{Pair, eventually};
use crate::{compare, disk};

const PROJECT: &str = r#"
    a.txt "hello"
    bin/run "x" +x
    logs/old/one "1"
    latest -> a.txt
    twin = a.txt
"#;

#[test]
fn first_pass_is_exact_and_nothing_is_left_after_the_stop() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
    assert!(!disk::exists(&pair.control()), "the socket is left");
}

#[test]
fn every_kind_of_work_is_followed() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    let source = pair.source();
    let at = |name: &str| source.join(name);
    let works: [(&str, &dyn Fn()); 26] = [
        ("create", &|| disk::write(&at("new"), "n")),
        ("create empty", &|| disk::write(&at("nothing"), "")),
        ("overwrite", &|| disk::write(&at("new"), "other words")),
        ("append", &|| disk::append(&at("new"), b" and more")),
        ("truncate", &|| disk::truncate(&at("new"), 2)),
        ("write in the middle", &|| disk::write_at(&at("new"), 1, b"zz")),
        ("atomic save", &|| disk::save_atomically(&at("new"), b"saved")),
        ("write unseen", &|| disk::rewrite_unseen(&at("new"))),
        ("make a folder", &|| fs::create_dir(at("folder")).expect("mkdir")),
        ("create in a new folder", &|| disk::write(&at("folder/file"), "f")),
        ("deep folders at once", &|| disk::write(&at("p/q/r/s/t/file"), "deep")),
        ("hard link", &|| disk::hard_link(&at("new"), &at("p/q/linked"))),
        ("append to a linked file", &|| disk::append(&at("p/q/linked"), b"through the other name")),
        ("symlink", &|| disk::symlink("new", &at("soft"))),
        ("fifo", &|| disk::make_fifo(&at("p/pipe"))),
        ("chmod", &|| disk::chmod(&at("new"), 0o4711)),
        ("chmod a folder", &|| disk::chmod(&at("p/q"), 0o1770)),
        ("touch", &|| disk::set_mtime(&at("bin/run"), -5, 7)),
        ("touch a folder", &|| disk::set_mtime(&at("bin"), 5, 7)),
        ("touch a symlink", &|| disk::set_mtime(&at("soft"), 6, 8)),
        ("touch the root", &|| disk::set_mtime(&source, 7, 9)),
        ("remove", &|| disk::remove(&at("nothing"))),
        ("remove a symlink", &|| disk::remove(&at("latest"))),
        ("remove one name", &|| disk::remove(&at("twin"))),
        ("remove a tree", &|| disk::remove(&at("p"))),
        ("sparse", &|| disk::write_sparse(&at("sparse"), 4 << 20, 5)),
    ];
    for (what, work) in works {
        work();
        watch.flush();
        let found = compare::differences(&source, &pair.replica(), compare::Reserved::Ignored);
        assert!(found.is_empty(), "after {what}: {}", compare::list(&found));
    }
    watch.stop();
    pair.assert_same();
}

#[test]
fn extended_attributes_are_followed() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    let (file, folder) = (pair.source().join("a.txt"), pair.source().join("bin"));
    if !disk::set_xattr(&file, "user.tag", b"one") {
        return;
    }
    disk::set_xattr(&folder, "user.tag", b"two");
    watch.assert_follows();
    disk::set_xattr(&file, "user.tag", b"three");
    disk::remove_xattr(&folder, "user.tag");
    watch.assert_follows();
    if disk::set_xattr(&folder, "system.posix_acl_default", &disk::acl(7, (77, 7), 5, 7, 1)) {
        disk::write(&folder.join("made-later"), "x");
        watch.assert_follows();
    }
}

#[test]
fn folders_filled_while_they_are_made_are_followed_whole() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    for round in 0..5 {
        for i in 0..40 {
            let folder = pair.source().join(format!("round-{round}/{i}/a/b/c"));
            disk::write(&folder.join("file"), i.to_string());
            disk::write(&folder.join("../file"), i.to_string());
        }
        watch.assert_follows();
    }
    for i in 0..40 {
        disk::append(&pair.source().join(format!("round-3/{i}/a/b/c/file")), b"more");
    }
    watch.assert_follows();
}

#[test]
fn folder_removed_and_made_again_is_followed() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    for round in 0..10 {
        disk::remove(&pair.source().join("logs"));
        disk::write(&pair.source().join("logs/old/one"), round.to_string());
        if round % 3 == 0 {
            watch.assert_follows();
        }
    }
    disk::write(&pair.source().join("logs/old/one"), "still watched");
    watch.assert_follows();
}

#[test]
fn storm_of_events_is_followed() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&["--max-delete", "100%"]);
    for i in 0..5000 {
        disk::write(&pair.source().join(format!("storm/{}/{i}", i % 17)), i.to_string());
    }
    for i in 0..2500 {
        disk::remove(&pair.source().join(format!("storm/{}/{i}", i % 17)));
    }
    for i in 2500..3500 {
        disk::append(&pair.source().join(format!("storm/{}/{i}", i % 17)), b"more");
    }
    for _ in 0..2000 {
        disk::append(&pair.source().join("a.txt"), b"again and again ");
    }
    watch.assert_follows();
    disk::remove(&pair.source().join("storm"));
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn renamed_and_removed_trees_keep_their_watches_and_no_others() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&["--max-delete", "100%"]);
    let folders = || watch.status()["watches"]["folders"].as_u64().expect("a number");
    let copied = || watch.log().matches("File copied: ").count();
    watch.flush();
    let (before, copied_before) = (folders(), copied());
    for i in 0..600 {
        disk::write(&pair.source().join(format!("storm/{}/{i}/file", i % 7)), i.to_string());
    }
    watch.assert_follows();
    assert_eq!(folders(), before + 608);
    let set = || kernel_watches(watch.pid());
    let all = set();
    fs::rename(pair.source().join("storm"), pair.source().join("moved")).expect("renamed");
    watch.assert_follows();
    assert_eq!((folders(), set()), (before + 608, all));
    disk::write(&pair.source().join("moved/3/3/file"), "heard where it is now");
    watch.assert_follows();
    let outside = pair.source().with_file_name("outside");
    fs::rename(pair.source().join("moved"), &outside).expect("moved out");
    watch.assert_follows();
    assert_eq!((folders(), set()), (before, all - 608), "nobody hears what has left");
    fs::rename(&outside, pair.source().join("back")).expect("moved in");
    watch.assert_follows();
    disk::remove(&pair.source().join("back"));
    watch.assert_follows();
    assert_eq!((folders(), set()), (before, all - 608));
    assert_eq!(copied(), copied_before + 2 * 600, "what was renamed was not copied");
    assert!(!watch.log().contains("Events were lost"));
}

/// Watches that the kernel has for a process.
fn kernel_watches(pid: impl std::fmt::Display) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("descriptors").flatten();
    let infos = descriptors.filter_map(|info| fs::read_to_string(info.path()).ok());
    infos.map(|info| info.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum()
}

#[test]
fn file_that_is_held_open_and_written_to_arrives_before_it_is_closed() {
    use std::io::Write;
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&["--debounce", "50ms", "--max-delay", "300ms"]);
    let mut held = fs::File::create(pair.source().join("held")).expect("create");
    eventually(Duration::from_secs(60), "some of the file arrives while it is written", || {
        held.write_all(b"a line\n").expect("write");
        fs::metadata(pair.replica().join("held")).ok().filter(|found| found.len() > 0).map(drop)
    });
    held.write_all(b"the last line\n").expect("write");
    watch.assert_follows();
    drop(held);
    watch.assert_follows();
}

#[test]
fn saved_file_arrives_without_a_flush() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    disk::write(&pair.source().join("saved"), "soon");
    eventually(Duration::from_secs(60), "the file is there", || {
        fs::read_to_string(pair.replica().join("saved")).ok().filter(|text| text == "soon")
    });
    disk::remove(&pair.source().join("saved"));
    eventually(Duration::from_secs(60), "the file is gone", || {
        (!disk::exists(&pair.replica().join("saved"))).then_some(())
    });
}

#[test]
fn writes_through_a_memory_map_are_followed_once_it_is_closed() {
    let script =
        "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:5]=b'MMAP!'\nm.close()\nf.close()";
    let pair = Pair::of("mapped \"hello mapped file\"\n plain \"hello plain file\"");
    let watch = pair.watch(&[]);
    // The tests themselves do without unsafe code, and a map cannot be had without it.
    let done = Command::new("python3").arg("-c").arg(script).arg(pair.source().join("mapped")).output();
    if !done.is_ok_and(|output| output.status.success()) {
        return disk::skipped("memory maps: no python3 here");
    }
    watch.assert_follows();
    assert!(fs::read_to_string(pair.replica().join("mapped")).expect("read").starts_with("MMAP!"));
}

#[test]
fn sweep_at_the_interval_finds_what_no_event_tells() {
    let pair = Pair::of("hidden \"one\"");
    let outside = pair.top().join("outside");
    disk::hard_link(&pair.source().join("hidden"), &outside);
    let watch = pair.watch(&["--interval", "2"]);
    disk::write_at(&outside, 0, b"two");
    eventually(Duration::from_secs(60), "the sweep finds it", || {
        fs::read_to_string(pair.replica().join("hidden")).ok().filter(|text| text == "two")
    });
    watch.assert_follows();
}

#[test]
fn signal_starts_a_sweep() {
    let pair = Pair::of("hidden \"one\"");
    let outside = pair.top().join("outside");
    disk::hard_link(&pair.source().join("hidden"), &outside);
    let watch = pair.watch(&[]);
    for (text, start) in [
        ("two", &(|| watch.signal(Signal::USR1)) as &dyn Fn()),
        ("six", &|| {
            watch.client("sweep", &[]).expect_code(0);
        }),
    ] {
        disk::write_at(&outside, 0, text.as_bytes());
        start();
        eventually(Duration::from_secs(60), "the sweep finds it", || {
            fs::read_to_string(pair.replica().join("hidden")).ok().filter(|found| found == text)
        });
    }
    watch.assert_follows();
}

#[test]
fn work_during_the_first_sweep_is_not_lost() {
    let pair = Pair::new();
    for i in 0..3000 {
        disk::write(&pair.source().join(format!("{}/{i}", i % 50)), i.to_string());
    }
    let watch = pair.start_watch(&["--max-delete", "100%"]);
    for i in 0..1000 {
        disk::append(&pair.source().join(format!("{}/{i}", i % 50)), b"more");
        disk::remove(&pair.source().join(format!("{}/{}", (i + 1500) % 50, i + 1500)));
        disk::write(&pair.source().join(format!("new-{}/{i}", i % 20)), "n");
    }
    for i in 0..10 {
        fs::rename(pair.source().join(i.to_string()), pair.source().join(format!("renamed-{i}"))).expect("rename");
    }
    watch.wait_for_answer();
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}
