//! Owns the counts of what was done: plain numbers that add up, and the one line that says them. It counts nothing
//! itself, and knows no time.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::operation::Operation;

/// What a pass, or all passes of a service together, did to the replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub files_copied: u64,
    pub files_updated: u64,
    /// Bytes of the files that were copied or updated.
    pub bytes: u64,
    /// Entries of every kind that were removed.
    pub removed: u64,
    pub renamed: u64,
    pub metadata: u64,
    pub directories_created: u64,
    pub links: u64,
    /// FIFOs, sockets and device nodes.
    pub other: u64,
    /// Names that both sides had changed.
    pub conflicts: u64,
    /// Items that could not be dealt with.
    pub problems: u64,
}

impl Totals {
    /// How many changes were made: everything but the bytes and the problems.
    pub fn changes(&self) -> u64 {
        [
            self.files_copied,
            self.files_updated,
            self.removed,
            self.renamed,
            self.metadata,
            self.directories_created,
            self.links,
            self.other,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Counts one operation; `bytes` are the contents that it wrote.
    pub fn count(&mut self, operation: Operation, bytes: u64) {
        let counter = match operation {
            Operation::FileCopied => &mut self.files_copied,
            Operation::FileUpdated => &mut self.files_updated,
            Operation::FileRemoved
            | Operation::DirectoryRemoved
            | Operation::LinkRemoved
            | Operation::SpecialRemoved => &mut self.removed,
            Operation::DirectoryCreated => &mut self.directories_created,
            Operation::LinkCreated | Operation::LinkUpdated => &mut self.links,
            Operation::SpecialCreated => &mut self.other,
            Operation::Renamed => &mut self.renamed,
            Operation::MetadataUpdated => &mut self.metadata,
        };
        *counter = counter.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        let Self {
            files_copied,
            files_updated,
            bytes,
            removed,
            renamed,
            metadata,
            directories_created,
            links,
            other,
            conflicts,
            problems,
        } = self;
        for (sum, part) in [
            (files_copied, more.files_copied),
            (files_updated, more.files_updated),
            (bytes, more.bytes),
            (removed, more.removed),
            (renamed, more.renamed),
            (metadata, more.metadata),
            (directories_created, more.directories_created),
            (links, more.links),
            (other, more.other),
            (conflicts, more.conflicts),
            (problems, more.problems),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(mut self, more: Self) -> Self {
        self += more;
        self
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} copied, {} updated, {} removed, {} renamed, {} metadata, {}, {}, ",
            self.files_copied,
            self.files_updated,
            self.removed,
            self.renamed,
            self.metadata,
            counted(self.directories_created, "directory", "directories"),
            counted(self.links, "link", "links"),
        )?;
        // Special files are rare: the usual line does without them.
        if self.other > 0 {
            write!(f, "{}, ", counted(self.other, "special file", "special files"))?;
        }
        if self.conflicts > 0 {
            write!(f, "{}, ", counted(self.conflicts, "conflict", "conflicts"))?;
        }
        write!(f, "{}, {}", counted(self.problems, "problem", "problems"), Bytes(self.bytes))
    }
}

/// A number of bytes as a person reads it: `512 B`, `1.2 MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        // Tenths in whole numbers, rounded; 1023.95 KiB and above read better as 1.0 MiB.
        let mut unit = 0;
        let tenths = |unit: usize| {
            let size = 1u128 << (10 * (unit + 1));
            (u128::from(self.0) * 10 + size / 2) / size
        };
        while tenths(unit) >= 10240 && unit + 1 < UNITS.len() {
            unit += 1;
        }
        write!(f, "{}.{} {}", tenths(unit) / 10, tenths(unit) % 10, UNITS[unit])
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Totals {
        Totals {
            files_copied: 12,
            files_updated: 3,
            bytes: 1_258_291,
            removed: 1,
            renamed: 2,
            metadata: 4,
            directories_created: 1,
            ..Totals::default()
        }
    }

    #[test]
    fn totals_are_one_line() {
        let line = "12 copied, 3 updated, 1 removed, 2 renamed, 4 metadata, 1 directory, 0 links, 0 problems, 1.2 MiB";
        assert_eq!(sample().to_string(), line);
        assert!(Totals { other: 2, ..sample() }.to_string().contains(" 2 special files, "));
    }

    #[test]
    fn sums_count_every_field_once() {
        let sum = sample() + sample();
        assert_eq!(sum.changes(), 2 * sample().changes());
        assert_eq!(sample().changes(), 23);
        assert_eq!((sum.bytes, sum.problems), (2_516_582, 0));
    }

    #[test]
    fn every_operation_is_one_change() {
        let mut totals = Totals::default();
        let all = [
            Operation::FileCopied,
            Operation::FileUpdated,
            Operation::FileRemoved,
            Operation::DirectoryCreated,
            Operation::DirectoryRemoved,
            Operation::LinkCreated,
            Operation::LinkUpdated,
            Operation::LinkRemoved,
            Operation::SpecialCreated,
            Operation::SpecialRemoved,
            Operation::Renamed,
            Operation::MetadataUpdated,
        ];
        for operation in all {
            totals.count(operation, 5);
        }
        assert_eq!(totals.changes(), all.len() as u64);
        assert_eq!((totals.removed, totals.links, totals.bytes), (4, 2, 60));
    }

    #[test]
    fn bytes_are_rounded_to_a_unit() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
