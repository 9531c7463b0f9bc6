//! Owns what the person asked for: command line, configuration file and defaults together, checked and resolved. Each
//! layer is given its own small part of it; none sees it whole. It opens no folder and starts nothing.

mod effective;
mod file;
mod pairs;
mod state;
mod text;
mod trust;
mod value;
mod when;
mod words;

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::cli::{CopyOptions, KeepOptions, OutputOptions, ReadOptions, ScrubArgs, SyncArgs, VerifyArgs, WatchArgs};
use crate::plan::conflict::Policy;
use crate::plan::keep;
use crate::tree::identity::Side;
use crate::tree::quote::{escaped, quoted};
use crate::tree::tag::Tag;

pub use effective::{Checked, Row, check, rows};
use file::FileConfig;
pub use pairs::{NamedPair, read_pairs};
pub use state::{make_state_dir, pair_name, state_dir};
pub use text::{LONGEST_PATTERNS, read_text};
pub use trust::untrusted;
pub use value::unexpanded;
pub use when::{parse_since, parse_when};
pub use words::{
    Bound, parse_address, parse_duration, parse_interval, parse_jobs, parse_keep, parse_keep_free, parse_keep_max,
    parse_max_delay, parse_name, parse_percent, parse_rate, rate_in_words,
};

/// Everything that was asked for, with its defaults. Paths are absolute; the folders may be named by their filesystems.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub source: PathBuf,
    pub replica: PathBuf,
    pub interval: Duration,
    pub debounce: Duration,
    pub max_delay: Duration,
    pub log_file: Option<PathBuf>,
    /// In the order in which they count: the file's first, so that the command line's win.
    pub exclude: Vec<String>,
    pub exclude_from: Vec<PathBuf>,
    pub checksum: bool,
    pub dry_run: bool,
    pub jobs: usize,
    /// In percent, 0 to 100.
    pub max_delete: f64,
    pub durability: Durability,
    /// For how long what the replica loses is kept.
    pub keep: keep::Policy,
    /// As many bytes may it take.
    pub keep_max: Option<u64>,
    /// For so much room on the replica's disk is it given up early.
    pub keep_free: Option<keep::Room>,
    /// Both folders are worked in.
    pub two_way: bool,
    pub conflict: Conflict,
    pub one_file_system: bool,
    /// 0 is normal, -1 quiet, 1 and above verbose.
    pub verbosity: i8,
    pub control: Option<PathBuf>,
    pub name: Option<String>,
    /// The file for node_exporter, and where scrapers are answered.
    pub metrics: Option<PathBuf>,
    pub metrics_listen: Option<SocketAddr>,
    /// From the begin of one scrub to the begin of the next, in the service; none without it.
    pub scrub_every: Option<Duration>,
    /// Bytes a second.
    pub scrub_rate: u64,
    pub progress: Shown,
    /// Deletions that would be held happen.
    pub release: bool,
    /// The folders are what is meant, whatever they were before.
    pub accept_root: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Contents are on disk before they are published
    #[default]
    Batch,
    /// The system decides when; a power cut can leave empty files
    None,
}

/// What becomes of a file that both sides have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Conflict {
    /// The newer version keeps the name, the other one stays under another name
    #[default]
    KeepBoth,
    /// The newer version stays
    Newer,
    /// The source's version stays
    Source,
    /// The replica's version stays
    Replica,
}

impl From<Conflict> for Policy {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::KeepBoth => Policy::KeepBoth,
            Conflict::Newer => Policy::Newer,
            Conflict::Source => Policy::Prefer(Side::Source),
            Conflict::Replica => Policy::Prefer(Side::Replica),
        }
    }
}

/// The name of a service's log in the state folder.
const LOG_FILE: &str = "driftless.log";

/// When a progress bar is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shown {
    /// On a terminal, during sweeps that take longer than half a second
    #[default]
    Auto,
    /// From the beginning of each sweep; where there is no terminal, as a line every ten seconds
    Always,
    /// Not at all
    Never,
}

