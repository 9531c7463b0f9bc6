//! Times the words in which all the work is said: listings, paths, doubt, records.
//!
//! `cargo bench` runs all of it in half a minute, `cargo bench -- merge` a part; `-- --baseline main` holds it against what
//! `-- --save-baseline main` has kept. What the program does with disks is measured by `benches/compare`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use driftless::tree::doubt::{DirtySet, Doubt, Limits, Moment};
use driftless::tree::entry::{Kind, Seen, Stat, Time};
use driftless::tree::listing::{Listing, merge};
use driftless::tree::path::RelPath;
use driftless::tree::record::{Agreed, Record};

/// A folder as there are many, and a large one.
const SIZES: [usize; 2] = [20, 10_000];

fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

/// Names as a listing gives them, in no order.
fn names(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("a-file-{:05}.txt", i * 7_919 % count).into_bytes()).collect()
}

fn stat(number: usize) -> Stat {
    let time = Time { sec: 1_790_000_000 + number as i64, nsec: 123_456_789 };
    Stat {
        kind: Kind::File,
        mode: 0o644,
        uid: 1_000,
        gid: 1_000,
        nlink: 1,
        size: 4_096 + number as u64,
        blocks: 16,
        mtime: time,
        ctime: time,
        dev: 0,
        ino: 1_000_000 + number as u64,
        rdev: 0,
    }
}

fn listing(names: &[Vec<u8>]) -> Listing {
    let mut listing = Listing::default();
    names.iter().for_each(|name| assert!(listing.push(name, true), "it holds more than 4 GiB of names"));
    listing
}

fn record(names: &[Vec<u8>]) -> Record {
    let mut sorted: Vec<_> = names.iter().enumerate().collect();
    sorted.sort_by_key(|(_, name)| *name);
    let mut record = Record::default();
    record.merge(sorted.into_iter().map(|(i, name)| {
        let stamp = stat(i).stamp();
        let agreed = Agreed {
            source: stamp,
            replica: stamp,
            racy: false,
            looked: Moment::default(),
            provisional: false,
            made: None,
            base: None,
        };
        (name.as_slice(), Some(agreed))
    }));
    record
}

/// So many paths, ten names to a folder, four levels deep, in no order.
fn paths(count: usize) -> Vec<RelPath> {
    let folders = count.div_ceil(10);
    let path = |i: usize| {
        let folder = i * 7_919 % folders;
        RelPath::new(format!("work/project-{}/src/module-{folder}/file-{}.rs", folder % 10, i / folders).as_bytes())
    };
    (0..count).filter_map(path).collect()
}

fn listings(c: &mut Criterion) {
    let mut group = c.benchmark_group("listing");
    for size in SIZES {
        let names = names(size);
        let (mut left, mut right) = (listing(&names), listing(&names[size / 20..]));
        for listing in [&mut left, &mut right] {
            listing.sort();
            let mut number = 0;
            listing.fill(|_, _| {
                number += 1;
                Seen::Present(stat(number))
            });
        }
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("merge/{size}"), |b| b.iter(|| merge(black_box(&left), &right).count()));
        group.bench_function(format!("sort/{size}"), |b| {
            b.iter_batched(|| listing(&names), |mut listing| listing.sort(), BatchSize::LargeInput)
        });
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    for size in SIZES {
        let record = record(&names(size));
        let bytes = record.encode();
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("encode/{size}"), |b| b.iter(|| black_box(&record).encode()));
        group.bench_function(format!("decode/{size}"), |b| b.iter(|| Record::decode(black_box(&bytes))));
    }
    group.finish();
}

fn doubt(c: &mut Criterion) {
    let mut group = c.benchmark_group("doubt");
    let paths = paths(10_000);
    let filled = |limits| {
        let mut set = DirtySet::new(limits);
        for (i, path) in paths.iter().enumerate() {
            set.insert(path, Doubt::contents(Moment(i as u64)));
        }
        set
    };
    let narrow = Limits { names: 1_000_000, names_a_folder: 2_000, folders: 100 };
    let set = filled(Limits::default());
    group.throughput(Throughput::Elements(paths.len() as u64));
    group.bench_function("insert", |b| b.iter(|| filled(Limits::default())));
    group.bench_function("insert into a set that is full", |b| b.iter(|| filled(narrow)));
    group.bench_function("covers", |b| b.iter(|| paths.iter().filter(|path| black_box(&set).covers(path)).count()));
    group.bench_function("union", |b| {
        b.iter_batched(|| (set.clone(), set.clone()), |(mut set, other)| set.union(other), BatchSize::LargeInput)
    });
    group.bench_function("seeds", |b| b.iter(|| black_box(&set).seeds()));
    group.finish();
}

fn order(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    let paths = paths(10_000);
    group.throughput(Throughput::Elements(paths.len() as u64));
    group.bench_function("sort", |b| b.iter_batched(|| paths.clone(), |mut paths| paths.sort(), BatchSize::LargeInput));
    group.bench_function("split and join", |b| {
        b.iter(|| paths.iter().filter_map(|path| path.split().map(|(folder, name)| folder.join(name))).count())
    });
    group.finish();
}

criterion_group! {
    name = all;
    config = criterion();
    targets = listings, records, doubt, order
}
criterion_main!(all);
