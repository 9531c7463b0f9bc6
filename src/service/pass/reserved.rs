//! Owns what a pass has to do with the reserved folders of filesystems that are mounted inside the replica: they go when
//! the passes end, also those that an interrupted run has left, and nothing tells that they were there.

use super::folders::{self, Node};
use super::{Pass, Which};
use crate::fs::pulse::Pulse;
use crate::fs::volume;
use crate::service::pair::Pair;
use crate::tree::doubt::DirtySet;
use crate::tree::exclude::RESERVED;
use crate::tree::operation::Cause;
use crate::tree::path::RelPath;
use crate::tree::totals::Totals;

impl Pass<'_> {
    /// Looks after a reserved folder that was found where the replica's root is not.
    pub(super) fn adopt_reserved(&self, node: &Node, name: &[u8]) {
        let pair = self.pair;
        let Ok(target) = node.target() else { return };
        if name == RESERVED
            && !pair.options.dry_run
            && volume::is_reserved(&pair.replica, &node.path.join(name))
            && pair.stage.adopt(&pair.replica, &target)
        {
            let shown = pair.shown(&node.path);
            pair.log.info(format_args!("Removed what an interrupted run had left in the reserved folder of {shown}"));
        }
    }
}

/// Ends the pass for the stage, and sets the times of the folders again that this has changed.
pub fn leave(pass: &Pass, totals: &mut Totals) {
    let pair = pass.pair;
    let tops = pair.stage.leave();
    if pass.is_cancelled() {
        // What is under way goes on no further; what was made for it is to leave no trace all the same.
        return settle_apart(pair, tops);
    }
    let root = pair.stage.has_moved_root().then(RelPath::root);
    folders::settle_all(pass, root.into_iter().chain(tops), totals);
}

/// Sets the times of folders again when no pass is under way that could.
pub fn settle_apart(pair: &Pair, tops: Vec<RelPath>) {
    let (dirty, pulse) = (DirtySet::default(), Pulse::default());
    let pass = Pass::new(pair, &dirty, (Which::Bulk, Cause::Sweep), &pulse);
    folders::settle_all(&pass, tops, &mut Totals::default());
}
