//! Owns the decision for one name in two-way mode: what both sides and the last agreement say, and which way it goes.
//! What a folder holds is decided name by name, so that "the folder goes" means "all in it that is as agreed goes".
//!
//! What became of each side since they agreed, and what follows:
//!
//! ```text
//!                  replica: same     attributes          contents              gone
//! source: same     nothing           replica's           replica's             gone from the source
//! attributes       source's          merged if equal     replica's, merged     gone from the source
//! contents         source's          source's, merged    equal, or conflict    source's comes back
//! gone             gone from the     gone from the       replica's comes       forgotten
//!                  replica           replica             back
//! ```
//!
//! What was never agreed is new: it goes to the other side, or, where that has the name too, is equal or a conflict. So
//! without an archive nothing is ever removed. Another kind counts as other contents. A side that could not be read is
//! unknown, and nothing is done on either.

use crate::tree::entry::{Kind, Seen, Stamp, Stat};
use crate::tree::identity::Side;
use crate::tree::record::{Agreed, Base};

/// All that the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Both<'a> {
    pub source: Seen,
    pub replica: Seen,
    pub agreed: Option<&'a Agreed>,
    /// Of which sides something was heard, or has to be assumed, that their stamps need not show: a write through a
    /// mapping, or one within the clock's grain.
    pub doubted: (bool, bool),
}

/// What to do about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In agreement.
    Nothing,
    /// On neither side any more: nothing to remember.
    Forget,
    /// One side could not be read: nobody knows what is there, so nobody touches it.
    LeaveAlone,
    /// What this side has, whole, goes to the other.
    Take(Side),
    /// The other side has it no more: it goes from this one, if all below it is as agreed.
    Remove(Side),
    /// The contents are this side's, the attributes come from both.
    Merge(Side),
    /// Contents decide: equal ones are in agreement but for attributes, which come from both; of different ones this
    /// becomes.
    Compare(Different),
    Conflict,
    /// A folder on both sides; its attributes need a look unless they are agreed.
    Folder {
        attributes_agreed: bool,
    },
}

/// What different contents mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Different {
    /// Only this side can have been written.
    Take(Side),
    Conflict,
}

/// What became of one side's entry since both agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Same,
    /// Perhaps written, though nothing shows it.
    Unsure,
    Attributes,
    Contents,
    Gone,
}

impl Since {
    /// `is_racy`: it may have been written in the instant in which it was agreed. `base`: an owner that was set in that
    /// instant shows in no stamp.
    fn of(seen: Option<&Stat>, (agreed, base): (&Stamp, Option<Base>), (is_doubted, is_racy): (bool, bool)) -> Self {
        let Some(stat) = seen else { return Since::Gone };
        let now = stat.stamp();
        let has_contents = now.kind == Kind::File;
        if now == *agreed {
            return match has_same_owner(stat, base) {
                _ if (is_doubted || is_racy) && has_contents => Since::Unsure,
                true => Since::Same,
                false => Since::Attributes,
            };
        }
        let is_folder = (now.kind, agreed.kind) == (Kind::Directory, Kind::Directory);
        // What a folder holds is decided one by one.
        match is_folder || now.same_contents_if_explained(agreed) {
            true if is_racy && has_contents => Since::Unsure,
            true => Since::Attributes,
            false => Since::Contents,
        }
    }
}

/// Decides one name.
pub fn reconcile(both: &Both) -> Verdict {
    if both.source == Seen::Unknown || both.replica == Seen::Unknown {
        return Verdict::LeaveAlone;
    }
    let (source, replica) = (both.source.stat(), both.replica.stat());
    let Some(agreed) = both.agreed else { return never_agreed(source, replica) };
    if let (Some(source), Some(replica)) = (source, replica)
        && (source.kind, replica.kind) == (Kind::Directory, Kind::Directory)
    {
        let is_same = [source, replica].into_iter().all(|stat| has_same_owner(stat, agreed.base));
        return Verdict::Folder { attributes_agreed: is_same && agreed.holds(&source.stamp(), &replica.stamp()) };
    }
    let since = |seen, stamp, doubted, side| {
        // Where whole seconds are kept, what was just made looks as if it had been written in the same instant.
        let hides = agreed.hides_a_write(stamp) && agreed.made != Some(side);
        Since::of(seen, (stamp, agreed.base), (doubted, hides))
    };
    let of_source = since(source, &agreed.source, both.doubted.0, Side::Source);
    let of_replica = since(replica, &agreed.replica, both.doubted.1, Side::Replica);
    let is_other_kind = source.zip(replica).is_some_and(|(source, replica)| source.kind != replica.kind);
    match decide(of_source, of_replica) {
        Verdict::Merge(side) if is_other_kind => Verdict::Take(side),
        Verdict::Compare(_) if is_other_kind => Verdict::Conflict,
        verdict => verdict,
    }
}

