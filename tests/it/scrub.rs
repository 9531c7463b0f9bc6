//! Decay: contents that change while nobody writes. Here they cannot: a file is written to, and what the archive keeps of its
//! times is made to say that nobody has; `.ci/decay` has real disks that flip real bytes.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use driftless::fs::archive::{Archive, Changes};
use driftless::fs::digest::is_in_memory;
use driftless::fs::root::Root;
use driftless::service::scrub::{Position, Report};
use driftless::tree::digest::{Damage, Digest, Seal};
use driftless::tree::doubt::Moment;
use driftless::tree::entry::{InodeId, Stat};
use driftless::tree::path::RelPath;
use driftless::tree::record::Agreed;
use rustix::process::Signal;
use serde_json::Value;

use crate::disk;
use crate::fixture::{PATIENCE, Pair, Ran, run, wrapped};
use crate::versions_past::journal;

/// Whether there is a disk that could lose something.
fn has_disk(pair: &Pair) -> bool {
    let is_disk = !is_in_memory(std::os::fd::AsFd::as_fd(&File::open(pair.top()).expect("open")));
    if !is_disk {
        eprintln!("skipped: the tests' folder is in memory");
    }
    is_disk
}

fn archive_path(pair: &Pair) -> PathBuf {
    let mut found = walkdir::WalkDir::new(pair.state()).into_iter().map(|entry| entry.expect("walk").into_path());
    found.find(|path| path.ends_with("archive.redb")).expect("an archive")
}

/// The archive that the program has written, while it does not run.
fn archive(pair: &Pair) -> Archive {
    Archive::open(&archive_path(pair)).expect("the archive")
}

fn stat(root: &Path, name: &str) -> Stat {
    let root = Root::open(root).expect("a root");
    let path = RelPath::new(name.as_bytes()).expect("a path");
    *root.look_at(&path).expect("a look").stat().expect("it is there")
}

#[derive(Clone, Copy, PartialEq)]
enum Rots {
    Source,
    Replica,
}

/// Changes a byte of a file in the root of a side as a disk does that loses it: nothing that is known of the file says that
/// anybody has written to it.
fn rot(pair: &Pair, side: Rots, name: &str) {
    rot_by(pair, side, name, 1);
}

/// The same with these bits of the byte.
fn rot_by(pair: &Pair, side: Rots, name: &str, bits: u8) {
    let root = if side == Rots::Source { pair.source() } else { pair.replica() };
    let path = root.join(name);
    let mtime = fs::metadata(&path).expect("metadata").modified().expect("a time");
    let mode = fs::metadata(&path).expect("metadata").permissions();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2).expect("read");
    file.write_all_at(&[byte[0] ^ bits], 2).expect("written");
    file.set_times(FileTimes::new().set_modified(mtime)).expect("times");
    fs::set_permissions(&path, mode).expect("chmod");
    drop(file);
    let (archive, now) = (archive(pair), stat(&root, name));
    let source = stat(&pair.source(), name);
    let known = archive.digest(source.id()).expect("recorded");
    let seal = Some(Seal::of(&now));
    let known = if side == Rots::Source { Digest { source: seal, ..known } } else { Digest { replica: seal, ..known } };
    archive.set_digest(source.id(), Some(known));
    let folders = [stat(&pair.source(), "").id(), both(stat(&pair.source(), "").id(), stat(&pair.replica(), "").id())];
    for folder in folders {
        if let Some(agreed) = archive.agreed(folder, name.as_bytes()) {
            let stamp = now.stamp();
            let agreed = if side == Rots::Source {
                Agreed { source: stamp, racy: false, ..agreed }
            } else {
                Agreed { replica: stamp, racy: false, ..agreed }
            };
            archive.remember(folder, Changes::from([(name.as_bytes().into(), Some(agreed))]));
        }
    }
    archive.commit(Moment(u64::MAX), true).expect("a commit");
}

/// The key of what two folders have agreed in two-way mode.
fn both(source: InodeId, replica: InodeId) -> InodeId {
    InodeId { dev: source.ino ^ source.dev.rotate_left(32), ino: replica.ino ^ replica.dev.rotate_left(32) }
}

