//! Owns which pair of folders is meant by a command that reads a history, and where a path lies in it: the replica that
//! is named, a configuration's, or a running service's. It needs no service, writes nothing, and takes no lock.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::client::{self, Reach};
use super::open::shown;
use crate::cli::{Target, WatchArgs, Whose};
use crate::config::Settings;
use crate::fs::located::{self, Unopened};
use crate::fs::root::Root;
use crate::service::control::folders;
use crate::service::pass::describe;
use crate::tree::exclude::RESERVED;
use crate::tree::history::JOURNAL;
use crate::tree::path::RelPath;
use crate::tree::tag::Tag;

/// The folders that are meant.
#[derive(Debug)]
pub struct Found {
    /// Where the replica alone is named, nobody knows whose it is.
    pub source: Option<PathBuf>,
    pub replica: Root,
}

/// Finds the pair, and opens its replica. Of several services the one is meant in whose folders `path` lies.
///
/// # Errors
/// Nothing or nobody tells which is meant, or the replica cannot be opened: a sentence.
pub fn find(whose: &Whose, path: &Path) -> Result<Found, String> {
    let (source, replica) = match whose {
        Whose { replica: Some(replica), .. } => (None, replica.clone()),
        Whose { config: Some(config), .. } => {
            let args = WatchArgs { config: Some(config.clone()), ..WatchArgs::default() };
            let settings = Settings::for_watch(&args).map_err(|e| e.each().join("; "))?;
            (Some(settings.source), settings.replica)
        }
        Whose { target, .. } => running(target, path)?,
    };
    let replica = named(&replica)?;
    let unusable = |unopened| {
        let why = match unopened {
            Unopened::Unfound(unfound) => unfound.to_string(),
            Unopened::Failed(Errno::NOENT) => "it does not exist; is its disk mounted?".into(),
            Unopened::Failed(error) => describe(error),
        };
        format!("the replica {} cannot be read: {why}", shown(&replica))
    };
    // A source that is not mounted is as good as one on another machine.
    let source = source.and_then(|source| match Tag::parse(&source) {
        Some(tag) => tag.ok().and_then(|tag| located::find(&tag).ok()),
        None => Some(absolute(&source)),
    });
    Ok(Found { source, replica: located::open(&replica).map_err(unusable)? })
}

type Folders = (Option<PathBuf>, PathBuf);

/// What a running service works with, or, where none is known to, in whose replica an absolute path lies.
fn running(target: &Target, path: &Path) -> Result<Folders, String> {
    let ask = |socket: &Path| {
        let status = client::status(socket).map_err(|(_, reason)| reason)?;
        Ok((Some(PathBuf::from(status.source)), PathBuf::from(status.replica)))
    };
    if path.is_absolute() && target.control.is_none() && target.name.is_none() {
        let living = client::survey(&folders()).into_iter().filter(|(_, reach)| *reach == Reach::Living);
        let all: Vec<Folders> = living.filter_map(|(socket, _)| ask(&socket).ok()).collect();
        let fits = |root: &Path| below(root, path).is_some();
        let of_source = all.iter().find(|(source, _)| source.as_deref().is_some_and(fits));
        if let Some(found) = of_source.or_else(|| all.iter().find(|(_, replica)| fits(replica))) {
            return Ok(found.clone());
        }
        if let Some(replica) = path.ancestors().find(|folder| has_journal(folder)) {
            return Ok((None, replica.into()));
        }
    }
    match client::find(target, &folders()) {
        Ok(socket) => ask(&socket),
        Err(reason) if target.control.is_some() || target.name.is_some() => Err(reason),
        Err(reason) => Err(format!("{reason}; or name the replica with --replica")),
    }
}

/// Whether a folder is a replica that has a history.
pub fn has_journal(folder: &Path) -> bool {
    let name = |bytes| std::ffi::OsStr::from_bytes(bytes);
    folder.join(name(RESERVED)).join(name(JOURNAL)).is_dir()
}

