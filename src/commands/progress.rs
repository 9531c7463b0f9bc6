//! Owns the progress bar: when there is one, where it stands, and that the lines of the log are never mixed into it. What
//! it says is `meter`'s. It is drawn by a thread of its own, which sleeps while there is no sweep to be seen.

mod line;
mod meter;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;
use crate::config::{Settings, Shown};
use crate::fs::count::{self, Size};
use crate::fs::pulse::Pulse;
use crate::service::log::{Around, LogOptions};
use crate::service::onlooker::{Onlooker, Turn};
use crate::tree::exclude::Exclude;
use crate::tree::path::RelPath;
use line::LastLine;
use meter::Meter;

/// A sweep that is over by then shows no bar.
const MOMENT: Duration = Duration::from_millis(500);
/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(200);
/// How often a line is printed where nothing can be drawn.
const LINE: Duration = Duration::from_secs(10);
/// How long the end of the program waits for a terminal that takes nothing.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A line that is drawn again and again.
    Bar,
    /// Line after line.
    Lines,
}

pub struct Progress {
    form: Option<Form>,
    /// The time that a sweep must have taken before it is shown.
    after: Duration,
    curtain: Arc<Curtain>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_ending: Arc<AtomicBool>,
}

impl Progress {
    /// Decides whether there is something to show, and how. Nothing is shown yet.
    pub fn new(settings: &Settings) -> Self {
        let can_redraw = terminal::can_redraw();
        let form = match settings.progress {
            Shown::Never => None,
            Shown::Auto => (can_redraw && settings.verbosity >= 0).then_some(Form::Bar),
            Shown::Always => Some(if can_redraw { Form::Bar } else { Form::Lines }),
        };
        let after = if settings.progress == Shown::Always { Duration::ZERO } else { MOMENT };
        let curtain = Arc::new(Curtain::default());
        if form == Some(Form::Bar) {
            clear_on_panic(&curtain);
        }
        Self { form, after, curtain, thread: Mutex::new(None), is_ending: Arc::default() }
    }

    /// How the log is kept, on a terminal that it may have to share with the bar.
    pub fn log_options(&self, settings: &Settings) -> LogOptions {
        LogOptions {
            file: settings.log_file.clone(),
            verbosity: settings.verbosity,
            console: true,
            colour: terminal::has_colours(),
            around: self.around(),
        }
    }

    /// What the log's lines are to be written in.
    fn around(&self) -> Option<Around> {
        let curtain = Arc::clone(&self.curtain);
        (self.form == Some(Form::Bar)).then(|| Around(Arc::new(move |write| curtain.aside(write))))
    }

    /// Starts the thread that shows the sweeps that the onlooker is told of.
    pub fn start(&self, source: &Path, exclude: &Exclude, settings: &Settings) -> Onlooker {
        let Some(form) = self.form else { return Onlooker::default() };
        let (tell, told) = unbounded();
        let scene = Scene {
            form,
            after: self.after,
            source: source.to_path_buf(),
            exclude: exclude.clone(),
            one_file_system: settings.one_file_system,
            curtain: Arc::clone(&self.curtain),
            is_ending: Arc::clone(&self.is_ending),
        };
        match thread::Builder::new().name("progress".into()).spawn(move || scene.run(&told)) {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                Onlooker::new(tell)
            }
            // There is nothing to be seen; all else goes on.
            Err(_) => Onlooker::default(),
        }
    }

    /// Takes the bar away and ends the thread, which is when no onlooker is left.
    pub fn finish(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let end = Instant::now() + LAST_WAIT;
        // A terminal that was stopped keeps the thread for as long as it likes.
        while !thread.is_finished() && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// The bar, where it can be seen, and the lock around everything that is drawn.
#[derive(Default)]
struct Curtain {
    bar: Mutex<Option<ProgressBar>>,
    is_open: AtomicBool,
}

impl Curtain {
    fn lock(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, text: String) {
        let mut place = self.lock();
        let bar = place.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(LastLine))).with_style(style)
        });
        self.is_open.store(true, Ordering::Relaxed);
        bar.set_message(text);
    }

    fn clear(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// Runs the write with the bar out of the way.
    fn aside(&self, write: &mut dyn FnMut()) {
        match &*self.lock() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// The last words of a program that panics do not stand behind the bar.
fn clear_on_panic(curtain: &Arc<Curtain>) {
    let (curtain, report) = (Arc::clone(curtain), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        // Its lock may be taken by the very thread that panics.
        if curtain.is_open.load(Ordering::Relaxed) {
            let _ = std::io::stderr().write_all(b"\r\x1b[2K");
        }
        report(info);
    }));
}

/// What the thread needs.
struct Scene {
    form: Form,
    after: Duration,
    source: PathBuf,
    exclude: Exclude,
    one_file_system: bool,
    curtain: Arc<Curtain>,
    is_ending: Arc<AtomicBool>,
}

impl Scene {
    fn run(&self, told: &Receiver<Turn>) {
        let mut turn = told.recv().ok();
        while let Some(this) = turn {
            turn = match this {
                Turn::Began { pulse, entries } => self.follow(&pulse, entries, told),
                Turn::Ended => told.recv().ok(),
            };
            self.curtain.clear();
        }
    }

    /// Shows one sweep until it ends. Returns what came then.
    fn follow(&self, pulse: &Arc<Pulse>, entries: Option<u64>, told: &Receiver<Turn>) -> Option<Turn> {
        let mut meter = Meter::new(pulse.progress(), Instant::now());
        match told.recv_timeout(self.after) {
            Err(RecvTimeoutError::Timeout) => {}
            turn => return turn.ok(),
        }
        let counted = Arc::new(OnceLock::new());
        let has_ended = Arc::new(AtomicBool::new(false));
        if entries.is_none() {
            self.count(&counted, &has_ended);
        }
        let tick = if self.form == Form::Bar { TICK } else { LINE };
        let turn = loop {
            if pulse.is_stopped() || self.is_ending.load(Ordering::Relaxed) {
                self.curtain.clear();
            } else {
                let (share, words) = meter.look(pulse.progress(), Instant::now(), entries, counted.get().copied());
                match self.form {
                    Form::Bar => self.curtain.draw(meter::line(share, &words, line::columns())),
                    Form::Lines => {
                        let _ = writeln!(std::io::stderr(), "{}", words.trim_start());
                    }
                }
            }
            match told.recv_timeout(tick) {
                Err(RecvTimeoutError::Timeout) => {}
                turn => break turn.ok(),
            }
        };
        has_ended.store(true, Ordering::Relaxed);
        turn
    }

    /// Counts what there is to do, in a thread that ends with the sweep.
    fn count(&self, counted: &Arc<OnceLock<Size>>, has_ended: &Arc<AtomicBool>) {
        let (source, exclude, one_file_system) = (self.source.clone(), self.exclude.clone(), self.one_file_system);
        let (counted, has_ended) = (Arc::clone(counted), Arc::clone(has_ended));
        let work = move || {
            let skips = |path: &Path, is_folder| {
                RelPath::below(&source, path).is_some_and(|path| exclude.skips(&path, is_folder))
            };
            if let Some(size) = count::size(&source, one_file_system, skips, &has_ended) {
                let _ = counted.set(size);
            }
        };
        // Without a thread, the bar has no end.
        let _ = thread::Builder::new().name("count".into()).spawn(work);
    }
}
