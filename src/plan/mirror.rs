//! Owns the decision for one name in mirror mode: what the source, the replica and the last agreement say, and the
//! step that follows. It decides nothing about folders' contents (each folder is a listing of its own), nothing
//! about link groups, and nothing about whether removals are let through (see `guard`).

use crate::tree::doubt::{Doubt, Moment};
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::record::Agreed;

/// All that the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub source: Seen,
    pub replica: Seen,
    pub agreed: Option<&'a Agreed>,
    /// What events said of this very name; `None` when it is looked at because its folder is.
    pub doubt: Option<Doubt>,
    pub compare: Compare,
    /// Events were lost then, and not everything has been looked at since: what was agreed before may have changed
    /// unheard, whatever was heard later. 0 where none are missing.
    pub lost: Moment,
}

/// What counts as a change of contents in a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// A stamp that differs from the agreed one.
    Stamps,
    /// Every byte.
    Contents,
}

/// What to do about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// In agreement.
    Nothing,
    /// On neither side any more: nothing to remember.
    Forget,
    /// One side could not be read: nobody knows what is there, so nobody touches it.
    LeaveAlone,
    Create,
    /// The same kind, other contents.
    Update,
    /// Another kind.
    Replace,
    Remove,
    /// May be equal: look closely.
    Examine(Contents),
    /// A folder on both sides; its attributes need a look unless they are agreed.
    Folder {
        attributes_agreed: bool,
    },
}

/// How a close look treats the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    Compare,
    /// Known to be as agreed: all that moved the ctime was a rename, a link or a change of attributes.
    Explained,
}

/// Decides one name.
pub fn decide(case: &Case) -> Step {
    let (source, replica) = match (&case.source, &case.replica) {
        (Seen::Unknown, _) | (_, Seen::Unknown) => return Step::LeaveAlone,
        (Seen::Absent, Seen::Absent) => return Step::Forget,
        (Seen::Absent, Seen::Present(_)) => return Step::Remove,
        (Seen::Present(_), Seen::Absent) => return Step::Create,
        (Seen::Present(source), Seen::Present(replica)) => (source, replica),
    };
    if source.kind != replica.kind {
        return Step::Replace;
    }
    let agreed = case.agreed.filter(|a| a.holds(&source.stamp(), &replica.stamp()));
    match (source.kind, agreed) {
        (Kind::Directory, agreed) => Step::Folder { attributes_agreed: agreed.is_some() },
        (Kind::File, Some(agreed)) => file_as_agreed(case, agreed),
        (Kind::File, None) => file_in_doubt(case, source, replica),
        (_, Some(_)) => Step::Nothing,
        (Kind::CharDevice | Kind::BlockDevice, None) if source.rdev != replica.rdev => Step::Update,
        (_, None) => Step::Examine(Contents::Compare),
    }
}

/// Both stamps are what they were. What can still hide a change: the clock's grain, and a write through a mapping,
/// which the kernel reports when the file is closed and not in the times.
fn file_as_agreed(case: &Case, agreed: &Agreed) -> Step {
    // A look that took the contents on trust answers nothing that was heard of them.
    let after = if agreed.provisional { Moment::default() } else { agreed.looked };
    let heard_later = case.doubt.is_some_and(|d| d.contents && d.at > after);
    let unheard = case.doubt.is_none();
    if heard_later || (unheard && (agreed.racy || case.compare == Compare::Contents)) {
        Step::Examine(Contents::Compare)
    } else {
        Step::Nothing
    }
}

