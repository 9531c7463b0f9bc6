//! Owns the looks at the two roots from outside of a pass, each in a thread of its own that ends with the answer: a disk
//! that does not answer keeps that thread waiting, and nobody else. What follows from an answer is not decided here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use rustix::io::Errno;

use super::intents;
use super::pair::{self, Pair};
use super::pass::describe;
use super::places::Misplaced;
use crate::fs::lock::{self, Refused};
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::fs::watch::Watches;
use crate::tree::identity::Side;
use crate::tree::path::RelPath;

/// Starts to watch and to look into each folder that is followed, in the order of the ways that lead from them.
pub type Renew = Arc<dyn Fn() -> Result<Vec<Watches>, String> + Send + Sync>;

/// What a look found.
pub enum Answer {
    Mounts(Result<Mounts, Misplaced>),
    /// For each way.
    Opened(Result<Vec<Opened>, Misplaced>),
}

/// The mounts below the roots, which are in their places.
pub struct Mounts {
    /// Whatever is mounted below the source.
    pub mounted: BTreeSet<PathBuf>,
    /// What was mounted below one of them and is not.
    pub gone: BTreeSet<RelPath>,
}

/// The roots, opened anew, and what hangs on them.
pub struct Opened {
    pub source: Root,
    pub replica: Root,
    pub stage: Stage,
    pub watches: Watches,
}

/// Has `work` done with the pair in a thread of its own. Where that fails, the channel is closed without an answer.
///
/// # Errors
/// When there is no thread to be had.
pub fn aside<T: Send + 'static>(
    pair: &Arc<Pair>,
    work: impl FnOnce(&Pair) -> T + Send + 'static,
) -> std::io::Result<Receiver<T>> {
    let (tell, answer) = bounded(1);
    let pair = Arc::clone(pair);
    let look = move || {
        let found = work(&pair);
        // Who hears of the end may want it for itself.
        drop(pair);
        let _ = tell.send(found);
    };
    std::thread::Builder::new().name("roots".into()).spawn(look)?;
    Ok(answer)
}

/// Looks at what is mounted where. `remember`: a person has said that the roots are meant as they are now.
pub fn at_mounts(pair: &Pair, remember: bool) -> Answer {
    let (source, replica) = (&pair.source, &pair.replica);
    if let Some(reason) = Misplaced::find(source, replica) {
        return Answer::Mounts(Err(reason));
    }
    if remember {
        pair.places.remember(source, replica, &pair.archive);
    }
    let (mounted, gone) = (pair.places.mounted(source), pair.places.gone((source, replica)));
    Answer::Mounts(Ok(Mounts { mounted, gone }))
}

/// Opens the roots anew, if they are what they were, and begins to watch. The pair's own are not touched.
pub fn for_roots(pair: &Pair, renew: &Renew) -> Answer {
    Answer::Opened(open(pair, renew))
}

fn open(pair: &Pair, renew: &Renew) -> Result<Vec<Opened>, Misplaced> {
    let source = open_root(Side::Source, pair.source.path())?;
    let replica = open_root(Side::Replica, pair.replica.path())?;
    pair.places.check(&source, &replica, pair.two_way.is_some())?;
    pair.forget_others((&source, &replica));
    let written = [Some(&replica), pair.two_way.as_ref().map(|_| &source)];
    for root in written.into_iter().flatten() {
        let path = || root.path().to_path_buf();
        match lock::take(root) {
            Ok(()) => {}
            Err(Refused::Held(pid)) => return Err(Misplaced::Locked(path(), pid)),
            Err(Refused::Failed(error)) => return Err(Misplaced::Unusable(path(), describe(error))),
        }
    }
    pair.places.remember(&source, &replica, &pair.archive);
    let mut sides = vec![];
    if pair.two_way.is_some() {
        let unusable = |path: &Path, e| Misplaced::Unusable(path.into(), describe(e));
        let back = (Root::open(replica.path()), Root::open(source.path()));
        let from = back.0.map_err(|e| unusable(replica.path(), e))?;
        sides.push((from, back.1.map_err(|e| unusable(source.path(), e))?));
    }
    if pair.two_way.is_some() {
        if let Err(reason) = pair.archive.go_on_with(intents::mountings(&source, &replica)) {
            pair.log.warn(format_args!("{reason}"));
        }
        intents::settle(&pair.archive, (&source, &replica));
    }
    let path = source.path().to_path_buf();
    sides.insert(0, (source, replica));
    let watches = renew().map_err(|reason| Misplaced::Unusable(path, reason))?;
    let opened = sides.into_iter().zip(watches).map(|((source, replica), watches)| {
        let stage = if pair.two_way.is_some() { Stage::shared() } else { Stage::new() };
        pair::clear_leftovers(&replica, &stage, &pair.log);
        Opened { source, replica, stage, watches }
    });
    Ok(opened.collect())
}

fn open_root(side: Side, path: &Path) -> Result<Root, Misplaced> {
    match Root::open(path) {
        Ok(root) => Ok(root),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Misplaced::Gone(side, path.into())),
        Err(error) => Err(Misplaced::Unusable(path.into(), describe(error))),
    }
}
