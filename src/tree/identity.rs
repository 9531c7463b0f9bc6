//! Owns what tells one folder from another across restarts and remounts, and what is remembered of a pair's folders. It
//! does not ask the disk.

use std::fmt;

use super::codec::{put, put_bytes, take, take_bytes, take_counted};
use super::entry::Time;
use super::path::RelPath;

/// A folder's identity. Device numbers are not part of it: the kernel hands them out anew at each mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 0 where it is not kept.
    pub inode: u64,
    /// When the folder was made, where its filesystem keeps that.
    pub born: Option<Time>,
    /// The type of its filesystem, as in statfs(2).
    pub filesystem: u64,
    /// The number of its filesystem, where that is kept on the disk.
    pub volume: Option<u64>,
}

impl Identity {
    /// Whether both are one folder, as far as both can tell.
    pub fn is_same(self, other: Self) -> bool {
        fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        self.inode == other.inode
            && self.filesystem == other.filesystem
            && agree(self.volume, other.volume)
            && agree(self.born, other.born)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Source,
    Replica,
}

impl Side {
    /// The one across from this.
    pub fn other(self) -> Self {
        match self {
            Side::Source => Side::Replica,
            Side::Replica => Side::Source,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Replica => "replica",
        })
    }
}

/// A filesystem that was mounted below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub side: Side,
    pub path: RelPath,
    pub identity: Identity,
}

/// A root as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub identity: Identity,
    /// The folder that it lies in, where both are on one filesystem: while that one is there, no disk is missing.
    pub above: Option<Identity>,
}

/// What is remembered of a pair's folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub source: Option<Place>,
    pub replica: Option<Place>,
    pub mounts: Vec<Mount>,
}

/// The form of the kept bytes. Another one is as good as none.
const FORMAT: &[u8] = b"\x01";

impl Memory {
    pub fn root(&self, side: Side) -> Option<Place> {
        match side {
            Side::Source => self.source,
            Side::Replica => self.replica,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = FORMAT.to_vec();
        for root in [self.source, self.replica] {
            for identity in [root.map(|place| place.identity), root.and_then(|place| place.above)] {
                put(&mut out, u64::from(identity.is_some()));
                if let Some(identity) = identity {
                    put_identity(&mut out, identity);
                }
            }
        }
        for mount in &self.mounts {
            put(&mut out, u64::from(mount.side == Side::Replica));
            put_bytes(&mut out, mount.path.as_bytes());
            put_identity(&mut out, mount.identity);
        }
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// `None` for bytes that no `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut bytes, sum) = bytes.split_last_chunk()?;
        if *sum != checksum(bytes) {
            return None;
        }
        if take_bytes(&mut bytes, FORMAT.len())? != FORMAT {
            return None;
        }
        let mut identity = || match take(&mut bytes)? {
            0 => Some(None),
            _ => Some(Some(take_identity(&mut bytes)?)),
        };
        let mut root = || {
            let (identity, above) = (identity()?, identity()?);
            Some(identity.map(|identity| Place { identity, above }))
        };
        let (source, replica) = (root()?, root()?);
        let mut mounts = Vec::new();
        while !bytes.is_empty() {
            let side = if take(&mut bytes)? == 0 { Side::Source } else { Side::Replica };
            let path = RelPath::new(take_counted(&mut bytes)?)?;
            mounts.push(Mount { side, path, identity: take_identity(&mut bytes)? });
        }
        Some(Self { source, replica, mounts })
    }
}

/// FNV-1a. A decayed memory must not hold a folder that is the right one.
fn checksum(bytes: &[u8]) -> [u8; 8] {
    let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, sum).to_be_bytes()
}

fn put_identity(out: &mut Vec<u8>, identity: Identity) {
    put(out, identity.inode);
    put(out, identity.filesystem);
    for number in [identity.volume, identity.born.map(|t| t.sec as u64), identity.born.map(|t| t.nsec.into())] {
        put(out, u64::from(number.is_some()));
        put(out, number.unwrap_or(0));
    }
}

fn take_identity(bytes: &mut &[u8]) -> Option<Identity> {
    let (inode, filesystem) = (take(bytes)?, take(bytes)?);
    let mut number = || {
        let (is_there, number) = (take(bytes)?, take(bytes)?);
        Some((is_there != 0).then_some(number))
    };
    let (volume, sec, nsec) = (number()?, number()?, number()?);
    let time = |(sec, nsec): (u64, u64)| Some(Time { sec: sec as i64, nsec: u32::try_from(nsec).ok()? });
    Some(Identity { inode, born: sec.zip(nsec).and_then(time), filesystem, volume })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> impl Strategy<Value = Identity> {
        let born = prop::option::of((any::<i64>(), 0u32..1_000_000_000).prop_map(|(sec, nsec)| Time { sec, nsec }));
        (any::<u64>(), born, any::<u64>(), prop::option::of(any::<u64>()))
            .prop_map(|(inode, born, filesystem, volume)| Identity { inode, born, filesystem, volume })
    }

    fn place() -> impl Strategy<Value = Place> {
        (identity(), prop::option::of(identity())).prop_map(|(identity, above)| Place { identity, above })
    }

    #[test]
    fn an_empty_mount_point_is_not_the_disk_that_belongs_there() {
        let born = |sec| Some(Time { sec, nsec: 5 });
        let disk = Identity { inode: 2, born: born(100), filesystem: 0xef53, volume: Some(7) };
        assert!(disk.is_same(disk));
        assert!(!disk.is_same(Identity { inode: 1234, volume: Some(9), ..disk }), "the folder below");
        assert!(!disk.is_same(Identity { volume: Some(8), ..disk }), "another disk");
        assert!(!disk.is_same(Identity { born: born(200), ..disk }), "made anew, with the number used again");
        assert!(!disk.is_same(Identity { filesystem: 0x5846_5342, ..disk }), "reformatted");
        assert!(disk.is_same(Identity { born: None, volume: None, ..disk }), "what is not known does not tell apart");
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            source in prop::option::of(place()),
            replica in prop::option::of(place()),
            mounts in prop::collection::vec((any::<bool>(), "[a-c]{1,3}(/[a-c ]{1,3}){0,2}", identity()), 0..4),
        ) {
            let mount = |(is_source, path, identity): (bool, String, Identity)| Mount {
                side: if is_source { Side::Source } else { Side::Replica },
                path: RelPath::new(path.as_bytes()).expect("a valid path"),
                identity,
            };
            let memory = Memory { source, replica, mounts: mounts.into_iter().map(mount).collect() };
            prop_assert_eq!(Memory::decode(&memory.encode()), Some(memory));
        }

        #[test]
        fn decoding_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), is_ours in any::<bool>()) {
            let bytes = [FORMAT, &bytes].concat();
            let bytes = if is_ours { [&bytes[..], &checksum(&bytes)].concat() } else { bytes };
            if let Some(memory) = Memory::decode(&bytes) {
                prop_assert!(memory.mounts.len() <= bytes.len());
            }
        }
    }
}
