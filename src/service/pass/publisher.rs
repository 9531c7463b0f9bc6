//! Owns what waits to be brought to disk: it is synced together and published after that, by a thread of its own where
//! there is much, so that the others go on building while the disk writes.

use std::sync::atomic::Ordering;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;

use super::Pass;
use super::files::Ready;
use super::folders::complete;
use super::keeping::At;
use super::unseen::Unseen;
use super::walk::Worker;
use crate::fs::disk::Disk;
use crate::tree::entry::Kind;
use crate::tree::totals::Totals;

/// Files and folders that are built.
#[derive(Default)]
pub struct Batch {
    ready: Vec<Ready>,
    unseen: Vec<Unseen>,
    /// How often bringing to disk had failed when the first of them was begun.
    failures: u64,
}

/// As many files and folders, or bytes in them, wait to be brought to disk together at most.
const GROUP: usize = 128;
const GROUP_BYTES: u64 = 64 << 20;
/// Batches that wait for the thread before those who build have to.
const WAITING: usize = 2;

/// Starts the thread that publishes, where something has to be brought to disk before. It ends when nobody can hand it
/// anything any more.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    pass: &'scope Pass<'scope>,
) -> Option<(Sender<Batch>, ScopedJoinHandle<'scope, Totals>)> {
    if !pass.pair.options.durable || pass.pair.options.dry_run {
        return None;
    }
    // Opened here, before anything is written that it is to tell about.
    let has_mounts = pass.pair.places.has_mounts_in(pass.pair.written_side());
    let disk = Disk::open(&pass.pair.replica, has_mounts).ok().filter(Disk::takes_all)?;
    let (hand_over, batches) = bounded(WAITING);
    let work = move || publish_all(Worker { disk: Some(disk), ..Worker::new(pass) }, &batches);
    let thread = Builder::new().name("publisher".into()).spawn_scoped(scope, work).ok()?;
    Some((hand_over, thread))
}

fn publish_all(mut worker: Worker, batches: &Receiver<Batch>) -> Totals {
    while let Ok(first) = batches.recv() {
        let mut all = vec![first];
        all.extend(batches.try_iter());
        worker.publish_batches(all);
    }
    worker.totals
}

impl Worker<'_> {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.unseen.is_empty()
    }

    /// To be called before anything is written that is to be brought to disk.
    pub(super) fn note_failures(&mut self) {
        if !self.has_ready() && self.unseen_now.as_ref().is_none_or(Vec::is_empty) {
            self.failures = self.pass.disk_failures.load(Ordering::SeqCst);
        }
    }

    /// Publishes what is ready where it is enough to be worth it, or more than should wait.
    pub(super) fn publish_if_many(&mut self) {
        if self.ready.len() + self.unseen.len() >= GROUP || self.ready_bytes >= GROUP_BYTES {
            self.publish_ready();
        }
    }

    /// Brings all that is built to disk together, then publishes it; or has it done.
    pub fn publish_ready(&mut self) {
        let (ready, unseen) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.unseen));
        self.ready_bytes = 0;
        let batch = Batch { ready, unseen, failures: self.failures };
        let refused = match &self.hand_over {
            Some(to) => to.send(batch).err().map(|refused| refused.0),
            None => Some(batch),
        };
        if let Some(batch) = refused {
            self.publish_batches(vec![batch]);
        }
    }

    fn publish_batches(&mut self, mut batches: Vec<Batch>) {
        let said = self.say_batches(&mut batches);
        let ready: Vec<_> = batches.iter().flat_map(|b| b.ready.iter().map(|ready| Some(ready.file.fd()))).collect();
        let unseen = batches.iter().flat_map(|b| b.unseen.iter().flat_map(Unseen::open_files));
        let all: Vec<_> = ready.iter().copied().chain(unseen).collect();
        let bring = |files: &[_]| self.disk.as_ref().ok_or(Errno::BADF).and_then(|disk| disk.bring(files));
        // A disk that is busy could take longer than a stop may.
        let synced = if self.pass.is_cancelled() { Err(Errno::CANCELED) } else { said.and_then(|()| bring(&all)) };
        let synced_ready = if synced == Err(Errno::NOSYS) { bring(&ready) } else { synced };
        drop((ready, all));
        if synced_ready.is_err() || synced.is_err_and(|error| error != Errno::NOSYS) {
            self.pass.disk_failures.fetch_add(1, Ordering::SeqCst);
        }
        // The kernel tells of a failure once: it may have been about anything that was begun before that.
        let failures = self.pass.disk_failures.load(Ordering::SeqCst);
        for Batch { ready, unseen, failures: before } in batches {
            let is_certain = if before == failures { Ok(()) } else { Err(Errno::IO) };
            let (synced, synced_ready) = (synced.and(is_certain), synced_ready.and(is_certain));
            for folder in unseen {
                self.pass.pulse.beat();
                let node = folder.node.clone();
                self.publish_folder(folder, synced);
                complete(self.pass, node, &mut self.totals);
            }
            for ready in ready {
                self.pass.pulse.beat();
                let node = ready.node.clone();
                match synced_ready {
                    Ok(()) => self.publish(ready),
                    Err(error) => self.throw_away(ready, error),
                }
                complete(self.pass, node, &mut self.totals);
            }
        }
    }

    /// Says all that is to be published, in one piece.
    fn say_batches(&self, batches: &mut [Batch]) -> Result<(), Errno> {
        if !self.pass.keeps() {
            return Ok(());
        }
        for batch in batches {
            for folder in &mut batch.unseen {
                folder.say(self.pass)?;
            }
            for ready in &mut batch.ready {
                let (path, old) = (ready.node.path.join(&ready.name), ready.expected);
                let at = At::new(ready.node.replica()?, &path);
                ready.said = Some(self.pass.say_arrival(at, Kind::File, old.as_ref())?);
            }
        }
        self.pass.put_said()
    }

    /// What a failed sync has not written is gone from memory too: the copy is thrown away and made anew.
    fn throw_away(&self, ready: Ready, error: Errno) {
        let path = ready.node.path.join(&ready.name);
        ready.file.discard(&self.pass.pair.replica);
        ready.said.into_iter().for_each(|said| self.pass.unsay(said));
        if error != Errno::CANCELED {
            self.pass.failed(&path, "cannot bring the copy to disk", error);
        }
        self.pass.release(&path);
    }
}
