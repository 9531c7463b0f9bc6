//! Owns which paths each watch was asked for by. Nearly always that is one; a folder that is mounted in two places has two,
//! and one that was renamed has none until somebody says where it is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Number;

#[derive(Debug, Default)]
pub struct Table {
    watches: HashMap<Number, Paths>,
    /// How many are being set now, and the watches that ended meanwhile: a number may be told to be over before who set it
    /// has it.
    setting: usize,
    ended: Vec<Number>,
}

#[derive(Debug)]
enum Paths {
    None,
    One(Box<Path>),
    Several(Vec<Box<Path>>),
}

impl Paths {
    fn as_slice(&self) -> &[Box<Path>] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    fn into_vec(self) -> Vec<Box<Path>> {
        match self {
            Self::None => Vec::new(),
            Self::One(path) => vec![path],
            Self::Several(paths) => paths,
        }
    }

    fn of(mut paths: Vec<Box<Path>>) -> Self {
        match paths.pop() {
            None => Self::None,
            Some(path) if paths.is_empty() => Self::One(path),
            Some(path) => {
                paths.push(path);
                Self::Several(paths)
            }
        }
    }
}

impl Table {
    pub fn begin(&mut self) {
        self.setting += 1;
    }

    /// Ends what `begin` began. Returns whether there is a watch, and it has not ended already.
    pub fn finish(&mut self, number: Option<Number>, path: &Path) -> bool {
        let number = number.filter(|number| !self.ended.contains(number));
        if let Some(number) = number {
            self.insert(number, path);
        }
        self.setting = self.setting.saturating_sub(1);
        if self.setting == 0 {
            self.ended.clear();
        }
        number.is_some()
    }

    fn insert(&mut self, number: Number, path: &Path) {
        let paths = self.watches.entry(number).or_insert(Paths::None);
        if !paths.as_slice().iter().any(|known| **known == *path) {
            let mut all = std::mem::replace(paths, Paths::None).into_vec();
            all.push(path.into());
            *paths = Paths::of(all);
        }
    }

    /// Takes one of its paths from a watch.
    pub fn take(&mut self, number: Number, path: &Path) {
        if let Some(paths) = self.watches.get_mut(&number) {
            let mut all = std::mem::replace(paths, Paths::None).into_vec();
            all.retain(|known| **known != *path);
            *paths = Paths::of(all);
        }
    }

    /// Removes a watch that has no path. Returns whether there was one.
    pub fn drop_lost(&mut self, number: Number) -> bool {
        let is_lost = self.watches.get(&number).is_some_and(|paths| paths.as_slice().is_empty());
        if is_lost {
            self.remove(number);
        }
        is_lost
    }

    /// Removes a watch that has ended, and returns the paths that it had.
    pub fn end(&mut self, number: Number) -> Vec<Box<Path>> {
        if self.setting > 0 {
            self.ended.push(number);
        }
        self.remove(number)
    }

    fn remove(&mut self, number: Number) -> Vec<Box<Path>> {
        let paths = self.watches.remove(&number).map(Paths::into_vec).unwrap_or_default();
        // The memory of a storm goes back.
        if self.watches.capacity() > 1024 && self.watches.len() < self.watches.capacity() / 8 {
            self.watches.shrink_to(self.watches.len() * 2);
        }
        paths
    }

    /// The paths of a watched folder, or of an entry in it.
    pub fn paths(&self, number: Number, name: Option<&OsStr>) -> Vec<PathBuf> {
        let folders = self.watches.get(&number).map(Paths::as_slice).unwrap_or_default();
        folders.iter().map(|folder| name.map_or_else(|| folder.to_path_buf(), |name| folder.join(name))).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    pub fn number_of(&self, path: &Path) -> Option<Number> {
        self.watches
            .iter()
            .find(|(_, paths)| paths.as_slice().iter().any(|known| **known == *path))
            .map(|(number, _)| *number)
    }
}
