//! Owns the way from settings to a pair that can be worked on: checks, refusals, locks, and the state folder. What is
//! refused here is refused in one sentence, and nothing has been made or changed by then that was not asked for.

mod paths;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::advice;
use super::memory;
use crate::config::{self, ConfigError, Durability, Settings};
use crate::fs::copy::Abilities;
use crate::fs::history::local_zone;
use crate::fs::lock::{self, Refused};
use crate::fs::metadata::Rights;
use crate::fs::mounts::Relation;
use crate::fs::root::Root;
use crate::fs::stage::Stage;
use crate::plan::mirror::Compare;
use crate::service::agreements::TwoWay;
use crate::service::intents;
use crate::service::log::Log;
use crate::service::pair::{self, Options, Pair};
use crate::service::pass::describe;
use crate::service::places::{Misplaced, Places};
use crate::service::restless::Restless;
use crate::service::rules::{InForce, Rules};
use crate::tree::exclude::{BadPattern, Exclude};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use crate::tree::tag::Tag;
pub use paths::{Paths, are_same, check};

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
    #[error("the source {} cannot be used: {reason}{}", shown(path), advice::permission(reason))]
    Source { path: PathBuf, reason: String },
    #[error("the replica {} cannot be used: {reason}{}", shown(path), advice::permission(reason))]
    Replica { path: PathBuf, reason: String },
    #[error("{}", nested(*relation, origin, replica))]
    Nested { relation: Relation, origin: PathBuf, replica: PathBuf },
    #[error(
        "the replica {} is already being written by {}; if that is its service, use `driftless sweep`, or stop it first",
        shown(path),
        advice::holder(*pid)
    )]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error("another service works with these two folders, and waits for one of them: `driftless status` says which")]
    InUse,
    #[error("a service works with these two folders, so that nobody else can tell what is new: stop it first")]
    Agreeing,
    #[error("{0}")]
    Log(std::io::Error),
    #[error("the log file {} cannot be used: {reason}; --log-file names another", shown(path))]
    LogPlace { path: PathBuf, reason: String },
    #[error("the manifest {} cannot be written: {reason}", shown(path))]
    Manifest { path: PathBuf, reason: String },
    #[error("the result cannot be printed: {0}")]
    Output(String),
    #[error("{}, line {line}: {reason}", shown(path))]
    InPairs { path: PathBuf, line: usize, reason: String },
    #[error("{}", self.each().join("; "))]
    Several(Vec<Refusal>),
    #[error("the service cannot start: {0}")]
    Start(String),
}

impl Refusal {
    /// Each thing that is wrong, in a sentence of its own.
    pub fn each(&self) -> Vec<String> {
        match self {
            Self::Config(error) => error.each(),
            Self::Several(all) => all.iter().flat_map(Self::each).collect(),
            other => vec![other.to_string()],
        }
    }
}

/// A path for a message.
pub fn shown(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
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

/// Whether there can be a log file, as far as that is seen without making one.
///
/// # Errors
/// Its folder is not there, or it is itself a folder.
pub fn log_place(settings: &Settings) -> Result<(), Refusal> {
    let Some(path) = &settings.log_file else { return Ok(()) };
    let folder = path.parent().unwrap_or(path);
    // That of the program's own is made when it is needed.
    let is_own = config::state_dir().is_ok_and(|state| state == folder);
    let reason = match fs::metadata(folder) {
        _ if is_own => return Ok(()),
        Err(e) => words(&e),
        Ok(meta) if !meta.is_dir() => describe(Errno::NOTDIR),
        Ok(_) if path.is_dir() => describe(Errno::ISDIR),
        Ok(_) => return Ok(()),
    };
    Err(Refusal::LogPlace { path: path.clone(), reason })
}

/// Whether something else is where the control socket shall be. One that answers may be this very service's.
///
/// # Errors
/// There is something that is no socket.
pub fn control_place(settings: &Settings) -> Result<(), Refusal> {
    let Some(path) = &settings.control else { return Ok(()) };
    match fs::symlink_metadata(path) {
        Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
            let error = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "is there and is not a socket");
            Err(Refusal::Start(advice::no_socket(path, &error)))
        }
        _ => Ok(()),
    }
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
        let text = pattern_text(path).map_err(|reason| Refusal::Patterns { path: path.clone(), reason })?;
        let patterns = text.lines().enumerate().filter(|(_, line)| !Exclude::says_nothing(line));
        lines.extend(patterns.map(|(at, line)| (Some((path, at + 1)), line.to_string())));
    }
    lines.extend(settings.exclude.iter().map(|line| (None, line.clone())));
    Exclude::new(lines.iter().map(|(_, line)| line.as_str())).map_err(|bad| match lines.get(bad.index) {
        Some((Some((path, line)), _)) => Refusal::PatternIn { path: path.to_path_buf(), line: *line, bad },
        _ => Refusal::Pattern(bad),
    })
}

