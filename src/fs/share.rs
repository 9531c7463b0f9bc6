//! Owns the shared locks that every reader of an SQLite database takes, at the bytes where SQLite has them. While one is
//! held, nobody writes into the database's file. It never waits long, and never takes a lock that keeps readers out.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Of the database's file: who is about to write waits here for the readers to go,
const PENDING: i64 = 0x4000_0000;
/// here who prepares a transaction,
const RESERVED: i64 = PENDING + 1;
/// and here is where readers are.
const SHARED: i64 = PENDING + 2;
const SHARED_LENGTH: i64 = 510;
/// Of the shared memory's file: who moves the write-ahead log into the database.
const CHECKPOINT: i64 = 121;

/// A writer may be at work for so long before this gives up.
const PATIENCE: Duration = Duration::from_millis(100);

/// A lock that ends when this goes.
#[derive(Debug)]
pub struct Share(OwnedFd);

impl Share {
    /// Keeps writers out of a database in one of the rollback modes. `None`: they do not let anybody in.
    pub fn of_database(database: OwnedFd) -> Option<Self> {
        let start = Instant::now();
        loop {
            if lock(&database, libc::F_RDLCK, PENDING, 1) {
                let shared = lock(&database, libc::F_RDLCK, SHARED, SHARED_LENGTH);
                lock(&database, libc::F_UNLCK, PENDING, 1);
                if shared {
                    return Some(Self(database));
                }
            }
            if start.elapsed() > PATIENCE {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Keeps checkpoints from running, in a database with a write-ahead log.
    pub fn of_index(index: OwnedFd) -> Option<Self> {
        let start = Instant::now();
        loop {
            if lock(&index, libc::F_RDLCK, CHECKPOINT, 1) {
                return Some(Self(index));
            }
            if start.elapsed() > PATIENCE {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Whether somebody prepares a transaction.
    pub fn is_reserved(&self) -> bool {
        let mut found = range(libc::F_WRLCK, RESERVED, 1);
        fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut found)).is_ok() && i32::from(found.l_type) != libc::F_UNLCK
    }
}

/// Locks, or unlocks, for this open file alone: no other descriptor of the process has a part in it.
fn lock(file: &OwnedFd, kind: i32, start: i64, length: i64) -> bool {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, length))) {
            Err(Errno::EINTR) => {}
            done => return done.is_ok(),
        }
    }
}

fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 }
}
