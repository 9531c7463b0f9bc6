//! Owns carrying a file's contents from one descriptor to another: reflink, in-kernel copy, or read and write,
//! with holes kept. It knows nothing of names, attributes or publishing.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, Advice, FallocateFlags, SeekFrom};
use rustix::io::{self, Errno};

use super::patch::{self, Old};
use super::pulse::Pulse;
use crate::tree::entry::Stat;

/// From this size on the kernel's own copy is faster than a buffer.
pub const IN_KERNEL: u64 = 64 << 10;
/// What one in-kernel call may carry: a stop is noticed in between.
const STRIDE: usize = 8 << 20;
/// So much is sent to disk at a time while a copy is made. On ext4, the room for such a file is taken beforehand, and the
/// two together bring 1 GiB to disk in 0.50 s instead of 0.93.
const EARLY: u64 = 32 << 20;
const BUFFER: usize = 256 << 10;
/// What the allocator gives begins 16 bytes after a page does. To there, some processors copy from the kernel's pages at
/// a fifth of the speed: 512 MiB in 0.20 s, 0.04 s where the buffer begins with a page.
const PAGE: usize = 4 << 10;

/// Why a copy did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Read(Errno),
    Write(Errno),
    Cancelled,
}

/// What has been learnt of the two filesystems: calls that one of them does not know are not made again. (A reflink is
/// tried each time: whether it can be made depends on the file, and on what is mounted where.)
#[derive(Debug)]
pub struct Abilities {
    in_kernel: AtomicBool,
    fine_times: OnceLock<bool>,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { in_kernel: AtomicBool::new(true), fine_times: OnceLock::new() }
    }
}

impl Abilities {
    /// Whether the source's filesystem gives a change that follows a stat another ctime, however soon it comes.
    pub fn has_fine_times(&self, file: BorrowedFd, stat: &Stat) -> bool {
        if stat.dev != 0 {
            // Of another filesystem mounted in the source: nothing is known.
            return false;
        }
        let ask = || {
            let known = fs::fstatfs(file).is_ok_and(|s| FINE_TIMES.contains(&(s.f_type as u64)));
            known && kernel() >= (6, 13)
        };
        *self.fine_times.get_or_init(ask)
    }
}

const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const EXT: u64 = 0xef53;
const TMPFS: u64 = 0x0102_1994;
/// Since Linux 6.13.
const FINE_TIMES: [u64; 4] = [XFS, BTRFS, EXT, TMPFS];

fn kernel() -> (u32, u32) {
    // Not from a file: the threads that ask may open nothing but the roots.
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether a reflink is the file at one instant, whoever writes to it meanwhile. On these filesystems it holds writers
/// off (the inode's lock, exclusively against writes) and has what is in memory written first; of others it is not known.
pub fn clone_is_instant(file: BorrowedFd) -> bool {
    fs::fstatfs(file).is_ok_and(|s| [XFS, BTRFS].contains(&(s.f_type as u64)))
}

/// Whether it takes long to forget what is in memory of a file: 1 GiB takes 0.15 s on btrfs, 0.004 s on xfs.
pub(super) fn forgets_slowly(file: BorrowedFd) -> bool {
    fs::fstatfs(file).is_ok_and(|s| s.f_type as u64 == BTRFS)
}

/// For which files a reflink is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflink {
    /// Those that are copied more slowly.
    Large,
    Any,
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    /// The copy is a reflink.
    pub is_clone: bool,
}

thread_local! {
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs with this thread's buffer.
pub fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BLOCK.with_borrow_mut(|block| {
        if block.is_empty() {
            // Zeroed by the kernel: what no file is large enough for takes no memory.
            *block = vec![0; BUFFER + PAGE];
        }
        let start = block.as_ptr().align_offset(PAGE).min(PAGE);
        work(&mut block[start..start + BUFFER])
    })
}

/// How a copy is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    pub reflink: Reflink,
    /// The version that the replica has, if it may be a good part of the new one.
    pub old: Option<&'a Old<'a>>,
    /// Threads that may take part where such a version is read.
    pub helpers: usize,
    /// The copy is to be brought to disk afterwards: a large one is on its way there while it is made.
    pub durable: bool,
    pub abilities: &'a Abilities,
}

/// The two files of a copy, and how bytes get from one to the other.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) from: BorrowedFd<'a>,
    pub(super) to: BorrowedFd<'a>,
    pub(super) durable: bool,
    pub(super) abilities: &'a Abilities,
    pub(super) pulse: &'a Pulse,
}

/// Copies the contents of `from`, whose stat is `source`, into the empty file `to`. Returns the bytes it came to, which
/// differ from the stat's where the file was changing.
///
/// # Errors
/// The side and the error, or that `pulse` said stop.
pub fn contents(
    from: BorrowedFd,
    to: BorrowedFd,
    source: &Stat,
    manner: Manner,
    pulse: &Pulse,
) -> Result<Copied, Fault> {
    let Manner { reflink, old, helpers, durable, abilities } = manner;
    let way = Way { from, to, durable, abilities, pulse };
    let size = source.size;
    if size == 0 {
        return Ok(Copied { bytes: 0, is_clone: false });
    }
    if (size >= IN_KERNEL || reflink == Reflink::Any) && reflinked(from, to)? {
        let bytes = fs::fstat(to).map_or(size, |s| u64::try_from(s.st_size).unwrap_or(size));
        pulse.copied_bytes(bytes);
        return Ok(Copied { bytes, is_clone: true });
    }
    if let Some(old) = old
        && let Some(bytes) = patch::contents(way, source, old, helpers)?
    {
        return Ok(Copied { bytes, is_clone: false });
    }
    let bytes = if source.is_sparse() { way.with_holes(size) } else { way.whole(size) }?;
    Ok(Copied { bytes, is_clone: false })
}

