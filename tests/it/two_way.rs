//! Both folders are worked in: what is new on either side goes to the other, nothing new is lost, and what is gone from one
//! side is removed from the other only where both were known to agree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;
use crate::fixture::{Pair, Ran};

/// Two sides that are equal, and known to be.
struct Sides(Pair);

impl Sides {
    fn of(text: &str) -> Self {
        let sides = Self(Pair::of(text));
        rest();
        sides.sync(&[]);
        sides
    }

    fn a(&self, name: &str) -> PathBuf {
        self.0.source().join(name)
    }

    fn b(&self, name: &str) -> PathBuf {
        self.0.replica().join(name)
    }

    fn try_sync(&self, options: &[&str]) -> Ran {
        self.0.try_sync(&[&["--two-way"], options].concat())
    }

    /// A pass after which both are equal, and one after that has nothing to do.
    #[track_caller]
    fn sync(&self, options: &[&str]) -> String {
        rest();
        let text = self.try_sync(options).expect_code(0).text();
        self.0.assert_same();
        rest();
        let again = self.try_sync(options).expect_code(0).text();
        let is_idle = again.contains("0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links");
        assert!(is_idle, "{again}");
        text
    }

    /// The names of what a folder of the source holds.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.a(folder)).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// What the only conflict name in the source's root keeps.
    #[track_caller]
    fn kept(&self) -> (String, String) {
        let names: Vec<String> = self.names("").into_iter().filter(|name| name.contains(".conflict-")).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let text = fs::read_to_string(self.a(&names[0])).expect("a file");
        (names[0].clone(), text)
    }
}

/// What was written before this has settled on the file system's clock.
fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

#[track_caller]
fn assert_text(path: &Path, text: &str) {
    assert_eq!(fs::read_to_string(path).expect("a file"), text, "{}", path.display());
}

#[test]
fn first_pass_merges_and_removes_nothing() {
    let sides = Sides(Pair::of("only/a \"1\"\n both/same \"2\"\n both/a \"3\""));
    disk::write(&sides.b("both/same"), "2");
    disk::write(&sides.b("both/b"), "4");
    disk::write(&sides.b("there/b"), "5");
    sides.sync(&[]);
    for name in ["only/a", "both/same", "both/a", "both/b", "there/b"] {
        assert!(disk::exists(&sides.a(name)) && disk::exists(&sides.b(name)), "{name}");
    }
}

#[test]
fn changes_go_both_ways_and_so_do_deletions() {
    let sides = Sides::of("a \"1\"\n b \"2\"\n c \"3\"\n d \"4\"\n tree/x/y \"5\"");
    disk::write(&sides.a("a"), "changed in the source");
    disk::write(&sides.b("b"), "changed in the replica");
    disk::remove(&sides.a("c"));
    disk::remove(&sides.b("d"));
    disk::remove(&sides.b("tree"));
    let text = sides.sync(&[]);
    assert_eq!(sides.names(""), ["a", "b"]);
    assert_text(&sides.b("a"), "changed in the source");
    assert_text(&sides.a("b"), "changed in the replica");
    let written = |path: &Path| text.contains(&format!("'{}'", path.display()));
    assert!(written(&sides.b("a")) && written(&sides.a("b")) && written(&sides.a("tree/x/y")), "{text}");
}

#[test]
fn a_change_survives_a_deletion_and_so_does_what_holds_it() {
    let sides = Sides::of("p/1 \"1\"\n p/q/2 \"2\"\n p/q/r/3 \"3\"\n f \"f\"");
    disk::remove(&sides.b("p"));
    disk::write(&sides.a("p/q/new"), "new");
    disk::remove(&sides.a("f"));
    disk::write(&sides.b("f"), "changed");
    sides.sync(&[]);
    assert_eq!(
        (sides.names(""), sides.names("p"), sides.names("p/q")),
        (vec!["f".to_string(), "p".into()], vec!["q".to_string()], vec!["new".to_string()])
    );
    assert_text(&sides.a("f"), "changed");
}

#[test]
fn a_deletion_beats_a_change_of_attributes_alone() {
    let sides = Sides::of("f \"f\"\n folder/g \"g\"");
    disk::chmod(&sides.a("f"), 0o600);
    disk::remove(&sides.b("f"));
    disk::chmod(&sides.b("folder"), 0o700);
    disk::remove(&sides.a("folder"));
    sides.sync(&[]);
    assert!(sides.names("").is_empty());
}