/// What is wrong with what was asked for, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {}", shown(path), reason(source))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {message}", shown(path))]
    Invalid { path: PathBuf, line: usize, message: String },
    #[error("the configuration file {} is a folder, and not a file", shown(path))]
    Folder { path: PathBuf },
    #[error("the configuration file {} is no regular file: it cannot be read again", shown(path))]
    ReadOnce { path: PathBuf },
    #[error("{}: the key `{key}` is missing", shown(path))]
    Missing { path: PathBuf, key: &'static str },
    #[error("{}", self.each().join("; "))]
    Several(Vec<ConfigError>),
    #[error("--max-delay ({}) must not be shorter than --debounce ({})", spoken(*max_delay), spoken(*debounce))]
    DelayBelowDebounce { debounce: Duration, max_delay: Duration },
    #[error("--conflict goes with --two-way or --pairs: where only the source is worked in, there are no conflicts")]
    NoConflicts,
    #[error("{option} goes with --keep-versions: without it, nothing is kept")]
    NothingKept { option: &'static str },
    #[error("cannot read the file of pairs {}: {}", shown(path), reason(source))]
    PairsUnreadable { path: PathBuf, source: io::Error },
    #[error("{option} is for one pair of folders, and {} has {count}", shown(path))]
    OnePairOnly { option: &'static str, path: PathBuf, count: usize },
    #[error("{} cannot be used as a path: {}", shown(path), reason(source))]
    BadPath { path: PathBuf, source: io::Error },
    #[error("{} {reason}", shown(path))]
    BadName { path: PathBuf, reason: String },
    #[error(
        "no place for the state: none of STATE_DIRECTORY, XDG_STATE_HOME and HOME names a folder by its whole path; set one"
    )]
    NoStateFolder,
    #[error("cannot make the state folder {}: {}", shown(path), reason(source))]
    StateFolder { path: PathBuf, source: io::Error },
}

impl ConfigError {
    /// All that is wrong, as one.
    pub fn all(errors: impl Iterator<Item = Self>) -> Option<Self> {
        let mut errors: Vec<Self> = errors.collect();
        if errors.len() > 1 { Some(Self::Several(errors)) } else { errors.pop() }
    }

    /// Each thing that is wrong, in a sentence of its own.
    pub fn each(&self) -> Vec<String> {
        match self {
            Self::Several(errors) => errors.iter().flat_map(Self::each).collect(),
            one => vec![one.to_string()],
        }
    }
}

impl Settings {
    /// # Errors
    /// A path that cannot be made absolute.
    pub fn for_sync(args: &SyncArgs) -> Result<Self, ConfigError> {
        let mut settings = match (&args.source, &args.replica) {
            (Some(source), Some(replica)) => Self::of(source, replica)?,
            // The command line's definition requires both, or a file of pairs, of which one is put here.
            _ => return Err(ConfigError::Missing { path: "command line".into(), key: "replica" }),
        };
        settings.take_copying(&args.copying)?;
        settings.take_keeping(&args.keeping)?;
        settings.take_reading(&args.reading)?;
        settings.take_output(&args.output);
        settings.log_file = args.logging.log_file.as_deref().map(absolute).transpose()?;
        settings.dry_run = args.dry_run;
        settings.release = args.release;
        settings.progress = args.progress.progress.unwrap_or_default();
        Ok(settings)
    }

    /// Reads the configuration file, where there is one: call it again to reload.
    ///
    /// # Errors
    /// The file cannot be read or used, what is asked for contradicts itself, or there is no place for the log.
    pub fn for_watch(args: &WatchArgs) -> Result<Self, ConfigError> {
        Ok(Self::watching(args)?.0)
    }

