//! Owns reading files whole from the disk, past what is in memory of them: their MD5, and whether two are the same. It
//! leaves the kernel's cache as it is: nothing is put into it, and nothing that others need is thrown out. Read only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use md5::{Digest, Md5};
use rustix::fs::{self, Advice, OFlags};
use rustix::io::{self, Errno};

use super::compare::read_full;
use super::copy::{Fault, check, with_buffer};
use super::identity;
use super::pulse::Pulse;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Whether a file lies in memory alone: no disk can lose it, and a write through a mapping leaves its times as they were.
pub fn is_in_memory(file: BorrowedFd) -> bool {
    fs::fstatfs(file).is_ok_and(|s| [TMPFS, RAMFS].contains(&(s.f_type as u64)))
}

/// Whether each write to a file shows in its times, once what was in memory of it is on its disk: no program can set the
/// ctime. Where that is no time of the filesystem's own, but made from the mtime, or by another program or machine, it can be
/// put back, and other contents prove nothing.
pub fn shows_writes(file: BorrowedFd) -> bool {
    !is_in_memory(file) && !identity::is_borrowed(file)
}

/// A file that is read from its disk.
#[derive(Debug)]
pub struct FromDisk {
    file: OwnedFd,
    is_direct: bool,
}

impl FromDisk {
    /// Takes over a file that is open for reading. What is in memory of it and not on its disk is written there first.
    ///
    /// Reading goes past the cache where the filesystem can do that (O_DIRECT): what others have in memory stays there.
    /// Elsewhere the file's pages are dropped from memory before and after.
    pub fn new(file: OwnedFd) -> Self {
        let direct = fs::fcntl_getfl(&file).and_then(|flags| fs::fcntl_setfl(&file, flags | OFlags::DIRECT));
        let file = Self { file, is_direct: direct.is_ok() };
        if !file.is_direct {
            file.drop_pages();
        }
        file
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether what was written is on the disk once it was read, so that each write after it shows in the times, if any does.
    pub fn is_direct(&self) -> bool {
        self.is_direct && !is_in_memory(self.fd())
    }

    /// Reads the next part from `at`, which is where the part before it ended; 0 bytes at the end.
    fn part(&mut self, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        if self.is_direct {
            loop {
                match io::pread(&self.file, &mut *buffer, at) {
                    Err(Errno::INTR) => {}
                    // Not at this place, or not on this filesystem after all.
                    Err(Errno::INVAL) => break,
                    done => return done,
                }
            }
            self.go_through_memory()?;
        }
        let read = read_full(self.fd(), buffer, at)?;
        self.drop_pages();
        Ok(read)
    }

    fn go_through_memory(&mut self) -> Result<(), Errno> {
        let flags = fs::fcntl_getfl(&self.file)?;
        fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
        self.is_direct = false;
        self.drop_pages();
        Ok(())
    }

    fn drop_pages(&self) {
        // Advice: where it is not taken, the file is read from memory.
        let _ = fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// The MD5 of its contents, and how many bytes they are. `pace` is called with each number of bytes that was read, and
    /// may wait.
    ///
    /// # Errors
    /// A read that failed, or that `pulse` said stop.
    pub fn md5(&mut self, pulse: &Pulse, mut pace: impl FnMut(usize)) -> Result<([u8; 16], u64), Fault> {
        let (mut digest, mut at) = (Md5::new(), 0);
        with_buffer(|buffer| {
            loop {
                pulse.beat();
                check(pulse)?;
                let read = self.part(buffer, at).map_err(Fault::Read)?;
                if read == 0 {
                    return Ok((digest.finalize().into(), at));
                }
                digest.update(&buffer[..read]);
                at += read as u64;
                pace(read);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_file_is_read_to_its_last_byte_whatever_its_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for length in [0, 1, 511, 4096, 4097, (256 << 10) - 1, 256 << 10, (600 << 10) + 3] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
            std::fs::write(&path, &bytes).expect("written");
            let file = std::fs::File::open(&path).expect("open");
            let mut paced = 0;
            let (md5, size) = FromDisk::new(file.into()).md5(&Pulse::default(), |read| paced += read).expect("read");
            assert_eq!((size, paced), (length as u64, length));
            assert_eq!(md5, <[u8; 16]>::from(Md5::digest(&bytes)), "{length}");
        }
    }

    #[test]
    fn what_was_written_last_is_read_also_where_it_is_not_on_disk_yet() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, [1; 9000]).expect("written");
        let writer = std::fs::File::options().write(true).open(&path).expect("open");
        writer.write_all_at(&[2], 8999).expect("written");
        let mut file = FromDisk::new(std::fs::File::open(&path).expect("open").into());
        let mut bytes = vec![1; 8999];
        bytes.push(2);
        let (md5, _) = file.md5(&Pulse::default(), |_| {}).expect("read");
        assert_eq!(md5, <[u8; 16]>::from(Md5::digest(&bytes)));
    }

    #[test]
    fn a_stop_is_heard_in_the_middle_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).expect("written");
        let pulse = Pulse::default();
        let mut file = FromDisk::new(std::fs::File::open(&path).expect("open").into());
        let mut read = 0;
        let result = file.md5(&pulse, |bytes| {
            read += bytes;
            pulse.stop();
        });
        assert_eq!(result, Err(Fault::Cancelled));
        assert!(read < 1 << 20);
    }
}
