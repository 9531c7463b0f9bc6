//! Owns the configuration file's form: TOML, one pair of folders to a file, the options' names with underscores. It
//! refuses what it does not know, each thing with its key and its line, and fills in no default.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::text::{LONGEST_CONFIGURATION, read_text};
use super::value::{self, Value, Wrong};
use super::words::{
    Bound, parse_address, parse_duration, parse_interval, parse_jobs, parse_keep, parse_keep_free, parse_keep_max,
    parse_max_delay, parse_name, parse_percent, parse_rate,
};
use super::{ConfigError, Conflict, Durability, Shown};
use crate::plan::keep::{Policy, Room};
use crate::tree::quote::escaped;

/// The keys, in the order in which they are explained, and other names of each.
pub const KEYS: [(&str, &[&str]); 27] = [
    ("source", &[]),
    ("replica", &[]),
    ("name", &[]),
    ("control", &[]),
    ("interval", &["sync_interval"]),
    ("debounce", &[]),
    ("max_delay", &[]),
    ("exclude", &[]),
    ("exclude_from", &[]),
    ("checksum", &[]),
    ("one_file_system", &[]),
    ("max_delete", &[]),
    ("durability", &[]),
    ("keep_versions", &["keep"]),
    ("keep_max", &[]),
    ("keep_free", &[]),
    ("two_way", &[]),
    ("conflict", &[]),
    ("jobs", &[]),
    ("scrub_every", &[]),
    ("scrub_rate", &[]),
    ("metrics", &[]),
    ("metrics_listen", &[]),
    ("log_file", &["log", "log_path"]),
    ("progress", &[]),
    ("quiet", &[]),
    ("verbose", &[]),
];

/// Options of `watch` that no file may have: said once and for ever, they would protect nothing.
const NOT_IN_A_FILE: [&str; 2] = ["accept_root", "config"];

const RATE: &str = "bytes a second, as in \"20MB/s\"";
const TIME: &str = "a length of time, as in \"10m\" or \"1h 30m\"";

/// What the file says, checked; what it is silent about is `None`.
#[derive(Debug, Default)]
pub struct FileConfig {
    pub source: Option<PathBuf>,
    pub replica: Option<PathBuf>,
    pub name: Option<String>,
    pub control: Option<PathBuf>,
    pub interval: Option<Duration>,
    pub debounce: Option<Duration>,
    pub max_delay: Option<Duration>,
    pub exclude: Option<Vec<String>>,
    pub exclude_from: Option<Vec<PathBuf>>,
    pub checksum: Option<bool>,
    pub one_file_system: Option<bool>,
    pub max_delete: Option<f64>,
    pub durability: Option<Durability>,
    pub keep_versions: Option<Policy>,
    pub keep_max: Option<Bound<u64>>,
    pub keep_free: Option<Bound<Room>>,
    pub two_way: Option<bool>,
    pub conflict: Option<Conflict>,
    pub jobs: Option<usize>,
    pub scrub_every: Option<Duration>,
    pub scrub_rate: Option<u64>,
    pub metrics: Option<PathBuf>,
    pub metrics_listen: Option<SocketAddr>,
    pub log_file: Option<PathBuf>,
    pub progress: Option<Shown>,
    pub quiet: Option<bool>,
    pub verbose: Option<u8>,
    /// Where each key stands, by line.
    pub lines: BTreeMap<&'static str, usize>,
}

