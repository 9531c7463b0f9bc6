//! Excludes: gitignore's syntax; what is excluded is neither copied nor removed, nor watched.

use std::fs;

use crate::compare::{self, Reserved};
use crate::disk;
use crate::fixture::Pair;

const PROJECT: &str = r#"
    main.rs "code"
    note.tmp "t"
    build/out.o "o"
    build/deep/out.o "o"
    src/build/out.o "o"
    src/lib.rs "code"
    src/keep.tmp "t"
    logs/today.log "l"
"#;

/// Everything that is in one tree and not in the other, as text.
fn apart(pair: &Pair) -> Vec<String> {
    let found = compare::differences(&pair.source(), &pair.replica(), Reserved::Ignored);
    found.into_iter().map(|difference| difference.to_string()).collect()
}

#[test]
fn excluded_paths_are_not_copied() {
    let pair = Pair::of(PROJECT);
    pair.sync(&["-x", "*.tmp", "--exclude", "/build/", "-x", "!src/keep.tmp"]);
    assert_eq!(apart(&pair), ["build: missing (folder)", "note.tmp: missing (file)"]);
    pair.sync(&["-x", "*.tmp", "--exclude", "/build/", "-x", "!src/keep.tmp"]);
    assert_eq!(apart(&pair), ["build: missing (folder)", "note.tmp: missing (file)"]);
}

#[test]
fn exclude_without_a_slash_counts_at_every_depth() {
    let pair = Pair::of(PROJECT);
    pair.sync(&["-x", "build"]);
    assert_eq!(apart(&pair), ["build: missing (folder)", "src/build: missing (folder)"]);
}

#[test]
fn excluded_paths_are_not_removed_from_the_replica() {
    let pair = Pair::of(PROJECT);
    pair.sync(&[]);
    disk::remove(&pair.source().join("note.tmp"));
    disk::remove(&pair.source().join("src/build"));
    disk::write(&pair.source().join("src/lib.rs"), "new code");
    let args = ["-x", "*.tmp", "-x", "src/build/"];
    pair.sync(&args);
    // Only the folder's time may differ from what it would be, were nothing excluded.
    let found: Vec<_> = apart(&pair).into_iter().filter(|text| !text.contains("mtime")).collect();
    assert_eq!(found, ["note.tmp: extra (file)", "src/build: extra (folder)"]);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn removed_folder_stays_as_long_as_its_replica_holds_something_excluded() {
    let pair = Pair::of("folder/sub/code.rs \"c\"\n folder/sub/kept.tmp \"k\"\n folder/other.rs \"o\"\n a \"x\"");
    pair.sync(&[]);
    disk::remove(&pair.source().join("folder"));
    for _ in 0..2 {
        pair.sync(&["-x", "*.tmp"]);
        assert_eq!(fs::read_to_string(pair.replica().join("folder/sub/kept.tmp")).expect("the excluded file"), "k");
        assert!(!disk::exists(&pair.replica().join("folder/sub/code.rs")));
        assert!(!disk::exists(&pair.replica().join("folder/other.rs")));
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn exclude_file_is_read_like_a_gitignore() {
    let pair = Pair::of(PROJECT);
    let list = pair.top().join("patterns");
    fs::write(&list, "# a comment\n\n*.tmp\n!keep.tmp\n/logs/*.log\n").expect("write");
    pair.sync(&["--exclude-from", list.to_str().expect("utf-8")]);
    assert_eq!(apart(&pair), ["logs/today.log: missing (file)", "note.tmp: missing (file)"]);
}

#[test]
fn excluded_paths_are_not_followed_and_others_are() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&["-x", "*.tmp", "-x", "/build/"]);
    disk::write(&pair.source().join("build/new.o"), "n");
    disk::write(&pair.source().join("other.tmp"), "n");
    disk::write(&pair.source().join("src/build/out.o"), "changed");
    disk::write(&pair.source().join("fresh/deep/a.tmp"), "n");
    disk::write(&pair.source().join("fresh/deep/a.rs"), "n");
    watch.flush();
    let missing = ["build", "fresh/deep/a.tmp", "note.tmp", "other.tmp", "src/keep.tmp"];
    let found = apart(&pair);
    assert_eq!(found.len(), missing.len(), "{found:?}");
    assert!(found.iter().zip(missing).all(|(found, path)| found.starts_with(&format!("{path}: missing"))), "{found:?}");
}

#[test]
fn folder_in_which_an_excluded_name_comes_or_goes_has_its_times_in_the_replica() {
    for mode in [&["-x", "hid"][..], &["-x", "hid", "--two-way"]] {
        let pair = Pair::of("folder/plain \"p\"\n folder/sub/deep \"d\"\n other/ ");
        let watch = pair.watch(mode);
        let roots: &[_] = if mode.len() > 2 { &[pair.source(), pair.replica()] } else { &[pair.source()] };
        for root in roots {
            for folder in [root.clone(), root.join("folder"), root.join("folder/sub")] {
                let (hidden, plain) = (folder.join("hid"), root.join("folder/plain"));
                let check = |what: &str| {
                    watch.flush();
                    let found: Vec<_> = apart(&pair).into_iter().filter(|text| !text.contains("hid: ")).collect();
                    assert!(found.is_empty(), "{mode:?}, {what}: {found:?}");
                };
                fs::create_dir(&hidden).expect("mkdir");
                check("made");
                disk::write(&hidden.join("x"), "x");
                disk::remove(&hidden);
                check("removed");
                disk::symlink(&plain, &hidden);
                check("symlink");
                fs::rename(&hidden, root.join("other/hid")).expect("rename");
                check("renamed");
                disk::remove(&root.join("other/hid"));
                check("removed elsewhere");
                disk::hard_link(&plain, &hidden);
                check("link");
                disk::remove(&hidden);
                check("unlinked");
            }
        }
        let log = watch.log();
        assert!(!log.contains("Conflict"), "{mode:?}: {log}");
        // Times that move with what a folder lists are not told; two ways meet in it, and may take them for set.
        assert!(roots.len() > 1 || !log.contains("Metadata updated"), "{log}");
    }
}

#[test]
fn file_renamed_to_an_excluded_name_leaves_the_replica_and_comes_back() {
    let pair = Pair::of(PROJECT);
    let watch = pair.watch(&["-x", "*.tmp"]);
    let (code, hidden) = (pair.source().join("main.rs"), pair.source().join("main.tmp"));
    fs::rename(&code, &hidden).expect("rename");
    watch.flush();
    assert!(!disk::exists(&pair.replica().join("main.rs")));
    assert!(!disk::exists(&pair.replica().join("main.tmp")));
    fs::rename(&hidden, &code).expect("rename");
    watch.flush();
    assert_eq!(fs::read_to_string(pair.replica().join("main.rs")).expect("read"), "code");
}

#[test]
fn verify_passes_over_what_is_excluded() {
    let pair = Pair::of(PROJECT);
    pair.sync(&["-x", "*.tmp"]);
    pair.verify(&["-x", "*.tmp"]).expect_code(0);
    let ran = pair.verify(&[]).expect_code(1);
    assert!(ran.stdout.contains("note.tmp"), "{}", ran.text());
}

#[test]
fn mark_that_an_editor_puts_before_a_file_of_patterns_is_no_part_of_the_first() {
    let pair = Pair::of(PROJECT);
    disk::write(&pair.top().join("patterns"), "\u{feff}/build/\r\n*.tmp\r\n");
    pair.sync(&["--exclude-from", "patterns", "-x", "!src/keep.tmp"]);
    assert_eq!(apart(&pair), ["build: missing (folder)", "note.tmp: missing (file)"]);
}
