//! Owns the names of what is done to the replica, and of what went wrong: data that is logged and counted elsewhere.

use std::fmt;

use super::entry::Kind;
use super::identity::Side;
use super::path::RelPath;

/// One thing that was done, in the words of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    FileCopied,
    FileUpdated,
    FileRemoved,
    DirectoryCreated,
    DirectoryRemoved,
    LinkCreated,
    LinkUpdated,
    LinkRemoved,
    SpecialCreated,
    SpecialRemoved,
    Renamed,
    MetadataUpdated,
}

impl Operation {
    pub fn removal_of(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::FileRemoved,
            Kind::Directory => Self::DirectoryRemoved,
            Kind::Symlink => Self::LinkRemoved,
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => Self::SpecialRemoved,
        }
    }

    /// The same as a dry run says it.
    pub fn planned(self) -> &'static str {
        match self {
            Self::FileCopied => "Would copy file",
            Self::FileUpdated => "Would update file",
            Self::FileRemoved => "Would remove file",
            Self::DirectoryCreated => "Would create directory",
            Self::DirectoryRemoved => "Would remove directory",
            Self::LinkCreated => "Would create link",
            Self::LinkUpdated => "Would update link",
            Self::LinkRemoved => "Would remove link",
            Self::SpecialCreated => "Would create special file",
            Self::SpecialRemoved => "Would remove special file",
            Self::Renamed => "Would rename",
            Self::MetadataUpdated => "Would update metadata",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileCopied => "File copied",
            Self::FileUpdated => "File updated",
            Self::FileRemoved => "File removed",
            Self::DirectoryCreated => "Directory created",
            Self::DirectoryRemoved => "Directory removed",
            Self::LinkCreated => "Link created",
            Self::LinkUpdated => "Link updated",
            Self::LinkRemoved => "Link removed",
            Self::SpecialCreated => "Special file created",
            Self::SpecialRemoved => "Special file removed",
            Self::Renamed => "Renamed",
            Self::MetadataUpdated => "Metadata updated",
        })
    }
}

/// What asked for a look at a path, and so for what was done there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The kernel told of a change there.
    #[default]
    Event,
    /// It had failed, and its pause was over.
    Retry,
    /// A person let held removals happen.
    Release,
    /// Its folder has no watch and is looked at from time to time.
    Poll,
    /// A flush looks where something may have changed unheard.
    Flush,
    Sweep,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => "event",
            Self::Retry => "retry",
            Self::Release => "release",
            Self::Poll => "poll",
            Self::Flush => "flush",
            Self::Sweep => "sweep",
        })
    }
}

/// One name that both sides had changed, and how that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub path: RelPath,
    /// Whose version has the name.
    pub winner: Side,
    /// Where the other one is kept, if it is.
    pub kept: Option<RelPath>,
}

/// One path that could not be dealt with: reported, tried again, and everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: RelPath,
    /// What was tried and what the system said of it.
    pub reason: String,
}