impl FileConfig {
    /// # Errors
    /// It cannot be read, is no TOML, or says something unknown or unusable.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = read_text(path, LONGEST_CONFIGURATION).map_err(|source| match source.kind() {
            ErrorKind::IsADirectory => ConfigError::Folder { path: path.into() },
            _ => ConfigError::Unreadable { path: path.into(), source },
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let place = error.utf8_error().valid_up_to();
                let bytes = error.as_bytes();
                let message = if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                    "the file is UTF-16; save it as UTF-8"
                } else {
                    "not UTF-8, which a TOML file is; a path that is not UTF-8 can be reached by a symbolic link"
                };
                Err(refusal(path, line_of(bytes, place), message))
            }
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        // What follows on a line from something wrong there tells nothing new.
        let place = |e: &toml::de::Error| line_of(text.as_bytes(), e.span().map_or(0, |span| span.start));
        let by_line: BTreeMap<usize, &str> = errors.iter().rev().map(|e| (place(e), e.message())).collect();
        let wrong = by_line.into_iter().map(|(line, message)| refusal(path, line, &syntax(text, line, message)));
        if let Some(error) = ConfigError::all(wrong) {
            return Err(error);
        }
        let mut keys = Keys { text, given: BTreeMap::new(), wrong: Vec::new() };
        keys.sort_in(table.into_inner());
        let mut config = Self {
            source: keys.take("source", value::folder),
            replica: keys.take("replica", value::folder),
            name: keys.take("name", |v| value::word(v, "a name, as in \"photos\"", parse_name)),
            control: keys.take("control", value::path),
            interval: keys.take("interval", |v| value::word(v, TIME, parse_interval)),
            debounce: keys.take("debounce", |v| value::word(v, TIME, parse_duration)),
            max_delay: keys.take("max_delay", |v| value::word(v, TIME, parse_max_delay)),
            exclude: keys.take("exclude", |v| value::list(v, "a list of patterns, as in [\"*.tmp\"]", value::pattern)),
            exclude_from: keys
                .take("exclude_from", |v| value::list(v, "a list of files, as in [\"/etc/patterns\"]", value::path)),
            checksum: keys.take("checksum", value::flag),
            one_file_system: keys.take("one_file_system", value::flag),
            max_delete: keys.take("max_delete", |v| value::word(v, "a percentage, as in \"50%\"", parse_percent)),
            durability: keys.take("durability", value::one_of::<Durability>),
            keep_versions: keys.take("keep_versions", |v| {
                value::word(v, "how long, as in \"30d\" or \"1h: all, 1d: hourly, 30d: daily\"", parse_keep)
            }),
            keep_max: keys.take("keep_max", |v| value::word(v, "a size, as in \"10GB\"", parse_keep_max)),
            keep_free: keys.take("keep_free", |v| {
                value::word(v, "a size or a percentage, as in \"5GB\" or \"10%\"", parse_keep_free)
            }),
            two_way: keys.take("two_way", value::flag),
            conflict: keys.take("conflict", value::one_of::<Conflict>),
            jobs: keys.take("jobs", |v| value::word(v, "a number of threads, as in 4", parse_jobs)),
            scrub_every: keys.take("scrub_every", |v| value::word(v, TIME, parse_duration)),
            scrub_rate: keys.take("scrub_rate", |v| value::word(v, RATE, parse_rate)),
            metrics: keys.take("metrics", value::path),
            metrics_listen: keys
                .take("metrics_listen", |v| value::word(v, "an address, as in \"127.0.0.1:9494\"", parse_address)),
            log_file: keys.take("log_file", value::path),
            progress: keys.take("progress", value::one_of::<Shown>),
            quiet: keys.take("quiet", value::flag),
            verbose: keys.take("verbose", |v| value::word(v, "a number: 0, 1 or more", value::small)),
            lines: BTreeMap::new(),
        };
        config.lines = keys.given.iter().map(|(key, (at, _))| (*key, line_of(text.as_bytes(), *at))).collect();
        if config.quiet == Some(true) && config.verbose.is_some_and(|level| level > 0) {
            keys.refuse("verbose", "`quiet` and `verbose` exclude each other");
        }
        keys.wrong.sort();
        let wrong = keys.wrong.into_iter().map(|(at, message)| {
            let line = line_of(text.as_bytes(), at);
            refusal(path, line, &message)
        });
        ConfigError::all(wrong).map_or(Ok(config), Err)
    }
}

/// What the file has under which key, and what is wrong with it.
struct Keys<'a> {
    text: &'a str,
    /// Where the key stands, and what it has.
    given: BTreeMap<&'static str, (usize, Value<'a>)>,
    wrong: Vec<(usize, String)>,
}

impl<'a> Keys<'a> {
    fn sort_in(&mut self, table: DeTable<'a>) {
        // As they stand in the file, so that of two names of one key the later is refused.
        let mut table: Vec<(Spanned<_>, Value)> = table.into_iter().collect();
        table.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in table {
            let (at, written) = (key.span().start, key.into_inner());
            let known = KEYS.iter().find(|(name, others)| *name == written || others.contains(&&*written));
            let Some((name, _)) = known else {
                self.wrong.push((at, unknown(&written, &value)));
                continue;
            };
            if let Some((before, _)) = self.given.get(name) {
                let line = line_of(self.text.as_bytes(), *before);
                let reason = if written == *name {
                    format!("`{written}` stands in line {line} already, under another name")
                } else {
                    format!("`{written}` is another name of `{name}`, which line {line} has already")
                };
                self.wrong.push((at, reason));
            } else {
                self.given.insert(name, (at, value));
            }
        }
    }

