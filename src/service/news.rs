//! Owns what the intake hands to the dispatcher: doubt with its age, renames, and word of lost events and cookies.

use crate::tree::doubt::{DirtySet, Doubt, Extent, Moment};
use crate::tree::entry::InodeId;
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;

/// A heard rename: from where, to where.
pub type Rename = (RelPath, RelPath);

/// Doubt, and since when.
#[derive(Debug, Default)]
pub struct Taken {
    pub dirty: DirtySet,
    /// When the oldest event was read; `None` for an empty set.
    pub oldest: Option<Moment>,
    pub renames: Vec<Rename>,
    /// What asked for looks at whole folders and trees; of names, their doubt says it.
    pub cause: Cause,
}

impl Taken {
    pub fn insert(&mut self, path: &RelPath, doubt: Doubt, since: Moment) {
        self.dirty.insert(path, doubt);
        self.since(since);
    }

    pub fn since(&mut self, since: Moment) {
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
    }

    pub fn union(&mut self, other: Taken) {
        self.dirty.union(other.dirty);
        self.renames.extend(other.renames);
        self.cause = self.cause.max(other.cause);
        if let Some(oldest) = other.oldest {
            self.since(oldest);
        }
    }

    /// Adds doubt about a whole folder or tree.
    pub fn insert_extent(&mut self, folder: RelPath, extent: Extent, cause: Cause, since: Moment) {
        self.dirty.insert_extent(folder, extent);
        self.cause = self.cause.max(cause);
        self.since(since);
    }

    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.renames.is_empty()
    }
}

/// All that has come in since the last time.
#[derive(Debug, Default)]
pub struct News {
    /// Single entries to be looked at now.
    pub express: Taken,
    /// Folders, and what has fallen quiet.
    pub bulk: Taken,
    /// Events were lost, and everything is in doubt: since when, or since the oldest event that this covers too.
    pub lost: Option<Moment>,
    /// Names that were made for files that had others.
    pub linked: Vec<(RelPath, InodeId)>,
    /// The source's root folder was renamed, removed or unmounted.
    pub is_root_moved: bool,
    /// Cookies that came back, and when they were heard.
    pub cookies: Vec<(String, Moment)>,
}