/// Waits until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    crate::fixture::eventually(PATIENCE, what, || is_so().then_some(()));
}

fn scrub(pair: &Pair, args: &[&str]) -> Ran {
    run(pair.on_both("scrub", args))
}

fn result(pair: &Pair, args: &[&str], code: i32) -> Value {
    let ran = scrub(pair, &[args, &["--json"]].concat()).expect_code(code);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.text()))
}

fn found(result: &Value) -> Vec<(String, String)> {
    let list = result["found"].as_array().expect("a list");
    let word = |value: &Value| value.as_str().expect("a text").to_string();
    let name = |path: String| path.trim_matches('\'').rsplit('/').next().unwrap_or_default().to_string();
    list.iter().map(|found| (name(word(&found["path"])), word(&found["what"]))).collect()
}

fn is_found(name: &str, what: &str) -> Vec<(String, String)> {
    vec![(name.into(), what.into())]
}

const TREE: &str = "a \"contents of a\"\nb \"contents of b\"\nc \"contents of c\"\nsub/d \"contents of d\"";

/// A pair that is the same, with what both sides hold recorded; none where there is no disk.
fn scrubbed(mode: &[&str]) -> Option<Pair> {
    let pair = Pair::of(TREE);
    has_disk(&pair).then(|| {
        pair.sync(mode);
        result(&pair, mode, 0);
        pair
    })
}

