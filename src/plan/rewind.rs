//! Owns going back: what a tree was at a time, made from the journal's lines, the newest first, in terms of the tree that
//! is there now and of what is kept. It reads no disk: what has to be known of one, it asks for. Whatever no line speaks
//! of is as it is now, however large it is, so that what this holds grows with what was touched alone.

mod regions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::tree::entry::{Kind, Time};
use crate::tree::history::{Attributes, Event, Line};
use crate::tree::path::RelPath;
pub use regions::Regions;

/// Where something of the past lies today.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// In the tree, with all that no line speaks of.
    Current(RelPath),
    /// Among what is kept.
    Version(RelPath),
}

/// What a path was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Was<'a> {
    Absent,
    /// It lies there, if anything does. What of a folder was otherwise, `names` has.
    At(Source),
    /// A folder that is gone. `None`: nothing tells its attributes.
    Folder(Option<&'a Attributes>),
}

/// What is asked of the disk.
pub trait Disk {
    fn has_version(&mut self, version: &RelPath) -> bool;
    /// The number of the inode there, and what it is, if anything is.
    fn inode(&mut self, source: &Source) -> Option<(u64, Kind)>;
}

#[derive(Debug)]
enum Base {
    Absent,
    At(Source),
    Folder(Option<Box<Attributes>>),
}

#[derive(Debug)]
struct Node {
    base: Base,
    /// What in it is otherwise than `base` says, by number.
    children: BTreeMap<Box<[u8]>, usize>,
}

enum Found {
    Node(usize),
    /// No line speaks of it: it is where a folder above it is.
    Untouched(RelPath),
    Nothing,
}

/// A tree on its way back.
#[derive(Debug)]
pub struct Rewind {
    /// The root is the first. Numbers, since a tree may be deeper than a stack.
    nodes: Vec<Node>,
    free: Vec<usize>,
    regions: Regions,
    attributes: HashMap<Source, (Time, Attributes)>,
    void: HashSet<Time>,
    /// The run of the lines that are undone now is the last one, which may not have ended.
    is_last_run: bool,
    /// What the last run announces and has not done yet.
    awaited: Vec<Source>,
    missing: u64,
    end: End,
}

/// How the run ended that the lines are of which are undone now.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its last line comes next.
    ToCome,
    Clean,
    /// It goes on, or was interrupted: when its last line was said.
    Open(Time),
}

/// A run that was interrupted has done by then what its lines announce, in nanoseconds.
const DONE: i128 = 600 * 1_000_000_000;

impl Rewind {
    /// The tree as it is. Only lines that concern `regions` count.
    pub fn new(regions: Regions) -> Self {
        let root = Node { base: Base::At(Source::Current(RelPath::root())), children: BTreeMap::new() };
        Self {
            nodes: vec![root],
            free: Vec::new(),
            regions,
            attributes: HashMap::new(),
            void: HashSet::new(),
            is_last_run: true,
            awaited: Vec::new(),
            missing: 0,
            end: End::ToCome,
        }
    }

    /// Whether this knows all that the journal tells, and not only what concerns some paths.
    pub fn is_whole(&self) -> bool {
        self.regions.are_all()
    }

