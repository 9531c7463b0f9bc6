//! Owns what is written down of a thing before it gets its name, or loses it: a process that is killed between that and
//! remembering what was agreed by it must not take it for somebody's work. Whether it came true is told by what has the name
//! afterwards. Decoding takes any bytes and never panics.

use super::codec::{put, put_bytes, take, take_bytes, take_counted};
use super::entry::{InodeId, Kind, Stamp, Stat, Time};
use super::identity::Side;
use super::path::RelPath;
use super::record::{Agreed, Record};

/// That something is about to get a name, and what is agreed as soon as it has it; or that it is about to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The folder, as the archive knows it.
    pub folder: InodeId,
    /// Its path.
    pub path: RelPath,
    pub name: Box<[u8]>,
    /// Which side gets the name.
    pub side: Side,
    /// When the thing was made, where that is known.
    pub born: Option<Time>,
    /// With the ctime that it has before it gets the name.
    pub agreed: Agreed,
    /// It is to go, and nothing is agreed of it as soon as it is gone.
    pub goes: bool,
}

/// A flag beside the side.
const GOES: u8 = 2;

impl Intent {
    /// What is agreed by it; nothing if it has not come true, as far as that can be told.
    pub fn outcome(&self, now: Option<&Stat>, born: Option<Time>) -> Option<Option<Agreed>> {
        match (self.goes, now) {
            (true, None) => Some(None),
            (false, Some(now)) => self.came_true(now, born).map(Some),
            _ => None,
        }
    }

    /// What is agreed if what has the name now is the thing; `None` if it may be something else.
    fn came_true(&self, now: &Stat, born: Option<Time>) -> Option<Agreed> {
        let said = match self.side {
            Side::Source => &self.agreed.source,
            Side::Replica => &self.agreed.replica,
        };
        let is_as_old = self.born.is_some() && self.born == born;
        let with = |stamp: Stamp, racy: bool| {
            let agreed = match self.side {
                Side::Source => Agreed { source: stamp, ..self.agreed },
                Side::Replica => Agreed { replica: stamp, ..self.agreed },
            };
            Some(Agreed { racy, ..agreed })
        };
        let racy = self.agreed.racy;
        if now.id() != said.id || now.kind != said.kind {
            None
        } else if now.kind == Kind::Directory {
            // Inode numbers are used again, and a folder's times tell nothing.
            if is_as_old || self.born.is_none() { with(now.stamp(), racy) } else { None }
        } else if now.stamp() == *said {
            with(*said, racy)
        } else if now.stamp().same_contents_if_explained(said) {
            // Getting the name has moved its ctime. Whether anything else has, contents tell.
            with(now.stamp(), true).map(|agreed| Agreed { made: None, ..agreed })
        } else if is_as_old {
            // It has been written to since.
            with(*said, racy)
        } else {
            None
        }
    }

