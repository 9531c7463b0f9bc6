//! Owns `restore`: which replica and which path are meant, where it goes, and that nothing is lost by it. What was there,
//! `past` knows; how it comes back, `walk` does.

mod around;
mod decay;
mod eyes;
mod keep;
mod lost;
mod names;
mod past;
mod place;
mod told;
mod walk;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::client::{self, Reach, USAGE, fail};
use super::open::{shown, words};
use super::which::{self, Found};
use super::{advice, signals};
use crate::cli::{RestoreArgs, WatchArgs, Whose};
use crate::config::Settings;
use crate::fs::history::shown_time;
use crate::fs::lock::{self, Refused};
use crate::fs::pulse::Pulse;
use crate::fs::root::Root;
use crate::fs::scan;
use crate::service::control::{Answer, Command, ask, folders};
use crate::service::pass::describe;
use crate::service::status::State;
use crate::tree::entry::{Kind, Time};
use crate::tree::exclude::RESERVED;
use crate::tree::history::VERSIONS;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use decay::Decay;
use eyes::Untold;
use keep::Keeper;
use past::Past;
use told::{Told, name};
use walk::{Mode, Walk};

/// How long a service may take until its replica is as its source, in rounds: after each it is asked what it waits for.
const ROUND: Duration = Duration::from_secs(30);
const ROUNDS: u32 = 20;

/// An exit code, and a sentence.
type Failure = (u8, String);

/// Runs `driftless restore`. Exit code 0 when all of it is there as it was, 1 when something is not, or was not there then,
/// 2 when it cannot be told what was there, or where it is to go.
pub fn run(args: &RestoreArgs) -> ExitCode {
    match restore(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err((code, reason)) => fail(code, &reason),
    }
}

fn unusable(reason: String) -> Failure {
    (USAGE, reason)
}

fn restore(args: &RestoreArgs) -> Result<bool, Failure> {
    let mut found = which::find(&args.whose, &args.path).map_err(unusable)?;
    if let Some(source) = &args.source {
        found.source = Some(fs::canonicalize(source).map_err(|e| cannot_use("source", source, &e))?);
    }
    let path = found.inside(&args.path).map_err(unusable)?;
    if path.components().next() == Some(RESERVED) {
        return Err(unusable(format!("{} is the program's own", name(&path))));
    }
    let source = match (&args.to, &found.source) {
        (None, None) => {
            return Err(unusable(
                "where it is to go is not known: name a place with --to, or the source with --source".into(),
            ));
        }
        (None, Some(source)) => Some(Root::open(source).map_err(|e| cannot_use("source", source, &e.into()))?),
        (Some(_), _) => None,
    };
    let mut mode = Mode { in_place: source.is_some(), force: args.force, dry_run: args.dry_run, is_served: false };
    if let (Some(source), false) = (&source, args.dry_run) {
        clear_leftovers(source);
    }
    let (mut keeper, mut is_still) = (None, false);
    if let (Some(source), true, false) = (&source, args.force, args.dry_run) {
        match lock::take(&found.replica) {
            Ok(()) => {
                is_still = true;
                keeper = Some(open_keeper(source, &found)?);
            }
            Err(Refused::Held(pid)) => {
                flush(args, &found, pid)?;
                mode.is_served = true;
            }
            Err(Refused::Failed(error)) => return Err(unreadable(&found, error)),
        }
    }
    let replica = found.replica.below(&RelPath::root()).map_err(|error| unreadable(&found, error))?;
    let mut past = Past::read(replica, path.clone(), args.at, is_still).map_err(|why| untold(why, args.at, &found))?;
    let was = past.look(&path).map_err(|error| unreadable(&found, error))?;
    if past.is_lost(&path) {
        let (name, at) = (name(&path), shown_time(args.at));
        return Err(unusable(format!("{name} was there on {at}, but what was kept of it is gone")));
    }
    let Some(was) = was else { return Err((1, absent(&path, args.at, &past))) };
    let pulse = Pulse::new(signals::stop_flag());
    let verbosity = if args.output.quiet { -1 } else { i8::try_from(args.output.verbose).unwrap_or(i8::MAX) };
    let mut told = Told::new(args.dry_run, verbosity);
    let (to, there) = match (source, &args.to) {
        (Some(source), _) => (source, path.clone()),
        (None, Some(to)) => place(to, &path, was.kind, &found, args.dry_run)?,
        (None, None) => return Ok(false),
    };
    let way = (path.clone(), there);
    let decay = Decay::of(&found, || client::status(&service_of(args, &found)?).ok());
    let mut walk = Walk::new((&mut past, &to), way, mode, (keeper.as_ref(), &decay), (&mut told, &pulse));
    let done = walk.run(was.kind);
    drop(walk);
    if !args.dry_run && !mode.in_place {
        // One call for all of it: nobody sees it before it is whole.
        let _ = rustix::fs::syncfs(to.fd());
    }
    told.sum(&path, &shown_time(args.at));
    if let Some(period) = past.around.thinned(args.at) {
        told::thinned(args.at, period);
    }
    match done {
        Ok(()) => Ok(told.is_whole()),
        Err(Errno::CANCELED) => Err((1, "stopped: what has come back by now stays".into())),
        Err(error) => Err((1, format!("stopped: {}; what has come back by now stays", describe(error)))),
    }
}

