//! A file system of the plainest kind, worked in at random, whose past is told as the program tells it: for any time, what
//! is read from the lines has to be what was there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::tree::history::By;
use crate::tree::operation::Cause;

#[derive(Clone, Debug, PartialEq)]
struct Inode {
    kind: Kind,
    content: u64,
    attributes: Attributes,
}

/// A path, the number of its inode unless it is a folder, and what the inode is.
type Snapshot = BTreeMap<RelPath, (u64, Inode)>;

#[derive(Default)]
struct Model {
    inodes: BTreeMap<u64, Inode>,
    tree: BTreeMap<RelPath, u64>,
    versions: BTreeMap<RelPath, u64>,
    lines: Vec<Line>,
    snapshots: Vec<(Time, Snapshot)>,
    next: u64,
    clock: i64,
}

/// One change, after the line that announces it.
#[derive(Clone, Debug)]
enum Deed {
    Put(RelPath, u64),
    Keep(RelPath, RelPath),
    Take(RelPath),
    Move(RelPath, RelPath),
    Over(RelPath, RelPath),
    Swap(RelPath, RelPath),
    Set(RelPath, Attributes),
    Nothing,
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a path")
}

impl Disk for Model {
    fn has_version(&mut self, version: &RelPath) -> bool {
        self.versions.contains_key(version)
    }

    fn inode(&mut self, source: &Source) -> Option<(u64, Kind)> {
        self.inode_of(source).map(|number| (number, self.inodes[&number].kind))
    }
}

impl Model {
    fn new() -> Self {
        let mut model = Self { clock: 100, next: 1, ..Self::default() };
        let root = model.new_inode(Kind::Directory);
        model.tree.insert(RelPath::root(), root);
        model.say(RelPath::root(), Event::Since);
        model.say(RelPath::root(), Event::Began);
        model
    }

    fn new_inode(&mut self, kind: Kind) -> u64 {
        self.next += 1;
        let attributes = Attributes { mode: self.next as u16 & 0o777, ..Attributes::default() };
        let content = if kind == Kind::Directory { 0 } else { self.next };
        self.inodes.insert(self.next, Inode { kind, content, attributes });
        self.next
    }

    fn say(&mut self, path: RelPath, event: Event) -> Time {
        self.clock += 1;
        let at = Time { sec: self.clock, nsec: 0 };
        self.lines.push(Line { at, path, event, by: By::Cause(Cause::Event), in_source: false });
        at
    }

    fn kind(&self, path: &RelPath) -> Option<Kind> {
        Some(self.inodes.get(self.tree.get(path)?)?.kind)
    }

    fn attributes(&self, path: &RelPath) -> Attributes {
        self.inodes[&self.tree[path]].attributes.clone()
    }

    fn is_file(&self, path: &RelPath) -> bool {
        self.kind(path) == Some(Kind::File)
    }

    fn below(&self, path: &RelPath) -> Vec<RelPath> {
        self.tree.keys().filter(|p| p.is_within(path)).cloned().collect()
    }

    fn snapshot(&self) -> Snapshot {
        let entry = |(path, number): (&RelPath, &u64)| {
            let inode = self.inodes[number].clone();
            (path.clone(), (if inode.kind == Kind::Directory { 0 } else { *number }, inode))
        };
        self.tree.iter().map(entry).collect()
    }

    fn carry_out(&mut self, deed: Deed) {
        let touched: Vec<RelPath> = match &deed {
            Deed::Put(path, _) | Deed::Take(path) => vec![path.clone()],
            Deed::Move(one, other) | Deed::Over(one, other) | Deed::Swap(one, other) => {
                vec![one.clone(), other.clone()]
            }
            Deed::Keep(..) | Deed::Set(..) | Deed::Nothing => Vec::new(),
        };
        match deed {
            Deed::Put(path, inode) => drop(self.tree.insert(path, inode)),
            Deed::Keep(version, path) => drop(self.versions.insert(version, self.tree[&path])),
            Deed::Take(path) => drop(self.tree.remove(&path)),
            Deed::Move(from, to) => self.swap(&from, &to),
            Deed::Over(from, to) => {
                let inode = self.tree.remove(&from).expect("there");
                self.tree.insert(to, inode);
            }
            Deed::Swap(one, other) => self.swap(&one, &other),
            Deed::Set(path, attributes) => {
                self.inodes.get_mut(&self.tree[&path]).expect("there").attributes = attributes;
            }
            Deed::Nothing => {}
        }
        // As the kernel does.
        self.clock += 1;
        for (folder, _) in touched.iter().filter_map(RelPath::split) {
            if let Some(folder) = self.tree.get(&folder).and_then(|inode| self.inodes.get_mut(inode)) {
                folder.attributes.mtime = Time { sec: self.clock, nsec: 7 };
            }
        }
    }

