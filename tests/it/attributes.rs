//! Attributes come over whole: modes, owners, times, extended attributes, ACLs, holes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::fixture::{Pair, run, wrapped};
use crate::{compare, disk};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

#[test]
fn all_twelve_mode_bits_come_over() {
    let pair = Pair::new();
    let modes = [0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777];
    for mode in modes {
        let file = pair.source().join(format!("file-{mode:o}"));
        disk::write(&file, "x");
        disk::chmod(&file, mode);
        let folder = pair.source().join(format!("folder-{mode:o}"));
        disk::write(&folder.join("inside"), "x");
        disk::chmod(&folder, mode | 0o500);
    }
    pair.sync(&[]);
    pair.assert_same();
    for mode in modes {
        disk::chmod(&pair.source().join(format!("file-{mode:o}")), (mode ^ 0o7011) | 0o400);
        disk::chmod(&pair.source().join(format!("folder-{mode:o}")), (mode ^ 0o7077) | 0o500);
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn contents_of_a_read_only_folder_change() {
    let pair = Pair::of("shut/file \"one\"\n shut/other \"x\"\n shut/deep/file \"x\"");
    disk::chmod(&pair.source().join("shut"), 0o555);
    pair.sync(&[]);
    pair.assert_same();
    disk::chmod(&pair.source().join("shut"), 0o755);
    disk::write(&pair.source().join("shut/file"), "two, longer");
    disk::remove(&pair.source().join("shut/other"));
    disk::remove(&pair.source().join("shut/deep"));
    disk::write(&pair.source().join("shut/new"), "n");
    disk::chmod(&pair.source().join("shut"), 0o555);
    pair.sync(&[]);
    pair.assert_same();
    disk::chmod(&pair.source().join("shut"), 0o755);
    disk::remove(&pair.source().join("shut"));
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn modes_that_shut_everyone_out_come_over() {
    if !disk::is_root() {
        return disk::skipped("modes without reading: only root reads such a source");
    }
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"");
    disk::chmod(&pair.source().join("file"), 0);
    disk::chmod(&pair.source().join("folder"), 0);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn owners_come_over_where_they_may_be_set() {
    if !disk::is_root() {
        return disk::skipped("owners: only root sets them");
    }
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"\n link -> file\n set \"x\"\n pipe |");
    for (name, uid, gid) in [("file", 1234, 4321), ("folder", 65534, 0), ("link", 7, 8), ("set", 9, 9), ("pipe", 5, 6)]
    {
        disk::lchown(&pair.source().join(name), uid, gid);
    }
    // A change of owner clears these bits in the kernel: the order of the two matters.
    disk::chmod(&pair.source().join("set"), 0o6755);
    pair.sync(&[]);
    pair.assert_same();
    for name in ["file", "folder", "link", "set", "pipe"] {
        disk::lchown(&pair.source().join(name), 1, 2);
    }
    disk::chmod(&pair.source().join("set"), 0o4755);
    pair.sync(&[]);
    pair.assert_same();
    disk::lchown(&pair.source(), 3, 4);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn times_of_every_kind_of_entry_come_over_to_the_nanosecond() {
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"\n link -> file\n pipe |\n empty/");
    let times = [(-86_400, 500_000_001), (0, 0), (1, 999_999_999), (4_294_967_296, 123_456_789), (1_700_000_000, 1)];
    for (seconds, nanoseconds) in times {
        for name in ["file", "folder/inside", "folder", "link", "pipe", "empty", "."] {
            disk::set_mtime(&pair.source().join(name), seconds, nanoseconds);
        }
        pair.sync(&[]);
        pair.assert_same();
        assert_eq!(disk::stat(&pair.replica().join("link")).mtime(), seconds);
    }
}

#[test]
fn times_of_folders_survive_changes_inside_them() {
    let pair = Pair::of("a/b/c/file \"x\"");
    pair.sync(&[]);
    disk::write(&pair.source().join("a/b/c/file"), "changed in place: the folder's time stays");
    disk::write(&pair.source().join("a/b/new"), "n");
    for folder in ["a", "a/b", "a/b/c", "."] {
        disk::set_mtime(&pair.source().join(folder), 1_000_000_000, 5);
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn user_attributes_come_over_change_and_go() {
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"\n shut \"z\" mode=444\n twin = file");
    let long = vec![b'v'; 2000];
    for name in ["file", "folder", "folder/inside", "."] {
        let path = pair.source().join(name);
        if !disk::set_xattr(&path, "user.plain", b"value") {
            return;
        }
        disk::set_xattr(&path, "user.empty", b"");
        disk::set_xattr(&path, "user.bytes", b"\0\xff\n");
        disk::set_xattr(&path, "user.long", &long);
    }
    pair.sync(&[]);
    pair.assert_same();
    assert_eq!(compare::xattrs(&pair.replica().join("file"))["user.plain"], b"value");

    let inode = disk::inode(&pair.replica().join("folder/inside"));
    for name in ["file", "folder", "folder/inside", "."] {
        let path = pair.source().join(name);
        disk::remove_xattr(&path, "user.long");
        disk::set_xattr(&path, "user.plain", b"other");
        disk::set_xattr(&path, "user.new", b"n");
    }
    pair.sync(&[]);
    pair.assert_same();
    assert_eq!(disk::inode(&pair.replica().join("folder/inside")), inode, "an attribute alone needs no new file");
}

#[test]
fn attribute_names_that_are_not_utf8_come_over() {
    use std::os::unix::ffi::OsStrExt;
    let pair = Pair::of("file \"x\"");
    let name = std::ffi::OsStr::from_bytes(b"user.\xff\xfe\n");
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::lsetxattr(pair.source().join("file"), name, b"v", flags) {
        return disk::skipped(&format!("attribute names of any bytes: {error}"));
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn attributes_left_in_the_replica_are_removed() {
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"");
    pair.sync(&[]);
    for name in ["file", "folder"] {
        if !disk::set_xattr(&pair.replica().join(name), "user.foreign", b"v") {
            return;
        }
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn acls_come_over_change_and_go() {
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"\n folder/deep/er \"z\"");
    let (file, folder) = (pair.source().join("file"), pair.source().join("folder"));
    if !disk::set_xattr(&file, ACCESS, &disk::acl(6, (1234, 7), 4, 5, 0)) {
        return;
    }
    disk::set_xattr(&folder, ACCESS, &disk::acl(7, (1234, 5), 5, 5, 0));
    disk::set_xattr(&folder, DEFAULT, &disk::acl(7, (77, 7), 5, 7, 1));
    pair.sync(&[]);
    pair.assert_same();

    // What is made below a folder with a default ACL inherits from it, in the replica too unless it is undone there.
    disk::write(&folder.join("made-later"), "x");
    fs::create_dir(folder.join("folder-made-later")).expect("mkdir");
    let plain = folder.join("without");
    disk::write(&plain, "x");
    disk::remove_xattr(&plain, ACCESS);
    pair.sync(&[]);
    pair.assert_same();

    disk::set_xattr(&file, ACCESS, &disk::acl(6, (4321, 4), 4, 4, 4));
    disk::remove_xattr(&folder, DEFAULT);
    pair.sync(&[]);
    pair.assert_same();
    disk::remove_xattr(&file, ACCESS);
    disk::chmod(&file, 0o640);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn default_acl_of_the_replica_marks_nothing() {
    let pair = Pair::of("file \"x\"\n folder/inside \"y\"\n pipe |");
    fs::create_dir(pair.replica()).expect("mkdir");
    if !disk::set_xattr(&pair.replica(), DEFAULT, &disk::acl(7, (77, 7), 7, 7, 7)) {
        return;
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn umask_leaves_no_mark() {
    let pair = Pair::of("file \"x\" mode=666\n folder/inside \"y\" mode=664");
    disk::chmod(&pair.source().join("folder"), 0o777);
    let command = wrapped(&["sh", "-c", "umask 077; exec \"$@\"", "sh"], &pair.on_both("sync", &[]));
    run(command).expect_code(0);
    pair.assert_same();
}

#[test]
fn holes_stay_holes() {
    let pair = Pair::of("folder/");
    let source = pair.source();
    disk::write_sparse(&source.join("sparse"), 16 << 20, 1);
    disk::write(&source.join("hollow"), "");
    disk::truncate(&source.join("hollow"), 64 << 20);
    disk::write(&source.join("tail"), "x");
    disk::truncate(&source.join("tail"), (8 << 20) + 1);
    disk::write_at(&source.join("tail"), 8 << 20, b"y");
    pair.sync(&[]);
    pair.assert_same();
    // A small change, and a hole where data was.
    disk::write_at(&source.join("sparse"), 5 << 20, b"new data between holes");
    disk::truncate(&source.join("hollow"), 0);
    disk::truncate(&source.join("hollow"), 32 << 20);
    disk::write_solid(&source.join("folder/solid"), 4 << 20, 3);
    pair.sync(&[]);
    pair.assert_same();
    disk::write_sparse(&source.join("folder/solid"), 4 << 20, 4);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn file_of_zeros_with_blocks_is_copied_right() {
    let pair = Pair::new();
    disk::write(&pair.source().join("zeros"), vec![0; 3 << 20]);
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn read_only_folders_and_files_are_kept_up_to_date_by_their_owner() {
    let pair = Pair::of("shut/file \"1\"\n shut/gone \"2\"\n shut/link -> file");
    let (shut, file) = (pair.source().join("shut"), pair.source().join("shut/file"));
    let has_xattrs = disk::set_xattr(&file, "user.note", b"one");
    disk::chmod(&file, 0o444);
    disk::chmod(&shut, 0o555);
    pair.sync(&[]);
    pair.assert_same();
    disk::chmod(&shut, 0o755);
    disk::chmod(&file, 0o644);
    if has_xattrs {
        disk::set_xattr(&file, "user.note", b"two");
    }
    disk::chmod(&file, 0o444);
    disk::chmod(&shut, 0o555);
    pair.sync(&[]);
    pair.assert_same();
    disk::chmod(&shut, 0o755);
    disk::chmod(&file, 0o644);
    disk::write(&file, "changed");
    disk::chmod(&file, 0o444);
    disk::remove(&shut.join("gone"));
    disk::remove(&shut.join("link"));
    disk::symlink("gone", &shut.join("link"));
    disk::write(&shut.join("new"), "n");
    disk::chmod(&shut, 0o555);
    pair.sync(&[]);
    pair.assert_same();
}
