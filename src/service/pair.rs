//! Owns what all passes over one pair share: the two roots, what is remembered, and how the person wants it done.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::agreements::TwoWay;
use super::claims::Claims;
use super::latency::Latency;
use super::links::LinkTable;
use super::log::Log;
use super::places::Places;
use super::restless::Restless;
use super::room::Keeping;
use super::rules::{InForce, Rules};
use crate::fs::archive::Archive;
use crate::fs::copy::Abilities;
use crate::fs::history::ahead::Ahead;
use crate::fs::history::gap::Gap;
use crate::fs::history::{History, shown_time};
use crate::fs::metadata::{Lost, Rights};
use crate::fs::restore;
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::fs::watch::Watches;
use crate::tree::doubt::Moment;
use crate::tree::identity::Side;
use crate::tree::operation::{Cause, Operation};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted_below;

/// How passes are done as long as the program runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Contents are brought to disk before they are published.
    pub durable: bool,
    pub one_file_system: bool,
    pub dry_run: bool,
    /// The MD5 of contents that pass through memory is recorded.
    pub records: bool,
}

/// A source and its replica.
pub struct Pair {
    pub source: Root,
    pub replica: Root,
    pub in_force: Arc<InForce>,
    pub archive: Arc<Archive>,
    pub stage: Stage,
    pub abilities: Abilities,
    pub rights: Rights,
    pub watches: Option<Watches>,
    pub claims: Arc<Claims>,
    pub restless: Restless,
    pub links: Arc<Mutex<LinkTable>>,
    /// The same seen from the other side, which is what the passes of the other direction go by.
    pub links_back: Arc<Mutex<LinkTable>>,
    pub log: Log,
    pub options: Options,
    pub said: Arc<Said>,
    pub turns: Arc<Turns>,
    /// When events were last lost, until everything has been looked at since; 0 where none are missing. Set by who hears
    /// of it, before anything that was heard later can be acted on.
    pub lost: Arc<AtomicU64>,
    /// Which folders the roots and the mounts below them were.
    pub places: Arc<Places>,
    /// How long changes took from the event to the replica.
    pub latency: Arc<Latency>,
    /// `None` where only the source is worked in.
    pub two_way: Option<TwoWay>,
    /// What is kept of the past, where anything is.
    pub history: Option<Arc<History>>,
    /// Where nothing is kept: an older history, which is to be told that it misses what comes.
    pub gap: Option<Arc<Gap>>,
    /// What it comes to, and the way to those who make room.
    pub keeping: Arc<Keeping>,
}

/// Locks for folders, shared by folders whose paths hash alike.
pub type Turns = [Mutex<()>; 32];

impl Pair {
    /// The same pair the other way round: its passes take the replica for their source, and go by what the passes of this
    /// one go by. Whoever watches has to set `watches` and `lost`.
    ///
    /// # Errors
    /// As of open(2).
    pub fn reversed(&self, two_way: TwoWay) -> Result<Self, Errno> {
        let again = |root: &Root| {
            let opened = if root.is_missing() { Root::missing(root.path()) } else { Root::open(root.path()) };
            opened.map(|opened| opened.named(root.name()))
        };
        Ok(Self {
            source: again(&self.replica)?,
            replica: again(&self.source)?,
            in_force: Arc::clone(&self.in_force),
            archive: Arc::clone(&self.archive),
            stage: Stage::shared(),
            abilities: Abilities::default(),
            rights: self.rights.clone(),
            watches: None,
            claims: Arc::clone(&self.claims),
            restless: Restless::new(self.restless.max_delay()),
            links: Arc::clone(&self.links_back),
            links_back: Arc::clone(&self.links),
            log: self.log.clone(),
            options: self.options.clone(),
            said: Arc::clone(&self.said),
            turns: Arc::clone(&self.turns),
            lost: Arc::default(),
            places: Arc::clone(&self.places),
            latency: Arc::clone(&self.latency),
            history: self.history.clone(),
            gap: self.gap.clone(),
            keeping: Arc::clone(&self.keeping),
            two_way: Some(TwoWay { source_is: two_way.source_is.other(), ..two_way }),
        })
    }

