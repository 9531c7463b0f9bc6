//! Owns the listing of one folder, the unit that everything works on: names in order, with what is known of each.
//! One buffer holds all the names, so that a large folder is two allocations and not one an entry.

use super::entry::Seen;

/// The names in one folder, sorted once `sort` was called.
#[derive(Default, Debug)]
pub struct Listing {
    names: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    start: u32,
    len: u16,
    is_file: bool,
    seen: Seen,
}

impl Listing {
    /// Adds a name. The caller calls `sort` after the last one.
    ///
    /// Returns `false`, and adds nothing, when the folder's names fill 4 GiB.
    pub fn push(&mut self, name: &[u8], seen: Seen) -> bool {
        self.push_listed(name, false, seen)
    }

    /// The same for a name that its folder lists as that of a regular file, or not: `fill` is told.
    pub fn push_listed(&mut self, name: &[u8], is_file: bool, seen: Seen) -> bool {
        let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return false;
        };
        self.names.extend_from_slice(name);
        self.rows.push(Row { start, len, is_file, seen });
        true
    }

    pub fn sort(&mut self) {
        let names = &self.names;
        self.rows.sort_unstable_by(|a, b| name_of(names, a).cmp(name_of(names, b)));
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Seen)> {
        self.rows.iter().map(|row| (name_of(&self.names, row), row.seen))
    }

    pub fn get(&self, name: &[u8]) -> Seen {
        match self.rows.binary_search_by(|row| name_of(&self.names, row).cmp(name)) {
            Ok(at) => self.rows[at].seen,
            Err(_) => Seen::Absent,
        }
    }

    /// Replaces what is known of every name; names for which `look` gives `Absent` stay, as absent.
    pub fn fill(&mut self, mut look: impl FnMut(&[u8], bool) -> Seen) {
        for row in &mut self.rows {
            row.seen = look(name_of(&self.names, row), row.is_file);
        }
    }

    /// The same for the names that stand as absent.
    pub fn fill_absent(&mut self, mut look: impl FnMut(&[u8]) -> Seen) {
        for row in self.rows.iter_mut().filter(|row| row.seen == Seen::Absent) {
            row.seen = look(name_of(&self.names, row));
        }
    }
}

fn name_of<'a>(names: &'a [u8], row: &Row) -> &'a [u8] {
    &names[row.start as usize..row.start as usize + usize::from(row.len)]
}

/// Every name that stands in either listing, in order, with what each side says of it.
pub fn merge<'a>(left: &'a Listing, right: &'a Listing) -> impl Iterator<Item = (&'a [u8], Seen, Seen)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    std::iter::from_fn(move || {
        let (a, b) = (left.peek().copied(), right.peek().copied());
        let name = match (a, b) {
            (None, None) => return None,
            (Some((a, _)), None) => a,
            (None, Some((b, _))) => b,
            (Some((a, _)), Some((b, _))) => a.min(b),
        };
        let take = |side: Option<(&'a [u8], Seen)>| match side {
            Some((n, seen)) if n == name => (true, seen),
            _ => (false, Seen::Absent),
        };
        let ((took_left, source), (took_right, replica)) = (take(a), take(b));
        if took_left {
            left.next();
        }
        if took_right {
            right.next();
        }
        Some((name, source, replica))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn listing(names: &BTreeMap<Vec<u8>, bool>) -> Listing {
        let mut out = Listing::default();
        for (name, known) in names.iter().rev() {
            out.push(name, if *known { Seen::Absent } else { Seen::Unknown });
        }
        out.sort();
        out
    }

    proptest! {
        #[test]
        fn merge_gives_each_name_once_in_order_with_both_sides(
            a in prop::collection::btree_map(prop::collection::vec(97u8..101, 1..4), any::<bool>(), 0..20),
            b in prop::collection::btree_map(prop::collection::vec(97u8..101, 1..4), any::<bool>(), 0..20),
        ) {
            let (left, right) = (listing(&a), listing(&b));
            let merged: Vec<_> = merge(&left, &right).map(|(n, l, r)| (n.to_vec(), l, r)).collect();
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
            let expected: Vec<_> =
                names.into_iter().map(|n| { let (l, r) = (left.get(&n), right.get(&n)); (n, l, r) }).collect();
            prop_assert_eq!(merged, expected);
        }
    }
}
