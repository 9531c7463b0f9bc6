//! Owns how an event of the journal is shown: a line for a person, an object for a program. It decides nothing.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value, json};

use super::read::Told;
use crate::fs::history::local_zone;
use crate::tree::entry::{Kind, Time};
use crate::tree::history::{Attributes, Event, kind_word};
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;

/// The line, without its end.
pub fn line(told: &Told, replica: &Path) -> String {
    let line = told.line;
    let mut out = format!("{} - ", local(line.at, "%Y-%m-%d %H:%M:%S.%6f"));
    let path = quoted(line.path.as_bytes());
    let path = if line.path.is_root() { "the root".to_string() } else { path };
    let of_kind = |kind: Kind| match kind {
        Kind::File => String::new(),
        other => format!("{} ", kind_word(other)),
    };
    let kept = |kept: Option<&RelPath>| match (told.kept, kept) {
        (Some(there), _) => format!(", kept: {}", quoted(there.to_path(replica).as_os_str().as_bytes())),
        (None, Some(_)) => ", not kept any more".into(),
        (None, None) => ", nothing kept".into(),
    };
    let (text, what) = match &line.event {
        Event::Created { kind } => (format!("created: {}{path}", of_kind(*kind)), String::new()),
        Event::Updated { kind, kept: version } => {
            (format!("updated: {}{path}", of_kind(*kind)), kept(version.as_ref()))
        }
        Event::Metadata { was, .. } => (format!("metadata: {path}"), format!(", before: {}", attributes(was))),
        Event::Renamed { to, .. } => (format!("renamed: {path} to {}", quoted(to.as_bytes())), String::new()),
        Event::Exchanged { with, .. } => (format!("exchanged: {path} and {}", quoted(with.as_bytes())), String::new()),
        Event::Removed { kind: Kind::Directory, kept: None, .. } => {
            (format!("removed: directory {path}"), String::new())
        }
        Event::Removed { kind, kept: version, .. } => {
            (format!("removed: {}{path}", of_kind(*kind)), kept(version.as_ref()))
        }
        mark => {
            out.push_str(match mark {
                Event::Since => "everything is told from here on",
                Event::Gap => "changes were made here of which nothing is told",
                Event::Began => "a run of the program began",
                _ => "a run of the program ended",
            });
            return out;
        }
    };
    let side = if line.in_source { ", in the source" } else { "" };
    let _ = write!(out, "{text} ({}{side}){what}", line.by);
    out
}

fn attributes(was: &Attributes) -> String {
    let time = local(was.mtime, "%Y-%m-%d %H:%M:%S.%9f");
    let mut text = format!("mode {:04o}, owner {}:{}, modified {time}", was.mode, was.uid, was.gid);
    if !was.xattrs.is_empty() {
        let _ = write!(text, ", {} extended", was.xattrs.len());
    }
    text
}

/// The same for a program. Paths are text; one that is none is also there as the log would show it.
pub fn object(told: &Told, replica: &Path) -> Value {
    let line = told.line;
    let mut out = Map::new();
    out.insert("at".into(), local(line.at, "%Y-%m-%dT%H:%M:%S.%6f%:z").into());
    out.insert("event".into(), line.event.word().into());
    if super::read::is_mark(&line.event) {
        return out.into();
    }
    put_path(&mut out, "path", tree(&line.path));
    out.insert("by".into(), line.by.to_string().into());
    out.insert("side".into(), if line.in_source { "source" } else { "replica" }.into());
    let of_kind = |out: &mut Map<String, Value>, kind: Kind| out.insert("kind".into(), kind_word(kind).into());
    match &line.event {
        Event::Created { kind } => _ = of_kind(&mut out, *kind),
        Event::Updated { kind, .. } | Event::Removed { kind, .. } => {
            of_kind(&mut out, *kind);
            match told.kept {
                Some(kept) => put_path(&mut out, "kept", kept.to_path(replica)),
                // What was in a folder has gone before it.
                None if *kind == Kind::Directory => {}
                None => _ = out.insert("kept".into(), Value::Null),
            }
        }
        Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => {
            put_path(&mut out, "other", tree(other));
        }
        _ => {}
    }
    if let Event::Metadata { was, .. } | Event::Removed { was: Some(was), .. } = &line.event {
        let mtime = local(was.mtime, "%Y-%m-%dT%H:%M:%S.%9f%:z");
        let mode = format!("{:04o}", was.mode);
        out.insert("was".into(), json!({ "mode": mode, "uid": was.uid, "gid": was.gid, "mtime": mtime }));
    }
    out.into()
}

fn tree(path: &RelPath) -> PathBuf {
    path.to_path(Path::new(if path.is_root() { "." } else { "" }))
}

fn put_path(out: &mut Map<String, Value>, key: &str, path: PathBuf) {
    let bytes = path.as_os_str().as_bytes();
    out.insert(key.into(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        out.insert(format!("{key}_quoted"), quoted(bytes).into());
    }
}

fn local(time: Time, form: &str) -> String {
    zoned(time).strftime(form).to_string()
}

/// What is beyond all calendars is shown at their end.
fn zoned(time: Time) -> Zoned {
    let nsec = i32::try_from(time.nsec).unwrap_or(0);
    let end = if time.sec < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(time.sec, nsec).unwrap_or(end).to_zoned(local_zone().clone())
}
