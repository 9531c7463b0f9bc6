//! Owns the judgement on contents that are not those that were recorded: whether somebody has written them, or a disk has
//! lost them, and which side's are right. It reads nothing.

use crate::tree::digest::{Damage, SealState};
use crate::tree::identity::Side;

/// What reading one side's file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Its contents are those that were recorded.
    Equal,
    Differs,
    /// The disk gave an error in place of contents.
    Failed,
}

/// What that means for the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Same,
    /// Other contents, and nobody has written them.
    Decayed,
    /// Other contents that somebody has written.
    Edited,
    /// Other contents, and nothing that says where they come from.
    Unknown,
}

/// Judges one side.
///
/// A ctime that moved alone is a change of attributes or names, or a write after which the mtime was put back: the first
/// would make a difference decay, the second an edit, so that a difference then proves neither.
pub fn judge(state: SealState, read: Read) -> Finding {
    match (read, state) {
        (Read::Equal, _) => Finding::Same,
        (_, SealState::Whole) => Finding::Decayed,
        (_, SealState::Broken) => Finding::Edited,
        (_, SealState::Touched | SealState::None) => Finding::Unknown,
    }
}

/// What there is to say of a file, and to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Written since; what it has now is recorded when both sides have it.
    Edited,
    /// It has other contents than were recorded, which proves nothing.
    Unclear(Side),
    Decayed(Side, Damage),
}

/// Judges a file by what was found on its sides; `None` for one that was not read, or is not there.
pub fn verdict(source: Option<Finding>, replica: Option<Finding>) -> Verdict {
    let of = |side: Side| if side == Side::Source { source } else { replica };
    let is = |finding: Finding| [Side::Replica, Side::Source].into_iter().find(|side| of(*side) == Some(finding));
    if let Some(side) = is(Finding::Decayed) {
        return Verdict::Decayed(
            side,
            match of(side.other()) {
                Some(Finding::Same) => Damage::Repairable,
                Some(Finding::Decayed) => Damage::Lost,
                Some(Finding::Edited | Finding::Unknown) | None => Damage::Alone,
            },
        );
    }
    match (is(Finding::Unknown), is(Finding::Edited)) {
        (Some(side), _) => Verdict::Unclear(side),
        (None, Some(_)) => Verdict::Edited,
        (None, None) => Verdict::Good,
    }
}

/// What a pass does that was going to copy the source's file over the replica's, because their contents differ, where both
/// have the size that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Copy,
    /// The replica has decayed, and this repairs it.
    Repair,
    /// The source has decayed: its contents stay where they are.
    Refuse,
}

/// Decides that. `source`: its contents against those that were recorded, and nothing where nobody need read them.
pub fn spread(source: SealState, replica: SealState, read: Option<Read>) -> Spread {
    match (source, read, replica) {
        (SealState::Whole, Some(Read::Differs | Read::Failed), _) => Spread::Refuse,
        // The source has what was recorded, the replica has something else.
        (_, Some(Read::Equal), SealState::Whole) => Spread::Repair,
        _ => Spread::Copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [SealState; 4] = [SealState::None, SealState::Whole, SealState::Touched, SealState::Broken];
    const FINDINGS: [Option<Finding>; 5] =
        [None, Some(Finding::Same), Some(Finding::Decayed), Some(Finding::Edited), Some(Finding::Unknown)];

    #[test]
    fn decay_is_only_what_nobody_can_have_written() {
        let table = [
            (SealState::Whole, Finding::Decayed),
            (SealState::Touched, Finding::Unknown),
            (SealState::Broken, Finding::Edited),
            (SealState::None, Finding::Unknown),
        ];
        for (state, finding) in table {
            assert_eq!(judge(state, Read::Equal), Finding::Same, "{state:?}");
            assert_eq!(judge(state, Read::Differs), finding, "{state:?}");
            assert_eq!(judge(state, Read::Failed), finding, "{state:?}");
        }
    }

    #[test]
    fn a_side_is_repaired_only_from_one_that_has_what_was_recorded() {
        let table = [
            (Some(Finding::Same), Some(Finding::Same), Verdict::Good),
            (None, Some(Finding::Same), Verdict::Good),
            (Some(Finding::Same), Some(Finding::Decayed), Verdict::Decayed(Side::Replica, Damage::Repairable)),
            (Some(Finding::Decayed), Some(Finding::Same), Verdict::Decayed(Side::Source, Damage::Repairable)),
            (Some(Finding::Decayed), Some(Finding::Decayed), Verdict::Decayed(Side::Replica, Damage::Lost)),
            (Some(Finding::Edited), Some(Finding::Decayed), Verdict::Decayed(Side::Replica, Damage::Alone)),
            (None, Some(Finding::Decayed), Verdict::Decayed(Side::Replica, Damage::Alone)),
            (Some(Finding::Decayed), Some(Finding::Unknown), Verdict::Decayed(Side::Source, Damage::Alone)),
            (Some(Finding::Same), Some(Finding::Unknown), Verdict::Unclear(Side::Replica)),
            (Some(Finding::Edited), Some(Finding::Same), Verdict::Edited),
        ];
        for (source, replica, expected) in table {
            assert_eq!(verdict(source, replica), expected, "{source:?} {replica:?}");
        }
        for source in FINDINGS {
            for replica in FINDINGS {
                let verdict = verdict(source, replica);
                let of = |side| if side == Side::Source { source } else { replica };
                if let Verdict::Decayed(side, damage) = verdict {
                    assert_eq!(of(side), Some(Finding::Decayed));
                    assert_eq!(damage == Damage::Repairable, of(side.other()) == Some(Finding::Same));
                } else {
                    assert!(![source, replica].contains(&Some(Finding::Decayed)));
                }
            }
        }
    }

    #[test]
    fn a_decayed_source_is_never_copied_and_an_edited_one_always() {
        for source in STATES {
            for replica in STATES {
                for read in [None, Some(Read::Equal), Some(Read::Differs), Some(Read::Failed)] {
                    let is_decayed = read.is_some_and(|read| judge(source, read) == Finding::Decayed);
                    let spread = spread(source, replica, read);
                    assert_eq!(spread == Spread::Refuse, is_decayed, "{source:?} {replica:?} {read:?}");
                    let repairs = read == Some(Read::Equal) && judge(replica, Read::Differs) == Finding::Decayed;
                    assert_eq!(spread == Spread::Repair, repairs, "{source:?} {replica:?} {read:?}");
                }
            }
        }
    }
}
