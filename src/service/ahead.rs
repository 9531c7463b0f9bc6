//! Owns the walk that sets the watches of a whole source ahead of the first pass, so that they are in place long before
//! all is copied. It lists folders and nothing else; what it misses, the pass watches when it gets there.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};

use super::lane;
use super::pair::Pair;
use crate::fs::scan;
use crate::fs::watch::NoWatch;
use crate::tree::path::RelPath;

/// The walk in its thread. It ends early when this is dropped.
pub struct Ahead {
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Ahead {
    /// Starts the walk.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(pair: Arc<Pair>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ended) = bounded(1);
        let stopped = Arc::clone(&stop);
        let walk = move || {
            lane::confine(&pair);
            walk(&pair, &stopped);
            // Who hears of the end may want it for itself.
            drop(pair);
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("watches".into()).spawn(walk)?;
        Ok(Self { stop, ended })
    }

    /// Gets one message at the end, and is then closed.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn walk(pair: &Pair, stop: &AtomicBool) {
    let Some(watches) = &pair.watches else { return };
    let rules = pair.rules();
    let gone = pair.places.gone(pair.roots());
    let mut waiting = vec![RelPath::root()];
    while let Some(path) = waiting.pop() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(folder) = pair.source.open_folder(&path) else { continue };
        let Ok(stat) = pair.source.stat(folder.as_fd()) else { continue };
        // The root's device is 0 here.
        if pair.options.one_file_system && stat.dev != 0 {
            continue;
        }
        // Watched before it is listed, or a folder that is made between would be missed.
        if let Err(NoWatch::Limit) = watches.place_ahead(&path, stat.id()) {
            return;
        }
        let Ok(names) = scan::folders(&pair.source, folder.as_fd()) else { continue };
        let below = names.iter().map(|name| path.join(name));
        waiting.extend(below.filter(|path| !rules.exclude.skips(path, true) && !gone.contains(path)));
    }
}
