//! Owns what is remembered of a folder between passes: for each name the stamps of both sides when they were last
//! found, or made, equal; and the bytes that an archive keeps it in. Decoding takes any bytes and never panics.

use super::codec::{put, put_bytes, take, take_bytes, take_counted};
use super::doubt::Moment;
use super::entry::{InodeId, Kind, Stamp, Time};

/// That both sides of one name agreed, and the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub source: Stamp,
    pub replica: Stamp,
    /// The source's ctime was younger than the clock's grain when it was read: a later write can have left the same
    /// stamp, so that the next look compares contents.
    pub racy: bool,
    /// When the look that led to this began. Events read before then are answered by it. Not stored.
    pub looked: Moment,
    /// The contents were not compared, because the events told why the ctime had moved. Not stored until no event
    /// can be on its way any more that says otherwise.
    pub provisional: bool,
}

impl Agreed {
    /// The same with the sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { source: self.replica, replica: self.source, ..self }
    }

    /// Whether both sides still show what they showed then.
    pub fn holds(&self, source: &Stamp, replica: &Stamp) -> bool {
        self.source == *source && self.replica == *replica
    }
}

/// What is remembered of one folder, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// One after the other, in any order: a record is read whole for each folder that is looked at, and memory for each
    /// name would cost more than all the rest of it. Names that are gone stay until the record goes.
    names: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Where the name is in `names`.
    start: usize,
    end: usize,
    agreed: Agreed,
}

impl Row {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.start..self.end]
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Record {}

impl Record {
    pub fn get(&self, name: &[u8]) -> Option<&Agreed> {
        self.place(name).ok().map(|at| &self.rows[at].agreed)
    }

    pub fn set(&mut self, name: &[u8], agreed: Agreed) {
        match self.place(name) {
            Ok(at) => self.rows[at].agreed = agreed,
            Err(at) => {
                let row = self.row(name, agreed);
                self.rows.insert(at, row);
            }
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        if let Ok(at) = self.place(name) {
            self.rows.remove(at);
        }
    }

    /// Where the row of this name is, or where it belongs.
    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.rows.binary_search_by(|row| row.name(&self.names).cmp(name))
    }

    fn row(&mut self, name: &[u8], agreed: Agreed) -> Row {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        Row { start, end: self.names.len(), agreed }
    }

    /// Keeps only what `keeps` says.
    pub fn retain(&mut self, keeps: impl Fn(&Agreed) -> bool) {
        self.rows.retain(|row| keeps(&row.agreed));
    }

    /// Applies many changes, sorted by name, in one walk; `None` removes.
    pub fn merge<'a>(&mut self, changes: impl Iterator<Item = (&'a [u8], Option<Agreed>)>) {
        let mut old = std::mem::take(&mut self.rows).into_iter().peekable();
        let mut rows = Vec::with_capacity(old.len());
        for (name, change) in changes {
            while let Some(row) = old.next_if(|row| row.name(&self.names) < name) {
                rows.push(row);
            }
            old.next_if(|row| row.name(&self.names) == name);
            if let Some(agreed) = change {
                rows.push(self.row(name, agreed));
            }
        }
        rows.extend(old);
        self.rows = rows;
    }

    /// The same with the sides exchanged.
    #[must_use]
    pub fn turned(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| row.agreed = row.agreed.turned());
        self
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Agreed)> {
        self.rows.iter().map(|row| (row.name(&self.names), &row.agreed))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() * TYPICAL);
        for (name, agreed) in self.iter() {
            put_row(&mut out, name, agreed);
        }
        out
    }

    /// What `encode` gives after `merge` of these changes into what these bytes hold, and of how many names; for the cost
    /// of the bytes, not of a record in memory. `None` for bytes that no `encode` wrote.
    pub fn merged<'a>(
        mut bytes: &[u8],
        changes: impl Iterator<Item = (&'a [u8], Option<Agreed>)>,
    ) -> Option<(Vec<u8>, usize)> {
        let (mut out, mut len) = (Vec::with_capacity(bytes.len() + bytes.len() / 8 + TYPICAL), 0);
        let mut add = |out: &mut Vec<u8>, name: &[u8], change: Option<Agreed>| {
            if let Some(agreed) = change {
                put_row(out, name, &agreed);
                len += 1;
            }
        };
        let (mut changes, mut last, mut kept) = (changes.peekable(), None, 0);
        while !bytes.is_empty() {
            let row = bytes;
            let (name, ..) = take_row(&mut bytes, last)?;
            last = Some(name);
            while let Some((name, change)) = changes.next_if(|(new, _)| *new < name) {
                add(&mut out, name, change);
            }
            match changes.next_if(|(new, _)| *new == name) {
                Some((name, change)) => add(&mut out, name, change),
                None => {
                    out.extend_from_slice(&row[..row.len() - bytes.len()]);
                    kept += 1;
                }
            }
        }
        changes.for_each(|(name, change)| add(&mut out, name, change));
        Some((out, len + kept))
    }

    /// `None` for bytes that no `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::take_rows(bytes, bytes.len() / TYPICAL, |_| true)
    }

    /// The same of the names that are `wanted`: the others cost neither memory nor much time.
    pub fn decode_some(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Self> {
        Self::take_rows(bytes, 0, wanted)
    }

    fn take_rows(mut bytes: &[u8], room: usize, wanted: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut record = Self { names: Vec::new(), rows: Vec::with_capacity(room) };
        let mut last: Option<&[u8]> = None;
        while !bytes.is_empty() {
            let (name, racy, source, replica) = take_row(&mut bytes, last)?;
            last = Some(name);
            let looked = Moment::default();
            if wanted(name) {
                let row = record.row(name, Agreed { source, replica, racy, looked, provisional: false });
                record.rows.push(row);
            }
        }
        Some(record)
    }
}

