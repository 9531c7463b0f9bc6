//! Names are bytes, and paths may be longer than the kernel takes in one piece.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::compare;
use crate::disk::{self, Folder};
use crate::fixture::Pair;

/// Names that programs stumble over. None of them holds a slash or a zero byte; all others are allowed.
pub fn odd_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = [
        &b"new\nline"[..],
        b"\n",
        b"tab\tand\rreturn",
        b"not utf-8 \xff\xfe\x80",
        b"half a character \xe2\x82",
        b"-rf",
        b"--delete",
        b"-",
        b" ",
        b" leading and trailing ",
        b"'single' \"double\" `back`",
        b"back\\slash",
        b"\\",
        b"\x01\x02\x1b[31mred\x7f",
        b"*",
        b"?[a-z]{b,c}!#",
        b"$HOME;$(id)|&<>",
        b"%s%n%x",
        b"...",
        b"..a",
        b".hidden",
        b".driftless-x",
        b".driftless.tmp",
        b"a~",
        b"#a#",
        b".#a",
        b"e\xcc\x81 composed",
        b"\xc3\xa9 composed",
        "\u{202e}right to left \u{200b}\u{feff}".as_bytes(),
        "日本語 📁".as_bytes(),
        b"CON",
        b"a:b",
        b"UPPER",
        b"upper",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.push(vec![b'n'; 255]);
    names.push([&[b'x'; 253][..], b"\xff\n"].concat());
    names.into_iter().map(OsString::from_vec).collect()
}

#[test]
fn any_name_of_a_file_comes_over() {
    let pair = Pair::new();
    for (i, name) in odd_names().iter().enumerate() {
        disk::write(&pair.source().join(name), i.to_string());
    }
    pair.sync(&[]);
    pair.assert_same();
}

#[test]
fn any_name_of_a_folder_a_link_or_its_target_comes_over_and_goes_again() {
    let pair = Pair::of("kept \"x\"");
    for name in odd_names() {
        disk::write(&pair.source().join("folders").join(&name).join(&name), "x");
        fs::create_dir_all(pair.source().join("links")).expect("mkdir");
        disk::symlink(&name, &pair.source().join("links").join(&name));
    }
    pair.sync(&[]);
    pair.assert_same();
    disk::remove(&pair.source().join("folders"));
    disk::remove(&pair.source().join("links"));
    pair.sync(&["--max-delete", "100%"]);
    pair.assert_same();
}

#[test]
fn any_name_is_followed_by_events() {
    let pair = Pair::new();
    let watch = pair.watch(&["--max-delete", "100%"]);
    for name in odd_names() {
        disk::write(&pair.source().join(&name), "x");
        disk::write(&pair.source().join("folders").join(&name).join(&name), "y");
    }
    watch.assert_follows();
    for name in odd_names() {
        disk::append(&pair.source().join("folders").join(&name).join(&name), b"more");
        fs::rename(pair.source().join(&name), pair.source().join("folders").join(&name).join("moved")).expect("rename");
    }
    watch.assert_follows();
}

#[test]
fn longest_symlink_target_comes_over() {
    let pair = Pair::new();
    disk::symlink(OsStr::from_bytes(&[b't'; 4095]), &pair.source().join("link"));
    pair.sync(&[]);
    pair.assert_same();
}

/// Makes `depth` folders in each other below `path`, each with a file, and opens the last.
pub fn dig(path: &std::path::Path, name: &OsStr, depth: usize) -> Folder {
    let mut folder = Folder::open(path).expect("open the root");
    for level in 0..depth {
        fs::create_dir(folder.join(name)).expect("mkdir");
        fs::write(folder.join(OsStr::new("file")), level.to_string()).expect("write");
        folder = Folder::open(&folder.join(name)).expect("open");
    }
    folder
}

#[test]
fn paths_longer_than_the_kernel_takes_at_once_come_over() {
    let pair = Pair::of("short \"x\"");
    let name = OsString::from_vec([&[b'd'; 249][..], b"\n"].concat());
    let deepest = dig(&pair.source(), &name, 22);
    fs::write(deepest.join(OsStr::new("bottom")), "5500 bytes down").expect("write");
    disk::symlink("bottom", &deepest.join(OsStr::new("link")));
    pair.sync(&[]);
    pair.assert_same();

    fs::write(deepest.join(OsStr::new("bottom")), "changed").expect("write");
    fs::write(deepest.join(OsStr::new("new")), "n").expect("write");
    fs::remove_file(deepest.join(OsStr::new("link"))).expect("remove");
    pair.sync(&[]);
    pair.assert_same();
    pair.verify(&[]).expect_code(0);

    drop(deepest);
    disk::remove(&pair.source().join(&name));
    pair.sync(&["--max-delete", "100%"]);
    pair.assert_same();
}

#[test]
fn paths_longer_than_the_kernel_takes_at_once_are_followed() {
    let pair = Pair::of("short \"x\"");
    let watch = pair.watch(&["--max-delete", "100%"]);
    let deepest = dig(&pair.source(), OsStr::from_bytes(&[b'd'; 250]), 22);
    fs::write(deepest.join(OsStr::new("bottom")), "5500 bytes down").expect("write");
    watch.assert_follows();
    // No watch can be set by a path of this length: the sweep brings it.
    fs::write(deepest.join(OsStr::new("bottom")), "changed").expect("write");
    watch.client("sweep", &[]).expect_code(0);
    watch.assert_follows();
    disk::remove(&pair.source().join(OsStr::from_bytes(&[b'd'; 250])));
    watch.assert_follows();
}

#[test]
fn three_hundred_folders_in_each_other_come_over_and_go() {
    let pair = Pair::of("short \"x\"");
    drop(dig(&pair.source(), OsStr::new("d"), 300));
    pair.sync(&[]);
    compare::assert_same(&pair.source(), &pair.replica());
    disk::remove(&pair.source().join("d"));
    pair.sync(&["--max-delete", "100%"]);
    pair.assert_same();
}