/// Removes what a restore that was interrupted has left. What cannot be removed is the next one's.
fn clear_leftovers(source: &Root) {
    for kept in crate::fs::restore::clear_leftovers(source).ok().flatten().unwrap_or_default() {
        let kept = shown(&source.path().join(OsStr::from_bytes(&kept)));
        let _ = writeln!(io::stderr(), "driftless: kept what had come when a restore was interrupted: {kept}");
    }
}

fn cannot_use(what: &str, path: &Path, error: &io::Error) -> Failure {
    unusable(format!("the {what} {} cannot be used: {}", shown(path), words(error)))
}

fn unreadable(found: &Found, error: Errno) -> Failure {
    let reason = describe(error);
    let advice = advice::permission(&reason);
    (1, format!("the replica {} cannot be read: {reason}{advice}", shown(found.replica.path())))
}

fn open_keeper(source: &Root, found: &Found) -> Result<Keeper, Failure> {
    // Where nothing is told nothing can be restored either: no history is begun here.
    match crate::fs::history::reading::folder(&found.replica) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(untold(Untold::Never, Time::default(), found)),
        done => drop(done.map_err(|error| unreadable(found, error))?),
    }
    Keeper::open(source, &found.replica).map_err(|error| {
        let replica = shown(found.replica.path());
        (1, format!("what is replaced cannot be kept in the replica {replica}: {}", describe(error)))
    })
}

/// Has the service that works on the replica bring it up to date: what is replaced then is kept there.
fn flush(args: &RestoreArgs, found: &Found, pid: Option<u32>) -> Result<(), Failure> {
    let Some(socket) = service_of(args, found) else {
        let holder = advice::holder(pid);
        let replica = shown(found.replica.path());
        return Err(unusable(format!(
            "{holder} works on the replica {replica}, and does not answer: name its socket with --control, or stop it"
        )));
    };
    let command = Command::Flush { timeout_ms: Some(u64::try_from(ROUND.as_millis()).unwrap_or(u64::MAX)) };
    for round in 1..=ROUNDS {
        let begun = Instant::now();
        let answer = match ask(&socket, &command, Some(ROUND + Duration::from_secs(5))) {
            Ok(Answer { ok: true, .. }) => return Ok(()),
            Ok(answer) => answer,
            Err(error) => return Err((1, format!("{}: {}", shown(&socket), words(&error)))),
        };
        let why = answer.error.unwrap_or_else(|| "it does not say why".into());
        let stuck = client::status(&socket).ok().and_then(|status| stuck(status.state, status.reason.as_deref()));
        if begun.elapsed() < ROUND || round == ROUNDS || stuck.is_some() {
            let stuck = stuck.unwrap_or_default();
            let what = "what would be replaced may not be in the replica yet, and nothing was changed";
            return Err((1, format!("the service has not brought its replica up to date: {why}{stuck}; {what}")));
        }
        if !args.output.quiet && round == 1 {
            let _ =
                writeln!(io::stderr(), "driftless: the service brings its replica up to date first; waiting for it");
        }
    }
    Ok(())
}

/// What keeps a service from going on, so that it is useless to wait.
fn stuck(state: State, reason: Option<&str>) -> Option<String> {
    let reason = || reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    matches!(state, State::Held | State::Degraded).then(|| format!(" (it is {}{})", state.word(), reason()))
}

fn service_of(args: &RestoreArgs, found: &Found) -> Option<PathBuf> {
    let given = match &args.whose {
        Whose { config: Some(config), .. } => {
            let args = WatchArgs { config: Some(config.clone()), ..WatchArgs::default() };
            Settings::for_watch(&args).ok().and_then(|settings| settings.control)
        }
        Whose { target, .. } => target.control.clone(),
    };
    let living = client::survey(&folders()).into_iter().filter(|(_, reach)| *reach == Reach::Living);
    let id = (found.replica.device(), found.replica.inode());
    given.into_iter().chain(living.map(|(socket, _)| socket)).find(|socket| {
        let replica = client::status(socket).map(|status| fs::metadata(&status.replica));
        matches!(replica, Ok(Ok(there)) if (there.dev(), there.ino()) == id)
    })
}

