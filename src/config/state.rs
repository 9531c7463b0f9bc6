//! Owns where things are kept between runs, and the name that a pair of folders has there. It makes the state folder when
//! it is asked to, and nothing else.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::{ConfigError, words};
use crate::tree::tag::Tag;

/// The folder for what is kept between runs. It is not made: see [`make_state_dir`].
///
/// # Errors
/// Neither systemd nor the environment names one.
pub fn state_dir() -> Result<PathBuf, ConfigError> {
    let var = |name| env::var_os(name);
    state_dir_from(var("STATE_DIRECTORY"), var("XDG_STATE_HOME"), var("HOME")).ok_or(ConfigError::NoStateFolder)
}

/// The same folder, made for its owner alone where it is missing.
///
/// # Errors
/// There is no place for it, or it cannot be made.
pub fn make_state_dir() -> Result<PathBuf, ConfigError> {
    let path = state_dir()?;
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(ConfigError::StateFolder { path, source }),
    }
}

/// A name for the pair of folders that stays the same from run to run: readable, and different for different pairs.
pub fn pair_name(source: &Path, replica: &Path) -> String {
    let (source, replica) = (canonical(source), canonical(replica));
    let mut hash = Md5::new();
    hash.update(source.as_os_str().as_bytes());
    hash.update([0]);
    hash.update(replica.as_os_str().as_bytes());
    let digits: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let folder = source.file_name().map_or(&b"root"[..], OsStrExt::as_bytes);
    // Short enough for a socket's path, and never hidden or taken for an option.
    let mut name: String = folder.iter().take(32).map(|byte| words::name_char(*byte).unwrap_or('_')).collect();
    if name.starts_with(['.', '-']) {
        name.replace_range(..1, "_");
    }
    format!("{name}-{digits}")
}

fn state_dir_from(systemd: Option<OsString>, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // systemd separates several folders with colons; the first one is ours.
    let systemd = systemd.and_then(|all| env::split_paths(&all).next());
    let xdg = xdg.map(|base| Path::new(&base).join("driftless"));
    let home = home.map(|base| Path::new(&base).join(".local/state/driftless"));
    [systemd, xdg, home].into_iter().flatten().find(|path| path.is_absolute())
}

/// What is named by its filesystem has that name wherever it is.
fn canonical(path: &Path) -> PathBuf {
    if Tag::is(path) {
        return path.into();
    }
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_name;

    #[test]
    fn state_is_kept_where_systemd_or_the_environment_says() {
        let at = |a: &str, b: &str, c: &str| {
            let given = |s: &str| (s != "-").then(|| OsString::from(s));
            state_dir_from(given(a), given(b), given(c)).map(|p| p.display().to_string()).unwrap_or_default()
        };
        assert_eq!(at("/var/lib/a:/var/lib/b", "/x", "/h"), "/var/lib/a");
        assert_eq!(at("-", "/x", "/h"), "/x/driftless");
        assert_eq!(at("", "", "/h"), "/h/.local/state/driftless");
        assert_eq!(at("-", "-", "-"), "");
    }

    #[test]
    fn pairs_have_readable_names_of_their_own() {
        let name = |source: &str, replica: &str| pair_name(Path::new(source), Path::new(replica));
        assert!(name("/nowhere/my photos", "/b").starts_with("my_photos-"));
        assert!(name("/nowhere/.hidden", "/b").starts_with("_hidden-"));
        assert!(name("/", "/b").starts_with("root-"));
        assert_ne!(name("/nowhere/a", "/b"), name("/nowhere/a", "/c"));
        assert!(parse_name(&name("/nowhere/ä\n", "/b")).is_ok());
        assert!(name("UUID=12-ab:/", "/b").starts_with("UUID_12-ab_-"));
        assert!(name("UUID=12-ab:/photos", "/b").starts_with("photos-"));
    }
}