    /// The same, with the file that it came from.
    fn watching(args: &WatchArgs) -> Result<(Self, FileConfig), ConfigError> {
        let (mut settings, file) = match (&args.config, &args.source, &args.replica) {
            (Some(path), ..) => {
                let file = FileConfig::read(path)?;
                let missing = |key| ConfigError::Missing { path: path.clone(), key };
                match (&file.source, &file.replica) {
                    (Some(source), Some(replica)) => (Self::of(source, replica)?, file),
                    (None, Some(_)) => return Err(missing("source")),
                    (Some(_), None) => return Err(missing("replica")),
                    (None, None) => return Err(ConfigError::Several(vec![missing("source"), missing("replica")])),
                }
            }
            (None, Some(source), Some(replica)) => (Self::of(source, replica)?, FileConfig::default()),
            // The command line's definition requires both.
            (None, ..) => return Err(ConfigError::Missing { path: "command line".into(), key: "replica" }),
        };
        settings.interval = args.interval.or(file.interval).unwrap_or(settings.interval);
        settings.debounce = args.debounce.or(file.debounce).unwrap_or(settings.debounce);
        settings.max_delay = match args.max_delay.or(file.max_delay) {
            Some(max_delay) if max_delay < settings.debounce => {
                let debounce = settings.debounce;
                return Err(match (&args.config, file.lines.get("max_delay"), args.max_delay) {
                    (Some(path), Some(line), None) => {
                        let (short, long) = (spoken(max_delay), spoken(debounce));
                        let message = format!("`max_delay`: {short} is shorter than the `debounce` of {long}");
                        ConfigError::Invalid { path: path.clone(), line: *line, message }
                    }
                    _ => ConfigError::DelayBelowDebounce { debounce, max_delay },
                });
            }
            Some(max_delay) => max_delay,
            // A long debounce alone is no mistake: the default makes room for it.
            None => settings.max_delay.max(settings.debounce),
        };
        settings.exclude = file.exclude.clone().unwrap_or_default();
        settings.exclude_from = file.exclude_from.clone().unwrap_or_default();
        settings.checksum = file.checksum.unwrap_or_default();
        settings.one_file_system = file.one_file_system.unwrap_or_default();
        settings.jobs = file.jobs.unwrap_or(settings.jobs);
        settings.max_delete = file.max_delete.unwrap_or(settings.max_delete);
        settings.durability = file.durability.unwrap_or_default();
        settings.keep = file.keep_versions.clone().unwrap_or_default();
        settings.keep_max = file.keep_max.and_then(|bound| bound.0);
        settings.keep_free = file.keep_free.and_then(|bound| bound.0);
        settings.two_way = file.two_way.unwrap_or_default();
        settings.conflict = file.conflict.unwrap_or_default();
        settings.verbosity = if file.quiet == Some(true) { -1 } else { clamped(file.verbose.unwrap_or_default()) };
        settings.take_copying(&args.copying)?;
        settings.take_keeping(&args.keeping)?;
        settings.take_reading(&args.reading)?;
        settings.take_output(&args.output);
        settings.control = args.control.as_deref().or(file.control.as_deref()).map(absolute).transpose()?;
        settings.name = args.name.clone().or(file.name.clone());
        settings.metrics = args.metrics.as_deref().or(file.metrics.as_deref()).map(absolute).transpose()?;
        settings.metrics_listen = args.metrics_listen.or(file.metrics_listen);
        settings.scrub_every = args.scrub_every.or(file.scrub_every).filter(|every| !every.is_zero());
        settings.scrub_rate = args.scrub_rate.or(file.scrub_rate).unwrap_or(settings.scrub_rate);
        settings.progress = args.progress.progress.or(file.progress).unwrap_or_default();
        settings.log_file = Some(match args.logging.log_file.as_deref().or(file.log_file.as_deref()) {
            Some(path) => absolute(path)?,
            None => state_dir()?.join(LOG_FILE),
        });
        Ok((settings, file))
    }

    /// The pair that is to be scrubbed without a service; `None` where none is named.
    ///
    /// # Errors
    /// The file cannot be read or used, or a path cannot be made absolute.
    pub fn for_scrub(args: &ScrubArgs) -> Result<Option<Self>, ConfigError> {
        let mut settings = match (&args.config, &args.source, &args.replica) {
            (Some(config), ..) => Self::for_watch(&WatchArgs { config: Some(config.into()), ..WatchArgs::default() })?,
            (None, Some(source), Some(replica)) => Self { two_way: args.two_way, ..Self::of(source, replica)? },
            (None, ..) => return Ok(None),
        };
        settings.log_file = None;
        settings.progress = Shown::Never;
        settings.take_output(&args.output);
        Ok(Some(settings))
    }

    /// # Errors
    /// A path that cannot be made absolute.
    pub fn for_verify(args: &VerifyArgs) -> Result<Self, ConfigError> {
        let mut settings = Self::of(&args.source, &args.replica)?;
        settings.take_reading(&args.reading)?;
        settings.take_output(&args.output);
        Ok(settings)
    }

