//! Owns the way from settings to a pair that can be worked on: checks, refusals, locks, and the state folder. What is
//! refused here is refused in one sentence, and nothing has been made or changed by then that was not asked for.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::config::{self, ConfigError, Durability, Settings};
use crate::fs::archive::Archive;
use crate::fs::copy::Abilities;
use crate::fs::lock::{self, Refused};
use crate::fs::metadata::Rights;
use crate::fs::mounts::{Relation, relation};
use crate::fs::root::Root;
use crate::fs::scan;
use crate::fs::stage::Stage;
use crate::plan::mirror::Compare;
use crate::service::claims::Claims;
use crate::service::links::LinkTable;
use crate::service::log::Log;
use crate::service::pair::{Options, Pair, Said};
use crate::service::pass::describe;
use crate::tree::exclude::{BadPattern, Exclude};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// Why a pair cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    #[error("cannot read the patterns in {}: {reason}", shown(path))]
    Patterns { path: PathBuf, reason: String },
    #[error("{}, line {line}: {bad}", shown(path))]
    PatternIn { path: PathBuf, line: usize, bad: BadPattern },
    #[error("the source {} cannot be used: {reason}", shown(path))]
    Source { path: PathBuf, reason: String },
    #[error("the replica {} cannot be used: {reason}", shown(path))]
    Replica { path: PathBuf, reason: String },
    #[error("{}", nested(*relation, origin, replica))]
    Nested { relation: Relation, origin: PathBuf, replica: PathBuf },
    #[error("the replica {} is already being written by {}", shown(path), holder(*pid))]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error("{0}")]
    Log(std::io::Error),
    #[error("the manifest {} cannot be written: {reason}", shown(path))]
    Manifest { path: PathBuf, reason: String },
    #[error("the result cannot be printed: {0}")]
    Output(String),
    #[error("the service cannot start: {0}")]
    Start(String),
}

