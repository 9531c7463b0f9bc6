//! Owns the lock that keeps a second writer off a replica: an flock on the root folder itself, so that no file has
//! to be left in it and none can be left over.

use rustix::fs::{self, FlockOperation};
use rustix::io::Errno;

use super::root::Root;

/// Why the lock was not taken.
#[derive(Debug)]
pub enum Refused {
    /// Another process has it; its process id where the kernel tells.
    Held(Option<u32>),
    Failed(Errno),
}

/// Takes the lock of a replica, for as long as `root` is open.
///
/// # Errors
/// Who holds it, or why it cannot be taken at all.
pub fn take(root: &Root) -> Result<(), Refused> {
    match fs::flock(root.fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(Refused::Held(holder(root))),
        Err(error) => Err(Refused::Failed(error)),
    }
}

/// `3: FLOCK  ADVISORY  WRITE 1234 fe:00:262146 0 EOF`; see proc_locks(5).
fn holder(root: &Root) -> Option<u32> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, root.inode(), fs::major(root.device()), fs::minor(root.device()))
}

fn holder_in(locks: &str, inode: u64, major: u32, minor: u32) -> Option<u32> {
    let of_root = |place: &str| {
        let mut parts = place.split(':');
        let mut number = |radix| parts.next().and_then(|p| u64::from_str_radix(p, radix).ok());
        let (dev_major, dev_minor) = (number(16), number(16));
        (dev_major, dev_minor, number(10)) == (Some(major.into()), Some(minor.into()), Some(inode))
    };
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if of_root(place) => pid.parse().ok().filter(|p| *p > 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_kernels_table() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:00:42 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 fe:00:42 0 EOF\n";
        assert_eq!(holder_in(locks, 42, 0xfe, 0), Some(13));
        assert_eq!(holder_in(locks, 43, 0xfe, 0), None);
        assert_eq!(holder_in("nonsense\n\n: FLOCK\n", 42, 0xfe, 0), None);
    }
}
