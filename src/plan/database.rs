//! Owns what makes copies of an SQLite database's files belong together: the judgement of what was seen before and
//! after they were read, and the order in which they are published. It reads nothing and publishes nothing.
//!
//! # When a reading is one state of the database
//!
//! The files were all read in one window, in which they were looked at first and last. The database's own file must not
//! have changed in it; then it is what it was at the first look, and the question is what it needs beside it:
//!
//! | at the first look | needed | why |
//! | --- | --- | --- |
//! | no journal, or one without a header | nothing | no transaction had written into the database |
//! | a journal with its header | the journal, and that it did not change either | both are as they were at one instant |
//! | the same, under a shared lock, while somebody holds the reserved one | nothing | that transaction has yet to write |
//! | no write-ahead log, or one shorter than its header | nothing | all is in the database |
//! | a write-ahead log | the log, with the same header at the end, and not shorter | only a checkpoint writes into the database, and what is appended meanwhile is a further transaction, or fails its checksum |
//!
//! # The order of publication
//!
//! One name is switched after another, so that a crash, or somebody who looks, can see what lies between:
//!
//! | change | order | in between |
//! | --- | --- | --- |
//! | one file alone | | nothing |
//! | no database there before | log and journal, database | no database |
//! | the log has grown (the same header), the database changed | log, database | the new state: the log holds all that the database lacks |
//! | the log was begun anew, or is gone | remove the old log, database, new log | an older state; one that a checkpoint was in the middle of is incomplete |
//! | the journal is gone | remove the journal, database | as it was, unless a transaction was in the middle of writing |
//! | a new journal | journal, database | the state before the transaction, if the replica had that one |

use crate::tree::entry::Stamp;

/// The files that may belong to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Database,
    Log,
    Journal,
    /// Shared memory of the processes that have it open. The first of them makes it anew: it needs no care.
    Index,
}

/// With these bytes a database begins.
pub const MAGIC: &[u8] = b"SQLite format 3\0";
/// As much of each file's beginning tells what it is.
pub const HEAD: usize = 100;
const LOG_HEADER: usize = 32;
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

impl Part {
    pub const ALL: [Part; 4] = [Part::Database, Part::Log, Part::Journal, Part::Index];

    fn suffix(self) -> &'static [u8] {
        match self {
            Part::Database => b"",
            Part::Log => b"-wal",
            Part::Journal => b"-journal",
            Part::Index => b"-shm",
        }
    }

    /// The name of this file of the database `base`.
    pub fn name(self, base: &[u8]) -> Box<[u8]> {
        [base, self.suffix()].concat().into()
    }

    /// Which file of which database has this name, if it belongs to one.
    pub fn of(name: &[u8]) -> (&[u8], Part) {
        [Part::Log, Part::Journal, Part::Index]
            .into_iter()
            .find_map(|part| name.strip_suffix(part.suffix()).filter(|base| !base.is_empty()).map(|base| (base, part)))
            .unwrap_or((name, Part::Database))
    }
}

/// One file as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub stamp: Stamp,
    /// Its first bytes, as many as there are up to `HEAD`.
    pub head: Vec<u8>,
}

/// A database's files as they were seen at one end of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub database: Sight,
    pub log: Option<Sight>,
    pub journal: Option<Sight>,
}

/// What was locked while the files were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    Nothing,
    /// Nobody could write into the database; `reserved`: somebody is preparing to.
    Shared {
        reserved: bool,
    },
}

/// What a reading is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One state of the database. `with_journal`: the journal belongs to it, as far as there is one.
    Coherent {
        with_journal: bool,
    },
    Torn,
}

impl Look {
    /// Whether a transaction may have written into the database.
    pub fn is_hot(&self) -> bool {
        self.journal.as_ref().is_some_and(Sight::is_live_journal)
    }

    /// One of the files as it was seen; the index is not looked at.
    pub fn of(&self, part: Part) -> Option<&Sight> {
        match part {
            Part::Database => Some(&self.database),
            Part::Log => self.log.as_ref(),
            Part::Journal => self.journal.as_ref(),
            Part::Index => None,
        }
    }
}

/// Whether the transactions of the database that begins so go to a write-ahead log.
pub fn is_in_log_mode(head: &[u8]) -> bool {
    head.get(18) == Some(&2)
}

impl Sight {
    fn is_live_journal(&self) -> bool {
        self.head.starts_with(&JOURNAL_MAGIC)
    }

