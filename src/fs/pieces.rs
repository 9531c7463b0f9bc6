//! Owns sharing out a range of a large file: threads take its pieces in order and stay side by side, so that a disk is
//! read as it would be by one. It knows nothing of what is done with a piece.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// In bytes, what a thread takes at a time.
const PIECE: u64 = 1 << 20;
/// A range of this size, in bytes, is worth one more thread.
const WORTH_SHARING: u64 = 16 << 20;

/// Does `work` on the pieces of a range, in order, until it returns something. Returns that of the lowest piece for which
/// it did; all below that one are done. With so many threads more where the range is large.
pub(super) fn each<T: Send>(
    range: Range<u64>,
    helpers: usize,
    work: impl Fn(Range<u64>) -> Option<T> + Sync,
) -> Option<T> {
    let next = AtomicU64::new(range.start / PIECE);
    let last = AtomicU64::new(if range.is_empty() { 0 } else { range.end.div_ceil(PIECE) });
    let found = Mutex::new(None);
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= last.load(Ordering::Relaxed) {
                return;
            }
            let end = range.end.min((at + 1).saturating_mul(PIECE));
            let Some(result) = work(range.start.max(at * PIECE)..end) else { continue };
            let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
            // Who took a piece below this one may still be at it.
            if found.as_ref().is_none_or(|(lowest, _)| at < *lowest) {
                *found = Some((at, result));
                last.fetch_min(at, Ordering::Relaxed);
            }
        }
    };
    if helpers == 0 || range.end.saturating_sub(range.start) < WORTH_SHARING {
        run();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Without more threads it takes longer.
                let _ = std::thread::Builder::new().name("pieces".into()).spawn_scoped(scope, run);
            }
            run();
        });
    }
    let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
    found.map(|(_, result)| result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_piece() {
        for helpers in [0, 3] {
            for range in [0..0, 5..5, 3..PIECE, PIECE - 1..PIECE + 1, 7..WORTH_SHARING + 8, PIECE..40 * PIECE + 1] {
                let pieces = Mutex::new(Vec::new());
                let take = |piece: Range<u64>| {
                    pieces.lock().expect("a lock").push((piece.start, piece.end));
                    None::<()>
                };
                assert_eq!(each(range.clone(), helpers, take), None);
                let mut pieces = pieces.into_inner().expect("pieces");
                pieces.sort_unstable();
                let end = pieces.iter().fold(range.start, |at, (start, end)| {
                    assert!(at == *start && start < end && end - start <= PIECE, "{range:?}: {pieces:?}");
                    *end
                });
                assert_eq!(end, range.end);
            }
        }
    }

    #[test]
    fn the_lowest_end_counts_and_all_below_it_is_done() {
        for helpers in [0, 3] {
            for ends in [vec![0], vec![9, 10, 11], vec![3, 30], vec![39]] {
                let done = Mutex::new(Vec::new());
                let lowest = each(0..40 * PIECE, helpers, |piece| {
                    let at = piece.start / PIECE;
                    // The lower one comes late.
                    (0..(40 - at) * 100).for_each(|_| std::hint::spin_loop());
                    done.lock().expect("a lock").push(at);
                    ends.contains(&at).then_some(at)
                });
                let done = done.into_inner().expect("what was done");
                assert_eq!(lowest, Some(ends[0]));
                assert!((0..=ends[0]).all(|at| done.contains(&at)));
            }
        }
    }

    #[test]
    fn a_range_without_an_end_ends_where_it_is_told() {
        let end = each(0..u64::MAX, 0, |piece| (piece.end > 5 * PIECE).then_some(piece.start));
        assert_eq!(end, Some(5 * PIECE));
    }
}
