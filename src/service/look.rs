//! Owns the looks at the two roots from outside of a pass, each in a thread of its own that ends with the answer: a disk
//! that does not answer keeps that thread waiting, and nobody else. What follows from an answer is not decided here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use rustix::io::Errno;

use super::intents;
use super::pair::{self, Pair, Told};
use super::pass::describe;
use super::places::Misplaced;
use crate::fs::located::{self, Unfound, Unopened};
use crate::fs::lock::{self, Refused};
use crate::fs::mounts::{Relation, relation};
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::fs::watch::Watches;
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::tag::Tag;

/// Starts to watch and to look into each folder that is followed, where it is now, in the order of the ways that lead from
/// them.
pub type Renew = Arc<dyn Fn(&[&Path]) -> Result<Vec<Watches>, String> + Send + Sync>;

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
    /// The history, one for all ways.
    pub told: Told,
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
    let elsewhere = || {
        // A disk that was pulled out may be mounted still, and once more where it is plugged in again.
        let mut roots = [(Side::Source, source), (Side::Replica, replica)].into_iter();
        let moved = roots.find(|(_, root)| !located::is_still_at(root.name(), root.path()));
        moved.map(|(side, root)| Misplaced::Gone(side, root.name().into()))
    };
    if let Some(reason) = Misplaced::find(source, replica).or_else(elsewhere) {
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
    let source = open_root(Side::Source, pair.source.name())?;
    let replica = match open_root(Side::Replica, pair.replica.name()) {
        // The disk was not there when the service began with this pair.
        Err(Misplaced::Gone(..)) if !pair.places.is_known(Side::Replica) => made(pair.replica.name())?,
        opened => opened?,
    };
    // A disk can be mounted anywhere.
    if relation(source.path(), replica.path()) != Relation::Apart {
        let reason = "it and the other folder lie in one another";
        return Err(Misplaced::Unusable(replica.path().into(), reason.into()));
    }
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
        let again = |root: &Root| {
            let opened = Root::open(root.path()).map_err(|e| unusable(root.path(), e));
            opened.map(|opened| opened.named(root.name()))
        };
        sides.push((again(&replica)?, again(&source)?));
    }
    if pair.two_way.is_some() {
        if let Err(reason) = pair.archive.go_on_with(intents::mountings(&source, &replica)) {
            pair.log.warn(format_args!("{reason}"));
        }
        intents::settle(&pair.archive, (&source, &replica));
    }
    let path = source.path().to_path_buf();
    let told = pair::history((&source, &replica), pair.rules().keep.policy.is_off(), &pair.log)
        .map_err(|error| Misplaced::Unusable(replica.path().into(), describe(error)))?;
    sides.insert(0, (source, replica));
    let followed: Vec<&Path> = sides.iter().map(|(source, _)| source.path()).collect();
    let watches = renew(&followed).map_err(|reason| Misplaced::Unusable(path, reason))?;
    let opened = sides.into_iter().zip(watches).map(|((source, replica), watches)| {
        let stage = if pair.two_way.is_some() { Stage::shared() } else { Stage::new() };
        pair::clear_leftovers(&replica, &stage, &pair.log);
        Opened { source, replica, stage, watches, told: told.clone() }
    });
    Ok(opened.collect())
}

/// Makes a replica on a filesystem that is mounted, if it is named by that.
fn made(name: &Path) -> Result<Root, Misplaced> {
    let place = Tag::parse(name).and_then(Result::ok).and_then(|tag| located::find(&tag).ok());
    let gone = || Misplaced::Gone(Side::Replica, name.into());
    let place = place.ok_or_else(gone)?;
    std::fs::create_dir_all(&place).map_err(|error| Misplaced::Unusable(name.into(), error.to_string()))?;
    open_root(Side::Replica, name)
}

fn open_root(side: Side, name: &Path) -> Result<Root, Misplaced> {
    located::open(name).map_err(|unopened| match unopened {
        Unopened::Unfound(Unfound::NotMounted) | Unopened::Failed(Errno::NOENT | Errno::NOTDIR) => {
            Misplaced::Gone(side, name.into())
        }
        Unopened::Unfound(several) => Misplaced::Unusable(name.into(), several.to_string()),
        Unopened::Failed(error) => Misplaced::Unusable(name.into(), describe(error)),
    })
}
