//! Files with several names, attributes and databases where both folders are worked in: which names are one file is known on
//! both sides afterwards, attributes of either side are kept, and the files of a database go together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::disk;
use crate::fixture::Pair;

/// Two sides that are equal, and known to be.
struct Sides(Pair);

impl Sides {
    fn of(text: &str) -> Self {
        let sides = Self(Pair::of(text));
        sides.sync();
        sides
    }

    fn a(&self, name: &str) -> PathBuf {
        self.0.source().join(name)
    }

    fn b(&self, name: &str) -> PathBuf {
        self.0.replica().join(name)
    }

    /// A pass after which both are equal, and one after that has nothing to do.
    #[track_caller]
    fn sync(&self) -> String {
        rest();
        let text = self.0.sync(&["--two-way"]).text();
        self.0.assert_same();
        rest();
        let again = self.0.sync(&["--two-way"]).text();
        assert!(
            again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links"),
            "{again}"
        );
        text
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.source()).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// What was written before this has settled on the file system's clock.
fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

#[track_caller]
fn assert_one_file(paths: &[PathBuf], text: &str) {
    for path in paths {
        assert_eq!(disk::inode(path), disk::inode(&paths[0]), "{}", path.display());
        assert_eq!(fs::read_to_string(path).expect("a file"), text, "{}", path.display());
    }
}

const PAIR_OF_NAMES: &str = "one \"1\"\n two = one";

#[test]
fn new_name_goes_to_the_other_side_where_another_name_is_gone() {
    let sides = Sides::of(PAIR_OF_NAMES);
    disk::hard_link(&sides.b("two"), &sides.b("three"));
    disk::remove(&sides.a("one"));
    sides.sync();
    assert_one_file(&[sides.a("two"), sides.a("three")], "1");
}

#[test]
fn new_name_is_one_of_the_file_that_the_other_side_writes() {
    for a_links in [true, false] {
        let sides = Sides::of("one \"1\"");
        let (linker, writer) =
            if a_links { (sides.0.source(), sides.0.replica()) } else { (sides.0.replica(), sides.0.source()) };
        disk::hard_link(&linker.join("one"), &linker.join("two"));
        disk::write(&writer.join("one"), "written");
        sides.sync();
        assert_one_file(&[sides.a("one"), sides.a("two")], "written");
    }
}

#[test]
fn one_side_parts_a_name_while_the_other_writes_through_another() {
    for a_parts in [true, false] {
        let sides = Sides::of(PAIR_OF_NAMES);
        let (parter, writer) =
            if a_parts { (sides.0.source(), sides.0.replica()) } else { (sides.0.replica(), sides.0.source()) };
        disk::save_atomically(&parter.join("two"), b"of its own");
        rest();
        disk::write(&writer.join("one"), "written through");
        sides.sync();
        assert_eq!(fs::read_to_string(sides.a("one")).expect("a file"), "written through");
        let kept: Vec<_> = sides.names().into_iter().filter(|name| name.contains(".conflict-")).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(fs::read_to_string(sides.a(&kept[0])).expect("a file"), "of its own");
    }
}

#[test]
fn name_that_one_side_parts_with_equal_contents_is_a_file_of_its_own_on_both() {
    for a_parts in [true, false] {
        let sides = Sides::of(PAIR_OF_NAMES);
        let (parter, other) =
            if a_parts { (sides.0.source(), sides.0.replica()) } else { (sides.0.replica(), sides.0.source()) };
        disk::save_atomically(&parter.join("two"), b"1");
        disk::chmod(&other.join("one"), 0o600);
        sides.sync();
        assert_ne!(disk::inode(&sides.a("one")), disk::inode(&sides.a("two")));
    }
}

#[test]
fn linked_file_in_conflict_keeps_both_versions() {
    let sides = Sides::of(PAIR_OF_NAMES);
    disk::write(&sides.a("one"), "older");
    rest();
    disk::write(&sides.b("two"), "the newer one");
    sides.sync();
    assert_one_file(&[sides.a("one"), sides.a("two")], "the newer one");
    let kept: Vec<_> = sides.names().into_iter().filter(|name| name.contains(".conflict-")).collect();
    assert!(!kept.is_empty());
    for name in kept {
        assert_eq!(fs::read_to_string(sides.b(&name)).expect("a file"), "older");
    }
}

#[test]
fn names_of_equal_files_that_one_side_has_as_one_become_one_without_an_agreement() {
    for a_has in [true, false] {
        let sides = Sides(Pair::of(""));
        fs::create_dir_all(sides.0.replica()).expect("a folder");
        let (one, two) =
            if a_has { (sides.0.source(), sides.0.replica()) } else { (sides.0.replica(), sides.0.source()) };
        disk::write(&one.join("one"), "1");
        disk::hard_link(&one.join("one"), &one.join("two"));
        for name in ["one", "two"] {
            disk::write(&two.join(name), "1");
        }
        sides.sync();
        assert_one_file(&[sides.a("one"), sides.a("two")], "1");
    }
}

#[test]
fn the_service_keeps_names_together_that_either_side_joins() {
    let pair = Pair::of("folder/one \"1\"\n other \"2\"");
    let watch = pair.watch(&["--two-way"]);
    disk::hard_link(&pair.replica().join("folder/one"), &pair.replica().join("two"));
    watch.assert_follows();
    disk::hard_link(&pair.source().join("two"), &pair.source().join("folder/three"));
    disk::remove(&pair.replica().join("folder/one"));
    watch.assert_follows();
    disk::append(&pair.source().join("two"), b" and more");
    watch.assert_follows();
    disk::save_atomically(&pair.replica().join("two"), b"of its own");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
    assert_ne!(disk::inode(&pair.source().join("two")), disk::inode(&pair.source().join("folder/three")));
}

/// More names than a pass looks again at what has changed under it.
const MANY_NAMES: usize = 12;

#[test]
fn conflict_about_a_file_of_many_names_ends_in_one_pass() {
    for a_is_newer in [true, false] {
        let text: String = (1..MANY_NAMES).map(|nth| format!("\n n{nth} = n0")).collect();
        let sides = Sides::of(&format!("n0 \"0\"{text}"));
        let (older, newer) = if a_is_newer { (sides.b("n0"), sides.a("n0")) } else { (sides.a("n0"), sides.b("n0")) };
        disk::write(&older, "older");
        rest();
        disk::write(&newer, "the newer");
        sides.sync();
        let (kept, own): (Vec<_>, Vec<_>) = sides.names().into_iter().partition(|name| name.contains(".conflict-"));
        assert_eq!((own.len(), kept.len()), (MANY_NAMES, MANY_NAMES), "{kept:?}");
        assert_one_file(&own.iter().map(|name| sides.a(name)).collect::<Vec<_>>(), "the newer");
        assert_one_file(&kept.iter().map(|name| sides.a(name)).collect::<Vec<_>>(), "older");
    }
}

#[test]
fn name_that_is_excluded_or_outside_keeps_what_it_had_and_the_others_go_on() {
    for (is_excluded, other_writes) in [(true, true), (true, false), (false, true), (false, false)] {
        let sides = Sides(Pair::of("one \"1\"\n two = one"));
        let apart = if is_excluded { sides.a("apart.skip") } else { sides.0.top().join("outside") };
        disk::hard_link(&sides.a("one"), &apart);
        let sync = || {
            rest();
            sides.0.sync(&["--two-way", "--exclude", "*.skip"]).text()
        };
        sync();
        let is_alone = |name: &str| !disk::exists(&sides.b(name));
        assert!(is_alone("apart.skip"), "what is excluded goes nowhere");
        assert_one_file(&[sides.b("one"), sides.b("two")], "1");
        if other_writes {
            // The new version takes the place of the old one, which stays where nobody may touch it.
            disk::write(&sides.b("two"), "written there");
            sync();
            assert_one_file(&[sides.a("one"), sides.a("two")], "written there");
            assert_eq!(fs::read_to_string(&apart).expect("a file"), "1");
        } else {
            disk::write(&apart, "written through it");
            sync();
            assert_one_file(&[sides.b("one"), sides.b("two")], "written through it");
        }
        disk::hard_link(&sides.b("one"), &sides.b("three"));
        sync();
        let names = ["one", "two", "three"];
        assert_one_file(&names.map(|name| sides.b(name)), &fs::read_to_string(sides.b("one")).expect("a file"));
        assert_one_file(&names.map(|name| sides.a(name)), &fs::read_to_string(sides.b("one")).expect("a file"));
        let again = sync();
        let is_idle = again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links");
        assert!(is_idle, "excluded: {is_excluded}, the other writes: {other_writes}\n{again}");
    }
}

#[test]
fn extended_attributes_that_each_side_has_set_are_all_kept() {
    let sides = Sides::of("file \"1\"\n folder/in \"2\"");
    let set = |path: &Path, name: &str| {
        let status = Command::new("setfattr").args(["-n", name, "-v", "value"]).arg(path).status();
        status.is_ok_and(|status| status.success())
    };
    for name in ["file", "folder"] {
        if !set(&sides.a(name), "user.a") || !set(&sides.b(name), "user.b") {
            return disk::skipped("two-way attributes: no setfattr here, or no extended attributes");
        }
        disk::chmod(&sides.b(name), 0o700);
    }
    sides.sync();
    for name in ["file", "folder"] {
        let output = Command::new("getfattr").arg("-d").arg(sides.b(name)).output().expect("getfattr");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("user.a") && text.contains("user.b"), "{text}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(disk::stat(&sides.a(name)).permissions().mode() & 0o777, 0o700);
    }
}

/// A transaction that stays in the log, as a program leaves it that is killed.
const ADD: &str = "
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute('PRAGMA journal_mode=wal')
base.execute('PRAGMA wal_autocheckpoint=0')
base.execute('CREATE TABLE IF NOT EXISTS t (x)')
base.execute('INSERT INTO t VALUES (?)', (sys.argv[2],))
os._exit(0)
";

const ALL: &str = "
import sqlite3, sys
print(','.join(row[0] for row in sqlite3.connect(sys.argv[1]).execute('SELECT x FROM t ORDER BY rowid')))
";

fn python(script: &str, path: &Path, argument: &str) -> Option<String> {
    let output = Command::new("python3").arg("-c").arg(script).arg(path).arg(argument).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a copy of a database holds.
#[track_caller]
fn rows(sides: &Sides, folder: &Path, name: &str) -> String {
    let scratch = sides.0.top().join("scratch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir(&scratch).expect("scratch folder");
    for suffix in ["", "-wal"] {
        let name = format!("{name}{suffix}");
        if disk::exists(&folder.join(&name)) {
            fs::copy(folder.join(&name), scratch.join(&name)).expect("a copy");
        }
    }
    python(ALL, &scratch.join(name), "").expect("a database that is whole")
}

#[test]
fn files_of_a_database_go_together_as_those_of_one_side() {
    let sides = Sides(Pair::new());
    if python(ADD, &sides.a("a.db"), "one").is_none() {
        return disk::skipped("two-way databases: no python3 with sqlite3 here");
    }
    sides.sync();
    // Only the log is written.
    python(ADD, &sides.b("a.db"), "two").expect("written");
    sides.sync();
    assert_eq!(rows(&sides, &sides.0.source(), "a.db"), "one,two");
    // What is written on one side comes back whole where it was removed.
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        disk::remove(&sides.a(name));
    }
    python(ADD, &sides.b("a.db"), "three").expect("written");
    sides.sync();
    assert_eq!(rows(&sides, &sides.0.source(), "a.db"), "one,two,three");
}

#[test]
fn database_that_both_sides_have_written_is_one_conflict_and_both_are_whole() {
    for a_is_newer in [true, false] {
        let sides = Sides(Pair::new());
        if python(ADD, &sides.a("a.db"), "one").is_none() {
            return disk::skipped("two-way databases: no python3 with sqlite3 here");
        }
        sides.sync();
        let (older, newer) =
            if a_is_newer { (sides.b("a.db"), sides.a("a.db")) } else { (sides.a("a.db"), sides.b("a.db")) };
        python(ADD, &older, "older").expect("written");
        rest();
        python(ADD, &newer, "newer").expect("written");
        let text = sides.sync();
        assert_eq!(text.matches("Conflict: ").count(), 1, "{text}");
        let names = sides.names();
        let kept = names.iter().find(|n| n.contains(".conflict-") && n.ends_with(".db")).expect("the other version");
        for folder in [sides.0.source(), sides.0.replica()] {
            assert_eq!(rows(&sides, &folder, "a.db"), "one,newer");
            assert_eq!(rows(&sides, &folder, kept), "one,older");
            assert_ne!(disk::inode(&folder.join("a.db")), disk::inode(&folder.join(kept)));
        }
    }
}
