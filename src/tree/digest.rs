//! Owns what is remembered of a file's contents: their MD5, by what it is seen that neither side has been written to since
//! it was taken, and what was found to have decayed; and the bytes that an archive keeps both in. It judges nothing (see
//! `plan::decay`). Decoding takes any bytes and never panics.

use super::codec::{put, take, take_bytes};
use super::entry::{InodeId, Stat, Time};
use super::identity::Side;

/// The MD5 of a file's contents.
pub type Md5 = [u8; 16];

/// What one side's file showed when its contents were known to be those of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    pub id: InodeId,
    pub mtime: Time,
    pub ctime: Time,
}

/// What a seal says of a file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealState {
    /// There was none for this side.
    None,
    /// Nobody can have written to it since.
    Whole,
    /// Its ctime has moved, and nothing else: its attributes or its names were changed, or its times put back.
    Touched,
    /// It is another file, or was written to.
    Broken,
}

impl Seal {
    pub fn of(stat: &Stat) -> Self {
        Self { id: stat.id(), mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// What is remembered of the contents of one file, as both sides had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    pub md5: Md5,
    pub size: u64,
    /// `None` for a side whose file was not read.
    pub source: Option<Seal>,
    pub replica: Option<Seal>,
    /// When it was last found right, in seconds since 1970.
    pub checked: u64,
}

impl Digest {
    pub fn seal(&self, side: Side) -> Option<Seal> {
        if side == Side::Source { self.source } else { self.replica }
    }

    /// What this says of a side's file that shows `stat` now.
    pub fn state(&self, side: Side, stat: &Stat) -> SealState {
        let Some(seal) = self.seal(side) else { return SealState::None };
        if (seal.id, seal.mtime, self.size) != (stat.id(), stat.mtime, stat.size) {
            SealState::Broken
        } else if seal.ctime == stat.ctime {
            SealState::Whole
        } else {
            SealState::Touched
        }
    }

    /// The same with the sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { source: self.replica, replica: self.source, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TYPICAL);
        out.extend_from_slice(&self.md5);
        put(&mut out, self.size);
        put(&mut out, self.checked);
        out.push(u8::from(self.source.is_some()) | u8::from(self.replica.is_some()) << 1);
        for seal in [self.source, self.replica].into_iter().flatten() {
            put(&mut out, seal.id.dev);
            put(&mut out, seal.id.ino);
            put_time(&mut out, seal.mtime);
            put_time(&mut out, seal.ctime);
        }
        out
    }

    /// `None` for bytes that no `encode` wrote.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let md5 = take_bytes(bytes, 16)?.try_into().ok()?;
        let (size, checked) = (take(bytes)?, take(bytes)?);
        let flags = *take_bytes(bytes, 1)?.first().filter(|flags| **flags < 4)?;
        let mut seal = |is_there: bool| -> Option<Option<Seal>> {
            if !is_there {
                return Some(None);
            }
            let id = InodeId { dev: take(bytes)?, ino: take(bytes)? };
            Some(Some(Seal { id, mtime: take_time(bytes)?, ctime: take_time(bytes)? }))
        };
        let (source, replica) = (seal(flags & 1 != 0)?, seal(flags & 2 != 0)?);
        bytes.is_empty().then_some(Self { md5, size, source, replica, checked })
    }
}

/// Bytes that a digest mostly takes.
const TYPICAL: usize = 64;

fn put_time(out: &mut Vec<u8>, time: Time) {
    // Times before 1970 are rare and take ten bytes.
    put(out, time.sec as u64);
    put(out, u64::from(time.nsec));
}

fn take_time(bytes: &mut &[u8]) -> Option<Time> {
    let sec = take(bytes)? as i64;
    Some(Time { sec, nsec: u32::try_from(take(bytes)?).ok()? })
}

/// What has become of a file that has decayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The other side has the contents that were recorded.
    Repairable,
    /// The other side's file has been written to since, or is not there: it has other contents, if any.
    Alone,
    /// Both sides have decayed.
    Lost,
}

