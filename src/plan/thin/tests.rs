//! Owns the proof that thinning out changes no time that it must not change: random work on a small tree is told line by
//! line, thinned out at several ages, and taken back by a naive reader, and by the one that restores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::keep::{Policy, Stage};
use crate::plan::rewind::{Disk, Regions, Rewind, Source, Was};
use crate::tree::history::{Attributes, By};
use crate::tree::operation::Cause;

const BY: By = By::Cause(Cause::Event);
const NAMES: [&str; 10] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a"];

/// What is at a path: a folder, or contents; and its attributes.
#[derive(Clone, Copy, Debug)]
struct Node {
    contents: Option<u32>,
    mode: u16,
    ino: u64,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (self.contents, self.mode) == (other.contents, other.mode)
    }
}

type State = BTreeMap<String, Node>;

fn path(text: &str) -> RelPath {
    if text == "." { RelPath::root() } else { RelPath::new(text.as_bytes()).expect("a path") }
}

fn text(path: &RelPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

fn under<'a>(state: &'a State, top: &'a str) -> impl Iterator<Item = String> + 'a {
    let is_under = move |path: &&String| *path == top || path.starts_with(&format!("{top}/"));
    state.keys().filter(is_under).cloned()
}

fn clear(state: &mut State, top: &str) {
    for path in under(state, top).collect::<Vec<_>>() {
        state.remove(&path);
    }
}

fn shift(state: &mut State, from: &str, to: &str) {
    for path in under(state, from).collect::<Vec<_>>() {
        let node = state.remove(&path).expect("there");
        state.insert(format!("{to}{}", &path[from.len()..]), node);
    }
}

/// Random work, with the lines that tell of it, and the state before each of them.
#[derive(Default)]
struct World {
    state: State,
    lines: Vec<(Line, State)>,
    at: i64,
    count: u32,
}

impl World {
    fn say(&mut self, name: &str, event: Event) {
        self.at += 1;
        let line = Line { at: Time { sec: self.at, nsec: 0 }, path: path(name), event, by: BY, in_source: false };
        self.lines.push((line, self.state.clone()));
    }

    /// What is kept of a path is found under a name that has its contents and attributes.
    fn kept(&self, name: &str) -> Option<RelPath> {
        let node = self.state[name];
        node.contents.map(|contents| path(&format!("{contents}.{}", node.mode)))
    }

    fn create(&mut self, name: &str, is_folder: bool) {
        let is_inside = name
            .rsplit_once('/')
            .is_none_or(|(parent, _)| self.state.get(parent).is_some_and(|node| node.contents.is_none()));
        if !is_inside || self.state.contains_key(name) {
            return;
        }
        self.count += 1;
        self.say(name, Event::Created { kind: if is_folder { Kind::Directory } else { Kind::File } });
        let (contents, ino) = ((!is_folder).then_some(self.count), self.count.into());
        let node = Node { contents, mode: (self.count % 512) as u16, ino };
        self.state.insert(name.into(), node);
    }

    fn remove(&mut self, name: &str, is_update: bool) {
        let mut all: Vec<String> = under(&self.state, name).collect();
        all.reverse();
        for name in all {
            let (kept, node) = (self.kept(&name), self.state[&name]);
            let was = Attributes { mode: node.mode, ..Attributes::default() };
            self.say(
                &name,
                match kept {
                    None => Event::Removed { kind: Kind::Directory, kept: None, was: Some(was) },
                    kept if is_update => Event::Updated { kind: Kind::File, kept },
                    kept => Event::Removed { kind: Kind::File, kept, was: None },
                },
            );
            self.state.remove(&name);
        }
    }

    fn update(&mut self, name: &str) {
        if self.state.get(name).is_some_and(|node| node.contents.is_some()) {
            self.say(name, Event::Updated { kind: Kind::File, kept: self.kept(name) });
            self.count += 1;
            let node = Node { contents: Some(self.count), mode: (self.count % 512) as u16, ino: self.count.into() };
            self.state.insert(name.into(), node);
        }
    }

    fn chmod(&mut self, name: &str) {
        if let Some(node) = self.state.get(name).copied() {
            self.say(
                name,
                Event::Metadata { was: Attributes { mode: node.mode, ..Attributes::default() }, quiet: false },
            );
            self.count += 1;
            self.state.insert(name.into(), Node { mode: (self.count % 512) as u16, ..node });
        }
    }

    fn rename(&mut self, from: &str, to: &str, is_over: bool) {
        let parent = to.rsplit_once('/').map(|(parent, _)| parent);
        let is_inside = parent.is_none_or(|parent| self.state.get(parent).is_some_and(|node| node.contents.is_none()));
        let nests = from == to || to.starts_with(&format!("{from}/")) || from.starts_with(&format!("{to}/"));
        if nests || !is_inside || !self.state.contains_key(from) || (!is_over && self.state.contains_key(to)) {
            return;
        }
        let is_folder = |name: &str| self.state.get(name).is_some_and(|node| node.contents.is_none());
        self.remove(to, !is_folder(from) && !is_folder(to));
        let ino = self.state[from].ino;
        self.say(from, Event::Renamed { to: path(to), ino });
        shift(&mut self.state, from, to);
    }

    /// As programs save: whole under another name, and then over the old one.
    fn save(&mut self, name: &str, over: &str) {
        self.create(name, false);
        self.rename(name, over, true);
    }

    fn work(&mut self, (what, one, other, pause): (u8, usize, usize, i64)) {
        let (one, other) = (NAMES[one], NAMES[other]);
        match what {
            0 => self.create(one, false),
            1 => self.create(one, true),
            2 | 3 => self.update(one),
            4 => self.chmod(one),
            5 => self.remove(one, false),
            6 => self.rename(one, other, false),
            7 => self.rename(one, other, true),
            8 => {
                self.say(".", Event::Ended);
                self.say(".", Event::Began);
            }
            9 => self.say(".", Event::Began),
            10 => {
                // Said, and then not done.
                let at = Time { sec: self.at + 1, nsec: 0 };
                self.say(one, Event::Created { kind: Kind::File });
                self.say(".", Event::Void { of: at });
            }
            _ => self.save(one, other),
        }
        self.at += pause;
    }
}

/// What was there before the first of these lines.
fn back(mut state: State, lines: &[&Line]) -> State {
    let void: Vec<Time> =
        lines.iter().filter_map(|line| if let Event::Void { of } = line.event { Some(of) } else { None }).collect();
    for line in lines.iter().rev().filter(|line| !void.contains(&line.at)) {
        let name = text(&line.path);
        match &line.event {
            Event::Created { .. } => clear(&mut state, &name),
            Event::Updated { kept: Some(kept), .. } | Event::Removed { kept: Some(kept), .. } => {
                let (contents, mode) = version(kept);
                clear(&mut state, &name);
                state.insert(name, Node { contents: Some(contents), mode, ino: 0 });
            }
            Event::Removed { was: Some(was), .. } => {
                if state.get(&name).is_some_and(|node| node.contents.is_some()) {
                    clear(&mut state, &name);
                }
                state.insert(name, Node { contents: None, mode: was.mode, ino: 0 });
            }
            Event::Metadata { was, .. } => {
                if let Some(node) = state.get_mut(&name) {
                    node.mode = was.mode;
                }
            }
            Event::Renamed { to, .. } => {
                clear(&mut state, &name);
                shift(&mut state, &text(to), &name);
            }
            _ => {}
        }
    }
    state
}

/// The tree as it is, with all that was ever kept.
struct Now<'a>(&'a State);

