//! What a tree was at a time, said a second time and independently of the program: a strict picture of a tree, and the
//! journal's lines undone on the picture of the replica that is there now. What the format means is in `tree::history`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::compare;
use crate::disk::kind_name;

/// What an entry has beyond its contents.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An inode: several paths may lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    pub kind: &'static str,
    pub attributes: Attributes,
    /// The length and a sum of the contents, a link's target, a device's number.
    pub what: String,
}

/// A tree, by path; the root is the empty one.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub names: BTreeMap<Vec<u8>, u64>,
    pub inodes: BTreeMap<u64, Inode>,
}

fn inode_of(path: &Path, found: &fs::Metadata) -> Inode {
    let kind = kind_name(found.file_type());
    let what = match kind {
        _ if found.is_file() => {
            let bytes = fs::read(path).unwrap_or_default();
            let mut sum = DefaultHasher::new();
            bytes.hash(&mut sum);
            format!("{} bytes, {:016x}", bytes.len(), sum.finish())
        }
        _ if found.is_symlink() => format!("{:?}", fs::read_link(path).ok()),
        _ if found.is_dir() => String::new(),
        _ => found.rdev().to_string(),
    };
    let attributes = Attributes {
        mode: if found.is_symlink() { 0o777 } else { found.mode() & 0o7777 },
        owner: (found.uid(), found.gid()),
        mtime: (found.mtime(), found.mtime_nsec()),
        xattrs: compare::xattrs(path).into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
    };
    Inode { kind, attributes, what }
}

impl Picture {
    /// A tree as it is, without the program's folder.
    pub fn of(top: &Path) -> Self {
        let mut picture = Self::default();
        picture.add(top);
        picture.names.retain(|path, _| path != b".driftless" && !path.starts_with(b".driftless/"));
        picture
    }

    fn add(&mut self, top: &Path) {
        for entry in walkdir::WalkDir::new(top).follow_root_links(false) {
            let entry = entry.unwrap_or_else(|error| panic!("walk {}: {error}", top.display()));
            let found =
                fs::symlink_metadata(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display()));
            let path = entry.path().strip_prefix(top).expect("below it").as_os_str().as_bytes().to_vec();
            self.inodes.entry(found.ino()).or_insert_with(|| inode_of(entry.path(), &found));
            self.names.insert(path, found.ino());
        }
    }

    /// What was at a path, and all below it, as a tree of its own.
    pub fn below(&self, path: &[u8]) -> Self {
        let names = self.names.iter().filter_map(|(name, ino)| Some((without(name, path)?, *ino))).collect();
        Self { names, inodes: self.inodes.clone() }
    }

    /// All in which two trees differ, one a line.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let (ours, theirs) = (self.groups(), expected.groups());
        for path in self.names.keys().chain(expected.names.keys()).collect::<BTreeSet<_>>() {
            let mut say = |what: String| found.push(format!("{}: {what}", shown(path)));
            match (self.at(path), expected.at(path)) {
                (Some(ours), None) => say(format!("extra ({})", ours.kind)),
                (None, Some(theirs)) => say(format!("missing ({})", theirs.kind)),
                (Some(ours), Some(theirs)) if ours != theirs => {
                    let mut text = String::new();
                    let mut part = |what: &str, is: &dyn std::fmt::Debug, was: &dyn std::fmt::Debug| {
                        let (is, was) = (format!("{is:?}"), format!("{was:?}"));
                        if is != was {
                            let _ = write!(text, " {what} is {is} and was {was};");
                        }
                    };
                    let (a, b) = (&ours.attributes, &theirs.attributes);
                    part("kind", &ours.kind, &theirs.kind);
                    part("contents", &ours.what, &theirs.what);
                    part("mode", &format!("{:04o}", a.mode), &format!("{:04o}", b.mode));
                    part("owner", &a.owner, &b.owner);
                    part("mtime", &a.mtime, &b.mtime);
                    part("xattrs", &a.xattrs, &b.xattrs);
                    say(text);
                }
                _ => {}
            }
            if let (Some(ours), Some(theirs)) = (ours.get(path.as_slice()), theirs.get(path.as_slice()))
                && ours != theirs
            {
                say(format!("links are {:?} and were {:?}", list(ours), list(theirs)));
            }
        }
        found
    }

    fn at(&self, path: &[u8]) -> Option<&Inode> {
        self.inodes.get(self.names.get(path)?)
    }

    /// All names of the inode of each path.
    fn groups(&self) -> BTreeMap<&[u8], BTreeSet<&[u8]>> {
        let mut by_inode: BTreeMap<u64, BTreeSet<&[u8]>> = BTreeMap::new();
        for (path, ino) in &self.names {
            by_inode.entry(*ino).or_default().insert(path);
        }
        self.names.iter().map(|(path, ino)| (path.as_slice(), by_inode[ino].clone())).collect()
    }
}

