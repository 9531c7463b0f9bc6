//! Owns counting: how many watches a source needs, and how many the system grants. For messages only: the walk goes by
//! path, and a rename in the middle of it makes the number wrong and nothing else.

use std::path::Path;

use walkdir::WalkDir;

/// The system's limit on watches, of /proc/sys/fs/inotify.
pub fn watch_limit() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

/// Folders in the tree below `root`, itself among them; each needs a watch.
pub fn folders(root: &Path) -> u64 {
    let entries = WalkDir::new(root).follow_links(false).into_iter().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_dir()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_and_links_to_folders_are_not() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(top.path().join("a/b")).expect("made");
        std::fs::write(top.path().join("a/file"), "x").expect("written");
        std::os::unix::fs::symlink("a", top.path().join("link")).expect("linked");
        assert_eq!(folders(top.path()), 3);
    }
}
