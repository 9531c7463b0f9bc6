//! Owns the conversation with systemctl: its lines, run or shown to the person, and what it says of a unit.

use std::env;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::layout::Layout;
use super::{Trouble, say};
use crate::tree::quote::escaped;

/// One of the two managers.
#[derive(Debug)]
pub struct Systemctl {
    for_user: bool,
    is_elsewhere: bool,
}

/// A unit's state in systemd's words.
#[derive(Debug)]
pub struct State {
    pub active: String,
    pub enabled: String,
}

impl State {
    /// Whether it runs, or will at the next start of the machine.
    pub fn is_in_use(&self) -> bool {
        self.is_active() || self.enabled.starts_with("enabled")
    }

    pub fn is_active(&self) -> bool {
        !matches!(self.active.as_str(), "inactive" | "failed")
    }
}

impl Systemctl {
    pub fn of(layout: &Layout) -> Self {
        Self { for_user: layout.for_user, is_elsewhere: layout.is_elsewhere }
    }

    pub fn unit(name: &str) -> String {
        format!("driftless@{name}")
    }

    /// A line to be typed.
    pub fn line(&self, words: &[&str]) -> String {
        format!("{}{}", self.sudo(), self.plain(words))
    }

    fn plain(&self, words: &[&str]) -> String {
        format!("systemctl {}{}", self.manager(), words.join(" "))
    }

    /// The line that shows the unit's log.
    pub fn journal(&self, name: &str) -> String {
        format!("{}journalctl {}-u {}", self.sudo(), self.manager(), Self::unit(name))
    }

    /// How a line begins that needs the same rights.
    pub fn sudo(&self) -> &'static str {
        let is_root = geteuid().is_root() && env::var_os("SUDO_USER").is_none();
        if self.for_user || is_root { "" } else { "sudo " }
    }

    fn manager(&self) -> &'static str {
        if self.for_user { "--user " } else { "" }
    }

    /// Runs the line, and says so.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn run(&self, name: &str, words: &[&str]) -> Result<(), Trouble> {
        let failed = |reason: &str| Trouble::Systemctl {
            line: self.plain(words),
            reason: escaped(reason),
            journal: self.journal(name),
        };
        let output = self.command(words).output().map_err(|e| failed(&super::words(&e)))?;
        if output.status.success() {
            say(format_args!("Ran `{}`", self.plain(words)));
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it does not say why")))
    }

    /// `None` where no systemd can be asked.
    pub fn state(&self, name: &str) -> Option<State> {
        if self.is_elsewhere {
            return None;
        }
        let unit = Self::unit(name);
        let output = self.command(&["show", "-p", "ActiveState", "-p", "UnitFileState", &unit]).output().ok()?;
        let said = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let active = value("ActiveState").filter(|state| !state.is_empty())?.to_owned();
        let enabled = value("UnitFileState").filter(|state| !state.is_empty()).unwrap_or("disabled").to_owned();
        Some(State { active, enabled })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        if self.for_user {
            command.arg("--user");
        }
        command.args(["--no-pager", "--no-ask-password"]).args(words).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}
