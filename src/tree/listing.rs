//! Owns the listing of one folder, the unit that everything works on: names in order, with what is known of each.
//! One buffer holds all the names, so that a large folder is two allocations and not one an entry.

use std::ops::Range;

use super::entry::Seen;

/// The names in one folder, sorted once `sort` was called, with what is known of them once `fill` was.
#[derive(Default, Debug)]
pub struct Listing {
    names: Vec<u8>,
    rows: Vec<Row>,
    /// In the order of the rows; empty before anything is known.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    start: u32,
    len: u16,
    is_file: bool,
}

impl Listing {
    /// Adds a name, which its folder lists as that of a regular file, or not: `fill` is told. The caller calls `sort`
    /// after the last one.
    ///
    /// Returns `false`, and adds nothing, when the folder's names fill 4 GiB.
    pub fn push(&mut self, name: &[u8], is_file: bool) -> bool {
        let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return false;
        };
        self.names.extend_from_slice(name);
        self.rows.push(Row { start, len, is_file });
        true
    }

    /// Most names of a large folder begin alike: what comes after that is compared, eight bytes at a time.
    pub fn sort(&mut self) {
        let Some(first) = self.rows.first().map(|row| name_of(&self.names, row)) else { return };
        let alike = |name: &[u8], up_to: usize| first.iter().zip(name).take(up_to).take_while(|(a, b)| a == b).count();
        let common = self.rows.iter().fold(first.len(), |common, row| alike(name_of(&self.names, row), common));
        let mut keyed: Vec<(u64, Row)> =
            self.rows.iter().map(|row| (key(&name_of(&self.names, row)[common..]), *row)).collect();
        let names = &self.names;
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name_of(names, &a.1).cmp(name_of(names, &b.1))));
        self.rows.clear();
        self.rows.extend(keyed.into_iter().map(|(_, row)| row));
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Seen)> {
        let seen = self.seen.iter().copied().chain(std::iter::repeat(Seen::Absent));
        self.names(0..self.len()).zip(seen)
    }

    /// Some of the names, in order.
    pub fn names(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.rows[range].iter().map(|row| name_of(&self.names, row))
    }

    pub fn has(&self, name: &[u8]) -> bool {
        self.place(name).is_ok()
    }

    pub fn get(&self, name: &[u8]) -> Seen {
        self.place(name).ok().and_then(|at| self.seen.get(at).copied()).unwrap_or(Seen::Absent)
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.rows.binary_search_by(|row| name_of(&self.names, row).cmp(name))
    }

    /// Replaces what is known of every name; names for which `look` gives `Absent` stay, as absent.
    pub fn fill(&mut self, mut look: impl FnMut(&[u8], bool) -> Seen) {
        let (names, rows) = (&self.names, &self.rows);
        self.seen.clear();
        self.seen.reserve_exact(rows.len());
        self.seen.extend(rows.iter().map(|row| look(name_of(names, row), row.is_file)));
    }

    /// The same for the names that stand as absent.
    pub fn fill_absent(&mut self, mut look: impl FnMut(&[u8]) -> Seen) {
        for (row, seen) in self.rows.iter().zip(&mut self.seen).filter(|(_, seen)| **seen == Seen::Absent) {
            *seen = look(name_of(&self.names, row));
        }
    }
}

fn name_of<'a>(names: &'a [u8], row: &Row) -> &'a [u8] {
    &names[row.start as usize..row.start as usize + usize::from(row.len)]
}

/// The first bytes as a number of the same order. No name holds a zero, so that a shorter one comes before.
fn key(name: &[u8]) -> u64 {
    let bytes: [u8; 8] = std::array::from_fn(|at| name.get(at).copied().unwrap_or(0));
    u64::from_be_bytes(bytes)
}