    fn take<T>(&mut self, key: &'static str, read: impl FnOnce(&Value) -> Result<T, Wrong>) -> Option<T> {
        let (_, value) = self.given.get(key)?;
        match read(value) {
            Ok(value) => Some(value),
            Err(Wrong { at, reason }) => {
                self.wrong.push((at, format!("`{key}`: {reason}")));
                None
            }
        }
    }

    fn refuse(&mut self, key: &'static str, reason: &str) {
        let at = self.given.get(key).map_or(0, |(at, _)| *at);
        self.wrong.push((at, format!("`{key}`: {reason}")));
    }
}

/// What to say of a line that is no TOML, with the key that it seems to be about.
fn syntax(text: &str, line: usize, message: &str) -> String {
    let message = message.strip_suffix(", expected literal string").unwrap_or(message);
    let line = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let is_key =
        |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match key.filter(is_key) {
        Some(key) => format!("`{key}`: {message}"),
        None => message.to_string(),
    }
}

/// What to say of a key that there is not.
fn unknown(written: &str, value: &Value) -> String {
    let name = written.replace('-', "_");
    if name == "pairs" {
        return format!("`{written}` is for the command line only: a configuration file has one pair of folders");
    }
    if NOT_IN_A_FILE.contains(&name.as_str()) {
        return format!("`{written}` is for the command line only");
    }
    let names = || KEYS.iter().flat_map(|(name, others)| [*name].into_iter().chain(others.iter().copied()));
    let near = names().map(|known| (strsim::osa_distance(&name.to_lowercase(), known), known)).min();
    match near {
        Some((distance, known)) if distance <= (known.len() / 3).clamp(1, 2) => {
            format!("unknown key `{written}`; did you mean `{known}`?")
        }
        _ if value::is_table(value) => {
            format!("unknown section `{written}`: the keys stand in no section, and a file has one pair of folders")
        }
        _ => {
            let all: Vec<String> = KEYS.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("unknown key `{written}`; the keys are {}", all.join(", "))
        }
    }
}

fn refusal(path: &Path, line: usize, message: &str) -> ConfigError {
    let message = message.lines().map(escaped).collect::<Vec<_>>().join(", ");
    ConfigError::Invalid { path: path.into(), line, message }
}

