//! Owns what is known of one entry: its kind, its stat, and the stamp that proves it unchanged.
//! Attributes beyond the stat (xattrs, ACLs, contents) are never kept, only compared where they lie.

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Seconds and nanoseconds since the epoch, as the kernel gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

impl Time {
    /// Nanoseconds from `earlier` to this; negative if this is before it.
    pub fn since(self, earlier: Time) -> i128 {
        (i128::from(self.sec) - i128::from(earlier.sec)) * 1_000_000_000 + i128::from(self.nsec)
            - i128::from(earlier.nsec)
    }
}

/// The stat of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// 0 for the device of the tree's root, so that a device that is numbered anew at the next boot changes nothing.
    pub dev: u64,
    pub ino: u64,
    pub rdev: u64,
}

/// Identity of an inode within its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId {
    pub dev: u64,
    pub ino: u64,
}

impl Stat {
    pub fn id(&self) -> InodeId {
        InodeId { dev: self.dev, ino: self.ino }
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { id: self.id(), kind: self.kind, mode: self.mode, size: self.size, mtime: self.mtime, ctime: self.ctime }
    }

    /// Whether nothing of it that a stat shows, but perhaps its ctime, is other than it was `earlier`: it got a name.
    pub fn differs_in_ctime_alone(&self, earlier: &Stat) -> bool {
        let (now, then) = (self.stamp(), Stamp { ctime: self.ctime, ..earlier.stamp() });
        now == then && (self.uid, self.gid) == (earlier.uid, earlier.gid)
    }

    /// Whether blocks are missing: the file has holes, or its filesystem compresses.
    pub fn is_sparse(&self) -> bool {
        self.kind == Kind::File && self.blocks.saturating_mul(512) < self.size
    }

    /// Bytes that a copy of the contents has to carry: without holes.
    pub fn stored(&self) -> u64 {
        if self.kind == Kind::File { self.size.min(self.blocks.saturating_mul(512)) } else { 0 }
    }

    /// A file that other names may share.
    pub fn is_linked(&self) -> bool {
        self.kind != Kind::Directory && self.nlink > 1
    }
}

/// The proof that an entry is as it was: two equal stamps mean nothing was written between them, since no
/// program can set a ctime. (An entry written twice within one tick of the clock is the exception: see `Agreed::racy`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub id: InodeId,
    pub kind: Kind,
    pub mode: u16,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
}

impl Stamp {
    /// Whether the contents can still be those of `earlier` when all that is known to have happened since is a
    /// rename, a link, or a change of attributes.
    pub fn same_contents_if_explained(&self, earlier: &Stamp) -> bool {
        self.id == earlier.id && self.kind == earlier.kind && self.size == earlier.size && self.mtime == earlier.mtime
    }
}

/// What a look at a name gave. **Unknown is not absent**: what could not be read is neither removed nor overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Absent,
    Present(Stat),
    Unknown,
}

impl Seen {
    pub fn stat(&self) -> Option<&Stat> {
        match self {
            Seen::Present(stat) => Some(stat),
            Seen::Absent | Seen::Unknown => None,
        }
    }
}
