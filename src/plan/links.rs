//! Owns, in two-way mode, whose word counts on which names are one file. Which names share an inode is a fact of each side;
//! what was agreed of a name says which inode it was on either. A side on which a name is another inode than then has
//! joined or parted it.
//!
//! ```text
//! another inode than agreed, or new, on    the name goes
//! neither side                             where it is: what one side has as one file becomes one on the other
//! one side                                 with those that it goes with on that side
//! both sides                               with those that it goes with on either, if the contents are equal
//! ```
//!
//! So what is joined stays joined unless one side alone has parted it: to join loses nothing, since only what is equal is
//! joined. Different contents are decided before, by `two_way`, and go with the side whose contents they are.

use super::two_way::is_unwritten;
use crate::tree::entry::{InodeId, Stamp, Stat};
use crate::tree::record::Agreed;

/// What a name was in the source and in the replica when both were agreed.
pub type Was = Option<(InodeId, InodeId)>;

/// The same of an agreement.
pub fn was(agreed: Option<&Agreed>) -> Was {
    agreed.map(|agreed| (agreed.source.id, agreed.replica.id))
}

/// Whether an entry of the replica that holds what the source's does is to become a file of its own: the source has parted
/// it from the names that it has in the replica.
pub fn parts(source: &Stat, replica: &Stat, was: Was) -> bool {
    replica.is_linked() && was.is_some_and(|was| source.id() != was.0 && replica.id() == was.1)
}

/// Whether it is for the other direction to say with which names an entry goes that is equal on both sides: the replica alone
/// has made it another file.
pub fn goes_back(source: &Stat, replica: &Stat, was: Was) -> bool {
    let is_linked = source.is_linked() || replica.is_linked();
    is_linked && was.is_some_and(|was| source.id() == was.0 && replica.id() != was.1)
}

/// Whether what was agreed of a file holds for a further name that the source has given it, whatever the replica has
/// written to the file since: both are the files that were agreed, and the source has only given a name.
pub fn lends_agreement(source: &Stat, replica: &Stat, agreed: &Agreed) -> bool {
    let is_same = |now: &Stat, then: &Stamp| now.id() == then.id && now.kind == then.kind;
    is_same(source, &agreed.source) && is_same(replica, &agreed.replica) && is_unwritten(source, &agreed.source)
}

/// Whether a name was joined to its file in the replica since it was agreed, or never was.
pub fn was_joined(replica: &Stat, agreed: Option<&Agreed>) -> bool {
    agreed.is_none_or(|agreed| agreed.replica.id != replica.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::doubt::Moment;
    use crate::tree::entry::{Kind, Time};

    fn stat(ino: u64, size: u64) -> Stat {
        let (mtime, ctime) = (Time::default(), Time::default());
        let kind = Kind::File;
        Stat { kind, mode: 0o644, uid: 0, gid: 0, nlink: 2, size, blocks: 0, mtime, ctime, dev: 0, ino, rdev: 0 }
    }

    fn agreed() -> Agreed {
        let (source, replica) = (stat(1, 1).stamp(), stat(2, 1).stamp());
        Agreed { source, replica, racy: false, looked: Moment::default(), provisional: false, made: None, base: None }
    }

    #[test]
    fn a_name_parts_where_the_source_alone_has_made_it_another_file() {
        let was = Some((stat(1, 1).id(), stat(2, 1).id()));
        let table = [((3, 2), true), ((1, 2), false), ((1, 4), false), ((3, 4), false)];
        for ((source, replica), expected) in table {
            let (source, replica) = (stat(source, 1), stat(replica, 1));
            assert_eq!(parts(&source, &replica, was), expected, "{source:?} {replica:?}");
            // Seen from the other side, it is left to the direction that does it.
            assert_eq!(goes_back(&replica, &source, was.map(|(a, b)| (b, a))), expected, "{source:?} {replica:?}");
        }
        assert!(!parts(&stat(3, 1), &stat(2, 1), None));
        assert!(!parts(&stat(3, 1), &Stat { nlink: 1, ..stat(2, 1) }, was), "it is one already");
    }

    #[test]
    fn a_further_name_shares_what_was_agreed_unless_it_was_given_to_what_was_written() {
        let agreed = agreed();
        assert!(lends_agreement(&stat(1, 1), &stat(2, 9), &agreed), "the replica's may be newer");
        assert!(!lends_agreement(&stat(1, 9), &stat(2, 1), &agreed));
        assert!(!lends_agreement(&stat(3, 1), &stat(2, 1), &agreed));
        assert!(!lends_agreement(&stat(1, 1), &stat(4, 1), &agreed));
    }

    #[test]
    fn a_name_was_joined_if_it_was_another_file_or_none() {
        assert!(was_joined(&stat(4, 1), Some(&agreed())) && was_joined(&stat(4, 1), None));
        assert!(!was_joined(&stat(2, 9), Some(&agreed())));
    }
}