    /// The defaults.
    ///
    /// # Errors
    /// A path that cannot be made absolute.
    pub fn of(source: &Path, replica: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            source: folder(source)?,
            replica: folder(replica)?,
            interval: Duration::from_secs(600),
            debounce: Duration::from_millis(100),
            max_delay: Duration::from_secs(2),
            log_file: None,
            exclude: Vec::new(),
            exclude_from: Vec::new(),
            checksum: false,
            dry_run: false,
            jobs: thread::available_parallelism().map_or(1, usize::from).min(8),
            max_delete: 50.0,
            durability: Durability::default(),
            keep: keep::Policy::default(),
            keep_max: None,
            keep_free: None,
            two_way: false,
            conflict: Conflict::default(),
            one_file_system: false,
            verbosity: 0,
            control: None,
            name: None,
            metrics: None,
            metrics_listen: None,
            scrub_every: None,
            scrub_rate: 20_000_000,
            progress: Shown::default(),
            release: false,
            accept_root: false,
        })
    }

    fn take_copying(&mut self, given: &CopyOptions) -> Result<(), ConfigError> {
        self.checksum |= given.checksum;
        self.accept_root |= given.accept_root;
        self.max_delete = given.max_delete.unwrap_or(self.max_delete);
        self.durability = given.durability.unwrap_or(self.durability);
        self.two_way |= given.two_way;
        self.conflict = given.conflict.unwrap_or(self.conflict);
        if given.conflict.is_some() && !self.two_way { Err(ConfigError::NoConflicts) } else { Ok(()) }
    }

    fn take_keeping(&mut self, given: &KeepOptions) -> Result<(), ConfigError> {
        self.keep = given.keep_versions.clone().unwrap_or_else(|| self.keep.clone());
        self.keep_max = given.keep_max.map_or(self.keep_max, |bound| bound.0);
        self.keep_free = given.keep_free.map_or(self.keep_free, |bound| bound.0);
        let is_bound = [
            ("--keep-max", given.keep_max.is_some_and(|bound| bound.0.is_some())),
            ("--keep-free", given.keep_free.is_some_and(|bound| bound.0.is_some())),
        ];
        match is_bound.into_iter().find(|(_, is_given)| *is_given && self.keep.is_off()) {
            Some((option, _)) => Err(ConfigError::NothingKept { option }),
            None => Ok(()),
        }
    }

    /// What is kept of what the replica loses, and its bounds.
    pub fn keeping(&self) -> keep::Keep {
        keep::Keep { policy: self.keep.clone(), max: self.keep_max, free: self.keep_free }
    }

    fn take_reading(&mut self, given: &ReadOptions) -> Result<(), ConfigError> {
        self.exclude.extend_from_slice(&given.exclude);
        for path in &given.exclude_from {
            self.exclude_from.push(absolute(path)?);
        }
        self.jobs = given.jobs.unwrap_or(self.jobs);
        self.one_file_system |= given.one_file_system;
        Ok(())
    }

    fn take_output(&mut self, given: &OutputOptions) {
        if given.quiet {
            self.verbosity = -1;
        } else if given.verbose > 0 {
            self.verbosity = clamped(given.verbose);
        }
    }
}

/// A folder by its path, made absolute, or by its filesystem (see `tree::tag`), which is not.
fn folder(path: &Path) -> Result<PathBuf, ConfigError> {
    match Tag::parse(path) {
        None => absolute(path),
        Some(Ok(tag)) => Ok(tag.to_path()),
        Some(Err(reason)) => Err(ConfigError::BadName { path: path.into(), reason }),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::BadPath { path: path.into(), source })
}

fn clamped(verbose: u8) -> i8 {
    i8::try_from(verbose).unwrap_or(i8::MAX)
}

fn shown(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
}

/// What the system says, without the number that it ends in.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_string()
}

