//! Owns writing several files as one step: all of them are there in the end, or what was there before. It decides
//! nothing about what they say.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Trouble;

/// What was made so far. Unless it is kept, dropping it takes it back.
#[derive(Debug, Default)]
pub struct Writing {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    Folder(PathBuf),
    File(PathBuf),
    /// With what it held before.
    Overwritten(PathBuf, Vec<u8>),
}

impl Writing {
    /// Makes the folder with this mode, and those above it with the usual one, where they are missing. Says whether it
    /// made any.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<bool, Trouble> {
        let mut missing: Vec<_> = path.ancestors().take_while(|above| !above.is_dir()).collect();
        missing.reverse();
        for above in &missing {
            let mode = if *above == path { mode } else { 0o755 };
            DirBuilder::new().mode(mode).create(above).map_err(|e| failed(above, e))?;
            self.made.push(Made::Folder(above.to_path_buf()));
        }
        Ok(!missing.is_empty())
    }

    /// Writes the file, in folders that are made if they are missing. Only `overwrite` replaces one that is there.
    ///
    /// # Errors
    /// It is there, or cannot be written.
    pub fn file(&mut self, path: &Path, text: &str, overwrite: bool) -> Result<(), Trouble> {
        if let Some(folder) = path.parent() {
            self.folder(folder, 0o755)?;
        }
        if overwrite && path.symlink_metadata().is_ok() {
            let before = fs::read(path).map_err(|e| failed(path, e))?;
            replace(path, text.as_bytes()).map_err(|e| failed(path, e))?;
            self.made.push(Made::Overwritten(path.into(), before));
            return Ok(());
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        let mut file = made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Trouble::AlreadyThere { path: path.into() },
            _ => failed(path, source),
        })?;
        self.made.push(Made::File(path.into()));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| failed(path, e))
    }

    /// Lets all of it stay.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Writing {
    /// What cannot be taken back stays: the reason for taking back is what the person is told.
    fn drop(&mut self) {
        for made in self.made.drain(..).rev() {
            let _ = match made {
                Made::Folder(path) => fs::remove_dir(path),
                Made::File(path) => fs::remove_file(path),
                Made::Overwritten(path, before) => replace(&path, &before),
            };
        }
    }
}

/// Through a file beside it, so that a full disk costs nobody the old one. A link is replaced by a file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = path.with_file_name(name);
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside);
    let renamed = written
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    renamed
}

fn failed(path: &Path, source: io::Error) -> Trouble {
    Trouble::Write { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_taken_back() {
        let folder = tempfile::tempdir().expect("folder");
        let (old, new) = (folder.path().join("old"), folder.path().join("a/b/new"));
        fs::write(&old, "before").expect("written");
        let mut writing = Writing::default();
        writing.file(&new, "x", false).expect("written");
        writing.file(&old, "after", true).expect("written");
        assert_eq!((fs::read(&old).expect("read"), new.exists()), (b"after".to_vec(), true));
        let refused = writing.file(&old, "again", false).expect_err("there");
        assert!(refused.to_string().ends_with("old' is there already; --force overwrites it"), "{refused}");
        drop(writing);
        assert_eq!(fs::read(&old).expect("read"), b"before");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn what_is_kept_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a/file");
        let mut writing = Writing::default();
        writing.file(&path, "x", true).expect("written");
        assert!(!writing.folder(&folder.path().join("a"), 0o700).expect("there"));
        writing.keep();
        assert_eq!(fs::read(path).expect("read"), b"x");
    }
}
