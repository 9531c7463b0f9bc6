//! Owns doubt: the set of paths that may differ, because an event named them or because nobody has looked yet.
//! It says where to look and how closely, never what to do. It is bounded: too many names in one folder become the
//! folder, too many folders become everything, so that a storm costs more looking but never more memory.

use std::collections::BTreeMap;

use super::operation::Cause;
use super::path::RelPath;

/// Nanoseconds on the process's own clock; 0 is before anything happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// After everything that happens.
    pub const NEVER: Self = Self(u64::MAX);
}

/// What was heard of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// When the last event about it was read.
    pub at: Moment,
    /// When the first event about it was read of those that are not dealt with; never, where no event raised it.
    pub first: Moment,
    /// The contents may have changed; otherwise all events spoke of attributes, of a rename or of a link.
    pub contents: bool,
    /// A folder in whose tree anything may have changed, not only the folder's own attributes.
    pub below: bool,
    /// It was heard of a folder above, and says nothing of what else may have been heard of this name.
    pub is_inherited: bool,
    pub asked: Cause,
}

impl Doubt {
    pub fn contents(at: Moment) -> Self {
        Self { contents: true, ..Self::attributes(at) }
    }

    pub fn attributes(at: Moment) -> Self {
        Self { at, first: at, contents: false, below: false, is_inherited: false, asked: Cause::Event }
    }

    pub fn subtree(at: Moment) -> Self {
        Self { below: true, ..Self::contents(at) }
    }

    /// Doubt without any event: something may have changed of which nothing was heard.
    pub fn unheard() -> Self {
        Self::attributes(Moment::default()).asked_by(Cause::Flush)
    }

    pub fn asked_by(self, asked: Cause) -> Self {
        let first = if asked == Cause::Event { self.first } else { Moment::NEVER };
        Self { asked, first, ..self }
    }

    /// The same doubt, raised by an event that was read then, or by none.
    pub fn heard_first(self, first: Option<Moment>) -> Self {
        Self { first: first.unwrap_or(Moment::NEVER), ..self }
    }

    /// Whether all that was heard leaves the contents as they were.
    pub fn spares_contents(self) -> bool {
        !self.contents && !self.is_inherited && self.at > Moment::default()
    }

    pub fn or(self, other: Self) -> Self {
        Self {
            at: self.at.max(other.at),
            first: self.first.min(other.first),
            contents: self.contents || other.contents,
            below: self.below || other.below,
            is_inherited: self.is_inherited && other.is_inherited,
            // What an event spoke of would be looked at without the others.
            asked: self.asked.min(other.asked),
        }
    }
}

/// How much of a folder is in doubt, beside the names that are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The folder's own times alone, where no name is in doubt.
    #[default]
    Names,
    /// All that the folder lists, but not what lies in its folders.
    Listing,
    /// All that lies below.
    Tree,
}

/// The doubt in one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderDoubt {
    pub extent: Extent,
    pub names: BTreeMap<Box<[u8]>, Doubt>,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct DirtySet {
    folders: BTreeMap<RelPath, FolderDoubt>,
    /// In all folders.
    names: usize,
    limits: Limits,
}

/// How large a set may grow before it becomes coarser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A folder becomes coarser that has more names than this, once all folders together have more than `names`. To list
    /// a folder for the sake of some of its names costs as much as the folder holds.
    pub names_a_folder: usize,
    pub names: usize,
    pub folders: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { names_a_folder: 2_000, names: 50_000, folders: 20_000 }
    }
}

impl Default for DirtySet {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl DirtySet {
    pub fn new(limits: Limits) -> Self {
        Self { folders: BTreeMap::new(), names: 0, limits }
    }

    pub fn everything() -> Self {
        let mut set = Self::default();
        set.insert_extent(RelPath::root(), Extent::Tree);
        set
    }

    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Entries and folders in doubt; a tree counts as one.
    pub fn len(&self) -> usize {
        self.folders
            .values()
            .map(|f| f.names.len() + usize::from(f.extent != Extent::Names || f.names.is_empty()))
            .sum()
    }

