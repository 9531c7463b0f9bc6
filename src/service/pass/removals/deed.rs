//! Owns the removal of what has been judged, entry by entry. Where both sides are worked in, each is looked at once more in
//! the moment when it goes: what is new by then stays, and goes back into doubt.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::announced::{Announced, Before, SaidOf, said_of_tree};
use super::{Removal, What};
use crate::fs::archive::Changes;
use crate::fs::remove::{self, End, Judged, Removed};
use crate::fs::root::open_file;
use crate::fs::stage::Target;
use crate::fs::volume;
use crate::service::agreements::Ids;
use crate::service::clock;
use crate::service::pair::Pair;
use crate::service::pass::{Pass, survey};
use crate::tree::doubt::Doubt;
use crate::tree::entry::{Kind, Seen, Stamp, Stat};
use crate::tree::operation::{Cause, Operation};
use crate::tree::path::RelPath;
use crate::tree::record::{Agreed, Record};

/// A removal under way, and how many entries are gone by it.
pub(super) struct Going<'a> {
    pass: &'a Pass<'a>,
    cause: Cause,
    known: Option<&'a survey::Going>,
    removed: AtomicU64,
    before: Mutex<Before>,
    /// What is said of entries that are about to go, by their paths.
    said: Mutex<SaidOf>,
}

impl<'a> Going<'a> {
    pub(super) fn new(pass: &'a Pass<'a>, cause: Cause, known: Option<&'a survey::Going>) -> Self {
        let (before, said) = (Mutex::default(), Mutex::default());
        Self { pass, cause, known, removed: AtomicU64::new(0), before, said }
    }

    pub(super) fn before(self) -> Before {
        self.before.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, SaidOf> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what was said of what has not gone.
    fn unsay(&self, before: &Before) {
        for (path, said) in std::mem::take(&mut *self.said()) {
            self.pass.unsay(said);
            if let Some(was) = before.get(&path) {
                // Something in it may have gone.
                self.pass.say_was(&path, was);
            }
        }
    }

    /// Removes an entry that is no folder, to where it is kept if it is.
    fn take_away(&self, path: &RelPath, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        let Some(said) = self.said().remove(path) else { return Ok(false) };
        let done = self.pass.take_away(&said, folder, name);
        if !matches!(done, Ok(true)) {
            self.pass.unsay(said);
        }
        done
    }

    /// Removes an entry that is no folder if it is as judged; what is kept of it is kept before.
    fn take_judged(
        &self,
        judged: &Judged,
        path: &RelPath,
        (folder, name): (BorrowedFd, &[u8]),
        stamp: &Stamp,
    ) -> Result<Removed, Errno> {
        let said = self.said().remove(path);
        let keep = |folder: BorrowedFd, name: &[u8]| match &said {
            Some(said) => self.pass.keep(said, folder, name),
            None => Ok(()),
        };
        let done = judged.remove(folder, name, stamp, &keep);
        if let (Some(said), false) = (said, matches!(done, Ok(Removed::Yes))) {
            self.pass.unsay(said);
        }
        done
    }
}

impl<'a> remove::Below for Going<'a> {
    type Folder = Option<(RelPath, Option<(Judged<'a>, Record, Ids)>)>;

    fn enter(&self, path: &RelPath, folder: BorrowedFd) -> Option<Self::Folder> {
        let pair = self.pass.pair;
        // The program's own in a subvolume is not agreed.
        let Some(known) = self.known.filter(|_| !volume::is_within_reserved(&pair.replica, path)) else {
            return Some(Some((path.clone(), None)));
        };
        let judged = Judged::new(&pair.replica, &pair.stage, &Target { folder, path });
        let ids = *known.get(path)?;
        Some(Some((path.clone(), Some((judged, pair.record(ids), ids)))))
    }

    fn take(&self, known: &Self::Folder, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        self.pass.pulse.beat();
        let Some((path, known)) = known else { return Ok(false) };
        let path = path.join(name);
        let Some((judged, record, ids)) = known else {
            if self.take_away(&path, folder, name)? {
                return Ok(true);
            }
            return remove::unlink(folder, name, AtFlags::empty()).map(|()| true);
        };
        let Some(agreed) = record.get(name) else { return Ok(false) };
        forgetting(self.pass.pair, (*ids, judged.path()), name, Some(*agreed), || {
            match self.take_judged(judged, &path, (folder, name), &agreed.replica)? {
                Removed::Yes => Ok(true),
                Removed::Changed => Ok(false),
                Removed::Absent => Err(Errno::NOENT),
            }
        })
    }

    fn counted(&self, path: &RelPath, folder: BorrowedFd) {
        if let Some(was) = self.pass.attributes(folder) {
            self.before.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), was);
        }
    }