fn untold(why: Untold, at: Time, found: &Found) -> Failure {
    let (replica, at) = (shown(found.replica.path()), shown_time(at));
    let versions = || shown(&found.replica.path().join(OsStr::from_bytes(RESERVED)).join(OsStr::from_bytes(VERSIONS)));
    unusable(match why {
        Untold::Never => format!("the replica {replica} has no history: it is kept with --keep-versions or --keep"),
        Untold::Before(Some(since)) => format!(
            "what was there on {at} is not known: the history of {replica} tells everything from {} on",
            shown_time(since)
        ),
        Untold::Before(None) => format!("what was there on {at} is not known: the history of {replica} is not whole"),
        Untold::Gap(since) => format!(
            "what was there on {at} is not known: from {} on the replica {replica} was changed without a history; the next \
             run with --keep-versions begins a new one",
            shown_time(since)
        ),
        Untold::Ahead(until) => {
            let known = match until {
                Some(until) => format!("all is known up to {}", shown_time(until)),
                None => "of no time is all known".into(),
            };
            format!(
                "what was there on {at} is not known: the history of {replica} has times that are still to come, so that \
                 the clock was ahead when it was written, or is behind now; {known}, and what was lost since then lies by \
                 its name in {}",
                versions()
            )
        }
        Untold::Damaged(name, from) => format!(
            "what was there on {at} is not known: the journal of {replica} is damaged in the file {}, and tells everything \
             from {} on; what was lost before lies under its names in {}",
            quoted(name.as_bytes()),
            shown_time(from),
            versions()
        ),
        Untold::Missing(name, from) => format!(
            "what was there on {at} is not known: the file {} of the journal of {replica} is missing, and everything is told \
             from {} on; what was lost before lies under its names in {}",
            quoted(name.as_bytes()),
            shown_time(from),
            versions()
        ),
        Untold::Future => format!("{at} is still to come"),
        Untold::Failed(error) => return unreadable(found, error),
    })
}

fn absent(path: &RelPath, at: Time, past: &Past) -> String {
    let hint = match (past.around.gone, past.around.came) {
        (Some(gone), _) => format!("; it went on {}", shown_time(gone)),
        (None, Some(came)) => format!("; it came on {}", shown_time(came)),
        (None, None) => String::new(),
    };
    format!("{} was not there on {}{hint}", name(path), shown_time(at))
}

/// The folder in which it comes back, and its path in that.
fn place(to: &Path, path: &RelPath, kind: Kind, found: &Found, dry_run: bool) -> Result<(Root, RelPath), Failure> {
    let refused = |error: io::Error| cannot_use("place", to, &error);
    let taken =
        || unusable(format!("{} is there already: --to takes what is not there, or an empty folder", shown(to)));
    let whole = std::path::absolute(to).map_err(refused)?;
    let (parent, own) = match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(own)) => (parent, own.as_bytes()),
        _ => return Err(taken()),
    };
    let parent_root = Root::open(parent).map_err(|error| cannot_use("place", parent, &error.into()))?;
    refuse_replica(parent, found)?;
    let is_folder = match fs::symlink_metadata(&whole) {
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(refused(error)),
        Ok(_) => true,
    };
    if is_folder {
        let root = Root::open(&whole).map_err(|_| taken())?;
        refuse_replica(&whole, found)?;
        if !scan::is_empty(&root).map_err(|error| refused(error.into()))? {
            return Err(taken());
        }
        let own = path.split().filter(|_| kind != Kind::Directory);
        return Ok((root, own.map(|(_, own)| RelPath::root().join(own)).unwrap_or_default()));
    }
    let own = RelPath::new(own).ok_or_else(taken)?;
    if kind != Kind::Directory || dry_run {
        return Ok((parent_root, own));
    }
    fs::create_dir(&whole).map_err(refused)?;
    Root::open(&whole).map(|root| (root, RelPath::root())).map_err(|error| refused(error.into()))
}

/// Nobody but the program writes in a replica.
fn refuse_replica(folder: &Path, found: &Found) -> Result<(), Failure> {
    let id = (found.replica.device(), found.replica.inode());
    let folder = fs::canonicalize(folder).map_err(|error| cannot_use("place", folder, &error))?;
    let is_replica = |above: &Path| fs::metadata(above).is_ok_and(|above| (above.dev(), above.ino()) == id);
    if folder.ancestors().any(is_replica) {
        return Err(unusable(format!("{} lies in the replica, which is the program's to write", shown(&folder))));
    }
    // The replica that is read may be a copy of another one, or another pair's.
    match folder.ancestors().find(|above| which::has_journal(above)) {
        Some(replica) => {
            let (folder, replica) = (shown(&folder), shown(replica));
            Err(unusable(format!("{folder} lies in the replica {replica}, which is the program's to write")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_service_that_cannot_go_on() {
        for state in State::ALL {
            let said = stuck(state, Some("the replica has no room"));
            let is_stuck = matches!(state, State::Held | State::Degraded);
            assert_eq!(said, is_stuck.then(|| format!(" (it is {}: the replica has no room)", state.word())));
        }
    }
}
