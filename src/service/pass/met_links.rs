//! Owns what is noted of files with several names while a pass meets them one by one: which names belong together, and
//! which of them wait for the links.

use std::collections::HashSet;
use std::os::fd::AsFd;

use super::files::Job;
use super::groups::note_names;
use super::{Group, Pass};
use crate::fs::archive::Changes;
use crate::plan::links::{parts, was};
use crate::plan::mirror::Step;
use crate::service::clock;
use crate::tree::doubt::Doubt;
use crate::tree::entry::{InodeId, Seen, Stat};
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;

impl Pass<'_> {
    /// Notes what names and inodes belong together, as found in agreement.
    pub fn note_links(&self, path: &RelPath, source: &Stat, replica: &Stat) {
        let fits = {
            let mut links = self.pair.links();
            if source.is_linked() {
                links.note(source.id(), path);
            }
            if replica.is_linked() {
                links.own(replica.id(), source.id());
            }
            // A sweep meets all names; else there may be one of which nothing was heard.
            let all = self.dirty.is_everything() || links.names(source.id()).len() >= source.nlink as usize;
            !source.is_linked() || (all && links.stands_for(source.id(), replica.id()))
        };
        // Each name is in agreement, but perhaps not all with one file.
        if !fits {
            let mut shared = self.shared();
            let group: &mut Group = shared.groups.entry(source.id()).or_default();
            group.names.insert(path.clone());
            group.nlink = source.nlink;
        }
        if self.pair.two_way.is_some() {
            self.note_links_back(path, source, replica);
        }
    }

    /// Lets a job pass as that of a file of its own, or keeps its path until the links are made.
    pub fn admit_linked(&self, path: &RelPath, mut job: Job, agreed: Option<&Agreed>) -> Option<Job> {
        if job.source.is_linked() {
            let id = job.source.id();
            // In a sweep every name is met; else an event spoke of the new name alone, and the replica may well
            // have the file under another.
            let known_elsewhere =
                job.replica.is_none() && (!self.dirty.is_everything() || self.pair.links().has_others(id, path));
            let mut shared = self.shared();
            let group: &mut Group = shared.groups.entry(id).or_default();
            group.names.insert(path.clone());
            group.nlink = job.source.nlink;
            group.contents_in_doubt |= job.contents_in_doubt;
            // What the replica's name has may have to be kept first, or is equal: each such name is looked at by itself.
            let is_doubtful = job.different.is_some() && job.replica.is_some();
            if (group.leader.is_some() && !is_doubtful) || known_elsewhere {
                return None;
            }
            group.leader.get_or_insert_with(|| path.clone());
        }
        if self.pair.two_way.is_some() {
            job.parts = job.replica.is_some_and(|replica| parts(&job.source, &replica, was(agreed)));
            return Some(job);
        }
        // Two files in the source must not share one inode in the replica: the later one gets a new inode.
        if let Some(replica) = job.replica.filter(|r| r.is_linked())
            && !self.pair.links().take(replica.id(), job.source.id())
        {
            job.step = Step::Update;
        }
        Some(job)
    }

    /// What was heard of a name that is gone, or names something else now, may have been said of the file that it named
    /// before: a write through it has changed the file's other names too.
    pub fn doubt_other_names(&self, path: &RelPath, now: Option<InodeId>, agreed: Option<InodeId>, doubt: Doubt) {
        let last = self.pair.links().last(path);
        for before in [last, agreed.filter(|a| Some(*a) != last)].into_iter().flatten().filter(|id| Some(*id) != now) {
            let mut others = self.pair.links().names(before);
            others.retain(|name| name != path);
            if others.is_empty() && last == Some(before) {
                note_names(self, &HashSet::from([before]));
                others = self.pair.links().names(before);
                others.retain(|name| name != path);
            }
            for other in others {
                self.again(&other, Doubt { below: false, ..Doubt::contents(doubt.at) });
            }
            self.pair.links().forget(path);
        }
    }

    /// Notes that a name in the replica is gone: the ctime of the file's other names has moved with it.
    pub fn name_removed(&self, path: &RelPath, before: &Stat) {
        if before.is_linked() {
            self.restamp(before, path);
        }
    }

    /// Notes that a name of a linked file was renamed in the replica.
    pub fn restamp_links(&self, before: &Stat, path: &RelPath) {
        self.restamp(before, path);
    }

    /// Takes the new ctime of an inode of the replica over into what was agreed of its other names. The change was the
    /// program's own. The source's ctime has moved too, so that the names come into doubt, for their attributes.
    fn restamp(&self, before: &Stat, but: &RelPath) {
        let pair = self.pair;
        let Some(owner) = pair.links().owner(before.id()) else { return };
        for path in pair.links().names(owner).into_iter().filter(|p| p != but) {
            let Some((folder, name)) = path.split() else { continue };
            let (Ok(source), Ok(Seen::Present(now))) = (pair.source.open_folder(&folder), pair.replica.look_at(&path))
            else {
                continue;
            };
            let replica = pair.replica.open_folder(&folder).ok();
            let Ok(ids) = pair.ids(source.as_fd(), replica.as_ref().map(AsFd::as_fd)) else { continue };
            if let Some(agreed) = pair.agreed(ids, name)
                && agreed.replica == before.stamp()
                && now.stamp().same_contents_if_explained(&agreed.replica)
            {
                let agreed = Agreed { replica: now.stamp(), ..agreed };
                pair.remember(ids, Changes::from([(name.into(), Some(agreed))]));
            }
            self.again(&path, Doubt::attributes(clock::now()));
        }
    }
}