    pub fn is_everything(&self) -> bool {
        self.folders.get(&RelPath::root()).is_some_and(|f| f.extent == Extent::Tree)
    }

    /// Adds doubt about one entry. About the root itself, it is about what the root lists.
    pub fn insert(&mut self, path: &RelPath, doubt: Doubt) {
        let Some((folder, name)) = path.split() else {
            let extent = if doubt.below { Extent::Tree } else { Extent::Listing };
            return self.insert_extent(RelPath::root(), extent);
        };
        let Limits { names_a_folder, names, .. } = self.limits;
        let entry = self.folders.entry(folder.clone()).or_default();
        match entry.names.get_mut(name) {
            Some(known) => *known = known.or(doubt),
            None => {
                entry.names.insert(name.into(), doubt);
                self.names += 1;
            }
        }
        if entry.names.len() > names_a_folder && self.names > names {
            let below: Vec<RelPath> =
                entry.names.iter().filter(|(_, d)| d.below).map(|(n, _)| folder.join(n)).collect();
            self.names -= entry.names.len();
            entry.names.clear();
            entry.extent = entry.extent.max(Extent::Listing);
            // Listing the folder does not look below it.
            for path in below {
                self.insert_extent(path, Extent::Tree);
            }
        }
        self.bound();
    }

    pub fn insert_extent(&mut self, folder: RelPath, extent: Extent) {
        let entry = self.folders.entry(folder).or_default();
        entry.extent = entry.extent.max(extent);
        self.bound();
    }

    pub fn union(&mut self, other: DirtySet) {
        if self.is_empty() && self.limits == other.limits {
            // It is within the bounds already.
            *self = other;
            return;
        }
        for (folder, doubt) in other.folders {
            for (name, d) in &doubt.names {
                self.insert(&folder.join(name), *d);
            }
            if doubt.extent != Extent::Names || doubt.names.is_empty() {
                self.insert_extent(folder, doubt.extent);
            }
        }
    }

    /// What is in doubt in this folder, apart from what a tree above it covers.
    pub fn folder(&self, folder: &RelPath) -> Option<&FolderDoubt> {
        self.folders.get(folder)
    }

    /// The folders where looking starts: those in doubt that no tree above them covers, in order.
    pub fn seeds(&self) -> Vec<RelPath> {
        let mut seeds = Vec::new();
        let mut cover: Option<&RelPath> = None;
        for (folder, doubt) in &self.folders {
            if cover.is_some_and(|tree| folder.is_within(tree)) {
                continue;
            }
            if doubt.extent == Extent::Tree {
                cover = Some(folder);
            }
            seeds.push(folder.clone());
        }
        seeds
    }

    /// Whether this entry will be looked at.
    pub fn covers(&self, path: &RelPath) -> bool {
        let Some((folder, name)) = path.split() else {
            return self.folders.get(path).is_some_and(|f| f.extent >= Extent::Listing);
        };
        self.near(&folder).covers(name)
    }

    /// What asked for a look at this very entry, or for one at all that a folder above it holds; `None` where it is
    /// looked at because its whole folder, or tree, is.
    pub fn asked(&self, path: &RelPath) -> Option<Cause> {
        self.named(path).map(|doubt| doubt.asked)
    }

    /// Whether single entries are in doubt, and not only whole folders and trees.
    pub fn has_names(&self) -> bool {
        self.folders.values().any(|folder| !folder.names.is_empty())
    }

    fn named(&self, path: &RelPath) -> Option<Doubt> {
        let (folder, name) = path.split()?;
        self.near(&folder).named(name)
    }

