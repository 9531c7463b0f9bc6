//! Owns the file for node_exporter's textfile collector: when it is written, and that no reader ever finds half of it. What
//! is in it is the parent's.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::Figures;
use crate::service::log::Log;
use crate::service::status::Status;
use crate::tree::quote::quoted;

/// How often it is looked whether there is anything new.
const OFTEN: Duration = Duration::from_secs(15);
/// How often the file is written where there is not: by its age a scraper knows that the service lives.
const SELDOM: Duration = Duration::from_secs(60);

/// The thread that writes.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    figures: Figures,
    log: Log,
    ending: Sender<()>,
    thread: JoinHandle<()>,
}

/// Whether the file can be written, tried beside it.
///
/// # Errors
/// As of making a file there.
pub fn check(path: &Path) -> io::Result<()> {
    refuse_if_special(path)?;
    let staged = staged(path)?;
    create(&staged)?;
    fs::remove_file(staged)
}

impl MetricsFile {
    /// Writes the file now and from now on.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(path: PathBuf, figures: Figures, log: Log) -> io::Result<Self> {
        let (ending, ended) = bounded::<()>(0);
        let (to, from, teller) = (path.clone(), figures.clone(), log.clone());
        let thread = thread::Builder::new().name("metrics file".into()).spawn(move || {
            let mut keeper = Keeper::new(to);
            loop {
                if let Some(text) = from.now() {
                    keeper.take(text, Instant::now(), &teller);
                }
                if ended.recv_timeout(OFTEN) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { path, figures, log, ending, thread })
    }

    /// Writes the last figures of a service that has ended.
    pub fn finish(self, last: Status) {
        drop(self.ending);
        let _ = self.thread.join();
        Keeper::new(self.path).take(self.figures.text(last, false), Instant::now(), &self.log);
    }
}

/// What the file says, and since when.
struct Keeper {
    path: PathBuf,
    written: Option<(String, Instant)>,
    is_failing: bool,
}

impl Keeper {
    fn new(path: PathBuf) -> Self {
        Self { path, written: None, is_failing: false }
    }

    /// Writes the text if it is new, or the file old.
    fn take(&mut self, text: String, now: Instant, log: &Log) {
        let is_due = |(old, at): &(String, Instant)| *old != text || now.duration_since(*at) >= SELDOM;
        if !self.written.as_ref().is_none_or(is_due) {
            return;
        }
        let shown = || quoted(self.path.as_os_str().as_encoded_bytes());
        match write(&self.path, &text) {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    log.info(format_args!("The metrics file {} can be written again", shown()));
                }
                self.written = Some((text, now));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    log.warn(format_args!("The metrics file {} cannot be written: {}", shown(), words(&error)));
                }
            }
        }
    }
}

/// What the file takes the place of must be one as well: `/dev/null` would be gone for everybody.
///
/// # Errors
/// It is a folder, a device, a socket or a pipe.
pub fn refuse_if_special(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() && !there.is_symlink() => {
            Err(io::Error::other("what is there is no regular file, and would be replaced"))
        }
        _ => Ok(()),
    }
}

/// What the system says, without the number that it ends in.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    refuse_if_special(path)?;
    let staged = staged(path)?;
    let written = create(&staged).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // Whatever the umask is: the scraper is another user.
        file.set_permissions(Permissions::from_mode(0o644))?;
        fs::rename(&staged, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&staged);
    }
    written
}

/// Beside the file, under a name that collectors pass over.
fn staged(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

/// Never through a link, and over what a killed process has left.
fn create(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    match open() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            open()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::service::log::{self, LogOptions};

    fn silent() -> (Log, log::LogGuard) {
        log::start(&LogOptions { console: false, ..LogOptions::default() }).expect("started")
    }

    #[test]
    fn file_is_replaced_whole_when_it_is_new_or_old() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.prom");
        let (log, _guard) = silent();
        let (mut keeper, start) = (Keeper::new(path.clone()), Instant::now());
        let inode = || fs::metadata(&path).expect("written").ino();
        check(&path).expect("can be written");
        assert!(!path.exists());
        keeper.take("one".into(), start, &log);
        let first = (fs::read_to_string(&path).expect("read"), inode());
        keeper.take("one".into(), start + OFTEN, &log);
        assert_eq!((first.0.as_str(), inode()), ("one", first.1), "nothing was new");
        // Open, so that its number is not given away again.
        let _old = File::open(&path).expect("open");
        keeper.take("one".into(), start + SELDOM, &log);
        assert_ne!(inode(), first.1, "it was old");
        keeper.take("two".into(), start + SELDOM, &log);
        assert_eq!(fs::read_to_string(&path).expect("read"), "two");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1, "nothing else is left there");
    }

    #[test]
    fn device_or_pipe_is_not_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        assert!(check(&path).is_err() && write(&path, "text").is_err());
        assert!(check(Path::new("/dev/null")).is_err());
        assert!(!fs::symlink_metadata(&path).expect("there").is_file());
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1, "nothing else is left there");
    }

    #[test]
    fn link_that_waits_beside_it_is_not_written_through() {
        let folder = tempfile::tempdir().expect("folder");
        let (path, other) = (folder.path().join("a.prom"), folder.path().join("other"));
        fs::write(&other, "mine").expect("written");
        symlink(&other, folder.path().join(".a.prom.new")).expect("link");
        write(&path, "text").expect("written");
        assert_eq!(fs::read_to_string(&other).expect("read"), "mine");
        assert_eq!(fs::read_to_string(&path).expect("read"), "text");
    }

    #[test]
    fn folder_that_is_not_there_is_refused_and_one_that_goes_is_waited_for() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sub/a.prom");
        assert_eq!(check(&path).expect_err("no folder").kind(), ErrorKind::NotFound);
        assert!(check(folder.path()).is_err());
        let (log, _guard) = silent();
        let mut keeper = Keeper::new(path.clone());
        keeper.take("one".into(), Instant::now(), &log);
        assert!(keeper.is_failing && keeper.written.is_none());
        fs::create_dir(folder.path().join("sub")).expect("made");
        keeper.take("one".into(), Instant::now(), &log);
        assert!(!keeper.is_failing && path.exists());
    }
}