impl Found {
    /// The path in the tree that a person means: relative to the source's root, or a whole path in the source or in the
    /// replica. `.` is everything.
    ///
    /// # Errors
    /// It lies in neither: a sentence.
    pub fn inside(&self, path: &Path) -> Result<RelPath, String> {
        if !path.is_absolute() {
            let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
            let usable = RelPath::below(Path::new(""), &plain).filter(|_| !path.as_os_str().is_empty());
            return usable.ok_or_else(|| {
                format!("{} is no path in a tree: it is relative to the source's root, without `..`", shown(path))
            });
        }
        let (source, replica) = (self.source.as_deref(), self.replica.path());
        let found = source.and_then(|source| below(source, path)).or_else(|| below(replica, path));
        found.ok_or_else(|| match source {
            Some(source) => {
                format!("{} lies neither in the source {} nor in the replica {}", shown(path), shown(source), shown(replica))
            }
            None => format!(
                "{} does not lie in the replica {}, which does not tell where its source is: name the path relative to the \
                 source's root",
                shown(path),
                shown(replica)
            ),
        })
    }
}

/// Where a whole path lies below a root, whatever links lead to the root. What lies there need not exist any more; links in
/// the tree are not followed.
fn below(root: &Path, path: &Path) -> Option<RelPath> {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    RelPath::below(root, path).or_else(|| {
        let there = id(root)?;
        let above = path.ancestors().find(|above| id(above) == Some(there))?;
        RelPath::below(above, path)
    })
}

/// The name of a folder: its whole path, or its filesystem's (see `tree::tag`).
fn named(path: &Path) -> Result<PathBuf, String> {
    match Tag::parse(path) {
        Some(tag) => tag.map(|tag| tag.to_path()).map_err(|reason| format!("{} {reason}", shown(path))),
        None => Ok(absolute(path)),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path")
    }

    #[test]
    fn a_path_is_found_however_it_is_written() {
        let top = tempfile::tempdir().expect("a folder");
        let top = std::fs::canonicalize(top.path()).expect("its name");
        for folder in ["source/d", "replica"] {
            std::fs::create_dir_all(top.join(folder)).expect("made");
        }
        std::os::unix::fs::symlink("source", top.join("link")).expect("linked");
        let found = |has_source: bool| Found {
            source: has_source.then(|| top.join("source")),
            replica: Root::open(&top.join("replica")).expect("open"),
        };
        let (both, alone) = (found(true), found(false));
        for (given, tree) in [(".", ""), ("./d/x", "d/x"), ("d/x/", "d/x"), ("d//x", "d/x"), ("a b", "a b")] {
            assert_eq!(both.inside(Path::new(given)), Ok(path(tree)), "{given}");
        }
        for (given, tree) in [("source", ""), ("source/d/gone", "d/gone"), ("link/d/x/", "d/x"), ("replica/y", "y")] {
            assert_eq!(both.inside(&top.join(given)), Ok(path(tree)), "{given}");
        }
        for given in ["", "..", "d/../../x"] {
            assert!(both.inside(Path::new(given)).expect_err("no path").contains("no path in a tree"), "{given}");
        }
        let said = both.inside(&top.join("elsewhere")).expect_err("neither");
        assert!(said.contains("neither in the source"), "{said}");
        let said = alone.inside(&top.join("source/d")).expect_err("unknown");
        assert!(said.contains("relative to the source's root"), "{said}");
    }

    #[test]
    fn a_whole_path_in_a_replica_is_enough() {
        let top = tempfile::tempdir().expect("a folder");
        let top = std::fs::canonicalize(top.path()).expect("its name");
        std::fs::create_dir_all(top.join("r/.driftless/journal")).expect("made");
        let whose = Whose::default();
        let found = find(&whose, &top.join("r/a/b")).expect("found");
        assert_eq!((found.source, found.replica.path()), (None, top.join("r").as_path()));
        let whose = Whose { replica: Some(top.join("none")), ..Whose::default() };
        let said = find(&whose, Path::new("a")).expect_err("none");
        assert!(said.contains("cannot be read: it does not exist"), "{said}");
    }
}