/// What a file of patterns has, without the mark that some editors put before it.
fn pattern_text(path: &Path) -> Result<String, String> {
    let bytes = config::read_text(path, config::LONGEST_PATTERNS).map_err(|e| words(&e))?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// Opens both roots, and takes the replica's lock unless nothing is to be written. A replica that is not there is made,
/// but only for a pair of which nothing is known: else its disk is, most likely, not mounted.
///
/// # Errors
/// A root that cannot be opened or made, or another writer.
pub fn roots(paths: &Paths, settings: &Settings) -> Result<(Root, Root), Refusal> {
    let may_make = !settings.dry_run && (settings.accept_root || !paths.is_known()?);
    let open = |(path, name): (&Path, &Path), exists: bool, is_written: bool| {
        // Where a disk is not mounted, there is nothing to make a folder in.
        let is_new = !exists && is_written && may_make && !Tag::is(path);
        if is_new {
            fs::create_dir_all(path).map_err(|e| words(&e))?;
        }
        let root = if exists || is_new { Root::open(path) } else { Root::missing(path) };
        root.map(|root| root.named(name)).map_err(describe)
    };
    let [source_name, replica_name] = &paths.names;
    let source = open((&paths.source, source_name), paths.has_source, settings.two_way && paths.has_replica)
        .map_err(|reason| Refusal::Source { path: paths.source.clone(), reason })?;
    let replica = open((&paths.replica, replica_name), paths.has_replica, true)
        .map_err(|reason| Refusal::Replica { path: paths.replica.clone(), reason })?;
    if settings.dry_run || replica.is_missing() {
        return Ok((source, replica));
    }
    take_lock(&replica)?;
    if settings.two_way && !source.is_missing() {
        take_lock(&source)?;
    }
    Ok((source, replica))
}

fn take_lock(replica: &Root) -> Result<(), Refusal> {
    let path = || replica.path().to_path_buf();
    lock::take(replica).map_err(|refused| match refused {
        Refused::Held(pid) => Refusal::Locked { path: path(), pid },
        Refused::Failed(error) => Refusal::Replica { path: path(), reason: describe(error) },
    })
}

/// Makes a replica that is not there any more.
fn make_anew(missing: &Root) -> Result<Root, Refusal> {
    let path = missing.path();
    let unusable = |reason| Refusal::Replica { path: path.into(), reason };
    fs::create_dir(path).map_err(|e| unusable(words(&e)))?;
    let replica = Root::open(path).map_err(|e| unusable(describe(e)))?.named(missing.name());
    take_lock(&replica)?;
    Ok(replica)
}

/// What is left alone: the user's patterns, and the program's own things, which is said.
///
/// # Errors
/// Patterns or a state folder that cannot be used.
pub fn exclude(roots: (&Root, &Root), settings: &Settings, log: &Log) -> Result<Exclude, Refusal> {
    let mut exclude = patterns(settings)?;
    for (path, word, whole) in own(settings, roots)? {
        log.warn(format_args!("{} lies inside the {word} and is left out", shown(&whole)));
        exclude.add_own(path);
    }
    Ok(exclude)
}

/// The program's own things that lie inside a root: where, in which, and the whole path.
///
/// # Errors
/// There is no place for the state.
pub fn own(settings: &Settings, roots: (&Root, &Root)) -> Result<Vec<(RelPath, &'static str, PathBuf)>, Refusal> {
    let state = config::state_dir()?;
    let mut found = Vec::new();
    for own in [Some(&state), settings.log_file.as_ref(), settings.control.as_ref()].into_iter().flatten() {
        let resolved = match (own.parent().map(fs::canonicalize), own.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => own.clone(),
        };
        for (root, word) in [(roots.0, "source"), (roots.1, "replica")] {
            if let Some(path) = RelPath::below(root.path(), &resolved).filter(|p| !p.is_root()) {
                found.push((path, word, resolved.clone()));
            }
        }
    }
    Ok(found)
}

/// What passes go by, as far as it can be changed while they run.
pub fn rules(exclude: Exclude, settings: &Settings) -> Rules {
    let compare = if settings.checksum { Compare::Contents } else { Compare::Stamps };
    let (policy, keep) = (settings.conflict.into(), settings.keeping());
    Rules { exclude, compare, max_delete: settings.max_delete, jobs: settings.jobs, policy, keep }
}

/// The same, in force from the first pass on.
pub fn in_force(exclude: Exclude, settings: &Settings) -> Arc<InForce> {
    Arc::new(InForce::new(rules(exclude, settings)))
}

/// Puts the pair together, and says what keeps it from being worked on: then nothing in the replica has been touched.
/// The log is running by now: what is only worth a warning is said there.
///
/// # Errors
/// A state folder that cannot be used.
pub fn pair(
    (mut source, mut replica): (Root, Root),
    in_force: Arc<InForce>,
    settings: &Settings,
    log: Log,
) -> Result<(Pair, Option<Misplaced>), Refusal> {
    let archive = memory::open((&source, &replica), settings, &log)?;
    let places = Places::restore(&archive);
    if settings.accept_root {
        places.forget();
    }
    let may_make = |side, root: &Root| root.is_missing() && !settings.dry_run && places.no_disk_is_missing(side, root);
    if may_make(Side::Replica, &replica) {
        replica = make_anew(&replica)?;
    }
    if settings.two_way && may_make(Side::Source, &source) {
        source = make_anew(&source)?;
    }
    let both_ways = settings.two_way;
    let is_asked = !settings.dry_run || (both_ways && !source.is_missing() && !replica.is_missing());
    let misplaced = if is_asked { places.check(&source, &replica, both_ways).err() } else { None };
    if misplaced.is_none() && (!settings.dry_run || both_ways) {
        let has_new = places.is_new(Side::Source, &source) || places.is_new(Side::Replica, &replica);
        if both_ways
            && has_new
            && let Err(reason) = archive.forget()
        {
            log.warn(reason);
        }
        if !settings.dry_run {
            places.remember(&source, &replica, &archive);
        }
    }
    let durable = settings.durability == Durability::Batch;
    let (one_file_system, dry_run) = (settings.one_file_system, settings.dry_run);
    let options = Options { durable, one_file_system, dry_run, records: settings.scrub_every.is_some() };
    let is_open = misplaced.is_none() && !settings.dry_run && !replica.is_missing();
    let unusable = |error| Refusal::Replica { path: replica.path().to_path_buf(), reason: describe(error) };
    let (history, gap) = match is_open {
        true => pair::history((&source, &replica), settings.keep.is_off(), &log).map_err(unusable)?,
        false => (None, None),
    };
    // Asked for here, while files can be opened.
    local_zone();
    let pair = Pair {
        source,
        replica,
        in_force,
        archive: Arc::new(archive),
        stage: if settings.two_way { Stage::shared() } else { Stage::new() },
        abilities: Abilities::default(),
        rights: Rights::of_this_process(),
        watches: None,
        claims: Arc::default(),
        restless: Restless::new(settings.max_delay),
        links: Arc::default(),
        links_back: Arc::default(),
        log,
        options,
        said: Arc::default(),
        turns: Arc::default(),
        lost: Arc::default(),
        places: Arc::new(places),
        latency: Arc::default(),
        history,
        gap,
        keeping: Arc::default(),
        two_way: settings.two_way.then(|| TwoWay { source_is: Side::Source, survivors: Arc::default() }),
    };
    if misplaced.is_none() && pair.two_way.is_some() {
        intents::settle(&pair.archive, pair.roots());
    }
    if misplaced.is_none() && !settings.dry_run {
        pair::clear_leftovers(&pair.replica, &pair.stage, &pair.log);
        pair::clear_restores(&pair.source, &pair.log);
    }
    Ok((pair, misplaced))
}