    /// What is in doubt around the entries of one folder, found once for all of them.
    pub fn near(&self, folder: &RelPath) -> Near<'_> {
        let own = self.folders.get(folder);
        let mut near = Near { own, above: None, is_covered: own.is_some_and(|f| f.extent == Extent::Tree) };
        let mut at = folder.clone();
        while let Some((parent, name)) = at.split() {
            let doubt = self.folders.get(&parent);
            near.is_covered |= doubt.is_some_and(|f| f.extent == Extent::Tree);
            let named = doubt.and_then(|f| f.names.get(name)).filter(|d| d.below);
            near.above = near.above.or(named.map(|doubt| Doubt { is_inherited: true, ..*doubt }));
            at = parent;
        }
        near.is_covered |= near.above.is_some();
        near
    }

    fn bound(&mut self) {
        if self.folders.len() > self.limits.folders {
            self.folders.clear();
            self.names = 0;
            self.folders.insert(RelPath::root(), FolderDoubt { extent: Extent::Tree, ..Default::default() });
        }
    }
}

/// What is in doubt around the entries of one folder.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    own: Option<&'a FolderDoubt>,
    /// The nearest folder that an event named with all below it, this one or one above.
    above: Option<Doubt>,
    /// A folder here or above is in doubt with all below it.
    is_covered: bool,
}

