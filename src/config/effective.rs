//! Owns the settings in words: each under its key, with its value as a person writes it, and where it comes from. It
//! checks nothing.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use super::file::KEYS;
use super::{ConfigError, LOG_FILE, Settings, pair_name, rate_in_words, shown, state_dir};
use crate::cli::WatchArgs;
use crate::plan::keep;
use crate::tree::quote::quoted;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: &'static str,
    pub value: String,
    /// The line of the file that says so; `None` for what nobody said.
    pub line: Option<usize>,
}

/// A configuration file that can be used, as far as it can be told without looking at the folders.
#[derive(Debug)]
pub struct Checked {
    pub settings: Settings,
    pub rows: Vec<Row>,
}

/// Reads a configuration file as `watch --config` would.
///
/// # Errors
/// As of [`Settings::for_watch`].
pub fn check(path: &Path) -> Result<Checked, ConfigError> {
    let (settings, file) = Settings::watching(&WatchArgs { config: Some(path.into()), ..WatchArgs::default() })?;
    let mut rows = rows(&settings);
    for row in &mut rows {
        row.line = file.lines.get(row.key).copied();
    }
    Ok(Checked { settings, rows })
}

/// The settings of `watch`, by their keys.
pub fn rows(settings: &Settings) -> Vec<Row> {
    KEYS.iter().map(|(key, _)| Row { key, value: value(key, settings), line: None }).collect()
}

fn value(key: &str, settings: &Settings) -> String {
    let yes = |is_so: bool| is_so.to_string();
    match key {
        "source" => shown(&settings.source),
        "replica" => shown(&settings.replica),
        "name" => settings.name.clone().unwrap_or_else(|| pair_name(&settings.source, &settings.replica)),
        "control" => match &settings.control {
            Some(path) => shown(path),
            None => "NAME.sock in the runtime folder".into(),
        },
        "interval" => time(settings.interval),
        "debounce" => time(settings.debounce),
        "max_delay" => time(settings.max_delay),
        "exclude" => all(settings.exclude.iter().map(|pattern| quoted(pattern.as_bytes()))),
        "exclude_from" => all(settings.exclude_from.iter().map(|path| shown(path))),
        "checksum" => yes(settings.checksum),
        "one_file_system" => yes(settings.one_file_system),
        "max_delete" => format!("{}%", settings.max_delete),
        "durability" => word(settings.durability),
        "keep_versions" => settings.keep.to_string(),
        "keep_max" => settings.keep_max.map_or_else(|| "none".into(), keep::size),
        "keep_free" => settings.keep_free.map_or_else(|| "none".into(), |room| room.to_string()),
        "two_way" => yes(settings.two_way),
        "conflict" => word(settings.conflict),
        "progress" => word(settings.progress),
        "jobs" => settings.jobs.to_string(),
        "log_file" => match &settings.log_file {
            Some(path) if state_dir().is_ok_and(|state| *path == state.join(LOG_FILE)) => {
                format!("{LOG_FILE} in the state folder")
            }
            Some(path) => shown(path),
            None => "none".into(),
        },
        "scrub_every" => settings.scrub_every.map_or_else(|| "never".into(), time),
        "scrub_rate" => rate_in_words(settings.scrub_rate),
        "metrics" => settings.metrics.as_deref().map_or_else(|| "none".into(), shown),
        "metrics_listen" => settings.metrics_listen.map_or_else(|| "none".into(), |address| address.to_string()),
        "quiet" => yes(settings.verbosity < 0),
        "verbose" => settings.verbosity.max(0).to_string(),
        _ => String::new(),
    }
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn all(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    if values.is_empty() { "none".into() } else { values.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_setting_has_a_value_and_says_where_it_comes_from() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        let text =
            "source = '/s'\nreplica = '/r'\n\nsync_interval = '90 min'\nexclude = ['*.a', \"b\\n\"]\nlog = '/l'\n";
        fs::write(&path, text).expect("written");
        let rows = check(&path).expect("usable").rows;
        let of = |key| rows.iter().find(|row| row.key == key).map(|row| (row.value.as_str(), row.line));
        assert!(rows.iter().all(|row| !row.value.is_empty()), "{rows:?}");
        assert_eq!(of("interval"), Some(("1h 30m", Some(4))));
        assert_eq!(of("debounce"), Some(("100ms", None)));
        assert_eq!(of("exclude"), Some(("'*.a', 'b\\n'", Some(5))));
        assert_eq!(of("log_file"), Some(("'/l'", Some(6))));
        assert_eq!(of("max_delete"), Some(("50%", None)));
        assert_eq!(of("durability"), Some(("batch", None)));
    }
}
