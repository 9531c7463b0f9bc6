//! Owns what becomes of each name of a folder in doubt: both sides are looked at, `plan::mirror` decides, and the steps are
//! noted, handed on, or left. It copies and removes nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use super::both_ways::Decided;
use super::files::Job;
use super::folders::Node;
use super::large::{Large, MANY};
use super::make::Made;
use super::moved;
use super::queue::Task;
use super::walk::{FolderTask, Found, Worker};
use crate::fs::scan;
use crate::plan::mirror::{Case, Step};
use crate::service::claims::Which;
use crate::service::clock;
use crate::tree::doubt::{Doubt, Extent};
use crate::tree::entry::{InodeId, Kind, Seen, Stat};
use crate::tree::listing::{Listing, merge};
use crate::tree::path::RelPath;
use crate::tree::record::{Agreed, Record};

/// As many files of one folder are open at a time.
const MOST_OPEN: usize = 64;

impl Worker<'_> {
    pub(super) fn look_at_name(
        &mut self,
        node: &Arc<Node>,
        name: &[u8],
        doubt: Doubt,
        (record, names): (&OnceLock<Record>, &BTreeMap<Box<[u8]>, Doubt>),
        found: &mut Found,
    ) {
        let pair = self.pass.pair;
        // The other lane may be about to publish what it has read of a file that is gone by now.
        let path = node.path.join(name);
        if !self.pass.claim(&path) {
            return self.pass.again(&path, doubt);
        }
        let source = pair.source.look(node.source.as_fd(), name).unwrap_or(Seen::Unknown);
        let replica = match &node.replica {
            Some(fd) => match pair.replica.look(fd.as_fd(), name) {
                // What cannot be named there is not there; making it says what is wrong.
                Err(Errno::NAMETOOLONG) => Seen::Absent,
                seen => seen.unwrap_or(Seen::Unknown),
            },
            None => Seen::Absent,
        };
        self.pass.release(&path);
        let is_new = matches!((source, replica), (Seen::Present(_), Seen::Absent));
        // Nothing follows for a new name from what was agreed, which a large folder has to be read for.
        let agreed = if is_new && pair.two_way.is_none() && pair.links().is_empty() {
            None
        } else {
            record.get_or_init(|| pair.record_of(node.ids, names)).get(name)
        };
        self.decide_name(node, (name, source, replica), agreed, Some(doubt), Extent::Names, found);
    }

    /// Returns the names where they are too many for one worker.
    pub(super) fn look_at_names(
        &mut self,
        node: &Arc<Node>,
        names: BTreeMap<Box<[u8]>, Doubt>,
        found: &mut Found,
    ) -> Option<Large> {
        if names.len() > MANY {
            return Large::of_names(names).map_err(|e| self.pass.failed(&node.path, "cannot list the folder", e)).ok();
        }
        let record = OnceLock::new();
        for (name, doubt) in &names {
            self.look_at_name(node, name, *doubt, (&record, &names), found);
        }
        None
    }

    /// Returns the names where they are too many for one worker.
    pub(super) fn look_at_all(
        &mut self,
        node: &Arc<Node>,
        extent: Extent,
        names: BTreeMap<Box<[u8]>, Doubt>,
        found: &mut Found,
    ) -> Option<Large> {
        let pair = self.pass.pair;
        if pair.watches.is_some() && pair.claims.others_in(&node.path, self.pass.lane) {
            // The express lane publishes here in this moment, perhaps what belongs elsewhere by now.
            self.pass.shared().outcome.again.insert_extent(node.path.clone(), Extent::Listing);
        }
        let beat = &mut || self.pass.pulse.beat();
        let (source_fd, is_listed) = (node.source.as_fd(), !node.fresh);
        let listed = scan::names(source_fd, beat).and_then(|mut source| {
            let mut replica = match node.replica.as_ref().filter(|_| is_listed) {
                Some(folder) => scan::names(folder.as_fd(), beat)?,
                None => Listing::default(),
            };
            if source.len().max(replica.len()) > MANY {
                return Ok((source, replica));
            }
            match &node.replica {
                Some(folder) if is_listed => {
                    scan::look_at(&pair.source, source_fd, &mut source, beat)?;
                    scan::look_at(&pair.replica, folder.as_fd(), &mut replica, beat)?;
                }
                // All of it is going to be read.
                Some(_) if !pair.options.dry_run => {
                    let wants = |name: &[u8]| !self.pass.skips(&node.path.join(name), false);
                    found.opened = scan::look_opening(&pair.source, source_fd, &mut source, beat, MOST_OPEN, wants)?;
                }
                _ => scan::look_at(&pair.source, source_fd, &mut source, beat)?,
            }
            Ok((source, replica))
        });
        let (source, replica) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.pass.failed(&node.path, "cannot list the folder", error);
                return None;
            }
        };
        self.pass.entries.fetch_add(replica.len() as u64, Ordering::Relaxed);
        self.pass.source_entries.fetch_add(source.len() as u64, Ordering::Relaxed);
        if source.len().max(replica.len()) > MANY {
            return Some(Large::new((source, replica), extent, names));
        }
        let bytes = source.iter().map(|(_, seen)| seen.stat().map_or(0, Stat::stored));
        self.pass.pulse.listed(source.len() as u64, bytes.fold(0, u64::saturating_add));
        self.take_over_record(node);
        // What was agreed of a folder that was not there before says nothing of the new one; the next sweep forgets it.
        let is_new = node.fresh && names.is_empty() && pair.two_way.is_none();
        let record = if is_new { Record::default() } else { pair.record(node.ids) };
        let seeks = self.pass.seeks_moves && !node.fresh && !record.is_empty();
        let mut new = Vec::new();
        for (name, source, replica) in merge(&source, &replica) {
            if seeks && replica == Seen::Absent && source.stat().is_some_and(|s| s.kind == Kind::File) {
                new.push(name);
                continue;
            }
            let doubt = names.get(name).copied();
            self.decide_name(node, (name, source, replica), record.get(name), doubt, extent, found);
        }
        if !new.is_empty() {
            found.before = moved::within(&node.path, &record, &source, &new);
        }
        for name in new {
            let doubt = names.get(name).copied();
            self.decide_name(node, (name, source.get(name), Seen::Absent), record.get(name), doubt, extent, found);
        }
        // What is on neither side any more.
        for (name, _) in record.iter() {
            if source.get(name) == Seen::Absent && replica.get(name) == Seen::Absent && !name.is_empty() {
                node.change(name, None);
            }
        }
        None
    }

    pub(super) fn decide_name(
        &mut self,
        node: &Arc<Node>,
        (name, source, replica): (&[u8], Seen, Seen),
        agreed: Option<&Agreed>,
        doubt: Option<Doubt>,
        extent: Extent,
        found: &mut Found,
    ) {
        let pair = self.pass.pair;
        let path = node.path.join(name);
        let is_folder = |seen: Seen| seen.stat().is_some_and(|s| s.kind == Kind::Directory);
        if self.pass.skips(&path, is_folder(if source == Seen::Absent { replica } else { source })) {
            if let (Some(watches), true) = (&pair.watches, is_folder(source)) {
                // It may have been watched until the rules changed.
                watches.forget_if_known(&path);
            }
            self.pass.adopt_reserved(node, name);
            return;
        }
        if let Some(doubt) = doubt {
            let (now, before) = (source.stat().map(|s| s.id()), agreed.map(|a| a.source.id));
            self.pass.doubt_other_names(&path, now, before, doubt);
        }
        let (compare, lost) = (self.pass.rules.compare, pair.lost());
        let case = Case { source, replica, agreed, doubt, compare, lost };
        let Some(Decided { step, different, in_database, replica: now }) = self.decide_both(node, &path, &case) else {
            return;
        };
        let replica = now.unwrap_or(replica);
        if pair.log.is_verbose() && (step != Step::Nothing || doubt.is_some()) {
            let asked = if doubt.is_some() { "named" } else { "listed" };
            pair.log.debug(format_args!("Decided: {step:?} ({asked}): {}", pair.shown(&path)));
        }
        let database = if in_database { self.database_of(node, name, step, (source, replica)) } else { None };
        if let Some((base, part)) = database {
            found.databases.entry(base).or_default().push((part, doubt));
            return;
        }
        let mut before = None;
        if let (Step::Create, Seen::Present(source), true) = (step, source, self.pass.seeks_moves) {
            before = found.before.remove(name).or_else(|| self.pass.known_before(&path)).map(Box::new);
            if before.is_none() && self.pass.puts_off(&path, &source) {
                return;
            }
        }
        let contents_in_doubt = !doubt.is_some_and(Doubt::spares_contents);
        let job = |source: &Stat, replica: Option<Stat>, opened: Option<OwnedFd>| Job {
            contents_in_doubt,
            different,
            opened: Cell::new(opened),
            ..Job::new(name, step, source, replica)
        };
        match (step, source, replica) {
            (Step::Forget, ..) => {
                if agreed.is_some() {
                    node.change(name, None);
                }
                if let (Some(watches), Some(_)) = (&pair.watches, doubt) {
                    watches.forget(&path);
                }
            }
            (Step::LeaveAlone, ..) => self.leave_alone(node, &path, name),
            (Step::Nothing, Seen::Present(source), Seen::Present(replica))
                if source.is_linked() || replica.is_linked() =>
            {
                self.pass.note_links(&path, &source, &replica);
            }
            (Step::Nothing, ..) => {}
            // Removals are judged together, by the other lane: their own events are on their way to it.
            (Step::Remove, ..) if self.pass.lane == Which::Express => {}
            (Step::Remove, _, Seen::Present(stat)) => {
                if let (Some(watches), Kind::Directory) = (&pair.watches, stat.kind) {
                    watches.forget(&path);
                }
                self.pass.note_gone(&path, agreed);
                self.pass.shared().removals.insert(path, stat);
            }
            (Step::Create, Seen::Present(stat), _) if stat.kind == Kind::Directory => {
                self.make_folder(node, path, &stat, None);
            }
            (Step::Folder { attributes_agreed }, Seen::Present(stat), replica) => {
                self.folder_on_both(node, path, (&stat, replica), doubt, extent, attributes_agreed);
            }
            (Step::Replace, Seen::Present(stat), Seen::Present(old)) if stat.kind == Kind::Directory => {
                self.make_folder(node, path, &stat, Some(old));
            }
            (Step::Replace, Seen::Present(stat), Seen::Present(old)) if old.kind == Kind::Directory => {
                if self.pass.lane == Which::Express {
                    return;
                }
                if let Some(watches) = &pair.watches {
                    watches.forget(&path);
                }
                self.pass.shared().replacements.insert(path, (stat, old));
            }
            (Step::Create | Step::Update | Step::Replace | Step::Examine(_), Seen::Present(source), replica) => {
                let job = job(&source, replica.stat().copied(), found.opened.take(name));
                if let Some(job) = self.pass.admit_linked(&path, job, agreed) {
                    let job = Job { before, ..job };
                    if source.kind == Kind::File && job.before.is_none() && !matches!(step, Step::Examine(_)) {
                        self.pass.wanted(&source);
                    }
                    found.jobs.push(job);
                }
            }
            _ => {}
        }
    }

    /// Reports what keeps an entry from being known; where nothing does any more, it is looked at again.
    fn leave_alone(&self, node: &Node, path: &RelPath, name: &[u8]) {
        let pair = self.pass.pair;
        let source = pair.source.look(node.source.as_fd(), name);
        let replica = node.replica.as_ref().map(|fd| pair.replica.look(fd.as_fd(), name));
        match source.err().or_else(|| replica.and_then(Result::err)) {
            Some(error) => self.pass.unreadable(path, error),
            None => self.pass.again(path, Doubt::subtree(clock::now())),
        }
    }

    fn folder_on_both(
        &mut self,
        node: &Arc<Node>,
        path: RelPath,
        (stat, replica): (&Stat, Seen),
        doubt: Option<Doubt>,
        extent: Extent,
        attributes_agreed: bool,
    ) {
        let pair = self.pass.pair;
        // Where both sides are worked in, a mount on either is one.
        let is_other = |id: InodeId| replica.stat().is_some_and(|replica| replica.dev != id.dev);
        let is_mount = stat.dev != node.id.dev || node.ids.replica.is_some_and(is_other);
        let elsewhere = pair.options.one_file_system && is_mount;
        let unwatched = pair.watches.as_ref().is_some_and(|w| !w.has(&path, stat.id()));
        let below = !elsewhere && (extent == Extent::Tree || unwatched || doubt.is_some_and(|d| d.below));
        if !below && attributes_agreed {
            return;
        }
        let extent = if below { Extent::Tree } else { Extent::Names };
        self.descend(node, path, extent, None, attributes_agreed);
    }

    pub(super) fn descend(
        &mut self,
        node: &Arc<Node>,
        path: RelPath,
        extent: Extent,
        made: Option<Made>,
        attributes_agreed: bool,
    ) {
        let mut extent = extent;
        let mut names = BTreeMap::new();
        if extent == Extent::Tree
            && let Some(doubt) = self.pass.dirty.folder(&path)
        {
            names = doubt.names.clone();
            extent = extent.max(doubt.extent);
        }
        node.hold();
        let parent = Some(node.clone());
        self.pass.queue.push(Task::Folder(FolderTask { path, parent, extent, names, made, attributes_agreed }));
    }
}