/// Every name that stands in either listing, in order, with what each side says of it.
pub fn merge<'a>(left: &'a Listing, right: &'a Listing) -> impl Iterator<Item = (&'a [u8], Seen, Seen)> {
    let known = |seen: Option<Seen>| seen.unwrap_or(Seen::Absent);
    merge_sorted(left.iter(), right.iter()).map(move |(name, left, right)| (name, known(left), known(right)))
}

/// The names of a part of each listing, in order, and whether they stand in the left and in the right one.
pub fn merge_names<'a>(
    (left, left_part): (&'a Listing, Range<usize>),
    (right, right_part): (&'a Listing, Range<usize>),
) -> impl Iterator<Item = (&'a [u8], bool, bool)> {
    let (left, right) = (left.names(left_part), right.names(right_part));
    let merged = merge_sorted(left.map(|name| (name, ())), right.map(|name| (name, ())));
    merged.map(|(name, left, right)| (name, left.is_some(), right.is_some()))
}

/// Cuts both listings into parts of so many names of the longer one, in order. A name that stands in both is in the same
/// part of both.
pub fn parts(left: &Listing, right: &Listing, most: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let is_left = left.len() >= right.len();
    let (guide, other) = if is_left { (left, right) } else { (right, left) };
    let (mut parts, mut at) = (Vec::with_capacity(guide.len() / most.max(1) + 1), 0);
    for start in (0..guide.len()).step_by(most.max(1)) {
        let end = (start + most.max(1)).min(guide.len());
        let next = guide.rows.get(end).map(|row| name_of(&guide.names, row));
        let until = next.map_or(other.len(), |next| other.place(next).unwrap_or_else(|place| place));
        parts.push(if is_left { (start..end, at..until) } else { (at..until, start..end) });
        at = until;
    }
    parts
}

fn merge_sorted<'a, T: Copy>(
    left: impl Iterator<Item = (&'a [u8], T)>,
    right: impl Iterator<Item = (&'a [u8], T)>,
) -> impl Iterator<Item = (&'a [u8], Option<T>, Option<T>)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let name = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some((a, _)), None) => *a,
            (None, Some((b, _))) => *b,
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
        };
        let (a, b) = (left.next_if(|(n, _)| *n == name), right.next_if(|(n, _)| *n == name));
        Some((name, a.map(|(_, known)| known), b.map(|(_, known)| known)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn listing(names: &BTreeMap<Vec<u8>, bool>) -> Listing {
        let mut out = Listing::default();
        for name in names.keys().rev() {
            out.push(name, false);
        }
        out.sort();
        out.fill(|name, _| if names[name] { Seen::Absent } else { Seen::Unknown });
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

        #[test]
        fn names_come_in_their_order_however_they_begin(
            names in prop::collection::btree_set("(file-0{0,9})?[a-c]{1,4}", 0..30),
        ) {
            let mut listing = Listing::default();
            for name in names.iter().rev() {
                listing.push(name.as_bytes(), false);
            }
            listing.sort();
            let sorted: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            prop_assert_eq!(listing.names(0..listing.len()).collect::<Vec<_>>(), sorted);
        }

        #[test]
        fn parts_hold_all_names_once_and_together_on_both_sides(
            a in prop::collection::btree_map(prop::collection::vec(97u8..101, 1..4), any::<bool>(), 0..20),
            b in prop::collection::btree_map(prop::collection::vec(97u8..101, 1..4), any::<bool>(), 0..20),
            most in 1usize..6,
        ) {
            let (left, right) = (listing(&a), listing(&b));
            let parts = parts(&left, &right, most);
            let in_parts: Vec<_> = parts
                .into_iter()
                .flat_map(|(l, r)| merge_names((&left, l), (&right, r)))
                .map(|(name, l, r)| (name.to_vec(), l, r))
                .collect();
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
            let expected: Vec<_> =
                names.into_iter().map(|n| { let (l, r) = (a.contains_key(&n), b.contains_key(&n)); (n, l, r) }).collect();
            prop_assert_eq!(in_parts, expected);
        }
    }
}
