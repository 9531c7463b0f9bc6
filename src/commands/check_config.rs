//! Owns `check-config`: a configuration file read and checked as `watch --config` would, and shown. It makes, locks and
//! starts nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::Access;

use super::metrics;
use super::open::{self, Paths, Refusal, shown};
use crate::config::{self, Checked, Conflict, Durability, Row, Settings};
use crate::service::pass::describe;
use crate::tree::quote::quoted;
use crate::tree::tag::Tag;

/// A sweep more often than this costs more than it finds.
const SHORT_INTERVAL: Duration = Duration::from_secs(10);
/// What nobody heard of is not carried over for so long.
const LONG_INTERVAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Nobody calls this near real time.
const LONG_DEBOUNCE: Duration = Duration::from_secs(30);
/// What is kept no longer is hardly a backup.
const SHORT_KEEP: Duration = Duration::from_secs(3600);

/// Runs `driftless check-config`.
///
/// # Errors
/// What `watch` would refuse.
pub fn run(file: &Path) -> Result<ExitCode, Refusal> {
    let Checked { settings, rows } = config::check(file)?;
    let paths = open::check(&settings)?;
    let patterns = open::patterns(&settings)?;
    usable(&paths, &settings)?;
    let without_folder = without_folder(&settings);
    if !settings.log_file.as_ref().is_some_and(|log| without_folder.contains(&log.as_path())) {
        open::log_place(&settings)?;
    }
    metrics::place(&settings, (&paths.source, &paths.replica))?;
    open::control_place(&settings)?;
    let mut text = screen(file, &rows);
    let mut gap = "\n";
    let odd = patterns.lines().iter().filter_map(|pattern| odd_pattern(pattern, &settings.source));
    let lost = without_folder.into_iter().map(|path| {
        let path = shown(path);
        format!(
            "there is no folder for {path}: the service does not start unless the unit makes it (RuntimeDirectory=)"
        )
    });
    let found = config::untrusted(file).into_iter().chain(warnings(&settings)).chain(odd).chain(lost);
    for warning in found.chain(of_folders(&paths, &settings)) {
        let _ = write!(text, "{gap}\nWarning: {warning}");
        gap = "";
    }
    match writeln!(io::stdout(), "{text}") {
        // Who reads has seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Refusal::Output(open::words(&e))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn screen(file: &Path, rows: &[Row]) -> String {
    let mut text = format!("{} can be used. It comes to\n", shown(file));
    for Row { key, value, line } in rows {
        let origin = line.map_or_else(|| "default".to_string(), |line| format!("line {line}"));
        let _ = write!(text, "\n{key:<16} {origin:<9} {value}");
    }
    text
}

/// Whether who runs this may do with the two folders what `watch` refuses to go on without.
fn usable(paths: &Paths, settings: &Settings) -> Result<(), Refusal> {
    let may = |path: &Path, access| rustix::fs::access(path, access).map_err(describe);
    let enter = Access::READ_OK | Access::EXEC_OK;
    if paths.has_source {
        may(&paths.source, enter).map_err(|reason| Refusal::Source { path: settings.source.clone(), reason })?;
    }
    let (folder, access) = match paths.has_replica {
        true => (Some(paths.replica.as_path()), enter),
        false => (first_there(&paths.replica), Access::WRITE_OK | Access::EXEC_OK),
    };
    let unusable = |reason| Refusal::Replica { path: settings.replica.clone(), reason };
    folder.map_or(Ok(()), |folder| may(folder, access)).map_err(unusable)
}

/// The service's own things that would lie in a folder that is not there.
fn without_folder(settings: &Settings) -> Vec<&Path> {
    let state = config::state_dir().ok();
    let things = [&settings.log_file, &settings.control, &settings.metrics].into_iter().flatten();
    let is_lost =
        |path: &&PathBuf| path.parent().is_some_and(|folder| !folder.is_dir() && state.as_deref() != Some(folder));
    things.filter(is_lost).map(PathBuf::as_path).collect()
}

/// The nearest folder above that there is.
fn first_there(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.is_dir())
}

