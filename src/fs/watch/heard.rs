//! Owns the words for what the kernel said of the source.

use crate::tree::path::RelPath;

/// What the kernel said, in the tree's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Closed after writing: finished, for now.
    Written(RelPath),
    /// Written to, not closed yet.
    Modified(RelPath),
    Attributes(RelPath),
    /// A file, a link, a special file or another name for a file.
    Made(RelPath),
    FolderMade(RelPath),
    Removed(RelPath),
    /// Renamed to somewhere outside, or its target is not known yet.
    Left(RelPath),
    /// Renamed here from outside, or its origin is not known.
    Came(RelPath),
    Renamed {
        from: RelPath,
        to: RelPath,
    },
    /// Of a folder no more than that a name came or went which is left alone: only its own times have moved.
    Listed(RelPath),
    /// A file in the cookie folder was made: all that was queued before has been heard.
    Cookie(String),
    /// The root folder itself was renamed, removed or unmounted.
    Root,
    /// Events were lost.
    Lost,
}

impl Heard {
    /// The paths that it is about.
    pub fn paths(&self) -> [Option<&RelPath>; 2] {
        match self {
            Heard::Written(path)
            | Heard::Modified(path)
            | Heard::Attributes(path)
            | Heard::Made(path)
            | Heard::FolderMade(path)
            | Heard::Removed(path)
            | Heard::Left(path)
            | Heard::Came(path)
            | Heard::Listed(path) => [Some(path), None],
            Heard::Renamed { from, to } => [Some(from), Some(to)],
            Heard::Cookie(_) | Heard::Root | Heard::Lost => [None, None],
        }
    }

    /// The folders in which a name came or went.
    pub fn folders(&self) -> impl Iterator<Item = RelPath> + use<> {
        let names = match self {
            Heard::Written(_) | Heard::Modified(_) | Heard::Attributes(_) | Heard::Listed(_) => [None, None],
            heard => heard.paths(),
        };
        let [from, to] = names.map(|path| path.and_then(RelPath::split).map(|(folder, _)| folder));
        let to = to.filter(|to| Some(to) != from.as_ref());
        from.into_iter().chain(to)
    }

    /// Whether it is about no path in particular.
    pub fn is_general(&self) -> bool {
        self.paths() == [None, None]
    }
}