    /// The source and the replica as the person named them, whichever of them passes take for their source.
    pub fn roots(&self) -> (&Root, &Root) {
        if self.is_turned() { (&self.replica, &self.source) } else { (&self.source, &self.replica) }
    }

    /// Which folder passes write to.
    pub fn written_side(&self) -> Side {
        if self.is_turned() { Side::Source } else { Side::Replica }
    }

    /// What passes that begin now go by.
    pub fn rules(&self) -> Arc<Rules> {
        self.in_force.now()
    }

    /// Waits for this thread's turn to set the attributes of a folder.
    pub fn turn(&self, folder: &RelPath) -> MutexGuard<'_, ()> {
        let mut hash = DefaultHasher::new();
        folder.hash(&mut hash);
        let turn = &self.turns[hash.finish() as usize % self.turns.len()];
        turn.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A small fact about this direction, kept beside what was agreed.
    pub fn fact(&self, name: &str) -> Option<Vec<u8>> {
        self.archive.fact(&self.fact_name(name))
    }

    /// Keeps one.
    pub fn set_fact(&self, name: &str, value: &[u8]) {
        self.archive.set_fact(&self.fact_name(name), value);
    }

    fn fact_name(&self, name: &str) -> String {
        if self.is_turned() { format!("{name} (back)") } else { name.into() }
    }

    /// How many entries there were when they were last counted.
    pub fn entries(&self) -> Option<u64> {
        self.fact("entries").and_then(|n| String::from_utf8(n).ok()?.parse().ok())
    }

    /// When events were last lost that have not been made good.
    pub fn lost(&self) -> Moment {
        Moment(self.lost.load(Ordering::SeqCst))
    }

    pub fn links(&self) -> MutexGuard<'_, LinkTable> {
        self.links.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What the other direction knows of files with several names. Never asked for while `links` is held.
    pub fn links_back(&self) -> MutexGuard<'_, LinkTable> {
        self.links_back.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Notes in an older history that it misses what comes, where nothing is kept. To be called right before each change
    /// of what a history is about; the first one costs something.
    pub fn note_gap(&self) {
        let Some(gap) = self.gap.as_deref().filter(|gap| !gap.is_noted()) else { return };
        if let Err(error) = gap.note()
            && self.said.first("gap")
        {
            let shown = quoted_path(self.roots().1, &RelPath::root());
            warn_untold(&self.log, &shown, error);
        }
    }

    /// Whether there is a history that is still to be told that it misses what comes.
    pub fn awaits_gap(&self) -> bool {
        self.gap.as_deref().is_some_and(|gap| !gap.is_noted())
    }

    /// The path in the replica, quoted for a message.
    pub fn shown(&self, path: &RelPath) -> String {
        quoted_path(&self.replica, path)
    }

    /// The path in the source, quoted for a message.
    pub fn shown_source(&self, path: &RelPath) -> String {
        quoted_path(&self.source, path)
    }

    /// Logs one operation.
    pub fn report(&self, operation: Operation, path: &RelPath) {
        self.report_with(operation, self.shown(path));
    }

    /// Logs a removal, with what asked for it. What is only planned nobody has to account for.
    pub fn report_removal(&self, operation: Operation, path: &RelPath, cause: Cause) {
        let shown = self.shown(path);
        self.report_with(operation, if self.options.dry_run { shown } else { format!("{shown} ({cause})") });
    }

    pub fn report_with(&self, operation: Operation, what: String) {
        if self.options.dry_run {
            self.log.info(format_args!("{}: {what}", operation.planned()));
        } else {
            self.log.info(format_args!("{operation}: {what}"));
        }
    }