    fn swap(&mut self, one: &RelPath, other: &RelPath) {
        let (mut moved, paths) = (Vec::new(), [self.below(one), self.below(other)].concat());
        for path in paths {
            let to = path.moved(one, other).or_else(|| path.moved(other, one)).expect("one of the two");
            moved.push((to, self.tree.remove(&path).expect("there")));
        }
        self.tree.extend(moved);
    }

    /// The steps of one thing that somebody did, from two numbers, on few names.
    fn steps(&mut self, what: u8, at: u16) -> Vec<(RelPath, Event, Deed)> {
        const NAMES: [&str; 12] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "f/e", "f/e/b"];
        let (one, other) = (path(NAMES[usize::from(at) % 12]), path(NAMES[usize::from(at / 12) % 12]));
        let is_free = |model: &Self, path: &RelPath| {
            let (folder, _) = path.split().expect("no root");
            !model.tree.contains_key(path) && model.kind(&folder) == Some(Kind::Directory)
        };
        let version = |model: &mut Self, path: &RelPath| {
            model.next += 1;
            self::path(&format!("{}~{}", String::from_utf8_lossy(path.as_bytes()), model.next))
        };
        let touch = |model: &Self, path: &RelPath| {
            let (folder, _) = path.split().expect("no root");
            (folder.clone(), Event::Metadata { was: model.attributes(&folder), quiet: true }, Deed::Nothing)
        };
        let is_apart = !one.is_within(&other) && !other.is_within(&one);
        match (what % 9, self.kind(&one)) {
            (0 | 1, None) if is_free(self, &one) => {
                let kinds = [Kind::File, Kind::Directory, Kind::Directory, Kind::Symlink];
                let kind = kinds[usize::from(at / 144) % 4];
                let inode = self.new_inode(kind);
                vec![touch(self, &one), (one.clone(), Event::Created { kind }, Deed::Put(one, inode))]
            }
            (0..=2, Some(kind)) if kind != Kind::Directory => {
                let kept = version(self, &one);
                let kinds = [Kind::File, Kind::File, Kind::Directory];
                let new = self.new_inode(kinds[usize::from(at / 144) % 3]);
                let now = self.inodes[&new].kind;
                let (event, then) = if now == Kind::Directory {
                    (Event::Removed { kind, kept: Some(kept.clone()), was: None }, Event::Created { kind: now })
                } else {
                    (Event::Updated { kind, kept: Some(kept.clone()) }, Event::Ended)
                };
                vec![
                    touch(self, &one),
                    (one.clone(), event, Deed::Keep(kept, one.clone())),
                    (one.clone(), then, Deed::Put(one, new)),
                ]
            }
            (0 | 1, Some(kind)) if self.below(&one).len() == 1 => {
                let (new, was) = (self.new_inode(Kind::File), Some(self.attributes(&one)));
                vec![
                    touch(self, &one),
                    (one.clone(), Event::Removed { kind, kept: None, was }, Deed::Nothing),
                    (one.clone(), Event::Created { kind: Kind::File }, Deed::Put(one, new)),
                ]
            }
            (4, Some(kind)) if is_apart && kind != Kind::Directory && self.is_file(&other) => {
                let kept = version(self, &other);
                let target = Event::Removed { kind: Kind::File, kept: Some(kept.clone()), was: None };
                let event = Event::Renamed { to: other.clone(), ino: self.tree[&one] };
                vec![
                    touch(self, &one),
                    touch(self, &other),
                    (other.clone(), target, Deed::Keep(kept, other.clone())),
                    (one.clone(), event, Deed::Over(one, other)),
                ]
            }
            (3, Some(_)) => {
                let attributes = Attributes { uid: u32::from(at), ..self.attributes(&one) };
                let event = Event::Metadata { was: self.attributes(&one), quiet: false };
                vec![(one.clone(), event, Deed::Set(one, attributes))]
            }
            (4 | 5, Some(_)) if is_apart && is_free(self, &other) => {
                let event = Event::Renamed { to: other.clone(), ino: self.tree[&one] };
                let done = Deed::Move(one.clone(), other.clone());
                vec![touch(self, &one), touch(self, &other), (one, event, done)]
            }
            (5, Some(_)) if is_apart && self.tree.contains_key(&other) => {
                let event = Event::Exchanged { with: other.clone(), ino: self.tree[&one] };
                let done = Deed::Swap(one.clone(), other.clone());
                vec![touch(self, &one), touch(self, &other), (one, event, done)]
            }
            (6 | 7, Some(kind)) if kind != Kind::Directory && is_free(self, &other) => {
                let inode = self.tree[&one];
                vec![touch(self, &other), (other.clone(), Event::Created { kind }, Deed::Put(other, inode))]
            }
            (8, Some(_)) => {
                let mut steps = vec![touch(self, &one)];
                for path in self.below(&one).into_iter().rev() {
                    let kind = self.kind(&path).expect("there");
                    if kind == Kind::Directory {
                        let was = Some(self.attributes(&path));
                        steps.push((path.clone(), Event::Removed { kind, kept: None, was }, Deed::Take(path)));
                    } else {
                        let kept = version(self, &path);
                        let event = Event::Removed { kind, kept: Some(kept.clone()), was: None };
                        steps.push((path.clone(), event, Deed::Keep(kept, path.clone())));
                        steps.push((RelPath::root(), Event::Ended, Deed::Take(path)));
                    }
                }
                steps
            }
            _ => Vec::new(),
        }
    }

    /// Does it; all of it, or as much as was done when the program was killed, or nothing, as it says then.
    fn work(&mut self, (what, at, end, said): (u8, u16, u8, u8)) {
        let steps = self.steps(what, at);
        let (kill, refuse) = (end < 40 && !steps.is_empty(), (40..60).contains(&end));
        let done = if kill { usize::from(end) % steps.len() } else { steps.len() };
        // Of a folder that goes with all that it holds, everything is said before.
        let told =
            if kill && what % 9 != 8 { done + usize::from(said) % (steps.len() - done + 1) } else { steps.len() };
        // Lines are written many at a time, before the first of their changes.
        let (mut times, mut unmade) = (Vec::new(), Vec::new());
        for (number, (path, event, _)) in steps[..told.max(done)].iter().enumerate() {
            // The second half of what a line announces has no line.
            if *event != Event::Ended {
                times.push(self.say(path.clone(), event.clone()));
                let moves = matches!(event, Event::Renamed { .. } | Event::Exchanged { .. });
                unmade.extend(times.last().copied().filter(|_| moves && number >= done));
            }
        }
        if refuse {
            for of in times {
                self.say(RelPath::root(), Event::Void { of });
            }
        } else {
            steps.into_iter().take(done).for_each(|(_, _, deed)| self.carry_out(deed));
        }
        if kill {
            self.say(RelPath::root(), Event::Began);
            // As the next start finds it, as long as both are there.
            for of in unmade {
                self.say(RelPath::root(), Event::Void { of });
            }
        }
        if end > 240 {
            self.say(RelPath::root(), Event::Ended);
            self.say(RelPath::root(), Event::Began);
        }
        self.clock += 1;
        self.snapshots.push((Time { sec: self.clock, nsec: 0 }, self.snapshot()));
    }

    fn rewound(&mut self, at: Time, regions: Regions) -> Rewind {
        let lines: Vec<Line> = self.lines.iter().filter(|line| line.at > at).cloned().collect();
        let mut regions = regions;
        lines.iter().for_each(|line| regions.follow(line));
        let mut rewind = Rewind::new(regions);
        lines.iter().rev().for_each(|line| rewind.undo(line, self));
        rewind
    }

    /// What was below a path, as whoever restores it finds it.
    fn read(&mut self, rewind: &Rewind, top: &RelPath) -> Snapshot {
        let mut by_inode: BTreeMap<u64, (Time, Attributes)> = BTreeMap::new();
        for (source, (at, attributes)) in rewind.all_attributes() {
            if let Some(inode) = self.inode_of(source) {
                let first = by_inode.entry(inode).or_insert_with(|| (*at, attributes.clone()));
                if *at < first.0 {
                    *first = (*at, attributes.clone());
                }
            }
        }
        let (mut found, mut todo) = (Snapshot::new(), vec![top.clone()]);
        while let Some(path) = todo.pop() {
            let mut names: BTreeMap<Box<[u8]>, bool> = BTreeMap::new();
            let was = rewind.was(&path);
            match &was {
                Was::Absent => continue,
                Was::Folder(attributes) => {
                    let attributes = (*attributes).cloned().unwrap_or_default();
                    found.insert(path.clone(), (0, Inode { kind: Kind::Directory, content: 0, attributes }));
                }
                Was::At(source) => {
                    let Some(number) = self.inode_of(source) else { continue };
                    let mut inode = self.inodes[&number].clone();
                    if let Some((_, attributes)) = by_inode.get(&number) {
                        inode.attributes = attributes.clone();
                    }
                    let is_folder = inode.kind == Kind::Directory;
                    found.insert(path.clone(), (if is_folder { 0 } else { number }, inode));
                    if let (Source::Current(there), true) = (source, is_folder) {
                        let children = self.tree.keys().filter_map(RelPath::split);
                        names.extend(children.filter(|(p, _)| p == there).map(|(_, name)| (name.into(), true)));
                    }
                }
            }
            names.extend(rewind.names(&path).map(|(name, is_there)| (name.into(), is_there)));
            todo.extend(names.iter().filter(|(_, is_there)| **is_there).map(|(name, _)| path.join(name)));
        }
        found
    }

    fn inode_of(&self, source: &Source) -> Option<u64> {
        match source {
            Source::Current(path) => self.tree.get(path).copied(),
            Source::Version(path) => self.versions.get(path).copied(),
        }
    }

    /// Whether an inode has more names than are in `found`.
    fn is_linked_elsewhere(&self, found: &Snapshot) -> bool {
        let names = |number: u64| self.tree.values().chain(self.versions.values()).filter(|n| **n == number).count();
        found.values().any(|(number, _)| *number != 0 && names(*number) > 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_past_is_as_it_was(
        work in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u8>(), any::<u8>()), 1..70),
        picks in proptest::collection::vec((any::<usize>(), 0usize..7), 6),
    ) {
        let mut model = Model::new();
        work.into_iter().for_each(|one| model.work(one));
        for (at, top) in picks {
            let (at, was) = model.snapshots[at % model.snapshots.len()].clone();
            let top = path(["", "d", "f", "a", "d/e", "d/e/a", "f/e"][top]);
            let was: Snapshot = was.into_iter().filter(|(path, _)| path.is_within(&top)).collect();
            let mut rewind = model.rewound(at, Regions::of(top.clone()));
            let mut found = model.read(&rewind, &top);
            if model.is_linked_elsewhere(&found) {
                rewind = model.rewound(at, Regions::all());
                found = model.read(&rewind, &top);
            }
            let told: Vec<String> = model.lines.iter().map(|line| format!("{} {:?} {:?}", line.at.sec, line.path, line.event)).collect();
            prop_assert_eq!(&found, &was, "{:?} at {:?}\n{}", top, at, told.join("\n"));
            prop_assert_eq!(rewind.missing(), 0);
        }
    }
}

/// What is kept may be a copy, of another inode than the rename speaks of, while its run goes on.
#[test]
fn a_rename_of_what_was_then_kept_as_a_copy_is_taken_back() {
    let mut model = Model::new();
    let (old, new, copy) = (model.new_inode(Kind::File), model.new_inode(Kind::File), model.new_inode(Kind::File));
    model.say(path("a"), Event::Renamed { to: path("b"), ino: old });
    model.say(path("b"), Event::Updated { kind: Kind::File, kept: Some(path("b~1")) });
    model.versions.insert(path("b~1"), copy);
    model.tree.insert(path("b"), new);
    let rewind = model.rewound(Time { sec: 0, nsec: 0 }, Regions::all());
    assert_eq!(rewind.was(&path("a")), Was::At(Source::Version(path("b~1"))));
    assert_eq!(rewind.was(&path("b")), Was::Absent);
}