#[test]
fn decay_in_the_replica_is_found_and_repaired_from_the_source_and_an_edit_is_none() {
    let pair = Pair::of(TREE);
    if !has_disk(&pair) {
        return;
    }
    fs::set_permissions(pair.source().join("a"), fs::Permissions::from_mode(0o440)).expect("chmod");
    pair.sync(&[]);
    let first = result(&pair, &[], 0);
    assert_eq!((&first["recorded"], &first["files"]), (&4.into(), &4.into()), "{first}");
    assert_eq!(result(&pair, &["--source"], 0)["recorded"], 0);
    fs::rename(pair.source().join("c"), pair.source().join("sub/e")).expect("renamed");
    pair.sync(&[]);
    assert_eq!(result(&pair, &[], 0)["recorded"], 0, "a rename keeps what is known");

    rot(&pair, Rots::Replica, "a");
    fs::write(pair.source().join("b"), "edited").expect("written");
    let before = fs::metadata(pair.replica().join("a")).expect("metadata");
    let ran = pair.sync(&[]);
    assert!(!ran.text().contains("Decayed") && ran.text().contains("File updated"), "{}", ran.text());
    for _ in 0..2 {
        assert_eq!(found(&result(&pair, &[], 1)), is_found("a", "decayed"));
        let ran = scrub(&pair, &[]).expect_code(1);
        assert!(ran.text().contains("Decayed: '") && ran.text().contains("1 decayed, 0 repaired"), "{}", ran.text());
    }
    assert_ne!(fs::read(pair.replica().join("a")).expect("read"), b"contents of a", "nobody has asked for a repair");
    assert_eq!(found(&result(&pair, &["--repair"], 0)), is_found("a", "repaired"));
    let after = fs::metadata(pair.replica().join("a")).expect("metadata");
    assert_eq!(fs::read(pair.replica().join("a")).expect("read"), b"contents of a");
    assert_eq!((after.mode(), after.modified().ok()), (before.mode(), before.modified().ok()));
    assert!(pair.sync(&[]).text().contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata"));
    pair.assert_same();
    assert!(found(&result(&pair, &["--source"], 0)).is_empty());
}

/// What is repaired is what it was when it was told.
#[test]
fn a_scrub_and_its_repair_leave_the_history_whole() {
    let pair = Pair::of(TREE);
    if !has_disk(&pair) {
        return;
    }
    pair.sync(&["--keep-versions", "30d"]);
    let told = || journal(&pair.replica()).into_iter().map(|line| line.text).collect::<Vec<_>>();
    let before = told();
    result(&pair, &[], 0);
    rot(&pair, Rots::Replica, "a");
    assert_eq!(found(&result(&pair, &[], 1)), is_found("a", "decayed"));
    assert_eq!(found(&result(&pair, &["--repair"], 0)), is_found("a", "repaired"));
    assert_eq!(told(), before);
}

/// Neither in place nor elsewhere, as long as nobody changes the file, or puts it right.
#[test]
fn what_is_known_to_have_decayed_does_not_come_back() {
    let pair = Pair::of(TREE);
    if !has_disk(&pair) {
        return;
    }
    let keep = ["--keep-versions", "30d"];
    pair.sync(&keep);
    result(&pair, &[], 0);
    rot(&pair, Rots::Replica, "a");
    assert_eq!(found(&result(&pair, &[], 1)), is_found("a", "decayed"));
    let (source, replica) = (pair.source(), pair.replica());
    let sides = ["--replica", replica.to_str().expect("text"), "--source", source.to_str().expect("text")];
    let restore = |args: &[&str], code: i32| {
        let ran = run(pair.command(&[&["restore", ".", "--at", &crate::restore::now()], args].concat()));
        let ran = ran.expect_code(code);
        assert_eq!(ran.text().contains("cannot restore 'a': its contents in the replica have decayed"), code != 0);
        ran
    };
    fs::remove_file(source.join("b")).expect("removed");
    for args in [&["-n"][..], &["--force"], &[]] {
        restore(&[&sides[..], args].concat(), 1);
    }
    let here = |name: &str| fs::read_to_string(source.join(name)).expect("read");
    assert_eq!((here("a").as_str(), here("b").as_str()), ("contents of a", "contents of b"), "the rest goes on");
    fs::remove_file(source.join("a")).expect("removed");
    restore(&[&sides[..], &["--force"]].concat(), 1);
    assert!(!source.join("a").exists());
    fs::write(source.join("a"), "new contents").expect("written");
    // A service that runs has the archive open, and tells it.
    let (to, control) = (pair.top().join("to"), pair.control());
    let at = crate::restore::now();
    let watch = pair.watch(&keep);
    watch.flush();
    watch.stop();
    restore(&sides, 0);
    rot(&pair, Rots::Replica, "c");
    assert_eq!(found(&result(&pair, &[], 1)), is_found("c", "decayed"));
    let watch = pair.watch(&keep);
    let ran = run(pair.command(&[
        "restore",
        ".",
        "--at",
        &at,
        "--control",
        control.to_str().expect("text"),
        "--to",
        to.to_str().expect("text"),
    ]));
    let ran = ran.expect_code(1);
    assert!(ran.text().contains("cannot restore 'c': its contents in the replica have decayed"), "{}", ran.text());
    assert!(!to.join("c").exists() && to.join("sub/d").exists());
    watch.stop();
}

#[test]
fn decay_in_the_source_is_never_copied_and_is_repaired_from_the_replica() {
    for mode in [&[][..], &["--two-way"]] {
        let Some(pair) = scrubbed(mode) else { return };
        rot(&pair, Rots::Source, "a");
        pair.sync(mode);
        for _ in 0..2 {
            let ran = pair.try_sync(&[&["-c"], mode].concat()).expect_code(1);
            assert!(ran.text().contains("decayed, and are not copied"), "{mode:?}: {}", ran.text());
            assert_eq!(fs::read(pair.replica().join("a")).expect("read"), b"contents of a", "{mode:?}");
            let dry = pair.try_sync(&[&["-n", "-c"], mode].concat()).expect_code(1).text();
            assert!(dry.contains("decayed, and are not copied") && !dry.contains("Would"), "{mode:?}: {dry}");
            let dry = pair.sync(&[&["-n"], mode].concat()).text();
            assert!(!dry.contains("Would"), "an ordinary pass does not look at it: {mode:?}: {dry}");
        }
        assert!(found(&result(&pair, mode, 0)).is_empty(), "the source is not read unasked");
        let repair = [&["--source", "--repair"], mode].concat();
        let times = fs::metadata(pair.source()).expect("metadata").modified().ok();
        assert_eq!(found(&result(&pair, &repair, 0)), is_found("a", "repaired"), "{mode:?}");
        assert_eq!(fs::read(pair.source().join("a")).expect("read"), b"contents of a");
        assert_eq!(fs::metadata(pair.source()).expect("metadata").modified().ok(), times, "{mode:?}");
        let ran = pair.sync(&[&["-c"], mode].concat());
        assert!(ran.text().contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata"), "{}", ran.text());
        pair.assert_same();
    }
}

/// A change of attributes or names moves the ctime, and brings nothing back that the disk has lost.
#[test]
fn what_is_known_to_have_decayed_is_not_copied_when_its_attributes_or_its_name_change() {
    let chmod = |path: PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    for mode in [&[][..], &["--two-way"]] {
        let Some(pair) = scrubbed(mode) else { return };
        rot(&pair, Rots::Source, "a");
        rot(&pair, Rots::Source, "b");
        let with_source = [&["--source"], mode].concat();
        assert_eq!(found(&result(&pair, &with_source, 1)).len(), 2);
        chmod(pair.source().join("a"));
        fs::rename(pair.source().join("b"), pair.source().join("sub/z")).expect("renamed");
        let ran = pair.try_sync(mode).expect_code(1);
        assert!(ran.text().contains("decayed, and are not copied"), "{mode:?}: {}", ran.text());
        let kept = |name: &str| fs::read_to_string(pair.replica().join(name)).unwrap_or_default();
        let (there, gone) = if mode.is_empty() { ("sub/z", "b") } else { ("b", "sub/z") };
        let all = || (kept("a"), kept(there), kept(gone));
        let good = ("contents of a".to_string(), "contents of b".to_string(), String::new());
        assert_eq!(all(), good, "{mode:?}");
        // The other name, too, has decayed for good: it is no news that anybody has brought.
        chmod(pair.source().join("sub/z"));
        let _ = pair.try_sync(mode);
        assert_eq!(all(), good, "{mode:?}");
        if !mode.is_empty() {
            // Where both are worked in, no file takes the name of another unheard.
            continue;
        }
        let mut all = found(&result(&pair, &with_source, 1));
        all.sort();
        assert_eq!(all, [is_found("a", "decayed"), is_found("z", "decayed")].concat(), "{mode:?}");
        let repair = [&["--source", "--repair"], mode].concat();
        assert_eq!(found(&result(&pair, &repair, 0)).len(), 2);
        pair.sync(&[&["-c"], mode].concat());
        assert_eq!(fs::read(pair.source().join("sub/z")).expect("read"), b"contents of b");
        pair.assert_same();
    }
    // The other way round.
    let Some(pair) = scrubbed(&["--two-way"]) else { return };
    rot(&pair, Rots::Replica, "a");
    assert_eq!(found(&result(&pair, &["--two-way"], 1)), is_found("a", "decayed"));
    chmod(pair.replica().join("a"));
    let _ = pair.try_sync(&["--two-way"]);
    assert_eq!(fs::read(pair.source().join("a")).expect("read"), b"contents of a");
    assert_eq!(found(&result(&pair, &["--two-way", "--repair"], 0)), is_found("a", "repaired"));
    pair.sync(&["--two-way"]);
    pair.assert_same();
}

#[test]
fn what_is_edited_has_not_decayed_any_more() {
    let Some(pair) = scrubbed(&[]) else { return };
    rot(&pair, Rots::Replica, "a");
    rot(&pair, Rots::Replica, "b");
    assert_eq!(found(&result(&pair, &[], 1)).len(), 2);
    fs::write(pair.source().join("a"), "edited").expect("written");
    pair.sync(&[]);
    let left: Vec<_> = archive(&pair).decayed().into_iter().map(|(path, _)| path.as_bytes().to_vec()).collect();
    assert_eq!(left, [b"b"]);
}

#[test]
fn a_scrub_goes_on_from_a_change_of_attributes() {
    let Some(pair) = scrubbed(&[]) else { return };
    let is_known = || {
        let (now, known) = (stat(&pair.source(), "a"), stat(&pair.source(), "a").id());
        archive(&pair).digest(known).is_some_and(|known| known.source == Some(Seal::of(&now)))
    };
    assert!(is_known());
    fs::set_permissions(pair.source().join("a"), fs::Permissions::from_mode(0o600)).expect("chmod");
    pair.sync(&[]);
    assert!(!is_known());
    result(&pair, &[], 0);
    assert!(is_known(), "decay would be told from an edit again");
}

#[test]
fn decay_in_the_replica_is_put_right_by_a_sweep_that_compares_and_told() {
    for mode in [&[][..], &["--two-way"]] {
        let Some(pair) = scrubbed(mode) else { return };
        rot(&pair, Rots::Replica, "a");
        let ran = pair.sync(&[&["-c"], mode].concat());
        assert!(ran.text().contains("Decayed: ") && ran.text().contains("File updated"), "{mode:?}: {}", ran.text());
        pair.assert_same();
        rot(&pair, Rots::Replica, "a");
        let again = result(&pair, mode, 1);
        assert_eq!(found(&again), is_found("a", "decayed"), "{mode:?}: what was put right is known as before");
    }
}

#[test]
fn a_sweep_that_compares_does_not_call_good_what_has_decayed_as_well() {
    for mode in [&[][..], &["--two-way"]] {
        let Some(pair) = scrubbed(mode) else { return };
        rot_by(&pair, Rots::Source, "a", 1);
        rot_by(&pair, Rots::Replica, "a", 2);
        let damage = || archive(&pair).decayed().first().map(|(_, decayed)| decayed.damage);
        let ran = pair.try_sync(&[&["-c"], mode].concat()).expect_code(1);
        assert!(ran.text().contains("they are lost") && !ran.text().contains("other side is good"), "{}", ran.text());
        assert_eq!(damage(), Some(Damage::Lost), "{mode:?}");
        assert_eq!(found(&result(&pair, mode, 1)), is_found("a", "lost"), "{mode:?}");
        let ran = pair.try_sync(&[&["-c"], mode].concat()).expect_code(1);
        assert!(!ran.text().contains("other side is good"), "{}", ran.text());
        assert_eq!(damage(), Some(Damage::Lost), "{mode:?}: what was known is not forgotten");
    }
}

#[test]
fn the_replica_is_read_also_where_the_source_cannot_be_opened() {
    let Some(pair) = scrubbed(&[]) else { return };
    rot(&pair, Rots::Replica, "a");
    for name in ["a", "b"] {
        disk::chmod(&pair.source().join(name), 0);
    }
    let command = pair.on_both("scrub", &["--json"]);
    let without_rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    let ran = run(if disk::is_root() { wrapped(&without_rights, &command) } else { command }).expect_code(1);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.text()));
    assert_eq!(found(&result), [("a".into(), "failed".into()), ("a".into(), "alone".into())], "{result}");
    assert_eq!((&result["files"], &result["decayed"]), (&4.into(), &1.into()), "{result}");
}

