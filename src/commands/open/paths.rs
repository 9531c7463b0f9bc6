//! Owns which two folders are meant: their real paths, whether they are there, and that they can be a pair. It makes and
//! changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Refusal, words};
use crate::commands::memory;
use crate::config::Settings;
use crate::fs::located::{self, Unfound};
use crate::fs::mounts::{Relation, relation};
use crate::service::pass::describe;
use crate::tree::tag::Tag;

/// The two folders, checked and resolved.
#[derive(Debug)]
pub struct Paths {
    /// Where they are; where nobody can tell, because a filesystem is not mounted, what they are called.
    pub source: PathBuf,
    pub replica: PathBuf,
    /// What they are called wherever they are.
    pub names: [PathBuf; 2],
    pub has_source: bool,
    pub has_replica: bool,
}

/// Checks the two folders without making or changing anything.
///
/// # Errors
/// The first thing that makes them unusable as a pair.
pub fn check(settings: &Settings) -> Result<Paths, Refusal> {
    let unusable = |reason| Refusal::Source { path: settings.source.clone(), reason };
    let (source, has_source) = resolve(&settings.source).map_err(unusable)?;
    let unusable = |reason| Refusal::Replica { path: settings.replica.clone(), reason };
    let (replica, has_replica) = resolve(&settings.replica).map_err(unusable)?;
    let relation = if are_same(&source, &replica) { Relation::Same } else { relation(&source, &replica) };
    if relation != Relation::Apart {
        return Err(Refusal::Nested { relation, origin: source, replica });
    }
    let called = |name: &Path, path: &Path| if Tag::is(name) { name.to_path_buf() } else { path.to_path_buf() };
    let names = [called(&settings.source, &source), called(&settings.replica, &replica)];
    let paths = Paths { source, replica, names, has_source, has_replica };
    if settings.dry_run && Tag::is(&paths.replica) {
        let reason = Unfound::NotMounted.to_string();
        return Err(Refusal::Replica { path: paths.replica, reason });
    }
    // One that was there before may come back; of another nothing is known but a slip of the pen.
    let is_made = settings.two_way && has_replica;
    let is_away = Tag::is(&paths.source);
    if !has_source && !is_made && (settings.dry_run || !is_away && !paths.is_known()?) {
        return Err(Refusal::Source { path: settings.source.clone(), reason: absent(&paths.source) });
    }
    Ok(paths)
}

impl Paths {
    /// Whether anything is kept of this pair.
    pub fn is_known(&self) -> Result<bool, Refusal> {
        Ok(memory::archive_of(&self.names[0], &self.names[1])?.exists())
    }
}

/// Why a folder is not there.
fn absent(path: &Path) -> String {
    if Tag::is(path) { Unfound::NotMounted.to_string() } else { describe(Errno::NOENT) }
}

/// A folder's real path, whether or not it exists. What is named by a filesystem that is not mounted keeps that name.
fn resolve(path: &Path) -> Result<(PathBuf, bool), String> {
    match Tag::parse(path) {
        None => real(path),
        Some(Err(reason)) => Err(reason),
        Some(Ok(tag)) => match located::find(&tag) {
            Ok(found) => real(&found),
            Err(Unfound::NotMounted) => Ok((path.to_path_buf(), false)),
            Err(several) => Err(several.to_string()),
        },
    }
}

fn real(path: &Path) -> Result<(PathBuf, bool), String> {
    let mut missing = Vec::new();
    let mut at = path.to_path_buf();
    loop {
        match fs::canonicalize(&at) {
            Ok(found) if !found.is_dir() => return Err("it is not a folder".into()),
            Ok(found) => {
                let exists = missing.is_empty();
                return Ok((missing.iter().rev().fold(found, |path, name| path.join(name)), exists));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(&at).is_err() => {
                match (at.file_name(), at.parent()) {
                    (Some(name), Some(parent)) => {
                        missing.push(name.to_os_string());
                        at = parent.to_path_buf();
                    }
                    _ => return Err(words(&e)),
                }
            }
            Err(e) => return Err(words(&e)),
        }
    }
}

/// Whether two paths lead to one folder that is there.
pub fn are_same(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|id| identity(other) == Some(id))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}