    /// Whether both are the same write-ahead log, no matter how far it has come.
    pub fn same_log(&self, head: &[u8]) -> bool {
        self.head.len() >= LOG_HEADER && head.len() >= LOG_HEADER && self.head[..LOG_HEADER] == head[..LOG_HEADER]
    }
}

/// Judges a reading by what was seen before and after it.
pub fn judge(before: &Look, after: &Look, locked: Locked) -> Verdict {
    if before.database != after.database {
        return Verdict::Torn;
    }
    // From here on the database is what it was at the first look.
    let is_same_log = match (&before.log, &after.log) {
        (Some(log), _) if log.head.len() < LOG_HEADER => true,
        (Some(log), Some(later)) => {
            log.stamp.id == later.stamp.id && log.same_log(&later.head) && later.stamp.size >= log.stamp.size
        }
        (Some(_), None) => false,
        (None, _) => true,
    };
    if !is_same_log {
        return Verdict::Torn;
    }
    let same_journal = before.journal == after.journal;
    match (before.is_hot(), same_journal) {
        (_, true) => Verdict::Coherent { with_journal: true },
        // A transaction has begun since. Nothing of it is in the database.
        (false, false) => Verdict::Coherent { with_journal: false },
        (true, false) if locked == (Locked::Shared { reserved: true }) => Verdict::Coherent { with_journal: false },
        (true, false) => Verdict::Torn,
    }
}

/// What becomes of one name in the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// Made, or replaced.
    Published,
    Removed,
}

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    pub database: Fate,
    pub log: Fate,
    pub journal: Fate,
    /// The replica has the database already.
    pub had_database: bool,
    /// The replica has a log already: that very one, less far.
    pub same_log: bool,
    pub had_log: bool,
}

/// One step of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Publish(Part),
    Remove(Part),
}