#[test]
fn what_has_decayed_on_both_sides_is_said_to_be_lost_and_left_alone() {
    let Some(pair) = scrubbed(&[]) else { return };
    rot(&pair, Rots::Source, "a");
    rot(&pair, Rots::Replica, "a");
    // Of what was never recorded it is only seen that it was equal once.
    let now = stat(&pair.source(), "b");
    archive(&pair).set_digest(now.id(), None);
    rot_unrecorded(&pair, "b");
    let result = result(&pair, &["--repair"], 1);
    // A write through a mapping looks the same.
    assert_eq!(found(&result), [("a".into(), "lost".into()), ("b".into(), "unclear".into())]);
    assert_eq!((&result["decayed"], &result["repaired"]), (&1.into(), &0.into()));
}

#[test]
fn sides_that_differ_though_they_were_the_same_are_told_each_time_and_an_edit_is_no_decay() {
    let Some(pair) = scrubbed(&[]) else { return };
    rot_unrecorded(&pair, "b");
    // They were found the same in the moment in which the source's was written.
    let known = archive(&pair);
    let folder = stat(&pair.source(), "").id();
    let agreed = known.agreed(folder, b"b").expect("agreed");
    let racy = Some(Agreed { racy: true, ..agreed });
    known.remember(folder, Changes::from([(b"b"[..].into(), racy)]));
    known.commit(Moment(u64::MAX), true).expect("a commit");
    drop(known);
    for args in [&[][..], &["--source"]] {
        let result = result(&pair, args, 1);
        assert_eq!(found(&result), is_found("b", "unclear"), "{args:?}");
        assert_eq!((&result["decayed"], &result["recorded"]), (&0.into(), &0.into()), "{args:?}");
    }
    pair.sync(&["-c"]);
    pair.assert_same();
    // Of an edit that is not carried over yet, the replica's side is recorded.
    fs::write(pair.source().join("b"), "edited, and longer").expect("written");
    archive(&pair).set_digest(stat(&pair.source(), "b").id(), None);
    rest();
    assert_eq!(result(&pair, &[], 0)["recorded_alone"], 1);
    fs::write(pair.source().join("b"), "contents of B").expect("written");
    rest();
    let result = result(&pair, &["--source"], 0);
    assert_eq!((&result["changing"], &result["unclear"]), (&1.into(), &0.into()), "{result}");
}

