//! Hard links: which names are one file is kept, and follows every joining and parting.

use std::fs;

use crate::disk;
use crate::fixture::Pair;

const GROUPS: &str = r#"
    a/one "first file"
    b/one = a/one
    c/deep/one = a/one
    a/two "second file"
    b/two = a/two
    alone "third file"
"#;

#[test]
fn link_groups_across_folders_are_kept() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    pair.assert_same();
    assert_eq!(disk::inode(&pair.replica().join("a/one")), disk::inode(&pair.replica().join("c/deep/one")));
}

#[test]
fn changed_contents_keep_the_group_together() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    disk::append(&pair.source().join("b/one"), b" and more");
    pair.sync(&[]);
    pair.assert_same();
    disk::rewrite_unseen(&pair.source().join("c/deep/one"));
    disk::chmod(&pair.source().join("a/two"), 0o600);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn name_parts_from_its_group() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    disk::save_atomically(&pair.source().join("b/one"), b"now a file of its own");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn name_parts_from_its_group_with_equal_contents_and_times() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    let (kept, parted) = (pair.source().join("a/two"), pair.source().join("b/two"));
    disk::save_atomically(&parted, b"second file");
    for path in [&kept, &parted] {
        disk::set_mtime(path, 1_600_000_000, 42);
    }
    pair.sync(&[]);
    pair.assert_same();
    // And now nothing but the parting itself is new.
    disk::hard_link(&kept, &pair.source().join("b/third"));
    pair.sync(&[]);
    pair.assert_same();
    let (again, third) = (fs::read(&kept).expect("read"), pair.source().join("b/third"));
    disk::save_atomically(&third, &again);
    disk::set_mtime(&third, 1_600_000_000, 42);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn name_joins_a_group() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    let alone = pair.source().join("alone");
    disk::remove(&alone);
    disk::hard_link(&pair.source().join("a/one"), &alone);
    disk::hard_link(&alone, &pair.source().join("c/another"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn equal_files_become_one_file() {
    let pair = Pair::of("a/file \"same\"\n b/file \"same\"");
    for name in ["a/file", "b/file"] {
        disk::set_mtime(&pair.source().join(name), 1_500_000_000, 7);
    }
    pair.sync(&[]);
    pair.assert_same();
    disk::remove(&pair.source().join("b/file"));
    disk::hard_link(&pair.source().join("a/file"), &pair.source().join("b/file"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn groups_exchange_a_name() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    if let Err(error) = disk::exchange(&pair.source().join("b/one"), &pair.source().join("a/two")) {
        return disk::skipped(&format!("exchange: {error}"));
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn last_but_one_name_goes() {
    let pair = Pair::of(GROUPS);
    pair.sync(&[]);
    disk::remove(&pair.source().join("a/two"));
    disk::remove(&pair.source().join("a/one"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn link_to_a_file_outside_the_source_is_a_file_of_its_own() {
    let pair = Pair::of("inside \"x\"");
    disk::hard_link(&pair.source().join("inside"), &pair.top().join("outside"));
    pair.sync(&[]);
    pair.assert_same();
    disk::write_at(&pair.top().join("outside"), 0, b"y");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn names_linked_in_the_replica_alone_are_parted() {
    let pair = Pair::of("a \"same\"\n b \"same\"");
    for name in ["a", "b"] {
        disk::set_mtime(&pair.source().join(name), 1_500_000_000, 7);
    }
    pair.sync(&[]);
    disk::remove(&pair.replica().join("b"));
    disk::hard_link(&pair.replica().join("a"), &pair.replica().join("b"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn replica_file_linked_elsewhere_is_not_written_through() {
    let pair = Pair::of("file \"one\"");
    pair.sync(&[]);
    let snapshot = pair.top().join("snapshot");
    disk::hard_link(&pair.replica().join("file"), &snapshot);
    disk::write(&pair.source().join("file"), "two");
    pair.sync(&[]);
    pair.assert_same();
    assert_eq!(fs::read_to_string(&snapshot).expect("read"), "one");
}

#[test]
fn links_among_symlinks_fifos_and_sockets_are_kept() {
    let pair = Pair::of("link -> nowhere\n pipe |\n folder/");
    disk::make_socket(&pair.source().join("socket"));
    for name in ["link", "pipe", "socket"] {
        disk::hard_link(&pair.source().join(name), &pair.source().join("folder").join(name));
    }
    pair.sync(&[]);
    let different = crate::compare::differences(&pair.source(), &pair.replica(), crate::compare::Reserved::Forbidden);
    // The contract promises link groups among files; of the others only that they are there, equal in all else.
    let of_files: Vec<_> = different.into_iter().filter(|found| !found.what.starts_with("link group")).collect();
    crate::compare::assert_none(&of_files);
}

#[test]
fn many_names_of_one_file_are_one_file() {
    let pair = Pair::of("first \"x\"");
    for i in 0..200 {
        let folder = pair.source().join(format!("folder-{}", i % 20));
        fs::create_dir_all(&folder).expect("mkdir");
        disk::hard_link(&pair.source().join("first"), &folder.join(i.to_string()));
    }
    pair.sync(&[]);
    pair.assert_same();
    disk::append(&pair.source().join("folder-3/3"), b"more");
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn dry_run_names_the_links_that_a_pass_makes_and_no_others() {
    let pair = Pair::of("a \"one\"\nsub/c \"two\"");
    let (source, replica) = (pair.source(), pair.replica());
    for name in ["sub/al", "z"] {
        disk::hard_link(&source.join("a"), &source.join(name));
    }
    // With more workers, it is a matter of chance which name is dealt with first.
    let lines = |ran: crate::fixture::Ran, words: [[&str; 2]; 4]| {
        let text = ran.text();
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| {
                let (_, said) = line.split_once(" - INFO - ")?;
                words.iter().find_map(|[from, to]| Some(format!("{to}{}", said.strip_prefix(from)?)))
            })
            .collect();
        found.sort();
        found
    };
    let planned = [
        ["Would create link", "link created"],
        ["Would update link", "link updated"],
        ["Would copy file", "file copied"],
        ["Would update file", "file updated"],
    ];
    let done = [
        ["Link created", "link created"],
        ["Link updated", "link updated"],
        ["File copied", "file copied"],
        ["File updated", "file updated"],
    ];
    let follows = |what: &str, links: usize| {
        let dry = lines(pair.sync(&["-n", "-j", "1"]), planned);
        assert_eq!(dry, lines(pair.sync(&["-n", "-c", "-j", "1"]), planned), "{what}");
        assert_eq!(dry.iter().filter(|line| line.starts_with("link")).count(), links, "{what}: {dry:?}");
        assert_eq!(dry, lines(pair.sync(&["-j", "1"]), done), "{what}");
        for args in [&["-n"][..], &["-n", "-c"]] {
            let text = pair.sync(args).text();
            assert!(!text.contains("Would"), "{what}, {args:?}: {text}");
        }
    };
    follows("all is new", 2);
    disk::remove(&replica.join("sub/al"));
    follows("one name is gone in the replica", 1);
    disk::write(&source.join("a"), "one more");
    follows("the file was written", 2);
    disk::hard_link(&source.join("sub/c"), &source.join("d"));
    follows("a file has got another name", 1);
    fs::copy(replica.join("z"), replica.join("z.new")).expect("copy");
    fs::rename(replica.join("z.new"), replica.join("z")).expect("rename");
    disk::remove(&replica.join("a"));
    disk::remove(&source.join("a"));
    follows("a name is a file of its own in the replica", 1);
    pair.assert_same();
}
