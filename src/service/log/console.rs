//! Owns the way of the lines to standard output: a thread of its own, so that a terminal that was stopped, or a pipe that
//! nobody reads, keeps nothing waiting that has another place for its lines. It formats nothing but its own notes.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// What is kept of lines that standard output has not taken.
const ROOM: usize = 1024 * 1024;
/// When nothing has been taken for so long, and there is no room any more, lines are left out.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is written at once: a pipe takes so much whole, so that each write that ends is a sign of life.
const STRIDE: usize = 4096;
/// What is written between two looks at who else uses the terminal.
const BATCH: usize = 64 * 1024;

/// Runs a write to the console so that what else stands on the terminal is not mixed into it.
pub type AroundFn = dyn Fn(&mut dyn FnMut()) + Send + Sync;

#[derive(Clone)]
pub struct Around(pub Arc<AroundFn>);

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Around")
    }
}

/// What becomes of lines that standard output does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// They stand elsewhere too: they are left out after a while, and counted.
    LeaveOut,
    /// They stand nowhere else: who writes them waits, as it does in any pipe.
    Wait,
}

/// What is written to; standard output but in tests.
pub type Out = Box<dyn FnMut(&[u8]) -> io::Result<usize> + Send>;
/// The note that stands where so many lines were left out.
pub type Note = Box<dyn Fn(u64) -> String + Send + Sync>;

pub struct Console {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    full: Full,
    patience: Duration,
}

struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    note: Note,
}

struct State {
    lines: Vec<u8>,
    /// Bytes that are being written and are not in `lines` any more.
    writing: usize,
    /// When something was last taken, or nothing was waiting.
    alive: Instant,
    left_out: u64,
    has_ended: bool,
    /// There is no reader any more, and never will be.
    is_gone: bool,
}

impl Console {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(full: Full, note: Note, around: Option<Around>) -> io::Result<Self> {
        Self::with(full, note, around, Box::new(write), PATIENCE)
    }

    fn with(full: Full, note: Note, around: Option<Around>, out: Out, patience: Duration) -> io::Result<Self> {
        let state = State {
            lines: Vec::new(),
            writing: 0,
            alive: Instant::now(),
            left_out: 0,
            has_ended: false,
            is_gone: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new(), note });
        let work = Arc::clone(&shared);
        let thread = thread::Builder::new().name("console".into()).spawn(move || work.run(out, around.as_ref()))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), full, patience })
    }

    /// Takes the lines, which are empty then. Returns whether this is where leaving out begins.
    pub fn push(&self, lines: &mut Vec<u8>) -> bool {
        if lines.is_empty() {
            return false;
        }
        let mut state = self.shared.lock();
        if state.is_idle() {
            state.alive = Instant::now();
        }
        while !state.is_gone && state.lines.len() + state.writing + lines.len() > ROOM && !state.is_idle() {
            let waited = state.alive.elapsed();
            if self.full == Full::LeaveOut && waited >= self.patience {
                let begins = state.left_out == 0;
                state.left_out += count(lines);
                lines.clear();
                return begins;
            }
            let left = self.patience.saturating_sub(waited).max(Duration::from_millis(1));
            let wait = self.shared.moved.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.is_gone {
            state.note_left_out(&self.shared.note);
            state.lines.append(lines);
            self.shared.moved.notify_all();
        }
        lines.clear();
        false
    }

    /// How long nothing has been taken.
    pub fn silent_for(&self) -> Duration {
        self.shared.lock().alive.elapsed()
    }

    /// Returns when all has been written.
    pub fn end(&self) {
        self.shared.lock().has_ended = true;
        self.shared.moved.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.writing == 0
    }

    fn note_left_out(&mut self, note: &Note) {
        if self.left_out > 0 {
            let text = note(std::mem::take(&mut self.left_out));
            self.lines.extend_from_slice(text.as_bytes());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut out: Out, around: Option<&Around>) {
        while let Some(batch) = self.next() {
            let mut write = || self.write(&batch, &mut out);
            match around {
                Some(around) => (around.0)(&mut write),
                None => write(),
            }
            self.lock().writing = 0;
            self.moved.notify_all();
        }
    }

    /// Waits for lines; `None` when there are none and there will be none.
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.lines.is_empty() {
                state.note_left_out(&self.note);
            }
            if state.is_gone {
                state.lines.clear();
            }
            if !state.lines.is_empty() {
                let length = batch(&state.lines);
                let rest = state.lines.split_off(length);
                let batch = std::mem::replace(&mut state.lines, rest);
                state.writing = batch.len();
                return Some(batch);
            }
            if state.has_ended {
                return None;
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, mut bytes: &[u8], out: &mut Out) {
        while !bytes.is_empty() {
            let done = out(&bytes[..bytes.len().min(STRIDE)]);
            let mut state = self.lock();
            state.alive = Instant::now();
            match done {
                Ok(written) => {
                    bytes = &bytes[written..];
                    state.writing = bytes.len();
                    self.moved.notify_all();
                }
                // A reader that has gone, a terminal that was closed: nobody misses the lines.
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::PIPE | Errno::IO | Errno::BADF)) => {
                    state.is_gone = true;
                    return;
                }
                Err(_) => {
                    state.left_out += count(bytes);
                    return;
                }
            }
        }
    }
}