    /// Says once a kind what the replica cannot hold.
    pub fn report_lost(&self, lost: Lost, path: &RelPath) {
        for (is_lost, what) in [
            (lost.owner, "owners"),
            (lost.mode, "modes"),
            (lost.xattrs, "some extended attributes or ACLs"),
            (lost.times, "times"),
        ] {
            if is_lost && self.said.first(what) {
                let shown = self.shown(path);
                self.log.warn(format_args!(
                    "The replica cannot hold {what}: {shown} is the first that goes without; this is not said again"
                ));
            }
        }
    }
}

/// What is kept of a replica's past, or which older history is to be told that it misses what comes.
pub type Told = (Option<Arc<History>>, Option<Arc<Gap>>);

/// Opens the history of a replica, if what is lost is kept. If not, an older history is told so before the first change.
///
/// # Errors
/// As of `History::open`.
pub fn history((source, replica): (&Root, &Root), is_off: bool, log: &Log) -> Result<Told, Errno> {
    if !is_off {
        let history = History::open(source, replica)?;
        if let Some(ahead) = history.ahead() {
            warn_ahead(log, &quoted_path(replica, &RelPath::root()), ahead);
        }
        return Ok((Some(Arc::new(history)), None));
    }
    let gap = Gap::of(replica).unwrap_or_else(|error| {
        warn_untold(log, &quoted_path(replica, &RelPath::root()), error);
        None
    });
    Ok((None, gap.map(Arc::new)))
}

fn warn_ahead(log: &Log, shown: &str, ahead: Ahead) {
    let last = shown_time(ahead.last);
    let known = ahead.until.map_or_else(|| "no time".into(), shown_time);
    log.warn(format_args!(
        "The history of {shown} has times that are still to come, up to {last}: the clock was ahead, or is behind now. \
         Until that time has come, what happens is told under it, and nothing after {known} can be restored by its time; \
         what is lost is kept by its name all the same"
    ));
}

fn warn_untold(log: &Log, shown: &str, error: Errno) {
    let reason = super::pass::describe(error);
    log.warn(format_args!("Cannot tell the history of {shown} that it misses what comes: {reason}"));
}

/// Removes what an interrupted run has left in the replica.
pub fn clear_leftovers(replica: &Root, stage: &Stage, log: &Log) {
    match stage.clear_leftovers(replica) {
        Ok(None) => {}
        Ok(Some(kept)) => {
            log.info("Removed what an interrupted run had left in the reserved folder");
            for name in kept {
                let shown = quoted_path(replica, &RelPath::root().join(&name));
                log.warn(format_args!("Kept what had just come when that run was interrupted: {shown}"));
            }
            stage.close(replica);
        }
        Err(error) => {
            let shown = quoted_path(replica, &RelPath::root());
            log.warn(format_args!(
                "Cannot remove what an interrupted run had left in {shown}: {}",
                super::pass::describe(error)
            ));
        }
    }
}

/// Removes what a restore that was interrupted has left in the source.
pub fn clear_restores(source: &Root, log: &Log) {
    let shown = |name: &RelPath| quoted_path(source, name);
    match restore::clear_leftovers(source) {
        Ok(None) => {}
        Ok(Some(kept)) => {
            log.info("Removed what an interrupted restore had left in the source");
            for name in kept {
                let name = shown(&RelPath::root().join(&name));
                log.warn(format_args!("Kept what had just come when that restore was interrupted: {name}"));
            }
        }
        Err(error) => log.warn(format_args!(
            "Cannot remove what an interrupted restore had left in {}: {}",
            shown(&RelPath::root()),
            super::pass::describe(error)
        )),
    }
}

fn quoted_path(root: &Root, path: &RelPath) -> String {
    use std::os::unix::ffi::OsStrExt;
    quoted_below(root.path().as_os_str().as_bytes(), path.as_bytes())
}

/// What has been said and need not be said again.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashSet<String>>);

/// As many different things are said at most.
const SAID: usize = 10_000;

impl Said {
    pub fn first(&self, what: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(|e| e.into_inner());
        said.len() < SAID && said.insert(what.to_string())
    }

    pub fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).contains(what)
    }

    pub fn forget(&self, what: &str) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).remove(what);
    }
}
