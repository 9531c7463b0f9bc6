//! Owns what everybody may ask of those who thin out the history: what is kept, as far as it is counted, and room for
//! what is to be copied. It removes nothing: `thinning` does, in its own thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rustix::fs::{StatVfs, fstatvfs};
use rustix::io::Errno;

use crate::fs::root::Root;
use crate::plan::keep::Room;

/// So much more than what is to be copied, and this part of it: a copy takes more than its contents.
const SLACK: u64 = 1 << 20;
const PART: u64 = 256;
/// Fewer inodes are none, and so many are made free at once.
const INODES: u64 = 16;
const SOME_INODES: u64 = 256;
/// Who waits for room waits no longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// And gives a sign of life so often.
const STEP: Duration = Duration::from_millis(200);

/// What is kept of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Versions, and what they take on disk.
    pub versions: u64,
    pub bytes: u64,
    /// What the journal takes.
    pub journal: u64,
    /// From when on everything is told, in seconds since 1970; nothing where that is not known.
    pub since: Option<i64>,
}

/// What is asked of the thread.
#[derive(Debug)]
pub enum Wish {
    /// Something may have been added.
    Look,
    /// Room for a copy that had none; the answer is whether there is more than before.
    Room { need: Need, reply: Sender<bool> },
    /// All that is due is to be done now, and then the thread ends.
    Finish { reply: Sender<()> },
}

/// How much is to be made free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub bytes: u64,
    /// Versions, each of which has an inode.
    pub count: u64,
}

impl Need {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What is known of the past of a pair.
#[derive(Debug, Default)]
pub struct Keeping {
    figures: Mutex<Option<Figures>>,
    wishes: Mutex<Option<Sender<Wish>>>,
    /// As many wait for an answer.
    waiting: AtomicU32,
}

impl Keeping {
    /// What was last counted; nothing before that.
    pub fn figures(&self) -> Option<Figures> {
        *lock(&self.figures)
    }

    pub(super) fn set_figures(&self, figures: Figures) {
        *lock(&self.figures) = Some(figures);
    }

    /// From now on that is where wishes go; nowhere where there is nobody.
    pub(super) fn attend(&self, wishes: Option<Sender<Wish>>) {
        *lock(&self.wishes) = wishes;
    }

    /// Says that something may have been added to what is kept.
    pub fn look(&self) {
        if let Some(wishes) = &*lock(&self.wishes) {
            // One that waits is as good as two.
            if wishes.is_empty() {
                let _ = wishes.try_send(Wish::Look);
            }
        }
    }

    /// Waits until there is more room than before, after a copy of so many bytes had none. Returns whether there is: then
    /// the copy is worth another try. Never gives up anything in vain, or that `free`, which a person has set, does not allow.
    /// `waits` is asked again and again whether to wait on.
    pub fn make(
        &self,
        free: Option<Room>,
        (size, error): (u64, Errno),
        replica: &Root,
        waits: impl FnMut() -> bool,
    ) -> bool {
        let Some(room) = free else { return false };
        let wishes = lock(&self.wishes).clone();
        let (Some(wishes), Errno::NOSPC | Errno::DQUOT) = (wishes, error) else { return false };
        let need = match error {
            Errno::DQUOT => Need { bytes: with_slack(size), count: 1 },
            _ => shortage(replica, room, size),
        };
        self.wait(&wishes, PATIENCE, |reply| Wish::Room { need, reply }, waits).unwrap_or(false)
    }

    /// Has all done that is due, and waits for the end of it, but not for ever.
    pub fn finish(&self, limit: Duration) {
        let Some(wishes) = lock(&self.wishes).take() else { return };
        let _ = self.wait(&wishes, limit, |reply| Wish::Finish { reply }, || true);
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn wait<T>(
        &self,
        wishes: &Sender<Wish>,
        limit: Duration,
        wish: impl FnOnce(Sender<T>) -> Wish,
        mut waits: impl FnMut() -> bool,
    ) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_asked = wishes.send_timeout(wish(reply), limit).is_ok();
        let end = Instant::now() + limit;
        let answer = loop {
            match answer.recv_timeout(STEP) {
                Err(RecvTimeoutError::Timeout) if is_asked && waits() && Instant::now() < end => {}
                done => break done.ok(),
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

/// What the disk of a replica lacks for a copy of `size` bytes, and for as much to stay free as is wanted.
fn shortage(replica: &Root, room: Room, size: u64) -> Need {
    let Ok(disk) = fstatvfs(replica.fd()) else { return Need::default() };
    lacking(&disk, room, Some(size))
}

/// The same of a disk, for a copy of so many bytes where there is one.
pub(super) fn lacking(disk: &StatVfs, room: Room, size: Option<u64>) -> Need {
    let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let wanted = room.of(whole).max(size.map_or(0, with_slack));
    // Where inodes are made as needed there are none to count.
    let count = if disk.f_files > 0 && disk.f_favail < INODES { SOME_INODES } else { 0 };
    Need { bytes: wanted.saturating_sub(free), count }
}

fn with_slack(size: u64) -> u64 {
    size.saturating_add(SLACK + size / PART)
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(free: u64, inodes: (u64, u64)) -> StatVfs {
        let mut disk = fstatvfs(std::fs::File::open("/").expect("a folder")).expect("a disk");
        (disk.f_frsize, disk.f_blocks, disk.f_bavail) = (4096, 1000, free);
        (disk.f_files, disk.f_favail) = inodes;
        disk
    }

    #[test]
    fn what_is_lacking_is_what_is_wanted_and_not_free() {
        let of = |free, inodes, room, size| lacking(&disk(free, inodes), room, size);
        let bytes = |bytes| Need { bytes, count: 0 };
        assert_eq!(of(600, (0, 0), Room::Percent(50.0), None), bytes(0));
        assert_eq!(of(400, (0, 0), Room::Percent(50.0), None), bytes(100 * 4096));
        assert_eq!(of(400, (0, 0), Room::Bytes(0), None), bytes(0));
        assert_eq!(of(0, (9, 9000), Room::Bytes(0), Some(0)), bytes(SLACK));
        assert_eq!(of(256, (0, 0), Room::Bytes(5), Some(2 * SLACK)), bytes(2 * SLACK + 2 * SLACK / PART));
        assert_eq!(of(900, (9000, 3), Room::Bytes(0), Some(1)), Need { bytes: 0, count: SOME_INODES });
    }

    #[test]
    fn nobody_is_asked_where_a_person_does_not_let_it_or_nobody_is_there() {
        let root = Root::open(std::path::Path::new("/")).expect("a root");
        let (keeping, (tell, wishes)) = (Keeping::default(), bounded(16));
        assert!(!keeping.make(Some(Room::Bytes(0)), (1, Errno::NOSPC), &root, || true));
        keeping.attend(Some(tell));
        assert!(!keeping.make(None, (1, Errno::NOSPC), &root, || true));
        assert!(!keeping.make(Some(Room::Bytes(0)), (1, Errno::ROFS), &root, || true));
        assert!(!keeping.make(Some(Room::Bytes(0)), (1, Errno::DQUOT), &root, || false), "it does not wait");
        keeping.look();
        assert!(matches!(wishes.try_recv(), Ok(Wish::Room { .. })) && wishes.is_empty() && !keeping.is_waited_for());
    }
}
