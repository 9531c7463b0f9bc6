//! Owns what is decided about what is there already, where something comes back in place: whether it is the same, whether
//! it may be replaced or removed, and that nothing is lost by that.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::walk::{Walk, stat_of};
use crate::fs::compare;
use crate::fs::copy::Fault;
use crate::fs::exact;
use crate::fs::metadata::{self, CAPABILITY};
use crate::fs::scan;
use crate::plan::rewind::Source;
use crate::tree::entry::{Kind, Stat};
use crate::tree::path::RelPath;

const SUSPECT: &str = "it has the size and time of what would come back, and other contents: one of the two may have decayed; \
                       `driftless scrub --source` tells which; --force replaces it";

impl Walk<'_> {
    /// Whether what is there is what was there then.
    pub(super) fn is_same(
        &mut self,
        path: &RelPath,
        (folder, name): (BorrowedFd, &[u8]),
        now: &Stat,
    ) -> Result<bool, Errno> {
        let (rights, pulse) = (&self.rights, self.pulse);
        self.past.with(path, |was, (from, old), confirm| {
            let Some(stat) = &was.stat else { return Ok(false) };
            let own = || match stat.kind {
                Kind::File => metadata::xattrs(exact::open(from, old)?.as_fd()),
                _ => metadata::xattrs_at(from, old),
            };
            let mut xattrs = match &was.attributes {
                Some(attributes) => attributes.xattrs.clone(),
                None => own()?,
            };
            if !rights.are_full() {
                xattrs.remove(CAPABILITY);
            }
            let wanted = was.attributes.as_ref().map_or(*stat, |attributes| stat_of(stat, attributes));
            let is_link = stat.kind == Kind::Symlink;
            let wanted = if is_link { Stat { mode: now.mode, ..wanted } } else { wanted };
            let alike = stat.kind == now.kind
                && stat.size == now.size
                && (stat.kind == Kind::File || is_link || stat.rdev == now.rdev)
                && metadata::same_stat(&wanted, now, rights);
            let same = alike
                && match stat.kind {
                    Kind::File => {
                        let (one, other) = (exact::open(from, old)?, exact::open(folder, name)?);
                        let sparse = stat.is_sparse() && now.is_sparse();
                        metadata::xattrs(other.as_fd())? == xattrs
                            && compare::same_contents(one.as_fd(), other.as_fd(), sparse, pulse).map_err(errno)?
                    }
                    Kind::Symlink => {
                        fs::readlinkat(from, old, Vec::new())? == fs::readlinkat(folder, name, Vec::new())?
                            && metadata::xattrs_at(folder, name)? == xattrs
                    }
                    _ => metadata::xattrs_at(folder, name)? == xattrs,
                };
            confirm()?;
            Ok(same)
        })
    }

    /// Whether what is there may make way; if so, it is kept, and a folder is gone.
    pub(super) fn may_replace(
        &mut self,
        path: &RelPath,
        (folder, name): (Option<BorrowedFd>, &[u8]),
        now: &Stat,
    ) -> Result<bool, Errno> {
        if !self.mode.force {
            let why = match folder.map(|folder| self.is_suspect(path, (folder, name), now)).transpose()? {
                Some(true) => SUSPECT,
                _ => "it is other than it was then; --force replaces it",
            };
            self.told.left(path, why);
            return Ok(false);
        }
        let Some(folder) = folder else { return Ok(true) };
        if now.kind == Kind::Directory {
            let is_gone = self.remove_tree(path, folder, name)?;
            if !is_gone {
                self.told.left(path, "it holds what the replica does not have");
            }
            return Ok(is_gone);
        }
        self.keep(path, folder, name, now)
    }

    /// Removes what was not there then, if it may go. Returns whether it is gone.
    pub(super) fn remove_other(&mut self, path: &RelPath, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        let now = match exact::look(folder, name) {
            Err(Errno::NOENT) => return Ok(true),
            now => now?,
        };
        if !self.past.has_path(path)? {
            // Excluded, or newer than the replica: nobody has said that it is to go.
            self.told.unknown(path);
            return Ok(false);
        }
        if !self.mode.force {
            self.told.left(path, "it was not there then; --force removes it");
            return Ok(false);
        }
        if now.kind == Kind::Directory {
            return self.remove_tree(path, folder, name);
        }
        if !self.keep(path, folder, name, &now)? {
            return Ok(false);
        }
        if !self.mode.dry_run {
            self.lift(Some(folder));
            fs::unlinkat(folder, name, AtFlags::empty())?;
        }
        self.told.removed(path);
        Ok(true)
    }

    /// Sees to it that something that goes is kept. Returns whether it may go.
    fn keep(&mut self, path: &RelPath, folder: BorrowedFd, name: &[u8], now: &Stat) -> Result<bool, Errno> {
        if self.mode.is_served && !self.has_now(path, (folder, name), now)? {
            self.told.left(path, "the replica does not have it as it is now, so that it would be lost");
            return Ok(false);
        }
        if let Some(keeper) = self.keeper.filter(|_| !self.mode.dry_run) {
            let is_alike = self.has_now(path, (folder, name), now)?;
            keeper.keep(self.past.replica(), path, (folder, name), (now.kind, is_alike), self.pulse)?;
        }
        Ok(true)
    }

    /// Whether the replica has the same at this path now, to the last byte: equal sizes and times say nothing of what has
    /// decayed, and what goes because of this is nowhere else.
    fn has_now(&mut self, path: &RelPath, (folder, name): (BorrowedFd, &[u8]), now: &Stat) -> Result<bool, Errno> {
        let Some((there, own, stat)) = self.past.now(path)? else { return Ok(false) };
        if (stat.kind, stat.size, stat.mtime) != (now.kind, now.size, now.mtime) {
            return Ok(false);
        }
        match now.kind {
            Kind::File => {
                let here = exact::open(folder, name)?;
                // What cannot be read in the replica, it does not have.
                let Ok(there) = exact::open(there.as_fd(), &own) else { return Ok(false) };
                let sparse = stat.is_sparse() && now.is_sparse();
                match compare::same_contents(here.as_fd(), there.as_fd(), sparse, self.pulse) {
                    Err(Fault::Write(_)) => Ok(false),
                    done => done.map_err(errno),
                }
            }
            Kind::Symlink => {
                Ok(fs::readlinkat(folder, name, Vec::new())? == fs::readlinkat(there.as_fd(), &*own, Vec::new())?)
            }
            _ => Ok(stat.rdev == now.rdev),
        }
    }

    /// Whether what would come back is the replica's present file, and differs from what is there in its contents alone:
    /// one of the two has decayed, or was written to with its time put back.
    fn is_suspect(&mut self, path: &RelPath, (folder, name): (BorrowedFd, &[u8]), now: &Stat) -> Result<bool, Errno> {
        let pulse = self.pulse;
        let suspect = self.past.with(path, |was, (from, old), confirm| {
            let is_current = matches!(was.source, Some(Source::Current(_)));
            let Some(stat) = was.stat.filter(|stat| is_current && stat.kind == Kind::File) else { return Ok(false) };
            if (stat.kind, stat.size, stat.mtime) != (now.kind, now.size, now.mtime) {
                return Ok(false);
            }
            let (one, other) = (exact::open(from, old)?, exact::open(folder, name)?);
            let sparse = stat.is_sparse() && now.is_sparse();
            let is_same = compare::same_contents(one.as_fd(), other.as_fd(), sparse, pulse).map_err(errno)?;
            confirm()?;
            Ok(!is_same)
        });
        match suspect {
            // A folder has no contents of its own.
            Err(Errno::ISDIR) => Ok(false),
            done => done,
        }
    }

    /// Removes a folder with all that the replica has of it, too. Returns whether it is gone.
    fn remove_tree(&mut self, path: &RelPath, folder: BorrowedFd, name: &[u8]) -> Result<bool, Errno> {
        // What is in a folder goes before it: each is seen twice.
        let mut todo = vec![(RelPath::root(), false)];
        let mut is_gone = true;
        let top = exact::open_folder(folder, name)?;
        while let Some((below, is_done)) = todo.pop() {
            let whole = below.moved(&RelPath::root(), path).unwrap_or_default();
            if is_done {
                let (parent, own) = below.split().unwrap_or_default();
                self.lower(open_below(top.as_fd(), &below)?.as_fd());
                let done = if self.mode.dry_run {
                    Ok(())
                } else if below.is_root() {
                    self.lift(Some(folder));
                    fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
                } else {
                    let above = open_below(top.as_fd(), &parent)?;
                    self.lift(Some(above.as_fd()));
                    fs::unlinkat(above, own, AtFlags::REMOVEDIR)
                };
                match done {
                    Ok(()) if is_gone => self.told.removed(&whole),
                    Ok(()) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST) => is_gone = false,
                    Err(error) => return Err(error),
                }
                continue;
            }
            todo.push((below.clone(), true));
            let open = open_below(top.as_fd(), &below)?;
            let listing = scan::names(open.as_fd(), &mut || {})?;
            for (own, _) in listing.iter() {
                let now = exact::look(open.as_fd(), own)?;
                if now.kind == Kind::Directory {
                    todo.push((below.join(own), false));
                } else {
                    is_gone &= self.remove_other(&whole.join(own), open.as_fd(), own)?;
                }
            }
        }
        Ok(is_gone)
    }
}

fn open_below(top: BorrowedFd, path: &RelPath) -> Result<std::os::fd::OwnedFd, Errno> {
    let mut at = exact::open_folder(top, b".")?;
    for name in path.components() {
        at = exact::open_folder(at.as_fd(), name)?;
    }
    Ok(at)
}

fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::Read(error) | Fault::Write(error) => error,
        Fault::Cancelled => Errno::CANCELED,
    }
}