fn list(paths: &BTreeSet<&[u8]>) -> Vec<String> {
    paths.iter().map(|path| shown(path)).collect()
}

pub fn shown(path: &[u8]) -> String {
    if path.is_empty() { "(root)".into() } else { path.escape_ascii().to_string() }
}

/// The rest of a path that is `top` or below it.
fn without(path: &[u8], top: &[u8]) -> Option<Vec<u8>> {
    match path.strip_prefix(top)? {
        rest if top.is_empty() || rest.is_empty() => Some(rest.to_vec()),
        rest => rest.strip_prefix(b"/").map(<[u8]>::to_vec),
    }
}

/// A time of the journal, in nanoseconds.
pub type Nanos = i128;

/// A line of the journal, with its fields as they are.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Nanos,
    pub word: String,
    pub path: Vec<u8>,
    pub fields: BTreeMap<Vec<u8>, Vec<u8>>,
    pub text: String,
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'\\' {
            let code = std::str::from_utf8(&text[at + 2..at + 4]).expect("two digits");
            out.push(u8::from_str_radix(code, 16).expect("hex"));
            at += 4;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

fn path_of(text: &[u8]) -> Vec<u8> {
    if text == b"." { Vec::new() } else { unescaped(text) }
}

fn nanos(text: &[u8]) -> Nanos {
    let text = std::str::from_utf8(text).expect("a time");
    let (sec, nsec) = text.split_once('.').expect("a time");
    sec.parse::<Nanos>().expect("seconds") * 1_000_000_000 + nsec.parse::<Nanos>().expect("nanoseconds")
}

impl Line {
    fn read(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'\t');
        let (at, word, path) = (parts.next()?, parts.next()?, parts.next()?);
        let mut parts: Vec<_> = parts.collect();
        let sum = parts.pop()?;
        if sum.len() != 16 {
            return None;
        }
        let mut fields = BTreeMap::new();
        for part in parts {
            let split = part.iter().position(|byte| *byte == b'=')?;
            fields.insert(part[..split].to_vec(), part[split + 1..].to_vec());
        }
        Some(Self {
            at: nanos(at),
            word: String::from_utf8(word.to_vec()).ok()?,
            path: path_of(path),
            fields,
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    pub fn field(&self, key: &str) -> Option<&[u8]> {
        self.fields.get(key.as_bytes()).map(Vec::as_slice)
    }

    fn number(&self, key: &str, radix: u32) -> Option<u32> {
        u32::from_str_radix(std::str::from_utf8(self.field(key)?).ok()?, radix).ok()
    }

    fn attributes(&self) -> Option<Attributes> {
        let mtime = nanos(self.field("mtime")?);
        let xattr = |(key, value): (&Vec<u8>, &Vec<u8>)| Some((unescaped(key.strip_prefix(b"x.")?), unescaped(value)));
        Some(Attributes {
            mode: self.number("mode", 8)?,
            owner: (self.number("uid", 10)?, self.number("gid", 10)?),
            mtime: (mtime.div_euclid(1_000_000_000) as i64, mtime.rem_euclid(1_000_000_000) as i64),
            xattrs: self.fields.iter().filter_map(xattr).collect(),
        })
    }

    fn other(&self) -> Vec<u8> {
        path_of(self.field("other").unwrap_or_default())
    }
}

/// All lines, oldest first.
pub fn journal(replica: &Path) -> Vec<Line> {
    let folder = replica.join(".driftless/journal");
    let mut files: Vec<_> = fs::read_dir(&folder).expect("a journal").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let texts: Vec<_> = files.iter().map(|file| fs::read(file).expect("read")).collect();
    let lines = texts.iter().flat_map(|text| text.split(|byte| *byte == b'\n').filter_map(Line::read));
    lines.collect()
}

/// A replica on its way back.
pub struct Past {
    pub picture: Picture,
    versions: BTreeMap<Vec<u8>, u64>,
    /// Oldest first: those that are not undone.
    lines: Vec<Line>,
    void: HashSet<Nanos>,
    /// For folders that are not there any more.
    next: u64,
}

impl Past {
    pub fn of(replica: &Path) -> Self {
        let mut picture = Picture::of(replica);
        let mut kept = Picture::default();
        kept.add(&replica.join(".driftless/versions"));
        for (ino, inode) in kept.inodes {
            picture.inodes.entry(ino).or_insert(inode);
        }
        Self { picture, versions: kept.names, lines: journal(replica), void: HashSet::new(), next: 1 << 62 }
    }

    /// Undoes all that is younger than this.
    pub fn go_back_to(&mut self, time: Nanos) {
        while self.lines.last().is_some_and(|line| line.at > time) {
            let line = self.lines.pop().expect("one");
            self.undo(&line);
        }
    }

    fn undo(&mut self, line: &Line) {
        if self.void.contains(&line.at) {
            return;
        }
        let kept = line.field("kept").map(path_of);
        match line.word.as_str() {
            "void" => drop(self.void.insert(nanos(line.field("of").expect("of")))),
            "created" => {
                // What was announced right before a kill may not have happened: what was to go before is there still.
                let kind = match line.field("kind") {
                    Some(b"directory") => "folder",
                    Some(b"chardevice") => "character device",
                    Some(b"blockdevice") => "block device",
                    Some(kind) => std::str::from_utf8(kind).expect("a word"),
                    None => panic!("no kind: {}", line.text),
                };
                if self.picture.at(&line.path).is_some_and(|inode| inode.kind == kind) {
                    self.forget(&line.path);
                }
            }
            "updated" | "removed" if kept.is_some() => {
                if let Some(ino) = self.versions.get(&kept.expect("kept")).copied() {
                    self.forget(&line.path);
                    self.picture.names.insert(line.path.clone(), ino);
                }
            }
            "removed" => {
                let was = line.attributes().expect("what it was");
                let there = self.picture.at(&line.path).is_some_and(|inode| inode.kind == "folder");
                if !there {
                    self.forget(&line.path);
                    self.next += 1;
                    let inode = Inode { kind: "folder", attributes: was, what: String::new() };
                    self.picture.inodes.insert(self.next, inode);
                    self.picture.names.insert(line.path.clone(), self.next);
                } else {
                    self.set(&line.path, was);
                }
            }
            "metadata" => self.set(&line.path, line.attributes().expect("what it was")),
            // A number that is still where it was: it did not happen.
            "renamed" if self.picture.names.contains_key(&line.other()) && !self.stays(line) => {
                let moved = self.take(&line.other());
                self.forget(&line.path);
                self.put(&line.path, moved);
            }
            "exchanged" if !self.stays(line) => {
                let (one, two) = (self.take(&line.path), self.take(&line.other()));
                self.put(&line.path, two);
                self.put(&line.other(), one);
            }
            _ => {}
        }
    }

    fn stays(&self, line: &Line) -> bool {
        let ino = line.field("ino").map(|ino| String::from_utf8_lossy(ino).parse().expect("a number"));
        let is = |path: &[u8]| self.picture.names.get(path).copied() == ino;
        is(&line.path) && !is(&line.other())
    }

    fn set(&mut self, path: &[u8], was: Attributes) {
        let Some(inode) = self.picture.names.get(path).and_then(|ino| self.picture.inodes.get_mut(ino)) else { return };
        inode.attributes = was;
        if inode.kind == "symlink" {
            inode.attributes.mode = 0o777;
        }
    }

    /// All at and below a path, by the rest of their path.
    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let names = &self.picture.names;
        let moved: Vec<_> = names.iter().filter_map(|(name, ino)| Some((without(name, path)?, *ino))).collect();
        self.forget(path);
        moved
    }

    fn put(&mut self, path: &[u8], moved: Vec<(Vec<u8>, u64)>) {
        for (rest, ino) in moved {
            let slash: &[u8] = if rest.is_empty() { b"" } else { b"/" };
            self.picture.names.insert([path, slash, &rest].concat(), ino);
        }
    }

    fn forget(&mut self, path: &[u8]) {
        self.picture.names.retain(|name, _| without(name, path).is_none());
    }
}
