//! Owns counting: how many watches a source needs, and how many the system grants, and how much there is to do in it. For
//! messages only: the walk goes by path, and a rename in the middle of it makes the number wrong and nothing else.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Entries of every kind, but the root.
    pub entries: u64,
    /// Bytes that its files take up.
    pub bytes: u64,
}

/// Counts what is below `root`. What `skips` counts itself, and nothing below it. `None` when `stop` was set.
pub fn size(
    root: &Path,
    one_file_system: bool,
    skips: impl Fn(&Path, bool) -> bool,
    stop: &AtomicBool,
) -> Option<Size> {
    let mut size = Size::default();
    let mut walk = WalkDir::new(root).min_depth(1).follow_links(false).same_file_system(one_file_system).into_iter();
    while let Some(entry) = walk.next() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let Ok(entry) = entry else { continue };
        size.entries += 1;
        let kind = entry.file_type();
        if skips(entry.path(), kind.is_dir()) {
            if kind.is_dir() {
                walk.skip_current_dir();
            }
        } else if let (true, Ok(meta)) = (kind.is_file(), entry.metadata()) {
            size.bytes = size.bytes.saturating_add(meta.len().min(meta.blocks().saturating_mul(512)));
        }
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone_is_not_looked_into() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(top.path().join("skipped/deep")).expect("made");
        std::fs::create_dir_all(top.path().join("a/b")).expect("made");
        std::fs::write(top.path().join("a/file"), vec![1; 8192]).expect("written");
        std::os::unix::fs::symlink("a", top.path().join("link")).expect("linked");
        let skips = |path: &Path, _| path.ends_with("skipped");
        let counted = size(top.path(), false, skips, &AtomicBool::new(false)).expect("to its end");
        assert_eq!(counted.entries, 5);
        assert!(counted.bytes <= 8192, "{counted:?}");
        assert_eq!(size(top.path(), false, skips, &AtomicBool::new(true)), None);
    }

    #[test]
    fn folders_are_counted_and_links_to_folders_are_not() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(top.path().join("a/b")).expect("made");
        std::fs::write(top.path().join("a/file"), "x").expect("written");
        std::os::unix::fs::symlink("a", top.path().join("link")).expect("linked");
        assert_eq!(folders(top.path()), 3);
    }
}