/// A stamp moved, or nothing was ever agreed.
fn file_in_doubt(case: &Case, source: &Stat, replica: &Stat) -> Step {
    if source.size != replica.size {
        return Step::Update;
    }
    let only_attributes = case.doubt.is_some_and(Doubt::spares_contents) && case.compare == Compare::Stamps;
    let explained = case.agreed.is_some_and(|a| {
        !a.racy
            && a.looked >= case.lost
            && a.replica == replica.stamp()
            && source.stamp().same_contents_if_explained(&a.source)
    });
    if only_attributes && explained { Step::Examine(Contents::Explained) } else { Step::Examine(Contents::Compare) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Time;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::CharDevice])
    }

    /// Stats from a small world, so that equal ones come up often.
    fn stat() -> impl Strategy<Value = Stat> {
        (kind(), 0u64..2, 0u64..2, 0i64..2, 0i64..3).prop_map(|(kind, ino, size, mtime, ctime)| Stat {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size,
            blocks: 0,
            mtime: Time { sec: mtime, nsec: 0 },
            ctime: Time { sec: ctime, nsec: 0 },
            dev: 0,
            ino,
            rdev: 0,
        })
    }

    fn seen() -> impl Strategy<Value = Seen> {
        prop_oneof![Just(Seen::Absent), Just(Seen::Unknown), stat().prop_map(Seen::Present)]
    }

    fn agreed() -> impl Strategy<Value = Option<Agreed>> {
        prop::option::of((stat(), stat(), any::<bool>(), 0u64..3).prop_map(|(s, r, racy, looked)| Agreed {
            source: s.stamp(),
            replica: r.stamp(),
            racy,
            looked: Moment(looked),
            provisional: false,
            made: None,
            base: None,
        }))
    }

    fn doubt() -> impl Strategy<Value = Option<Doubt>> {
        prop::option::of(
            (any::<bool>(), 0u64..3).prop_map(|(contents, at)| Doubt { contents, ..Doubt::attributes(Moment(at)) }),
        )
    }

    fn compare() -> impl Strategy<Value = Compare> {
        prop::sample::select(vec![Compare::Stamps, Compare::Contents])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_unknown_is_left_alone(other in seen(), agreed in agreed(), doubt in doubt(), compare in compare()) {
            for (source, replica) in [(Seen::Unknown, other), (other, Seen::Unknown)] {
                let case = Case { source, replica, agreed: agreed.as_ref(), doubt, compare, lost: Moment(0) };
                prop_assert_eq!(decide(&case), Step::LeaveAlone);
            }
        }

        #[test]
        fn removal_follows_from_known_absence_alone(
            source in seen(), replica in seen(), agreed in agreed(), doubt in doubt(), compare in compare(),
        ) {
            let step = decide(&Case { source, replica, agreed: agreed.as_ref(), doubt, compare, lost: Moment(0) });
            let certain = source == Seen::Absent && replica.stat().is_some();
            prop_assert_eq!(step == Step::Remove, certain);
        }

        #[test]
        fn without_an_agreement_nothing_that_holds_data_is_taken_for_equal(
            source in stat(), replica in stat(), doubt in doubt(), compare in compare(),
        ) {
            let case = Case { source: Seen::Present(source), replica: Seen::Present(replica), agreed: None, doubt, compare, lost: Moment(0) };
            let step = decide(&case);
            prop_assert!(!matches!(step, Step::Nothing | Step::Examine(Contents::Explained) | Step::Forget));
        }

        #[test]
        fn a_moved_ctime_is_never_passed_over(
            source in stat(), replica in stat(), moved in 1i64..5, doubt in doubt(), compare in compare(),
        ) {
            let agreed = Agreed {
                source: source.stamp(), replica: replica.stamp(), racy: false, looked: Moment(0), provisional: false, made: None,
                base: None,
            };
            let mut later = source;
            later.ctime.sec += moved;
            let case = Case {
                source: Seen::Present(later), replica: Seen::Present(replica), agreed: Some(&agreed), doubt, compare, lost: Moment(0),
            };
            prop_assert_ne!(decide(&case), Step::Nothing);
            if doubt.is_none_or(|d| d.contents) {
                prop_assert_ne!(decide(&case), Step::Examine(Contents::Explained));
            }
        }

        #[test]
        fn after_lost_events_nothing_is_explained_by_what_was_heard_later(
            source in stat(), replica in stat(), moved in 1i64..5, doubt in doubt(), looked in 0u64..5,
        ) {
            let mut agreed = Agreed {
                source: source.stamp(), replica: replica.stamp(), racy: false, looked: Moment(looked), provisional: false, made: None,
                base: None,
            };
            agreed.source.ctime.sec -= moved;
            let case = Case {
                source: Seen::Present(source), replica: Seen::Present(replica), agreed: Some(&agreed), doubt,
                compare: Compare::Stamps, lost: Moment(looked + 1),
            };
            prop_assert_ne!(decide(&case), Step::Examine(Contents::Explained));
        }

        #[test]
        fn an_event_after_the_look_is_looked_at_and_one_before_it_is_not(
            source in stat(), at in 0u64..5, looked in 0u64..5,
        ) {
            let mut source = source;
            source.kind = Kind::File;
            let agreed = Agreed {
                source: source.stamp(), replica: source.stamp(), racy: false, looked: Moment(looked), provisional: false, made: None,
                base: None,
            };
            let case = Case {
                source: Seen::Present(source),
                replica: Seen::Present(source),
                agreed: Some(&agreed),
                doubt: Some(Doubt::contents(Moment(at))),
                compare: Compare::Stamps,
                lost: Moment(0),
            };
            let expected = if at > looked { Step::Examine(Contents::Compare) } else { Step::Nothing };
            prop_assert_eq!(decide(&case), expected);
        }
    }
}
