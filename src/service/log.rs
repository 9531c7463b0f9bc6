//! Owns the log: one line an operation, the same on the console and in the file, written by threads of its own that
//! drop nothing as long as there is a place for it. It does not decide what is worth a line, and it does not quote paths: callers pass whole messages.
//!
//! A line is written as soon as no other is on its way, and many in one system call when they come fast: at the most a few
//! hundred times a second. While there is nothing to write the thread sleeps.

mod console;
mod file;
mod journal;
mod sink;

use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use slog::{Drain, Level, Logger, OwnedKVList, Record};
use slog_async::{Async, AsyncGuard, OverflowStrategy};

use super::clock;
pub use console::Around;
use console::{Console, Full};
use file::{LogFile, Turn};
pub use journal::is_journal;
use sink::{Clock, Lines, Place, Sink, Style, warning};

#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Opened for appending, made where it is missing, and opened anew when it was removed or rotated.
    pub file: Option<PathBuf>,
    /// Below zero: warnings and errors only on the console. Above: debug lines too, in both places.
    pub verbosity: i8,
    pub console: bool,
    /// The words `WARN` and `ERROR` are coloured on the console, unless that is the journal.
    pub colour: bool,
    /// What every write to the console runs in, where something else stands on the terminal.
    pub around: Option<Around>,
}

/// A handle to write lines with; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    logger: Logger,
    lowest: Arc<AtomicUsize>,
    /// Whether there are a file and a console.
    has: (bool, bool),
    sent: Arc<AtomicU64>,
}

/// Keeps the writing threads. When they end, everything that was said before has been written.
pub struct LogGuard {
    guard: Option<AsyncGuard>,
    places: Arc<Places>,
}

/// Lines on their way to the thread before a caller has to wait.
const QUEUE: usize = 2048;
/// A batch is written when it has this size, whatever is still on its way.
const BATCH: usize = 64 * 1024;
/// The least time between two writes. Who says much is not woken for each line, and neither is the thread that writes.
const PAUSE: Duration = Duration::from_millis(4);
/// How long the end of the program waits for a console that takes nothing.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How often a file that took no lines is tried, though there is nothing new to write.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// The tag of the record that asks for the file to be opened anew; it is not a line.
const REOPEN: &str = "reopen";
/// The tag of the record that has the verbosity from there on; it is not a line either.
const VERBOSITY: &str = "verbosity";

/// Starts the threads that write.
///
/// # Errors
/// The file cannot be opened; the message names it. Or there is no thread to be had.
pub fn start(options: &LogOptions) -> io::Result<(Log, LogGuard)> {
    let clock = Arc::new(Clock::default());
    let file = options.file.clone().map(LogFile::open).transpose()?;
    let has = (file.is_some(), options.console);
    let lowest = Arc::new(AtomicUsize::new(lowest(has, options.verbosity).as_usize()));
    let sent = Arc::new(AtomicU64::new(0));
    let style = match options.colour {
        _ if is_journal(rustix::stdio::stdout()) => Style::Journal,
        true => Style::Coloured,
        false => Style::Plain,
    };
    let (mut places, mut sinks) = (Places { console: None, file: None, clock }, Vec::new());
    if options.console {
        let sink = Sink::new(Place::Console, level(Place::Console, options.verbosity), style, &places.clock);
        places.console = Some((sink.lines.clone(), style, open_console(options, style, &places.clock)?));
        sinks.push(sink);
    }
    if let Some(file) = file {
        let sink = Sink::new(Place::File, level(Place::File, options.verbosity), Style::Plain, &places.clock);
        places.file = Some((sink.lines.clone(), Mutex::new(file)));
        sinks.push(sink);
    }
    let places = Arc::new(places);
    let writer = Writer {
        sinks,
        places: Arc::clone(&places),
        sent: Arc::clone(&sent),
        handled: Cell::new(0),
        written: Cell::new(None),
    };
    let (drain, guard) = Async::new(writer.ignore_res())
        .chan_size(QUEUE)
        .overflow_strategy(OverflowStrategy::Block)
        .thread_name("log".into())
        .build_with_guard();
    let logger = Logger::root(drain.ignore_res(), slog::o!());
    Ok((Log { logger, lowest, has, sent }, LogGuard { guard: Some(guard), places }))
}

/// The lowest level that goes to one place.
fn level(place: Place, verbosity: i8) -> Level {
    match (place, verbosity) {
        (_, 1..) => Level::Debug,
        (Place::Console, ..=-1) => Level::Warning,
        _ => Level::Info,
    }
}

/// The lowest level that goes anywhere.
fn lowest(has: (bool, bool), verbosity: i8) -> Level {
    match has {
        (true, _) => level(Place::File, verbosity),
        (false, true) => level(Place::Console, verbosity),
        (false, false) => Level::Critical,
    }
}

