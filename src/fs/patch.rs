//! Owns making the next version of a large file from the one that the replica has: a reflink of that, into which only
//! what differs is written. It decides neither when that is worth it nor what is published.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::compare::read_full;
use super::copy::{self, Fault, Way, check, clone_is_instant, forgets_slowly, with_buffer};
use super::pieces;
use super::root::{Root, open_file};
use crate::tree::entry::{Kind, Stamp, Stat};

/// What differs is written in multiples of this, so that the rest stays shared.
const GRAIN: usize = 4 << 10;
/// A file of which so much was read, and less than a quarter of it is as before, is copied anew.
const ENOUGH: u64 = 16 << 20;

/// A source's file was found to begin as the replica's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Same {
    pub source: Stamp,
    pub replica: Stamp,
    /// In bytes.
    pub up_to: u64,
}

/// The version of a file that the replica has.
#[derive(Debug)]
pub struct Old<'a> {
    root: &'a Root,
    file: OwnedFd,
    stamp: Stamp,
    /// It has other names, under which it stays.
    stays: bool,
    same: Option<Same>,
}

impl<'a> Old<'a> {
    /// Opens the file that was seen as `expected`. Nothing if it cannot be read, or is not that one any more.
    pub fn open(root: &'a Root, folder: BorrowedFd, name: &[u8], expected: &Stat, same: Option<Same>) -> Option<Self> {
        if expected.kind != Kind::File {
            return None;
        }
        let (file, stamp) = (open_file(folder, name).ok()?, expected.stamp());
        let old = Self { root, file, stamp, stays: expected.is_linked(), same };
        old.is_unchanged().then_some(old)
    }

    fn is_unchanged(&self) -> bool {
        self.root.stat(self.file.as_fd()).is_ok_and(|now| now.stamp() == self.stamp)
    }
}

/// Fills the empty file with the contents of the source's, whose stat is `source`, beginning with a reflink of `old`.
/// Returns the bytes it came to. Nothing, and the file is empty again, where that cannot be done, where too much differs,
/// or where somebody has written to the old version meanwhile. `helpers` threads take part.
///
/// # Errors
/// The side and the error, or that `pulse` said stop.
pub(super) fn contents(way: Way, source: &Stat, old: &Old, helpers: usize) -> Result<Option<u64>, Fault> {
    let to = way.to;
    if !copy::reflinked(old.file.as_fd(), to)? {
        return Ok(None);
    }
    // What of the old version is in memory is not there for its reflink. Where it is not known that a reflink shows each write
    // that came before it, the reflink itself is read.
    let old_file = if clone_is_instant(to) { old.file.as_fd() } else { to };
    let same = old.same.filter(|same| same.source == source.stamp() && same.replica == old.stamp);
    let same_up_to = same.map_or(0, |same| same.up_to);
    let forgets = helpers > 0 && !old.stays && forgets_slowly(to);
    let patch = Patch { way, old: old_file, size: source.size, old_size: old.stamp.size, same_up_to, helpers, forgets };
    let done = patch.run(source.is_sparse())?.filter(|_| old.is_unchanged());
    if done.is_none() {
        fs::ftruncate(to, 0).map_err(Fault::Write)?;
    }
    Ok(done)
}

/// The work on one file. The new one holds what `old` does when it begins.
struct Patch<'a> {
    way: Way<'a>,
    old: BorrowedFd<'a>,
    size: u64,
    old_size: u64,
    same_up_to: u64,
    helpers: usize,
    /// What is in memory of the old version goes piece by piece, shared by the threads, and not at the end, when its name is
    /// taken away from it.
    forgets: bool,
}

/// How far a comparison has come.
struct Tally {
    read: AtomicU64,
    written: AtomicU64,
}

