//! Owns what a pass notes of what went wrong: a condition of the whole replica, a problem of one path, or a path that was
//! not what it had been listed as and is looked at again. It decides no try after that.

use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::{Pass, describe};
use crate::fs::root::Root;
use crate::service::clock;
use crate::service::condition::{Condition, is_common};
use crate::service::restless::Look;
use crate::tree::doubt::Doubt;
use crate::tree::operation::Problem;
use crate::tree::path::RelPath;

impl Pass<'_> {
    pub(super) fn problem(&self, path: &RelPath, reason: String) {
        self.shared().outcome.problems.push(Problem { path: path.clone(), reason });
    }

    /// Whether something of this size is put off: there is no room for it.
    pub(super) fn is_put_off(&self, size: u64) -> bool {
        size >= self.no_room_from.load(Ordering::Relaxed)
    }

    /// Notes what went wrong with a path.
    pub(super) fn failed(&self, path: &RelPath, what: &str, error: Errno) {
        self.failed_at(path, what, error, 0);
    }

    /// The same for a file of `size` bytes. What is wrong with the replica as a whole is one condition and no problem of
    /// the path's.
    pub(super) fn failed_at(&self, path: &RelPath, what: &str, error: Errno, size: u64) {
        if let Some(condition) = Condition::of(error, size, &self.pair.replica) {
            if self.made_room(size, error) {
                return self.again(path, Doubt::subtree(clock::now()));
            }
            // One large file without room does not keep small ones out; it takes few tries to find out what fits.
            let from = if condition == Condition::ReadOnly { 0 } else { size / 2 };
            self.no_room_from.fetch_min(from, Ordering::Relaxed);
            let mut shared = self.shared();
            shared.outcome.condition = Some(condition);
            shared.outcome.again.insert(path, Doubt::subtree(clock::now()).heard_first(None));
        } else if matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
            || (matches!(error, Errno::ACCESS | Errno::XDEV) && !self.is_there(path))
        {
            // It is not what it was when it was listed: no problem, but another look. What has been moved out of a root
            // cannot even be opened any more.
            self.again(path, Doubt::subtree(clock::now()));
        } else {
            self.problem_of(path, what, error);
        }
    }

    /// Whether there is more room for a copy of `size` bytes than when it failed: what is kept has made way.
    fn made_room(&self, size: u64, error: Errno) -> bool {
        let pair = self.pair;
        // What is kept lies in the replica, whichever way a pass goes.
        if pair.replica.device() != pair.roots().1.device() {
            return false;
        }
        let waits = || {
            self.pulse.beat();
            !self.is_cancelled()
        };
        pair.keeping.make(self.rules.keep.free, (size, error), &pair.replica, waits)
    }

    /// Notes that nobody knows what is at a path, so that nothing at it or below it is touched.
    pub(super) fn unreadable(&self, path: &RelPath, error: Errno) {
        self.problem_of(path, "cannot be read, so it is left alone", error);
    }

    pub(super) fn problem_of(&self, path: &RelPath, what: &str, error: Errno) {
        if is_common(error) {
            self.shared().outcome.common.insert(path.clone());
        }
        self.problem(path, format!("{what}: {}", describe(error)));
    }

    /// Notes what came of a file that changed while it was looked at.
    pub(super) fn looked(&self, path: &RelPath, look: Look) {
        let pair = self.pair;
        if matches!(look, Look::Uncertain | Look::Behind) && pair.restless.first_said(path) {
            let shown = pair.shown(path);
            if look == Look::Behind {
                pair.log.warn(format_args!(
                    "Uncertain: {shown} cannot be read in one state; it keeps its last version until it can"
                ));
            } else {
                pair.log.warn(format_args!(
                    "Uncertain: {shown} changed during every reading; it is copied again until it rests"
                ));
            }
        }
        self.shared().outcome.restless.push((path.clone(), look));
    }

    /// Whether the folder of this entry is there on both sides.
    pub(super) fn is_there(&self, path: &RelPath) -> bool {
        let Some((folder, _)) = path.split() else { return true };
        let is_gone =
            |root: &Root| matches!(root.open_folder(&folder), Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP));
        !is_gone(&self.pair.source) && !is_gone(&self.pair.replica)
    }
}