/// The length of what is written next, in whole lines: what is drawn after it must not fall into one.
fn batch(lines: &[u8]) -> usize {
    match lines.get(..BATCH) {
        Some(first) => first.iter().rposition(|byte| *byte == b'\n').map_or(BATCH, |end| end + 1),
        None => lines.len(),
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes to standard output past the standard library's buffer. An output that other programs have set not to wait is
/// waited for all the same.
fn write(bytes: &[u8]) -> io::Result<usize> {
    let out = rustix::stdio::stdout();
    loop {
        match rustix::io::write(out, bytes) {
            Ok(written) => return Ok(written),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that takes a piece each time that it is allowed to.
    fn slow() -> (Out, Sender<()>, Receiver<Vec<u8>>) {
        let (allow, allowed) = channel();
        let (tell, told) = channel();
        let out = move |bytes: &[u8]| {
            allowed.recv().map_err(|_| io::Error::from(Errno::PIPE))?;
            tell.send(bytes.to_vec()).map_err(|_| io::Error::from(Errno::PIPE))?;
            Ok(bytes.len())
        };
        (Box::new(out), allow, told)
    }

    fn console(full: Full, out: Out) -> Console {
        let note = Box::new(|lines| format!("{lines} left out\n"));
        Console::with(full, note, None, out, Duration::from_millis(20)).expect("a thread")
    }

    #[test]
    fn an_output_that_takes_nothing_keeps_nobody_waiting_and_is_told_what_it_missed() {
        let (out, allow, told) = slow();
        let console = console(Full::LeaveOut, out);
        let line = b"a line of the log\n";
        let (mut begun, mut pushed) = (0, 0_usize);
        while begun == 0 || pushed < 2 * ROOM {
            begun += usize::from(console.push(&mut line.repeat(1000)));
            pushed += 1000 * line.len();
        }
        assert_eq!(begun, 1, "said once");
        // Somebody reads again.
        while allow.send(()).is_ok() {
            let text = told.recv().expect("written");
            if String::from_utf8_lossy(&text).ends_with("left out\n") {
                break;
            }
        }
        assert!(!console.push(&mut b"last\n".to_vec()));
        allow.send(()).expect("still there");
        assert_eq!(told.recv().expect("written"), b"last\n");
        console.end();
    }

    #[test]
    fn every_line_comes_where_there_is_no_other_place_for_it() {
        let (out, allow, told) = slow();
        let console = console(Full::Wait, out);
        let line = b"a line of the log\n";
        let lines = 2 * ROOM / line.len();
        thread::scope(|scope| {
            scope.spawn(|| {
                (0..lines).for_each(|_| assert!(!console.push(&mut line.to_vec())));
                console.end();
            });
            let mut got = 0;
            while got < lines * line.len() {
                allow.send(()).expect("still there");
                got += told.recv().expect("written").len();
            }
        });
    }

    #[test]
    fn an_output_that_is_gone_takes_everything_at_once() {
        let (out, allow, told) = slow();
        drop((allow, told));
        let console = console(Full::Wait, out);
        (0..10).for_each(|_| assert!(!console.push(&mut b"line\n".repeat(ROOM / 5))));
        console.end();
    }
    #[test]
    fn nothing_else_comes_between_the_halves_of_a_line() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (takes, at) = (Arc::clone(&written), Arc::clone(&ends));
        let out = move |bytes: &[u8]| {
            takes.lock().expect("written").extend_from_slice(bytes);
            Ok(bytes.len())
        };
        let so_far = Arc::clone(&written);
        let around = Around(Arc::new(move |write: &mut dyn FnMut()| {
            write();
            at.lock().expect("ends").push(so_far.lock().expect("written").last().copied());
        }));
        let note = Box::new(|_| String::new());
        let console = Console::with(Full::Wait, note, Some(around), Box::new(out), PATIENCE).expect("a thread");
        let lines = "a line of an odd length\n".repeat(4 * BATCH / 23).into_bytes();
        console.push(&mut lines.clone());
        console.end();
        assert_eq!(*written.lock().expect("written"), lines);
        let ends = ends.lock().expect("ends");
        assert!(ends.len() > 3 && ends.iter().all(|end| *end == Some(b'\n')), "{ends:?}");
    }
}
