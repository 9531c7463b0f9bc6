//! Owns the log: one line an operation, the same on the console and in the file, written by a thread of its own that
//! drops nothing. It does not decide what is worth a line, and it does not quote paths: callers pass whole messages.
//!
//! A line is written as soon as no other is on its way, and many in one system call when they come fast. While there
//! is nothing to write the thread sleeps.

mod file;
mod sink;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use slog::{Drain, Level, Logger, OwnedKVList, Record};
use slog_async::{Async, AsyncGuard, OverflowStrategy};

use crate::tree::quote::quoted;

use file::LogFile;
use sink::{Clock, Sink, Style};

#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Opened for appending, made where it is missing, and opened anew when it was removed or rotated.
    pub file: Option<PathBuf>,
    /// Below zero: warnings and errors only on the console. Above: debug lines too, in both places.
    pub verbosity: i8,
    pub console: bool,
}

/// A handle to write lines with; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    logger: Logger,
    lowest: Arc<AtomicUsize>,
    /// Whether there are a file and a console.
    places: (bool, bool),
    sent: Arc<AtomicU64>,
}

/// Keeps the writing thread. When it ends, everything that was said before has been written.
pub struct LogGuard(Option<AsyncGuard>);

/// Lines on their way to the thread before a caller has to wait.
const QUEUE: usize = 2048;
/// A batch is written when it has this size, whatever is still on its way.
const BATCH: usize = 64 * 1024;
/// How long the end of the program waits for a console that takes nothing.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// The tag of the record that asks for the file to be opened anew; it is not a line.
const REOPEN: &str = "reopen";
/// The tag of the record that has the verbosity from there on; it is not a line either.
const VERBOSITY: &str = "verbosity";

/// Starts the thread that writes.
///
/// # Errors
/// The file cannot be opened; the message names it.
pub fn start(options: &LogOptions) -> io::Result<(Log, LogGuard)> {
    let clock = Arc::new(Clock::default());
    let (file_level, console_level) = levels(options.verbosity);
    let file = options.file.clone().map(LogFile::open).transpose()?;
    let places = (file.is_some(), options.console);
    let lowest = Arc::new(AtomicUsize::new(lowest(options.verbosity, places).as_usize()));
    let sent = Arc::new(AtomicU64::new(0));
    let style = if console_is_journal() { Style::Journal } else { Style::Plain };
    let writer = Writer {
        console: options.console.then(|| Sink::new(console_level, style, &clock)),
        file: file.map(|file| (Sink::new(file_level, Style::Plain, &clock), RefCell::new(file))),
        clock,
        sent: Arc::clone(&sent),
        handled: Cell::new(0),
    };
    let (drain, guard) = Async::new(writer.ignore_res())
        .chan_size(QUEUE)
        .overflow_strategy(OverflowStrategy::Block)
        .thread_name("log".into())
        .build_with_guard();
    let logger = Logger::root(drain.ignore_res(), slog::o!());
    Ok((Log { logger, lowest, places, sent }, LogGuard(Some(guard))))
}

/// The levels of the file and of the console.
fn levels(verbosity: i8) -> (Level, Level) {
    let file = if verbosity > 0 { Level::Debug } else { Level::Info };
    (file, if verbosity < 0 { Level::Warning } else { file })
}

/// The lowest level that goes anywhere.
fn lowest(verbosity: i8, (file, console): (bool, bool)) -> Level {
    let (file_level, console_level) = levels(verbosity);
    match (file, console) {
        (true, _) => file_level,
        (false, true) => console_level,
        (false, false) => Level::Critical,
    }
}

impl Log {
    pub fn error(&self, message: impl Display) {
        self.line(Level::Error, &message);
    }

    pub fn warn(&self, message: impl Display) {
        self.line(Level::Warning, &message);
    }

    pub fn info(&self, message: impl Display) {
        self.line(Level::Info, &message);
    }

    pub fn debug(&self, message: impl Display) {
        self.line(Level::Debug, &message);
    }

