//! Owns carrying a file's contents from one descriptor to another: reflink, in-kernel copy, or read and write,
//! with holes kept. It knows nothing of names, attributes or publishing.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};

use super::pulse::Pulse;
use crate::tree::entry::Stat;

/// From this size on the kernel's own copy is faster than a buffer.
const IN_KERNEL: u64 = 64 << 10;
/// What one in-kernel call may carry: a stop is noticed in between.
const STRIDE: usize = 8 << 20;
const BUFFER: usize = 256 << 10;

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
    BLOCK.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER, 0);
        work(buffer)
    })
}

/// Copies the contents of `from`, `size` bytes as its stat said, into the empty file `to`. Returns the bytes it came
/// to, which differ from `size` where the file was changing.
///
/// # Errors
/// The side and the error, or that `pulse` said stop.
pub fn contents(
    from: BorrowedFd,
    to: BorrowedFd,
    size: u64,
    sparse: bool,
    reflink: Reflink,
    abilities: &Abilities,
    pulse: &Pulse,
) -> Result<Copied, Fault> {
    if size == 0 {
        return Ok(Copied { bytes: 0, is_clone: false });
    }
    if (size >= IN_KERNEL || reflink == Reflink::Any) && fs::ioctl_ficlone(to, from).is_ok() {
        let bytes = fs::fstat(to).map_or(size, |s| u64::try_from(s.st_size).unwrap_or(size));
        pulse.copied_bytes(bytes);
        return Ok(Copied { bytes, is_clone: true });
    }
    let bytes =
        if sparse { with_holes(from, to, size, abilities, pulse) } else { range(from, to, 0, size, abilities, pulse) }?;
    Ok(Copied { bytes, is_clone: false })
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

fn with_holes(from: BorrowedFd, to: BorrowedFd, size: u64, abilities: &Abilities, pulse: &Pulse) -> Result<u64, Fault> {
    let mut at = 0;
    while at < size {
        let data = match fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return range(from, to, at, size, abilities, pulse),
            Err(error) => return Err(Fault::Read(error)),
        };
        let hole = fs::seek(from, SeekFrom::Hole(data)).map_err(Fault::Read)?.min(size);
        if data >= size || range(from, to, data, hole, abilities, pulse)? < hole {
            break;
        }
        at = hole;
    }
    fs::ftruncate(to, size).map_err(Fault::Write)?;
    Ok(size)
}

/// Copies the bytes from `start` to `end`; returns where it came to, less than `end` if the file is shorter.
fn range(
    from: BorrowedFd,
    to: BorrowedFd,
    start: u64,
    end: u64,
    abilities: &Abilities,
    pulse: &Pulse,
) -> Result<u64, Fault> {
    let mut at = start;
    while end - at >= IN_KERNEL && abilities.in_kernel.load(Ordering::Relaxed) {
        check(pulse)?;
        let (mut offset_in, mut offset_out) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(STRIDE).min(STRIDE);
        match fs::copy_file_range(from, Some(&mut offset_in), to, Some(&mut offset_out), length) {
            // The end, or a filesystem that says 0 for what it cannot do: the plain way knows.
            Ok(0) => break,
            Ok(done) => {
                at += done as u64;
                pulse.copied_bytes(done as u64);
            }
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(Fault::Write(error)),
            Err(Errno::IO) => break,
            Err(_) => abilities.in_kernel.store(false, Ordering::Relaxed),
        }
    }
    with_buffer(|buffer| {
        while at < end {
            check(pulse)?;
            let length = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let read = match io::pread(from, &mut buffer[..length], at) {
                Err(Errno::INTR) => continue,
                done => done.map_err(Fault::Read)?,
            };
            if read == 0 {
                break;
            }
            write_all(to, &buffer[..read], at)?;
            at += read as u64;
            pulse.copied_bytes(read as u64);
        }
        Ok(at)
    })
}

fn write_all(to: BorrowedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Fault> {
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

fn check(pulse: &Pulse) -> Result<(), Fault> {
    if pulse.is_stopped() { Err(Fault::Cancelled) } else { Ok(()) }
}
