//! Owns what a power cut makes doubtful of the archive: agreements about what had changed shortly before. It proves
//! nothing about an inode that its stamp does not prove; it looks at when, and at how the last run ended.

use std::time::Duration;

use redb::ReadableTable;

use super::{Archive, FOLDERS, NoArchive, WRITTEN, no_archive, put};
use crate::tree::entry::Time;
use crate::tree::record::Record;

/// What has been in memory for so long has been brought to disk by the kernel, which waits for half a minute.
const UNWRITTEN: Duration = Duration::from_secs(3600);
/// Kept while copies are published without being brought to disk first; in two-way mode, with the mountings of both disks.
const UNSYNCED: &str = "unsynced";

impl Archive {
    /// Begins a run whose copies are brought to disk before they are published (`durable`), or not. Returns how many
    /// entries were forgotten because an end that was no clean one may have undone what they speak of.
    ///
    /// A stamp proves what an inode says, and the contents only as far as they were on disk with it. Those of the copies
    /// were. Those of the source need not have been, nor those of files that somebody else had put into the replica:
    /// after a power cut both can be there with the right size and times, and other contents. So what was young when the
    /// machine was last up is compared once more.
    ///
    /// # Errors
    /// What the store says.
    pub fn begin(&self, durable: bool) -> Result<usize, NoArchive> {
        let mut forgotten = 0;
        let has_rebooted = self.boot.is_empty() || self.written().is_none_or(|(boot, _)| boot != self.boot);
        if has_rebooted || self.fact(UNSYNCED).is_some() {
            forgotten = self.forget_young().map_err(no_archive)?;
        }
        if durable {
            self.remove_fact(UNSYNCED);
        } else {
            self.set_fact(UNSYNCED, b"1");
        }
        Ok(forgotten)
    }

    /// The same where what is agreed was on disk on both sides before it was committed (`durable`), so that nothing is young.
    /// Where it was not, and the machine has gone down since, or one of the disks has been away, nothing of it can be relied on:
    /// what one side has lost by that would be removed from the other. `disks`: which mountings of both disks this is about.
    /// Returns whether all was forgotten.
    ///
    /// # Errors
    /// What the store says.
    pub fn begin_both(&self, durable: bool, disks: Option<String>) -> Result<bool, NoArchive> {
        let has_rebooted = self.boot.is_empty() || self.written().is_none_or(|(boot, _)| boot != self.boot);
        let mounted = disks.as_deref().unwrap_or_default().as_bytes();
        let was_away = |then: Vec<u8>| then.is_empty() || then != mounted;
        let is_lost = self.fact(UNSYNCED).is_some_and(|then| has_rebooted || was_away(then));
        if is_lost {
            self.forget()?;
        }
        if durable {
            self.remove_fact(UNSYNCED);
        } else {
            self.set_fact(UNSYNCED, mounted);
        }
        self.keep_log(disks);
        Ok(is_lost)
    }

    /// Where nothing was brought to disk before it was committed, forgets all of it: it goes on with these mountings.
    pub(super) fn begin_unsynced_again(&self, disks: &str) -> Result<(), NoArchive> {
        if self.fact(UNSYNCED).is_some() {
            self.forget()?;
            self.set_fact(UNSYNCED, disks.as_bytes());
        }
        Ok(())
    }

    /// Ends the run cleanly: all that it wrote is in the kernel's hands.
    pub fn end(&self) {
        self.remove_fact(UNSYNCED);
    }

    /// The boot and the time, in seconds, of the last commit.
    fn written(&self) -> Option<(String, i64)> {
        let fact = String::from_utf8(self.fact(WRITTEN)?).ok()?;
        let (boot, time) = fact.split_once(' ')?;
        Some((boot.into(), time.parse().ok()?))
    }

    /// Forgets what had changed on either side not long before the last commit, or after it.
    fn forget_young(&self) -> Result<usize, redb::Error> {
        let trusted = self.written().map(|(_, time)| time.saturating_sub(UNWRITTEN.as_secs() as i64));
        let is_young = |ctime: Time| trusted.is_none_or(|trusted| ctime.sec >= trusted);
        let mut forgotten = 0;
        self.write(|transaction| {
            let mut table = transaction.open_table(FOLDERS)?;
            let mut changed = Vec::new();
            for row in table.iter()? {
                let (key, bytes) = row?;
                let mut record = Record::decode(bytes.value()).unwrap_or_default();
                let before = record.len();
                record.retain(|a| !is_young(a.source.ctime) && !is_young(a.replica.ctime));
                if record.len() < before || record.is_empty() {
                    forgotten += before - record.len();
                    changed.push((key.value(), record));
                }
            }
            for (key, record) in changed {
                put(&mut table, key, &record.encode())?;
            }
            Ok(())
        })?;
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::super::tests::{FOLDER, agreed, one};
    use super::*;
    use crate::tree::doubt::Moment;
    use crate::tree::record::Agreed;

    /// An agreement about a file whose sides changed at these times.
    fn agreed_at(source: i64, replica: i64) -> Agreed {
        let mut agreed = agreed(1, false);
        agreed.source.ctime.sec = source;
        agreed.replica.ctime.sec = replica;
        agreed
    }

    /// A store that was committed now, with an old file, one that is young in the source, one young in the replica.
    fn with_young_and_old(path: &Path, boot: &str) -> Archive {
        let mut archive = Archive::open(path).expect("a store");
        archive.boot = boot.into();
        archive.begin(true).expect("begun");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch").as_secs() as i64;
        let old = now - 2 * UNWRITTEN.as_secs() as i64;
        archive.remember(FOLDER, one(b"old", Some(agreed_at(old, old))));
        archive.remember(FOLDER, one(b"source", Some(agreed_at(now - 5, old))));
        archive.remember(FOLDER, one(b"replica", Some(agreed_at(old, now - 5))));
        archive.commit(Moment(6), true).expect("a commit");
        archive
    }

    fn begun_again(path: &Path, boot: &str, durable: bool) -> (usize, Archive) {
        let mut archive = Archive::open(path).expect("a store");
        archive.boot = boot.into();
        (archive.begin(durable).expect("begun"), archive)
    }

    #[test]
    fn what_was_young_when_the_machine_went_down_is_forgotten_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.redb");
        drop(with_young_and_old(&path, "first"));
        let (forgotten, archive) = begun_again(&path, "first", true);
        assert_eq!((forgotten, archive.record(FOLDER).len()), (0, 3), "the same boot: the kernel has it all");
        drop(archive);
        let (forgotten, archive) = begun_again(&path, "second", true);
        assert_eq!(forgotten, 2);
        assert!(archive.record(FOLDER).get(b"old").is_some());
        assert!(archive.record(FOLDER).get(b"source").is_none());
        assert!(archive.record(FOLDER).get(b"replica").is_none());
    }

    #[test]
    fn after_an_interrupted_run_without_syncing_what_was_young_is_forgotten_and_after_a_clean_one_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.redb");
        drop(with_young_and_old(&path, "first"));
        drop(begun_again(&path, "first", false));
        let (forgotten, archive) = begun_again(&path, "first", true);
        assert_eq!((forgotten, archive.record(FOLDER).len()), (2, 1));
        drop(archive);
        drop(with_young_and_old(&path, "first"));
        let (_, archive) = begun_again(&path, "first", false);
        archive.end();
        drop(archive);
        assert_eq!(begun_again(&path, "first", false).0, 0);
    }
}
