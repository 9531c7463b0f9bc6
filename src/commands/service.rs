//! Owns `service`: adding, listing and removing the pairs that systemd keeps running, and what is said when that cannot
//! be done. It speaks to no running service but through systemctl, and never touches what is in the two folders.

mod add;
mod configuration;
mod layout;
mod list;
mod remove;
mod systemctl;
mod unit;
mod writing;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::open::{Refusal, shown, words};
use crate::cli::ServiceCommand;
use crate::config::{self, ConfigError};

/// Runs `driftless service …`. What is refused is said here, in one sentence.
pub fn run(command: &ServiceCommand) -> ExitCode {
    let result = match command {
        ServiceCommand::Add(args) => add::run(args),
        ServiceCommand::List(args) => list::run(args),
        ServiceCommand::Remove(args) => remove::run(args),
    };
    result.unwrap_or_else(|trouble| {
        eprintln!("driftless: {trouble}");
        match trouble {
            Trouble::Systemctl { .. } | Trouble::NotRemoved { .. } => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        }
    })
}

/// Why it was not done. But for `Systemctl` and `NotRemoved`, nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the {what} {} {reason}", shown(path))]
    Unwritable { what: &'static str, path: PathBuf, reason: &'static str },
    #[error("{} is there already; --force overwrites it", shown(path))]
    AlreadyThere { path: PathBuf },
    #[error("{reason}: see {}", shown(path))]
    Taken { reason: String, path: PathBuf },
    #[error("the {what} {} lies on the disk of {}, which is not mounted: mount it first", shown(path), shown(point))]
    NotMounted { what: &'static str, path: PathBuf, point: PathBuf },
    #[error("the replica {} and {}, where driftless keeps its own files, are in one another", shown(path), shown(own))]
    OwnFolder { path: PathBuf, own: PathBuf },
    #[error("cannot write {}: {}{}", shown(path), words(source), hint(path, source))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}: {}{}", shown(path), words(source), hint(path, source))]
    NotRemoved { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {}", shown(path), words(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("no folder for your configuration: neither XDG_CONFIG_HOME nor HOME names one by its whole path")]
    NoHome,
    #[error("there is no service {name}: {} is not there; `driftless service list` shows those that are", shown(path))]
    NoService { name: String, path: PathBuf },
    #[error("{} is not as `service add` wrote it; --force removes it all the same", shown(path))]
    Edited { path: PathBuf },
    #[error("{unit} is {state}: --disable stops and disables it first, and so does: {line}")]
    InUse { unit: String, state: String, line: String },
    #[error("`{line}` failed: {reason}; see: {journal}")]
    Systemctl { line: String, reason: String, journal: String },
    #[error("cannot print: {0}")]
    Output(io::Error),
}

impl From<ConfigError> for Trouble {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.into())
    }
}

fn hint(path: &Path, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied && path.starts_with("/etc") {
        " (a service of the system needs root; --user adds one of your own)"
    } else {
        ""
    }
}

/// One line for the person. A reader that has gone away is no failure.
fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The path as text that a configuration and a unit can hold.
fn text_of<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, Trouble> {
    let refuse = |reason| Trouble::Unwritable { what, path: path.into(), reason };
    let text = path.to_str().ok_or_else(|| refuse("is not UTF-8, which a configuration file and a unit must be"))?;
    if text.chars().any(char::is_control) {
        return Err(refuse("has a line break or another control character, which a unit cannot hold"));
    }
    if config::unexpanded(path).is_some() {
        return Err(refuse("has a part that looks like a variable, which a configuration file refuses"));
    }
    Ok(text)
}
