//! Owns which folders' lists the pass changed in the replica, and bringing these to disk. The files in them are
//! `publisher`'s.

use rustix::io::Errno;

use super::Pass;
use crate::fs::disk;
use crate::tree::path::RelPath;

/// Above this many folders the whole filesystem is brought to disk at once.
const FOLDERS_ONE_BY_ONE: usize = 4;

impl Pass<'_> {
    pub(super) fn touched(&self, folder: &RelPath) {
        let mut shared = self.shared();
        if shared.touched_many || shared.touched.contains(folder) {
            return;
        }
        shared.touched.insert(folder.clone());
        if shared.touched.len() > FOLDERS_ONE_BY_ONE {
            shared.touched.clear();
            shared.touched_many = true;
        }
    }
}

/// Brings the folders whose lists changed to disk, so that the names that were published stay published.
pub(super) fn bring_to_disk(pass: &Pass) {
    let pair = pass.pair;
    let (touched, many) = {
        let mut shared = pass.shared();
        (std::mem::take(&mut shared.touched), std::mem::take(&mut shared.touched_many))
    };
    if !pair.options.durable || pair.options.dry_run || pass.is_cancelled() || (touched.is_empty() && !many) {
        return;
    }
    let result = if many {
        disk::bring_all(&pair.replica, &pair.places.mounts_in(pair.written_side()))
    } else {
        touched.iter().try_for_each(|folder| match pair.replica.open_folder(folder) {
            Ok(fd) => match rustix::fs::fsync(fd) {
                // This filesystem has nothing to be told about folders.
                Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
                done => done,
            },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error),
        })
    };
    if let Err(error) = result {
        pass.problem_of(&RelPath::root(), "the replica could not be brought to disk", error);
    }
}
