//! Trees written as text, so that a test shows at a glance what it works on:
//!
//! ```text
//! a.txt "hello"
//! bin/run "x" +x
//! secret "y" mode=600
//! logs/
//! latest -> a.txt
//! twin = a.txt
//! pipe |
//! ```
//!
//! One entry a line; parents are made. What needs more than this is done with `disk` afterwards.

use std::fs;
use std::path::Path;

use crate::disk;

/// Makes the entries that `text` describes below `root`, in its order.
pub fn build(root: &Path, text: &str) {
    fs::create_dir_all(root).expect("make the root");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        make(root, line);
    }
}

fn make(root: &Path, line: &str) {
    if let Some((name, target)) = line.split_once(" -> ") {
        disk::symlink(target, &with_parent(root, name));
    } else if let Some((name, existing)) = line.split_once(" = ") {
        disk::hard_link(&root.join(existing), &with_parent(root, name));
    } else if let Some((name, rest)) = line.split_once(" \"") {
        let (contents, flags) = rest.rsplit_once('"').unwrap_or_else(|| panic!("no closing quote: {line}"));
        let path = with_parent(root, name);
        disk::write(&path, contents);
        for flag in flags.split_whitespace() {
            match flag.strip_prefix("mode=") {
                Some(mode) => disk::chmod(&path, u32::from_str_radix(mode, 8).expect("an octal mode")),
                None if flag == "+x" => disk::chmod(&path, 0o755),
                None => panic!("unknown flag {flag} in: {line}"),
            }
        }
    } else if let Some(name) = line.strip_suffix(" |") {
        disk::make_fifo(&with_parent(root, name));
    } else if let Some(name) = line.strip_suffix('/') {
        fs::create_dir_all(root.join(name)).expect("make a folder");
    } else {
        panic!("not an entry: {line}");
    }
}

fn with_parent(root: &Path, name: &str) -> std::path::PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("make the parent");
    path
}
