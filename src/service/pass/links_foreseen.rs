//! Owns what a dry run tells of files with several names: the links that a pass would make, and no others.

use super::{Group, Pass};
use crate::tree::entry::{InodeId, Kind, Seen};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

/// Tells of the names of one file that would become links.
pub(super) fn tell(pass: &Pass, id: InodeId, group: &Group, totals: &mut Totals) {
    let pair = pass.pair;
    let mut names = group.names.clone();
    names.extend(pair.links().names(id));
    let is_name =
        |path: &RelPath| pair.source.look_at(path).is_ok_and(|seen| seen.stat().is_some_and(|s| s.id() == id));
    names.retain(|path| !pass.skips_within(path, false) && is_name(path));
    let look = |path: &RelPath| pair.replica.look_at(path).unwrap_or(Seen::Absent);
    let file = |path: &RelPath| look(path).stat().filter(|stat| stat.kind == Kind::File).map(|stat| stat.id());
    let leader = match &group.leader {
        Some(leader) => Some(leader),
        // One that is in agreement is the file that the others become names of.
        None => names.difference(&group.names).chain(&group.names).find(|path| file(path).is_some()),
    };
    // A new version is another file, which has no names yet.
    let stays = leader.filter(|_| !group.is_remade).and_then(file);
    for path in names.iter().filter(|path| Some(*path) != leader) {
        let is_link = stays.is_some() && file(path) == stays;
        if !is_link {
            let is_new = file(path).is_none();
            pass.report(if is_new { Operation::LinkCreated } else { Operation::LinkUpdated }, path);
            totals.links += 1;
        }
    }
}

impl Pass<'_> {
    /// Notes that the file of a leader would be made anew.
    pub(super) fn would_remake(&self, path: &RelPath, id: InodeId) {
        if let Some(group) = self.shared().groups.get_mut(&id).filter(|group| group.leader.as_ref() == Some(path)) {
            group.is_remade = true;
        }
    }
}
