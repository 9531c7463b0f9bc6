//! Owns when the history is thinned out: a thread that sleeps until something is due, works in short slices with pauses,
//! and ends at once when it is told to. What goes, `plan::thin` decides; how it goes, `fs::history::thinning` knows.
//!
//! The thread opens nothing by a path of its own accord: it has the folders of the history open, and is given new ones with
//! each opening of the pair. While the replica is away there is no such thread.

mod ledger;
mod periods;
mod stages;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, never, select};
use rustix::io::Errno;

use super::pair::Pair;
use super::pass::describe;
use super::room::{Keeping, Wish};
use crate::fs::history::local_zone;
use crate::fs::history::thinning::Thinner;
use work::Work;

/// As long as it works at a stretch, and as long as it rests then.
const SLICE: Duration = Duration::from_millis(25);
const PAUSE: Duration = Duration::from_millis(50);
/// The same while much of what was looked at goes.
const HURRIED: Duration = Duration::from_millis(5);
/// Between two looks there are at least and, by what is due, at most these.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3600);
/// Where there is a bound, what has come is looked at after this time; else after this.
const BOUNDED: Duration = Duration::from_secs(2);
const UNBOUNDED: Duration = Duration::from_secs(30);
/// What a look reads in vain may take this part of the time.
const PART: u32 = 20;
/// After a failure nothing is tried for so long.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The end of `sync` waits for it no longer.
const FINISH: Duration = Duration::from_secs(10);
/// How many steps there are between two looks at the clock.
const STEPS: u32 = 64;

/// The thread that thins out the history of a pair.
pub struct Thinning {
    keeping: Arc<Keeping>,
    /// Closed when it is to end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thinning {
    /// Starts the thread for a pair whose history is kept; there is none for another.
    ///
    /// # Errors
    /// What keeps it from starting, for the log: then nothing is thinned out.
    pub fn start(pair: &Pair) -> Result<Option<Self>, String> {
        let Some(history) = &pair.history else { return Ok(None) };
        local_zone();
        let thinner = Thinner::open(&pair.replica).map_err(describe)?;
        let (tell, wishes) = bounded(16);
        let (stop, stopped) = bounded(0);
        let keeping = Arc::clone(&pair.keeping);
        keeping.attend(Some(tell));
        let log = pair.log.clone();
        let teller = Box::new(move |is_news, text| if is_news { log.info(text) } else { log.debug(text) });
        let hands = (thinner, Arc::clone(history));
        let work = Work::new(hands, Arc::clone(&pair.in_force), Arc::clone(&keeping), teller);
        let (attended, hurry) = (Arc::clone(&keeping), work.hurry());
        let run = move || {
            run(work, &wishes, Pace::new(stopped, &attended, hurry));
            attended.attend(None);
        };
        let thread = std::thread::Builder::new().name("thinning".into()).spawn(run).map_err(|e| e.to_string())?;
        Ok(Some(Self { keeping, stop: Some(stop), thread: Some(thread) }))
    }

    /// The same, where a failure is only worth a warning.
    pub fn begin(pair: &Pair) -> Option<Self> {
        Self::start(pair).unwrap_or_else(|reason| {
            pair.log.warn(format_args!("What is kept is not thinned out: {reason}"));
            None
        })
    }

    /// Has all done that is due, within a bound, and ends the thread: for a program that ends as well.
    pub fn finish(self) {
        self.keeping.finish(FINISH);
    }

    /// Ends the thread, and waits for that, unless a disk does not answer.
    pub fn stop(mut self, limit: Duration) {
        self.stop.take();
        self.keeping.attend(None);
        let (thread, end) = (self.thread.take(), Instant::now() + limit);
        while let Some(thread) = &thread
            && !thread.is_finished()
            && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Thinning {
    fn drop(&mut self) {
        self.keeping.attend(None);
    }
}

/// How hard the thread works.
struct Pace {
    stopped: Receiver<()>,
    slice: Instant,
    steps: u32,
    hurry: Arc<AtomicBool>,
    keeping: Arc<Keeping>,
    /// It is not to go on after this moment.
    end: Option<Instant>,
}

impl Pace {
    fn new(stopped: Receiver<()>, keeping: &Arc<Keeping>, hurry: Arc<AtomicBool>) -> Self {
        Self { stopped, slice: Instant::now(), steps: 0, hurry, keeping: Arc::clone(keeping), end: None }
    }

    /// Whether to go on; rests when it is time to, unless somebody waits.
    fn go_on(&mut self) -> bool {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS) || self.slice.elapsed() < SLICE {
            return true;
        }
        let is_going_on = if self.keeping.is_waited_for() {
            self.stopped.try_recv() == Err(TryRecvError::Empty) && self.end.is_none_or(|end| Instant::now() < end)
        } else {
            self.stopped.recv_timeout(if self.hurry.load(Ordering::Relaxed) { HURRIED } else { PAUSE })
                == Err(RecvTimeoutError::Timeout)
        };
        self.slice = Instant::now();
        is_going_on
    }
}

fn run(mut work: Work, wishes: &Receiver<Wish>, mut pace: Pace) {
    let mut due = Some(Instant::now());
    let mut rest = Duration::ZERO;
    let mut last = Instant::now();
    loop {
        let timer = due.map_or_else(never, crossbeam_channel::at);
        let wish = select! {
            recv(pace.stopped) -> _ => return,
            recv(wishes) -> wish => Some(wish),
            recv(timer) -> _ => None,
        };
        match wish {
            Some(Err(_)) => return,
            Some(Ok(Wish::Look)) => {
                let spacing = if work.has_bounds() { BOUNDED } else { UNBOUNDED };
                let soon = last + spacing.min(work.spacing()).max(rest);
                due = Some(due.map_or(soon, |due| due.min(soon)));
                continue;
            }
            Some(Ok(Wish::Room { need, reply })) => {
                let made = work.make_room(need, &mut || pace.go_on());
                if made == Err(Errno::CANCELED) {
                    return;
                }
                let _ = reply.send(made.unwrap_or(false));
                continue;
            }
            Some(Ok(Wish::Finish { reply })) => {
                pace.end = Some(Instant::now() + FINISH);
                let result = work.pass(&mut || pace.go_on());
                work.report(result);
                let _ = reply.send(());
                return;
            }
            None => {}
        }
        let result = work.pass(&mut || pace.go_on());
        (rest, last) = (work.in_vain() * PART, Instant::now());
        due = match result {
            Err(Errno::CANCELED) => return,
            Err(_) => Some(last + AFTER_FAILURE),
            // What is due by the wall clock; at least so long after the last look.
            Ok(()) => work.due().map(|wait| last + wait.max(work.spacing()).max(rest)),
        };
        work.report(result);
    }
}

#[cfg(test)]
mod tests;