/// What is allowed and probably not meant, by the settings alone.
fn warnings(settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |is_so: bool, what: &str| {
        if is_so {
            found.push(what.to_string());
        }
    };
    say(settings.interval < SHORT_INTERVAL, "`interval`: a sweep of the whole tree so often costs more than it finds");
    say(settings.interval > LONG_INTERVAL, "`interval`: what no event told of waits that long for its sweep");
    say(settings.debounce > LONG_DEBOUNCE, "`debounce`: what is being written waits that long before it is copied");
    let has_no_conflicts = !settings.two_way && settings.conflict != Conflict::default();
    say(has_no_conflicts, "`conflict`: there are none without `two_way`");
    say(settings.max_delete >= 100.0, "`max_delete`: no removal is ever held");
    let has_bounds = settings.keep_max.is_some() || settings.keep_free.is_some();
    say(has_bounds && settings.keep.is_off(), "`keep_max` and `keep_free`: nothing is kept without `keep_versions`");
    let is_brief = !settings.keep.is_off() && settings.keep.horizon() < SHORT_KEEP;
    say(is_brief, "`keep_versions`: what is lost is gone for good within the hour; a bare number is seconds");
    say(settings.durability == Durability::None, "`durability`: a power cut can leave empty files in the replica");
    found
}

/// What is odd about a pattern that can be read as one.
fn odd_pattern(pattern: &str, source: &Path) -> Option<String> {
    let shown = quoted(pattern.as_bytes());
    let is_whole = source.to_str().is_some_and(|source| source.len() > 1 && pattern.starts_with(source));
    if is_whole {
        Some(format!("the pattern {shown} matches nothing: patterns are relative to the source, whose / is its root"))
    } else if pattern.starts_with("./") || pattern.starts_with("../") || pattern.starts_with('~') {
        Some(format!("the pattern {shown} matches nothing: patterns are relative to the source, as in .gitignore"))
    } else if matches!(pattern.trim_end(), "*" | "**" | "/*" | "/**" | "**/*") {
        Some(format!("the pattern {shown} leaves everything alone"))
    } else {
        None
    }
}

/// The same of the folders as they are.
fn of_folders(paths: &Paths, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    if !paths.has_source {
        let is_made = settings.two_way && !paths.is_known().unwrap_or(true);
        let what = if is_made { "the first start makes it" } else { "the service will wait for it" };
        found.push(format!("the source {} is not there{}: {what}", shown(&paths.source), away(&paths.source)));
    }
    if !paths.has_replica {
        let is_in_nothing = paths.replica.parent().is_some_and(|parent| !parent.is_dir());
        let is_waited_for = Tag::is(&paths.replica) || paths.is_known().unwrap_or(false);
        let what = match (is_waited_for, is_in_nothing) {
            (true, _) => ": the service will wait for it",
            (false, false) => ": the first start makes it",
            (false, true) => ", nor is the folder that it lies in: the first start makes both. Is its disk mounted?",
        };
        found.push(format!("the replica {} is not there{}{what}", shown(&paths.replica), away(&paths.replica)));
    } else if let Err(error) = rustix::fs::access(&paths.replica, Access::WRITE_OK) {
        found.push(format!("nothing can be written in the replica {}: {}", shown(&paths.replica), describe(error)));
    } else if !settings.two_way && !paths.is_known().unwrap_or(true) && holds_something(&paths.replica) {
        found.push(format!(
            "the replica {} is not empty, and nothing is known here of this pair: what the source does not have is removed",
            shown(&paths.replica)
        ));
    }
    for own in settings.log_file.iter().chain(&settings.control).cloned().chain(config::state_dir()) {
        for (root, word) in [(&paths.source, "source"), (&paths.replica, "replica")] {
            if real(&own).starts_with(root) {
                found.push(format!("{} lies inside the {word} and will be left out", shown(&own)));
            }
        }
    }
    found
}

/// What is known of why a folder is not there.
fn away(path: &Path) -> &'static str {
    if Tag::is(path) { ", because its filesystem is not mounted" } else { "" }
}

fn holds_something(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Where a path is that need not be there yet.
fn real(path: &Path) -> PathBuf {
    match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_match_nothing_or_everything_are_doubted() {
        let table = [
            ("*.tmp", None),
            ("/cache/", None),
            ("/home/user/photos/cache", Some("matches nothing")),
            ("./cache", Some("matches nothing")),
            ("~/cache", Some("matches nothing")),
            ("*", Some("leaves everything alone")),
            ("cache/*", None),
        ];
        for (pattern, words) in table {
            let said = odd_pattern(pattern, Path::new("/home/user/photos"));
            assert_eq!(said.is_some(), words.is_some(), "{pattern}: {said:?}");
            assert!(words.is_none_or(|words| said.is_some_and(|said| said.ends_with(words) || said.contains(words))));
        }
    }
}
