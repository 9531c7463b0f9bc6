//! Owns the command line: commands, options, their help. It checks what can be checked of one word; what belongs
//! together, defaults, and the configuration file are `config`'s.

pub mod help;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;

use crate::config::{
    Bound, Conflict, Durability, Shown, parse_address, parse_duration, parse_interval, parse_jobs, parse_keep,
    parse_keep_free, parse_keep_max, parse_max_delay, parse_name, parse_percent, parse_rate, parse_since, parse_when,
};
use crate::fs::history::local_zone;
use crate::plan::keep::{Policy, Room};
use crate::tree::entry::Time;

/// Keeps a replica folder identical to a source folder, in near real time
#[derive(Debug, Parser)]
#[command(name = "driftless", version, max_term_width = 120, after_help = help::PROGRAM, infer_long_args = false)]
#[command(subcommand_value_name = "COMMAND")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the replica identical to the source once, then exit
    #[command(after_help = help::SYNC)]
    Sync(SyncArgs),
    /// Make the replica identical, then follow every change until stopped
    #[command(after_help = help::WATCH)]
    Watch(Box<WatchArgs>),
    /// Compare every byte and attribute, change nothing
    #[command(after_help = help::VERIFY)]
    Verify(VerifyArgs),
    /// Read the files and tell decay of the disk from edits
    #[command(after_help = help::SCRUB)]
    Scrub(ScrubArgs),
    /// Show what the running service is doing; where several run, all of them in a table
    #[command(after_help = help::STATUS)]
    Status(StatusArgs),
    /// Return once all that was written before the call is in the replica
    #[command(after_help = help::FLUSH)]
    Flush(FlushArgs),
    /// Start a full sweep now
    #[command(after_help = help::SWEEP)]
    Sweep(Target),
    /// Let the held deletions happen, once
    #[command(after_help = help::RELEASE)]
    Release(ReleaseArgs),
    /// Tell what happened to a file or a folder, under all the names that it had
    #[command(after_help = help::HISTORY)]
    History(HistoryArgs),
    /// Tell what happened in the replica, or what was removed
    #[command(after_help = help::LOG)]
    Log(LogArgs),
    /// Bring a file or a folder back as it was at a time, in its place or elsewhere
    #[command(after_help = help::RESTORE)]
    Restore(RestoreArgs),
    /// Check a configuration file, and print the settings that it comes to
    #[command(after_help = help::CHECK_CONFIG)]
    CheckConfig {
        /// The TOML file
        file: PathBuf,
    },
    /// Add, list and remove services under systemd
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell that is to read it
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = help::MANPAGE)]
    Manpage,
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write the configuration of a new service, and what systemd needs to know
    #[command(after_help = help::SERVICE_ADD)]
    Add(ServiceAddArgs),
    /// List the services that are configured
    #[command(after_help = help::SERVICE_LIST)]
    List(ServiceListArgs),
    /// Remove what `service add` has written; the replica and what is remembered of it stay
    #[command(after_help = help::SERVICE_REMOVE)]
    Remove(ServiceRemoveArgs),
}

