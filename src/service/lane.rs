//! Owns the threads that passes run in: one for single files, one for everything else, so that a saved file does not
//! wait behind a sweep. A lane runs one pass at a time and knows nothing of when or why.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

pub use super::claims::Which;
use super::news::Rename;
use super::pair::Pair;
use super::pass::{self, Brake, Order, Outcome, Release};
use super::places::Misplaced;
use crate::fs::pulse::{Progress, Pulse};
use crate::fs::sandbox;
use crate::tree::doubt::{DirtySet, Moment};
use crate::tree::operation::Cause;

/// An order that a lane can keep.
pub struct Work {
    pub pair: Arc<Pair>,
    pub dirty: DirtySet,
    pub renames: Vec<Rename>,
    pub brake: Brake,
    pub cause: Cause,
    pub oldest: Option<Moment>,
    pub jobs: usize,
}

/// An order that is done with, and what came of it: nothing at all where a root was not in its place.
pub struct Finished {
    /// Which of the service's ways it went.
    pub way: usize,
    pub which: Which,
    pub dirty: DirtySet,
    pub renames: Vec<Rename>,
    pub release: Release,
    pub outcome: Result<Outcome, Misplaced>,
}

pub struct Lane {
    orders: Sender<Work>,
    pulse: Arc<Pulse>,
    thread: JoinHandle<()>,
}

impl Lane {
    /// Starts the lane's thread; its passes count for `whole`, and end with it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start((way, which): (usize, Which), whole: &Arc<Pulse>, done: Sender<Finished>) -> std::io::Result<Self> {
        let (orders, incoming) = bounded(1);
        let name = match which {
            Which::Express => "express",
            Which::Bulk => "pass",
        };
        let pulse = Arc::new(Pulse::part_of(whole));
        let own = Arc::clone(&pulse);
        let work = move || run((way, which), &own, &incoming, &done);
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { orders, pulse, thread })
    }

    /// How far this lane's passes have come, all together.
    pub fn progress(&self) -> Progress {
        self.pulse.progress()
    }

    /// Hands over work; the lane must be free.
    pub fn begin(&self, work: Work) {
        // The thread is gone only when the process is ending.
        let _ = self.orders.send(work);
    }

    /// Lets the thread end after the pass that it runs.
    pub fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Restricts this thread, and all that it starts, to the pair's roots, as far as the kernel can. What it needs besides
/// is open by now: the log and the archive have threads and files of their own.
pub fn confine(pair: &Pair) {
    let (source, replica) = (&pair.source, &pair.replica);
    let wall = if pair.options.dry_run {
        sandbox::confine(&[source, replica], &[])
    } else if pair.two_way.is_some() {
        sandbox::confine(&[], &[source, replica])
    } else {
        sandbox::confine(&[source], &[replica])
    };
    if pair.said.first("sandbox") {
        pair.log.debug(format_args!("Threads that touch the folders are confined to them: {wall}"));
    }
}

fn run((way, which): (usize, Which), pulse: &Pulse, orders: &Receiver<Work>, done: &Sender<Finished>) {
    let mut is_confined = false;
    for work in orders {
        let Work { pair, dirty, renames, brake, cause, oldest, jobs } = work;
        if !std::mem::replace(&mut is_confined, true) {
            confine(&pair);
        }
        let release = brake.release.clone();
        let order = Order { dirty: &dirty, renames: &renames, brake, cause, oldest, jobs, lane: which };
        // Here, since this thread is one that may have to wait for a disk.
        let outcome = match Misplaced::find(&pair.source, &pair.replica) {
            None => Ok(pass::run(&pair, &order, pulse)),
            Some(reason) => Err(reason),
        };
        // Who hears of the end may want it for itself.
        drop(pair);
        if done.send(Finished { way, which, dirty, renames, release, outcome }).is_err() {
            return;
        }
    }
}