impl Disk for Now<'_> {
    fn has_version(&mut self, _: &RelPath) -> bool {
        true
    }

    fn inode(&mut self, source: &Source) -> Option<(u64, Kind)> {
        match source {
            Source::Current(path) => self.0.get(&text(path)).map(|node| (node.ino, kind(node))),
            Source::Version(kept) => Some((u64::from(version(kept).0), Kind::File)),
        }
    }
}

fn kind(node: &Node) -> Kind {
    if node.contents.is_some() { Kind::File } else { Kind::Directory }
}

/// The contents and the mode that the name of what is kept says.
fn version(kept: &RelPath) -> (u32, u16) {
    let kept = text(kept);
    let (contents, mode) = kept.split_once('.').expect("two numbers");
    (contents.parse().expect("a number"), mode.parse().expect("a number"))
}

/// The same as `back`, as it is restored; of paths that anything ever had.
fn restored(end: &State, lines: &[&Line], paths: &BTreeSet<String>) -> State {
    let (mut rewind, mut now) = (Rewind::new(Regions::all()), Now(end));
    lines.iter().rev().for_each(|line| rewind.undo(line, &mut now));
    let mut state = State::new();
    for name in paths {
        let is_folder = |parent: &str| state.get(parent).is_some_and(|node: &Node| node.contents.is_none());
        if !name.rsplit_once('/').is_none_or(|(parent, _)| is_folder(parent)) {
            continue;
        }
        let source = match rewind.was(&path(name)) {
            Was::Absent => continue,
            Was::Folder(was) => {
                let mode = was.map_or(u16::MAX, |was| was.mode);
                state.insert(name.clone(), Node { contents: None, mode, ino: 0 });
                continue;
            }
            Was::At(source) => source,
        };
        let found = match &source {
            Source::Current(path) => end.get(&text(path)).copied(),
            Source::Version(kept) => Some(version(kept)).map(|(c, mode)| Node { contents: Some(c), mode, ino: 0 }),
        };
        let mode = rewind.attributes(&source).map(|(_, was)| was.mode);
        state.extend(found.map(|node| (name.clone(), Node { mode: mode.unwrap_or(node.mode), ..node })));
    }
    state
}