fn has_same_owner(now: &Stat, base: Option<Base>) -> bool {
    base.is_none_or(|base| (now.uid, now.gid) == (base.uid, base.gid))
}

fn never_agreed(source: Option<&Stat>, replica: Option<&Stat>) -> Verdict {
    match (source, replica) {
        (None, None) => Verdict::Forget,
        (Some(_), None) => Verdict::Take(Side::Source),
        (None, Some(_)) => Verdict::Take(Side::Replica),
        (Some(source), Some(replica)) if source.kind != replica.kind => Verdict::Conflict,
        (Some(source), Some(_)) if source.kind == Kind::Directory => Verdict::Folder { attributes_agreed: false },
        (Some(_), Some(_)) => Verdict::Compare(Different::Conflict),
    }
}

fn decide(source: Since, replica: Since) -> Verdict {
    use Since::{Attributes, Contents, Gone, Same, Unsure};
    match (source, replica) {
        (Same, Same) => Verdict::Nothing,
        (Gone, Gone) => Verdict::Forget,
        (Gone, Same | Attributes) => Verdict::Remove(Side::Replica),
        (Same | Attributes, Gone) => Verdict::Remove(Side::Source),
        // What may have been written is kept as what was.
        (Gone, Contents | Unsure) => Verdict::Take(Side::Replica),
        (Contents | Unsure, Gone) => Verdict::Take(Side::Source),
        (Attributes | Contents, Same) => Verdict::Take(Side::Source),
        (Same, Attributes | Contents) => Verdict::Take(Side::Replica),
        (Contents, Attributes) => Verdict::Merge(Side::Source),
        (Attributes, Contents) => Verdict::Merge(Side::Replica),
        (Unsure, Same) => Verdict::Compare(Different::Take(Side::Source)),
        (Same, Unsure) => Verdict::Compare(Different::Take(Side::Replica)),
        // A change of attributes may be a write whose mtime was put back.
        (Attributes | Unsure, Attributes | Unsure) | (Unsure | Contents, Unsure | Contents) => {
            Verdict::Compare(Different::Conflict)
        }
    }
}

/// Whether the source's contents, and the replica's, are others than when both were agreed, or are gone since.
pub fn written(both: &Both) -> (bool, bool) {
    let Some(agreed) = both.agreed else { return (both.source.stat().is_some(), both.replica.stat().is_some()) };
    let is_written = |now: Seen, was: &Stamp| {
        matches!(Since::of(now.stat(), (was, None), (false, false)), Since::Contents | Since::Gone)
    };
    (is_written(both.source, &agreed.source), is_written(both.replica, &agreed.replica))
}

/// Whether all that may have become of one side's entry since both agreed is a change of its attributes.
pub fn is_unwritten(now: &Stat, agreed: &Stamp) -> bool {
    matches!(Since::of(Some(now), (agreed, None), (false, false)), Since::Same | Since::Attributes)
}

/// Whose attributes an entry has that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub mode: Side,
    pub uid: Side,
    pub gid: Side,
    pub mtime: Side,
    /// The extended ones, whole; nothing where both sides may have changed them. Then those of both are taken, and where they
    /// differ those of the `later` side, so that nothing that was set is lost.
    pub extended: Option<Side>,
    pub later: Side,
}