/// Longer than the clock of the times stands still for.
fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// The same where nothing is known but that both sides were equal.
fn rot_unrecorded(pair: &Pair, name: &str) {
    let known = stat(&pair.source(), name);
    let md5 = Digest { md5: [0; 16], size: known.size, source: None, replica: None, checked: 0 };
    let archive = archive(pair);
    archive.set_digest(known.id(), Some(md5));
    archive.commit_digests(true).expect("written");
    drop(archive);
    rot(pair, Rots::Replica, name);
    let archive = self::archive(pair);
    archive.set_digest(known.id(), None);
    archive.commit_digests(true).expect("written");
}

#[test]
fn a_comparing_sweep_records_what_has_rested_and_a_lost_archive_costs_the_record_alone() {
    let pair = Pair::of(TREE);
    pair.sync(&[]);
    pair.sync(&["-c"]);
    assert_eq!(archive(&pair).digest_count(), 0, "what is young may be written to unseen");
    result(&pair, &[], 0);
    assert_eq!(archive(&pair).digest_count(), 4);
    fs::remove_file(pair.source().join("sub/d")).expect("removed");
    pair.sync(&[]);
    result(&pair, &[], 0);
    assert_eq!(archive(&pair).digest_count(), 3, "what is gone is forgotten");
    fs::write(archive_path(&pair), [0x5a; 100_000]).expect("damaged");
    pair.sync(&[]);
    let again = result(&pair, &[], 0);
    assert_eq!((&again["recorded"], &again["decayed"]), (&3.into(), &0.into()), "{again}");
}