fn group(policy: &Policy, at: Time, now: i64) -> (Share, i64) {
    let age = Duration::from_secs(u64::try_from(now - at.sec).unwrap_or_default());
    let share = policy.share(age).unwrap_or(Share::Monthly);
    (share, if share == Share::All { 0 } else { share.period(at.sec) })
}

fn thinned(lines: Vec<(Line, State)>, policy: &Policy, now: i64) -> Vec<(Line, State)> {
    let mut survey = Survey::default();
    lines.iter().for_each(|(line, _)| survey.see(line));
    let mut gone = HashSet::new();
    let mut thin = Thin::new(survey, |number| assert!(gone.insert(number), "{number} goes twice"));
    for (number, (line, _)) in lines.iter().enumerate() {
        let before = number.checked_sub(1).map(|before| lines[before].0.at.sec / 3600);
        thin.see(number as u32, line, group(policy, line.at, now), before == Some(line.at.sec / 3600));
    }
    thin.finish();
    let numbered = lines.into_iter().enumerate();
    numbered.filter(|(number, _)| !gone.contains(&(*number as u32))).map(|(_, line)| line).collect()
}

/// Whether all times are as before that must be. `truth` has all lines.
fn check(truth: &[(Line, State)], left: &[(Line, State)], end: &State, policy: &Policy, now: i64) {
    let paths: BTreeSet<String> =
        truth.iter().map(|(_, state)| state).chain([end]).flat_map(State::keys).cloned().collect();
    for (at, (line, before)) in truth.iter().enumerate() {
        let here = group(policy, line.at, now);
        let is_first = at == 0 || here.0.period(truth[at - 1].0.at.sec) != here.0.period(line.at.sec);
        if here.0 == Share::All || is_first {
            let after: Vec<&Line> = left.iter().map(|(line, _)| line).filter(|left| left.at >= line.at).collect();
            assert_eq!(&back(end.clone(), &after), before, "at {:?}, {here:?}; left: {after:#?}", line.at);
            assert_eq!(&restored(end, &after, &paths), before, "restored, {:?}, {here:?}: {after:#?}", line.at);
        }
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let shares = prop::sample::select(vec![Share::All, Share::Hourly, Share::Daily, Share::Weekly, Share::Monthly]);
    prop::collection::vec((1u64..400_000, shares), 1..4).prop_filter_map("stages that rise", |mut stages| {
        stages.sort_unstable();
        stages.sort_by_key(|(_, share)| *share);
        let mut until = 0;
        let stages = stages.into_iter().map(|(length, share)| {
            until += length;
            Stage { until: Duration::from_secs(until), share }
        });
        Policy::new(stages.collect()).ok()
    })
}

fn work() -> impl Strategy<Value = Vec<(u8, usize, usize, i64)>> {
    let pause = prop_oneof![4 => 0i64..5, 2 => 0i64..4000, 1 => 0i64..200_000];
    prop::collection::vec((0u8..14, 0..NAMES.len(), 0..NAMES.len(), pause), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    #[test]
    fn no_time_changes_that_must_not(runs in prop::collection::vec(work(), 1..4), policy in policy(), later in 0i64..500_000) {
        let mut world = World { at: 1_700_000_000, ..World::default() };
        let (mut left, mut told): (Vec<(Line, State)>, usize) = (Vec::new(), 0);
        for run in runs {
            run.into_iter().for_each(|step| world.work(step));
            left.extend(world.lines[told..].iter().cloned());
            told = world.lines.len();
            world.at += later;
            left = thinned(left, &policy, world.at);
            check(&world.lines, &left, &world.state, &policy, world.at);
            let again = thinned(left.clone(), &policy, world.at);
            check(&world.lines, &again, &world.state, &policy, world.at);
        }
    }
}

#[test]
fn what_is_saved_over_and_over_leaves_one_version_a_period() {
    let mut world = World { at: 1_700_000_000, ..World::default() };
    world.create("a", false);
    for _ in 0..20_000 {
        world.save("b", "a");
        world.update("a");
    }
    let policy =
        Policy::new(vec![Stage { until: Duration::from_secs(1_000_000), share: Share::Hourly }]).expect("usable");
    let hours = (world.at - 1_700_000_000) / 3600 + 2;
    let left = thinned(std::mem::take(&mut world.lines), &policy, world.at);
    // What an hour ends in the middle of stays whole.
    assert!(left.len() as i64 <= 4 * hours, "{} lines in {hours} hours", left.len());
}