fn spoken(duration: Duration) -> String {
    escaped(&humantime::format_duration(duration).to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settings(words: &[&str]) -> Result<Settings, String> {
        let cli = Cli::try_parse_from(["driftless"].iter().chain(words)).expect("a usable line");
        match cli.command {
            Command::Sync(args) => Settings::for_sync(&args),
            Command::Watch(args) => Settings::for_watch(&args),
            Command::Verify(args) => Settings::for_verify(&args),
            other => panic!("{other:?}"),
        }
        .map_err(|e| e.to_string())
    }

    fn from_file(text: &str, words: &[&str]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        fs::write(&path, text).expect("written");
        let line: Vec<&str> = ["watch", "-l", "/l", "--config", path.to_str().expect("text")]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        settings(&line).map_err(|e| e.replace(path.to_str().expect("text"), "c.toml"))
    }

    #[test]
    fn defaults_are_those_that_are_promised() {
        let given = settings(&["sync", "/a", "b"]).expect("usable");
        assert_eq!(given.interval, Duration::from_secs(600));
        assert_eq!((given.debounce, given.max_delay), (Duration::from_millis(100), Duration::from_secs(2)));
        assert!((given.max_delete - 50.0).abs() < f64::EPSILON && (1..=8).contains(&given.jobs));
        assert_eq!((given.log_file, given.durability), (None, Durability::Batch));
        assert_eq!((given.source, given.replica.is_absolute()), ("/a".into(), true));
    }

    #[test]
    fn command_line_wins_over_the_file_and_lists_add_up() {
        let text = "source = '/s'\nreplica = '/r'\ninterval = '1h 30m'\ndebounce = 1\nexclude = ['*.o']\njobs = 2\n\
            max_delete = '5%'\ndurability = 'none'\nchecksum = true\nverbose = 1\nname = 'n'\ncontrol = '/c'\n";
        let plain = from_file(text, &[]).expect("usable");
        assert_eq!((plain.source, plain.replica), ("/s".into(), "/r".into()));
        assert_eq!((plain.interval.as_secs(), plain.debounce.as_secs(), plain.jobs), (5400, 1, 2));
        assert_eq!((plain.durability, plain.checksum, plain.verbosity), (Durability::None, true, 1));
        assert_eq!((plain.name.as_deref(), plain.control), (Some("n"), Some("/c".into())));
        let more =
            from_file(text, &["-i", "5", "-x", "!a.o", "-j", "7", "-q", "--durability", "batch"]).expect("usable");
        assert_eq!((more.interval.as_secs(), more.jobs, more.verbosity), (5, 7, -1));
        assert_eq!((more.exclude, more.durability), (vec!["*.o".into(), "!a.o".into()], Durability::Batch));
    }

    #[test]
    fn what_is_kept_is_said_on_the_line_and_in_the_file() {
        let text = "source = '/s'\nreplica = '/r'\nkeep = '1h: all, 30d: daily'\nkeep_max = '1GB'\nkeep_free = '5%'\n";
        let plain = from_file(text, &[]).expect("usable");
        assert_eq!((plain.keep.to_string().as_str(), plain.keep_max), ("1h: all, 30d: daily", Some(1_000_000_000)));
        assert_eq!(plain.keep_free, Some(keep::Room::Percent(5.0)));
        let other = from_file(text, &["--keep", "7d", "--keep-max", "none", "--keep-free", "1MiB"]).expect("usable");
        assert_eq!((other.keep.to_string().as_str(), other.keep_max), ("7d", None));
        assert_eq!(other.keeping().free, Some(keep::Room::Bytes(1 << 20)));
        assert!(from_file(text, &["--keep-versions", "0"]).expect("usable").keep.is_off());
        let error = settings(&["sync", "--keep-max", "1GB", "/a", "/b"]).expect_err("nothing is kept");
        assert_eq!(error, "--keep-max goes with --keep-versions: without it, nothing is kept");
        let twice = "keep = '1d'\nkeep_versions = '1d'";
        let error = from_file(twice, &[]).expect_err("twice");
        assert!(error.contains("line 2: `keep_versions` stands in line 1 already, under another name"), "{error}");
    }

    #[test]
    fn unusable_files_are_refused_with_the_key_and_the_line() {
        let table = [
            (
                "source = '/s'\nreplica = '/r'\nintervall = 5",
                "'c.toml', line 3: unknown key `intervall`; did you mean `interval`?",
            ),
            ("source = '/s'\ninterval = 0", "'c.toml', line 2: `interval`: must be longer than zero"),
            ("interval = -5", "'c.toml', line 1: `interval`: -5 is negative"),
            ("max_delay = 'soon'", "'c.toml', line 1: `max_delay`: "),
            ("jobs = 0", "'c.toml', line 1: `jobs`: "),
            ("max_delete = 101", "'c.toml', line 1: `max_delete`: "),
            ("source = '~/s'", "'c.toml', line 1: `source`: `~` is not expanded here"),
            ("\nlog_file = 'x.log'", "'c.toml', line 2: `log_file`: 'x.log' is not an absolute path"),
            ("exclude_from = ['x']", "'c.toml', line 1: `exclude_from`: 'x' is not an absolute path"),
            ("name = 'a/b'", "'c.toml', line 1: `name`: "),
            ("source = ", "'c.toml', line 1: "),
            ("source = '/s'", "'c.toml': the key `replica` is missing"),
            ("quiet = true\nverbose = 1", "'c.toml', line 2: `verbose`"),
            (
                "source = '/s'\nreplica = '/r'\nmax_delay = '1s'\ndebounce = '2s'",
                "'c.toml', line 3: `max_delay`: 1s is shorter than the `debounce` of 2s",
            ),
        ];
        for (text, message) in table {
            let error = from_file(text, &[]).expect_err(text);
            assert!(error.contains(message) && !error.contains('\n'), "{text:?}: {error}");
        }
        let error = settings(&["watch", "--config", "/nowhere/c.toml"]).expect_err("missing");
        assert!(error.starts_with("cannot read the configuration file '/nowhere/c.toml': No such file"), "{error}");
    }
}
