//! Folders that are named by their filesystems. Where one can be mounted, and moved from mount to mount, is `.ci/guards`'
//! matter; here nothing of the name is mounted, but in the last test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::{PATIENCE, Pair, Ran, eventually, run};
use crate::{disk, mounts};

/// Nobody has this one.
const NAME: &str = "UUID=01234567-89ab-cdef-0123-456789ABCDEF:/copies//photos/";
/// The same as the program writes it.
const SHOWN: &str = "UUID=01234567-89ab-cdef-0123-456789abcdef:/copies/photos";

fn with_name(pair: &Pair, verb: &str, args: &[&str]) -> Ran {
    let mut command = pair.command(&[verb]);
    command.arg(pair.source()).arg(NAME).args(args);
    run(command)
}

#[test]
fn a_folder_of_a_filesystem_that_is_not_mounted_is_missed_and_not_made() {
    let pair = Pair::of("a \"1\"");
    for (verb, args, code) in [("sync", &[][..], 3), ("sync", &["-n"], 2), ("verify", &[], 2)] {
        let said = with_name(&pair, verb, args).expect_code(code).text();
        assert!(said.contains(&format!("'{SHOWN}'")) && said.contains("mounted"), "{said}");
    }
    for args in [&["history", "--replica", NAME, "a"][..], &["log", "--replica", NAME]] {
        let said = pair.run(args).expect_code(2).text();
        assert!(said.contains(SHOWN) && said.contains("its filesystem is not mounted"), "{said}");
    }
    // The source, too: nothing is removed for it.
    fs::create_dir(pair.replica()).expect("made");
    fs::write(pair.replica().join("b"), "2").expect("written");
    let mut command = pair.command(&["sync", "LABEL=no such disk:/photos"]);
    command.arg(pair.replica());
    let said = run(command).expect_code(3).text();
    assert!(said.contains("Held: the source folder 'LABEL=no such disk:/photos' is not there"), "{said}");
    assert!(pair.replica().join("b").exists());
    let here: Vec<_> = fs::read_dir(pair.top()).expect("read").map(|entry| entry.expect("one").file_name()).collect();
    assert!(here.iter().all(|name| !name.to_string_lossy().contains('=')), "{here:?}");
}

#[test]
fn a_service_waits_for_the_filesystem_and_says_so() {
    let pair = Pair::of("a \"1\"");
    let config = pair.top().join("pair.toml");
    fs::write(&config, format!("source = '{}'\nreplica = '{NAME}'\n", pair.source().display())).expect("written");
    let checked = pair.run(&["check-config", "pair.toml"]).expect_code(0).stdout;
    assert!(checked.contains(&format!("replica          line 2    '{SHOWN}'")), "{checked}");
    assert!(checked.contains("because its filesystem is not mounted: the service will wait for it"), "{checked}");

    let mut command = pair.command(&["watch", "--config", "pair.toml"]);
    command.arg("--control").arg(pair.control()).arg("--log-file").arg(pair.log_file());
    let watch = pair.launch(command);
    watch.wait_for_answer();
    watch.wait_for_state("held");
    let status = watch.status();
    assert_eq!(status["replica"], SHOWN);
    eventually(PATIENCE, "it says why", || {
        watch.log().contains("Held: the replica folder 'UUID=01234567").then_some(())
    });
    let said = watch.client("history", &["a"]).expect_code(2).text();
    assert!(said.contains("its filesystem is not mounted"), "{said}");
    watch.stop();
    assert!(!pair.top().join(SHOWN).exists());
}

#[test]
fn what_is_no_name_is_refused_with_what_is_wrong() {
    let pair = Pair::new();
    let table = [
        ("UUID=1234", "lacks the path on the filesystem"),
        ("UUID=:/a", "names no filesystem"),
        ("LABEL=a:/b/../c", "neither `..` nor"),
    ];
    for (name, reason) in table {
        let mut command = pair.command(&["sync"]);
        command.arg(pair.source()).arg(name);
        let said = run(command).expect_code(2).stderr;
        assert!(said.contains(&format!("'{name}' ")) && said.contains(reason), "{said}");
        fs::write(pair.top().join("p.toml"), format!("source = '/s'\n\nreplica = '{name}'\n")).expect("written");
        let said = pair.run(&["watch", "--config", "p.toml"]).expect_code(2).stderr;
        assert!(said.contains("line 3") && said.contains("`replica`") && said.contains(reason), "{said}");
        fs::write(pair.top().join("p.pairs"), format!("/s\n{name}\n")).expect("written");
        let said = pair.run(&["sync", "--pairs", "p.pairs"]).expect_code(2).stderr;
        assert!(said.contains("line 2") && said.contains(reason), "{said}");
    }
    let said = pair.run(&["service", "add", "x", "/s", NAME, "--root", "."]).expect_code(2).stderr;
    assert!(said.contains("add the service with the path"), "{said}");
    // A folder of such a name is meant with `./` before it.
    fs::create_dir(pair.top().join("UUID=1234")).expect("made");
    pair.run(&["sync", "source", "./UUID=1234"]).expect_code(0);
}

/// What udev has noted of a disk is enough: a hardened service sees no device.
#[test]
fn a_mounted_filesystem_is_found_by_what_udev_has_noted() {
    let pair = Pair::of("a \"1\"");
    let Some((device, point)) = filesystem_of(pair.top()) else {
        disk::skipped("a folder named by its filesystem: this one is on no disk of its own");
        return;
    };
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/udev/data && \
         printf 'E:ID_FS_UUID=aa-11\\nE:ID_FS_LABEL_ENC=my\\\\x20disk\\n' >/run/udev/data/b{device}"
    );
    let Some(namespace) = mounts::Namespace::with(&pair, &script) else { return };
    let below = pair.replica().strip_prefix(&point).expect("below").display().to_string();
    for name in [format!("UUID=AA-11:/{below}"), format!("LABEL=my disk:/{below}")] {
        let mut command = pair.command(&["sync"]);
        command.arg(pair.source()).arg(&name);
        run(namespace.command(&command)).expect_code(0);
        let mut command = pair.command(&["verify"]);
        command.arg(pair.source()).arg(&name);
        run(namespace.command(&command)).expect_code(0);
    }
    assert!(namespace.replica().join("a").exists());
    let states = fs::read_dir(pair.state().join("driftless")).expect("read").count();
    assert_eq!(states, 2, "one for each name");
}

/// The number of the disk that a folder is on, and where that is mounted, if it is as a whole.
fn filesystem_of(path: &Path) -> Option<(String, PathBuf)> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = mounts
        .filter(|words| path.starts_with(words[4]))
        .max_by_key(|words| Path::new(words[4]).components().count())?;
    (above[3] == "/" && !above[2].starts_with("0:")).then(|| (above[2].to_string(), above[4].into()))
}
