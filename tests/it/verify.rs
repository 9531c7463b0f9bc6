//! `verify`: finds every kind of difference, one line each, and changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Pair, run};
use crate::{disk, names, sync};

const PROJECT: &str = r#"
    a.txt "hello"
    bin/run "x" +x
    logs/old/one "1"
    latest -> a.txt
    twin = a.txt
    pipe |
"#;

#[test]
fn identical_trees_pass() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    let (source, replica) = (sync::stamps(&pair.source()), sync::stamps(&pair.replica()));
    pair.verify(&[]).expect_code(0);
    assert_eq!(sync::stamps(&pair.source()), source);
    assert_eq!(sync::stamps(&pair.replica()), replica);
}

#[test]
fn each_kind_of_difference_is_one_line_with_its_path() {
    type Change<'a> = &'a dyn Fn(&Path);
    let replica_is: [(&str, &str, Change<'_>); 14] = [
        ("extra file", "bin/extra", &|path| disk::write(path, "x")),
        ("missing file", "a.txt", &|path| disk::remove(path)),
        ("missing symlink", "latest", &|path| disk::remove(path)),
        ("contents of equal size and time", "bin/run", &|path| disk::rewrite_unseen(path)),
        ("another size", "logs/old/one", &|path| {
            let before = disk::stat(path);
            disk::append(path, b"more");
            disk::set_mtime(path, before.mtime(), before.mtime_nsec() as u32);
        }),
        ("mode", "bin/run", &|path| disk::chmod(path, 0o700)),
        ("mode of a folder", "logs", &|path| disk::chmod(path, 0o1755)),
        ("mtime", "bin/run", &|path| disk::set_mtime(path, 1, 2)),
        ("mtime of a folder", "logs/old", &|path| disk::set_mtime(path, 1, 2)),
        ("mtime of a symlink", "latest", &|path| disk::set_mtime(path, 1, 2)),
        ("target", "latest", &|path| {
            disk::remove(path);
            disk::symlink("b.txt", path);
        }),
        ("type", "pipe", &|path| {
            disk::remove(path);
            disk::write(path, "");
        }),
        ("link group", "twin", &|path| disk::save_atomically(path, b"hello")),
        ("mtime of the root", "", &|path| disk::set_mtime(path, 1, 2)),
    ];
    for (what, name, change) in replica_is {
        let pair = Pair::of(PROJECT);
        pair.sync(&[]);
        change(&pair.replica().join(name));
        let before = (sync::stamps(&pair.source()), sync::stamps(&pair.replica()));
        let ran = pair.verify(&[]).expect_code(1);
        assert_eq!((sync::stamps(&pair.source()), sync::stamps(&pair.replica())), before, "{what}: something changed");
        let lines: Vec<_> = ran.stdout.lines().filter(|line| line.contains(name)).collect();
        assert!(!lines.is_empty(), "{what}: {name} is not named:\n{}", ran.text());
    }
}

#[test]
fn difference_in_attributes_or_owner_is_found() {
    let pair = Pair::of(PROJECT);
    if !disk::set_xattr(&pair.source().join("bin/run"), "user.tag", b"one") {
        return;
    }
    pair.sync(&[]);
    pair.verify(&[]).expect_code(0);
    disk::set_xattr(&pair.replica().join("bin/run"), "user.tag", b"two");
    let ran = pair.verify(&[]).expect_code(1);
    assert!(ran.stdout.contains("bin/run"), "{}", ran.text());
    if disk::is_root() {
        disk::lchown(&pair.replica().join("latest"), 1234, 1234);
        let ran = pair.verify(&[]).expect_code(1);
        assert!(ran.stdout.contains("latest"), "{}", ran.text());
    }
}

#[test]
fn two_differences_are_two_lines() {
    let pair = Pair::of("one \"1\"\n two \"2\"\n three \"3\"");
    pair.sync(&[]);
    disk::rewrite_unseen(&pair.replica().join("one"));
    disk::rewrite_unseen(&pair.replica().join("two"));
    let ran = pair.verify(&[]).expect_code(1);
    let naming = |name: &str| ran.stdout.lines().filter(|line| line.ends_with(&format!("/{name}'"))).count();
    assert_eq!((naming("one"), naming("two"), naming("three")), (1, 1, 0), "{}", ran.text());
}

#[test]
fn verify_without_a_pass_before_it_works() {
    let pair = Pair::of(PROJECT);
    fs::create_dir(pair.replica()).expect("mkdir");
    let ran = pair.verify(&[]).expect_code(1);
    assert!(ran.stdout.contains("bin"), "{}", ran.text());
}

#[test]
fn manifest_passes_md5sum_in_the_replica() {
    let pair = Pair::of(PROJECT);
    for name in names::odd_names() {
        disk::write(&pair.source().join("odd").join(&name), name.as_encoded_bytes());
    }
    disk::write(&pair.source().join("large"), vec![7; 3_000_000]);
    pair.sync(&[]);
    let manifest = pair.top().join("manifest.md5");
    pair.verify(&["--manifest", manifest.to_str().expect("utf-8")]).expect_code(0);
    let written = fs::read(&manifest).expect("the manifest");
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let files =
        walkdir::WalkDir::new(pair.source()).into_iter().filter(|e| e.as_ref().expect("walk").file_type().is_file());
    assert_eq!(lines, files.count(), "one line a file");
    if Command::new("md5sum").arg("--version").output().is_err() {
        return disk::skipped("md5sum is not installed");
    }
    let mut check = Command::new("md5sum");
    check.args(["-c", "--quiet", "--strict"]).arg(&manifest).current_dir(pair.replica());
    run(check).expect_code(0);
    disk::rewrite_unseen(&pair.replica().join("bin/run"));
    let mut check = Command::new("md5sum");
    check.args(["-c", "--quiet"]).arg(&manifest).current_dir(pair.replica());
    run(check).expect_code(1);
}

#[test]
fn verify_works_beside_a_running_service() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&[]);
    watch.wait_for_state("in_sync");
    pair.verify(&[]).expect_code(0);
    disk::write(&pair.source().join("new"), "n");
    watch.assert_follows();
    pair.verify(&[]).expect_code(0);
}
