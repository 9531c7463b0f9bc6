//! Owns where things are: configurations, units and drop-ins, of the system or of one user, below a root. It reads
//! units and lists configurations; it writes nothing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Trouble;
use super::unit::MARK;
use crate::cli::{LogFileOption, ScopeOptions, WatchArgs};
use crate::commands::reload::is_read_once;
use crate::config::{ConfigError, Settings, parse_name};

/// The units as they come with the program.
const SYSTEM_UNIT: &str = include_str!("../../../systemd/driftless@.service");
const USER_UNIT: &str = include_str!("../../../systemd/user/driftless@.service");
const UNIT: &str = "driftless@.service";
pub const SYSTEM_CONFIGURATIONS: &str = "/etc/driftless";

/// All places, below the root already.
#[derive(Debug)]
pub struct Layout {
    pub for_user: bool,
    /// Not the running system, but files that are made ready for another one.
    pub is_elsewhere: bool,
    root: PathBuf,
    pub configurations: PathBuf,
    units: PathBuf,
    /// Where others put units, the first that counts first.
    searched: Vec<PathBuf>,
    /// Where the service keeps what it remembers, below the root.
    state: PathBuf,
}

/// The unit that instances run.
#[derive(Debug)]
pub struct Unit {
    pub path: PathBuf,
    pub text: String,
}

impl Unit {
    /// Whether it is one that `service add` has written.
    pub fn is_ours(&self) -> bool {
        self.text.starts_with(MARK)
    }
}

/// A configuration file and what it says.
#[derive(Debug)]
pub struct Configured {
    pub name: String,
    pub path: PathBuf,
    pub settings: Result<Settings, String>,
}

impl Layout {
    /// # Errors
    /// A user without a home.
    pub fn of(options: &ScopeOptions) -> Result<Self, Trouble> {
        let root = options.root.clone().unwrap_or_else(|| "/".into());
        let folder = |given, default| home_folder(given, env::var_os("HOME"), default);
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let all = |paths: &[&str]| paths.iter().map(|path| below(Path::new(path))).collect::<Vec<_>>();
        let is_elsewhere = options.root.is_some();
        if options.user {
            let configuration = folder(env::var_os("XDG_CONFIG_HOME"), ".config").ok_or(Trouble::NoHome)?;
            let state = folder(None, ".local/state").ok_or(Trouble::NoHome)?;
            let data = folder(env::var_os("XDG_DATA_HOME"), ".local/share").ok_or(Trouble::NoHome)?;
            let units = below(&configuration.join("systemd/user"));
            let mut searched = vec![units.clone(), below(Path::new("/etc/systemd/user"))];
            searched.push(below(Path::new("/run/systemd/user")));
            searched.push(below(&data.join("systemd/user")));
            searched.extend(all(&["/usr/local/lib/systemd/user", "/usr/lib/systemd/user"]));
            let configurations = below(&configuration.join("driftless"));
            let state = below(&state.join("driftless"));
            return Ok(Self { for_user: true, is_elsewhere, configurations, units, searched, state, root });
        }
        Ok(Self {
            for_user: false,
            is_elsewhere,
            configurations: below(Path::new(SYSTEM_CONFIGURATIONS)),
            units: below(Path::new("/etc/systemd/system")),
            searched: all(&[
                "/etc/systemd/system",
                "/run/systemd/system",
                "/usr/local/lib/systemd/system",
                "/usr/lib/systemd/system",
                "/lib/systemd/system",
            ]),
            state: below(Path::new("/var/lib/driftless")),
            root,
        })
    }

    pub fn below_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn configuration(&self, name: &str) -> PathBuf {
        self.configurations.join(format!("{name}.toml"))
    }

    /// Others may have drop-ins for the same instance; this one is ours.
    pub fn drop_in(&self, name: &str) -> PathBuf {
        self.units.join(format!("driftless@{name}.service.d/paths.conf"))
    }

    /// Where the unit goes if it is found nowhere.
    pub fn own_unit(&self) -> PathBuf {
        self.units.join(UNIT)
    }

    /// What an instance remembers between runs, and its log.
    pub fn state(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Folders that are no place for a replica.
    pub fn own_folders(&self) -> [&Path; 2] {
        [&self.configurations, &self.state]
    }

    pub fn shipped_unit(&self) -> &'static str {
        if self.for_user { USER_UNIT } else { SYSTEM_UNIT }
    }

    /// The unit that systemd would take. An unreadable or masked one counts as found: it is somebody's decision.
    pub fn unit(&self) -> Option<Unit> {
        let path = self.searched.iter().map(|folder| folder.join(UNIT)).find(|path| path.symlink_metadata().is_ok())?;
        let text = fs::read_to_string(&path).unwrap_or_default();
        Some(Unit { path, text })
    }

    /// Every configuration of this scope, by name.
    ///
    /// # Errors
    /// The folder is there and cannot be listed.
    pub fn configured(&self) -> Result<Vec<Configured>, Trouble> {
        configured_in(&self.configurations)
    }
}

/// # Errors
/// The folder is there and cannot be listed.
pub fn configured_in(folder: &Path) -> Result<Vec<Configured>, Trouble> {
    let refuse = |source| Trouble::Read { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refuse)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(refuse)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_none_or(|extension| extension != "toml") || is_hidden {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let settings = parse_name(&name).and_then(|_| read(&path).map_err(|e| e.to_string()));
        found.push(Configured { name, path, settings });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What `watch --config` would read.
///
/// # Errors
/// Whatever is wrong with the file.
pub fn read(path: &Path) -> Result<Settings, ConfigError> {
    // Who looks through all of them waits for no writer of a pipe.
    if is_read_once(path) {
        return Err(ConfigError::ReadOnce { path: path.into() });
    }
    // Where the log goes by default, only the service knows.
    let logging = LogFileOption { log_file: Some("/dev/null".into()) };
    Settings::for_watch(&WatchArgs { config: Some(path.into()), logging, ..WatchArgs::default() })
}

fn home_folder(given: Option<OsString>, home: Option<OsString>, default: &str) -> Option<PathBuf> {
    let home = home.map(|home| Path::new(&home).join(default));
    [given.map(PathBuf::from), home].into_iter().flatten().find(|path| path.is_absolute())
}