impl Patch<'_> {
    /// Returns the bytes it came to; nothing where the file is better copied.
    fn run(&self, sparse: bool) -> Result<Option<u64>, Fault> {
        if self.size != self.old_size {
            fs::ftruncate(self.way.to, self.size).map_err(Fault::Write)?;
        }
        let tally = Tally { read: AtomicU64::new(self.same_up_to), written: AtomicU64::new(0) };
        let mut at = 0;
        while at < self.size {
            let (data, hole) = if sparse { self.source_data(at)? } else { (at, self.size) };
            if data > at && !self.clear(at, data)? {
                return Ok(None);
            }
            let Some(end) = self.data(data, hole, &tally)? else { return Ok(None) };
            if end < hole {
                // It is shorter by now.
                fs::ftruncate(self.way.to, end).map_err(Fault::Write)?;
                return Ok(Some(end));
            }
            at = hole;
        }
        Ok(Some(self.size))
    }

    /// Where the next data of the source begins and ends; both the size where only a hole is left.
    fn source_data(&self, at: u64) -> Result<(u64, u64), Fault> {
        let data = match fs::seek(self.way.from, SeekFrom::Data(at)) {
            Ok(data) if data < self.size => data,
            Ok(_) | Err(Errno::NXIO) => return Ok((self.size, self.size)),
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok((at, self.size)),
            Err(error) => return Err(Fault::Read(error)),
        };
        let hole = fs::seek(self.way.from, SeekFrom::Hole(data)).map_err(Fault::Read)?;
        Ok((data, hole.min(self.size)))
    }

    /// Makes a hole. Returns whether that can be done.
    fn clear(&self, start: u64, end: u64) -> Result<bool, Fault> {
        check(self.way.pulse)?;
        match fs::seek(self.way.to, SeekFrom::Data(start)) {
            Ok(data) if data < end => {}
            Ok(_) | Err(Errno::NXIO) => return Ok(true),
            Err(_) => return Ok(false),
        }
        if end == self.size {
            // A block that ends after the file does would be cleared, but kept.
            fs::ftruncate(self.way.to, start).map_err(Fault::Write)?;
            return fs::ftruncate(self.way.to, end).map(|()| true).map_err(Fault::Write);
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fs::fallocate(self.way.to, punch, start, end - start) {
                Err(Errno::INTR) => check(self.way.pulse)?,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                done => return done.map(|()| true).map_err(Fault::Write),
            }
        }
    }

    /// Carries over a part in which the source has no hole. Returns where it came to; nothing where too much differs.
    fn data(&self, start: u64, end: u64, tally: &Tally) -> Result<Option<u64>, Fault> {
        let mut at = start;
        while at < end {
            let (data, hole) = self.old_data(at, end);
            if data > at {
                // Zeros that are stored are not the same as a hole.
                let came_to = self.way.range(at, data)?;
                if came_to < data {
                    return Ok(Some(came_to));
                }
            }
            let pieces = pieces::each(data..hole, self.helpers, |piece| self.piece(piece, tally).transpose());
            let Some(came_to) = pieces.unwrap_or(Ok(Some(hole)))? else { return Ok(None) };
            if came_to < hole {
                return Ok(Some(came_to));
            }
            at = hole;
        }
        Ok(Some(at))
    }

    /// Where the next data of the old version begins and ends, up to `end`.
    fn old_data(&self, at: u64, end: u64) -> (u64, u64) {
        let old_end = end.min(self.old_size);
        if at >= old_end {
            return (end, end);
        }
        let data = match fs::seek(self.way.to, SeekFrom::Data(at)) {
            Ok(data) if data < old_end => data,
            Ok(_) | Err(Errno::NXIO) => return (end, end),
            Err(_) => return (at, old_end),
        };
        (data, fs::seek(self.way.to, SeekFrom::Hole(data)).map_or(old_end, |hole| hole.min(old_end)))
    }

    /// Carries over a piece in which both have data. Returns something where that is the last one: where it came to, or that
    /// too much differs.
    fn piece(&self, piece: Range<u64>, tally: &Tally) -> Result<Option<Option<u64>>, Fault> {
        check(self.way.pulse)?;
        let known = piece.end.min(self.same_up_to).max(piece.start);
        self.way.pulse.copied_bytes(known - piece.start);
        let end = self.differing(known..piece.end, tally)?;
        if let (true, Some(length)) = (self.forgets, NonZeroU64::new(piece.end - piece.start)) {
            let _ = fs::fadvise(self.old, piece.start, Some(length), Advice::DontNeed);
        }
        Ok(end)
    }

    /// Reads both, and writes what differs. Returns as `piece` does.
    fn differing(&self, piece: Range<u64>, tally: &Tally) -> Result<Option<Option<u64>>, Fault> {
        let mut at = piece.start;
        with_buffer(|buffer| {
            let half = buffer.len() / 2;
            let (left, right) = buffer.split_at_mut(half);
            while at < piece.end {
                check(self.way.pulse)?;
                let length = usize::try_from(piece.end - at).unwrap_or(half).min(half);
                let read = read_full(self.way.from, &mut left[..length], at).map_err(Fault::Read)?;
                // Of an old version that cannot be read, nothing is known to be the same.
                let known = read_full(self.old, &mut right[..read], at).unwrap_or(0);
                let mut differing = 0;
                for (first, last) in runs(&left[..read], &right[..known]) {
                    copy::write_all(self.way.to, &left[first..last], at + first as u64)?;
                    differing += (last - first) as u64;
                }
                self.way.pulse.copied_bytes(read as u64);
                at += read as u64;
                if read < length {
                    return Ok(Some(Some(at)));
                }
                if tally.is_too_much(read as u64, differing) {
                    return Ok(Some(None));
                }
            }
            Ok(None)
        })
    }
}