    fn going(&self, path: &RelPath, _: BorrowedFd, entries: &[(&[u8], Kind)]) -> Result<(), Errno> {
        if !self.pass.keeps() || entries.first().is_none_or(|(name, _)| self.said().contains_key(&path.join(name))) {
            return Ok(());
        }
        for (name, kind) in entries {
            let path = path.join(name);
            let said = self.pass.say_gone(&path, *kind, self.cause);
            self.said().insert(path, said);
        }
        self.pass.put_said()
    }

    fn leave(&self, path: &RelPath, _: BorrowedFd, is_below: bool) {
        if !is_below {
            return;
        }
        let ids = |(parent, name): (RelPath, _)| Some((*self.known?.get(&parent)?, parent, name));
        let pair = self.pass.pair;
        if let Some((ids, parent, name)) = path.split().and_then(ids)
            && let Some(agreed) = pair.agreed(ids, name)
        {
            pair.intend_removal((ids, &parent), name, agreed);
        }
    }

    fn goes(&self, path: &RelPath, is_folder: bool) -> bool {
        self.pass.pulse.beat();
        // Not the reserved folder of a subvolume: it goes with that.
        !self.pass.is_excluded(path, is_folder)
    }

    fn removed(&self, folder: &RelPath, entries: &[(&[u8], Kind)]) {
        self.pass.pulse.beat();
        self.removed.fetch_add(entries.len() as u64, Ordering::Relaxed);
        self.pass.report_removals(folder, entries, self.cause);
        if let [(name, Kind::Directory)] = entries {
            self.said().remove(&folder.join(name));
        }
        // Files are forgotten one by one.
        if let (Some(ids), [(name, Kind::Directory)]) = (self.known.and_then(|known| known.get(folder)), entries) {
            self.pass.pair.remember(*ids, Changes::from([((*name).into(), None)]));
        }
    }

    fn is_stopped(&self) -> bool {
        self.pass.is_cancelled()
    }

