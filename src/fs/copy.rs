//! Owns carrying a file's contents from one descriptor to another: reflink, in-kernel copy, or read and write,
//! with holes kept. It knows nothing of names, attributes or publishing.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, SeekFrom};
use rustix::io::{self, Errno};

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

/// What has been learnt of the two filesystems: calls that one of them does not know are not made again.
#[derive(Debug)]
pub struct Abilities {
    reflink: AtomicBool,
    in_kernel: AtomicBool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { reflink: AtomicBool::new(true), in_kernel: AtomicBool::new(true) }
    }
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
/// The side and the error, or that `cancel` was set.
pub fn contents(
    from: BorrowedFd,
    to: BorrowedFd,
    size: u64,
    sparse: bool,
    abilities: &Abilities,
    cancel: &AtomicBool,
) -> Result<u64, Fault> {
    if size == 0 {
        return Ok(0);
    }
    if size >= IN_KERNEL && abilities.reflink.load(Ordering::Relaxed) {
        match fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(fs::fstat(to).map_or(size, |s| u64::try_from(s.st_size).unwrap_or(size))),
            // This file cannot be (it is in use in a way that forbids it); others may.
            Err(Errno::TXTBSY | Errno::INVAL | Errno::IO | Errno::PERM) => {}
            Err(_) => abilities.reflink.store(false, Ordering::Relaxed),
        }
    }
    if sparse { with_holes(from, to, size, abilities, cancel) } else { range(from, to, 0, size, abilities, cancel) }
}

fn with_holes(
    from: BorrowedFd,
    to: BorrowedFd,
    size: u64,
    abilities: &Abilities,
    cancel: &AtomicBool,
) -> Result<u64, Fault> {
    let mut at = 0;
    while at < size {
        let data = match fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return range(from, to, at, size, abilities, cancel),
            Err(error) => return Err(Fault::Read(error)),
        };
        let hole = fs::seek(from, SeekFrom::Hole(data)).map_err(Fault::Read)?.min(size);
        if data >= size || range(from, to, data, hole, abilities, cancel)? < hole {
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
    cancel: &AtomicBool,
) -> Result<u64, Fault> {
    let mut at = start;
    while end - at >= IN_KERNEL && abilities.in_kernel.load(Ordering::Relaxed) {
        check(cancel)?;
        let (mut offset_in, mut offset_out) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(STRIDE).min(STRIDE);
        match fs::copy_file_range(from, Some(&mut offset_in), to, Some(&mut offset_out), length) {
            // The end, or a filesystem that says 0 for what it cannot do: the plain way knows.
            Ok(0) => break,
            Ok(done) => at += done as u64,
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(Fault::Write(error)),
            Err(Errno::IO) => break,
            Err(_) => abilities.in_kernel.store(false, Ordering::Relaxed),
        }
    }
    with_buffer(|buffer| {
        while at < end {
            check(cancel)?;
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

fn check(cancel: &AtomicBool) -> Result<(), Fault> {
    if cancel.load(Ordering::Relaxed) { Err(Fault::Cancelled) } else { Ok(()) }
}