impl Tally {
    /// Adds what was read, and what of it was written. Returns whether a copy is the better way.
    fn is_too_much(&self, read: u64, written: u64) -> bool {
        let read = self.read.fetch_add(read, Ordering::Relaxed) + read;
        let written = self.written.fetch_add(written, Ordering::Relaxed) + written;
        read >= ENOUGH && written > read / 4 * 3
    }
}

/// The parts of `new` that differ from `old`, which may be shorter, in whole grains.
fn runs<'a>(new: &'a [u8], old: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let differs = |at: usize| {
        let end = (at + GRAIN).min(new.len());
        old.get(at..end) != Some(&new[at..end])
    };
    let is_same = new == old;
    let mut at = if is_same { new.len() } else { 0 };
    std::iter::from_fn(move || {
        let next = |from: usize, wanted: bool| (from..new.len()).step_by(GRAIN).find(|at| differs(*at) == wanted);
        let first = next(at, true)?;
        at = next(first, false).unwrap_or(new.len());
        Some((first, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::copy::Abilities;
    use crate::fs::pulse::Pulse;
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    const BLOCK: u64 = 4096;

    /// A file of some size with bytes in some places, and holes elsewhere.
    fn file(size: u64, parts: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(size).expect("its size");
        parts.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).expect("written"));
        file
    }

    fn bytes(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().expect("its stat").size()).expect("a size")];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    /// Where the data begins and ends.
    fn map(file: &File) -> Vec<(u64, u64)> {
        let (mut at, mut found) = (0, Vec::new());
        while let Ok(data) = fs::seek(file, SeekFrom::Data(at)) {
            at = fs::seek(file, SeekFrom::Hole(data)).expect("an end");
            found.push((data, at));
        }
        found
    }

    /// Where there are no reflinks, a copy of the old version is one too.
    fn patched(source: &File, old: &File, same_up_to: u64) -> (File, Option<u64>, u64) {
        let (abilities, pulse) = (Abilities::default(), Pulse::default());
        let to = file(0, &[]);
        let size = |file: &File| file.metadata().expect("its stat").size();
        let way = Way { from: old.as_fd(), to: to.as_fd(), durable: true, abilities: &abilities, pulse: &pulse };
        way.with_holes(size(old)).expect("a copy");
        let copied = pulse.progress().bytes;
        let (size, old_size) = (size(source), size(old));
        let way = Way { from: source.as_fd(), ..way };
        let patch = Patch { way, old: old.as_fd(), size, old_size, same_up_to, helpers: 2, forgets: true };
        let done = patch.run(true).expect("patched");
        let copied = pulse.progress().bytes - copied;
        (to, done, copied)
    }

    fn assert_becomes(source: &File, old: &File) {
        let (to, done, copied) = patched(source, old, 0);
        assert_eq!(done, Some(source.metadata().expect("its stat").size()));
        assert!(bytes(&to) == bytes(source), "other contents");
        assert_eq!(map(&to), map(source));
        let blocks = |file: &File| file.metadata().expect("its stat").blocks();
        // The filesystem's own list of what is where can take a block more.
        assert!(blocks(&to).abs_diff(blocks(source)) <= 8, "{} blocks of {}", blocks(&to), blocks(source));
        assert_eq!(copied, map(source).iter().map(|(from, to)| to - from).sum::<u64>(), "of all data it is told once");
    }

    #[test]
    fn holes_become_data_and_data_becomes_holes() {
        let (one, other, zeros) = ([1; 8192], [2; 8192], [0; 8192]);
        let versions = [
            file(1 << 20, &[]),
            file(1 << 20, &[(0, &one), (1 << 19, &one)]),
            file(1 << 20, &[(0, &zeros), (300 << 10, &other), ((1 << 20) - 8192, &one)]),
            file(1 << 20, &[(8192, &one), (1 << 19, &other)]),
            file((1 << 20) + 5, &[(1 << 19, &one), (1 << 20, b"12345")]),
            file((1 << 20) - 5, &[(0, &[7; 1 << 19])]),
            file(100_001, &[(0, &[7; 100_001])]),
            file(1, &[(0, b"1")]),
            file(4097, &[]),
        ];
        for source in &versions {
            versions.iter().for_each(|old| assert_becomes(source, old));
        }
    }

    #[test]
    fn any_version_becomes_any_other() {
        let mut seed = 1u64;
        let mut below = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        let mut old = file(0, &[]);
        for _ in 0..100 {
            let source = file(0, &[]);
            source.write_all_at(&bytes(&old), 0).expect("written");
            for _ in 0..=below(4) {
                let (at, length) = (below(400 << 10), below(64 << 10) + 1);
                match below(4) {
                    0 => source.set_len(at).expect("a size"),
                    1 => {
                        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                        // Whole blocks: what is left of others depends on how they came to be.
                        let _ = fs::fallocate(&source, hole, at / BLOCK * BLOCK, length.next_multiple_of(BLOCK));
                    }
                    other => source.write_all_at(&vec![other as u8 * 7; length as usize], at).expect("written"),
                }
            }
            assert_becomes(&source, &old);
            old = source;
        }
    }

    #[test]
    fn what_is_known_to_be_the_same_is_not_compared() {
        let (source, old) = (file(0, &[(0, &[1; 1 << 16])]), file(0, &[(0, &[2; 1 << 16])]));
        let (to, done, copied) = patched(&source, &old, 1 << 15);
        assert_eq!((done, copied), (Some(1 << 16), 1 << 16));
        let now = bytes(&to);
        assert!(now[..1 << 15].iter().all(|b| *b == 2) && now[1 << 15..].iter().all(|b| *b == 1));
    }

    #[test]
    fn a_file_that_has_become_another_one_is_copied_anew() {
        let size = ENOUGH as usize + (1 << 20);
        let (old, source) = (file(0, &[(0, &vec![1; size])]), file(0, &[(0, &vec![2; size])]));
        assert_eq!(patched(&source, &old, 0).1, None);
        old.write_all_at(&vec![2; size / 2], 0).expect("written");
        assert_becomes(&source, &old);
    }

    #[test]
    fn no_more_is_written_than_the_blocks_that_differ() {
        let runs = |new: &[u8], old: &[u8]| runs(new, old).collect::<Vec<_>>();
        let old = [0; 5 * GRAIN];
        let mut new = old;
        assert_eq!(runs(&new, &old), []);
        new[GRAIN] = 1;
        new[3 * GRAIN - 1] = 1;
        new[5 * GRAIN - 1] = 1;
        assert_eq!(runs(&new, &old), [(GRAIN, 3 * GRAIN), (4 * GRAIN, 5 * GRAIN)]);
        assert_eq!(runs(&new[..GRAIN + 1], &old), [(GRAIN, GRAIN + 1)]);
        assert_eq!(runs(&old, &old[..GRAIN + 1]), [(GRAIN, 5 * GRAIN)]);
        assert_eq!(runs(&[], &old), []);
    }

    #[test]
    fn an_old_version_that_somebody_writes_to_is_not_relied_on() {
        let top = tempfile::tempdir().expect("a folder");
        let path = top.path().join("file");
        std::fs::write(&path, "old").expect("written");
        let root = Root::open(top.path()).expect("a root");
        let look = || *root.look(root.fd(), b"file").expect("a look").stat().expect("it is there");
        let (expected, open) = (look(), |expected: &Stat| Old::open(&root, root.fd(), b"file", expected, None));
        let old = open(&expected).expect("it is as it was seen");
        assert!(old.is_unchanged());
        std::fs::write(&path, "newer").expect("written");
        assert!(!old.is_unchanged() && open(&expected).is_none());
        std::fs::remove_file(&path).expect("removed");
        assert!(open(&expected).is_none());
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        assert!(open(&look()).is_none());
    }
}
