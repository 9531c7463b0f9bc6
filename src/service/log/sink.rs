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
    pub place: Place,
    pub level: Cell<Level>,
    format: FullFormat<PlainDecorator<Lines>>,
    pub lines: Lines,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    Console,
    File,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Plain,
    /// As plain, with the words `WARN` and `ERROR` in colours that a terminal understands.
    Coloured,
    /// systemd's journal has timestamps of its own and takes the level from a prefix.
    Journal,
}

impl Sink {
    pub fn new(place: Place, level: Level, style: Style, clock: &Arc<Clock>) -> Self {
        let (lines, clock) = (Lines::default(), Arc::clone(clock));
        let format = FullFormat::new(PlainDecorator::new(lines.clone()))
            .use_custom_timestamp(move |out| out.write_all(clock.shown().as_bytes()))
            .use_custom_header_print(move |timestamp, out, record, _| {
                print_header(style, timestamp, out, record).map(|()| true)
            })
            .build();
        Self { place, level: Cell::new(level), format, lines }
    }

    pub fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        self.format.log(record, values)
    }
}

/// A whole line that warns of the log itself.
pub fn warning(style: Style, clock: &Clock, message: &str) -> String {
    let head = match style {
        Style::Journal => "<4>".into(),
        Style::Plain | Style::Coloured => format!("{} - {} - ", clock.now(), word(style, Level::Warning)),
    };
    format!("{head}{}\n", escaped(message))
}

/// The level's word: yellow for a warning, red for an error, where colours are wanted.
fn word(style: Style, level: Level) -> &'static str {
    match (level, style) {
        (Level::Critical | Level::Error, Style::Coloured) => "\x1b[31mERROR\x1b[0m",
        (Level::Critical | Level::Error, _) => "ERROR",
        (Level::Warning, Style::Coloured) => "\x1b[33mWARN\x1b[0m",
        (Level::Warning, _) => "WARN",
        (Level::Info, _) => "INFO",
        (Level::Debug | Level::Trace, _) => "DEBUG",
    }
}

fn print_header(
    style: Style,
    timestamp: &dyn ThreadSafeTimestampFn<Output = io::Result<()>>,
    mut out: &mut dyn RecordDecorator,
    record: &Record<'_>,
) -> io::Result<()> {
    if style == Style::Journal {
        let priority = match record.level() {
            Level::Critical => 2,
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        out.start_level()?;
        write!(out, "<{priority}>")?;
    } else {
        out.start_timestamp()?;
        timestamp(&mut out)?;
        out.start_level()?;
        write!(out, " - {} - ", word(style, record.level()))?;
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

    pub fn add(&self, line: &str) {
        self.lock().extend_from_slice(line.as_bytes());
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
    /// The time that was asked for last: a line has the same one wherever it stands.
    fn shown(&self) -> String {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.1.clone()
    }

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