#[test]
fn the_newer_version_keeps_the_name_and_the_other_is_kept_on_both_sides() {
    for (older, newer, loser) in [("a", "b", "source"), ("b", "a", "replica")] {
        let sides = Sides::of("report.txt \"0\"");
        let side = |name: &str| if name == "a" { sides.a("report.txt") } else { sides.b("report.txt") };
        disk::write(&side(older), "older");
        rest();
        disk::write(&side(newer), "the newer one");
        let text = sides.sync(&[]);
        assert!(text.contains("Conflict: ") && text.contains("1 conflict"), "{text}");
        assert_text(&sides.a("report.txt"), "the newer one");
        let (name, kept) = sides.kept();
        assert_eq!(kept, "older");
        let (stem, end) = ("report.conflict-", format!("-{loser}.txt"));
        assert!(name.starts_with(stem) && name.ends_with(&end) && name.len() == stem.len() + 15 + end.len(), "{name}");
    }
}

#[test]
fn a_person_says_which_version_stays() {
    for (conflict, expected) in [("newer", "the replica's"), ("source", "the source's"), ("replica", "the replica's")] {
        let sides = Sides::of("f \"0\"");
        disk::write(&sides.a("f"), "the source's");
        rest();
        disk::write(&sides.b("f"), "the replica's");
        sides.sync(&["--conflict", conflict]);
        assert_eq!(sides.names(""), ["f"]);
        assert_text(&sides.a("f"), expected);
    }
}

#[test]
fn the_same_change_on_both_sides_is_no_conflict() {
    let sides = Sides::of("f \"0\"\n link -> x");
    for path in [sides.a("f"), sides.b("f")] {
        disk::write(&path, "the same");
    }
    disk::set_mtime(&sides.a("f"), 1_000, 5);
    let text = sides.sync(&[]);
    assert!(!text.contains("Conflict"), "{text}");
    assert_eq!(sides.names(""), ["f", "link"]);
}

#[test]
fn attributes_that_each_side_has_changed_are_merged() {
    let sides = Sides::of("f \"0\"\n g \"0\"");
    disk::chmod(&sides.a("f"), 0o640);
    disk::write(&sides.b("f"), "written");
    disk::chmod(&sides.b("g"), 0o600);
    disk::set_mtime(&sides.a("g"), 1_000_000, 7);
    sides.sync(&[]);
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (f, g) = (disk::stat(&sides.b("f")), disk::stat(&sides.a("g")));
    assert_eq!((f.permissions().mode() & 0o777, g.permissions().mode() & 0o777, g.mtime()), (0o640, 0o600, 1_000_000));
    assert_text(&sides.a("f"), "written");
    assert_eq!(sides.names(""), ["f", "g"]);
}

#[test]
fn kind_against_kind_keeps_both() {
    let sides = Sides::of("x \"0\"\n y \"0\"\n z/old \"0\"");
    disk::remove(&sides.a("x"));
    disk::write(&sides.a("x/in"), "in a folder");
    rest();
    disk::write(&sides.b("x"), "a file");
    // Only one side has changed this one.
    disk::remove(&sides.b("y"));
    disk::symlink("nowhere", &sides.b("y"));
    // A folder in which something is new goes aside for what has taken its name.
    disk::write(&sides.a("z/new"), "new");
    rest();
    disk::remove(&sides.b("z"));
    disk::write(&sides.b("z"), "a file");
    sides.sync(&[]);
    let names = sides.names("");
    let kept = |name: &str| names.iter().find(|n| n.starts_with(&format!("{name}.conflict-"))).cloned();
    assert_text(&sides.a("x"), "a file");
    assert_text(&sides.b(&format!("{}/in", kept("x").expect("the folder"))), "in a folder");
    assert_eq!(fs::read_link(sides.a("y")).expect("a link"), Path::new("nowhere"));
    assert_text(&sides.a("z"), "a file");
    assert_text(&sides.b(&format!("{}/new", kept("z").expect("the folder"))), "new");
}

#[test]
fn an_emptied_side_removes_nothing_and_a_new_one_is_filled() {
    let sides = Sides::of("a \"1\"\n b/c \"2\"");
    disk::remove(&sides.b("a"));
    disk::remove(&sides.b("b"));
    let ran = sides.try_sync(&[]).expect_code(3);
    assert!(disk::exists(&sides.a("a")) && disk::exists(&sides.a("b/c")), "{}", ran.text());
    // Another folder in its place: it has agreed to nothing.
    disk::remove(&sides.0.replica());
    sides.sync(&[]);
    assert_text(&sides.b("b/c"), "2");
    disk::remove(&sides.0.source());
    sides.sync(&[]);
    assert_text(&sides.a("b/c"), "2");
}

