//! Owns how long changes took: a histogram of fixed size that any thread may add to. It reads no clock and knows nothing
//! of what a change is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Eight decades from 100 microseconds to 10,000 seconds, each in 70 steps of at most 5 %.
const DECADES: usize = 8;
const STEPS: usize = 70;
const BUCKETS: usize = DECADES * STEPS + 1;

/// The upper bound of each bucket, itself in it, in microseconds. What is longer than the last has a bucket of its own.
const BOUNDS: [u64; BUCKETS] = bounds();

const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [0; BUCKETS];
    let (mut at, mut bound, mut decade) = (0, 100, 100);
    while at < BUCKETS {
        bounds[at] = bound;
        if bound == 10 * decade {
            decade = bound;
        }
        bound += if bound < 2 * decade {
            decade / 20
        } else if bound < 5 * decade {
            decade / 10
        } else {
            decade / 4
        };
        at += 1;
    }
    bounds
}

/// Counts since the start of the program.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS + 1],
    sum: AtomicU64,
    longest: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }
}

impl Latency {
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    /// What has been counted up to now.
    pub fn reading(&self) -> Reading {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Reading { counts, sum: self.sum.load(Ordering::Relaxed), longest: self.longest.load(Ordering::Relaxed) }
    }
}

/// The counts at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    counts: Vec<u64>,
    sum: u64,
    longest: u64,
}

impl Reading {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest)
    }

    /// The time within which this share of the changes, in percent, arrived: an upper bound, too long by 5 % at most,
    /// or by 100 microseconds. `None` while there are none.
    pub fn within(&self, percent: u64) -> Option<Duration> {
        let count = self.count();
        let rank = u64::try_from((u128::from(count) * u128::from(percent)).div_ceil(100)).unwrap_or(count).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|here| {
            seen += here;
            seen >= rank
        })?;
        let bound = BOUNDS.get(bucket).copied().unwrap_or(u64::MAX);
        Some(Duration::from_micros(bound.min(self.longest)))
    }

    /// How many took as long as `bound` or less. Exact for bounds of 100 microseconds to 10,000 seconds with one digit
    /// that is not zero; of others, those of the buckets that lie below it whole.
    pub fn at_most(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let whole = BOUNDS.partition_point(|bound| *bound <= micros);
        self.counts.iter().take(whole).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Reading {
        let latency = Latency::default();
        micros.iter().for_each(|n| latency.note(Duration::from_micros(*n)));
        latency.reading()
    }

    #[test]
    fn buckets_rise_by_five_percent_at_most_and_have_round_bounds_among_them() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1] && pair[1] * 100 <= pair[0] * 105));
        assert_eq!((BOUNDS.first(), BOUNDS.last()), (Some(&100), Some(&10_000_000_000)));
        for decade in 2..10 {
            for digit in 1..10 {
                assert!(BOUNDS.contains(&(digit * 10u64.pow(decade))), "{digit}e{decade}");
            }
        }
    }

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!((of(&[]).within(50), of(&[]).count()), (None, 0));
        assert_eq!(of(&[u64::MAX]).within(99), Some(Duration::from_micros(u64::MAX)));
    }

    proptest! {
        #[test]
        fn percentiles_are_upper_bounds_and_close(
            mut micros in prop::collection::vec(prop_oneof![0u64..2_000, 0u64..20_000_000, 0u64..10_000_000_000], 1..200),
            percent in 1u64..=100,
        ) {
            let within = of(&micros).within(percent).expect("some").as_micros() as u64;
            micros.sort_unstable();
            let rank = (micros.len() * percent as usize).div_ceil(100);
            let exact = micros[rank - 1];
            prop_assert!(exact <= within, "{exact} > {within}");
            prop_assert!(within <= (exact + exact / 20).max(100), "{within} is far above {exact}");
        }

        #[test]
        fn counts_up_to_a_round_bound_are_exact(
            micros in prop::collection::vec(prop_oneof![0u64..9_000, 0u64..90_000_000], 0..200),
            digit in 1u64..10, decade in 2u32..10,
        ) {
            let bound = digit * 10u64.pow(decade);
            let exact = micros.iter().filter(|n| **n <= bound).count() as u64;
            prop_assert_eq!(of(&micros).at_most(Duration::from_micros(bound)), exact);
        }
    }
}