fn open_console(options: &LogOptions, style: Style, clock: &Arc<Clock>) -> io::Result<Console> {
    let full = if options.file.is_some() { Full::LeaveOut } else { Full::Wait };
    let clock = Arc::clone(clock);
    let note = move |lines: u64| {
        let (lines, are) = if lines == 1 { ("1 line".into(), "is") } else { (format!("{lines} lines"), "are") };
        let place = if full == Full::LeaveOut { "; the log file has them" } else { "" };
        warning(
            style,
            &clock,
            &format!("{lines} of the log {are} missing here, because they could not be written{place}"),
        )
    };
    Console::start(full, Box::new(note), options.around.clone())
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
        self.lowest.store(lowest(self.has, verbosity).as_usize(), Ordering::Relaxed);
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
    /// Writes what is left and ends the threads. A console that takes nothing is given up after two seconds, one that is
    /// slow too if there is a log file, which has every line.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let (done, wait) = crossbeam_channel::bounded::<()>(0);
        let ending = thread::Builder::new().name("log end".into()).spawn(move || {
            drop(guard);
            drop(done);
        });
        let start = Instant::now();
        while ending.is_ok() && matches!(wait.recv_timeout(LAST_WAIT / 20), Err(RecvTimeoutError::Timeout)) {
            let silent = self.places.console.as_ref().map(|(_, _, console)| console.silent_for());
            let waited = if self.places.file.is_some() { start.elapsed() } else { silent.unwrap_or(start.elapsed()) };
            if waited.min(start.elapsed()) >= LAST_WAIT {
                return;
            }
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where lines go.
struct Places {
    console: Option<(Lines, Style, Console)>,
    file: Option<(Lines, Mutex<LogFile>)>,
    clock: Arc<Clock>,
}

/// The drain at the end: formats each record for each place, and writes when no other record is on its way.
struct Writer {
    sinks: Vec<Sink>,
    places: Arc<Places>,
    sent: Arc<AtomicU64>,
    handled: Cell<u64>,
    written: Cell<Option<Instant>>,
}

impl Drain for Writer {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        self.handled.set(self.handled.get().wrapping_add(1));
        let is_request = record.tag() == REOPEN;
        if is_request {
            self.write_out();
            self.places.forget_file();
        } else if record.tag() == VERBOSITY {
            let verbosity = record.msg().to_string().parse().unwrap_or_default();
            self.sinks.iter().for_each(|sink| sink.level.set(level(sink.place, verbosity)));
        } else {
            self.places.clock.now();
            for sink in self.sinks.iter().filter(|sink| record.level().is_at_least(sink.level.get())) {
                sink.log(record, values)?;
            }
        }
        if self.is_last() {
            // More may come within the pause: then the last of them is written together with this one.
            self.written.get().inspect(|at| clock::wait(PAUSE.saturating_sub(at.elapsed())));
        }
        if self.is_last() || is_request || self.sinks.iter().any(|sink| sink.lines.lock().len() >= BATCH) {
            self.write_out();
        }
        Ok(())
    }
}

impl Writer {
    fn is_last(&self) -> bool {
        self.handled.get() >= self.sent.load(Ordering::SeqCst)
    }

    fn write_out(&self) {
        self.written.set(Some(Instant::now()));
        if self.places.write_out() {
            try_again(Arc::downgrade(&self.places));
        }
    }
}

impl Drop for Writer {
    /// The thread has ended: a line may be left over that waited for another that never came.
    fn drop(&mut self) {
        self.places.write_out();
        if let Some((_, _, console)) = &self.places.console {
            console.end();
        }
    }
}

impl Places {
    /// Has the file opened anew before the next line.
    fn forget_file(&self) {
        if let Some((_, file)) = &self.file {
            file.lock().unwrap_or_else(PoisonError::into_inner).moved = true;
        }
    }

    /// Writes what waits. Returns whether this is where the file begins to fail.
    fn write_out(&self) -> bool {
        let mut begins_to_fail = false;
        if let Some((lines, _, console)) = &self.console
            && console.push(&mut lines.lock())
            && let Some((lines, _)) = &self.file
        {
            let text = "Standard output takes nothing: lines are left out there until it does";
            lines.add(&warning(Style::Plain, &self.clock, text));
        }
        if let Some((lines, file)) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = file.write(&mut lines.lock(), &self.clock);
            begins_to_fail = matches!(turn, Turn::Failed(_));
            if let (Some(text), Some((lines, style, console))) = (file.words(&turn), &self.console) {
                lines.add(&warning(*style, &self.clock, &text));
                console.push(&mut lines.lock());
            }
        }
        begins_to_fail
    }
}

/// Tries from time to time whether the file takes its lines, for as long as it does not: who has nothing new to say may
/// still have something to write.
fn try_again(places: Weak<Places>) {
    let work = move || {
        loop {
            thread::park_timeout(TRY_AGAIN);
            let Some(places) = places.upgrade() else { return };
            places.write_out();
            let Some((_, file)) = &places.file else { return };
            if !file.lock().unwrap_or_else(PoisonError::into_inner).is_failing {
                return;
            }
        }
    };
    // Without a thread, the next line tries.
    let _ = thread::Builder::new().name("log again".into()).spawn(work);
}

#[cfg(test)]
mod tests;
