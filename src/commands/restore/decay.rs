//! Owns which of the replica's files are known to have decayed, so that their contents come back nowhere: as the archive of
//! the pair has it, or, where a service has that open, as the service tells. Where neither can be asked, nothing is known.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;

use super::eyes::Entry;
use crate::commands::memory::archive_of;
use crate::commands::which::Found;
use crate::fs::archive::Archive;
use crate::plan::rewind::Source;
use crate::service::status::Status;
use crate::tree::entry::{Kind, Time};
use crate::tree::identity::Side;
use crate::tree::quote::quoted_below;

pub struct Decay<'a> {
    archive: Option<PathBuf>,
    service: Box<dyn Fn() -> Option<Box<Status>> + 'a>,
    /// Once it matters: the archive of a large tree is large.
    known: OnceCell<Known>,
}

#[derive(Default)]
struct Known {
    /// Their sizes and times, by inode: a version can be the same file.
    inodes: HashMap<u64, (u64, Time)>,
    /// The root that the service names them below, and when they were found.
    told: (String, HashMap<String, i64>),
}

impl<'a> Decay<'a> {
    /// `service`: the status of the one that works on the replica.
    pub fn of(found: &Found, service: impl Fn() -> Option<Box<Status>> + 'a) -> Self {
        let archive = found.source.as_ref().and_then(|source| archive_of(source, found.replica.name()).ok());
        Self { archive, service: Box::new(service), known: OnceCell::new() }
    }

    /// Whether what would come back are contents that have decayed, in a file that is as it was when that was found.
    pub fn has(&self, was: &Entry) -> bool {
        let (Some(source), Some(stat), Kind::File) = (&was.source, &was.stat, was.kind) else { return false };
        let known = self.known.get_or_init(|| self.read());
        if known.inodes.get(&stat.ino).is_some_and(|known| *known == (stat.size, stat.mtime)) {
            return true;
        }
        let Source::Current(path) = source else { return false };
        let (root, told) = &known.told;
        let found = (!told.is_empty()).then(|| told.get(&quoted_below(root.as_bytes(), path.as_bytes()))).flatten();
        found.is_some_and(|found| stat.ctime.sec <= *found)
    }

    fn read(&self) -> Known {
        let mut known = Known::default();
        let archive = self.archive.as_ref().filter(|path| path.exists());
        if let Some(Ok(archive)) = archive.map(|path| Archive::copy_of(path, None)) {
            let decayed = archive.decayed().into_iter().filter(|(_, decayed)| decayed.side == Side::Replica);
            known.inodes = decayed.map(|(_, it)| (it.seal.id.ino, (it.size, it.seal.mtime))).collect();
        } else if let Some(status) = (self.service)() {
            let decayed = status.scrub.decayed.iter().filter(|decayed| decayed.side == Side::Replica.to_string());
            let found = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_second);
            let told = decayed.filter_map(|decayed| Some((decayed.path.clone(), found(&decayed.found)?))).collect();
            known.told = (status.replica, told);
        }
        known
    }
}