    /// Whether debug lines go anywhere, for callers to whom making one is work.
    pub fn is_verbose(&self) -> bool {
        self.passes(Level::Debug)
    }

    /// Opens the file anew, after the lines that were said before.
    pub fn reopen(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        slog::info!(self.logger, #REOPEN, "");
    }

    /// Says less or more after the lines that were said before, as `LogOptions::verbosity` has it.
    pub fn set_verbosity(&self, verbosity: i8) {
        self.lowest.store(lowest(verbosity, self.places).as_usize(), Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::SeqCst);
        slog::info!(self.logger, #VERBOSITY, "{}", verbosity);
    }

    fn passes(&self, level: Level) -> bool {
        level.as_usize() <= self.lowest.load(Ordering::Relaxed)
    }

    fn line(&self, level: Level, message: &dyn Display) {
        if !self.passes(level) {
            return;
        }
        // Counted before it is sent, so that the thread never takes a line for the last one too late.
        self.sent.fetch_add(1, Ordering::SeqCst);
        match level {
            Level::Critical | Level::Error => slog::error!(self.logger, "{}", message),
            Level::Warning => slog::warn!(self.logger, "{}", message),
            Level::Info => slog::info!(self.logger, "{}", message),
            Level::Debug | Level::Trace => slog::debug!(self.logger, "{}", message),
        }
    }
}

impl LogGuard {
    /// Writes what is left and ends the thread. A console that takes nothing is given up after two seconds.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(guard) = self.0.take() else { return };
        let (done, wait) = crossbeam_channel::bounded::<()>(0);
        let ending = thread::Builder::new().name("log end".into()).spawn(move || {
            drop(guard);
            drop(done);
        });
        if ending.is_ok() {
            let _ = wait.recv_timeout(LAST_WAIT);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.end();
    }
}

/// The drain at the end: formats each record for each place, and writes when no other record is on its way.
struct Writer {
    console: Option<Sink>,
    file: Option<(Sink, RefCell<LogFile>)>,
    clock: Arc<Clock>,
    sent: Arc<AtomicU64>,
    handled: Cell<u64>,
}

impl Drain for Writer {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        self.handled.set(self.handled.get().wrapping_add(1));
        if record.tag() == REOPEN {
            self.write_out();
            if let Some((_, file)) = &self.file {
                file.borrow_mut().moved = true;
            }
        } else if record.tag() == VERBOSITY {
            let (file_level, console_level) = levels(record.msg().to_string().parse().unwrap_or_default());
            self.file.iter().for_each(|(sink, _)| sink.level.set(file_level));
            self.console.iter().for_each(|sink| sink.level.set(console_level));
        } else {
            for sink in self.console.iter().chain(self.file.iter().map(|(sink, _)| sink)) {
                if record.level().is_at_least(sink.level.get()) {
                    sink.log(record, values)?;
                }
            }
        }
        let is_last = self.handled.get() >= self.sent.load(Ordering::SeqCst);
        if is_last || record.tag() == REOPEN || self.size() >= BATCH {
            self.write_out();
        }
        Ok(())
    }
}

impl Writer {
    fn size(&self) -> usize {
        let size = |sink: &Sink| sink.lines.lock().len();
        self.console.as_ref().map_or(0, size).max(self.file.as_ref().map_or(0, |(sink, _)| size(sink)))
    }