/// Whose services.
#[derive(Debug, Args)]
pub struct ScopeOptions {
    /// A service of your own user manager, not of the system
    #[arg(long)]
    pub user: bool,
    /// Use the files below this folder as though it were /
    #[arg(long, value_name = "DIR", hide = true)]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServiceAddArgs {
    /// The service's name, as in `driftless status --name`
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// The folder that is followed
    pub source: PathBuf,
    /// The folder that is kept identical to it; made if it is missing
    pub replica: PathBuf,
    #[command(flatten)]
    pub scope: ScopeOptions,
    /// Also start it, now and at each boot (with --user: at each login)
    #[arg(long, conflicts_with = "root")]
    pub enable: bool,
    /// Overwrite the files that are there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ServiceListArgs {
    #[command(flatten)]
    pub scope: ScopeOptions,
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ServiceRemoveArgs {
    /// The service's name
    #[arg(value_parser = parse_name)]
    pub name: String,
    #[command(flatten)]
    pub scope: ScopeOptions,
    /// Stop and disable it first
    #[arg(long, conflicts_with = "root")]
    pub disable: bool,
    /// Remove the configuration though it is not as `service add` wrote it
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    pub target: Target,
    /// Let no deletions happen, but take the two folders, and what is mounted below them, as they are now
    #[arg(long)]
    pub accept_root: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SyncArgs {
    /// The folder that is followed
    #[arg(required_unless_present = "pairs", conflicts_with = "pairs")]
    pub source: Option<PathBuf>,
    /// The folder that is made identical to it
    #[arg(required_unless_present = "pairs", conflicts_with = "pairs")]
    pub replica: Option<PathBuf>,
    /// Print what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Go through with deletions that would be held (see --max-delete)
    #[arg(long)]
    pub release: bool,
    #[command(flatten)]
    pub copying: CopyOptions,
    #[command(flatten)]
    pub keeping: KeepOptions,
    #[command(flatten)]
    pub reading: ReadOptions,
    #[command(flatten)]
    pub logging: LogFileOption,
    #[command(flatten)]
    pub progress: ProgressOption,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// The heading of what says when something happens.
const WHEN: &str = "When";

#[derive(Clone, Debug, Default, Args)]
pub struct WatchArgs {
    /// The folder that is followed
    #[arg(required_unless_present_any = ["config", "pairs"], conflicts_with_all = ["config", "pairs"])]
    pub source: Option<PathBuf>,
    /// The folder that is kept identical to it
    #[arg(required_unless_present_any = ["config", "pairs"], conflicts_with_all = ["config", "pairs"])]
    pub replica: Option<PathBuf>,
    /// Serve one pair of the file, for a `watch` with this process number that serves them all
    #[arg(long, hide = true, num_args = 3, value_names = ["PID", "SOURCE", "REPLICA"], requires = "pairs")]
    pub one_of: Option<Vec<OsString>>,
    /// Take source, replica and options from this TOML file; options given here win over it
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    pub config: Option<PathBuf>,
    /// Time between sweeps, as in 90s, 10m, '1h 30m'; a bare number is seconds [default: 10m]
    #[arg(short, long, value_name = "DURATION", aliases = ["sync-interval", "sync_interval"], help_heading = WHEN)]
    #[arg(value_parser = parse_interval, allow_negative_numbers = true)]
    pub interval: Option<Duration>,
    /// Quiet time before a path that is still being written is acted on [default: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    #[arg(help_heading = WHEN)]
    pub debounce: Option<Duration>,
    /// A path that never falls quiet is acted on at least this often [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = parse_max_delay, allow_negative_numbers = true)]
    #[arg(help_heading = WHEN)]
    pub max_delay: Option<Duration>,
    #[command(flatten)]
    pub copying: CopyOptions,
    #[command(flatten)]
    pub keeping: KeepOptions,
    #[command(flatten)]
    pub reading: ReadOptions,
    /// Where status, flush, sweep and release reach this service
    /// [default: NAME.sock in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/driftless or /run/driftless]
    #[arg(long, value_name = "PATH", help_heading = "Control socket")]
    pub control: Option<PathBuf>,
    /// Name of the control socket [default: made from the two folders]
    #[arg(long, value_parser = parse_name, help_heading = "Control socket")]
    pub name: Option<String>,
    /// Scrub so often, from the begin of one to the begin of the next, as in 30d; 0 is never [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    #[arg(help_heading = WHEN)]
    pub scrub_every: Option<Duration>,
    /// Read no faster than this in such a scrub [default: 20MB/s]
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = WHEN)]
    pub scrub_rate: Option<u64>,
    /// Keep the figures for monitoring in this file, as OpenMetrics text, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Answer http://ADDR/metrics with the figures for monitoring, as OpenMetrics text; as in 127.0.0.1:9494
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub logging: LogFileOption,
    #[command(flatten)]
    pub progress: ProgressOption,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The folder that is followed
    pub source: PathBuf,
    /// The folder that should be identical to it
    pub replica: PathBuf,
    /// Also write the MD5 of every file there, as md5sum does; - is standard output
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub reading: ReadOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// The folder that is followed; without the two folders or --config, the running service is asked
    #[arg(requires = "replica")]
    pub source: Option<PathBuf>,
    /// The folder that is kept identical to it
    pub replica: Option<PathBuf>,
    /// Take the two folders from this TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    pub config: Option<PathBuf>,
    /// Read the source's files as well
    #[arg(long = "source")]
    pub with_source: bool,
    /// Replace what has decayed by the other side's contents, where these are good
    #[arg(long)]
    pub repair: bool,
    /// Read no faster than this, as in 20MB/s [default: as fast as it goes]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<u64>,
    /// Both folders are worked in: their service has --two-way
    #[arg(long, requires = "source")]
    pub two_way: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// What decides which entries are read, and how.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is read")]
pub struct ReadOptions {
    /// Leave these paths alone: neither copied nor removed; gitignore syntax, relative to the source; repeatable
    #[arg(short = 'x', long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub exclude: Vec<String>,
    /// Read such patterns from a file, one a line; repeatable
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// Threads that copy or compare [default: the cores, at most 8]
    #[arg(short, long, value_name = "N", value_parser = parse_jobs, allow_negative_numbers = true)]
    pub jobs: Option<usize>,
    /// Do not descend into other mounts
    #[arg(long)]
    pub one_file_system: bool,
}

/// What decides how the replica is changed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "How the replica is changed")]
pub struct CopyOptions {
    /// Sweeps compare all contents, byte by byte, not size and modification time
    #[arg(short, long)]
    pub checksum: bool,
    /// Hold deletions that would remove more than this share of the replica (and more than 50 entries) [default: 50%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, allow_negative_numbers = true)]
    pub max_delete: Option<f64>,
    /// Whether contents are on disk before they are published under their name [default: batch]
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Changes on either side go to the other: both folders are worked in
    #[arg(long)]
    pub two_way: bool,
    /// Take the two folders from this file, a line each, and work in both as with --two-way; empty lines stand between
    /// several pairs
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// What becomes of a file that both sides have changed, with --two-way or --pairs [default: keep-both]
    #[arg(long, value_enum)]
    pub conflict: Option<Conflict>,
    /// Take the two folders, and what is mounted below them, as they are now, though they are not those of before
    #[arg(long)]
    pub accept_root: bool,
}

/// For how long what the replica loses is kept.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is kept of the past")]
pub struct KeepOptions {
    /// Keep what is overwritten and removed in the replica, as in 30d or '1h: all, 1d: hourly, 30d: daily' [default: 0]
    #[arg(long, value_name = "KEEP", alias = "keep", value_parser = parse_keep, allow_negative_numbers = true)]
    pub keep_versions: Option<Policy>,
    /// Up to so much of it, as in 10GB or 500MiB; the oldest goes first [default: none]
    #[arg(long, value_name = "SIZE", value_parser = parse_keep_max, allow_negative_numbers = true)]
    pub keep_max: Option<Bound<u64>>,
    /// Give up the oldest of it when less than this is free on the replica's disk, or a copy has no room, as in 5GB or
    /// 10% [default: none]
    #[arg(long, value_name = "SIZE", value_parser = parse_keep_free, allow_negative_numbers = true)]
    pub keep_free: Option<Bound<Room>>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Log and console")]
pub struct LogFileOption {
    /// Log every operation there, too [default: none for sync, driftless.log in the state folder for watch]
    #[arg(short, long, value_name = "FILE", aliases = ["log", "log_path", "log_file"])]
    pub log_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Log and console")]
pub struct OutputOptions {
    /// Warnings and errors only on the console
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; repeatable
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Log and console")]
pub struct ProgressOption {
    /// When to show a progress bar during sweeps [default: auto]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub progress: Option<Shown>,
}

/// Which service is spoken to.
#[derive(Debug, Default, Args)]
pub struct Target {
    /// The service's control socket [default: the only one that is there]
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    pub control: Option<PathBuf>,
    /// The service's name, where several run
    #[arg(long, value_parser = parse_name)]
    pub name: Option<String>,
}

/// Whose history is read.
#[derive(Debug, Default, Args)]
pub struct Whose {
    /// Read the history of this replica; it needs no service [default: that of the service that is running]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "control", "name"])]
    pub replica: Option<PathBuf>,
    /// Take source and replica from this TOML file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["control", "name"])]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

/// What is told of a history, and how.
#[derive(Debug, Default, Args)]
pub struct HistoryOptions {
    #[command(flatten)]
    pub whose: Whose,
    /// Only what happened since then, as in 2d, 'yesterday 14:00', '2026-11-21 14:32'
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub since: Option<Time>,
    /// Only what happened up to then
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub until: Option<Time>,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Also what follows from something else, as the times of folders
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The file or folder: relative to the source's root, or its whole path; . is everything
    pub path: PathBuf,
    #[command(flatten)]
    pub options: HistoryOptions,
}

#[derive(Debug, Args)]
pub struct LogArgs {
    /// Only what was removed
    #[arg(long)]
    pub removed: bool,
    #[command(flatten)]
    pub options: HistoryOptions,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The file or folder: relative to the source's root, or its whole path; . is everything
    pub path: PathBuf,
    /// As it was then: '2h ago', 'yesterday 14:00', '2026-11-21 14:32:10', RFC 3339, @SECONDS.FRACTION
    #[arg(long, value_name = "TIME", value_parser = parse_at)]
    pub at: Time,
    /// Bring it back there, and not in its place: what is not there yet, or an empty folder
    #[arg(long, value_name = "DEST", conflicts_with_all = ["source", "force"])]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub whose: Whose,
    /// The source, where it is to come back and nothing else tells
    #[arg(long, value_name = "DIR", requires = "replica")]
    pub source: Option<PathBuf>,
    /// Print what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Replace what is other than it was then, and remove what was not there then; both is kept as a version
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// A moment in local time.
fn parse_at(text: &str) -> Result<Time, String> {
    parse_when(text, Timestamp::now(), local_zone())
}

/// A moment seen from now, in local time.
fn parse_moment(text: &str) -> Result<Time, String> {
    parse_since(text, Timestamp::now(), local_zone())
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub target: Target,
    /// Print the whole status as JSON
    #[arg(long)]
    pub json: bool,
    /// Go on until Ctrl-C: on a terminal the screen stays up to date, elsewhere each change is a line
    #[arg(short, long)]
    pub follow: bool,
    /// All services in one table, with --json as an array, also where only one is running
    #[arg(short, long, conflicts_with_all = ["control", "name"])]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct FlushArgs {
    #[command(flatten)]
    pub target: Target,
    /// Give up after this time
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    #[arg(value_parser = parse_duration, allow_negative_numbers = true)]
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let words = line.split(' ').map(|w| w.replace('_', " "));
        Cli::try_parse_from(["driftless".to_string()].into_iter().chain(words)).map(|c| c.command).map_err(|e| {
            assert_eq!(e.exit_code(), if e.use_stderr() { 2 } else { 0 });
            e.kind()
        })
    }

    fn watch(options: &str) -> WatchArgs {
        match Cli::try_parse_from(["driftless", "watch", "a", "b"].into_iter().chain(options.split(' '))) {
            Ok(Cli { command: Command::Watch(args) }) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_have_the_names_that_are_promised() {
        for name in ["-i", "--interval", "--sync-interval", "--sync_interval"] {
            assert_eq!(watch(&format!("{name} 600")).interval, Some(Duration::from_secs(600)));
        }
        for name in ["-l", "--log-file", "--log", "--log_path", "--log_file"] {
            assert_eq!(watch(&format!("{name} x")).logging.log_file, Some("x".into()));
        }
        assert_eq!(watch("-x a --exclude -b --exclude-from f -c -j 3 -vv").reading.exclude, ["a", "-b"]);
        assert_eq!(watch("--max-delete 5% --durability none").copying.durability, Some(Durability::None));
        assert!(matches!(parse("sync -n -c --release -q a b"), Ok(Command::Sync(SyncArgs { dry_run: true, .. }))));
        assert!(matches!(parse("flush --timeout 1h_30m"), Ok(Command::Flush(f)) if f.timeout.as_secs() == 5400));
    }

    #[test]
    fn unusable_lines_are_refused() {
        let table = [
            ("sync a", ErrorKind::MissingRequiredArgument),
            ("watch", ErrorKind::MissingRequiredArgument),
            ("watch a", ErrorKind::MissingRequiredArgument),
            ("watch --config f a b", ErrorKind::ArgumentConflict),
            ("watch -i 0 a b", ErrorKind::ValueValidation),
            ("watch -i -5 a b", ErrorKind::ValueValidation),
            ("watch --max-delay 0s a b", ErrorKind::ValueValidation),
            ("sync -i 5 a b", ErrorKind::UnknownArgument),
            ("sync -j 0 a b", ErrorKind::ValueValidation),
            ("sync -q -v a b", ErrorKind::ArgumentConflict),
            ("sync --conflict newest a b", ErrorKind::InvalidValue),
            ("sync --pairs f a b", ErrorKind::ArgumentConflict),
            ("watch --pairs f a b", ErrorKind::ArgumentConflict),
            ("watch --pairs f --config g", ErrorKind::ArgumentConflict),
            ("verify --pairs f", ErrorKind::UnknownArgument),
            ("history", ErrorKind::MissingRequiredArgument),
            ("history --replica a --name b c", ErrorKind::ArgumentConflict),
            ("history --config a --control b c", ErrorKind::ArgumentConflict),
            ("log --since soon", ErrorKind::ValueValidation),
            ("log a", ErrorKind::UnknownArgument),
            ("status --control a --name b", ErrorKind::ArgumentConflict),
            ("status --name ../b", ErrorKind::ValueValidation),
            ("--version", ErrorKind::DisplayVersion),
            ("watch --help", ErrorKind::DisplayHelp),
        ];
        for (line, kind) in table {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }
}