#[test]
fn the_service_scrubs_by_itself_remembers_what_it_found_and_repairs_when_asked() {
    let pair = Pair::of(TREE);
    if !has_disk(&pair) {
        return;
    }
    let scrubbing = ["--scrub-every", "1d", "--scrub-rate", "max"];
    let watch = pair.watch(&scrubbing);
    let files = |status: Value| status["scrub"]["last"]["files"].as_u64();
    eventually("a scrub", || files(watch.status()) == Some(4));
    let asked = watch.client("scrub", &["--json"]).expect_code(0);
    assert!(asked.stdout.contains("\"decayed\": 0"), "{}", asked.text());
    assert!(watch.status()["scrub"]["next_in_s"].as_u64().is_some_and(|next| next > 80_000));
    watch.stop();

    rot(&pair, Rots::Replica, "b");
    // The one that was under way had come to the first file.
    let archive = archive(&pair);
    let began = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let kept = format!(r#"{{"began":{began},"is_unfinished":true,"last":null}}"#);
    archive.set_fact("scrub", kept.as_bytes());
    archive.set_fact("scrub position", b"a");
    drop(archive);
    let watch = pair.watch(&scrubbing);
    eventually("decay", || watch.status()["scrub"]["decayed_files"] == 1);
    eventually("the rest of the scrub", || files(watch.status()) == Some(3));
    watch.stop();
    assert!(fs::read_to_string(pair.log_file()).expect("the log").contains("Decayed: '"));

    let watch = pair.watch(&["--scrub-every", "1d"]);
    let status = watch.status();
    let listed = &status["scrub"]["decayed"][0];
    assert!(
        listed["path"].as_str().is_some_and(|path| path.ends_with("/b'")) && listed["side"] == "replica",
        "{status}"
    );
    assert_eq!((&status["state"], &status["scrub"]["last"]["decayed"]), (&"degraded".into(), &1.into()), "{status}");
    let ran = run(pair.on_both("scrub", &["--repair", "--control", &pair.control().display().to_string()]));
    let ran = ran.expect_code(0);
    assert!(ran.stdout.contains("Repaired: '") && ran.stdout.contains("1 decayed, 1 repaired"), "{}", ran.text());
    watch.wait_for_state("in_sync");
    assert_eq!(watch.status()["scrub"]["decayed_files"], 0);
    watch.stop();
    pair.assert_same();
}

#[test]
fn a_scrub_that_goes_on_leaves_nothing_out_and_tells_of_its_whole() {
    // Its own files come before those of the folders in it, whatever these are called.
    let pair = Pair::of("a/x \"1\"\nm/n/y \"2\"\nz1 \"3\"\nz2 \"4\"\nz3 \"5\"");
    pair.sync(&[]);
    let archive = archive(&pair);
    let began = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let kept = format!(r#"{{"began":{began},"is_unfinished":true,"last":null}}"#);
    archive.set_fact("scrub", kept.as_bytes());
    let so_far = Position { after: RelPath::new(b"z1").expect("a path"), report: Report::default() };
    let so_far = Position { report: Report { files: 1, bytes: 100, decayed: 1, ..so_far.report }, ..so_far };
    archive.set_fact("scrub position", &so_far.encode());
    drop(archive);
    let watch = pair.watch(&["--scrub-every", "1d", "--scrub-rate", "max"]);
    eventually("the rest of the scrub", || watch.status()["scrub"]["last"].is_object());
    let last = &watch.status()["scrub"]["last"];
    assert_eq!((&last["files"], &last["bytes"], &last["decayed"]), (&5.into(), &108.into(), &1.into()), "{last}");
    watch.stop();
    let archive = self::archive(&pair);
    let known = |name: &str| archive.digest(stat(&pair.source(), name).id()).is_some();
    let names = ["a/x", "m/n/y", "z1", "z2", "z3"].map(known);
    assert_eq!(names, [true, true, false, true, true]);
}

#[test]
fn a_scrub_stops_at_once_and_the_service_with_it() {
    let pair = Pair::of("");
    fs::write(pair.source().join("file"), vec![7; 3 << 20]).expect("written");
    fs::write(pair.source().join("a"), "small").expect("written");
    let watch = pair.watch(&["--scrub-every", "1d", "--scrub-rate", "10kB/s"]);
    eventually("a scrub", || watch.status()["scrub"]["running"]["files"] == 1);
    fs::write(pair.source().join("other"), "near real time").expect("written");
    watch.flush();
    pair.assert_same();
    watch.stop();
    let kept = archive(&pair).fact("scrub position").unwrap_or_default();
    assert!(kept.starts_with(b"a\0"), "it goes on where it was: {}", String::from_utf8_lossy(&kept));
    let mut command = pair.on_both("scrub", &["--rate", "10kB/s"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().expect("started");
    let pid = rustix::process::Pid::from_child(&child);
    eventually("a thread that reads", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        tasks.is_ok_and(|tasks| {
            tasks
                .flatten()
                .any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "scrub"))
        })
    });
    rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("stopped before its end"));
}

#[test]
fn what_cannot_be_scrubbed_is_refused_with_a_reason() {
    let pair = Pair::of("a \"x\"");
    let ran = scrub(&pair, &[]).expect_code(2);
    assert!(ran.stderr.contains("the replica") && ran.stderr.contains("does not exist"), "{}", ran.text());
    assert!(!pair.replica().exists());
    let ran = pair.run(&["scrub"]).expect_code(2);
    assert!(ran.stderr.contains("no service is running"), "{}", ran.text());
    let ran = scrub(&pair, &["--rate", "fast"]).expect_code(2);
    assert!(ran.stderr.contains("bytes a second"), "{}", ran.text());
}