/// Bytes that a row mostly takes.
const TYPICAL: usize = 64;

const KINDS: [Kind; 7] =
    [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];

fn put_row(out: &mut Vec<u8>, name: &[u8], agreed: &Agreed) {
    put_bytes(out, name);
    out.push(u8::from(agreed.racy));
    put_stamp(out, &agreed.source);
    put_stamp(out, &agreed.replica);
}

/// The next row, whose name comes after the `last` one.
fn take_row<'a>(bytes: &mut &'a [u8], last: Option<&[u8]>) -> Option<(&'a [u8], bool, Stamp, Stamp)> {
    let name = take_counted(bytes)?;
    if (!super::path::is_name(name) && !name.is_empty()) || last.is_some_and(|last| last >= name) {
        return None;
    }
    let racy = match take_bytes(bytes, 1)? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some((name, racy, take_stamp(bytes)?, take_stamp(bytes)?))
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    // Zigzag, so that times before the epoch stay short too.
    put(out, (time.sec.wrapping_shl(1) ^ (time.sec >> 63)) as u64);
    put(out, u64::from(time.nsec));
}

fn take_time(bytes: &mut &[u8]) -> Option<Time> {
    let folded = take(bytes)?;
    let sec = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    Some(Time { sec, nsec: u32::try_from(take(bytes)?).ok()? })
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    let kind = KINDS.iter().position(|k| *k == stamp.kind).unwrap_or_default();
    put(out, (u64::from(stamp.mode) << 3) | kind as u64);
    put(out, stamp.id.dev);
    put(out, stamp.id.ino);
    put(out, stamp.size);
    put_time(out, stamp.mtime);
    put_time(out, stamp.ctime);
}

fn take_stamp(bytes: &mut &[u8]) -> Option<Stamp> {
    let head = take(bytes)?;
    let kind = *KINDS.get((head & 7) as usize)?;
    let mode = u16::try_from(head >> 3).ok()?;
    let id = InodeId { dev: take(bytes)?, ino: take(bytes)? };
    Some(Stamp { id, kind, mode, size: take(bytes)?, mtime: take_time(bytes)?, ctime: take_time(bytes)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn time() -> impl Strategy<Value = Time> {
        (any::<i64>(), 0u32..1_000_000_000).prop_map(|(sec, nsec)| Time { sec, nsec })
    }

    fn stamp() -> impl Strategy<Value = Stamp> {
        (0usize..7, 0u16..0o10000, any::<u64>(), any::<u64>(), any::<u64>(), time(), time()).prop_map(
            |(kind, mode, dev, ino, size, mtime, ctime)| Stamp {
                id: InodeId { dev, ino },
                kind: KINDS[kind],
                mode,
                size,
                mtime,
                ctime,
            },
        )
    }

    fn agreed() -> impl Strategy<Value = Agreed> {
        (stamp(), stamp(), any::<bool>()).prop_map(|(source, replica, racy)| Agreed {
            source,
            replica,
            racy,
            looked: Moment::default(),
            provisional: false,
        })
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(1u8..255, 1..12).prop_filter("a name", |n| super::super::path::is_name(n))
    }

    fn record() -> impl Strategy<Value = BTreeMap<Vec<u8>, Agreed>> {
        prop::collection::btree_map(name(), agreed(), 0..12)
    }

    fn from_map(map: &BTreeMap<Vec<u8>, Agreed>) -> Record {
        let mut out = Record::default();
        map.iter().for_each(|(name, agreed)| out.set(name, *agreed));
        out
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(map in record()) {
            let record = from_map(&map);
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        #[test]
        fn decoding_some_is_decoding_all_and_keeping_them(map in record(), odd in any::<bool>()) {
            let wanted = |name: &[u8]| (name.len() % 2 == 1) == odd;
            let some = map.iter().filter(|(name, _)| wanted(name)).map(|(n, a)| (n.clone(), *a)).collect();
            prop_assert_eq!(Record::decode_some(&from_map(&map).encode(), wanted), Some(from_map(&some)));
        }

        #[test]
        fn decode_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert!(record.iter().is_sorted_by(|a, b| a.0 < b.0));
            }
        }

        #[test]
        fn merge_is_set_and_remove_one_by_one(
            map in record(),
            changes in prop::collection::btree_map(name(), prop::option::of(agreed()), 0..12),
        ) {
            let mut merged = from_map(&map);
            merged.merge(changes.iter().map(|(n, c)| (n.as_slice(), *c)));
            let in_bytes = changes.iter().map(|(n, c)| (n.as_slice(), *c));
            let in_bytes = Record::merged(&from_map(&map).encode(), in_bytes);
            prop_assert_eq!(in_bytes, Some((merged.encode(), merged.len())));
            let mut naive = from_map(&map);
            for (name, change) in &changes {
                match change {
                    Some(agreed) => naive.set(name, *agreed),
                    None => naive.remove(name),
                }
            }
            prop_assert_eq!(merged, naive);
        }
    }
}