#[test]
fn a_lost_archive_merges() {
    let sides = Sides::of("a \"1\"\n b \"2\"\n c \"3\"");
    disk::remove(&sides.0.state());
    fs::create_dir(sides.0.state()).expect("mkdir");
    disk::remove(&sides.a("a"));
    disk::write(&sides.b("c"), "changed");
    sides.sync(&[]);
    assert_text(&sides.a("a"), "1");
    assert_text(&sides.a("c"), "changed");
    assert_eq!(sides.kept().1, "3");
}

#[test]
fn links_and_special_files_go_both_ways() {
    let sides = Sides::of("one \"1\"");
    disk::hard_link(&sides.a("one"), &sides.a("two"));
    disk::symlink("one", &sides.b("link"));
    disk::make_fifo(&sides.b("fifo"));
    disk::write_sparse(&sides.b("sparse"), 4 << 20, 3);
    sides.sync(&[]);
    assert_eq!(disk::inode(&sides.b("one")), disk::inode(&sides.b("two")));
    disk::hard_link(&sides.b("two"), &sides.b("three"));
    disk::remove(&sides.a("one"));
    sides.sync(&[]);
    assert_eq!(disk::inode(&sides.a("two")), disk::inode(&sides.a("three")));
}

#[test]
fn the_service_follows_both_sides_and_each_saved_file_is_one_copy() {
    let pair = Pair::of("folder/f \"1\"");
    let watch = pair.watch(&["--two-way"]);
    for n in 0..10 {
        disk::write(&pair.source().join(format!("from source {n}")), n.to_string());
        disk::write(&pair.replica().join(format!("folder/from replica {n}")), n.to_string());
    }
    watch.assert_follows();
    watch.at_one_go(|| {
        disk::save_atomically(&pair.replica().join("folder/f"), b"changed");
        fs::rename(pair.source().join("from source 1"), pair.source().join("renamed")).expect("rename");
        disk::remove(&pair.replica().join("from source 2"));
    });
    watch.assert_follows();
    // What the program wrote has come back as events by then.
    watch.flush();
    let log = watch.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((count("File copied"), count("File updated"), count("Renamed")), (21, 1, 1), "{log}");
    assert_eq!((count("File removed"), count("Conflict")), (1, 0), "{log}");
    watch.stop();
    pair.assert_same();
}

#[test]
fn one_side_is_held_while_it_is_gone_and_followed_again_when_it_is_back() {
    let pair = Pair::of("a \"1\"\n b \"2\"");
    let watch = pair.watch(&["--two-way"]);
    let away = pair.top().join("away");
    for side in [pair.source(), pair.replica()] {
        fs::rename(&side, &away).expect("rename");
        watch.wait_for_state("held");
        fs::rename(&away, &side).expect("rename back");
        watch.wait_for_state("in_sync");
        disk::write(&side.join("new"), side.display().to_string());
        watch.assert_follows();
    }
    watch.stop();
    assert_eq!(fs::read_dir(pair.source()).expect("a folder").count(), 3);
}

/// As whoever unpacks or restores makes folders: closed, filled, and then as they are to be.
#[test]
fn folders_that_are_made_anew_while_their_removal_is_held_end_as_they_were_made_last() {
    let pair = Pair::new();
    disk::write(&pair.source().join("keep"), "k");
    let folders: Vec<String> = (0..20).flat_map(|n| [format!("d{n}"), format!("d{n}/e")]).collect();
    let make = |mode| {
        for folder in &folders {
            fs::create_dir(pair.source().join(folder)).expect("made");
            disk::chmod(&pair.source().join(folder), 0o700);
            disk::write(&pair.source().join(folder).join("f"), folder);
        }
        folders.iter().rev().for_each(|folder| disk::chmod(&pair.source().join(folder), mode));
    };
    make(0o755);
    let watch = pair.watch(&["--two-way", "--max-delete", "1"]);
    watch.flush();
    for round in 0..6 {
        (0..20).for_each(|n| disk::remove(&pair.source().join(format!("d{n}"))));
        watch.client("flush", &["--timeout", "60s"]);
        // Up to fifty may go unasked, and each has four.
        let left = (0..20).filter(|n| pair.replica().join(format!("d{n}/e/f")).exists()).count();
        assert!(left >= 20 - 50 / 4, "round {round}: {left}");
        let mode = 0o750 + round;
        make(mode);
        watch.flush();
        for (side, folder) in
            [pair.source(), pair.replica()].iter().flat_map(|side| folders.iter().map(move |f| (side, f)))
        {
            let now = fs::metadata(side.join(folder)).expect("there").permissions().mode() & 0o7777;
            assert_eq!(now, mode, "round {round}: {side:?}, {folder}");
        }
    }
    watch.stop();
}
