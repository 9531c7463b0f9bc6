//! Tests of the archive: what is written is read back, and damage is noticed.

use super::*;
use crate::tree::entry::{Kind, Stamp, Time};

pub fn agreed(ino: u64, provisional: bool) -> Agreed {
    let time = Time { sec: 1, nsec: 2 };
    let id = InodeId { dev: 0, ino };
    let stamp = Stamp { id, kind: Kind::File, mode: 0o644, size: 3, mtime: time, ctime: time };
    Agreed { source: stamp, replica: stamp, racy: false, looked: Moment(5), provisional, made: None, base: None }
}

pub const FOLDER: InodeId = InodeId { dev: 0, ino: 7 };

pub fn one(name: &[u8], change: Option<Agreed>) -> Changes {
    Changes::from([(name.into(), change)])
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    let archive = Archive::open(&path).expect("a store");
    archive.remember(FOLDER, one(b"a", Some(agreed(1, false))));
    archive.remember(FOLDER, one(b"b", Some(agreed(2, true))));
    assert_eq!(archive.record(FOLDER).len(), 2);
    archive.commit(Moment(6), true).expect("a commit");
    assert_eq!(archive.record(FOLDER).len(), 2, "what is on trust stays in memory");
    archive.remember(FOLDER, one(b"c", Some(agreed(3, false))));
    archive.commit(Moment(6), true).expect("a commit");
    archive.remember(FOLDER, one(b"c", None));
    let names = BTreeMap::from([&b"b"[..], b"c", b"d"].map(|name| (Box::from(name), ())));
    let some = archive.record_of(FOLDER, &names);
    assert_eq!((some.len(), some.get(b"b")), (1, archive.record(FOLDER).get(b"b")), "the same, of some names");
    archive.commit(Moment(6), true).expect("a commit");
    drop(archive);
    let archive = Archive::open(&path).expect("a store");
    let record = archive.record(FOLDER);
    assert_eq!(record.len(), 1, "what is on trust was not written");
    assert_eq!(record.get(b"a").map(|a| a.source), Some(agreed(1, false).source));
    archive.remember(FOLDER, one(b"a", None));
    assert!(archive.record(FOLDER).is_empty());
}

#[test]
fn an_inode_is_found_by_folder_and_name_whether_it_was_committed_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = Archive::open(&folder.path().join("a.redb")).expect("a store");
    archive.remember(FOLDER, one(b"a", Some(agreed(1, false))));
    archive.commit(Moment(6), true).expect("a commit");
    archive.remember(FOLDER, one(b"b", Some(agreed(2, false))));
    let id = |ino| InodeId { dev: 0, ino };
    let mut found = archive.find(&HashSet::from([id(1), id(2), id(3)]), Side::Source);
    found.sort();
    assert_eq!(found, [(id(1), FOLDER, b"a"[..].into()), (id(2), FOLDER, b"b"[..].into())]);
}

#[test]
fn trust_ends_with_lost_events_and_with_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    let archive = Archive::open(&path).expect("a store");
    archive.remember(FOLDER, one(b"a", Some(agreed(1, true))));
    archive.distrust();
    assert!(archive.record(FOLDER).is_empty());
    archive.remember(FOLDER, one(b"a", Some(agreed(1, true))));
    archive.commit(Moment(5 + PROVISIONAL), true).expect("a commit");
    assert!(!archive.is_behind());
}

#[test]
fn a_damaged_store_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    std::fs::write(&path, vec![0x5a; 100_000]).expect("a file");
    let archive = Archive::open(&path).expect("a store");
    assert!(archive.record(FOLDER).is_empty());
    archive.set_fact("entries", b"12");
    assert_eq!(archive.fact("entries").as_deref(), Some(&b"12"[..]));
}

#[test]
fn a_store_with_pages_of_something_else_is_used_or_made_anew_and_never_ends_the_program() {
    const PAGE: usize = 4096;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    let archive = Archive::open(&path).expect("a store");
    (0..2_000).for_each(|ino| {
        archive.remember(InodeId { dev: 0, ino }, one(b"name", Some(agreed(ino, false))));
    });
    archive.commit(Moment(6), true).expect("a commit");
    drop(archive);
    let whole = std::fs::read(&path).expect("the store");
    for page in 0..whole.len() / PAGE {
        let mut damaged = whole.clone();
        let noise = (0..PAGE).map(|at| (at * 7 + page * 13) as u8);
        damaged.splice(page * PAGE..(page + 1) * PAGE, noise);
        std::fs::write(&path, damaged).expect("write");
        let archive = Archive::open(&path).expect("this one or a new one");
        (0..2_000).step_by(50).for_each(|ino| drop(archive.record(InodeId { dev: 0, ino })));
        archive.remember(FOLDER, one(b"name", Some(agreed(1, false))));
        let _ = archive.commit(Moment(6), true);
    }
}

#[test]
fn what_was_not_brought_to_disk_is_forgotten_once_a_disk_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.redb");
    let mounted = |disks: &str| Some(disks.to_string());
    for (durable, then, is_kept) in
        [(false, "both", true), (false, "mounted again", false), (true, "mounted again", true)]
    {
        let archive = Archive::open(&path).expect("an archive");
        archive.begin_both(durable, mounted("both")).expect("begun");
        archive.remember(FOLDER, one(b"a", Some(agreed(1, false))));
        archive.commit(Moment(10), true).expect("a commit");
        drop(archive);
        let archive = Archive::open(&path).expect("an archive");
        assert_eq!(archive.begin_both(durable, mounted(then)).expect("begun"), !is_kept, "{durable} {then}");
        assert_eq!(archive.agreed(FOLDER, b"a").is_some(), is_kept, "{durable} {then}");
        archive.end();
    }
    // The same under a service that goes on.
    let archive = Archive::open(&path).expect("an archive");
    archive.begin_both(false, mounted("both")).expect("begun");
    archive.remember(FOLDER, one(b"a", Some(agreed(1, false))));
    archive.commit(Moment(10), true).expect("a commit");
    archive.go_on_with(mounted("both")).expect("it goes on");
    assert!(archive.agreed(FOLDER, b"a").is_some());
    archive.go_on_with(mounted("mounted again")).expect("it goes on");
    assert!(archive.agreed(FOLDER, b"a").is_none());
}
