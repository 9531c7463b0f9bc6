//! Owns what went past the debouncer lately: which paths, so that the next word of them waits; and how many in each folder,
//! so that a folder that is being filled goes to the lane that has all the workers, once, and not to both.

use std::collections::HashMap;
use std::time::Duration;

use crate::plan::schedule::later;
use crate::tree::doubt::Moment;
use crate::tree::path::RelPath;

/// Paths remembered in one debounce; what comes after them waits.
const MOST: usize = 4_096;
/// A folder in which more than this is finished in a stretch of time is being filled.
const FEW: u32 = 128;
const STRETCH: Duration = Duration::from_millis(100);

/// Where what is finished goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the lane for single files.
    Express,
    /// To the other one, at once.
    Bulk,
    /// The path, or all of them, were not quiet.
    Waits,
}

#[derive(Default)]
pub struct Acted {
    paths: HashMap<RelPath, Moment>,
    /// Those before: together they reach back for a debounce at least.
    older: HashMap<RelPath, Moment>,
    turned: Moment,
    folders: HashMap<RelPath, Stretch>,
}

#[derive(Clone, Copy, Default)]
struct Stretch {
    began: Moment,
    count: u32,
    /// It was being filled in the one before.
    was_filled: bool,
}

impl Acted {
    /// Notes a path that goes to a lane without a look at how often.
    pub fn note(&mut self, path: &RelPath, now: Moment, debounce: Duration) {
        self.turn(now, debounce);
        if self.paths.len() < MOST {
            self.paths.insert(path.clone(), now);
        }
    }

    /// Where a finished path goes, which is noted.
    pub fn way(&mut self, path: &RelPath, now: Moment, debounce: Duration) -> Way {
        self.turn(now, debounce);
        let last = self.paths.get(path).or_else(|| self.older.get(path));
        if last.is_some_and(|at| now < later(*at, debounce)) || self.paths.len() >= MOST {
            return Way::Waits;
        }
        self.paths.insert(path.clone(), now);
        let folder = path.split().map_or_else(RelPath::root, |(folder, _)| folder);
        let stretch = self.folders.entry(folder).or_insert(Stretch { began: now, ..Stretch::default() });
        if now >= later(stretch.began, STRETCH) {
            let was_filled = stretch.count > FEW && now < later(stretch.began, 2 * STRETCH);
            *stretch = Stretch { began: now, count: 0, was_filled };
        }
        stretch.count += 1;
        if stretch.was_filled || stretch.count > FEW { Way::Bulk } else { Way::Express }
    }

    fn turn(&mut self, now: Moment, debounce: Duration) {
        if now >= later(self.turned, debounce.max(STRETCH)) {
            self.turned = now;
            self.older = std::mem::take(&mut self.paths);
            self.folders.retain(|_, stretch| now < later(stretch.began, 2 * STRETCH));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(100);

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn at(ms: u64) -> Moment {
        later(Moment(1), Duration::from_millis(ms))
    }

    #[test]
    fn a_path_goes_once_in_a_debounce() {
        let mut acted = Acted::default();
        for ms in [0, 100, 250] {
            assert_eq!(acted.way(&path("a/b"), at(ms), DEBOUNCE), Way::Express);
            assert_eq!(acted.way(&path("a/b"), at(ms + 99), DEBOUNCE), Way::Waits);
        }
        acted.note(&path("a/c"), at(300), DEBOUNCE);
        assert_eq!(acted.way(&path("a/c"), at(399), DEBOUNCE), Way::Waits);
    }

    #[test]
    fn a_folder_that_is_filled_goes_to_the_other_lane_until_it_rests_and_no_other_folder_does() {
        let mut acted = Acted::default();
        let mut ways = |from: u64, count: u64| -> Vec<Way> {
            (0..count).map(|n| acted.way(&path(&format!("full/{from}-{n}")), at(from), DEBOUNCE)).collect()
        };
        let few = FEW as usize;
        let first = ways(0, 2 * u64::from(FEW));
        assert!(
            first[..few].iter().all(|way| *way == Way::Express) && first[few..].iter().all(|way| *way == Way::Bulk)
        );
        assert_eq!(ways(110, 1), [Way::Bulk], "it was being filled just now");
        assert_eq!(ways(220, 1), [Way::Express]);
        assert_eq!(acted.way(&path("other/a"), at(1), DEBOUNCE), Way::Express);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut acted = Acted::default();
        for n in 0..3 * MOST {
            acted.way(&path(&format!("{}/{n}", n % 100)), at(0), DEBOUNCE);
            acted.note(&path(&format!("renamed/{n}")), at(0), DEBOUNCE);
        }
        assert!(acted.paths.len() + acted.older.len() <= 2 * MOST);
        assert_eq!(acted.way(&path("another"), at(1), DEBOUNCE), Way::Waits);
        assert_eq!(acted.way(&path("another"), at(250), DEBOUNCE), Way::Express);
    }
}
