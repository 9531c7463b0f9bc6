//! Every kind of entry turned into every other kind: two nested loops make one path a pair of kinds.

use std::fs;
use std::path::Path;

use crate::disk;
use crate::fixture::Pair;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Absent,
    EmptyFile,
    File,
    BigFile,
    ReadOnlyFile,
    SparseFile,
    LinkedPair,
    LinkToFile,
    DanglingLink,
    LinkToFolder,
    EmptyFolder,
    Folder,
    NestedFolders,
    Fifo,
    Socket,
    Device,
}

const KINDS: [Kind; 16] = [
    Kind::Absent,
    Kind::EmptyFile,
    Kind::File,
    Kind::BigFile,
    Kind::ReadOnlyFile,
    Kind::SparseFile,
    Kind::LinkedPair,
    Kind::LinkToFile,
    Kind::DanglingLink,
    Kind::LinkToFolder,
    Kind::EmptyFolder,
    Kind::Folder,
    Kind::NestedFolders,
    Kind::Fifo,
    Kind::Socket,
    Kind::Device,
];

/// The kinds that can be made here: device nodes need a privilege.
pub fn kinds(top: &Path) -> Vec<Kind> {
    let probe = top.join("probe");
    let devices = disk::make_device(&probe, 3);
    disk::remove(&probe);
    if let Err(error) = &devices {
        disk::skipped(&format!("device nodes: {error}"));
    }
    KINDS.into_iter().filter(|kind| *kind != Kind::Device || devices.is_ok()).collect()
}

/// Makes an entry of the kind. `version` makes two entries of one kind different.
pub fn make(kind: Kind, path: &Path, version: u8) {
    let text = format!("version {version}");
    let below = |name: &str| path.join(name);
    match kind {
        Kind::Absent => {}
        Kind::EmptyFile => disk::write(path, ""),
        Kind::File => disk::write(path, text),
        Kind::BigFile => disk::write_solid(path, 300_000, version),
        Kind::ReadOnlyFile => {
            disk::write(path, text);
            disk::chmod(path, 0o444);
        }
        Kind::SparseFile => disk::write_sparse(path, 1 << 20, version),
        Kind::LinkedPair => {
            disk::write(path, text);
            disk::hard_link(path, &second_name(path));
        }
        Kind::LinkToFile => disk::symlink(format!("../anchor-{version}"), path),
        Kind::DanglingLink => disk::symlink(format!("nowhere-{version}"), path),
        Kind::LinkToFolder => disk::symlink(format!("../folder-{version}"), path),
        Kind::EmptyFolder => {
            fs::create_dir(path).expect("mkdir");
            disk::chmod(path, 0o700 + u32::from(version));
        }
        Kind::Folder => {
            disk::write(&below("file"), &text);
            disk::write(&below(&text), "only in this version");
        }
        Kind::NestedFolders => {
            disk::write(&below("one/two/file"), &text);
            disk::write(&below(&format!("one/{version}/other")), &text);
            disk::symlink("..", &below("one/up"));
        }
        Kind::Fifo => disk::make_fifo(path),
        Kind::Socket => disk::make_socket(path),
        Kind::Device => disk::make_device(path, 3 + u32::from(version)).expect("make a device"),
    }
}

pub fn remove(kind: Kind, path: &Path) {
    disk::remove(path);
    if kind == Kind::LinkedPair {
        disk::remove(&second_name(path));
    }
}

fn second_name(path: &Path) -> std::path::PathBuf {
    path.with_extension("second")
}

pub fn pairs(kinds: &[Kind], source: &Path) -> Vec<(Kind, Kind, std::path::PathBuf)> {
    let named = |from: Kind, to: Kind| source.join("all").join(format!("{from:?}-to-{to:?}"));
    kinds.iter().flat_map(|from| kinds.iter().map(move |to| (*from, *to, named(*from, *to)))).collect()
}

pub fn with_anchors() -> Pair {
    let pair =
        Pair::of("anchor-1 \"first\"\n anchor-2 \"second\"\n folder-1/inside \"1\"\n folder-2/inside \"2\"\n all/");
    for anchor in ["anchor-1", "folder-1/inside"] {
        // An old target: that it was written through a link would show in its mtime.
        disk::set_mtime(&pair.source().join(anchor), 1_000_000_000, 1);
    }
    pair
}

#[test]
fn every_kind_becomes_every_other_kind_by_two_passes() {
    let pair = with_anchors();
    let kinds = kinds(pair.top());
    let all = pairs(&kinds, &pair.source());
    all.iter().for_each(|(from, _, path)| make(*from, path, 1));
    pair.sync(&[]);
    pair.assert_same();
    for (from, to, path) in &all {
        remove(*from, path);
        make(*to, path, 2);
    }
    pair.sync(&["--max-delete", "100%"]);
    pair.assert_same();
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn every_kind_becomes_every_other_kind_by_events() {
    let pair = with_anchors();
    let kinds = kinds(pair.top());
    let watch = pair.watch(&["--max-delete", "100%"]);
    let all = pairs(&kinds, &pair.source());
    all.iter().for_each(|(from, _, path)| make(*from, path, 1));
    watch.assert_follows();
    for (from, to, path) in &all {
        remove(*from, path);
        make(*to, path, 2);
    }
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}

#[test]
fn every_kind_replaces_every_other_kind_by_a_rename_over_it() {
    let pair = with_anchors();
    let kinds = kinds(pair.top());
    let all = pairs(&kinds, &pair.source());
    all.iter().for_each(|(from, _, path)| make(*from, path, 1));
    let watch = pair.watch(&["--max-delete", "100%"]);
    let mut renamed = 0;
    for (_, to, path) in all.iter().filter(|(_, to, _)| *to != Kind::Absent && *to != Kind::LinkedPair) {
        let staged = path.with_extension("new");
        make(*to, &staged, 2);
        // A folder cannot replace a file this way, nor a file a folder: exchanging does what renaming refuses.
        let done = fs::rename(&staged, path).or_else(|_| disk::exchange(&staged, path));
        renamed += usize::from(done.is_ok());
    }
    assert!(renamed > all.len() / 2, "only {renamed} renames were possible");
    watch.assert_follows();
    watch.stop();
    pair.assert_same();
}