/// The line, from 1, that the byte at `at` stands in.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What is said of the text of a file, a line each.
    fn said(text: &str) -> Vec<String> {
        FileConfig::parse(Path::new("f"), text).expect_err(text).each()
    }

    #[test]
    fn unknown_keys_are_told_from_slips_of_the_pen() {
        let table = [
            ("intervall = 5", "unknown key `intervall`; did you mean `interval`?"),
            ("Interval = 5", "unknown key `Interval`; did you mean `interval`?"),
            ("max-delete = 5", "unknown key `max-delete`; did you mean `max_delete`?"),
            ("excludes = []", "unknown key `excludes`; did you mean `exclude`?"),
            ("sorce = '/a'", "unknown key `sorce`; did you mean `source`?"),
            ("accept-root = true", "`accept-root` is for the command line only"),
            ("pairs = '/etc/pairs'", "`pairs` is for the command line only: a configuration file has one pair"),
            ("[pair]\nsource = '/a'", "unknown section `pair`: the keys stand in no section"),
            ("colour = 'red'", "unknown key `colour`; the keys are `source`, `replica`, `name`,"),
            (
                "interval = 1\nsync_interval = 2",
                "line 2: `sync_interval` is another name of `interval`, which line 1 has",
            ),
            ("interval = 1\ninterval = 2", "line 2: `interval`: duplicate key"),
            ("source = /a", "line 1: `source`: string values must be quoted"),
        ];
        for (text, message) in table {
            let said = said(text);
            assert!(said.len() == 1 && said[0].contains(message), "{text}: {said:?}");
        }
    }

    #[test]
    fn what_a_key_takes_is_said_where_it_has_something_else() {
        let table = [
            (
                "interval = true",
                "`interval`: takes a length of time, as in \"10m\" or \"1h 30m\", and not true or false",
            ),
            ("interval = []", "`interval`: takes a length of time, as in \"10m\" or \"1h 30m\", and not a list"),
            ("interval = '10 parsecs'", "write it as"),
            ("exclude = 'x'", "`exclude`: takes a list of patterns, as in [\"*.tmp\"], and not a text"),
            ("exclude = ['a', 5]", "`exclude`: takes a text, and not a number"),
            ("exclude = ['a', 'b[c']", "line 1: `exclude`: bad pattern 'b[c'"),
            ("exclude_from = ['/a', 'b']", "`exclude_from`: 'b' is not an absolute path"),
            ("checksum = 'yes'", "`checksum`: takes true or false, and not a text"),
            ("checksum = 1", "`checksum`: takes true or false, and not a number"),
            ("source = 5", "`source`: takes a path, as in \"/home/user/photos\", and not a number"),
            ("durability = 'full'", "`durability`: must be \"batch\" or \"none\""),
            ("jobs = 0x0", "`jobs`: must be a number from 1 to 256"),
            ("jobs = 1.5", "`jobs`: must be a number from 1 to 256"),
            ("verbose = true", "`verbose`: takes a number: 0, 1 or more, and not true or false"),
            ("verbose = 300", "`verbose`: must be a number from 0 to 255"),
            ("name = 1979-05-27", "`name`: takes a name, as in \"photos\", and not a date"),
            ("name.x = 1", "`name`: takes a name, as in \"photos\", and not a section"),
        ];
        for (text, message) in table {
            let said = said(text);
            assert!(said.len() == 1 && said[0].contains(message), "{text}: {said:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_in_order() {
        assert_eq!(said("jobs = \nname = = 4\nquiet = true\n").len(), 2);
        let said =
            said("source = '~/a'\n\ninterval = true\r\nintervall = 1\nreplica = '/b'\nexclude = [\n 'a',\n 5,\n]\n");
        let lines: Vec<&str> = said.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(lines, ["'f', line 1", "'f', line 3", "'f', line 4", "'f', line 8"], "{said:?}");
    }

    #[test]
    fn files_from_elsewhere_are_read_or_refused_with_a_reason() {
        let config =
            FileConfig::parse(Path::new("f"), "\u{feff}source = '/a'\r\n# x\r\njobs = 1_0\r\n").expect("usable");
        assert_eq!((config.source, config.jobs), (Some("/a".into()), Some(10)));
        assert_eq!(config.lines, BTreeMap::from([("source", 1), ("jobs", 3)]));
        assert!(FileConfig::parse(Path::new("f"), "").expect("usable").lines.is_empty());
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        for (bytes, message) in [
            (&b"jobs = 1\nsource = '/a\xff'"[..], "line 2: not UTF-8, which a TOML file is"),
            (&b"\xff\xfej\0"[..], "line 1: the file is UTF-16; save it as UTF-8"),
        ] {
            fs::write(&path, bytes).expect("written");
            let error = FileConfig::read(&path).expect_err("not UTF-8").to_string();
            assert!(error.contains(message), "{error}");
        }
        let error = FileConfig::read(folder.path()).expect_err("a folder").to_string();
        assert!(error.ends_with("is a folder, and not a file"), "{error}");
    }

    /// Lines that look like a configuration, with values that need not fit.
    fn line() -> impl Strategy<Value = String> {
        let keys: Vec<&str> =
            KEYS.iter().flat_map(|(name, others)| [*name].into_iter().chain(others.to_vec())).collect();
        let keys: Vec<&str> = keys.into_iter().chain(["unknown", "[a]\nb", "source.x"]).collect();
        let value = prop_oneof![
            Just("\"/a\"".to_string()),
            Just("[\"~/a\", \"\\u0000\"]".to_string()),
            Just("1e400".to_string()),
            Just("-9223372036854775808".to_string()),
            Just("99999999999999999999999".to_string()),
            Just("{ a = 1 }".to_string()),
            "\"[ -~]{0,9}\"",
            "[-+0-9a-z.]{1,9}",
        ];
        (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}"))
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_each_refusal_names_a_line_of_it(
            text in prop_oneof![any::<String>(), prop::collection::vec(line(), 0..5).prop_map(|lines| lines.join("\n"))],
        ) {
            match FileConfig::parse(Path::new("f.toml"), &text) {
                Ok(config) => prop_assert!(config.source.is_none_or(|path| path.is_absolute())),
                Err(error) => for said in error.each() {
                    let line = said.strip_prefix("'f.toml', line ").and_then(|rest| rest.split(':').next());
                    let line: usize = line.and_then(|line| line.parse().ok()).expect("a line");
                    prop_assert!((1..=1 + text.matches('\n').count()).contains(&line), "line {line}");
                    prop_assert!(!said.contains('\n'), "{said}");
                },
            }
        }
    }
}