    fn is_shared(&self) -> bool {
        self.pass.pair.two_way.is_some()
    }
}

/// Forgets what was agreed of an entry while it is removed, and for good if it is gone then. The folder that it was in on the
/// other side may come back at any moment, with all that it had: what was removed here must not be taken for removed by
/// somebody, and go from there too.
fn forgetting(
    pair: &Pair,
    (folder, path): (Ids, &RelPath),
    name: &[u8],
    agreed: Option<Agreed>,
    remove: impl FnOnce() -> Result<bool, Errno>,
) -> Result<bool, Errno> {
    let Some(agreed) = agreed else { return remove() };
    pair.intend_removal((folder, path), name, agreed);
    let removed = remove();
    let is_gone = matches!(removed, Ok(true) | Err(Errno::NOENT));
    pair.remember(folder, Changes::from([(name.into(), (!is_gone).then_some(agreed))]));
    removed
}

/// Removes entries of one folder. Returns how many are gone; in a dry run, how many would be.
pub(super) fn remove_in(
    pass: &Pass,
    folder: &RelPath,
    removals: Vec<Removal>,
    (jobs, announced): (usize, &Announced),
) -> u64 {
    let pair = pass.pair;
    let mut all = 0;
    if pair.options.dry_run {
        for removal in removals {
            for (path, kind) in &removal.listed() {
                pass.report_removal(Operation::removal_of(*kind), path, removal.cause);
            }
            all += removal.entries();
        }
        return all;
    }
    let replica = match pair.replica.open_folder(folder) {
        Ok(replica) => replica,
        Err(error) => {
            pass.failed(folder, "cannot open the folder", error);
            return all;
        }
    };
    let ids = pair.source.open_folder(folder).and_then(|fd| pair.ids(fd.as_fd(), Some(replica.as_fd())));
    if ids.is_err() && pair.two_way.is_some() {
        // The folder may have been renamed with all that is in it. What is not forgotten would be removed from there too.
        removals.iter().for_each(|removal| pass.again(&removal.path, Doubt::contents(clock::now())));
        return all;
    }
    let (mut forgotten, mut judged) = (Changes::new(), None);
    for removal in &removals {
        let Some((_, name)) = removal.path.split() else { continue };
        if pass.is_cancelled() {
            break;
        }
        if !pair.claims.subtree(&removal.path) {
            pass.again(&removal.path, Doubt::contents(clock::now()));
            continue;
        }
        let going = Going::new(pass, removal.cause, removal.known());
        *going.said() = match announced.of(pass, replica.as_fd(), removal) {
            Ok(said) => said,
            Err(error) => {
                pair.claims.release_subtree(&removal.path);
                pass.failed(&removal.path, "cannot write the journal", error);
                continue;
            }
        };
        let mut remove = || remove_one(&going, replica.as_fd(), folder, removal, (jobs, &mut judged));
        let result = match ids {
            Ok(ids) if pair.two_way.is_some() => forgetting(pair, (ids, folder), name, pair.agreed(ids, name), remove),
            _ => remove(),
        };
        pair.claims.release_subtree(&removal.path);
        going.unsay(removal.before());
        let removed = going.removed.into_inner();
        all += removed;
        if removal.cause != Cause::Release {
            pass.shared().outcome.unasked += removed;
        }
        match result {
            Ok(true) if pair.two_way.is_none() => {
                forgotten.insert(name.into(), None);
            }
            Ok(_) => {}
            Err(error) => pass.failed(&removal.path, "cannot be removed", error),
        }
    }
    if let Ok(ids) = ids {
        pair.remember(ids, forgotten);
    }
    all
}

/// Removes what is in a folder that something else is to replace, so that nothing is lost that comes into it meanwhile.
/// Returns how many entries are gone, too.
pub(super) fn empty(pass: &Pass, removal: &Removal, source: &Stat, jobs: usize) -> Result<(End, u64), Errno> {
    let pair = pass.pair;
    let (What::Folder(tree, _, before), Some((parent, name))) = (&removal.what, removal.path.split()) else {
        return Ok((End::Gone, 0));
    };
    if source.kind == Kind::File {
        // What cannot be read is no reason to give up what is there.
        drop(open_file(pair.source.open_folder(&parent)?.as_fd(), name)?);
    }
    let replica = pair.replica.open_folder(&parent)?;
    if !pair.claims.subtree(&removal.path) {
        return Ok((End::Changed, 0));
    }
    let going = Going::new(pass, removal.cause, removal.known());
    *going.said() = said_of_tree(pass, (tree, before), removal.cause, true);
    let ended = pass.put_said().and_then(|()| tree.empty(replica.as_fd(), &going, jobs));
    going.unsay(before);
    pair.claims.release_subtree(&removal.path);
    let removed = going.removed.into_inner();
    if removal.cause != Cause::Release {
        pass.shared().outcome.unasked += removed;
    }
    Ok((ended?, removed))
}

/// Returns whether the entry is gone.
fn remove_one<'a>(
    going: &Going<'a>,
    replica: BorrowedFd,
    folder: &RelPath,
    removal: &Removal,
    (jobs, judged): (usize, &mut Option<Judged<'a>>),
) -> Result<bool, Errno> {
    let pass = going.pass;
    let Some((_, name)) = removal.path.split() else { return Ok(false) };
    let pair = pass.pair;
    let not_as_judged = || {
        pass.again(&removal.path, Doubt::contents(clock::now()));
        Ok(false)
    };
    match pair.replica.look(replica, name)? {
        Seen::Present(now) if now.id() == removal.replica.id() && now.kind == removal.replica.kind => {}
        Seen::Absent => return Ok(true),
        _ => return not_as_judged(),
    }
    let What::Folder(tree, ..) = &removal.what else {
        if pair.two_way.is_some() {
            // Somebody else's work in the replica in this moment is not what was judged.
            let new = || Judged::new(&pair.replica, &pair.stage, &Target { folder: replica, path: folder });
            let (judged, stamp) = (judged.get_or_insert_with(new), removal.replica.stamp());
            match going.take_judged(judged, &removal.path, (replica, name), &stamp)? {
                Removed::Yes => {}
                Removed::Absent => return Ok(true),
                Removed::Changed => return not_as_judged(),
            }
        } else if !going.take_away(&removal.path, replica, name)? {
            remove::unlink(replica, name, AtFlags::empty())?;
        }
        remove::Below::removed(going, folder, &[(name, removal.replica.kind)]);
        pass.name_removed(&removal.path, &removal.replica);
        return Ok(true);
    };
    match tree.remove(replica, going, jobs)? {
        End::Gone => Ok(true),
        End::Stays => Ok(false),
        // What came meanwhile has not been judged.
        End::Changed => {
            pass.again(&removal.path, Doubt::subtree(clock::now()));
            Ok(false)
        }
    }
}