impl Near<'_> {
    /// The doubt of this very entry, or of a folder above it with all that it holds; `None` where it is looked at because
    /// its whole folder, or tree, is.
    pub fn named(&self, name: &[u8]) -> Option<Doubt> {
        self.own.and_then(|own| own.names.get(name)).copied().or(self.above)
    }

    /// Whether this entry will be looked at.
    pub fn covers(&self, name: &[u8]) -> bool {
        let is_own = |own: &FolderDoubt| own.extent >= Extent::Listing || own.names.contains_key(name);
        self.is_covered || self.own.is_some_and(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Step {
        Name(RelPath, Doubt),
        Extent(RelPath, Extent),
    }

    fn path() -> impl Strategy<Value = RelPath> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..4)
            .prop_map(|names| RelPath::new(names.join("/").as_bytes()).expect("a valid path"))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (
                path(),
                any::<bool>(),
                any::<bool>(),
                0u64..9,
                prop::bool::ANY.prop_map(|e| if e { Cause::Event } else { Cause::Retry })
            )
                .prop_map(|(p, contents, below, at, asked)| {
                    Step::Name(p, Doubt { contents, below, asked, ..Doubt::attributes(Moment(at)) })
                }),
            (path(), prop::sample::select(vec![Extent::Listing, Extent::Tree])).prop_map(|(p, e)| Step::Extent(p, e)),
        ]
    }

    fn apply(set: &mut DirtySet, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Name(path, doubt) => set.insert(path, *doubt),
                Step::Extent(path, extent) => set.insert_extent(path.clone(), *extent),
            }
        }
    }

    /// As unclever as possible: which of all paths of three levels are in doubt.
    fn naive(steps: &[Step]) -> BTreeSet<RelPath> {
        let covered = |path: &RelPath| {
            steps.iter().any(|step| {
                let parent = path.split().map(|(p, _)| p);
                match step {
                    Step::Name(p, d) if p.is_root() => path.is_root() || d.below || parent.as_ref() == Some(p),
                    Step::Name(p, d) => p == path || (d.below && path.is_within(p)),
                    Step::Extent(p, Extent::Tree) => path.is_within(p) && (path != p || p.is_root()),
                    Step::Extent(p, _) => parent.as_ref() == Some(p) || (path == p && p.is_root()),
                }
            })
        };
        universe().into_iter().filter(covered).collect()
    }

    fn universe() -> Vec<RelPath> {
        let mut all = vec![RelPath::root()];
        for level in 0..3 {
            let last: Vec<_> = all.iter().filter(|p| p.depth() == level).cloned().collect();
            all.extend(last.iter().flat_map(|p| ["a", "b", "c"].map(|n| p.join(n.as_bytes()))));
        }
        all
    }

    fn coverage(set: &DirtySet) -> BTreeSet<RelPath> {
        universe().into_iter().filter(|p| set.covers(p)).collect()
    }

    proptest! {
        #[test]
        fn covers_what_a_naive_set_covers(steps in prop::collection::vec(step(), 0..8)) {
            let mut set = DirtySet::default();
            apply(&mut set, &steps);
            prop_assert_eq!(coverage(&set), naive(&steps));
        }

        #[test]
        fn coverage_never_shrinks_when_a_bound_collapses_it(steps in prop::collection::vec(step(), 0..12)) {
            let mut set = DirtySet::new(Limits { names_a_folder: 1, names: 1, folders: 3 });
            apply(&mut set, &steps);
            prop_assert!(naive(&steps).is_subset(&coverage(&set)));
            prop_assert!(set.folders.len() <= 3);
            prop_assert!(set.folders.values().all(|f| f.names.len() <= 1));
            prop_assert_eq!(set.names, set.folders.values().map(|f| f.names.len()).sum::<usize>());
        }

        #[test]
        fn union_commutes_and_is_idempotent(
            a in prop::collection::vec(step(), 0..8),
            b in prop::collection::vec(step(), 0..8),
        ) {
            let make = |steps: &[Step]| { let mut s = DirtySet::default(); apply(&mut s, steps); s };
            let join = |x: &DirtySet, y: &DirtySet| { let mut s = x.clone(); s.union(y.clone()); s };
            let (a, b) = (make(&a), make(&b));
            prop_assert_eq!(&join(&a, &b).folders, &join(&b, &a).folders);
            prop_assert_eq!(&join(&a, &a).folders, &a.folders);
        }

        #[test]
        fn what_is_found_once_for_a_folder_is_what_is_found_of_each_path(steps in prop::collection::vec(step(), 0..8)) {
            let mut set = DirtySet::default();
            apply(&mut set, &steps);
            for path in universe() {
                let Some((folder, name)) = path.split() else { continue };
                let near = set.near(&folder);
                prop_assert_eq!(near.covers(name), set.covers(&path));
                prop_assert_eq!(near.named(name).map(|doubt| doubt.asked), set.asked(&path));
            }
        }

        #[test]
        fn a_folder_keeps_its_names_while_there_are_few_in_all(names in 0usize..40) {
            let mut set = DirtySet::new(Limits { names_a_folder: 5, names: 20, folders: 100 });
            for name in 0..names {
                let path = RelPath::root().join(b"a").join(name.to_string().as_bytes());
                set.insert(&path, Doubt::contents(Moment(1)));
            }
            let folder = set.folder(&RelPath::root().join(b"a")).cloned().unwrap_or_default();
            prop_assert_eq!(folder.extent == Extent::Names, names <= 20);
            prop_assert!(set.names <= 20);
        }

        #[test]
        fn who_asked_is_known_of_what_was_named_and_of_nothing_else(steps in prop::collection::vec(step(), 0..8)) {
            let mut set = DirtySet::default();
            apply(&mut set, &steps);
            for path in universe() {
                let named = steps.iter().any(|step| matches!(step, Step::Name(p, d)
                    if !p.is_root() && (*p == path || (d.below && path.is_within(p)))));
                prop_assert_eq!(set.asked(&path).is_some(), named, "{:?}", path);
            }
        }

        #[test]
        fn no_seed_lies_below_a_tree_that_is_one(steps in prop::collection::vec(step(), 0..8)) {
            let mut set = DirtySet::default();
            apply(&mut set, &steps);
            let seeds = set.seeds();
            for tree in seeds.iter().filter(|s| set.folder(s).is_some_and(|f| f.extent == Extent::Tree)) {
                prop_assert!(seeds.iter().all(|s| s == tree || !s.is_within(tree)));
            }
        }
    }
}
