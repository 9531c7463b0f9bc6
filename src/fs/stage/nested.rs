//! Owns the staging folders of the filesystems that are mounted inside a replica: each has one in a reserved folder at its
//! top, from its first need until no pass is under way, so that it can be unmounted in between.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::Target;
use super::folder::{is_there, open_stage, remove_reserved};
use crate::fs::remove;
use crate::fs::root::Root;
use crate::fs::volume::{self, Look, Volume};
use crate::tree::path::RelPath;

#[derive(Debug, Default)]
pub(super) struct Nested {
    folders: Mutex<HashMap<Volume, Arc<Mutex<Option<Open>>>>>,
    /// How many passes are under way.
    passes: AtomicUsize,
}

#[derive(Debug)]
struct Open {
    top: OwnedFd,
    path: RelPath,
    stage: Arc<OwnedFd>,
}

impl Nested {
    pub fn enter(&self) {
        self.passes.fetch_add(1, Ordering::SeqCst);
    }

    /// The staging folder of `volume`, which `target` lies on, and whether it was opened just now.
    pub fn folder(
        &self,
        root: &Root,
        (volume, look): (Volume, Look),
        target: &Target,
    ) -> Result<(Arc<OwnedFd>, bool), Errno> {
        let slot = self.folders().entry(volume).or_default().clone();
        // A disk that does not answer keeps nobody waiting but those who want to write to it.
        let mut slot = lock(&slot);
        if let Some(open) = slot.as_ref().filter(|open| is_there(&open.stage)) {
            return Ok((open.stage.clone(), false));
        }
        let (top, path) = volume::top(root, target.path, (volume, look))?;
        remove::ensure_writable(top.as_fd());
        let stage = Arc::new(open_stage(top.as_fd()).inspect_err(|_| {
            remove_reserved(top.as_fd());
        })?);
        *slot = Some(Open { top, path, stage: stage.clone() });
        Ok((stage, true))
    }

    /// Removes all of them if this was the last pass under way. Returns the folders that they were in.
    pub fn leave(&self) -> Vec<RelPath> {
        self.passes.fetch_sub(1, Ordering::SeqCst);
        self.remove(|| self.passes.load(Ordering::SeqCst) == 0)
    }

    /// Removes each of them if, while nobody can open it, `may_go` says so. Returns the folders that they were in.
    pub fn remove(&self, may_go: impl Fn() -> bool) -> Vec<RelPath> {
        if !may_go() {
            return Vec::new();
        }
        let slots: Vec<_> = self.folders().values().cloned().collect();
        let mut changed = Vec::new();
        for slot in slots {
            let mut slot = lock(&slot);
            if may_go()
                && let Some(Open { top, path, stage }) = slot.take()
            {
                drop(stage);
                remove_reserved(top.as_fd());
                changed.push(path);
            }
        }
        // What nobody has in hand nobody can open again.
        self.folders().retain(|_, slot| Arc::strong_count(slot) > 1 || lock(slot).is_some());
        changed
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<Volume, Arc<Mutex<Option<Open>>>>> {
        lock(&self.folders)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
