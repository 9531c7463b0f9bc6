//! Owns what a line looks like, on the console, in the file and in the journal, and gathers the lines of one place
//! until they are written. It writes nothing itself.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slog::{Drain, Level, OwnedKVList, Record};
use slog_term::{FullFormat, PlainDecorator, RecordDecorator, ThreadSafeTimestampFn};

use crate::tree::quote::escaped;

/// Lines of one place that are formatted and not yet written.
pub struct Sink {
    pub level: Cell<Level>,
    style: Style,
    format: FullFormat<PlainDecorator<Lines>>,
    pub lines: Lines,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Plain,
    /// systemd's journal has timestamps of its own and takes the level from a prefix.
    Journal,
}

impl Sink {
    pub fn new(level: Level, style: Style, clock: &Arc<Clock>) -> Self {
        let (lines, clock) = (Lines::default(), Arc::clone(clock));
        let format = FullFormat::new(PlainDecorator::new(lines.clone()))
            .use_custom_timestamp(move |out| out.write_all(clock.now().as_bytes()))
            .use_custom_header_print(move |timestamp, out, record, _| {
                print_header(style, timestamp, out, record).map(|()| true)
            })
            .build();
        Self { level: Cell::new(level), style, format, lines }
    }

    pub fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        self.format.log(record, values)
    }

    /// A line of the log's own.
    pub fn warn(&self, clock: &Clock, message: &str) {
        let head = if self.style == Style::Journal { "<4>".into() } else { format!("{} - WARN - ", clock.now()) };
        let _ = writeln!(self.lines.clone(), "{head}{}", escaped(message));
    }
}

fn print_header(
    style: Style,
    timestamp: &dyn ThreadSafeTimestampFn<Output = io::Result<()>>,
    mut out: &mut dyn RecordDecorator,
    record: &Record<'_>,
) -> io::Result<()> {
    let (word, priority) = match record.level() {
        Level::Critical => ("ERROR", 2),
        Level::Error => ("ERROR", 3),
        Level::Warning => ("WARN", 4),
        Level::Info => ("INFO", 6),
        Level::Debug | Level::Trace => ("DEBUG", 7),
    };
    if style == Style::Journal {
        out.start_level()?;
        write!(out, "<{priority}>")?;
    } else {
        out.start_timestamp()?;
        timestamp(&mut out)?;
        out.start_level()?;
        write!(out, " - {word} - ")?;
    }
    out.start_msg()?;
    write!(OneLine(out), "{}", record.msg()).map_err(|_| io::Error::other("not formatted"))
}

/// Keeps a message on its line: callers quote paths, but words of the system or of a client come as they are.
struct OneLine<'a>(&'a mut dyn RecordDecorator);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let written = if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
            self.0.write_all(text.as_bytes())
        } else {
            self.0.write_all(escaped(text).as_bytes())
        };
        written.map_err(|_| fmt::Error)
    }
}

/// What a decorator writes to and a sink empties.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Local time to the second, put into words once a second at most.
#[derive(Default)]
pub struct Clock(Mutex<(i64, String)>);

impl Clock {
    pub fn now(&self) -> String {
        let now = jiff::Timestamp::now();
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0 != now.as_second() || cached.1.is_empty() {
            let local = now.to_zoned(jiff::tz::TimeZone::system());
            *cached = (now.as_second(), local.strftime("%Y-%m-%d %H:%M:%S").to_string());
        }
        cached.1.clone()
    }
}