    /// What was this path?
    pub fn was(&self, path: &RelPath) -> Was<'_> {
        match self.find(path) {
            Found::Untouched(path) => Was::At(Source::Current(path)),
            Found::Nothing => Was::Absent,
            Found::Node(at) => match &self.nodes[at].base {
                Base::Absent => Was::Absent,
                Base::At(source) => Was::At(source.clone()),
                Base::Folder(attributes) => Was::Folder(attributes.as_deref()),
            },
        }
    }

    /// The names in a folder that were otherwise than where the folder lies, and whether anything had them.
    pub fn names(&self, folder: &RelPath) -> impl Iterator<Item = (&[u8], bool)> {
        let node = match self.find(folder) {
            Found::Node(at) => Some(&self.nodes[at]),
            _ => None,
        };
        let names = node.into_iter().flat_map(|node| &node.children);
        names.map(|(name, at)| (&**name, !matches!(self.nodes[*at].base, Base::Absent)))
    }

    /// The attributes that something had, where they were others, and when that changed.
    pub fn attributes(&self, source: &Source) -> Option<&(Time, Attributes)> {
        self.attributes.get(source)
    }

    /// All of them: those of an inode with several names are told under one of these, of which the first change counts.
    pub fn all_attributes(&self) -> impl Iterator<Item = (&Source, &(Time, Attributes))> {
        self.attributes.iter()
    }

    /// What may come into being at any moment without another line: then this is to be made anew.
    pub fn awaited(&self) -> &[Source] {
        &self.awaited
    }

    /// How much was lost of which nothing is kept any more, so that something later is shown in its place.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Takes back one line, the newest that was not yet.
    pub fn undo(&mut self, line: &Line, disk: &mut impl Disk) {
        self.note_run(line);
        let is_void = !self.void.is_empty() && self.void.remove(&line.at);
        if is_void || !self.concerns(line) {
            return;
        }
        let path = &line.path;
        match &line.event {
            // Something else is there still: it did not come.
            Event::Created { kind }
                if self.is_folder(path, disk).is_some_and(|is_folder| is_folder != (*kind == Kind::Directory)) => {}
            Event::Created { .. } => self.set(path, Base::Absent),
            Event::Removed { kind: Kind::Directory, was, .. } if self.is_folder(path, disk) == Some(true) => {
                // It was not removed, or what is in it was not: it is there still. Or there was another one, by lines that
                // have been thinned out; what is in that one has lines of its own.
                if let Some(was) = was {
                    self.set_attributes(path, line.at, was);
                }
            }
            Event::Removed { kind: Kind::Directory, was, .. } => {
                self.set(path, Base::Folder(was.clone().map(Box::new)));
            }
            Event::Updated { kept, .. } | Event::Removed { kept, .. } => self.take_back(line, kept.as_ref(), disk),
            Event::Metadata { was, .. } => self.set_attributes(path, line.at, was),
            Event::Renamed { to, ino } => self.rename_back(line, to, *ino, disk),
            Event::Exchanged { with, ino } => self.exchange_back(line, with, *ino, disk),
            Event::Void { of } => {
                self.void.insert(*of);
            }
            Event::Since | Event::Gap | Event::Thinned { .. } | Event::Follows { .. } | Event::Began | Event::Ended => {
            }
        }
    }

    fn note_run(&mut self, line: &Line) {
        match (&line.event, self.end) {
            (Event::Ended, _) => (self.is_last_run, self.end) = (false, End::Clean),
            (Event::Began, _) => (self.is_last_run, self.end) = (false, End::ToCome),
            (_, End::ToCome) => self.end = End::Open(line.at),
            _ => {}
        }
    }

    /// Whether what a line of this time announces may not have been done.
    fn is_doubtful(&self, at: Time) -> bool {
        matches!(self.end, End::Open(last) if last.since(at) < DONE)
    }

    fn concerns(&self, line: &Line) -> bool {
        let is_nested = |other: &RelPath| {
            other.is_within(&line.path) || line.path.is_within(other) || line.path.is_root() || other.is_root()
        };
        match &line.event {
            Event::Void { .. } => true,
            // A folder cannot go into itself: no line of the program's says that.
            Event::Renamed { to: other, .. } | Event::Exchanged { with: other, .. } => {
                !is_nested(other) && (self.regions.concern(&line.path) || self.regions.concern(other))
            }
            Event::Metadata { .. } => self.regions.concern(&line.path),
            Event::Since | Event::Gap | Event::Thinned { .. } | Event::Follows { .. } | Event::Began | Event::Ended => {
                false
            }
            _ => !line.path.is_root() && self.regions.concern(&line.path),
        }
    }

    fn take_back(&mut self, line: &Line, kept: Option<&RelPath>, disk: &mut impl Disk) {
        match kept {
            Some(kept) if disk.has_version(kept) => {
                self.set(&line.path, Base::At(Source::Version(kept.clone())));
            }
            Some(kept) if self.is_last_run => self.awaited.push(Source::Version(kept.clone())),
            _ => self.missing += u64::from(!self.is_doubtful(line.at)),
        }
    }

    fn rename_back(&mut self, line: &Line, to: &RelPath, ino: u64, disk: &mut impl Disk) {
        if !self.is_present(to, disk) {
            if let (true, Found::Untouched(now)) = (self.is_last_run, self.find(to)) {
                self.awaited.push(Source::Current(now));
            }
            return;
        }
        if self.is_unmade(line, to, ino, disk) {
            return;
        }
        let path = &line.path;
        let from = self.make(to);
        let moved = std::mem::replace(&mut self.nodes[from], Node { base: Base::Absent, children: BTreeMap::new() });
        self.set(path, Base::Absent);
        let at = self.make(path);
        self.nodes[at] = moved;
        self.hold(path);
    }

    fn exchange_back(&mut self, line: &Line, with: &RelPath, ino: u64, disk: &mut impl Disk) {
        if self.is_unmade(line, with, ino, disk) {
            return;
        }
        let path = &line.path;
        let (one, other) = (self.make(path), self.make(with));
        self.nodes.swap(one, other);
        self.hold(path);
        self.hold(with);
    }

    /// Whether an inode has not gone to another path, as the line announces.
    fn is_unmade(&self, line: &Line, other: &RelPath, ino: u64, disk: &mut impl Disk) -> bool {
        if line.in_source {
            // That is a number of the other side's; what did not happen there is void when it goes on.
            return false;
        }
        let mut inode = |path| match self.was(path) {
            Was::At(source) => disk.inode(&source).map(|(ino, _)| ino),
            Was::Absent | Was::Folder(_) => None,
        };
        let (there, here) = (inode(other), inode(&line.path));
        // A version may be a copy.
        let is_current = matches!(self.was(other), Was::At(Source::Current(_)));
        let is_other = is_current && there.is_some() && self.is_doubtful(line.at);
        there != Some(ino) && (here == Some(ino) || is_other)
    }

    /// Whether what is at a path is a folder; nothing where nothing is there.
    fn is_folder(&self, path: &RelPath, disk: &mut impl Disk) -> Option<bool> {
        match self.was(path) {
            Was::At(source) => disk.inode(&source).map(|(_, kind)| kind == Kind::Directory),
            Was::Folder(_) => Some(true),
            Was::Absent => None,
        }
    }

    fn is_present(&self, path: &RelPath, disk: &mut impl Disk) -> bool {
        match self.was(path) {
            Was::At(source @ Source::Current(_)) => disk.inode(&source).is_some(),
            Was::At(Source::Version(_)) | Was::Folder(_) => true,
            Was::Absent => false,
        }
    }

    fn set_attributes(&mut self, path: &RelPath, at: Time, was: &Attributes) {
        let source = match self.find(path) {
            Found::Untouched(now) => Source::Current(now),
            Found::Nothing => return,
            Found::Node(node) => match &mut self.nodes[node].base {
                Base::At(source) => source.clone(),
                Base::Folder(attributes) => {
                    *attributes = Some(Box::new(was.clone()));
                    return;
                }
                Base::Absent => return,
            },
        };
        self.attributes.insert(source, (at, was.clone()));
    }

    fn find(&self, path: &RelPath) -> Found {
        let mut at = 0;
        let mut passed = 0;
        for name in path.components() {
            match (self.nodes[at].children.get(name), &self.nodes[at].base) {
                (Some(child), _) => at = *child,
                (None, Base::At(Source::Current(folder))) => {
                    let rest = RelPath::new(&path.as_bytes()[passed..]).unwrap_or_default();
                    return Found::Untouched(joined(folder, &rest));
                }
                (None, _) => return Found::Nothing,
            }
            passed += name.len() + 1;
        }
        Found::Node(at)
    }

    /// The number of the node of a path, which is as it was where there was none.
    fn make(&mut self, path: &RelPath) -> usize {
        let mut at = 0;
        for name in path.components() {
            at = match self.nodes[at].children.get(name) {
                Some(child) => *child,
                None => {
                    let base = match &self.nodes[at].base {
                        Base::At(Source::Current(folder)) => Base::At(Source::Current(folder.join(name))),
                        _ => Base::Absent,
                    };
                    let node = Node { base, children: BTreeMap::new() };
                    let child = match self.free.pop() {
                        Some(free) => {
                            self.nodes[free] = node;
                            free
                        }
                        None => {
                            self.nodes.push(node);
                            self.nodes.len() - 1
                        }
                    };
                    self.nodes[at].children.insert(name.into(), child);
                    child
                }
            };
        }
        at
    }

    fn set(&mut self, path: &RelPath, base: Base) {
        let at = self.make(path);
        let is_there = !matches!(base, Base::Absent);
        let old = std::mem::replace(&mut self.nodes[at], Node { base, children: BTreeMap::new() });
        let mut gone: Vec<usize> = old.children.into_values().collect();
        while let Some(at) = gone.pop() {
            gone.extend(std::mem::take(&mut self.nodes[at].children).into_values());
            self.free.push(at);
        }
        if is_there {
            self.hold(path);
        }
    }

    /// What holds something is a folder, even if the line that says so is lost.
    fn hold(&mut self, path: &RelPath) {
        let mut at = 0;
        for name in path.components() {
            if matches!(self.nodes[at].base, Base::Absent | Base::At(Source::Version(_))) {
                self.nodes[at].base = Base::Folder(None);
            }
            match self.nodes[at].children.get(name) {
                Some(child) => at = *child,
                None => return,
            }
        }
    }
}

fn joined(folder: &RelPath, rest: &RelPath) -> RelPath {
    rest.moved(&RelPath::root(), folder).unwrap_or_default()
}