    /// The bytes that `decode` reads, without the folder.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.path.as_bytes());
        out.push(u8::from(self.side == Side::Source) | if self.goes { GOES } else { 0 });
        out.push(u8::from(self.born.is_some()));
        let born = self.born.unwrap_or_default();
        put(&mut out, born.sec as u64);
        put(&mut out, u64::from(born.nsec));
        let mut record = Record::default();
        record.set(&self.name, self.agreed);
        out.extend_from_slice(&record.encode());
        out
    }

    /// `None` for bytes that no `encode` wrote.
    pub fn decode(folder: InodeId, mut bytes: &[u8]) -> Option<Self> {
        let path = RelPath::new(take_counted(&mut bytes)?)?;
        let &[side, has_born] = take_bytes(&mut bytes, 2)? else { return None };
        let born = Time { sec: take(&mut bytes)? as i64, nsec: u32::try_from(take(&mut bytes)?).ok()? };
        let record = Record::decode(bytes)?;
        let (name, agreed) = record.iter().next()?;
        let goes = side & GOES != 0;
        let side = if side & 1 == 1 { Side::Source } else { Side::Replica };
        Some(Self {
            folder,
            path,
            name: name.into(),
            side,
            born: (has_born == 1).then_some(born),
            agreed: *agreed,
            goes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::doubt::Moment;
    use proptest::prelude::*;

    fn at(sec: i64) -> Time {
        Time { sec, nsec: 0 }
    }

    fn thing(kind: Kind) -> Stat {
        Stat {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 5,
            blocks: 8,
            mtime: at(10),
            ctime: at(20),
            dev: 0,
            ino: 7,
            rdev: 0,
        }
    }

    fn intent(kind: Kind) -> Intent {
        let stamp = thing(kind).stamp();
        let source = Stamp { id: InodeId { dev: 0, ino: 3 }, ..stamp };
        Intent {
            folder: InodeId { dev: 1, ino: 2 },
            path: RelPath::new(b"a/b").expect("a path"),
            name: b"name".as_slice().into(),
            side: Side::Replica,
            born: Some(at(5)),
            agreed: Agreed {
                source,
                replica: stamp,
                racy: false,
                looked: Moment::default(),
                provisional: false,
                made: None,
                base: None,
            },
            goes: false,
        }
    }

    #[test]
    fn what_is_gone_was_removed_and_what_is_there_was_not() {
        let going = Intent { goes: true, ..intent(Kind::File) };
        assert_eq!(going.outcome(None, None), Some(None));
        assert_eq!(going.outcome(Some(&thing(Kind::File)), Some(at(5))), None);
        assert_eq!(intent(Kind::File).outcome(None, None), None);
        assert_eq!(Intent::decode(going.folder, &going.encode()), Some(going));
    }

    #[test]
    fn what_got_its_name_and_only_that_is_agreed() {
        let (file, now) = (intent(Kind::File), thing(Kind::File));
        let moved = Stat { ctime: at(21), ..now };
        let agreed = file.came_true(&moved, None).expect("it has the name");
        assert_eq!((agreed.replica.ctime, agreed.racy), (at(21), true));
        assert_eq!(file.came_true(&Stat { ino: 8, ..moved }, Some(at(5))), None, "something else");
        assert_eq!(file.came_true(&Stat { kind: Kind::Fifo, ..moved }, Some(at(5))), None, "another kind");
    }

    #[test]
    fn what_was_written_to_since_is_told_by_its_birth() {
        let file = intent(Kind::File);
        let written = Stat { mtime: at(30), ctime: at(30), size: 9, ..thing(Kind::File) };
        assert_eq!(file.came_true(&written, Some(at(5))), Some(file.agreed), "the replica has changed since");
        assert_eq!(file.came_true(&written, Some(at(29))), None, "a number that was used again");
        assert_eq!(file.came_true(&written, None), None);
    }

    #[test]
    fn a_folder_is_told_by_its_birth_alone() {
        let (folder, now) = (intent(Kind::Directory), Stat { mtime: at(30), ..thing(Kind::Directory) });
        assert_eq!(folder.came_true(&now, Some(at(5))).map(|agreed| agreed.replica), Some(now.stamp()));
        assert_eq!(folder.came_true(&now, Some(at(29))), None);
        let unknown = Intent { born: None, ..folder };
        assert!(unknown.came_true(&now, None).is_some());
    }

    #[test]
    fn the_side_that_gets_the_name_is_looked_at() {
        let to_source = Intent { side: Side::Source, ..intent(Kind::File) };
        assert_eq!(to_source.came_true(&thing(Kind::File), Some(at(5))), None);
        let now = Stat { ino: 3, ctime: at(40), ..thing(Kind::File) };
        assert_eq!(to_source.came_true(&now, None).map(|agreed| agreed.source), Some(now.stamp()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), keep in 0usize..200) {
            let intent = intent(Kind::File);
            let mut all = intent.encode();
            prop_assert_eq!(Intent::decode(intent.folder, &all), Some(intent.clone()));
            all.truncate(keep);
            all.extend_from_slice(&bytes);
            let _ = Intent::decode(intent.folder, &all);
            let _ = Intent::decode(intent.folder, &bytes);
        }
    }
}