/// A file that was found to have decayed, as it is remembered until it is repaired or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decayed {
    /// Whose file it is; of what is lost, both are.
    pub side: Side,
    pub damage: Damage,
    /// When it was found, in seconds since 1970.
    pub found: u64,
    /// What the file shows as long as nobody changes it.
    pub seal: Seal,
    pub size: u64,
}

const DAMAGES: [Damage; 3] = [Damage::Repairable, Damage::Alone, Damage::Lost];

impl Decayed {
    /// Whether this is the file that was found, and nothing shows that somebody has written to it since. Attributes and names
    /// may have changed, which moves the ctime: its contents are no better for that.
    pub fn is_of(&self, stat: &Stat) -> bool {
        (self.seal.id, self.seal.mtime, self.size) == (stat.id(), stat.mtime, stat.size)
    }

    pub fn encode(&self) -> Vec<u8> {
        let damage = DAMAGES.iter().position(|damage| *damage == self.damage).unwrap_or(0);
        let mut out = vec![damage as u8, u8::from(self.side == Side::Replica)];
        [self.found, self.size, self.seal.id.dev, self.seal.id.ino].into_iter().for_each(|n| put(&mut out, n));
        put_time(&mut out, self.seal.mtime);
        put_time(&mut out, self.seal.ctime);
        out
    }

    /// `None` for bytes that no `encode` wrote.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let head = take_bytes(bytes, 2)?;
        let damage = *DAMAGES.get(usize::from(head[0]))?;
        let side = match head[1] {
            0 => Side::Source,
            1 => Side::Replica,
            _ => return None,
        };
        let (found, size) = (take(bytes)?, take(bytes)?);
        let id = InodeId { dev: take(bytes)?, ino: take(bytes)? };
        let seal = Seal { id, mtime: take_time(bytes)?, ctime: take_time(bytes)? };
        bytes.is_empty().then_some(Self { side, damage, found, seal, size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::entry::Kind;

    fn seal() -> impl Strategy<Value = Seal> {
        (any::<[u64; 2]>(), any::<[(i64, u32); 2]>()).prop_map(|([dev, ino], [m, c])| Seal {
            id: InodeId { dev, ino },
            mtime: Time { sec: m.0, nsec: m.1 },
            ctime: Time { sec: c.0, nsec: c.1 },
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(
            md5: Md5, size: u64, checked: u64, damage in 0usize..3, is_source: bool,
            (source, replica) in (prop::option::of(seal()), prop::option::of(seal())), own in seal(),
        ) {
            let digest = Digest { md5, size, source, replica, checked };
            prop_assert_eq!(Digest::decode(&digest.encode()), Some(digest));
            let side = if is_source { Side::Source } else { Side::Replica };
            let decayed = Decayed { side, damage: DAMAGES[damage], found: checked, seal: own, size };
            prop_assert_eq!(Decayed::decode(&decayed.encode()), Some(decayed));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (Digest::decode(&bytes), Decayed::decode(&bytes));
        }
    }

    #[test]
    fn a_seal_tells_a_write_from_a_change_of_attributes() {
        let time = |sec| Time { sec, nsec: 7 };
        let stat = Stat {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 5,
            blocks: 8,
            mtime: time(1),
            ctime: time(2),
            dev: 0,
            ino: 9,
            rdev: 0,
        };
        let digest = Digest { md5: [0; 16], size: 5, source: Some(Seal::of(&stat)), replica: None, checked: 0 };
        let table = [
            (stat, SealState::Whole),
            (Stat { ctime: time(3), mode: 0o600, ..stat }, SealState::Touched),
            (Stat { ctime: time(3), mtime: time(3), ..stat }, SealState::Broken),
            (Stat { ino: 8, ..stat }, SealState::Broken),
            (Stat { size: 6, ..stat }, SealState::Broken),
        ];
        for (now, state) in table {
            assert_eq!(digest.state(Side::Source, &now), state, "{now:?}");
            assert_eq!(digest.state(Side::Replica, &now), SealState::None);
            assert_eq!(digest.turned().state(Side::Replica, &now), state);
        }
    }
}
