//! Owns the configuration file's form: TOML, one pair of folders to a file, the options' names with underscores. It
//! refuses what it does not know, with the key and the line, and fills in no default.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::words::{parse_duration, parse_interval, parse_jobs, parse_max_delay, parse_name, parse_percent};
use super::{ConfigError, Durability, shown};
use crate::tree::quote::escaped;

/// What the file says, checked; what it is silent about is `None`, false or empty.
#[derive(Debug, Default)]
pub struct FileConfig {
    pub source: Option<PathBuf>,
    pub replica: Option<PathBuf>,
    pub interval: Option<Duration>,
    pub debounce: Option<Duration>,
    pub max_delay: Option<Duration>,
    pub log_file: Option<PathBuf>,
    pub exclude: Vec<String>,
    pub exclude_from: Vec<PathBuf>,
    pub checksum: bool,
    pub jobs: Option<usize>,
    pub max_delete: Option<f64>,
    pub durability: Option<Durability>,
    pub one_file_system: bool,
    pub quiet: bool,
    pub verbose: u8,
    pub control: Option<PathBuf>,
    pub name: Option<String>,
}

/// The same as it is written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    source: Option<Spanned<PathBuf>>,
    replica: Option<Spanned<PathBuf>>,
    #[serde(alias = "sync_interval")]
    interval: Option<Spanned<Word>>,
    debounce: Option<Spanned<Word>>,
    max_delay: Option<Spanned<Word>>,
    #[serde(alias = "log", alias = "log_path")]
    log_file: Option<Spanned<PathBuf>>,
    exclude: Vec<String>,
    exclude_from: Vec<Spanned<PathBuf>>,
    checksum: bool,
    jobs: Option<Spanned<Word>>,
    max_delete: Option<Spanned<Word>>,
    durability: Option<Durability>,
    one_file_system: bool,
    quiet: bool,
    verbose: Option<Spanned<u8>>,
    control: Option<Spanned<PathBuf>>,
    name: Option<Spanned<Word>>,
}

impl FileConfig {
    /// # Errors
    /// It cannot be read, is no TOML, or says something unknown or unusable.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let written: Written =
            toml::from_str(text).map_err(|e| place.refuse(e.span().unwrap_or_default(), e.message()))?;
        place.check(written)
    }
}

/// A file and its text, to say where in it something is.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn check(&self, written: Written) -> Result<FileConfig, ConfigError> {
        let verbose = written.verbose.map_or(Ok(0), |level| match (written.quiet, *level.get_ref()) {
            (true, 1..) => Err(self.refuse(level.span(), "`verbose` and `quiet` exclude each other")),
            (_, level) => Ok(level),
        })?;
        let exclude_from = written.exclude_from.into_iter().map(|path| self.path("exclude_from", path));
        Ok(FileConfig {
            source: written.source.map(|path| self.path("source", path)).transpose()?,
            replica: written.replica.map(|path| self.path("replica", path)).transpose()?,
            interval: self.word("interval", written.interval, parse_interval)?,
            debounce: self.word("debounce", written.debounce, parse_duration)?,
            max_delay: self.word("max_delay", written.max_delay, parse_max_delay)?,
            log_file: written.log_file.map(|path| self.path("log_file", path)).transpose()?,
            exclude: written.exclude,
            exclude_from: exclude_from.collect::<Result<_, _>>()?,
            checksum: written.checksum,
            jobs: self.word("jobs", written.jobs, parse_jobs)?,
            max_delete: self.word("max_delete", written.max_delete, parse_percent)?,
            durability: written.durability,
            one_file_system: written.one_file_system,
            quiet: written.quiet,
            verbose,
            control: written.control.map(|path| self.path("control", path)).transpose()?,
            name: self.word("name", written.name, parse_name)?,
        })
    }

    /// A service has no folder and no home of the person's that a path could be relative to.
    fn path(&self, key: &str, written: Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        let (span, path) = (written.span(), written.into_inner());
        if path.is_absolute() {
            Ok(path)
        } else if path.as_os_str().as_encoded_bytes().starts_with(b"~") {
            Err(self.refuse(span, &format!("`{key}`: `~` is not expanded here; write the whole path")))
        } else {
            Err(self.refuse(span, &format!("`{key}`: {} is not an absolute path", shown(&path))))
        }
    }

    fn word<T>(
        &self,
        key: &str,
        written: Option<Spanned<Word>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(word) = written else { return Ok(None) };
        match parse(&word.get_ref().0) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(self.refuse(word.span(), &format!("`{key}`: {reason}"))),
        }
    }

    fn refuse(&self, span: Range<usize>, message: &str) -> ConfigError {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        let message = message.lines().map(escaped).collect::<Vec<_>>().join(", ");
        ConfigError::Invalid { path: self.path.into(), line, message }
    }
}

/// A text or a number, as it would be written on the command line.
#[derive(Debug)]
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        from.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that look like a configuration, with values that need not fit.
    fn line() -> impl Strategy<Value = String> {
        let keys = [
            "source",
            "replica",
            "interval",
            "debounce",
            "max_delay",
            "log",
            "exclude",
            "exclude_from",
            "jobs",
            "max_delete",
            "durability",
            "verbose",
            "quiet",
            "name",
            "control",
            "unknown",
        ];
        let value = prop_oneof![
            Just("\"/a\"".to_string()),
            Just("[\"~/a\", \"\\u0000\"]".to_string()),
            Just("1e400".to_string()),
            Just("-9223372036854775808".to_string()),
            Just("{ a = 1 }".to_string()),
            "\"[ -~]{0,9}\"",
            "[-+0-9a-z.]{1,9}",
        ];
        (prop::sample::select(keys.to_vec()), value).prop_map(|(key, value)| format!("{key} = {value}"))
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_a_refusal_names_a_line_of_it(
            text in prop_oneof![any::<String>(), prop::collection::vec(line(), 0..5).prop_map(|lines| lines.join("\n"))],
        ) {
            match FileConfig::parse(Path::new("f.toml"), &text) {
                Ok(config) => prop_assert!(config.source.is_none_or(|path| path.is_absolute())),
                Err(ConfigError::Invalid { line, message, .. }) => {
                    prop_assert!((1..=1 + text.matches('\n').count()).contains(&line), "line {line}");
                    prop_assert!(!message.contains('\n'), "{message}");
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
