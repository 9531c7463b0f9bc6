//! Owns what is remembered of a folder between passes: for each name the stamps of both sides when they were last
//! found, or made, equal; and the bytes that an archive keeps it in. Decoding takes any bytes and never panics.

use super::codec::{put, put_bytes, take, take_bytes, take_counted};
use super::doubt::Moment;
use super::entry::{InodeId, Kind, Stamp, Time};
use super::identity::Side;

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
    /// On which side this program made what is there, which nobody can have had in hand before: there, each write since
    /// shows in the stamp, but for one in the same instant whose mtime was put back.
    pub made: Option<Side>,
    /// Kept where both folders are worked in.
    pub base: Option<Base>,
}

/// What both sides had of the attributes that a stamp does not show: by that it is known which side has changed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub uid: u32,
    pub gid: u32,
    /// A hash of the extended ones, ACLs among them.
    pub extended: u64,
}

impl Agreed {
    /// The same with the sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { source: self.replica, replica: self.source, made: self.made.map(Side::other), ..self }
    }

    /// Whether one side's file can have been written since without showing another stamp than this, which was agreed. A write
    /// sets both times to the same instant.
    pub fn hides_a_write(&self, stamp: &Stamp) -> bool {
        self.racy && stamp.kind == Kind::File && stamp.mtime == stamp.ctime
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
            let (name, agreed) = take_row(&mut bytes, last)?;
            last = Some(name);
            if wanted(name) {
                let row = record.row(name, agreed);
                record.rows.push(row);
            }
        }
        Some(record)
    }
}

/// Bytes that a row mostly takes.
const TYPICAL: usize = 64;
/// The flags of a row.
const RACY: u8 = 1;
const WITH_BASE: u8 = 2;
const MADE_IN_SOURCE: u8 = 4;
const MADE_IN_REPLICA: u8 = 8;
const FLAGS: u8 = RACY | WITH_BASE | MADE_IN_SOURCE | MADE_IN_REPLICA;

const KINDS: [Kind; 7] =
    [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];

fn put_row(out: &mut Vec<u8>, name: &[u8], agreed: &Agreed) {
    put_bytes(out, name);
    let made = match agreed.made {
        None => 0,
        Some(Side::Source) => MADE_IN_SOURCE,
        Some(Side::Replica) => MADE_IN_REPLICA,
    };
    out.push(made | if agreed.racy { RACY } else { 0 } | if agreed.base.is_some() { WITH_BASE } else { 0 });
    put_stamp(out, &agreed.source);
    put_stamp(out, &agreed.replica);
    if let Some(Base { uid, gid, extended }) = agreed.base {
        [u64::from(uid), u64::from(gid), extended].into_iter().for_each(|number| put(out, number));
    }
}

/// The next row, whose name comes after the `last` one.
fn take_row<'a>(bytes: &mut &'a [u8], last: Option<&[u8]>) -> Option<(&'a [u8], Agreed)> {
    let name = take_counted(bytes)?;
    if (!super::path::is_name(name) && !name.is_empty()) || last.is_some_and(|last| last >= name) {
        return None;
    }
    let flags = *take_bytes(bytes, 1)?.first().filter(|flags| **flags & !FLAGS == 0)?;
    let (source, replica) = (take_stamp(bytes)?, take_stamp(bytes)?);
    let base = if flags & WITH_BASE == 0 { None } else { Some(take_base(bytes)?) };
    let made = match (flags & MADE_IN_SOURCE != 0, flags & MADE_IN_REPLICA != 0) {
        (true, false) => Some(Side::Source),
        (false, true) => Some(Side::Replica),
        _ => None,
    };
    let (racy, looked) = (flags & RACY != 0, Moment::default());
    Some((name, Agreed { source, replica, racy, looked, provisional: false, made, base }))
}

fn take_base(bytes: &mut &[u8]) -> Option<Base> {
    let mut id = || u32::try_from(take(bytes)?).ok();
    let (uid, gid) = (id()?, id()?);
    Some(Base { uid, gid, extended: take(bytes)? })
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
        let made = prop::sample::select(vec![None, Some(Side::Source), Some(Side::Replica)]);
        (stamp(), stamp(), any::<bool>(), made, prop::option::of(base())).prop_map(
            |(source, replica, racy, made, base)| Agreed {
                source,
                replica,
                racy,
                looked: Moment::default(),
                provisional: false,
                made,
                base,
            },
        )
    }

    fn base() -> impl Strategy<Value = Base> {
        (any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(uid, gid, extended)| Base { uid, gid, extended })
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

    #[test]
    fn a_row_without_a_base_takes_no_more_room_and_unknown_flags_are_refused() {
        let stamp = |ino| Stamp {
            id: InodeId { dev: 1, ino },
            kind: Kind::File,
            mode: 0o644,
            size: 3,
            mtime: Time::default(),
            ctime: Time::default(),
        };
        let (source, replica, looked) = (stamp(1), stamp(2), Moment::default());
        let plain = Agreed { source, replica, racy: true, looked, provisional: false, made: None, base: None };
        let base = Some(Base { uid: 1, gid: 2, extended: 3 });
        let encoded = |agreed: Agreed| from_map(&BTreeMap::from([(b"f".to_vec(), agreed)])).encode();
        let (short, long) = (encoded(plain), encoded(Agreed { base, ..plain }));
        assert_eq!((short[2], long[2], long.len()), (1, 3, short.len() + 3));
        for flags in FLAGS + 1..=u8::MAX {
            let mut bytes = short.clone();
            bytes[2] = flags;
            assert_eq!(Record::decode(&bytes), None, "{flags}");
        }
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