/// Merges attributes: each is that of the side that has changed it. What both have changed, or what does not show who
/// has, is the later one's. `hashes`: of the extended ones of both sides.
pub fn merge_attributes(source: &Stat, replica: &Stat, agreed: Option<&Agreed>, hashes: (u64, u64)) -> Attributes {
    let later = if source.ctime >= replica.ctime { Side::Source } else { Side::Replica };
    let changed = |(of_source, of_replica): (bool, bool)| match (of_source, of_replica) {
        (true, false) => Side::Source,
        (false, true) => Side::Replica,
        _ => later,
    };
    let newer = if source.mtime >= replica.mtime { Side::Source } else { Side::Replica };
    let Some(agreed) = agreed else {
        return Attributes { mode: later, uid: later, gid: later, mtime: newer, extended: None, later };
    };
    let (was_source, was_replica) = (&agreed.source, &agreed.replica);
    let mtime = (source.mtime != was_source.mtime, replica.mtime != was_replica.mtime);
    let ctime = (source.ctime != was_source.ctime, replica.ctime != was_replica.ctime);
    // Without a base, whatever may have changed has.
    let id = |of: fn(&Stat) -> u32, was: fn(&Base) -> u32| match agreed.base.as_ref().map(was) {
        Some(was) => changed((of(source) != was, of(replica) != was)),
        None => changed(ctime),
    };
    let since = |(now, there): (u64, u64), was: Option<u64>| match was.map(|was| (now != was, there != was)) {
        Some((false, false)) if now == there => (false, false),
        Some((of_source, of_replica)) if of_source || of_replica => (of_source && ctime.0, of_replica && ctime.1),
        _ => ctime,
    };
    let extended = match since(hashes, agreed.base.map(|base| base.extended)) {
        (of_source, of_replica) if of_source == of_replica => None,
        one => Some(changed(one)),
    };
    Attributes {
        extended,
        later,
        mode: changed((source.mode != was_source.mode, replica.mode != was_replica.mode)),
        uid: id(|stat| stat.uid, |base| base.uid),
        gid: id(|stat| stat.gid, |base| base.gid),
        mtime: if mtime.0 == mtime.1 { newer } else { changed(mtime) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::doubt::Moment;
    use crate::tree::entry::Time;
    use proptest::prelude::*;

    /// A file in a small world, whose contents are its mtime and whose attributes are its mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Item {
        kind: Kind,
        contents: i64,
        mode: u16,
        ctime: i64,
    }

    impl Item {
        fn stat(self, ino: u64) -> Stat {
            Stat {
                kind: self.kind,
                mode: self.mode,
                uid: 0,
                gid: 0,
                nlink: 1,
                size: 1,
                blocks: 0,
                mtime: Time { sec: self.contents, nsec: 0 },
                ctime: Time { sec: self.ctime, nsec: 0 },
                dev: 0,
                ino,
                rdev: 0,
            }
        }
    }

    type World = (Option<Item>, Option<Item>, Option<(Item, Item)>);

    fn seen(item: Option<Item>, ino: u64) -> Seen {
        item.map_or(Seen::Absent, |item| Seen::Present(item.stat(ino)))
    }

    fn agreed(base: Option<(Item, Item)>) -> Option<Agreed> {
        base.map(|(source, replica)| Agreed {
            source: source.stat(1).stamp(),
            replica: replica.stat(2).stamp(),
            racy: false,
            looked: Moment::default(),
            provisional: false,
            made: None,
            base: None,
        })
    }

    fn verdict((source, replica, base): World) -> Verdict {
        verdict_with((seen(source, 1), seen(replica, 2)), agreed(base))
    }

    fn verdict_with((source, replica): (Seen, Seen), agreed: Option<Agreed>) -> Verdict {
        reconcile(&Both { source, replica, agreed: agreed.as_ref(), doubted: (false, false) })
    }

    fn swapped(verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Take(side) => Verdict::Take(side.other()),
            Verdict::Remove(side) => Verdict::Remove(side.other()),
            Verdict::Merge(side) => Verdict::Merge(side.other()),
            Verdict::Compare(Different::Take(side)) => Verdict::Compare(Different::Take(side.other())),
            other => other,
        }
    }

    /// Carries a verdict out in the small world. Returns both sides, and what was kept under a conflict name.
    fn carried_out((source, replica, base): World) -> (Option<Item>, Option<Item>, Option<Item>) {
        let side = |side| if side == Side::Source { source } else { replica };
        let merged = |winner: Option<Item>| {
            let (Some(winner), Some(source), Some(replica)) = (winner, source, replica) else { return winner };
            let was = base.map(|(source, _)| source.mode);
            Some(Item { mode: if was == Some(source.mode) { replica.mode } else { source.mode }, ..winner })
        };
        let conflict = || {
            if source.map(|s| s.contents) >= replica.map(|r| r.contents) {
                (source, source, replica)
            } else {
                (replica, replica, source)
            }
        };
        let is_equal = source.map(|s| (s.kind, s.contents)) == replica.map(|r| (r.kind, r.contents));
        match verdict((source, replica, base)) {
            Verdict::Nothing | Verdict::Forget | Verdict::LeaveAlone => (source, replica, None),
            Verdict::Take(from) => (side(from), side(from), None),
            Verdict::Remove(_) => (None, None, None),
            Verdict::Merge(from) => (merged(side(from)), merged(side(from)), None),
            Verdict::Compare(_) | Verdict::Folder { .. } if is_equal => (merged(source), merged(source), None),
            Verdict::Folder { .. } => (merged(source), merged(source), None),
            Verdict::Compare(Different::Take(from)) => (side(from), side(from), None),
            Verdict::Compare(Different::Conflict) | Verdict::Conflict => conflict(),
        }
    }

    fn item() -> impl Strategy<Value = Item> {
        (prop::sample::select(vec![Kind::File, Kind::Directory, Kind::Symlink]), 0i64..3, 0u16..3, 0i64..2)
            .prop_map(|(kind, contents, mode, ctime)| Item { kind, contents, mode, ctime })
    }

    /// Both sides and an agreement; a side that differs from it in anything differs in its ctime too.
    fn world() -> impl Strategy<Value = World> {
        let side = || (prop::option::of(item()), any::<bool>());
        (side(), side(), prop::option::of(item())).prop_map(|((source, keep_s), (replica, keep_r), base)| {
            let later = |item: Option<Item>| item.map(|item| Item { ctime: 5, ..item });
            let pick = |keeps: bool, other| if keeps && base.is_some() { base } else { later(other) };
            (pick(keep_s, source), pick(keep_r, replica), base.map(|base| (base, base)))
        })
    }

    const BASE: Item = Item { kind: Kind::File, contents: 1, mode: 1, ctime: 1 };
    const TOUCHED: Item = Item { mode: 2, ctime: 2, ..BASE };
    const WRITTEN: Item = Item { contents: 2, ctime: 2, ..BASE };
    const FOLDER: Item = Item { kind: Kind::Directory, contents: 2, ctime: 2, ..BASE };

    /// The verdict for a row of the table, and for the same row seen from the other side.
    fn row(source: Option<Item>, replica: Option<Item>, expected: Verdict) {
        let base = Some((BASE, BASE));
        assert_eq!(verdict((source, replica, base)), expected);
        assert_eq!(verdict((replica, source, base)), swapped(expected));
    }

    #[test]
    fn what_is_as_agreed_on_both_sides_is_left() {
        row(Some(BASE), Some(BASE), Verdict::Nothing);
    }

    #[test]
    fn what_is_gone_from_both_sides_is_forgotten() {
        row(None, None, Verdict::Forget);
    }

    #[test]
    fn a_change_on_one_side_wins_over_none() {
        row(Some(WRITTEN), Some(BASE), Verdict::Take(Side::Source));
        row(Some(TOUCHED), Some(BASE), Verdict::Take(Side::Source));
        row(Some(FOLDER), Some(BASE), Verdict::Take(Side::Source));
    }

    #[test]
    fn a_deletion_goes_over_what_is_as_agreed() {
        row(None, Some(BASE), Verdict::Remove(Side::Replica));
    }

    #[test]
    fn a_deletion_beats_a_change_of_attributes_alone() {
        row(None, Some(TOUCHED), Verdict::Remove(Side::Replica));
    }

    #[test]
    fn what_was_written_survives_its_deletion_on_the_other_side() {
        row(None, Some(WRITTEN), Verdict::Take(Side::Replica));
        row(None, Some(FOLDER), Verdict::Take(Side::Replica));
    }

    #[test]
    fn attributes_changed_on_one_side_and_contents_on_the_other_are_merged() {
        row(Some(TOUCHED), Some(WRITTEN), Verdict::Merge(Side::Replica));
    }

    #[test]
    fn what_changed_on_both_sides_is_compared_and_a_conflict_if_it_differs() {
        row(Some(WRITTEN), Some(WRITTEN), Verdict::Compare(Different::Conflict));
        row(Some(TOUCHED), Some(TOUCHED), Verdict::Compare(Different::Conflict));
    }

    #[test]
    fn another_kind_on_both_sides_is_a_conflict_unless_it_is_the_same_folder() {
        let link = Item { kind: Kind::Symlink, ..WRITTEN };
        row(Some(FOLDER), Some(WRITTEN), Verdict::Conflict);
        row(Some(link), Some(WRITTEN), Verdict::Conflict);
        row(Some(FOLDER), Some(FOLDER), Verdict::Folder { attributes_agreed: false });
        row(Some(FOLDER), Some(TOUCHED), Verdict::Take(Side::Source));
    }

    #[test]
    fn what_was_never_agreed_is_new_on_either_side() {
        assert_eq!(verdict((Some(BASE), None, None)), Verdict::Take(Side::Source));
        assert_eq!(verdict((None, Some(BASE), None)), Verdict::Take(Side::Replica));
        assert_eq!(verdict((Some(BASE), Some(BASE), None)), Verdict::Compare(Different::Conflict));
        assert_eq!(verdict((Some(BASE), Some(FOLDER), None)), Verdict::Conflict);
    }

    #[test]
    fn what_is_doubted_is_compared_and_is_the_doubted_sides_if_it_differs() {
        let agreed = agreed(Some((BASE, BASE)));
        let case = |replica: Item, doubted| {
            reconcile(&Both {
                source: seen(Some(BASE), 1),
                replica: seen(Some(replica), 2),
                agreed: agreed.as_ref(),
                doubted,
            })
        };
        assert_eq!(case(BASE, (true, false)), Verdict::Compare(Different::Take(Side::Source)));
        assert_eq!(case(BASE, (false, true)), Verdict::Compare(Different::Take(Side::Replica)));
        assert_eq!(case(BASE, (true, true)), Verdict::Compare(Different::Conflict));
        assert_eq!(case(WRITTEN, (true, false)), Verdict::Compare(Different::Conflict));
        assert_eq!(case(WRITTEN, (false, true)), Verdict::Take(Side::Replica));
    }

    #[test]
    fn extended_attributes_are_those_of_the_side_that_has_changed_or_of_both() {
        let agreed = agreed(Some((BASE, BASE)));
        let merged =
            |source: Item, replica: Item| merge_attributes(&source.stat(1), &replica.stat(2), agreed.as_ref(), (0, 0));
        let later = Item { ctime: 3, ..TOUCHED };
        assert_eq!(merged(TOUCHED, BASE).extended, Some(Side::Source));
        assert_eq!(merged(BASE, TOUCHED).extended, Some(Side::Replica));
        assert_eq!((merged(TOUCHED, later).extended, merged(TOUCHED, later).later), (None, Side::Replica));
        assert_eq!(merge_attributes(&BASE.stat(1), &BASE.stat(2), None, (0, 0)).extended, None);
    }

    #[test]
    fn attributes_that_no_stamp_shows_are_those_of_the_side_that_differs_from_what_was_agreed() {
        use crate::tree::record::Base;
        let base = Some(Base { uid: 0, gid: 0, extended: 7 });
        let agreed = agreed(Some((BASE, BASE))).map(|agreed| Agreed { base, ..agreed });
        let later = Item { ctime: 3, ..TOUCHED };
        let owned = |item: Item, (uid, gid), ino| Stat { uid, gid, ..item.stat(ino) };
        let merged = |(source, of_source), (replica, of_replica), hashes| {
            let (source, replica) = (owned(source, of_source, 1), owned(replica, of_replica, 2));
            merge_attributes(&source, &replica, agreed.as_ref(), hashes)
        };
        // Both ctimes have moved, and the later one tells nothing.
        let one = merged((TOUCHED, (5, 0)), (later, (0, 6)), (8, 7));
        assert_eq!((one.uid, one.gid, one.extended), (Side::Source, Side::Replica, Some(Side::Source)));
        let other = merged((later, (0, 6)), (TOUCHED, (5, 0)), (7, 8));
        assert_eq!((other.uid, other.gid, other.extended), (Side::Replica, Side::Source, Some(Side::Replica)));
        // Both have changed the same.
        let same = merged((TOUCHED, (5, 0)), (later, (6, 0)), (8, 9));
        assert_eq!((same.uid, same.extended), (Side::Replica, None));
        // What was set in the instant of the agreement is there, though no ctime has moved.
        assert_eq!(merged((BASE, (5, 0)), (TOUCHED, (0, 0)), (8, 7)).uid, Side::Source);
        let verdict =
            |source: Stat, replica: Stat| verdict_with((Seen::Present(source), Seen::Present(replica)), agreed);
        let (same, other) = (owned(BASE, (0, 0), 1), owned(BASE, (5, 0), 2));
        assert_eq!(verdict(same, owned(BASE, (0, 0), 2)), Verdict::Nothing);
        assert_eq!(verdict(same, other), Verdict::Take(Side::Replica));
        assert_eq!(verdict(owned(BASE, (0, 5), 1), owned(BASE, (0, 0), 2)), Verdict::Take(Side::Source));
    }

    #[test]
    fn a_save_within_the_grain_of_what_was_copied_is_no_conflict() {
        let racy = |source: Item, replica: Item| agreed(Some((source, replica))).map(|a| Agreed { racy: true, ..a });
        // Both times of what was just saved are one; those of a copy are not.
        let saved = Item { contents: 5, ctime: 5, ..BASE };
        let copied = Item { contents: 5, ctime: 6, ..BASE };
        let agreed = racy(saved, copied);
        let case = |source: Item, replica: Item| {
            let (source, replica) = (seen(Some(source), 1), seen(Some(replica), 2));
            reconcile(&Both { source, replica, agreed: agreed.as_ref(), doubted: (false, false) })
        };
        let again = Item { contents: 7, ctime: 7, ..BASE };
        assert_eq!(case(saved, copied), Verdict::Compare(Different::Take(Side::Source)));
        assert_eq!(case(again, copied), Verdict::Take(Side::Source));
        assert_eq!(case(saved, again), Verdict::Compare(Different::Conflict), "the source may hide a write");
        let touched = Item { mode: 0o600, ctime: 8, ..saved };
        assert_eq!(case(touched, copied), Verdict::Compare(Different::Take(Side::Source)), "it may hide one too");
    }

    #[test]
    fn a_save_in_the_second_of_a_copy_is_no_conflict_where_whole_seconds_are_kept() {
        let saved = Item { contents: 5, ctime: 5, ..BASE };
        let verdict = |made| {
            let agreed = agreed(Some((saved, saved))).map(|a| Agreed { racy: true, made, ..a });
            let (source, replica) = (seen(Some(saved), 1), seen(Some(saved), 2));
            reconcile(&Both { source, replica, agreed: agreed.as_ref(), doubted: (false, false) })
        };
        assert_eq!(verdict(Some(Side::Replica)), Verdict::Compare(Different::Take(Side::Source)));
        assert_eq!(verdict(Some(Side::Source)), Verdict::Compare(Different::Take(Side::Replica)));
        assert_eq!(verdict(None), Verdict::Compare(Different::Conflict));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn swapping_the_sides_swaps_the_plan(world in world()) {
            let (source, replica, base) = world;
            let base = base.map(|(s, r)| (r, s));
            prop_assert_eq!(verdict((replica, source, base)), swapped(verdict(world)));
        }

        #[test]
        fn what_is_unknown_is_left_alone(world in world()) {
            let (source, _, base) = world;
            for both in [(Seen::Unknown, seen(source, 1)), (seen(source, 1), Seen::Unknown)] {
                prop_assert_eq!(verdict_with(both, agreed(base)), Verdict::LeaveAlone);
            }
        }

        #[test]
        fn without_an_agreement_nothing_is_removed(world in world()) {
            let (source, replica, _) = world;
            prop_assert!(!matches!(verdict((source, replica, None)), Verdict::Remove(_) | Verdict::Nothing));
        }

        #[test]
        fn contents_that_are_new_on_either_side_exist_afterwards(world in world()) {
            let (source, replica, base) = world;
            let (after, _, kept) = carried_out(world);
            for (now, was) in [(source, base.map(|b| b.0)), (replica, base.map(|b| b.1))] {
                let Some(now) = now.filter(|now| now.kind != Kind::Directory) else { continue };
                let is_new = was.is_none_or(|was| (was.kind, was.contents) != (now.kind, now.contents));
                let is_there = |item: Option<Item>| item.is_some_and(|i| (i.kind, i.contents) == (now.kind, now.contents));
                prop_assert!(!is_new || is_there(after) || is_there(kept), "{:?}", verdict(world));
            }
        }

        #[test]
        fn both_sides_are_equal_afterwards_and_a_second_pass_is_empty(world in world()) {
            let (source, replica, _) = carried_out(world);
            let same = |item: Option<Item>| item.map(|i| (i.kind, i.contents, i.mode));
            prop_assert_eq!(same(source), same(replica));
            let base = source.zip(replica);
            let second = verdict((source, replica, base));
            let nothing = [Verdict::Nothing, Verdict::Forget, Verdict::Folder { attributes_agreed: true }];
            prop_assert!(nothing.contains(&second), "{:?}", second);
        }
    }
}
