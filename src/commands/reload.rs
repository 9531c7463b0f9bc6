//! Owns the way from a configuration that was read again to what the running service does with it: what has changed, in
//! words, and what of it counts from the next start on only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::open::{self, Refusal};
use crate::cli::WatchArgs;
use crate::config::{self, ConfigError, Row, Settings};
use crate::fs::root::Root;
use crate::service::rules::{Reload, Reread};
use crate::tree::exclude::Exclude;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// The keys whose change is applied at once. The patterns have words of their own.
const AT_ONCE: [&str; 12] = [
    "interval",
    "debounce",
    "max_delay",
    "checksum",
    "max_delete",
    "keep_versions",
    "keep_max",
    "keep_free",
    "conflict",
    "jobs",
    "quiet",
    "verbose",
];
const PATTERNS: [&str; 2] = ["exclude", "exclude_from"];
/// As many patterns are named that have come, and that have gone.
const NAMED: usize = 5;

/// What reads the settings again, for a service that runs with these. There is none where nothing was read from a file.
///
/// # Errors
/// There is no place for the state.
pub fn reload(
    args: &WatchArgs,
    settings: &Settings,
    exclude: &Exclude,
    roots: (&Root, &Root),
) -> Result<Option<Reload>, Refusal> {
    if args.config.is_none() && settings.exclude_from.is_empty() {
        return Ok(None);
    }
    let own: Vec<RelPath> = open::own(settings, roots)?.into_iter().map(|(path, ..)| path).collect();
    let (args, mut running, mut exclude) = (args.clone(), settings.clone(), exclude.clone());
    Ok(Some(Box::new(move || {
        let (mut asked, patterns) = read(&args, &own).map_err(|refusal| refusal.each())?;
        // The history begins and ends with a run.
        let is_switched = asked.keep.is_off() != running.keep.is_off();
        if is_switched {
            asked.keep = running.keep.clone();
        }
        let (mut changed, mut for_a_restart) = differences(&config::rows(&running), &config::rows(&asked));
        for_a_restart.extend(is_switched.then_some("keep_versions"));
        changed.extend(other_patterns(exclude.lines(), patterns.lines()));
        running = Settings {
            interval: asked.interval,
            debounce: asked.debounce,
            max_delay: asked.max_delay,
            exclude: asked.exclude,
            exclude_from: asked.exclude_from,
            checksum: asked.checksum,
            max_delete: asked.max_delete,
            keep: asked.keep,
            keep_max: asked.keep_max,
            keep_free: asked.keep_free,
            conflict: asked.conflict,
            jobs: asked.jobs,
            verbosity: asked.verbosity,
            ..running.clone()
        };
        exclude = patterns.clone();
        Ok(Reread {
            rules: open::rules(patterns, &running),
            interval: running.interval,
            debounce: running.debounce,
            max_delay: running.max_delay,
            verbosity: running.verbosity,
            changed,
            for_a_restart,
            warnings: args.config.as_deref().and_then(config::untrusted).into_iter().collect(),
        })
    })))
}

fn read(args: &WatchArgs, own: &[RelPath]) -> Result<(Settings, Exclude), Refusal> {
    if let Some(path) = args.config.clone().filter(|path| is_read_once(path)) {
        return Err(ConfigError::ReadOnce { path }.into());
    }
    let settings = Settings::for_watch(args)?;
    if let Some(path) = settings.exclude_from.iter().find(|path| is_read_once(path)) {
        let reason = "it is no regular file, and cannot be read again".into();
        return Err(Refusal::Patterns { path: path.clone(), reason });
    }
    let mut exclude = open::patterns(&settings)?;
    own.iter().cloned().for_each(|path| exclude.add_own(path));
    Ok((settings, exclude))
}

/// Whether a file can be read but once: what a shell hands over through a pipe is empty the second time, which would be an
/// order of its own.
pub(super) fn is_read_once(path: &Path) -> bool {
    let null = rustix::fs::makedev(1, 3);
    fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir() && file.rdev() != null)
}

/// What has changed and is applied, in words, and the keys of what has changed and is not.
fn differences(before: &[Row], now: &[Row]) -> (Vec<String>, Vec<&'static str>) {
    let pairs = before.iter().zip(now).filter(|(before, now)| before.value != now.value);
    let (at_once, others): (Vec<_>, Vec<_>) =
        pairs.filter(|(row, _)| !PATTERNS.contains(&row.key)).partition(|(row, _)| AT_ONCE.contains(&row.key));
    let words = |(before, now): (&Row, &Row)| format!("{} {} -> {}", now.key, before.value, now.value);
    (at_once.into_iter().map(words).collect(), others.into_iter().map(|(row, _)| row.key).collect())
}

fn other_patterns(before: &[String], now: &[String]) -> Option<String> {
    if before == now {
        return None;
    }
    let but = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).map(|line| quoted(line.as_bytes())).collect()
    };
    let mut words = Vec::new();
    for (what, patterns) in [("with", but(now, before)), ("without", but(before, now))] {
        if !patterns.is_empty() {
            let more = patterns.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            words.push(format!("{what} {}{more}", patterns[..patterns.len().min(NAMED)].join(", ")));
        }
    }
    let words = if words.is_empty() { "in another order".into() } else { words.join(", ") };
    Some(format!("exclude {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_come_and_go_are_named_as_far_as_they_are_few() {
        let lines = |text: &str| -> Vec<String> { text.split_whitespace().map(String::from).collect() };
        let table = [
            ("a b", "a b", None),
            ("a", "a b", Some("exclude with 'b'")),
            ("a b", "b", Some("exclude without 'a'")),
            ("a b", "b c", Some("exclude with 'c', without 'a'")),
            ("a b", "b a", Some("exclude in another order")),
            ("", "1 2 3 4 5 6 7", Some("exclude with '1', '2', '3', '4', '5' and 2 more")),
        ];
        for (before, now, words) in table {
            assert_eq!(other_patterns(&lines(before), &lines(now)).as_deref(), words);
        }
    }
}