/// The order in which the names are switched; see the table above.
pub fn order(what: &Publication) -> Vec<Act> {
    let mut acts = Vec::new();
    let log_later = what.database == Fate::Published && what.had_database && !what.same_log;
    match what.log {
        Fate::Published if log_later && what.had_log => acts.push(Act::Remove(Part::Log)),
        Fate::Published if !log_later => acts.push(Act::Publish(Part::Log)),
        Fate::Removed => acts.push(Act::Remove(Part::Log)),
        Fate::Published | Fate::Stays => {}
    }
    match what.journal {
        Fate::Published => acts.push(Act::Publish(Part::Journal)),
        Fate::Removed => acts.push(Act::Remove(Part::Journal)),
        Fate::Stays => {}
    }
    if what.database == Fate::Published {
        acts.push(Act::Publish(Part::Database));
    }
    if what.log == Fate::Published && log_later {
        acts.push(Act::Publish(Part::Log));
    }
    acts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::{InodeId, Kind, Time};

    fn sight(ino: u64, size: u64, ctime: i64, head: &[u8]) -> Sight {
        let time = Time { sec: ctime, nsec: 0 };
        let stamp =
            Stamp { id: InodeId { dev: 0, ino }, kind: Kind::File, mode: 0o644, size, mtime: time, ctime: time };
        Sight { stamp, head: head.to_vec() }
    }

    fn database(ctime: i64) -> Sight {
        sight(1, 8192, ctime, &[MAGIC, &[0; 84]].concat())
    }

    fn log(size: u64, salt: u8) -> Option<Sight> {
        Some(sight(2, size, size as i64, &vec![salt; size.min(HEAD as u64) as usize]))
    }

    fn journal(ctime: i64, is_live: bool) -> Option<Sight> {
        let head = if is_live { [&JOURNAL_MAGIC[..], &[7; 20]].concat() } else { vec![0; 28] };
        Some(sight(3, 512, ctime, &head))
    }

    #[test]
    fn a_reading_is_worth_what_the_table_says() {
        let look = |database, log, journal| Look { database, log, journal };
        let with = Verdict::Coherent { with_journal: true };
        let without = Verdict::Coherent { with_journal: false };
        let (nothing, torn) = (Locked::Nothing, Verdict::Torn);
        let (reserved, shared) = (Locked::Shared { reserved: true }, Locked::Shared { reserved: false });
        let table = [
            ("at rest", look(database(1), None, None), look(database(1), None, None), nothing, with),
            ("written to", look(database(1), None, None), look(database(2), None, None), nothing, torn),
            (
                "written to beside a log",
                look(database(1), log(99, 1), None),
                look(database(2), log(99, 1), None),
                nothing,
                torn,
            ),
            (
                "a log that grows",
                look(database(1), log(99, 1), None),
                look(database(1), log(300, 1), None),
                nothing,
                with,
            ),
            (
                "a log begun anew",
                look(database(1), log(99, 1), None),
                look(database(1), log(99, 2), None),
                nothing,
                torn,
            ),
            ("a log cut off", look(database(1), log(300, 1), None), look(database(1), log(99, 1), None), nothing, torn),
            ("a log gone", look(database(1), log(99, 1), None), look(database(1), None, None), nothing, torn),
            ("a log that has come", look(database(1), None, None), look(database(1), log(99, 1), None), nothing, with),
            (
                "an empty log filled",
                look(database(1), log(0, 1), None),
                look(database(1), log(99, 1), None),
                nothing,
                with,
            ),
            (
                "a transaction begun",
                look(database(1), None, None),
                look(database(1), None, journal(1, true)),
                nothing,
                without,
            ),
            (
                "a dead journal come to life",
                look(database(1), None, journal(1, false)),
                look(database(1), None, journal(2, true)),
                nothing,
                without,
            ),
            (
                "a dead journal",
                look(database(1), None, journal(1, false)),
                look(database(1), None, journal(1, false)),
                nothing,
                with,
            ),
            (
                "a hot journal at rest",
                look(database(1), None, journal(1, true)),
                look(database(1), None, journal(1, true)),
                nothing,
                with,
            ),
            (
                "a hot journal that grows",
                look(database(1), None, journal(1, true)),
                look(database(1), None, journal(2, true)),
                nothing,
                torn,
            ),
            (
                "a hot journal gone",
                look(database(1), None, journal(1, true)),
                look(database(1), None, None),
                nothing,
                torn,
            ),
            (
                "the same, a writer kept out",
                look(database(1), None, journal(1, true)),
                look(database(1), None, journal(2, true)),
                reserved,
                without,
            ),
            (
                "the same, nobody writing",
                look(database(1), None, journal(1, true)),
                look(database(1), None, journal(2, true)),
                shared,
                torn,
            ),
        ];
        for (what, before, after, locked, expected) in table {
            assert_eq!(judge(&before, &after, locked), expected, "{what}");
        }
    }

    #[test]
    fn names_are_switched_in_the_order_of_the_table() {
        use Act::{Publish, Remove};
        use Fate::{Published, Removed, Stays};
        use Part::{Database, Journal, Log};
        let there = Publication {
            database: Published,
            log: Stays,
            journal: Stays,
            had_database: true,
            same_log: false,
            had_log: true,
        };
        let table: [(&str, Publication, &[Act]); 8] = [
            ("alone", there, &[Publish(Database)]),
            ("log alone", Publication { database: Stays, log: Published, ..there }, &[Publish(Log)]),
            ("grown log", Publication { log: Published, same_log: true, ..there }, &[Publish(Log), Publish(Database)]),
            ("new log", Publication { log: Published, ..there }, &[Remove(Log), Publish(Database), Publish(Log)]),
            ("first log", Publication { log: Published, had_log: false, ..there }, &[Publish(Database), Publish(Log)]),
            ("log gone", Publication { log: Removed, ..there }, &[Remove(Log), Publish(Database)]),
            ("journal gone", Publication { journal: Removed, ..there }, &[Remove(Journal), Publish(Database)]),
            (
                "all new",
                Publication { log: Published, journal: Published, had_database: false, had_log: false, ..there },
                &[Publish(Log), Publish(Journal), Publish(Database)],
            ),
        ];
        for (what, publication, expected) in table {
            assert_eq!(order(&publication), expected, "{what}");
        }
    }

    #[test]
    fn a_name_tells_the_database_that_it_belongs_to() {
        for (name, base, part) in [
            ("a.db", "a.db", Part::Database),
            ("a.db-wal", "a.db", Part::Log),
            ("a.db-journal", "a.db", Part::Journal),
            ("a.db-shm", "a.db", Part::Index),
            ("a-wal-wal", "a-wal", Part::Log),
            ("-wal", "-wal", Part::Database),
        ] {
            assert_eq!(Part::of(name.as_bytes()), (base.as_bytes(), part), "{name}");
            assert_eq!(&*part.name(base.as_bytes()), name.as_bytes());
        }
    }
}
