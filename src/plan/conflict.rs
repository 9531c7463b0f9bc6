//! Owns what becomes of contents that both sides have changed: which side's keep the name, and under which name the
//! others are kept. It reads no clock: a conflict name tells when its version was last written, so that a conflict that
//! was interrupted gets the same name again.

use std::fmt;

use crate::tree::entry::Stat;
use crate::tree::identity::Side;
use crate::tree::name::{split_extension, with_tail};

/// What a person wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// The newer version keeps the name, the older one stays under another.
    #[default]
    KeepBoth,
    /// The newer version stays.
    Newer,
    /// This side's stays.
    Prefer(Side),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::KeepBoth => f.write_str("keep-both"),
            Policy::Newer => f.write_str("newer"),
            Policy::Prefer(side) => write!(f, "{side}"),
        }
    }
}

/// How a conflict ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Whose version has the name afterwards.
    pub winner: Side,
    /// Whether the other side's is kept under another name.
    pub keeps_both: bool,
}

/// Resolves a conflict. Of two versions that were written in the same nanosecond, the one that came to its place later is
/// newer, and after that the source's.
pub fn resolve(policy: Policy, source: &Stat, replica: &Stat) -> Resolution {
    let is_newer = (source.mtime, source.ctime) >= (replica.mtime, replica.ctime);
    let newer = if is_newer { Side::Source } else { Side::Replica };
    match policy {
        Policy::KeepBoth => Resolution { winner: newer, keeps_both: true },
        Policy::Newer => Resolution { winner: newer, keeps_both: false },
        Policy::Prefer(side) => Resolution { winner: side, keeps_both: false },
    }
}

const MARK: &[u8] = b".conflict-";

/// The name under which the version of one side is kept: `NAME.conflict-TIME-SIDE.EXT`, with a number where that is taken.
/// `time` is when it was last written, as `YYYYMMDD-HHMMSS`. `is_taken` is asked of both sides.
pub fn conflict_name(name: &[u8], time: &str, side: Side, is_taken: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (stem, extension) = split_extension(name);
    let stem = original(stem);
    for number in 1u64.. {
        let numbered = if number == 1 { String::new() } else { format!("-{number}") };
        let tail = [MARK, time.as_bytes(), format!("-{side}{numbered}").as_bytes(), extension].concat();
        let conflict = with_tail(stem, &tail);
        if !is_taken(&conflict) {
            return conflict;
        }
    }
    Vec::new()
}

/// Whether a name is one that `conflict_name` gives to versions of `name`.
pub fn is_conflict_of(conflict: &[u8], name: &[u8]) -> bool {
    let (stem, extension) = split_extension(name);
    let stem = original(stem);
    conflict != name
        && conflict.len() > stem.len() + extension.len()
        && conflict.starts_with(stem)
        && conflict[stem.len()..].starts_with(MARK)
        && conflict.ends_with(extension)
}

/// A conflict about what is kept of a conflict is one more version of the same file.
fn original(stem: &[u8]) -> &[u8] {
    stem.windows(MARK.len()).position(|at| at == MARK).filter(|at| *at > 0).map_or(stem, |at| &stem[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::name::LONGEST;
    use crate::tree::path::is_name;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TIME: &str = "20261121-143210";

    fn named(name: &str, side: Side) -> String {
        String::from_utf8(conflict_name(name.as_bytes(), TIME, side, |_| false)).expect("UTF-8")
    }

    #[test]
    fn the_extension_stays_at_the_end_so_that_programs_know_the_file() {
        for (name, expected) in [
            ("report.txt", "report.conflict-20261121-143210-replica.txt"),
            ("archive.tar.gz", "archive.tar.conflict-20261121-143210-replica.gz"),
            ("Makefile", "Makefile.conflict-20261121-143210-replica"),
            (".bashrc", ".bashrc.conflict-20261121-143210-replica"),
            ("ends.", "ends..conflict-20261121-143210-replica"),
            ("no.this is not an extension", "no.this is not an extension.conflict-20261121-143210-replica"),
            ("a.conflict-20200101-000000-source.txt", "a.conflict-20261121-143210-replica.txt"),
        ] {
            assert_eq!(named(name, Side::Replica), expected);
        }
        assert_eq!(named("a.txt", Side::Source), "a.conflict-20261121-143210-source.txt");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = format!("{}.txt", "ü".repeat(125));
        let conflict = named(&name, Side::Source);
        assert!(conflict.len() <= LONGEST && conflict.ends_with("-source.txt"), "{conflict}");
    }

    proptest! {
        #[test]
        fn names_never_collide_and_are_always_names(
            name in prop::collection::vec(any::<u8>(), 1..256).prop_filter("a name", |name| is_name(name)),
            many in 1usize..5,
        ) {
            let mut taken = BTreeSet::from([name.clone()]);
            for _ in 0..many {
                let conflict = conflict_name(&name, TIME, Side::Source, |name| taken.contains(name));
                prop_assert!(is_name(&conflict) && conflict.len() <= LONGEST);
                prop_assert!(taken.insert(conflict));
            }
        }
    }
}