/// A path for a message.
pub fn shown(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

fn nested(relation: Relation, source: &Path, replica: &Path) -> String {
    let (source, replica) = (shown(source), shown(replica));
    match relation {
        Relation::Same | Relation::Apart => {
            format!("the source {source} and the replica {replica} are the same folder")
        }
        Relation::Inside => format!("the replica {replica} lies inside the source {source}"),
        Relation::Around => format!("the source {source} lies inside the replica {replica}"),
    }
}

/// The two folders, checked and resolved.
#[derive(Debug)]
pub struct Places {
    pub source: PathBuf,
    pub replica: PathBuf,
    /// The replica's folder exists.
    pub exists: bool,
}

/// Checks the two folders without making or changing anything.
///
/// # Errors
/// The first thing that makes them unusable as a pair.
pub fn check(settings: &Settings) -> Result<Places, Refusal> {
    let source = &settings.source;
    let unusable = |reason: String| Refusal::Source { path: source.clone(), reason };
    let resolved = fs::canonicalize(source).map_err(|e| unusable(words(&e)))?;
    if !resolved.is_dir() {
        return Err(unusable("it is not a folder".into()));
    }
    let (replica, exists) = resolve(&settings.replica)?;
    let relation = match (identity(&resolved), identity(&replica)) {
        (Some(a), Some(b)) if a == b => Relation::Same,
        _ => relation(&resolved, &replica),
    };
    match relation {
        Relation::Apart => Ok(Places { source: resolved, replica, exists }),
        _ => Err(Refusal::Nested { relation, origin: resolved, replica }),
    }
}

/// The replica's real path, whether or not it exists yet.
fn resolve(path: &Path) -> Result<(PathBuf, bool), Refusal> {
    let unusable = |reason: String| Refusal::Replica { path: path.to_path_buf(), reason };
    let mut missing = Vec::new();
    let mut at = path.to_path_buf();
    loop {
        match fs::canonicalize(&at) {
            Ok(found) if !found.is_dir() => return Err(unusable("it is not a folder".into())),
            Ok(found) => {
                let exists = missing.is_empty();
                return Ok((missing.iter().rev().fold(found, |path, name| path.join(name)), exists));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(&at).is_err() => {
                match (at.file_name(), at.parent()) {
                    (Some(name), Some(parent)) => {
                        missing.push(name.to_os_string());
                        at = parent.to_path_buf();
                    }
                    _ => return Err(unusable(words(&e))),
                }
            }
            Err(e) => return Err(unusable(words(&e))),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// What the system says, without the number that it ends in.
pub fn words(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), describe)
}

/// The user's patterns: those of the files first, so that the command line's win.
///
/// # Errors
/// A file that cannot be read, or a pattern that is none.
pub fn patterns(settings: &Settings) -> Result<Exclude, Refusal> {
    let mut lines = Vec::new();
    for path in &settings.exclude_from {
        let text = fs::read_to_string(path).map_err(|e| Refusal::Patterns { path: path.clone(), reason: words(&e) })?;
        lines.extend(text.lines().enumerate().map(|(at, line)| (Some((path, at + 1)), line.to_string())));
    }
    lines.extend(settings.exclude.iter().map(|line| (None, line.clone())));
    Exclude::new(lines.iter().map(|(_, line)| line.as_str())).map_err(|bad| match lines.get(bad.index) {
        Some((Some((path, line)), _)) => Refusal::PatternIn { path: path.to_path_buf(), line: *line, bad },
        _ => Refusal::Pattern(bad),
    })
}

/// What a command that writes needs before it can start its log: the folders are known to be usable by then.
///
/// # Errors
/// The replica's folder cannot be made.
pub fn make_replica(places: &Places) -> Result<(), Refusal> {
    if places.exists {
        return Ok(());
    }
    let path = &places.replica;
    fs::create_dir_all(path).map_err(|e| Refusal::Replica { path: path.clone(), reason: words(&e) })
}

/// Opens both roots, and takes the replica's lock unless nothing is to be written.
///
/// # Errors
/// A root that cannot be opened, or another writer.
pub fn roots(places: &Places, settings: &Settings) -> Result<(Root, Root), Refusal> {
    let reason = |e| describe(e);
    let source =
        Root::open(&places.source).map_err(|e| Refusal::Source { path: places.source.clone(), reason: reason(e) })?;
    let path = &places.replica;
    let unusable = |e| Refusal::Replica { path: path.clone(), reason: reason(e) };
    if settings.dry_run {
        let replica = if places.exists { Root::open(path) } else { Root::missing(path) };
        return Ok((source, replica.map_err(unusable)?));
    }
    let replica = Root::open(path).map_err(unusable)?;
    match lock::take(&replica) {
        Ok(()) => Ok((source, replica)),
        Err(Refused::Held(pid)) => Err(Refusal::Locked { path: path.clone(), pid }),
        Err(Refused::Failed(error)) => Err(unusable(error)),
    }
}

/// What is left alone: the user's patterns, and the program's own things, which is said.
///
/// # Errors
/// Patterns or a state folder that cannot be used.
pub fn exclude(roots: (&Root, &Root), settings: &Settings, log: &Log) -> Result<Exclude, Refusal> {
    let mut exclude = patterns(settings)?;
    let state = config::state_dir()?;
    for own in [Some(&state), settings.log_file.as_ref()].into_iter().flatten() {
        leave_out(&mut exclude, own, roots, log);
    }
    Ok(exclude)
}

/// Puts the pair together. The log is running by now: what is only worth a warning is said there.
///
/// # Errors
/// A state folder that cannot be used.
pub fn pair((source, replica): (Root, Root), exclude: Exclude, settings: &Settings, log: Log) -> Result<Pair, Refusal> {
    let archive = if settings.dry_run { Archive::in_memory() } else { archive(&state_of(&source, &replica)?, &log) };
    let is_emptied = is_emptied(&source, &archive);
    if is_emptied {
        log.error(format_args!(
            "Held: {} is another folder than the last time, and empty: is its disk mounted? Nothing is removed from the replica",
            shown(source.path())
        ));
    } else if !settings.dry_run {
        archive.set_fact(IDENTITY, &source.inode().to_be_bytes());
    }
    let stage = Stage::new();
    if !settings.dry_run && stage.clear_leftovers(&replica).is_ok_and(|found| found) {
        log.info("Removed what an interrupted run had left in the reserved folder");
        stage.close(&replica);
    }
    let options = Options {
        jobs: settings.jobs,
        compare: if settings.checksum { Compare::Contents } else { Compare::Stamps },
        durable: settings.durability == Durability::Batch,
        one_file_system: settings.one_file_system,
        dry_run: settings.dry_run,
        max_delete: settings.max_delete,
    };
    Ok(Pair {
        source,
        replica,
        exclude,
        archive,
        stage,
        abilities: Abilities::default(),
        rights: Rights::of_this_process(),
        watches: None,
        claims: Claims::default(),
        links: Mutex::new(LinkTable::default()),
        log,
        options,
        said: Said::default(),
        turns: Default::default(),
        lost: Arc::default(),
        is_emptied,
    })
}

/// The name under which the source's inode is remembered.
const IDENTITY: &str = "source";

/// Whether the source is not the folder that it was, and has nothing in it: a mount point without its disk, most likely.
fn is_emptied(source: &Root, archive: &Archive) -> bool {
    let is_other = archive.fact(IDENTITY).is_some_and(|known| known != source.inode().to_be_bytes());
    is_other && scan::is_empty(source).unwrap_or(true)
}

/// The folder for what is kept of this pair, made if it is missing.
///
/// # Errors
/// There is no place for it, or it cannot be made.
pub fn state_of(source: &Root, replica: &Root) -> Result<PathBuf, Refusal> {
    let path = config::make_state_dir()?.join(config::pair_name(source.path(), replica.path()));
    fs::create_dir_all(&path).map_err(|source| ConfigError::StateFolder { path: path.clone(), source })?;
    Ok(path)
}

fn archive(state: &Path, log: &Log) -> Archive {
    Archive::open(&state.join("archive.redb")).unwrap_or_else(|reason| {
        log.warn(format_args!("{reason}; everything will be compared at each start"));
        Archive::in_memory()
    })
}

fn leave_out(exclude: &mut Exclude, own: &Path, roots: (&Root, &Root), log: &Log) {
    let resolved = match (own.parent().map(fs::canonicalize), own.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => own.to_path_buf(),
    };
    for (root, word) in [(roots.0, "source"), (roots.1, "replica")] {
        if let Some(path) = RelPath::below(root.path(), &resolved).filter(|p| !p.is_root()) {
            log.warn(format_args!("{} lies inside the {word} and is left out", shown(&resolved)));
            exclude.add_own(path);
        }
    }
}
