//! Owns the manifest's file: written unseen beside its place and renamed there when it is whole, or written to where
//! there is nothing to rename. What a line looks like is `fs::compare`'s.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::compare::manifest_line;
use crate::tree::path::RelPath;

pub struct Manifest {
    out: BufWriter<File>,
    place: Place,
    /// The first line that could not be written; it ends the manifest.
    failed: Option<io::Error>,
}

enum Place {
    Stdout,
    /// A device or a pipe.
    Direct,
    Beside(Beside),
}

/// A regular file that replaces what is there.
struct Beside {
    folder: OwnedFd,
    /// With links resolved, so that a link stays one.
    path: PathBuf,
    name: OsString,
    temporary: OsString,
    /// The temporary file has its name already: this filesystem knows none without.
    is_named: bool,
}

impl Manifest {
    /// Opens what the lines are written to; `-` is standard output.
    ///
    /// # Errors
    /// It is a folder, or nothing can be written there.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::of(stdout.into(), Place::Stdout));
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                return Ok(Self::of(File::options().write(true).open(path)?, Place::Direct));
            }
            _ => {}
        }
        let path = match fs::canonicalize(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => super::resolved(&std::path::absolute(path)?),
            done => done?,
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let name = name.to_os_string();
        let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let temporary = OsString::from(format!(".driftless-manifest-{}", std::process::id()));
        let (file, is_named) = unseen(&folder, &temporary)?;
        Ok(Self::of(file.into(), Place::Beside(Beside { folder, path, name, temporary, is_named })))
    }

    fn of(file: File, place: Place) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, file), place, failed: None }
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// The files that are the manifest's own, and no part of a tree that is verified.
    pub fn paths(&self) -> Vec<PathBuf> {
        match &self.place {
            Place::Stdout | Place::Direct => Vec::new(),
            Place::Beside(beside) => vec![beside.path.clone(), beside.path.with_file_name(&beside.temporary)],
        }
    }

    /// Adds one line. A failure is kept until the manifest is to be published.
    pub fn add(&mut self, digest: [u8; 16], path: &RelPath) {
        if self.failed.is_none() {
            // Alone, `-` would be md5sum's standard input.
            let name = if path.as_bytes() == b"-" { b"./-" } else { path.as_bytes() };
            self.failed = self.out.write_all(&manifest_line(digest, name)).err();
        }
    }

    /// Gives the whole manifest its name.
    ///
    /// # Errors
    /// The first thing that could not be written.
    pub fn publish(mut self) -> io::Result<()> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        let Place::Beside(beside) = &self.place else { return written };
        let file = self.out.get_ref();
        let done = written.and_then(|()| file.sync_all()).and_then(|()| Ok(beside.rename(file)?));
        if done.is_err() {
            self.discard();
        }
        done
    }

    /// Leaves nothing behind.
    pub fn discard(self) {
        if let Place::Beside(beside) = &self.place
            && beside.is_named
        {
            let _ = rustix::fs::unlinkat(&beside.folder, &beside.temporary, AtFlags::empty());
        }
    }
}

impl Beside {
    fn rename(&self, file: &File) -> Result<(), Errno> {
        if !self.is_named {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, &unnamed, &self.folder, &self.temporary, AtFlags::SYMLINK_FOLLOW)?;
        }
        let renamed = rustix::fs::renameat(&self.folder, &self.temporary, &self.folder, &self.name);
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty());
        }
        renamed
    }
}

/// A new file without a name, so that making it changes no folder that is about to be compared; one with a name where
/// that is not possible.
fn unseen(folder: &OwnedFd, name: &OsString) -> Result<(OwnedFd, bool), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, c".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            Ok((rustix::fs::openat(folder, name, flags, mode)?, true))
        }
        done => Ok((done?, false)),
    }
}