/// Makes the empty file `to` a reflink of `from`. Returns whether it is one; else it is empty still.
///
/// # Errors
/// That it could not be emptied again.
pub(super) fn reflinked(from: BorrowedFd, to: BorrowedFd) -> Result<bool, Fault> {
    match fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        // Refused before anything was done.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS | Errno::PERM) => Ok(false),
        // It may have ended half way.
        Err(_) => fs::ftruncate(to, 0).map(|()| false).map_err(Fault::Write),
    }
}

/// Up to `length` bytes of the beginning of a file.
///
/// # Errors
/// As of pread(2).
pub fn head(file: BorrowedFd, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    loop {
        match io::pread(file, bytes.as_mut_slice(), 0) {
            Err(Errno::INTR) => {}
            done => {
                bytes.truncate(done?);
                return Ok(bytes);
            }
        }
    }
}

impl Way<'_> {
    pub(super) fn with_holes(&self, size: u64) -> Result<u64, Fault> {
        // First, since xfs allocates more than is written behind the end of a file, and keeps it where a hole follows.
        fs::ftruncate(self.to, size).map_err(Fault::Write)?;
        let mut at = 0;
        while at < size {
            let data = match fs::seek(self.from, SeekFrom::Data(at)) {
                Ok(data) => data,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::NOTSUP) => {
                    let bytes = self.range(at, size)?;
                    fs::ftruncate(self.to, bytes).map_err(Fault::Write)?;
                    return Ok(bytes);
                }
                Err(error) => return Err(Fault::Read(error)),
            };
            let hole = fs::seek(self.from, SeekFrom::Hole(data)).map_err(Fault::Read)?.min(size);
            if data >= size || self.range(data, hole)? < hole {
                break;
            }
            at = hole;
        }
        Ok(size)
    }

    /// Copies a file without holes.
    fn whole(&self, size: u64) -> Result<u64, Fault> {
        let is_ext = || fs::fstatfs(self.to).is_ok_and(|s| s.f_type as u64 == EXT);
        if !self.durable || size < EARLY || !is_ext() {
            return self.range(0, size);
        }
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) =
            fs::fallocate(self.to, FallocateFlags::empty(), 0, size)
        {
            return Err(Fault::Write(error));
        }
        let bytes = self.range(0, size)?;
        if bytes < size {
            fs::ftruncate(self.to, bytes).map_err(Fault::Write)?;
        }
        Ok(bytes)
    }

    /// Copies the bytes from `start` to `end`; returns where it came to, less than `end` if the file is shorter.
    pub(super) fn range(&self, start: u64, end: u64) -> Result<u64, Fault> {
        let (mut at, mut on_its_way) = (start, start);
        while end - at >= IN_KERNEL && self.abilities.in_kernel.load(Ordering::Relaxed) {
            check(self.pulse)?;
            let (mut offset_in, mut offset_out) = (at, at);
            let length = usize::try_from(end - at).unwrap_or(STRIDE).min(STRIDE);
            match fs::copy_file_range(self.from, Some(&mut offset_in), self.to, Some(&mut offset_out), length) {
                // The end, or a filesystem that says 0 for what it cannot do: the plain way knows.
                Ok(0) => break,
                Ok(done) => {
                    at += done as u64;
                    self.pulse.copied_bytes(done as u64);
                    self.send(&mut on_its_way, at);
                }
                Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(Fault::Write(error)),
                Err(Errno::IO) => break,
                Err(_) => self.abilities.in_kernel.store(false, Ordering::Relaxed),
            }
        }
        with_buffer(|buffer| {
            while at < end {
                check(self.pulse)?;
                let length = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
                let read = match io::pread(self.from, &mut buffer[..length], at) {
                    Err(Errno::INTR) => continue,
                    done => done.map_err(Fault::Read)?,
                };
                if read == 0 {
                    break;
                }
                write_all(self.to, &buffer[..read], at)?;
                at += read as u64;
                self.pulse.copied_bytes(read as u64);
                self.send(&mut on_its_way, at);
            }
            Ok(at)
        })
    }

    /// Has the disk begin with what was written. That is what this advice does with pages that are not on disk yet, and
    /// no more: it drops only those that are. A failed write is told by the sync at the end, as ever.
    fn send(&self, on_its_way: &mut u64, at: u64) {
        if self.durable
            && let Some(length) = NonZeroU64::new(at - *on_its_way).filter(|length| length.get() >= EARLY)
        {
            let _ = fs::fadvise(self.to, *on_its_way, Some(length), Advice::DontNeed);
            *on_its_way = at;
        }
    }
}

pub(super) fn write_all(to: BorrowedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Fault> {
    while !bytes.is_empty() {
        match io::pwrite(to, bytes, at) {
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::Write(error)),
        }
    }
    Ok(())
}

pub(super) fn check(pulse: &Pulse) -> Result<(), Fault> {
    if pulse.is_stopped() { Err(Fault::Cancelled) } else { Ok(()) }
}