    fn write_out(&self) {
        if let Some((sink, file)) = &self.file {
            let (mut lines, mut file) = (sink.lines.lock(), file.borrow_mut());
            let was_failing = file.is_failing;
            let result = file.write(&mut lines, &self.clock);
            if let (Err(e), false, Some(console)) = (result, was_failing, &self.console) {
                let path = quoted(file.path.as_os_str().as_encoded_bytes());
                console.warn(&self.clock, &format!("The log file {path} cannot be written: {e}"));
            }
        }
        if let Some(console) = &self.console {
            let mut lines = console.lines.lock();
            // There is nobody to tell that the console is gone; the file has the lines, where there is one.
            let _ = write_console(&lines);
            lines.clear();
        }
    }
}

impl Drop for Writer {
    /// The thread has ended: a line may be left over that waited for another that never came.
    fn drop(&mut self) {
        self.write_out();
    }
}

/// Writes to standard output past the standard library's buffer. An output that other programs have set not to wait
/// is waited for all the same, five seconds at most.
fn write_console(mut bytes: &[u8]) -> io::Result<()> {
    let mut pauses = 0;
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if pauses < 500 => {
                pauses += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// systemd says in `JOURNAL_STREAM` which stream it reads; standard output may be another by now.
fn console_is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stdout())
        .is_ok_and(|stat| stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn file_only(path: PathBuf, verbosity: i8) -> (Log, LogGuard) {
        start(&LogOptions { file: Some(path), verbosity, console: false }).expect("started")
    }

    fn lines(path: &std::path::Path) -> Vec<String> {
        fs::read_to_string(path).expect("log").lines().map(String::from).collect()
    }

    #[test]
    fn lines_have_the_format_that_is_promised() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.log");
        let (log, guard) = file_only(path.clone(), -1);
        log.info("File copied: '/home/user/dir1/file.txt'");
        log.warn("one\nline\u{1b}");
        log.error("'é'");
        log.debug("not wanted");
        guard.finish();
        log.info("too late, and harmless");
        let lines = lines(&path);
        let (stamp, rest) = lines[0].split_at(19);
        assert_eq!(rest, " - INFO - File copied: '/home/user/dir1/file.txt'");
        assert!(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", stamp).is_ok(), "{stamp}");
        assert_eq!(&lines[1][19..], r" - WARN - one\nline\u{1b}");
        assert_eq!(&lines[2][19..], " - ERROR - 'é'");
        assert_eq!(lines.len(), 3);
        assert_eq!(fs::metadata(&path).expect("log").mode() & 0o137, 0);
    }

    #[test]
    fn verbosity_changes_between_two_lines() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.log");
        let (log, guard) = file_only(path.clone(), 0);
        log.debug("not wanted");
        log.set_verbosity(1);
        assert!(log.clone().is_verbose());
        log.debug("wanted");
        log.set_verbosity(-1);
        log.debug("not wanted");
        log.info("in the file always");
        guard.finish();
        let words: Vec<String> = lines(&path).iter().map(|line| line[19..].to_string()).collect();
        assert_eq!(words, [" - DEBUG - wanted", " - INFO - in the file always"]);
    }

    #[test]
    fn no_line_is_dropped_under_load() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.log");
        let (log, guard) = file_only(path.clone(), 1);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5000).for_each(|n| log.debug(format_args!("line {n}"))));
            }
        });
        guard.finish();
        assert_eq!(lines(&path).len(), 20_000);
    }

    #[test]
    fn removed_file_is_made_anew_and_a_rotated_one_on_request() {
        let folder = tempfile::tempdir().expect("folder");
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let (log, guard) = file_only(path.clone(), 0);
        log.info("one");
        while fs::metadata(&path).expect("log").len() == 0 {
            thread::yield_now();
        }
        fs::remove_file(&path).expect("removed");
        log.info("two");
        while !path.exists() {
            thread::yield_now();
        }
        log.reopen();
        fs::rename(&path, &old).expect("rotated");
        log.reopen();
        log.info("three");
        guard.finish();
        assert_eq!(lines(&old).len(), 1);
        assert!(lines(&path).concat().ends_with("INFO - three"));
    }

    #[test]
    fn lines_that_a_full_disk_refused_come_when_there_is_room() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.log");
        symlink("/dev/full", &path).expect("link");
        let (log, guard) = file_only(path.clone(), 0);
        log.info("one");
        log.reopen();
        fs::remove_file(&path).expect("link");
        log.reopen();
        log.info("two");
        guard.finish();
        assert_eq!(lines(&path).len(), 2);
    }
}
