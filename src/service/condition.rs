//! Owns which errors speak of a disk as a whole and not of one path, and the words for them. It keeps no state: the
//! pass finds a condition, the dispatcher remembers it and tries again.

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

use crate::fs::root::Root;

/// Why nothing can be added to the replica. What is missing is put off, and is no problem of any path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Full,
    Quota,
    ReadOnly,
}

impl Condition {
    /// The condition that an error from the replica shows, met with something of `size` bytes, if it shows one.
    pub fn of(error: Errno, size: u64, replica: &Root) -> Option<Self> {
        match error {
            // Also said of extended attributes that are too large for this filesystem: those are their file's affair.
            Errno::NOSPC => is_full_for(replica, size).then_some(Self::Full),
            Errno::DQUOT => Some(Self::Quota),
            // A mount below the replica may be read-only by itself: that concerns its own entries alone.
            Errno::ROFS => is_read_only(replica).then_some(Self::ReadOnly),
            _ => None,
        }
    }

    /// What the log says when it begins.
    pub fn beginning(self) -> &'static str {
        match self {
            Self::Full => "The replica has no room: no space or no inodes left on its disk",
            Self::Quota => "The replica has no room: the disk quota is used up",
            Self::ReadOnly => "The replica cannot be written: its filesystem is mounted read-only",
        }
    }

    /// What the log says when it is over.
    pub fn end(self) -> &'static str {
        match self {
            Self::Full | Self::Quota => "The replica has room again",
            Self::ReadOnly => "The replica can be written again",
        }
    }

    /// The reason that `status` gives.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Full => "the replica has no room",
            Self::Quota => "the replica's disk quota is used up",
            Self::ReadOnly => "the replica is read-only",
        }
    }
}

/// So much may be free on a disk that has no room: what was being made has been given back by now.
const SLACK: u64 = 1 << 20;
const SLACK_INODES: u64 = 16;

fn is_full_for(replica: &Root, size: u64) -> bool {
    fstatvfs(replica.fd()).is_ok_and(|fs| {
        let free = fs.f_bavail.saturating_mul(fs.f_frsize);
        // Where inodes are made as needed there are none to count.
        free < size.saturating_add(SLACK) || (fs.f_files > 0 && fs.f_favail < SLACK_INODES)
    })
}

fn is_read_only(replica: &Root) -> bool {
    fstatvfs(replica.fd()).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether an error is likely to come back for many paths: it is a disk's, a server's or this process's limit, and says
/// little of the path that met it.
pub fn is_common(error: Errno) -> bool {
    matches!(
        error,
        Errno::IO
            | Errno::NOSPC
            | Errno::ROFS
            | Errno::NXIO
            | Errno::NODEV
            | Errno::NOMEDIUM
            | Errno::REMOTEIO
            | Errno::UCLEAN
            | Errno::STALE
            | Errno::NOTCONN
            | Errno::SHUTDOWN
            | Errno::TIMEDOUT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::CONNABORTED
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
    )
}
